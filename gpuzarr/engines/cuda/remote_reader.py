"""Hop 8 by kvikio from HTTP servers and S3: ranges of objects straight to device memory.

kvikio asks a URL for a range and looks at nothing else: it knows no etags, follows no redirection,
and takes a short answer, or what a redirection says, for a whole one. So the ends of what it reads
to are marked before, and bear other bytes where all has come; and the store is asked, once an
object when all ranges are there, for its size and validator, which must be those that it had
before. Whatever is not as it should be is read again through the store, to the same place, so that
data and errors are those of other ways. What cannot be seen so is a server that sends other bytes
than it has, as many as were asked for: checksums and codecs see it if there are any.

The size of an object must not be asked for chunk by chunk. So only ranges are read in this way, as
shards have them, and no objects of unknown size.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuzarr.engines.cuda.direct import direct_chunks
from gpuzarr.engines.cuda.frames.blosc_on_device import Probe
from gpuzarr.engines.cuda.kernels import COPY_TILE
from gpuzarr.engines.cuda.kvikio_reader import KVIKIO_ERRORS, open_remote, task_nbytes
from gpuzarr.engines.cuda.pieces import first_blocks
from gpuzarr.engines.cuda.staging import MISSING, READY
from gpuzarr.engines.cuda.work import Work
from gpuzarr.engines.failures import check_validator
from gpuzarr.errors import GpuzarrError, forget_frames
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.stores.store import start_looks, url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Device, Memory
    from gpuzarr.engines.cuda.direct import DirectChunks
    from gpuzarr.engines.cuda.slabs import SlabPool
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch
    from gpuzarr.plan.ranges import Requests
    from gpuzarr.stores.store import Pending, Store

log = logging.getLogger("gpuzarr.engine")

ALIGNMENT = 256
"""Bytes that places in device memory are multiples of."""
MARK_NBYTES = 8
"""Bytes of the mark at the end of what a request of kvikio's brings."""


def find_urls(store: Store, requests: Requests) -> dict[str, str] | None:
    """The URL of each object; None where one has none, or its size would have to be known."""
    urls: dict[str, str] = {}
    for key, offset, nbytes in zip(requests.keys, requests.offset, requests.nbytes, strict=True):
        if nbytes == WHOLE or nbytes <= 0 or offset < 0:
            return None
        if key not in urls:
            url = url_of(store, key)
            if url is None:
                return None
            urls[key] = url
    return urls


class Parts(NamedTuple):
    """What kvikio asks for in one request each: ranges, cut where they are long."""

    request: NDArray[np.int64]
    """(p,) which request it is of."""
    begin: NDArray[np.int64]
    """(p,) its first byte in that."""
    nbytes: NDArray[np.int64]
    """(p,) its bytes."""


def cut_parts(nbytes: NDArray[np.int64], most: int) -> Parts:
    """Cut ranges into parts of at most so many bytes.

    >>> parts = cut_parts(np.array([5, 12]), 5)
    >>> parts.request.tolist(), parts.begin.tolist(), parts.nbytes.tolist()
    ([0, 1, 1, 1], [0, 0, 5, 10], [5, 5, 5, 2])
    """
    count = -(-nbytes // most)
    request = np.repeat(np.arange(len(nbytes)), count)
    first = np.cumsum(count) - count
    begin = (np.arange(len(request)) - first[request]) * most
    return Parts(request, begin, np.minimum(nbytes[request] - begin, most))


class RemoteReading:
    """The reads of one batch, under way."""

    def __init__(
        self, batch: Batch, store: Store, urls: dict[str, str], device: Device, pool: SlabPool
    ) -> None:
        """Start reading.

        Args:
            batch: the batch; its requests are ranges.
            store: whose objects they are of.
            urls: of each object.
            device: whose memory is read into; it is of the device's stream for copies, and must be
                kept until the host has seen that nothing uses it any more.
            pool: for marks, and what is read again.
        """
        self._batch = batch
        self._store = store
        self._device = device
        self._pool = pool
        requests = batch.requests
        self._nbytes = np.array(requests.nbytes, np.int64)
        rounded = -(-self._nbytes // ALIGNMENT) * ALIGNMENT
        self._begin = np.cumsum(rounded) - rounded
        self._again: list[int] = []
        self._futures: deque[tuple[int, int, Any]] = deque()
        self._files: dict[str, Any] = {}
        self._keys = list(urls)
        # What has no validator yet may change before the first byte is read.
        unknown = [key for key in self._keys if requests.validators.get(key) is None]
        self._before = _look(start_looks(self._store, unknown), unknown) if unknown else {}
        total = int(rounded.sum())
        self._parts = cut_parts(self._nbytes, task_nbytes())
        self._mark = np.frombuffer(os.urandom(MARK_NBYTES), np.uint8)
        self.memory: Memory | None = device.allocate(total + 2 * ALIGNMENT, device.copy_stream)
        self._base = -(-self.memory.address // ALIGNMENT) * ALIGNMENT
        self._put_marks(total)
        try:
            self._start(urls)
        except BaseException:
            self.abort()  # nobody else knows yet what was started
            raise

    @property
    def device_nbytes(self) -> int:
        """Bytes of device memory in use."""
        return 0 if self.memory is None else self.memory.nbytes

    def wait(self) -> tuple[DirectChunks, list[ChunkFailure]]:
        """The chunks, once all are there and their objects were looked at, and what failed."""
        self._collect()
        batch, n = self._batch, len(self._batch.requests)
        state = np.full(n, READY, np.uint8)
        errors: list[GpuzarrError | None] = [None] * n
        seen = _look(start_looks(self._store, self._keys), self._keys)
        again = dict.fromkeys([*self._again, *self._find_marks()])
        again.update(dict.fromkeys(row for row in range(n) if not self._is_as_before(row, seen)))
        self._read_again(sorted(again), state, errors)
        return direct_chunks(
            batch, self.memory, self._base, self._begin, self._nbytes, state, errors
        )

    def abort(self) -> None:
        """Give up, once nothing is written any more."""
        self._collect()
        self.memory = None

    def _start(self, urls: dict[str, str]) -> None:
        """Issue the reads."""
        requests = self._batch.requests
        ends: dict[str, int] = {}
        for key, offset, nbytes in zip(
            requests.keys, requests.offset, requests.nbytes, strict=True
        ):
            ends[key] = max(ends.get(key, 0), offset + nbytes)
        for request, begin, nbytes in zip(*(c.tolist() for c in self._parts), strict=True):
            key = requests.keys[request]
            try:
                if key not in self._files:
                    self._files[key] = open_remote(urls[key], ends[key])
                place = self._base + int(self._begin[request]) + begin
                buffer = self._device.buffer(place, nbytes)
                offset = requests.offset[request] + begin
                future = self._files[key].pread(buffer, nbytes, file_offset=offset)
                self._futures.append((request, nbytes, future))
            except KVIKIO_ERRORS:  # the store tells what is wrong
                self._again.append(request)

    def _collect(self) -> None:
        """Wait for all reads."""
        while self._futures:
            request, nbytes, future = self._futures[0]  # it stays known while it writes
            try:
                if future.get() != nbytes:
                    self._again.append(request)
            except KVIKIO_ERRORS as error:
                forget_frames(error)  # they hold this read's memory
                self._again.append(request)
            self._futures.popleft()
        self._files.clear()

    def _ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Addresses of the last bytes of all parts, and how many they are."""
        request, begin, nbytes = self._parts
        marked = np.minimum(nbytes, MARK_NBYTES)
        return self._base + self._begin[request] + begin + nbytes - marked, marked

    def _put_marks(self, total: int) -> None:
        """Make the memory zero, but for a mark at the end of each part."""
        device, stream = self._device, self._device.copy_stream
        slab = self._pool.take(MARK_NBYTES)
        slab.array[:] = self._mark
        device.clear(self._base, total, stream)
        device.upload(slab.array, self._base + total, stream)
        address, nbytes = self._ends()
        edges = first_blocks(nbytes, COPY_TILE)
        work = Work()
        work.launch(
            "copy_ranges",
            edges[-1],
            work.integers(np.full(len(address), self._base + total)),
            work.integers(address),
            work.integers(nbytes),
            work.integers(edges),
            len(address),
        )
        table = work.run(device, self._pool, stream)
        # kvikio copies on streams of its own, so the memory must be as it shall be.
        device.record(stream).wait()
        table.slab.give_back()
        slab.give_back()

    def _find_marks(self) -> list[int]:
        """Requests that lack something: a mark is there still."""
        address, nbytes = self._ends()
        probe = Probe(self._device, self._pool, self._device.copy_stream)
        found, first = probe.gather(address, nbytes)
        same = found == self._mark[np.arange(len(found)) - np.repeat(first, nbytes)]
        marked = np.logical_and.reduceat(same, first)
        lacking: list[int] = np.unique(self._parts.request[marked]).tolist()
        return lacking

    def _is_as_before(self, request: int, seen: dict[str, tuple[Hashable, int] | None]) -> bool:
        """Whether an object is the one that was meant, and holds the range."""
        requests = self._batch.requests
        key = requests.keys[request]
        now = seen[key]
        expected = requests.validators.get(key)
        if expected is None:
            before = self._before[key]
            expected = None if before is None else before[0]
        return (
            now is not None
            and expected is not None
            and now[0] == expected
            and requests.offset[request] + requests.nbytes[request] <= now[1]
        )

    def _read_again(
        self, rows: Sequence[int], state: NDArray[np.uint8], errors: list[GpuzarrError | None]
    ) -> None:
        """Read some requests through the store, and upload them to their places."""
        if not rows:
            return
        requests, stream = self._batch.requests, self._device.copy_stream
        log.debug(
            "%d of %d ranges, which kvikio did not read or whose objects are not those that they"
            " were, are read through pinned memory",
            len(rows),
            len(requests),
        )
        pending = self._store.start_reads(
            [requests.keys[row] for row in rows],
            [requests.offset[row] for row in rows],
            [requests.nbytes[row] for row in rows],
        )
        slab = self._pool.take(int(self._nbytes[rows].max()))
        try:
            for place, row in enumerate(rows):
                try:
                    blob = pending.result(place, _in(slab.array))
                    if blob is None:
                        state[row] = MISSING
                        continue
                    check_validator(requests, row, blob.validator)
                except GpuzarrError as error:
                    errors[row] = error
                    continue
                here = slab.array[: len(blob.data)]
                here[:] = np.frombuffer(blob.data, np.uint8)
                self._device.upload(here, self._base + int(self._begin[row]), stream)
                self._device.record(stream).wait()  # the slab is used again
        finally:
            slab.give_back()


def _in(memory: NDArray[np.uint8]) -> Callable[[int], memoryview]:
    return lambda nbytes: memory[:nbytes].data


def _look(pending: Pending, keys: Sequence[str]) -> dict[str, tuple[Hashable, int] | None]:
    """Validator and size of objects; None where there is none, or that cannot be said."""
    seen: dict[str, tuple[Hashable, int] | None] = {}
    for row, key in enumerate(keys):
        try:
            blob = pending.result(row)
        except GpuzarrError as error:
            forget_frames(error)  # as above
            blob = None
        seen[key] = None if blob is None or blob.size is None else (blob.validator, blob.size)
    return seen
