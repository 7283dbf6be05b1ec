"""Bricks of small chunks on the CPU: fetched, decoded at once, and written.

    caller   fetch some | fetch the others | look at all | decode these | write all
    helper              | decode some ................................ |

Helpers do no more than one call each, without the interpreter's lock. Two threads that run Python
in turns took a third more of the processor than one (crops of 125 chunks of 8 KiB): what both use,
down to the reference counts, goes to and fro between two processors.
"""

from __future__ import annotations

from itertools import chain, pairwise, product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.conversion import convert
from gpuzarr.engines.cpu.copying import put
from gpuzarr.engines.cpu.fetcher import MOST_HELD_NBYTES, EncodedMemory
from gpuzarr.engines.cpu.few_requests import FewReads
from gpuzarr.engines.cpu.few_writes import put_fill, put_part
from gpuzarr.engines.cpu.prepared import Frames
from gpuzarr.engines.cpu.session import is_much
from gpuzarr.engines.pool import Task, in_worker, shared_pool, wait_for
from gpuzarr.errors import ChunkError
from gpuzarr.stores.memory import is_memory
from gpuzarr.stores.store import row_reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cpu.decoder import ChunkDecoder
    from gpuzarr.engines.cpu.prepared import Buffer, Many
    from gpuzarr.engines.engine import Brick, BrickChunk, Output, Pieces
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Store, Wanted

SMALL_NBYTES = 1 << 14
"""Chunks up to this size are read in bricks, and lie side by side when they are written..."""
MEDIUM_NBYTES = 1 << 16
"""...and so are those up to this size that can be decoded at once; each is written alone."""
LEAST_COUNT, LEAST_MEDIUM_COUNT = 12, 4
"""So many of either, or more."""
MOST_AXES = 8
"""NumPy's arrays have 32 axes at least, and a brick has two for each of the array's."""
PART_NBYTES = 1 << 17
"""Decoded bytes that are worth another thread."""


class BrickReader:
    """Reads bricks of chunks of one program and shape."""

    def __init__(
        self, decoder: ChunkDecoder, program: DecodeProgram, shape: Sequence[int], threads: int
    ) -> None:
        """Take what they are decoded with."""
        self._decoder = decoder
        self._threads = threads
        self._nbytes = program.decoded_nbytes(shape)
        self._program = program
        self._takes_any = decoder.takes_many and 0 < len(shape) <= MOST_AXES
        self._at_once = decoder.many is not None
        """Whether chunks that were seen so far can be decoded at once."""

    def takes(self, store: Store, count: int) -> bool:
        """Whether so many chunks are better read as a brick."""
        least = min(LEAST_COUNT, LEAST_MEDIUM_COUNT)
        if count < least or not self._takes_any or not suits(store):
            return False
        if self._nbytes > SMALL_NBYTES:
            is_medium = self._nbytes <= MEDIUM_NBYTES and self._threads > 1
            return is_medium and self._at_once and count >= LEAST_MEDIUM_COUNT
        total = count * self._nbytes
        if self._threads > 1 and not self._at_once and is_much(self._program, count, total):
            return False  # threads are to decode them one by one
        return count >= LEAST_COUNT

    def read(self, store: Store, brick: Brick, output: Output) -> bool:
        """Read a brick; whether all went well.

        Raises:
            GpuzarrError: or another of `few_requests.PASSED_ON`; a read with columns tells it.
        """
        parts: list[_Part] = []
        memory = EncodedMemory()
        fetched = _Fetched(store, brick.requests, memory)
        try:
            done = self._fetch(brick, fetched, parts) and self._write(brick, parts, output)
        finally:
            wait_for([part.task for part in parts if part.task is not None])
        memory.give_back()  # not where that was interrupted: somebody reads it still
        return done

    def _fetch(self, brick: Brick, fetched: _Fetched, parts: list[_Part]) -> bool:
        """Fetch the chunks for one thread after the other; whether they are not too large."""
        chunks, many = brick.chunks, self._decoder.many
        nchunks = len(brick.requests if chunks is None else chunks)
        count = 1
        if self._at_once and self._threads > 1 and not in_worker():
            count = max(1, min(self._threads, nchunks, nchunks * self._nbytes // PART_NBYTES))
        edges = [nchunks * i // count for i in range(count + 1)]
        for begin, end in pairwise(edges) if nchunks else ():
            if not fetched.go_on(end if chunks is None else chunks[end - 1][3] + 1):
                return False
            part = _Part(many, *fetched.some(chunks, begin, end))
            parts.append(part)
            if end < nchunks:
                part.start()
        return True

    def _write(self, brick: Brick, parts: list[_Part], output: Output) -> bool:
        """Decode what was fetched, and write it; whether it can be decoded so."""
        some = [part for part in parts if part.rows]
        if not some:
            put_fill(output, tuple(slice(put[0].start, put[-1].stop) for *_, put in brick.axes))
            return True
        many, stored = self._decoder.many, sum(len(part.rows) for part in some)
        is_small = self._nbytes <= SMALL_NBYTES
        at_once = many is not None and (not is_small or stored >= LEAST_COUNT)
        if many is not None and at_once and not all(many.takes(part.frames) for part in some):
            self._at_once = at_once = False  # other chunks will be like these
        some.reverse()  # the caller's own comes first
        count = prod(len(chunks) for chunks, _, _ in brick.axes)
        missing: set[int] = set()
        if stored < count:
            missing.update(range(count))
            missing.difference_update(*(part.rows for part in some))
        if is_small:
            self._write_together(brick, some, missing, output, at_once=at_once)
            return True
        if at_once:
            takes, puts = (list(product(*each)) for each in list(zip(*brick.axes, strict=True))[1:])
            for row in missing:
                put_fill(output, puts[row])
            for part in some:
                for row, data in zip(part.rows, part.contents(), strict=True):
                    put_part(output, puts[row], self._decoder.as_array(data)[takes[row]])
        return at_once

    def _write_together(
        self,
        brick: Brick,
        parts: list[_Part],
        missing: set[int],
        output: Output,
        *,
        at_once: bool,
    ) -> None:
        """Write small chunks out of one piece of memory."""
        count = prod(len(chunks) for chunks, _, _ in brick.axes)
        if at_once:
            values = self._decoder.gather(count, ((part.rows, part.contents()) for part in parts))
        else:
            values = self._decoder.decode_many(parts[0].frames)
            if list(parts[0].rows) != list(range(count)):
                every = np.empty((count, *values.shape[1:]), values.dtype)
                every[list(parts[0].rows)] = values
                for part in parts[1:]:
                    every[list(part.rows)] = self._decoder.decode_many(part.frames)
                values = every
        if missing:
            values[list(missing)] = output.fill
        put_brick(output, brick.axes, values)


def suits(store: Store) -> bool:
    """Whether one thread may as well read all chunks of a brick: there is nothing to wait for."""
    return row_reader(store) is not None or is_memory(store)


class _Part:
    """The chunks for one thread."""

    def __init__(self, many: Many | None, frames: Frames, rows: Sequence[int]) -> None:
        """Nothing is decoded yet.

        Args:
            many: decodes them.
            frames: what is stored of them.
            rows: which of the brick's chunks those are.
        """
        self._many = many
        self.frames = frames
        self.rows = rows
        self.task: Task | None = None
        self._contents: Sequence[Buffer] | None = None

    def start(self) -> None:
        """Have them decoded by another thread, if there is one."""
        if self.rows:
            self.task = Task(self._decode)  # whenever Ctrl-C comes, it is known
            if not shared_pool().start(self.task):
                self.task = None

    def contents(self) -> Sequence[Buffer]:
        """The bytes of each; decoded now, unless another thread has begun.

        Raises:
            ChunkError: they cannot be decoded.
        """
        if self.task is None:
            self._decode()
        else:
            self.task.run()  # unless somebody does
            self.task.result()
        if self._contents is None:
            raise ChunkError("they cannot be decoded at once")
        return self._contents

    def _decode(self) -> None:
        if self._many is not None:
            self._contents = self._many.decode(self.frames)


class _Fetched:
    """What a brick's requests brought so far, one behind another."""

    def __init__(self, store: Store, requests: list[Wanted], memory: EncodedMemory) -> None:
        """Nothing yet."""
        self._store = store
        self._requests = requests
        self._memory = memory
        self._ends: list[int] = []
        """Where each of them ends in the memory."""
        self._missing: set[int] = set()
        """Those whose objects are not stored."""

    def go_on(self, stop: int) -> bool:
        """Fetch those up to the one before `stop`; whether they are no more than is usual.

        Raises:
            GpuzarrError: the storage failed, or a shard is another than its index was of, or gone.
        """
        ends, memory = self._ends, self._memory
        wanted = self._requests[len(ends) : stop]
        read_row = row_reader(self._store)
        if wanted and read_row is not None:
            used = memory.used
            ends += read_row(wanted, memory, self._is_much)
            if memory.used < used:  # a store that begins anew, over what is being decoded
                return False
        left = self._requests[len(ends) : stop]
        reads = FewReads(self._store, left)
        for number in range(len(left)):
            if self._is_much():
                return False
            used = memory.used
            data = reads.fetch(number, memory)
            if data is None:
                self._missing.add(len(ends))
            elif not memory.put(data, used):
                return False
            ends.append(memory.used)
        return True

    def some(
        self, chunks: list[BrickChunk] | None, begin: int, end: int
    ) -> tuple[Frames, Sequence[int]]:
        """What is stored of some chunks, and which these are."""
        data = self._memory.all()
        if chunks is not None:
            which, starts, nbytes, _ = zip(*chunks[begin:end], strict=True)
            return Frames(data, np.array(starts, np.int64), np.array(nbytes, np.int64)), which
        frames = Frames.between(data, self._ends[begin:end], self._ends[begin - 1] if begin else 0)
        rows = list(range(begin, end))
        if not self._missing.isdisjoint(rows):
            rows = [row for row in rows if row not in self._missing]
            frames = frames.some(np.array(rows, np.int64) - begin)
        return frames, rows

    def _is_much(self) -> bool:
        return self._memory.used > MOST_HELD_NBYTES


def put_brick(output: Output, axes: Sequence[Pieces], values: NDArray[Any]) -> None:
    """Write what is taken of a brick's chunks, as few assignments as can be.

    Args:
        output: whose array is a plain one.
        axes: the chunks along each axis.
        values: (n, ...) all of them, the last axis fastest.
    """
    array, conversion, ndim = output.array, output.conversion, len(axes)
    grid = values.reshape(*(len(chunks) for chunks, _, _ in axes), *values.shape[1:])
    order = list(chain.from_iterable((axis, ndim + axis) for axis in range(ndim)))
    for along in product(*(_stretches(take, places) for _, take, places in axes)):
        chunks, take, place = zip(*along, strict=True)
        part = grid[(*chunks, *take)].transpose(order)
        target = array[place].reshape(part.shape)  # axes are split, which needs no copy
        put(target, part if conversion.identity else convert(part, conversion))


def _stretches(take: list[slice], places: list[slice]) -> list[tuple[slice, slice, slice]]:
    """Neighbouring chunks along an axis of which the same is taken, that, and where all of it goes.

    Of all but the first and the last the same is taken: what they have along the axis.
    """
    count = len(take)
    edges = [0]
    if count > 1 and take[0] != take[1]:
        edges.append(1)
    if count > edges[-1] + 1 and take[-1] != take[-2]:
        edges.append(count - 1)
    return [
        (slice(begin, end), take[begin], slice(places[begin].start, places[end - 1].stop))
        for begin, end in pairwise([*edges, count])
    ]
