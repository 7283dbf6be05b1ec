"""One read on the CPU: its batches are cut into pieces of work for the caller's thread and others.

What is little work stays in the caller's thread, since calling another one costs as much as
reading a small chunk.
"""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gpuzarr.engines.cpu.crew import Crew
from gpuzarr.engines.cpu.decoders import may_run_here
from gpuzarr.engines.cpu.scatter import piece_writers
from gpuzarr.engines.cpu.task import BatchTask, ScatterTask
from gpuzarr.engines.failures import combine
from gpuzarr.errors import MemoryLimitError
from gpuzarr.stores.store import give_up_when

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cpu.task import DecoderFor
    from gpuzarr.engines.engine import Output
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Pending, Store

SMALL_NBYTES = 1 << 26
"""What a read may hold beyond its output without a `memory_limit`; or one chunk a thread, encoded
and decoded, where that is more."""

SCATTER_NBYTES = 1 << 22
"""Bytes of decoded chunks whose pieces one thread writes before another is worth it."""

LEAST_NBYTES = 1 << 19
"""Decoded bytes that are worth a second thread, where decoding takes time..."""
CHUNK_NBYTES = 1 << 13
"""... when each chunk counts as so many more, for reading and writing it..."""
PLAIN_FACTOR = 8
"""... and so many times as many bytes where there is nothing to decode."""


class CpuSession:
    """A read in flight; see `gpuzarr.engines.engine.Session`."""

    def __init__(
        self,
        outputs: Sequence[Output],
        decoder_for: DecoderFor,
        threads: int,
        memory_limit: int | None,
        stopped: Callable[[], bool] | None = None,
    ) -> None:
        """Start a read of at most `threads` batches at once and `memory_limit` bytes.

        It is given up when `stopped` says so, or by `abort`.
        """
        self._outputs = outputs
        self._decoder_for = decoder_for
        self._threads = threads
        self._memory_limit = memory_limit
        self._crew = Crew()
        self._is_first = True
        self._failures: list[ChunkFailure] = []
        self._missing: list[int] = []
        self._aborted = aborted = threading.Event()

        def is_stopped() -> (
            bool
        ):  # work refers to this and not to the session, which may be dropped
            return aborted.is_set() or (stopped is not None and stopped())

        self._is_stopped = is_stopped
        """Whether nobody wants the result any more."""

    def __del__(self) -> None:
        """Of a read that nobody waits for: helpers leave after what they have begun."""
        crew: Crew | None = getattr(self, "_crew", None)  # Ctrl-C may come before there is one
        if crew is not None and crew.busy:
            self._aborted.set()
            crew.drop()

    def fetch(self, program: DecodeProgram, batch: Batch, store: Store) -> Pending:
        """Start the batch's reads, in stores that start them early."""
        del program
        requests = batch.requests
        pending = store.start_reads(requests.keys, requests.offset, requests.nbytes)
        give_up_when(pending, self._is_stopped)
        return pending

    def decode(self, program: DecodeProgram, batch: Batch, staging: Pending) -> None:
        """Cut the batch into pieces of work, and do them with as many threads as they are worth."""
        task = BatchTask(
            program,
            batch,
            staging,
            outputs=self._outputs,
            decoder_for=self._decoder_for,
            failures=self._failures,
            missing=self._missing,
            stopped=self._is_stopped,
        )
        works = task.works()
        at_once = min(self._threads, self._at_once_in_limit(program, batch))
        # A second batch means that there is more than the first.
        if self._is_first and not is_much(program, len(batch.chunks), task.decoded_nbytes):
            at_once = 1
        self._is_first = False
        self._crew.add(works, at_once, caller_works=may_run_here(program), in_two=task.in_two)

    def fill(self, pieces: PieceTable) -> None:
        """Write the fill value at once."""
        nchunks = int(pieces.chunk[-1]) + 1
        for writer in piece_writers(self._outputs, pieces, nchunks):
            for chunk in range(nchunks):
                writer.fill(chunk)

    def scatter(self, program: DecodeProgram, batch: Batch, array: NDArray[Any]) -> None:
        """Write the pieces, in as many tasks as there are threads where there is much to write."""
        del program
        nchunks = len(batch.chunks)
        nbytes = int(batch.chunks.decoded_nbytes.sum())
        ntasks = min(self._threads, nchunks, 1 + nbytes // SCATTER_NBYTES)
        edges = [nchunks * i // ntasks for i in range(ntasks + 1)]
        tasks = [
            ScatterTask(
                batch, slice(begin, end), array, self._outputs, self._failures, self._is_stopped
            )
            for begin, end in pairwise(edges)
        ]
        self._crew.add(tasks, ntasks)

    def fail(self, failures: Sequence[ChunkFailure]) -> None:
        """Record failures."""
        self._failures.extend(failures)

    def finish(self) -> int:
        """Wait for all work, and raise what failed; gives the number of chunks not stored."""
        self._crew.finish()
        if self._failures and not self._is_stopped():  # reads that were given up failed in that way
            raise combine(self._failures)
        return sum(self._missing)

    def abort(self) -> None:
        """Stop, and wait until nothing writes any more."""
        self._aborted.set()
        self._crew.abort()

    def _at_once_in_limit(self, program: DecodeProgram, batch: Batch) -> int:
        """How many threads may decode such chunks at once, each one chunk at a time.

        Raises:
            MemoryLimitError: a chunk needs more than the user's limit.
        """
        largest = int(batch.chunks.decoded_nbytes.argmax())
        decoded = int(batch.chunks.decoded_nbytes[largest])
        most = int(batch.nbytes.max())
        encoded = decoded if most < 0 else most  # of unknown size: not much more than decoded
        if self._memory_limit is None and decoded + encoded <= SMALL_NBYTES // 8 // self._threads:
            return self._threads  # as many steps and conversions as there may be fit
        decoder = self._decoder_for(program, tuple(batch.chunks.shape[largest].tolist()))
        needed = encoded + decoder.scratch_nbytes + self._converting_nbytes(decoded, program)
        if self._memory_limit is None:
            limit = max(SMALL_NBYTES, self._threads * (decoded + encoded))
        else:
            limit = self._memory_limit
            if needed > limit:
                raise MemoryLimitError(
                    f"a chunk needs {needed:,} bytes to decode; memory_limit is {limit:,}"
                )
        return max(1, limit // max(1, needed))

    def _converting_nbytes(self, decoded: int, program: DecodeProgram) -> int:
        """Bytes that converting a chunk takes: two arrays of the result's type."""
        widest = max(
            (
                output.conversion.result.itemsize
                for output in self._outputs
                if not output.conversion.identity
            ),
            default=0,
        )
        return 2 * decoded // max(1, program.layout.dtype.itemsize) * widest


def is_much(program: DecodeProgram, count: int, decoded_nbytes: int) -> bool:
    """Whether so many chunks, of so many decoded bytes together, are worth another thread."""
    if not program.steps:
        return decoded_nbytes >= PLAIN_FACTOR * LEAST_NBYTES
    return decoded_nbytes + count * CHUNK_NBYTES >= LEAST_NBYTES
