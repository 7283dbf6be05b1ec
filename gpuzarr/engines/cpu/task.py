"""One batch on the CPU: fetch, decode and write its chunks, as pieces of work for several threads.

A piece of work is a run of chunks that one thread does one after another, so that a chunk is in
the cache when it is scattered and the thread needs memory for one chunk only. Small chunks are
done together, `RUN_NBYTES` of them at a time: their bytes lie behind one another, are decoded by
one call where the library has one for that, and are written by one assignment a row of them. Where
anything about such a run is not as it should be, it is done once more, chunk by chunk: what fails
then is recorded, and the other chunks go on.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cpu.fetcher import EncodedMemory, Fetcher, Requested
from gpuzarr.engines.cpu.scatter import piece_writers
from gpuzarr.engines.failures import FILL, chunk_failure, step_failure
from gpuzarr.engines.memory import CHECKED_NBYTES, available_nbytes
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import GpuzarrError, MemoryLimitError
from gpuzarr.plan.ranges import changes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cpu.crew import Work
    from gpuzarr.engines.cpu.decoder import ChunkDecoder
    from gpuzarr.engines.cpu.prepared import Frames, Span
    from gpuzarr.engines.engine import Output
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Pending

    DecoderFor = Callable[[DecodeProgram, tuple[int, ...]], ChunkDecoder]

WORK_NBYTES = 1 << 19
"""Decoded bytes of a piece of work, about: much beside what taking it from a queue costs, little
beside what a thread waits in the end for another one."""

RUN_NBYTES = 1 << 19
"""Decoded bytes of small chunks that are done together: they stay in the cache until they are
written. Half as many took 0.98 to 1.05 of the time, twice as many, with pieces of work twice as
large, 0.99 to 1.07."""

RUNS, LEAST_RUN = 4, 32
"""Small objects of a batch are read in so many runs, if they are of so many objects each, that some
are decoded while others are read."""


class BatchTask:
    """A batch, ready to run in any threads."""

    def __init__(  # noqa: PLR0913  everything that a thread needs
        self,
        program: DecodeProgram,
        batch: Batch,
        staging: Pending,
        *,
        outputs: Sequence[Output],
        decoder_for: DecoderFor,
        failures: list[ChunkFailure],
        missing: list[int],
        stopped: Callable[[], bool],
    ) -> None:
        """Take over a batch.

        Args:
            program: decodes its chunks.
            batch: what to do.
            staging: its reads.
            outputs: of the whole read.
            decoder_for: prepares decoders.
            failures: where failed chunks are recorded.
            missing: where the number of chunks that are not stored is recorded.
            stopped: whether to give up.
        """
        self._batch = batch
        self._failures = failures
        self._missing = missing
        self._stopped = stopped
        shapes = batch.chunks.shape
        self._writers = piece_writers(outputs, batch.pieces, len(shapes))
        if len(self._writers) == 1:
            self._writers[0].allow_direct(program.layout, shapes)
        self._decoders = _decoders(program, shapes, decoder_for)
        straight = not program.steps and len(self._writers) == 1
        self._requested = Requested(batch, staging, self._writers[0].place if straight else None)
        sizes = batch.chunks.decoded_nbytes
        self._nbytes: list[int] = sizes.tolist()
        self.decoded_nbytes = int(sizes.sum())
        """Bytes of all its chunks."""
        alike = self._decoders[0] is self._decoders[-1] and len(set(map(id, self._decoders))) == 1
        self._spans: list[list[Span] | None] | None = None
        if alike and self._decoders[0].takes_spans and len(self._writers) == 1:
            layout, shape = program.layout, tuple(shapes[0].tolist())
            strides = layout.strides(shape)
            self._spans = self._writers[0].spans(strides, layout.dtype.itemsize, self._nbytes[0])
        self._together = 1
        if alike and self._decoders[0].takes_many and len(shapes) > 1:
            self._together = max(1, RUN_NBYTES // max(1, self._nbytes[0]))
        self.in_two = self._requested.whole and self._together > 1
        """Whether pieces of work fetch chunks, and return what does the rest: for small objects."""

    def works(self) -> list[Work]:
        """The pieces of work, which may run in any order and at once."""
        count = len(self._nbytes)
        if self.in_two:
            step = min(self._together, max(LEAST_RUN, -(-count // RUNS)))
            begins = range(0, count, step)
            return [partial(self._begin, begin, min(begin + step, count)) for begin in begins]
        if self.decoded_nbytes <= WORK_NBYTES:
            return [partial(self._run, 0, count)]
        # A request is read once, by one thread.
        requests = np.flatnonzero(changes(self._batch.request))
        before = np.append(0, np.cumsum(self._batch.chunks.decoded_nbytes)[:-1])
        edges = [*requests[changes(before[requests] // WORK_NBYTES)].tolist(), count]
        return [partial(self._run, begin, end) for begin, end in pairwise(edges)]

    def _run(self, begin: int, end: int) -> None:
        """Do some chunks; every failure of a chunk is recorded, none is raised."""
        with EncodedMemory() as memory:
            self._go_on(begin, end, Fetcher(self._requested, memory))

    def _go_on(self, row: int, end: int, fetcher: Fetcher) -> None:
        while row < end and not self._stopped():
            encoded: Frames | None = None
            if self._together > 1:
                stop = min(end, row + self._together)
                encoded = fetcher.run(row, stop, self._stopped)
            if encoded is not None:
                self._write_together(row, encoded)
            else:
                self._run_chunk(row, fetcher.chunk)
            row += 1 if encoded is None else len(encoded)

    def _begin(self, begin: int, end: int) -> Work | None:
        """Fetch some chunks, and give what does the rest."""
        if self._stopped():
            return None
        memory = EncodedMemory()
        fetcher = Fetcher(self._requested, memory)
        encoded = fetcher.run(begin, end, self._stopped)

        def finish() -> None:
            with memory:
                held = 0 if encoded is None else len(encoded)
                if encoded is not None and not self._stopped():
                    self._write_together(begin, encoded)
                # Where something is missing, or fails.
                self._go_on(begin + held, end, fetcher)

        return finish

    def _write_together(self, row: int, encoded: Frames) -> None:
        """Decode some chunks from `row` on in one go, and write them."""
        stop = row + len(encoded)
        writers = self._writers
        place = writers[0].places(row, stop) if len(writers) == 1 else None
        try:
            values = self._decoders[row].decode_many(encoded, place)
            if place is None:
                for writer in writers:
                    writer.write_run(row, stop, values)
        except (StepError, ValueError, MemoryError):
            # Chunk by chunk, so that what is wrong is told of the chunk that has it.
            for one, data in enumerate(encoded, row):
                self._run_chunk(one, partial(_given, data))

    def _run_chunk(self, row: int, fetch: Callable[[int], memoryview | None]) -> None:
        """Do one chunk."""
        step = "fetch"
        writers = self._writers
        place = writers[0].place(row) if len(writers) == 1 else None
        try:
            data = fetch(row)
            if data is None:
                self._missing.append(1)
                step = FILL
                for writer in writers:
                    writer.fill(row)
                return
            self._check_memory(row)
            values = self._decode(row, data, place)
            if place is None:
                step = "convert"
                for writer in writers:
                    writer.write(row, values)
        except StepError as error:
            self._failures.append(step_failure(self._batch, row, error))
        except GpuzarrError as error:
            self._fail(row, step, error)
        except MemoryError as error:
            self._fail(row, step, MemoryLimitError(f"there is not enough memory: {error}"))
        except ValueError as error:
            if not step.startswith("convert"):
                raise
            self._fail(row, step, error)

    def _decode(self, row: int, data: memoryview, place: memoryview | None) -> NDArray[Any]:
        """Decode a chunk, or what is needed of it."""
        spans = self._spans and self._spans[row]
        if spans and place is None:
            return self._decoders[row].decode_spans(data, spans)
        return self._decoders[row].decode(data, place)

    def _check_memory(self, row: int) -> None:
        """Refuse a chunk that does not fit into what is free, before anything is allocated."""
        nbytes = self._nbytes[row]
        if nbytes > CHECKED_NBYTES and nbytes > available_nbytes():
            raise MemoryLimitError(
                f"the decoded chunk needs {nbytes:,} bytes, and {available_nbytes():,} are free"
            )

    def _fail(self, row: int, step: str, cause: Exception) -> None:
        self._failures.append(chunk_failure(self._batch, row, step, cause))


def _given(data: memoryview, row: int) -> memoryview:
    """Encoded bytes that are there already."""
    del row
    return data


def _decoders(
    program: DecodeProgram, shapes: NDArray[np.int64], decoder_for: DecoderFor
) -> Sequence[ChunkDecoder]:
    """The decoder of each chunk; mostly the same for all."""
    if shapes.strides[0] == 0 or bool((shapes == shapes[:1]).all()):
        return [decoder_for(program, tuple(shapes[0].tolist()))] * len(shapes)
    return [decoder_for(program, tuple(shape)) for shape in shapes.tolist()]


class ScatterTask:
    """Some chunks that lie decoded in an array; see `Session.scatter`."""

    def __init__(  # noqa: PLR0913, PLR0917  everything that a thread needs
        self,
        batch: Batch,
        rows: slice,
        array: NDArray[Any],
        outputs: Sequence[Output],
        failures: list[ChunkFailure],
        stopped: Callable[[], bool],
    ) -> None:
        """Take over the chunks `rows` of a batch; the others are as in `BatchTask`."""
        self._batch = batch
        self._rows = range(rows.start, rows.stop)
        self._array = array
        self._outputs = outputs
        self._failures = failures
        self._stopped = stopped

    def __call__(self) -> None:
        """Write the pieces."""
        batch, rows = self._batch, self._rows
        pieces = batch.pieces.of_chunks(np.arange(rows.start, rows.stop))
        writers = piece_writers(self._outputs, pieces, len(rows))
        flat = self._array.reshape(-1)
        starts = (batch.start // self._array.itemsize).tolist()
        for place, row in enumerate(rows):
            if self._stopped():
                return
            shape = batch.chunks.shape[row].tolist()
            values = flat[starts[row] : starts[row] + prod(shape)].reshape(shape)
            try:
                for writer in writers:
                    writer.write(place, values)
            except ValueError as error:
                self._failures.append(chunk_failure(batch, row, "convert", error))
