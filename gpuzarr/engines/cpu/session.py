"""One read on the CPU: its batches are tasks of the process's thread pool.

A read of a single batch runs in the caller's thread, since starting a task costs as much as reading
a small chunk.
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, wait
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gpuzarr.engines.cpu.scatter import piece_writers
from gpuzarr.engines.cpu.task import BatchTask, ScatterTask
from gpuzarr.engines.failures import combine
from gpuzarr.engines.pool import cpu_count, in_worker, shared_pool
from gpuzarr.errors import MemoryLimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

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

TINY_NBYTES = 1 << 14
"""Chunks smaller than this are decoded by one thread: handing the interpreter's lock to and fro
costs more than two threads gain."""


class CpuSession:
    """A read in flight; see `gpuzarr.engines.engine.Session`."""

    def __init__(
        self,
        outputs: Sequence[Output],
        decoder_for: DecoderFor,
        threads: int,
        memory_limit: int | None,
        stopped: threading.Event | None = None,
    ) -> None:
        """Start a read of at most `threads` batches at once and `memory_limit` bytes.

        It is given up when `stopped` is set, or by `abort`.
        """
        self._outputs = outputs
        self._decoder_for = decoder_for
        self._threads = threads
        self._memory_limit = memory_limit
        self._held: BatchTask | None = None
        self._running: set[Future[None]] = set()
        self._failures: list[ChunkFailure] = []
        self._missing: list[int] = []
        self._aborted = threading.Event()
        self._stopped = stopped

    def fetch(self, program: DecodeProgram, batch: Batch, store: Store) -> Pending:
        """Start the batch's reads, in stores that start them early."""
        del program
        requests = batch.requests
        return store.start_reads(requests.keys, requests.offset, requests.nbytes)

    def decode(self, program: DecodeProgram, batch: Batch, staging: Pending) -> None:
        """Hand the batch to the pool, or hold it back while it is the only one."""
        at_once = min(self._threads, self._batches_in_limit(program, batch))
        if batch.chunks.decoded_nbytes.mean() < TINY_NBYTES:
            at_once = 1
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
        if self._held is None and not self._running:
            self._held = task
            return
        if self._held is not None:
            self._submit(self._held, at_once)
            self._held = None
        self._submit(task, at_once)

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
        for begin, end in pairwise(edges):
            task = ScatterTask(
                batch, slice(begin, end), array, self._outputs, self._failures, self._is_stopped
            )
            self._submit(task, ntasks)

    def fail(self, failures: Sequence[ChunkFailure]) -> None:
        """Record failures."""
        self._failures.extend(failures)

    def finish(self) -> int:
        """Wait for all tasks, and raise what failed; gives the number of chunks not stored."""
        held, self._held = self._held, None
        if held is not None:
            held()
        while self._running:
            self._wait_for_one()
        if self._failures:
            raise combine(self._failures)
        return sum(self._missing)

    def abort(self) -> None:
        """Stop the tasks, and wait until none writes any more."""
        self._aborted.set()
        self._held = None
        for future in self._running:
            future.cancel()
        wait(self._running)
        self._running.clear()

    def _is_stopped(self) -> bool:
        """Whether nobody wants the result any more."""
        return self._aborted.is_set() or (self._stopped is not None and self._stopped.is_set())

    def _submit(self, task: Callable[[], None], at_once: int) -> None:
        """Run a task in the pool; here, in a thread of the pool, which must not wait for it."""
        if at_once == 1 or in_worker():
            while self._running:
                self._wait_for_one()
            task()
            return
        # Where the pool itself is the bound, one task more, so that no thread waits for work.
        most = at_once + (at_once >= cpu_count())
        while len(self._running) >= most:
            self._wait_for_one()
        self._running.add(shared_pool().submit(task))

    def _wait_for_one(self) -> None:
        done, self._running = wait(self._running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()

    def _batches_in_limit(self, program: DecodeProgram, batch: Batch) -> int:
        """How many batches like this one may run at once, each with one chunk at a time.

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
