"""Hop 8 by kvikio from HTTP servers and S3: ranges of objects straight to device memory.

kvikio asks a URL for a range and looks at nothing else: it knows no etags, and takes a short answer
for a whole one. So the store is asked, once an object when all ranges are there, for its size and
validator, which must be those that it had before. Whatever is not as it should be is read again
through the store, to the same place, so that data and errors are those of other ways. What cannot
be seen so is a server that sends fewer or other bytes than it has: memory is zero where nothing
came, and checksums and codecs see it if there are any.

The size of an object must not be asked for chunk by chunk. So only ranges are read in this way, as
shards have them, and no objects of unknown size.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cuda.direct import direct_chunks
from gpuzarr.engines.cuda.kvikio_reader import KVIKIO_ERRORS, open_remote
from gpuzarr.engines.cuda.staging import MISSING, READY
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
            pool: for what is read again.
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
        self._futures: deque[tuple[int, Any]] = deque()
        self._files: dict[str, Any] = {}
        self._keys = list(urls)
        # What has no validator yet may change before the first byte is read.
        unknown = [key for key in self._keys if requests.validators.get(key) is None]
        self._before = _look(start_looks(self._store, unknown), unknown) if unknown else {}
        total = int(rounded.sum())
        self.memory: Memory | None = device.allocate(total + ALIGNMENT, device.copy_stream)
        self._base = -(-self.memory.address // ALIGNMENT) * ALIGNMENT
        device.clear(self._base, total, device.copy_stream)
        # kvikio copies on streams of its own: the memory must be there, and zero.
        device.record(device.copy_stream).wait()
        self._start(urls)

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
        again = dict.fromkeys(self._again)
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
        for request, (key, offset, nbytes, begin) in enumerate(
            zip(
                *(requests.keys, requests.offset, requests.nbytes, self._begin.tolist()),
                strict=True,
            )
        ):
            try:
                if key not in self._files:
                    self._files[key] = open_remote(urls[key], ends[key])
                buffer = self._device.buffer(self._base + begin, nbytes)
                future = self._files[key].pread(buffer, nbytes, file_offset=offset)
                self._futures.append((request, future))
            except KVIKIO_ERRORS:  # the store tells what is wrong
                self._again.append(request)

    def _collect(self) -> None:
        """Wait for all reads."""
        while self._futures:
            request, future = self._futures[0]  # it stays known while it writes
            try:
                if future.get() != self._batch.requests.nbytes[request]:
                    self._again.append(request)
            except KVIKIO_ERRORS as error:
                forget_frames(error)  # they hold this read's memory
                self._again.append(request)
            self._futures.popleft()
        self._files.clear()

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
