"""Running a decode program on the CPU: the definition of what each step means.

A `ChunkDecoder` is prepared once for a program and a chunk shape, and then decodes chunks in as
many threads as there are. Bytes go from step to step through two pieces of scratch that each thread
reuses; the last step writes where the caller wants its bytes, if its library can.

    encoded --step--> scratch 0 --step--> scratch 1 --step--> out, or scratch 0

Sizes are checked at every step where the program knows them, exactly; where it does not, a limit
stops decompression bombs. Bad data raise `StepError` and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never, cast

import numpy as np

from gpuzarr.engines.cpu import checksums, decoders, filters, host_codecs, whole_shard
from gpuzarr.engines.cpu.prepared import LEAST_PARTS_NBYTES, Limit, Prepared, Scratch
from gpuzarr.engines.step_error import DamageError, StepError
from gpuzarr.program import (
    Cast,
    CumulativeSum,
    Decompress,
    HostOnly,
    Reorder,
    ScaleOffset,
    UnpackBits,
    Unshuffle,
    VerifyChecksum,
    describe_step,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gpuzarr.engines.cpu.prepared import Buffer, Frames, Span
    from gpuzarr.program import DecodeProgram, Step

OBJECT_LIMIT = Limit(1 << 27, 64)
"""For the bytes that become objects: 128 MiB, and 64 times what is stored."""

CHAIN_FACTOR, CHAIN_NBYTES = 8, 1 << 24
"""Between codecs of unknown sizes there may be eight times the bytes that come out, and 16 MiB."""

_scratch = Scratch()


class ChunkDecoder:
    """Decodes chunks of one program and one shape."""

    def __init__(self, program: DecodeProgram, shape: Sequence[int]) -> None:
        """Prepare the steps; no chunk is needed for that."""
        layout = program.layout
        self._dtype = layout.dtype
        self._objects = layout.dtype.hasobject
        self._stored_shape = tuple(shape[axis] for axis in layout.axes)
        self._to_array = None if layout.c_order else tuple(map(int, np.argsort(layout.axes)))
        self._nbytes = program.decoded_nbytes(shape)
        self._stored_nbytes = program.stored_nbytes(shape)
        self._steps = _prepare_all(program, tuple(shape))
        self.takes_many = self._nbytes > 0 and not self._objects
        """Whether `decode_many` takes its chunks."""
        one = self._steps[0] if self.takes_many and len(self._steps) == 1 else None
        self.many = None if one is None else one.many
        """How several chunks are decoded at once, where that is more than one after the other."""
        self.takes_spans = (
            self.takes_many
            and self._nbytes >= LEAST_PARTS_NBYTES
            and bool(self._steps)
            and self._steps[-1].run_spans is not None
            and not any(step.writes for step in self._steps[:-1])
        )
        """Whether `decode_spans` can do less than `decode`."""
        self.scratch_nbytes = self._find_scratch()
        """Bytes of intermediate results that a thread holds while it decodes a chunk."""

    def _find_scratch(self) -> int:
        """The largest result in each of the two places between which steps go to and fro."""
        sizes = [self._nbytes if step.nbytes is None else step.nbytes for step in self._steps]
        return max(sizes[0::2], default=0) + max(sizes[1::2], default=0)

    def decode(self, encoded: memoryview, out: memoryview | None = None) -> np.ndarray:
        """Decode one chunk.

        Args:
            encoded: the stored bytes, contiguous.
            out: where the elements shall lie, in stored order; writable, contiguous, and exactly
                as large as the decoded chunk. Not for chunks of objects.

        Returns:
            The chunk in the array's axis order. Without `out` it may view `encoded`, or scratch
            that the thread's next decode overwrites.

        Raises:
            StepError: the bytes are damaged.
        """
        return self.as_array(self._run(encoded, out, self._steps))

    def decode_many(self, encoded: Frames, out: memoryview | None = None) -> np.ndarray:
        """Decode several chunks, where `takes_many` says that this can be done.

        Args:
            encoded: the stored bytes of n chunks.
            out: where the elements shall lie, chunk after chunk, as in `decode`.

        Returns:
            (n, ...) the chunks in the array's axis order. Without `out` they may lie in scratch
            that the thread's next call overwrites.

        Raises:
            StepError: something is damaged.
        """
        count, size, many = len(encoded), self._nbytes, self.many
        if many is not None and count >= many.least and many.takes(encoded):
            found = many.decode(encoded)
            if found is not None:
                return self.gather(count, [(range(count), found)], out)
        place = _scratch.take_many(count * size) if out is None else out
        for i, chunk in enumerate(encoded):
            self._run(chunk, place[i * size : (i + 1) * size], self._steps)
        return self._as_arrays(place, count)

    def gather(
        self,
        count: int,
        parts: Iterable[tuple[Sequence[int], Sequence[Buffer]]],
        out: memoryview | None = None,
    ) -> np.ndarray:
        """The same of chunks whose elements `many` gave; chunks that are in no part are anything.

        Args:
            count: how many chunks there are.
            parts: of some chunks which they are, and their elements.
            out: as in `decode_many`.
        """
        size = self._nbytes
        place = _scratch.take_many(count * size) if out is None else out
        for rows, contents in parts:
            for row, data in zip(rows, contents, strict=True):
                place[row * size : (row + 1) * size] = data
        return self._as_arrays(place, count)

    def decode_spans(self, encoded: memoryview, spans: Sequence[Span]) -> np.ndarray:
        """Decode a chunk, or no more of it than some ranges of bytes: the rest may be anything.

        Args:
            encoded: the stored bytes, contiguous.
            spans: of the decoded elements in stored order.

        Returns:
            The chunk in the array's axis order, in scratch that the thread's next decode reuses.

        Raises:
            StepError: the bytes are damaged, as far as they were looked at.
        """
        *before, last = self._steps
        data = cast("memoryview", self._run(encoded, None, before))
        run_spans = last.run_spans
        found = run_spans and self.decode_by(lambda place: run_spans(data, place, spans))
        return self.decode(encoded) if found is None else found

    def decode_by(self, fill: Callable[[memoryview], bool]) -> np.ndarray | None:
        """The chunk in the array's axis order, as somebody else decodes it.

        Args:
            fill: takes a place for all of it in stored order, which is scratch that the thread's
                next decode reuses; says whether it was filled. Where it was not, there is None.
        """
        place = _scratch.take(1, self._nbytes)
        return self.as_array(place) if fill(place) else None

    def decode_bytes(
        self, encoded: memoryview, count: int, out: memoryview | None = None
    ) -> memoryview:
        """Run the first `count` steps alone, for an engine that does the others elsewhere.

        Args:
            encoded: the stored bytes, contiguous.
            count: how many steps, none of which may give objects.
            out: where the bytes shall lie; exactly as many as come out. None: anywhere, perhaps in
                scratch that the thread's next decode overwrites.

        Raises:
            StepError: the bytes are damaged.
        """
        return cast("memoryview", self._run(encoded, out, self._steps[:count]))

    def nbytes_after(self, count: int) -> int | None:
        """Bytes that the first `count` steps give; None where only the data tell."""
        return self._steps[count - 1].nbytes if count else self._stored_nbytes

    def _run(
        self, encoded: memoryview, out: memoryview | None, steps: Sequence[Prepared]
    ) -> memoryview | np.ndarray:
        """Run steps, from the first one on."""
        data: memoryview | np.ndarray = encoded
        if self._stored_nbytes is not None and len(encoded) != self._stored_nbytes:
            name = self._steps[0].name if self._steps else "read"
            raise StepError(name, f"{len(encoded)} bytes are stored, not {self._stored_nbytes}")
        slot = 0
        for step in steps:
            target = None
            if step.writes and step.nbytes is not None:
                if out is not None and step is steps[-1]:
                    target = out
                elif step.wants_scratch:
                    # Never the slot written last: what this step reads may lie there.
                    slot = 1 - slot
                    target = _scratch.take(slot, step.nbytes)
            data = run_step(step, data, target)
        if out is not None and data is not out and not isinstance(data, np.ndarray):
            out[:] = data
            data = out
        return data

    def as_array(self, data: Buffer | np.ndarray) -> np.ndarray:
        """View decoded elements as the chunk, in the array's axis order."""
        stored: np.ndarray
        if isinstance(data, np.ndarray):
            stored = data.reshape(self._stored_shape)
        else:
            stored = np.ndarray(self._stored_shape, self._dtype, data)
        return stored if self._to_array is None else stored.transpose(self._to_array)

    def _as_arrays(self, place: memoryview, count: int) -> np.ndarray:
        """The same of several chunks."""
        stored: np.ndarray = np.ndarray((count, *self._stored_shape), self._dtype, place)
        if self._to_array is None:
            return stored
        return stored.transpose(0, *(1 + axis for axis in self._to_array))


def run_step(
    step: Prepared, data: memoryview | np.ndarray, target: memoryview | None
) -> memoryview | np.ndarray:
    """Run one step, whatever its library raises.

    Raises:
        StepError: the bytes are damaged.
    """
    try:
        # Only reordering follows objects, and takes them.
        result = step.run(cast("memoryview", data), target)
    except StepError:
        raise
    except DamageError as error:
        raise StepError(step.name, str(error), error.checksum) from error
    except MemoryError:
        raise
    except Exception as error:
        raise StepError(step.name, f"{error}" or type(error).__name__) from error
    due = step.nbytes
    if due is not None and not isinstance(result, np.ndarray) and len(result) != due:
        raise StepError(step.name, f"{len(result)} bytes came out instead of {due}")
    return result


def decode_object(steps: Sequence[Step], encoded: memoryview, limit: int) -> memoryview:
    """Undo the codecs around a whole stored object (those behind a sharding codec).

    Args:
        steps: `LoweredCodecs.object_steps`.
        encoded: the stored object.
        limit: the most bytes that may come out.

    Raises:
        StepError: the bytes are damaged.
    """
    data: memoryview | np.ndarray = encoded
    limits = _limits(steps, [None] * len(steps), Limit(limit))
    for step, bound in zip(steps, limits, strict=True):
        data = run_step(_prepare(step, None, bound, ()), data, None)
    if isinstance(data, np.ndarray) or len(data) > limit:
        raise StepError(describe_step(steps[-1]), f"more than {limit} bytes came out")
    return data


def unsupported(program: DecodeProgram) -> tuple[str, ...]:
    """Every reason why this machine's CPU cannot run a program; () when it can."""
    reasons: list[str] = []
    for step in program.steps:
        if isinstance(step, Decompress):
            reasons += decoders.unsupported(step)
        elif isinstance(step, HostOnly):
            reasons += host_codecs.unsupported(step)
    return tuple(reasons)


def _prepare_all(program: DecodeProgram, shape: tuple[int, ...]) -> tuple[Prepared, ...]:
    sizes = program.step_nbytes(shape)
    objects = program.layout.dtype.hasobject
    last = OBJECT_LIMIT if objects else Limit(program.decoded_nbytes(shape))
    limits = _limits(program.steps, sizes, last)
    return tuple(
        _prepare(step, nbytes, limit, shape)
        for step, nbytes, limit in zip(program.steps, sizes, limits, strict=True)
    )


def _limits(steps: Sequence[Step], sizes: Sequence[int | None], last: Limit) -> list[Limit]:
    """The most bytes that each step may give, from what the steps behind it could have made."""
    limits: list[Limit] = []
    limit = base = last
    becomes_objects = last is OBJECT_LIMIT
    for step, nbytes in zip(reversed(steps), reversed(sizes), strict=True):
        if nbytes is not None:
            limit = base = Limit(nbytes)
        limits.append(limit)
        match step:
            case Decompress():
                # Every compressor stores what it cannot shrink, at a small loss.
                limit = Limit(limit.nbytes + limit.nbytes // 4 + (1 << 16), limit.factor)
            case HostOnly() if becomes_objects:
                # The limit is for what it takes: what it gives are no bytes.
                becomes_objects = False
            case HostOnly():
                # Text is the longest form: "-1.2345678901234567e-300, " for 8 bytes.
                limit = Limit(4 * limit.nbytes + (1 << 20), limit.factor)
            case _:
                limit = Limit(2 * limit.nbytes + 64, limit.factor)
        # However long the chain is: a hundred compressors at a small loss would allow anything.
        most = (2 if base is OBJECT_LIMIT else CHAIN_FACTOR) * base.nbytes + CHAIN_NBYTES
        limit = Limit(min(limit.nbytes, most), limit.factor)
    return limits[::-1]


def _prepare(  # noqa: C901  one case for each step
    step: Step, nbytes: int | None, limit: Limit, shape: tuple[int, ...]
) -> Prepared:
    name = describe_step(step)
    match step:
        case VerifyChecksum():
            return Prepared(name, checksums.prepare(step), nbytes, writes=False)
        case Decompress():
            return decoders.prepare(name, step, nbytes, limit)
        case Unshuffle():
            return Prepared(name, filters.unshuffle(step), nbytes, writes=True)
        case CumulativeSum():
            return Prepared(name, filters.cumulative_sum(step), nbytes, writes=True)
        case ScaleOffset():
            return Prepared(name, filters.scale_offset(step), nbytes, writes=True)
        case Cast():
            return Prepared(name, filters.cast(step), nbytes, writes=True)
        case UnpackBits():
            return Prepared(name, filters.unpack_bits(step, nbytes), nbytes, writes=True)
        case Reorder():
            return Prepared(name, filters.reorder(step, shape), nbytes, writes=True)
        case HostOnly(codec_id="sharding_indexed"):
            return whole_shard.prepare_shard(name, step, nbytes, ChunkDecoder)
        case HostOnly(codec_id="n5_default"):
            return whole_shard.prepare_n5(name, step, nbytes, ChunkDecoder)
        case HostOnly():
            return host_codecs.prepare(name, step, nbytes, limit, shape)
        case _:
            assert_never(step)
