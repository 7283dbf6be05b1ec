"""One batch on the CPU: fetch, decode and write its chunks, one after another, in one thread.

A chunk is written before the next is read, so that it is in the cache when it is scattered and the
thread needs memory for one chunk only. What fails is recorded, and the other chunks go on.
"""

from __future__ import annotations

import threading
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cpu.scatter import piece_writers
from gpuzarr.engines.failures import (
    FILL,
    check_validator,
    chunk_failure,
    shard_is_gone,
    step_failure,
)
from gpuzarr.engines.memory import CHECKED_NBYTES, available_nbytes
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import GpuzarrError, MemoryLimitError
from gpuzarr.plan.ranges import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cpu.decoder import ChunkDecoder
    from gpuzarr.engines.cpu.scatter import PieceWriter
    from gpuzarr.engines.engine import Output
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Pending

    DecoderFor = Callable[[DecodeProgram, tuple[int, ...]], ChunkDecoder]

KEPT_NBYTES = 1 << 24
"""Memory for encoded bytes that a thread keeps from one batch to the next."""

_kept = threading.local()


class EncodedScratch:
    """Memory for the encoded bytes of one request after another."""

    def __init__(self) -> None:
        """Take this thread's memory; whoever comes between in the same thread makes its own."""
        self._memory: NDArray[np.uint8] = _kept.__dict__.pop("memory", None)
        if self._memory is None:
            self._memory = np.empty(1 << 16, np.uint8)

    def allocate(self, nbytes: int) -> memoryview:
        """Memory of `nbytes`; it ends what the last call gave."""
        if len(self._memory) < nbytes:
            self._memory = np.empty(nbytes, np.uint8)
        return self._memory.data[:nbytes]

    def give_back(self) -> None:
        """Leave the memory to the thread's next batch."""
        if len(self._memory) <= KEPT_NBYTES:
            _kept.memory = self._memory


class BatchTask:
    """A batch, ready to run in any thread."""

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
        self._program = program
        self._batch = batch
        self._staging = staging
        self._outputs = outputs
        self._decoder_for = decoder_for
        self._failures = failures
        self._missing = missing
        self._nmissing = 0
        self._stopped = stopped

    def __call__(self) -> None:
        """Run the batch; every failure of a chunk is recorded, none is raised."""
        batch = self._batch
        shapes = batch.chunks.shape
        writers = piece_writers(self._outputs, batch.pieces, len(shapes))
        if len(writers) == 1:
            writers[0].allow_direct(self._program.layout, shapes)
        decoders = self._decoders(shapes)
        scratch = EncodedScratch()
        try:
            encoded = self._encoded_chunks(scratch, writers)
            for row, decoder in enumerate(decoders):
                if self._stopped():
                    return
                self._run_chunk(row, decoder, encoded, writers)
        finally:
            scratch.give_back()
            if self._nmissing:
                self._missing.append(self._nmissing)

    def _run_chunk(
        self,
        row: int,
        decoder: ChunkDecoder,
        encoded: Callable[[int], memoryview | None],
        writers: Sequence[PieceWriter],
    ) -> None:
        step = "fetch"
        place = writers[0].place(row) if len(writers) == 1 else None
        try:
            data = encoded(row)
            if data is None:
                self._nmissing += 1
                step = FILL
                for writer in writers:
                    writer.fill(row)
                return
            self._check_memory(row)
            values = decoder.decode(data, place)
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

    def _encoded_chunks(
        self, scratch: EncodedScratch, writers: Sequence[PieceWriter]
    ) -> Callable[[int], memoryview | None]:
        """A function that gives the encoded bytes of chunk after chunk; None: not stored."""
        batch = self._batch
        result = self._staging.result
        request, start, nbytes = batch.request.tolist(), batch.start.tolist(), batch.nbytes.tolist()
        # Chunks that need no decoding are read to where they belong.
        straight = not self._program.steps and len(writers) == 1
        held: int = -1
        data: memoryview | None = None
        failure: GpuzarrError | None = None

        def fetch(row: int) -> None:
            nonlocal held, data, failure
            held, data, failure = request[row], None, None
            place = writers[0].place(row) if straight and nbytes[row] == WHOLE else None
            allocate = scratch.allocate if place is None else _into(place, scratch)
            try:
                blob = result(held, allocate)
                if blob is not None:
                    data = blob.data
                    check_validator(batch.requests, held, blob.validator)
            except GpuzarrError as error:
                failure = error

        def encoded(row: int) -> memoryview | None:
            if request[row] != held:
                fetch(row)
            if failure is not None:  # of the request that this chunk shares with others
                raise failure
            if nbytes[row] == WHOLE:
                return data
            if data is None:
                raise shard_is_gone()
            return data[start[row] : start[row] + nbytes[row]]

        return encoded

    def _decoders(self, shapes: NDArray[np.int64]) -> Sequence[ChunkDecoder]:
        """The decoder of each chunk; mostly the same for all."""
        program = self._program
        if bool((shapes == shapes[:1]).all()):
            return [self._decoder_for(program, tuple(shapes[0].tolist()))] * len(shapes)
        return [self._decoder_for(program, tuple(shape)) for shape in shapes.tolist()]

    def _check_memory(self, row: int) -> None:
        """Refuse a chunk that does not fit into what is free, before anything is allocated."""
        nbytes = int(self._batch.chunks.decoded_nbytes[row])
        if nbytes > CHECKED_NBYTES and nbytes > available_nbytes():
            raise MemoryLimitError(
                f"the decoded chunk needs {nbytes:,} bytes, and {available_nbytes():,} are free"
            )

    def _fail(self, row: int, step: str, cause: Exception) -> None:
        self._failures.append(chunk_failure(self._batch, row, step, cause))


def _into(place: memoryview, scratch: EncodedScratch) -> Callable[[int], memoryview]:
    """Give `place` to a store that reads exactly as many bytes, scratch to any other."""
    return lambda nbytes: place if nbytes == len(place) else scratch.allocate(nbytes)


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
