"""One read on the CPU: batches run as tasks of a thread pool, each fetching, decoding and scattering.

A task reads a chunk, decodes it and writes its pieces before it reads the next, so that a chunk is in the
cache when it is scattered and a thread needs memory for one chunk only. A read of a single batch runs
in the caller's thread.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cpu.pool import in_worker, shared_pool
from gpuzarr.engines.cpu.scatter import PieceWriter, piece_writers
from gpuzarr.engines.cpu.step_error import StepError
from gpuzarr.errors import (
    ChecksumError,
    ChunkError,
    ChunkFailure,
    DecodeError,
    GpuzarrError,
    StoreError,
)
from gpuzarr.plan.ranges import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from gpuzarr.engines.cpu.decoder import ChunkDecoder
    from gpuzarr.engines.engine import Output
    from gpuzarr.plan.batches import Batch
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.plan.ranges import Requests
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Blob, Pending, Store

KEPT_NBYTES = 32 << 20
"""Memory for encoded bytes that a thread keeps from one chunk to the next."""

_local = threading.local()


def encoded_scratch(nbytes: int) -> memoryview:
    """This thread's memory for the encoded bytes of one request; the next call may give the same."""
    if nbytes > KEPT_NBYTES:
        return np.empty(nbytes, np.uint8).data
    scratch: NDArray[np.uint8] | None = getattr(_local, "encoded", None)
    if scratch is None or len(scratch) < nbytes:
        _local.encoded = scratch = np.empty(max(nbytes, 1 << 16), np.uint8)
    return scratch.data[:nbytes]


class CpuSession:
    """A read in flight; see `gpuzarr.engines.engine.Session`."""

    def __init__(
        self,
        outputs: Sequence[Output],
        decoder_for: Callable[[DecodeProgram, tuple[int, ...]], ChunkDecoder],
        threads: int,
    ) -> None:
        self._outputs = outputs
        self._decoder_for = decoder_for
        self._threads = threads
        self._held: Callable[[], None] | None = None
        self._running: deque[Future[None]] = deque()
        self._failures: list[ChunkFailure] = []
        self._stopped = threading.Event()

    def fetch(self, batch: Batch, store: Store) -> Pending:
        requests = batch.requests
        return store.start_reads(requests.keys, requests.offset, requests.nbytes)

    def decode(self, program: DecodeProgram, batch: Batch, staging: Pending) -> None:
        def work() -> None:
            self._run(program, batch, staging)

        # A read's only batch runs in the caller's thread, so the first waits for a second to come.
        if self._held is None and not self._running:
            self._held = work
            return
        if self._held is not None:
            self._submit(self._held)
            self._held = None
        self._submit(work)

    def fill(self, pieces: PieceTable) -> None:
        nchunks = int(pieces.chunk[-1]) + 1
        for writer in piece_writers(self._outputs, pieces, nchunks):
            for chunk in range(nchunks):
                writer.fill(chunk)

    def fail(self, failures: Sequence[ChunkFailure]) -> None:
        self._failures.extend(failures)

    def finish(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held()
        while self._running:
            self._running.popleft().result()
        if self._failures:
            raise combine(self._failures)

    def abort(self) -> None:
        self._stopped.set()
        self._held = None
        for future in self._running:
            future.cancel()
        wait(self._running)

    def _submit(self, work: Callable[[], None]) -> None:
        if self._threads == 1 or in_worker():
            work()
            return
        # Two tasks a thread in flight keep every thread busy and bound what is held.
        while len(self._running) >= 2 * self._threads:
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                self._running.remove(future)
                future.result()
        self._running.append(shared_pool().submit(work))

    def _run(self, program: DecodeProgram, batch: Batch, staging: Pending) -> None:
        """Fetch, decode and scatter the chunks of a batch, one after another."""
        shapes = batch.chunks.shape
        writers = piece_writers(self._outputs, batch.pieces, len(shapes))
        if len(writers) == 1:
            writers[0].allow_direct(program.layout, shapes)
        decoders = self._decoders(program, shapes)
        start, nbytes = batch.start.tolist(), batch.nbytes.tolist()
        held, data = -1, None
        for row, request in enumerate(batch.request.tolist()):
            if self._stopped.is_set():
                return
            step = "fetch"
            place = writers[0].place(row) if len(writers) == 1 else None
            try:
                if request != held:
                    # Chunks that need no decoding are read to where they belong.
                    straight = place is not None and not program.steps and nbytes[row] == WHOLE
                    blob = staging.result(request, _into(place) if straight else encoded_scratch)
                    held, data = request, None if blob is None else blob.data
                    _check_validator(batch.requests, request, blob)
                if data is None:
                    self._missing(writers, row, in_shard=nbytes[row] != WHOLE)
                    continue
                encoded = data
                if nbytes[row] != WHOLE:
                    encoded = data[start[row] : start[row] + nbytes[row]]
                values = decoders[row].decode(encoded, place)
                if place is None:
                    step = "convert"
                    for writer in writers:
                        writer.write(row, values)
            except StepError as error:
                kind = ChecksumError if error.checksum else DecodeError
                self._fail(batch, row, error.step, kind(error.cause_message))
            except GpuzarrError as error:
                self._fail(batch, row, step, error)
                held = -1
            except ValueError as error:
                if step != "convert":
                    raise
                self._fail(batch, row, step, error)

    def _decoders(
        self, program: DecodeProgram, shapes: NDArray[np.int64]
    ) -> Sequence[ChunkDecoder]:
        """The decoder of each chunk; mostly the same for all."""
        if bool((shapes == shapes[:1]).all()):
            return [self._decoder_for(program, tuple(shapes[0].tolist()))] * len(shapes)
        return [self._decoder_for(program, tuple(shape)) for shape in shapes.tolist()]

    def _missing(self, writers: Sequence[PieceWriter], row: int, *, in_shard: bool) -> None:
        if in_shard:
            raise StoreError("the shard was there when its index was read, and is gone now")
        for writer in writers:
            writer.fill(row)

    def _fail(self, batch: Batch, row: int, step: str, cause: Exception) -> None:
        key = batch.requests.keys[int(batch.request[row])]
        coords = tuple(batch.chunks.coords[row].tolist())
        self._failures.append(ChunkFailure(key, coords, step, cause))


def _check_validator(requests: Requests, request: int, blob: Blob | None) -> None:
    """Refuse bytes of a shard that is not the one whose index said where they are."""
    if blob is None or not requests.validators:
        return
    expected = requests.validators.get(requests.keys[request])
    if expected is not None and blob.validator != expected:
        raise ChunkError("the shard was replaced after its index was read")


def _into(place: memoryview | None) -> Callable[[int], memoryview]:
    """Give `place` to a store that reads exactly as many bytes, scratch memory to any other."""

    def allocate(nbytes: int) -> memoryview:
        return place if place is not None and nbytes == len(place) else encoded_scratch(nbytes)

    return allocate


def combine(failures: Sequence[ChunkFailure]) -> GpuzarrError:
    """One error for all failed chunks: of their common kind, where they have one."""
    kinds = {type(failure.cause) for failure in failures}
    count = f"{len(failures)} chunks" if len(failures) > 1 else "a chunk"
    if kinds == {ChecksumError}:
        return ChecksumError(f"{count} did not match the stored checksum", failures=tuple(failures))
    if kinds == {DecodeError}:
        return DecodeError(f"{count} could not be decoded", failures=tuple(failures))
    if kinds == {StoreError}:
        first = failures[0].cause
        more = f" (and {len(failures) - 1} more chunks)" if len(failures) > 1 else ""
        return StoreError(f"{first}{more}", key=failures[0].key)
    return ChunkError(f"{count} could not be read", failures=tuple(failures))
