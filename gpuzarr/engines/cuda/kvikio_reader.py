"""Hop 8 by kvikio: a batch's bytes from local files straight to device memory.

With GPUDirect Storage the bytes never touch the host; without, kvikio brings them through buffers
of its own. Files are read in whole pages, to where pages begin in device memory too, since that is
all that the direct way can do; what is read beyond the ranges is not looked at. The only file that
knows kvikio.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cuda.direct import direct_chunks
from gpuzarr.engines.cuda.staging import MISSING, READY
from gpuzarr.engines.failures import check_validator
from gpuzarr.errors import ChunkError, GpuzarrError, StoreError
from gpuzarr.stores.store import find_range

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Device, Memory
    from gpuzarr.engines.cuda.direct import DirectChunks
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch
    from gpuzarr.stores.store import Store

PAGE = 4096
"""Bytes that reads of files and places in device memory are multiples of."""
THREADS = 16
"""kvikio's threads, where neither the environment nor the user chose a number."""
OPEN_FILES = 512
"""Files that are open at once, at most."""

KVIKIO_ERRORS = (OSError, RuntimeError, ValueError, ArithmeticError, IndexError, MemoryError)
"""What it raises where it cannot read: Cython's choice for the exceptions of C++."""

_lock = threading.Lock()


@lru_cache(maxsize=1)
def unavailable() -> str | None:
    """Why kvikio cannot be used; None when it can."""
    try:
        import kvikio.defaults  # noqa: PLC0415  costs a third of a second, and loads libcufile

        with _lock, suppress(AttributeError):
            if "KVIKIO_NTHREADS" not in os.environ and kvikio.defaults.get("num_threads") == 1:
                kvikio.defaults.set({"num_threads": THREADS})
    except Exception as error:  # noqa: BLE001  its loader has errors of its own
        return f"kvikio cannot be used: {type(error).__name__}: {error}"
    return None


@lru_cache(maxsize=1)
def gds_available() -> bool:
    """Whether GPUDirect Storage is really there."""
    if unavailable() is not None:
        return False
    try:
        import kvikio.cufile_driver  # noqa: PLC0415

        return bool(kvikio.cufile_driver.properties.is_gds_available)
    except Exception:  # noqa: BLE001  whatever is wrong, it is not there
        return False


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Pages of files, and where they go in one piece of memory."""

    file: NDArray[np.int64]
    """(s,) which file."""
    offset: NDArray[np.int64]
    """(s,) first byte in the file, a multiple of PAGE."""
    nbytes: NDArray[np.int64]
    """(s,) bytes to read; whole pages, or up to the end of the file."""
    place: NDArray[np.int64]
    """(s,) first byte in memory, a multiple of PAGE."""
    total: int
    """Bytes of memory."""
    begin: NDArray[np.int64]
    """(ranges,) where each range that was asked for begins in memory."""


def lay_out_spans(
    file: NDArray[np.int64],
    offset: NDArray[np.int64],
    nbytes: NDArray[np.int64],
    size: NDArray[np.int64],
) -> Spans:
    """Round ranges out to pages, and join those that touch.

    Args:
        file: (n,) the file of each range.
        offset: (n,) its first byte.
        nbytes: (n,) its bytes.
        size: (n,) bytes of its file.

    >>> one = np.zeros(2, np.int64)
    >>> spans = lay_out_spans(one, np.array([10, 5000]), np.array([10, 10]), one + 6000)
    >>> spans.nbytes.tolist(), spans.begin.tolist()
    ([6000], [10, 5000])
    """
    order = np.lexsort((offset, file))
    first = offset[order] // PAGE * PAGE
    end = np.minimum(-(-(offset + nbytes)[order] // PAGE) * PAGE, size[order])
    files = file[order]
    # A span goes on where a range begins at or before the furthest end so far in the same file.
    begins = np.ones(len(order), np.bool_)
    reach = np.zeros(len(order), np.int64)
    for changed in np.unique(files):  # files, not ranges: their ends start anew
        here = files == changed
        reach[here] = np.maximum.accumulate(end[here])
    begins[1:] = (files[1:] != files[:-1]) | (first[1:] > reach[:-1])
    group = np.cumsum(begins) - 1
    starts = np.flatnonzero(begins)
    last = np.append(starts[1:], len(order))[: len(starts)] - 1
    span_offset, span_end = first[starts], reach[last]
    length = span_end - span_offset
    rounded = -(-length // PAGE) * PAGE
    place = np.cumsum(rounded) - rounded
    begin = np.empty(len(order), np.int64)
    begin[order] = place[group] + offset[order] - span_offset[group]
    total = int(rounded.sum())
    return Spans(files[starts], span_offset, length, place, total, begin)


class KvikioReading:
    """The reads of one batch, under way."""

    def __init__(
        self,
        batch: Batch,
        paths: Sequence[Path | None],
        device: Device,
    ) -> None:
        """Start reading.

        Args:
            batch: the batch.
            paths: the file of each request; None: there is none.
            device: whose memory is read into; it is of the device's stream for copies, and must be
                kept until the host has seen that nothing uses it any more.
        """
        self.batch = batch
        self._paths = paths
        n = len(batch.requests)
        self._errors: list[GpuzarrError | None] = [None] * n
        self._status: list[os.stat_result | None] = [None] * n
        offset, nbytes, size = (np.zeros(n, np.int64) for _ in range(3))
        for request in range(n):
            self._measure(request, offset, nbytes, size)
        there = np.array([s is not None for s in self._status], np.bool_)
        there &= np.array([e is None for e in self._errors], np.bool_)
        self._rows = np.flatnonzero(there)
        files = {path: number for number, path in enumerate(dict.fromkeys(paths))}
        file = np.array([files[paths[row]] for row in self._rows.tolist()], np.int64)
        self._nbytes = nbytes
        self._spans = lay_out_spans(file, offset[there], nbytes[there], size[there])
        self.memory: Memory | None = None
        self._base = 0
        self._futures: deque[tuple[int, int, Any]] = deque()
        self._files: dict[int, Any] = {}
        self._names = list(files)
        if self._spans.total:
            self.memory = device.allocate(self._spans.total + PAGE, device.copy_stream)
            self._base = -(-self.memory.address // PAGE) * PAGE
            # kvikio copies on streams of its own, and the memory is there when ours has come to
            # here. Only uploads are waited for, no decoding.
            device.record(device.copy_stream).wait()
            try:
                self._start(device)
            except BaseException:
                self.abort()  # nobody else knows yet what was started
                raise

    @property
    def device_nbytes(self) -> int:
        """Bytes of device memory in use."""
        return 0 if self.memory is None else self.memory.nbytes

    def wait(self) -> tuple[DirectChunks, list[ChunkFailure]]:
        """The chunks, once all are there, and what failed."""
        self._collect()
        batch = self.batch
        n = len(batch.requests)
        state = np.full(n, MISSING, np.uint8)
        state[self._rows] = READY
        for request in self._rows.tolist():
            with suppress(OSError):
                now = os.stat(self._paths[request])  # type: ignore[arg-type]  # noqa: PTH116
                before = self._status[request]
                if before is not None and _validator(now) != _validator(before):
                    self._errors[request] = StoreError(
                        f"{self._paths[request]} changed while it was read: something is writing to"
                        " this store",
                        key=batch.requests.keys[request],
                    )
        begin = np.zeros(n, np.int64)
        begin[self._rows] = self._spans.begin
        memory, base = self.memory, self._base
        return direct_chunks(batch, memory, base, begin, self._nbytes, state, self._errors)

    def abort(self) -> None:
        """Give up, once nothing is written any more."""
        self._collect()
        self.memory = None

    def _measure(
        self,
        request: int,
        offset: NDArray[np.int64],
        nbytes: NDArray[np.int64],
        size: NDArray[np.int64],
    ) -> None:
        """Which bytes of its file a request means."""
        requests, path = self.batch.requests, self._paths[request]
        if path is None:
            return
        key = requests.keys[request]
        try:
            status = os.stat(path)  # noqa: PTH116  speed: once a request
            self._status[request] = status
            size[request] = status.st_size
            check_validator(requests, request, _validator(status))
            asked = requests.offset[request], requests.nbytes[request]
            start, stop = find_range(status.st_size, key, *asked)
            offset[request], nbytes[request] = start, stop - start
        except (StoreError, ChunkError) as error:
            self._errors[request] = error
        except OSError as error:
            self._errors[request] = StoreError(f"cannot read {path}: {error}", key=key)

    def _start(self, device: Device) -> None:
        """Issue the reads."""
        import kvikio  # noqa: PLC0415  see `unavailable`

        spans, most = self._spans, task_nbytes()
        columns = (spans.file, spans.offset, spans.nbytes, spans.place)
        for file, offset, nbytes, place in zip(*(c.tolist() for c in columns), strict=True):
            if not nbytes:
                self._futures.append((file, 0, None))
                continue
            try:
                if file not in self._files:
                    if len(self._files) >= OPEN_FILES:
                        self._collect()
                    self._files[file] = kvikio.CuFile(self._names[file], "r")
                for done in range(0, nbytes, most):
                    size = min(most, nbytes - done)
                    buffer = device.buffer(self._base + place + done, size)
                    future = self._files[file].pread(buffer, size, file_offset=offset + done)
                    self._futures.append((file, size, future))
            except KVIKIO_ERRORS as error:
                self._blame(file, error)

    def _collect(self) -> None:
        """Wait for all reads, and close the files."""
        while self._futures:
            file, nbytes, future = self._futures[0]  # it stays known while it writes
            try:
                done = nbytes if future is None else future.get()
                if done != nbytes:
                    self._blame(file, OSError(f"{done} bytes came instead of {nbytes}"))
            except KVIKIO_ERRORS as error:
                self._blame(file, error)
            self._futures.popleft()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _blame(self, file: int, error: Exception) -> None:
        """All requests to a file have failed."""
        for request in self._rows.tolist():
            if self._paths[request] == self._names[file]:
                self._errors[request] = StoreError(
                    f"kvikio cannot read {self._names[file]}: {error}",
                    key=self.batch.requests.keys[request],
                )


def task_nbytes() -> int:
    """The most bytes that kvikio reads in one task, in whole pages.

    A longer read is several tasks; where one of them fails, kvikio before 26.10 says so while
    others still write. So no read is longer.
    """
    import kvikio.defaults  # noqa: PLC0415  see `unavailable`

    return max(PAGE, int(kvikio.defaults.get("task_size")) // PAGE * PAGE)


def open_remote(url: str, nbytes: int) -> Any:
    """An object at a URL, to be read at least up to so many bytes: its size is not asked for.

    Raises:
        Exception: kvikio's, whatever it is.
    """
    import kvikio  # noqa: PLC0415  see `unavailable`

    return kvikio.RemoteFile.open_http(url, nbytes)


def _validator(status: os.stat_result) -> tuple[int, int]:
    """What `LocalStore` gives for a file."""
    return status.st_mtime_ns, status.st_size


def local_paths(store: Store, keys: Sequence[str]) -> list[Path | None] | None:
    """The file of each key, None for keys without an object; None where one is in no file.

    Where none is in a file nothing else is asked of the store: far ones would send a request a key.
    """
    found = {key: store.path_of(key) for key in dict.fromkeys(keys)}
    if all(path is None for path in found.values()):
        return None
    if any(path is None and store.size(key) is not None for key, path in found.items()):
        return None
    return [found[key] for key in keys]
