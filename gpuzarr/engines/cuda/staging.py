"""Hop 8 on the way to a GPU: a batch's bytes, read by threads into one slab of pinned memory.

Several threads read runs of requests. What the host has to do with a chunk it does there as well,
while its bytes are in the cache: verify the checksums over them, or run the first steps of the
program, so that the slab holds what those give. A store that knows how many bytes come reads them
straight into the slab.

    requests -> threads -> slab: | chunk | chunk |   | chunk | ...   -> one copy to the device
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gpuzarr.engines.failures import (
    check_blob,
    chunk_failure,
    note_key,
    shard_is_gone,
    step_failure,
    storage_failed,
)
from gpuzarr.engines.pool import Task, in_worker, shared_pool, wait_for
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import GpuzarrError, MemoryLimitError
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.stores.store import give_up_when

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.slabs import Slab, SlabPool
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Pending, Store

READY, MISSING, FAILED = 0, 1, 2
"""What became of a chunk: its bytes are in the slab; it is not stored; its failure is recorded."""

SLOT = 16
"""Bytes in the slab begin at multiples of this."""
GROWTH_NBYTES = 64
"""Room for the bytes by which an encoded chunk may be larger than a decoded one, and an eighth."""
MOST_GAPS_NBYTES = 1 << 20
"""Bytes between the chunks of a request that room is made for beforehand."""
LARGE_NBYTES = 1 << 26
"""Chunks from which on the store is asked how large their objects are, before room is made."""
MOST_WORK = 1 << 40
"""Bytes of a request that threads are shared out by."""
MOST_EXPANSION = 1 << 10
"""How much larger than its object a chunk may be whose room is made beforehand, as in deflate."""


class HostDecoder(Protocol):
    """The CPU engine's `ChunkDecoder`, as far as it is needed here."""

    def decode_bytes(
        self, encoded: memoryview, count: int, out: memoryview | None = None
    ) -> memoryview:
        """Run the first `count` steps."""
        ...

    def nbytes_after(self, count: int) -> int | None:
        """Bytes that they give, where that is known."""
        ...


if TYPE_CHECKING:
    DecoderFor = Callable[[DecodeProgram, tuple[int, ...]], HostDecoder]


@dataclass(frozen=True, slots=True)
class HostPart:
    """What the host does with every chunk."""

    program: DecodeProgram
    count: int
    """Leading steps that it runs."""
    checks_only: bool
    """Whether these are checksums only, which leave the bytes where they are."""
    decoder_for: DecoderFor


def find_decoders(batch: Batch, part: HostPart) -> list[HostDecoder]:
    """The host decoder of each chunk, where the host has something to do; mostly one."""
    if not part.count:
        return []
    shapes = batch.chunks.shape
    if bool((shapes == shapes[:1]).all()):
        return [part.decoder_for(part.program, tuple(shapes[0].tolist()))] * len(shapes)
    return [part.decoder_for(part.program, tuple(shape)) for shape in shapes.tolist()]


def staged_nbytes(
    batch: Batch, store: Store, part: HostPart, decoders: Sequence[HostDecoder]
) -> int:
    """Bytes of slab that a batch takes, where that is known, and nearly always suffice else.

    What does not fit finds room elsewhere. So no more is taken for large chunks than their objects
    can fill: how large they are, metadata and indexes of shards say, which may be lies.
    """
    nbytes = np.asarray(batch.requests.nbytes, np.int64)
    chunks_nbytes = batch.chunks.decoded_nbytes
    if part.count and not part.checks_only:
        sizes = [decoder.nbytes_after(part.count) for decoder in decoders]
        known = zip(sizes, chunks_nbytes.tolist(), strict=True)
        most = np.array([d if s is None else s for s, d in known], np.int64)
        return _slots(_credible(most, batch, batch.request, store, MOST_EXPANSION))
    decoded = np.bincount(batch.request, chunks_nbytes, minlength=len(nbytes)).astype(np.int64)
    ranges = np.minimum(nbytes, 2 * decoded + MOST_GAPS_NBYTES)
    most = np.where(nbytes == WHOLE, decoded + decoded // 8 + GROWTH_NBYTES, ranges)
    return _slots(_credible(most, batch, np.arange(len(nbytes)), store, 1))


def _credible(
    most: NDArray[np.int64],
    batch: Batch,
    request: NDArray[np.int64],
    store: Store,
    expansion: int,
) -> NDArray[np.int64]:
    """Sizes of places, (n,), large ones at most `expansion` times the objects that fill them.

    `request` is (n,) the batch's request that fills each place.
    """
    for place in np.flatnonzero(most > LARGE_NBYTES).tolist():
        with suppress(GpuzarrError, OSError):  # who reads it says what is the matter
            size = store.size(batch.requests.keys[int(request[place])]) or 0
            most[place] = min(int(most[place]), expansion * size + GROWTH_NBYTES)
    return most


def _slots(nbytes: NDArray[np.int64]) -> int:
    """Bytes that places take together."""
    return int((-(-nbytes // SLOT) * SLOT).sum())


@dataclass(frozen=True, slots=True, eq=False)
class StagedChunks:
    """A batch's chunks in staging."""

    slab: Slab
    used: int
    """Bytes of the slab from its start that hold something."""
    offset: NDArray[np.int64]
    """(n,) first byte of each chunk in the slab."""
    nbytes: NDArray[np.int64]
    """(n,) its bytes."""
    state: NDArray[np.uint8]
    """(n,) READY, MISSING or FAILED."""


class PinnedReading:
    """The reads of one batch, under way."""

    def __init__(  # noqa: PLR0913, PLR0917  what is read, and with what
        self,
        batch: Batch,
        store: Store,
        part: HostPart,
        pool: SlabPool,
        threads: int,
        nbytes: int,
    ) -> None:
        """Start reading with at most `threads` threads, into a slab of `nbytes`."""
        self.batch = batch
        self._part = part
        self._failures: list[ChunkFailure] = []
        self._stopped = threading.Event()
        requests = batch.requests
        self._pending: Pending = store.start_reads(requests.keys, requests.offset, requests.nbytes)
        give_up_when(self._pending, self._stopped.is_set)
        count = len(requests)
        # The chunks of each request stand together, in the order of the requests.
        self._first = np.searchsorted(batch.request, np.arange(count + 1)).tolist()
        self._decoders = find_decoders(batch, part)
        self._room = _Room(pool, nbytes)
        n = len(batch.chunks)
        self._offset = np.zeros(n, np.int64)
        self._nbytes = np.zeros(n, np.int64)
        self._state = np.full(n, FAILED, np.uint8)
        self._tasks: list[Task] = []
        runs = _runs(self._work(), threads)
        self._later: list[tuple[int, int]] = []
        """Runs that no thread of the pool reads; `wait` does."""
        try:
            for run in runs:
                task = Task(partial(self._read_run, *run))
                self._tasks.append(task)
                # A thread of the pool must not wait for the pool.
                if in_worker() or not shared_pool().start(task):
                    self._tasks.pop()
                    self._later.append(run)
        except BaseException:  # nobody else could end what was begun
            self.abort()
            raise

    def wait(self) -> tuple[StagedChunks, list[ChunkFailure]]:
        """The chunks, once all are there, and what failed."""
        for run in self._later:
            self._read_run(*run)
        self._later.clear()
        for task in self._tasks:
            task.result()
        slab, used = self._room.close()
        return StagedChunks(slab, used, self._offset, self._nbytes, self._state), self._failures

    def abort(self) -> None:
        """Give up, and wait until nothing is written any more."""
        self._stopped.set()
        wait_for(self._tasks)
        self._room.close()[0].give_back()

    def _work(self) -> NDArray[np.int64]:
        """(requests,) about how many bytes each is worth."""
        nbytes = np.asarray(self.batch.requests.nbytes, np.int64)
        decoded = np.bincount(
            self.batch.request, self.batch.chunks.decoded_nbytes, minlength=len(nbytes)
        )
        # Sizes that a shard's index only claims would overflow.
        work = np.where(nbytes < 0, decoded, np.minimum(nbytes, MOST_WORK))
        return np.asarray(work + decoded * (not self._part.checks_only), np.int64)

    def _read_run(self, first: int, end: int) -> None:
        """Read a run of requests, and do the host's part of their chunks."""
        for request in range(first, end):
            if self._stopped.is_set():
                return
            rows = range(self._first[request], self._first[request + 1])
            try:
                self._read(request, rows)
            except GpuzarrError as error:
                self._fail(rows, error)
            except MemoryError as error:
                self._fail(rows, MemoryLimitError(f"there is not enough memory: {error}"))
            except OSError as error:
                self._fail(rows, storage_failed(error))
            except BaseException as error:
                note_key(error, self.batch.requests.keys[request])
                raise

    def _read(self, request: int, rows: range) -> None:
        batch, part = self.batch, self._part
        straight = part.checks_only or not part.count
        claim = _Claim(self._room if straight else None)
        blob = self._pending.result(request, claim.allocate)
        whole = batch.requests.nbytes[request] == WHOLE
        if blob is None:
            if not whole:
                raise shard_is_gone()
            self._state[rows.start : rows.stop] = MISSING
            return
        check_blob(batch.requests, request, blob)
        if not straight:
            self._decode(rows, blob.data, whole=whole)
            return
        if not claim.holds(blob.data):  # the store has the bytes in memory of its own
            self._room.copy(blob.data, claim)
        these = slice(rows.start, rows.stop)
        self._offset[these] = claim.offset + batch.start[these]
        self._nbytes[these] = len(blob.data) if whole else batch.nbytes[these]
        if part.count:
            self._verify(rows, blob.data, claim.offset)
        else:
            self._state[these] = READY

    def _verify(self, rows: range, data: memoryview, begin: int) -> None:
        """Verify the checksums over the chunks' stored bytes; what is left are the bytes."""
        for row in rows:
            start = int(self._offset[row]) - begin
            encoded = data[start : start + int(self._nbytes[row])]
            try:
                rest = self._decoders[row].decode_bytes(encoded, self._part.count)
            except StepError as error:
                self._failures.append(step_failure(self.batch, row, error))
                continue
            self._offset[row] += _distance(encoded, rest)
            self._nbytes[row] = len(rest)
            self._state[row] = READY

    def _decode(self, rows: range, data: memoryview, *, whole: bool) -> None:
        """Run the host's steps; their results go to the slab."""
        batch, count = self.batch, self._part.count
        for row in rows:
            start, nbytes = int(batch.start[row]), int(batch.nbytes[row])
            encoded = data if whole else data[start : start + nbytes]
            decoder = self._decoders[row]
            size = decoder.nbytes_after(count)
            claim = _Claim(self._room)
            try:
                if size is None or not self._room.has(size):
                    self._room.copy(decoder.decode_bytes(encoded, count), claim)
                else:
                    decoder.decode_bytes(encoded, count, claim.allocate(size))
            except StepError as error:
                self._failures.append(step_failure(batch, row, error))
                continue
            except MemoryError as error:
                cause = MemoryLimitError(f"there is not enough memory: {error}")
                self._failures.append(chunk_failure(batch, row, "fetch", cause))
                continue
            self._offset[row] = claim.offset
            self._nbytes[row] = claim.nbytes
            self._state[row] = READY

    def _fail(self, rows: range, error: GpuzarrError) -> None:
        self._failures += [chunk_failure(self.batch, row, "fetch", error) for row in rows]


def _distance(outer: memoryview, inner: memoryview) -> int:
    """Bytes between the starts of a piece of memory and of a part of it."""
    if not len(inner):
        return 0
    start = np.frombuffer(outer, np.uint8).ctypes.data
    return int(np.frombuffer(inner, np.uint8).ctypes.data - start)


def _runs(work: NDArray[np.int64], threads: int) -> list[tuple[int, int]]:
    """Runs of requests of about equal work, one for each thread."""
    total = np.cumsum(work)
    shares = min(threads, len(work))
    cuts = np.searchsorted(total, total[-1] * np.arange(1, shares) // shares, side="right")
    edges = np.unique(np.concatenate([[0], cuts, [len(work)]]))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


class _Claim:
    """A place in the slab, once somebody has asked for it."""

    __slots__ = ("_memory", "_room", "nbytes", "offset")

    def __init__(self, room: _Room | None) -> None:
        self._room = room
        self._memory: memoryview | None = None
        self.offset = self.nbytes = 0

    def allocate(self, nbytes: int) -> memoryview:
        """Memory for so many bytes, as `Store.read` asks for it."""
        if self._room is None:
            return memoryview(bytearray(nbytes))
        self.offset, self._memory = self._room.take(nbytes)
        self.nbytes = nbytes
        return self._memory

    def holds(self, data: memoryview) -> bool:
        """Whether these bytes fill the place, and are not a copy that somebody made of them."""
        return (
            self._memory is not None and data.obj is self._memory.obj and len(data) == self.nbytes
        )


class _Room:
    """A slab that is given out from its start; what does not fit lies elsewhere until the end."""

    def __init__(self, pool: SlabPool, nbytes: int) -> None:
        self._pool = pool
        self._slab = pool.take(nbytes)
        self._lock = threading.Lock()
        self._used = 0
        self._overflow: list[tuple[int, bytearray]] = []

    def has(self, nbytes: int) -> bool:
        """Whether there is room for so many bytes more."""
        return self._used + nbytes <= len(self._slab.array)

    def take(self, nbytes: int) -> tuple[int, memoryview]:
        """The next place of `nbytes`: its offset, and its memory."""
        with self._lock:
            offset = self._used
            self._used += -(-nbytes // SLOT) * SLOT
            if self._used > len(self._slab.array) or self._overflow:
                memory = bytearray(nbytes)
                self._overflow.append((offset, memory))
                return offset, memoryview(memory)
        return offset, self._slab.array[offset : offset + nbytes].data

    def copy(self, data: memoryview, claim: _Claim) -> None:
        """Take a place for bytes that lie elsewhere, and copy them there."""
        claim.allocate(len(data))[:] = data

    def close(self) -> tuple[Slab, int]:
        """The slab, with everything in it, and how much of it is used."""
        if self._overflow:
            larger = self._pool.take(self._used)
            kept = self._overflow[0][0]
            larger.array[:kept] = self._slab.array[:kept]
            for offset, memory in self._overflow:
                larger.array[offset : offset + len(memory)] = np.frombuffer(memory, np.uint8)
            self._slab.give_back()
            self._slab, self._overflow = larger, []
        return self._slab, self._used
