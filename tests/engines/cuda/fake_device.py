"""A device without a GPU: memory is NumPy's, kernels are the sources compiled for the host.

Work is done late: what is put on a stream runs when somebody waits for an event behind it, as on a
device that is slow, and nothing else but the order of its stream and the events that it waits for
says when. Without a seed no more is done than must be; with one, the order of several streams' work
is drawn by lot. So memory that is changed or given back too early spoils the result here, as it
would there. New memory is full of noise, and there are guards around it; what is given back is
spoilt in the order of the stream that it was allocated for, as soon as that allows. Where arguments
of a call lie in memory that is spoilt when it runs, or that another stream writes without an event
between them, it is an error, since what a kernel did with such a table would end the process.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
import weakref
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cuda.device import ALIGNMENT
from gpuzarr.engines.cuda.kernels import KERNELS
from gpuzarr.errors import DeviceError, MemoryLimitError
from tests.engines.cuda.late_nvcomp import LateNvcomp
from tests.kernels.host_kernels import host_kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Decompressor

NOISE, SPENT, GUARD = 0xA5, 0xDD, 0x5A
GUARD_NBYTES = 64
HELD_KINDS = "biufc"


_running = threading.RLock()
"""Held by whoever puts work on streams, or does it."""


@dataclass(eq=False)
class Use:
    """What is known of a piece of memory, also by calls that wait to be done."""

    is_spoilt: bool = False
    written: FakeEvent | None = None
    """When the last upload to it will be done."""


class FakeMemory:
    """Device memory; its bytes are spoilt when it is given back."""

    def __init__(self, device: FakeDevice, nbytes: int, stream: FakeStream) -> None:
        self.nbytes = nbytes
        whole = np.full(nbytes + 2 * GUARD_NBYTES + ALIGNMENT, NOISE, np.uint8)
        start = -(whole.ctypes.data + GUARD_NBYTES) % ALIGNMENT + GUARD_NBYTES
        self.bytes = whole[start : start + nbytes]
        self._guards = (whole[start - GUARD_NBYTES : start], whole[start + nbytes :][:GUARD_NBYTES])
        for guard in self._guards:
            guard[:] = GUARD
        self.address = self.bytes.ctypes.data
        self.stream = stream
        self.use = Use()
        self._device = device

    def __del__(self) -> None:
        self._device.give_back(self)

    def has_any(self, addresses: Sequence[int]) -> bool:
        return any(self.address <= each < self.address + self.nbytes for each in addresses)

    def check(self) -> None:
        """Fail where somebody wrote beside the memory."""
        for guard in self._guards:
            if (guard != GUARD).any():
                raise AssertionError("a kernel wrote beside its memory")


@dataclass(eq=False)
class FakePinned:
    array: NDArray[np.uint8]


@dataclass(eq=False)
class FakeEvent:
    """A place in a stream's work; `device` does the work."""

    device: FakeDevice
    stream: FakeStream
    place: int
    time: float = math.nan
    behind: dict[FakeStream, int] = field(default_factory=dict)

    @property
    def has_come(self) -> bool:
        return self.stream.done >= self.place

    def wait(self) -> None:
        self.device.run(self)

    def seconds_since(self, earlier: Any) -> float:
        assert self.has_come
        assert earlier.has_come
        seconds = self.time - earlier.time
        assert not math.isnan(seconds), "both are timed"
        return float(seconds)


@dataclass
class Put:
    """Something that was put on a stream."""

    work: Callable[[], None]
    after: FakeEvent | None = None
    """What it waits for besides what was put before it."""
    at_once: bool = False
    """Whether it is done as soon as it may be."""

    @property
    def is_ready(self) -> bool:
        return self.after is None or self.after.has_come


@dataclass(eq=False)
class FakeStream:
    """Work that waits to be done."""

    todo: deque[Put] = field(default_factory=deque)
    done: int = 0
    put: int = 0
    behind: dict[FakeStream, int] = field(default_factory=dict)
    """How far other streams' work is done when what is put next is."""

    def add(self, put: Put) -> None:
        with _running:
            self.todo.append(put)
            self.put += 1

    def comes_after(self, event: FakeEvent) -> bool:
        """Whether what is put next waits for an event."""
        return event.stream is self or self.behind.get(event.stream, 0) >= event.place

    def wait_for(self, event: FakeEvent) -> None:
        self.add(Put(lambda: None, after=event))
        for stream, place in {**event.behind, event.stream: event.place}.items():
            self.behind[stream] = max(self.behind.get(stream, 0), place)

    def step(self) -> None:
        """Do what comes next."""
        put = self.todo.popleft()
        self.done += 1
        put.work()

    def settle(self) -> None:
        """Do what is done at once."""
        while self.todo and self.todo[0].at_once and self.todo[0].is_ready:
            self.step()


class FakeDevice:
    """See `gpuzarr.engines.cuda.device.Device`."""

    def __init__(self, name: str = "cuda:0", free: int = 1 << 30, seed: int | None = None) -> None:
        self.name, self.product = name, "no GPU"
        self.decompressor: Decompressor = LateNvcomp(self)
        self.counts: Counter[str] = Counter()
        """How often each thing was asked for."""
        self.trace: list[str] = []
        """What was put on streams, in order."""
        self.marks: list[str] = []
        """Beginnings of ranges, and their ends."""
        self.free = free
        self.used = self.peak = self.pinned = self.peak_pinned = 0
        self.error: DeviceError | None = None
        """What ended all work, as it does where the context is lost."""
        self.copy_stream = FakeStream()
        self._lot = None if seed is None else np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._default = FakeStream()
        self._memories: weakref.WeakSet[FakeMemory] = weakref.WeakSet()
        self._streams = [self.copy_stream, self._default]
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
        self.record(stream).wait()
        out[...] = values

    def address_of(self, array: np.ndarray[Any, Any]) -> int:
        return array.ctypes.data

    # ----------------------------------------------------------------------------------- memory

    def allocate(self, nbytes: int, stream: FakeStream) -> FakeMemory:
        with self._lock:
            self.counts["allocate"] += 1
            if self.used + nbytes > self.free:
                raise MemoryLimitError(f"there are no {nbytes:,} bytes of device memory")
            self.used += nbytes
            self.peak = max(self.peak, self.used)
        memory = FakeMemory(self, nbytes, stream)
        self._memories.add(memory)
        return memory

    def give_back(self, memory: FakeMemory) -> None:
        memory.check()
        spent, use = memory.bytes, memory.use

        def spoil() -> None:
            spent[:] = SPENT
            use.is_spoilt = True

        with self._lock:
            self.used -= memory.nbytes
            self._graveyard = [*self._graveyard[-64:], spent]
        with _running:
            memory.stream.add(Put(spoil, at_once=True))
            memory.stream.settle()

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
        if stream not in self._streams:
            self._streams.append(stream)
        return stream

    def put(self, what: str, work: Callable[[], None], stream: FakeStream, *addresses: int) -> None:
        """Put work on a stream that reads or writes at some addresses, known or not."""
        with self._lock:
            self.counts[what.partition(" ")[0]] += 1
            self.trace.append(what)
        uses = [memory.use for memory in list(self._memories) if memory.has_any(addresses)]
        early = any(
            use.written and not (use.written.has_come or stream.comes_after(use.written))
            for use in uses
        )

        def unless_it_failed() -> None:
            if self.error is None:
                try:
                    _refuse(what, early=early, spoilt=any(use.is_spoilt for use in uses))
                    work()
                except DeviceError as error:
                    self.error = error

        stream.add(Put(unless_it_failed))

    def run(self, event: FakeEvent) -> None:
        """Do work until an event comes, and as much else as the lot says."""
        with _running:
            while not event.has_come:
                stream = self._next(event) if self._lot is None else self._drawn(self._lot)
                stream.step()
                for each in self._streams:
                    each.settle()
            if self.error is not None:  # a new one each time: this one would keep what waits alive
                raise DeviceError(self.error.message)

    def _next(self, event: FakeEvent) -> FakeStream:
        """The stream whose next work must be done for an event."""
        put = event.stream.todo[0]
        return event.stream if put.after is None or put.is_ready else self._next(put.after)

    def _drawn(self, lot: np.random.Generator) -> FakeStream:
        """A stream that can go on."""
        ready = [each for each in self._streams if each.todo and each.todo[0].is_ready]
        return ready[int(lot.integers(len(ready)))]

    def upload(self, source: NDArray[np.uint8], target: int, stream: FakeStream) -> None:
        def work() -> None:
            _memory(target, len(source))[:] = source

        self.put("upload", work, stream)
        for memory in list(self._memories):
            if memory.has_any([target]):
                memory.use.written = self.record(stream)

    def download(self, source: int, target: NDArray[np.uint8], stream: FakeStream) -> None:
        def work() -> None:
            target[:] = _memory(source, len(target))

        self.put("download", work, stream, source)

    def clear(self, address: int, nbytes: int, stream: FakeStream) -> None:
        def work() -> None:
            _memory(address, nbytes)[:] = 0

        self.put("clear", work, stream, address)

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

        self.put(f"launch {kernel}", work, stream, *given)

    def record(self, stream: FakeStream, *, timed: bool = False) -> FakeEvent:
        with _running:
            event = FakeEvent(self, stream, stream.put + timed, behind=dict(stream.behind))
            if timed:

                def note() -> None:
                    event.time = time.perf_counter()

                stream.add(Put(note))
            return event

    @contextmanager
    def mark(self, name: str) -> Iterator[None]:
        self.marks.append(name)
        try:
            yield
        finally:
            self.marks.append("end")

    def wait_for(self, event: Any, stream: FakeStream) -> None:
        with self._lock:
            self.counts["wait"] += 1
            self.trace.append("wait")
        stream.wait_for(event)


def _refuse(what: str, *, early: bool, spoilt: bool) -> None:
    """End work whose arguments cannot be trusted."""
    if early:
        raise DeviceError(f"{what} does not wait for an upload")
    if spoilt:
        raise DeviceError(f"{what} uses memory that was given back")


def _memory(address: int, nbytes: int) -> NDArray[np.uint8]:
    """A view of memory."""
    if not nbytes:
        return np.zeros(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
