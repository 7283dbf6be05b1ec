"""A device without a GPU: memory is NumPy's, kernels are the sources compiled for the host.

Work is done late: what is put on a stream runs when somebody waits for an event behind it, as on a
device that is slow. So memory that is changed or given back too early spoils the result here, as
it would there. New memory is full of noise, and there are guards around it.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cuda.device import ALIGNMENT
from gpuzarr.engines.cuda.kernels import KERNELS
from gpuzarr.errors import DeviceError, MemoryLimitError
from tests.engines.cuda.fake_nvcomp import FakeNvcomp
from tests.kernels.host_kernels import host_kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Decompressor, Streams

NOISE, SPENT, GUARD = 0xA5, 0xDD, 0x5A
GUARD_NBYTES = 64
HELD_KINDS = "biufc"


class FakeMemory:
    """Device memory; its bytes are spoilt when it is given back."""

    def __init__(self, device: FakeDevice, nbytes: int) -> None:
        self.nbytes = nbytes
        whole = np.full(nbytes + 2 * GUARD_NBYTES + ALIGNMENT, NOISE, np.uint8)
        start = -(whole.ctypes.data + GUARD_NBYTES) % ALIGNMENT + GUARD_NBYTES
        self.bytes = whole[start : start + nbytes]
        self._guards = (whole[start - GUARD_NBYTES : start], whole[start + nbytes :][:GUARD_NBYTES])
        for guard in self._guards:
            guard[:] = GUARD
        self.address = self.bytes.ctypes.data
        self._device = device

    def __del__(self) -> None:
        self._device.give_back(self)

    def check(self) -> None:
        """Fail where somebody wrote beside the memory."""
        for guard in self._guards:
            if (guard != GUARD).any():
                raise AssertionError("a kernel wrote beside its memory")


@dataclass(eq=False)
class FakePinned:
    array: NDArray[np.uint8]


@dataclass(eq=False)
class FakeStream:
    """Work that waits to be done."""

    todo: deque[Callable[[], None]] = field(default_factory=deque)
    lock: threading.RLock = field(default_factory=threading.RLock)
    done: int = 0
    put: int = 0
    error: DeviceError | None = None

    def add(self, work: Callable[[], None]) -> None:
        with self.lock:
            self.todo.append(work)
            self.put += 1

    def run(self, until: int) -> None:
        with self.lock:
            while self.done < until:
                work = self.todo.popleft()
                self.done += 1
                if self.error is None:
                    try:
                        work()
                    except DeviceError as error:
                        self.error = error
            if self.error is not None:
                raise self.error


@dataclass(eq=False)
class FakeEvent:
    stream: FakeStream
    place: int

    def wait(self) -> None:
        self.stream.run(self.place)


class FakeDevice:
    """See `gpuzarr.engines.cuda.device.Device`."""

    def __init__(self, name: str = "cuda:0", free: int = 1 << 30) -> None:
        self.name = name
        self.decompressor: Decompressor = LateNvcomp(self)
        self.counts: Counter[str] = Counter()
        """How often each thing was asked for."""
        self.trace: list[str] = []
        """What was put on streams, in order."""
        self.free = free
        self.used = self.peak = self.pinned = self.peak_pinned = 0
        self._lock = threading.Lock()
        self._default = FakeStream()
        self._graveyard: list[NDArray[np.uint8]] = []

    # ----------------------------------------------------------------------------------- arrays

    def holds(self, dtype: np.dtype[Any]) -> bool:
        return (
            dtype.kind in HELD_KINDS and dtype.type.__module__ == "numpy" and dtype.itemsize <= 16
        )

    def free_nbytes(self) -> int:
        return self.free - self.used

    def empty(
        self, shape: Sequence[int], dtype: np.dtype[Any], stream: FakeStream
    ) -> np.ndarray[Any, Any]:
        del stream
        nbytes = prod(shape) * dtype.itemsize
        if nbytes > self.free:
            raise MemoryLimitError(f"the result needs {nbytes:,} bytes of device memory")
        return np.full(nbytes, NOISE, np.uint8).view(dtype).reshape(tuple(shape))

    def owns(self, array: object) -> bool:
        return isinstance(array, np.ndarray)

    def assign(
        self, out: np.ndarray[Any, Any], values: np.ndarray[Any, Any], stream: FakeStream
    ) -> None:
        stream.run(stream.put)
        out[...] = values

    def address_of(self, array: np.ndarray[Any, Any]) -> int:
        return array.ctypes.data

    # ----------------------------------------------------------------------------------- memory

    def allocate(self, nbytes: int, stream: FakeStream) -> FakeMemory:
        del stream
        with self._lock:
            self.counts["allocate"] += 1
            if self.used + nbytes > self.free:
                raise MemoryLimitError(f"there are no {nbytes:,} bytes of device memory")
            self.used += nbytes
            self.peak = max(self.peak, self.used)
        return FakeMemory(self, nbytes)

    def give_back(self, memory: FakeMemory) -> None:
        memory.check()
        memory.bytes[:] = SPENT
        with self._lock:
            self.used -= memory.nbytes
            self._graveyard = [*self._graveyard[-64:], memory.bytes]

    def buffer(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        return _memory(address, nbytes)

    def pin(self, nbytes: int) -> FakePinned:
        with self._lock:
            self.counts["pin"] += 1
            self.pinned += nbytes
            self.peak_pinned = max(self.peak_pinned, self.pinned)
        return FakePinned(np.full(nbytes, NOISE, np.uint8))

    # ---------------------------------------------------------------------------------- streams

    def current_stream(self) -> FakeStream:
        return self._default

    def as_stream(self, stream: Any) -> FakeStream:
        assert isinstance(stream, FakeStream)
        return stream

    def put(self, what: str, work: Callable[[], None], stream: FakeStream) -> None:
        with self._lock:
            self.counts[what.partition(" ")[0]] += 1
            self.trace.append(what)
        stream.add(work)

    def upload(self, source: NDArray[np.uint8], target: int, stream: FakeStream) -> None:
        def work() -> None:
            _memory(target, len(source))[:] = source

        self.put("upload", work, stream)

    def download(self, source: int, target: NDArray[np.uint8], stream: FakeStream) -> None:
        def work() -> None:
            target[:] = _memory(source, len(target))

        self.put("download", work, stream)

    def clear(self, address: int, nbytes: int, stream: FakeStream) -> None:
        def work() -> None:
            _memory(address, nbytes)[:] = 0

        self.put("clear", work, stream)

    def launch(
        self,
        kernel: str,
        blocks: int,
        arguments: Sequence[int],
        stream: FakeStream,
        constants: Mapping[str, int] | None = None,
    ) -> None:
        assert blocks >= 1
        assert set(constants or ()) <= set(KERNELS[kernel].constants)
        given = [int(argument) for argument in arguments]

        def work() -> None:
            host_kernels().launch(kernel, blocks, given)

        self.put(f"launch {kernel}", work, stream)

    def record(self, stream: FakeStream) -> FakeEvent:
        return FakeEvent(stream, stream.put)


class LateNvcomp(FakeNvcomp):
    """nvCOMP's calls, put on streams like everything else."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()
        self._device = device

    def decompress(self, format: str, streams: Streams, *, stream: Any, **sizes: int) -> None:  # noqa: A002
        def work() -> None:
            super(LateNvcomp, self).decompress(format, streams, stream=stream, **sizes)

        self._device.put(f"decompress {format}", work, stream)

    def checksum(self, algorithm: str, *, stream: Any, **columns: int) -> None:
        def work() -> None:
            super(LateNvcomp, self).checksum(algorithm, stream=stream, **columns)

        self._device.put(f"checksum {algorithm}", work, stream)


def _memory(address: int, nbytes: int) -> NDArray[np.uint8]:
    """A view of memory."""
    if not nbytes:
        return np.zeros(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
