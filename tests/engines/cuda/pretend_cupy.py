"""As much of CuPy as `cupy_device` uses, over NumPy, with kernels compiled for the host.

It does at once what a GPU does later. What it checks is that calls are made as CuPy wants them:
`test_cupy_device` holds its names against the real package.
"""

from __future__ import annotations

import ctypes
import time
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gpuzarr.engines.cuda.kernels import KERNELS
from tests.kernels.host_kernels import host_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = 2
FREE = 1 << 28


class Context:
    """Something that is entered."""

    current: list[Any]

    def __enter__(self) -> Self:
        if state.fail == "enter":
            raise CUDARuntimeError(700)
        type(self).current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        type(self).current.pop()


class Device(Context):
    current: list[Any] = []  # noqa: RUF012

    def __init__(self, number: int | None = None) -> None:
        self.id = (Device.current[-1].id if Device.current else 0) if number is None else number


class Stream(Context):
    current: list[Any] = []  # noqa: RUF012

    def __init__(self, device_id: int = -1, *, non_blocking: bool = False) -> None:
        self.ptr = id(self)
        self.device_id = Device().id if non_blocking else device_id
        self.non_blocking = non_blocking
        self.owner: Any = None

    @classmethod
    def from_external(cls, obj: Any) -> Self:
        """As CuPy has it since 14."""
        version, ptr = obj.__cuda_stream__()
        assert version == 0
        made = cls()
        made.ptr, made.owner = ptr, obj
        return made

    def synchronize(self) -> None:
        state.synchronized += 1

    def wait_event(self, event: Event) -> None:
        assert event.recorded is not None
        state.waits.append((self, event.recorded))


class ExternalStream(Context):
    current = Stream.current

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        self.ptr = ptr
        self.device_id = device_id


class Event:
    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:  # noqa: FBT001, FBT002
        assert not block
        self.timed = not disable_timing
        self.recorded: Any = None
        self.seconds = 0.0

    def record(self, stream: Any = None) -> None:
        self.recorded = stream
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        assert self.recorded is not None
        if state.fail == "synchronize":
            raise CUDARuntimeError(700)


def elapsed_time(start: Event, end: Event) -> float:
    """In milliseconds."""
    assert start.timed
    assert end.timed
    return 1e3 * (end.seconds - start.seconds)


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"cudaErrorIllegalAddress: {status}")
        self.status = status


class CUDADriverError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"CUDA_ERROR_LAUNCH_FAILED: {status}")
        self.status = status


class CompileException(Exception):  # noqa: N818  CuPy's name
    pass


class OutOfMemoryError(MemoryError):
    pass


class MemoryPointer:
    def __init__(self, memory: np.ndarray[Any, Any], stream: Any) -> None:
        self.memory = memory
        self.ptr = memory.ctypes.data
        self.stream = stream


class PinnedMemory:
    def __init__(self, size: int, flags: int = 0) -> None:
        del flags
        if state.fail == "pin":
            raise CUDARuntimeError(2)
        self.array = np.zeros(max(size, 1), np.uint8)


def pinned_pointer(mem: PinnedMemory, offset: int) -> memoryview:
    """CuPy's pointer has the buffer protocol, which classes of Python get in 3.12 only."""
    assert offset == 0
    return mem.array.data


class ndarray(np.ndarray):  # noqa: N801
    """Arrays that say where they are."""

    number = 0

    def __array_finalize__(self, base: Any) -> None:
        self.number = getattr(base, "number", 0)

    @property
    def device(self) -> Any:
        return SimpleNamespace(id=self.number)

    def get(self) -> np.ndarray[Any, Any]:
        return np.array(self)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


class RawModule:
    """A module whose kernels are the host's."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        assert "extern" in code
        assert options[0] == "--std=c++17"
        self.constants = {
            name.removeprefix("-DCONST_").lower(): int(value)
            for name, value in (option.split("=", 1) for option in options[1:])
            if name.startswith("-DCONST_")
        }
        state.compiled += 1

    def get_function(self, name: str) -> Any:
        assert name in KERNELS
        if state.fail == "compile":
            raise CompileException("line 1: no such thing")

        def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            assert all(argument.nbytes == 8 for argument in arguments)
            assert block == (256,)
            if state.fail == "launch":
                raise CUDADriverError(719)
            state.launched.append(name)
            host_kernels().launch(name, grid[0], [int(a) for a in arguments], self.constants)

        return launch


state = SimpleNamespace(
    fail="", compiled=0, launched=[], allocated=0, synchronized=0, waits=[], ranges=[]
)


def alloc(nbytes: int) -> MemoryPointer:
    if state.fail == "alloc":
        raise OutOfMemoryError(f"{nbytes} bytes")
    if state.fail == "alloc by others":
        raise MemoryError("std::bad_alloc: out_of_memory")
    assert Device.current, "allocations are made on a device"
    state.allocated += 1
    return MemoryPointer(np.full(nbytes + 256, 0xA5, np.uint8), Stream.current[-1])


def empty(shape: tuple[int, ...], dtype: Any) -> ndarray:
    if state.fail == "empty":
        raise OutOfMemoryError("no")
    array = np.empty(shape, dtype).view(ndarray)
    array.number = Device().id
    return array


def _copy(target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
    assert kind in (1, 2)
    assert isinstance(stream, int)
    ctypes.memmove(target, source, nbytes)


def _set(address: int, value: int, nbytes: int, stream: int) -> None:
    del stream
    ctypes.memset(address, value, nbytes)


def _nvrtc_version() -> tuple[int, int]:
    if state.fail == "nvrtc":
        raise RuntimeError("CuPy failed to load libnvrtc.so.13")
    return 13, 5


def _note_range(name: str) -> None:
    state.ranges.append(name)


DEFAULT = Stream()


def modules() -> Iterator[tuple[str, ModuleType]]:
    """The modules as they stand in `sys.modules`."""
    cupy = ModuleType("cupy")
    cuda = ModuleType("cupy.cuda")
    runtime = SimpleNamespace(
        memcpyHostToDevice=1,
        memcpyDeviceToHost=2,
        memcpyAsync=_copy,
        memsetAsync=_set,
        getDeviceCount=lambda: DEVICES,
        getDeviceProperties=lambda number: {"name": f"pretended GPU {number}".encode()},
        memGetInfo=lambda: (FREE, FREE),
        free=lambda _: None,
        CUDARuntimeError=CUDARuntimeError,
    )
    cuda.__dict__.update(
        Device=Device,
        Stream=Stream,
        ExternalStream=ExternalStream,
        Event=Event,
        get_elapsed_time=elapsed_time,
        PinnedMemory=PinnedMemory,
        PinnedMemoryPointer=pinned_pointer,
        alloc=alloc,
        get_current_stream=lambda: Stream.current[-1] if Stream.current else DEFAULT,
        runtime=runtime,
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
        compiler=SimpleNamespace(CompileException=CompileException),
        nvrtc=SimpleNamespace(getVersion=_nvrtc_version),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        nvtx=SimpleNamespace(
            available=True,
            RangePush=_note_range,
            RangePop=lambda: _note_range("end"),
        ),
    )
    cupy.__dict__.update(
        __version__="14.2.0",
        cuda=cuda,
        ndarray=ndarray,
        RawModule=RawModule,
        empty=empty,
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 0),
    )
    yield "cupy", cupy
    yield "cupy.cuda", cuda
