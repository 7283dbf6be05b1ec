"""A real GPU, through CuPy: the only file that imports it.

Memory comes from the allocator that is current in CuPy, so that a user's pool (RMM's, say) is used.
Kernels are compiled by NVRTC when they are first launched, and kept on disk by CuPy.

Every call of CUDA is made `at_work`: with the GPU and the stream current, and with CUDA's errors
turned into ours.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, nullcontext
from math import prod
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

from gpuzarr.engines.cuda.device import used_after_fork
from gpuzarr.engines.cuda.interchange import CudaBuffer, LentStream, stream_address
from gpuzarr.engines.cuda.kernels import (
    KERNELS,
    THREADS,
    constant_defines,
    defines,
    source_text,
)
from gpuzarr.engines.cuda.nvcomp import Nvcomp
from gpuzarr.errors import DeviceError, GpuzarrError, MemoryLimitError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Decompressor, Stream

HELD = frozenset({*"?bBhHiIlLqQefdFD"})
"""NumPy's characters for its own dtypes that CuPy's arrays have. Types of other libraries bring
characters of their own, which may be the same."""
BUILT_IN, OTHERS = 1, 2
"""`dtype.isbuiltin` of NumPy's own types in native byte order, and of types of other libraries."""
FIRST_WITH_BFLOAT16 = 14
"""The first CuPy (its major version) whose functions know ml_dtypes' bfloat16; it has that with
NumPy 2.1.2 and later, since older ones crash."""
UPLOAD, DOWNLOAD = cupy.cuda.runtime.memcpyHostToDevice, cupy.cuda.runtime.memcpyDeviceToHost
STANDARD = "--std=c++17"
ANY_DEVICE = -1
"""CuPy's number for the GPU of streams that it did not make, and of the default ones."""
OUT_OF_MEMORY = 2
"""cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY; too much locked host memory, say."""
CUDA_ERRORS = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)


def _has_bfloat16() -> bool:
    """Whether CuPy has arrays of ml_dtypes' bfloat16."""
    major = int(cupy.__version__.partition(".")[0])
    return major >= FIRST_WITH_BFLOAT16 and np.lib.NumpyVersion(np.__version__) >= "2.1.2"


def _require_compiler() -> None:
    """Find out now, and not in the middle of a read, that kernels cannot be compiled.

    Raises:
        UnsupportedError: they cannot.
    """
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:
        raise UnsupportedError(
            "CUDA's compiler NVRTC cannot be loaded; install CUDA, or pip install"
            f" nvidia-cuda-nvrtc (for CUDA 12: nvidia-cuda-nvrtc-cu12): {error}"
        ) from error


def _not_enough(doing: str, error: Exception) -> MemoryLimitError:
    return MemoryLimitError(f"there is not enough memory to {doing}: {error}")


class CupyMemory:
    """Device memory from CuPy's current allocator."""

    __slots__ = ("_pointer", "address", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self._pointer = cupy.cuda.alloc(nbytes)
        self.address = int(self._pointer.ptr)
        self.nbytes = nbytes


class CupyPinnedMemory:
    """Page-locked host memory of its own; the slabs above it are what is pooled."""

    __slots__ = ("_memory", "array")

    def __init__(self, nbytes: int) -> None:
        self._memory = cupy.cuda.PinnedMemoryPointer(cupy.cuda.PinnedMemory(nbytes), 0)
        self.array: NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8, nbytes)


class CupyEvent:
    """See `gpuzarr.engines.cuda.device.Event`."""

    __slots__ = ("_device", "event")

    def __init__(self, device: CupyDevice, event: Any) -> None:
        self._device = device
        self.event = event
        """CuPy's."""

    def wait(self) -> None:
        """Block until everything before it is done."""
        with self._device.at_work("finish a read"):
            self.event.synchronize()

    def seconds_since(self, earlier: Any) -> float:
        """By CUDA's clock, which counts half microseconds."""
        with self._device.at_work("tell times"):
            return float(cupy.cuda.get_elapsed_time(earlier.event, self.event)) / 1e3


class Range:
    """A part of a thread's time with a name; ranges lie inside one another."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        """Begin."""
        cupy.cuda.nvtx.RangePush(self._name)

    def __exit__(self, *_: object) -> None:
        """End what was begun last."""
        cupy.cuda.nvtx.RangePop()


class CupyDevice:
    """See `gpuzarr.engines.cuda.device.Device`."""

    def __init__(self, number: int) -> None:
        """Use a GPU by its number among those that CUDA shows.

        Raises:
            UnsupportedError: there is no such GPU, or nvCOMP or CUDA's compiler is not here.
        """
        count = cupy.cuda.runtime.getDeviceCount()
        if not 0 <= number < count:
            raise UnsupportedError(f"there is no GPU of number {number}: CUDA shows {count}")
        self.number = number
        self.name = f"cuda:{number}"
        self._process = os.getpid()
        self._device = cupy.cuda.Device(number)
        self._modules: dict[object, Any] = {}
        self._lock = threading.Lock()
        with self.at_work("start"):
            cupy.cuda.runtime.free(0)  # makes the context, so that what is wrong with it shows here
            self.product = str(cupy.cuda.runtime.getDeviceProperties(number)["name"], "utf-8")
            self.decompressor: Decompressor = Nvcomp()
            # Others wait for the default stream, and it for them.
            self.copy_stream: Stream = cupy.cuda.Stream(non_blocking=True)
            _require_compiler()

    @contextmanager
    def at_work(self, doing: str, stream: Stream = None) -> Iterator[None]:
        """The GPU, and a stream, are current in here, and CUDA's errors are ours.

        Args:
            doing: what is done, for errors: "copy 5 bytes".
            stream: None: whichever is current.

        Raises:
            DeviceError: CUDA failed, or the process was forked after the device was opened.
            MemoryLimitError: there is not enough memory.
        """
        if os.getpid() != self._process:
            raise used_after_fork(self.name, self._process)
        try:
            with self._device, nullcontext() if stream is None else stream:
                yield
        except GpuzarrError:
            raise
        except MemoryError as error:  # CuPy's is one, and so is what other allocators raise
            raise _not_enough(doing, error) from error
        except CUDA_ERRORS as error:
            if getattr(error, "status", None) == OUT_OF_MEMORY:
                raise _not_enough(doing, error) from error
            raise DeviceError(
                f"{self.name} failed to {doing}: {error}; if the CUDA context is lost, nothing that"
                " is on the GPU can be used any more"
            ) from error
        except cupy.cuda.compiler.CompileException as error:
            raise DeviceError(f"CUDA's compiler failed to {doing}: {error}") from error

    # ----------------------------------------------------------------------------------- arrays

    def holds(self, dtype: np.dtype[Any]) -> bool:
        """Whether CuPy has arrays of the dtype."""
        if dtype.isbuiltin == OTHERS:
            return dtype.name == "bfloat16" and _has_bfloat16()
        return dtype.isbuiltin == BUILT_IN and dtype.char in HELD

    def free_nbytes(self) -> int:
        """What the driver has, and what CuPy's pool keeps unused."""
        with self.at_work("tell its free memory"):
            free, _ = cupy.cuda.runtime.memGetInfo()
            return int(free) + int(cupy.get_default_memory_pool().free_bytes())

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any], stream: Stream) -> Any:
        """A new array, in memory of the stream's: it is given away again in the stream's order."""
        nbytes = prod(shape) * dtype.itemsize
        with self.at_work(f"hold the result of {nbytes:,} bytes", stream):
            return cupy.empty(tuple(shape), dtype)

    def owns(self, array: object) -> bool:
        """Whether this is a CuPy array on this GPU."""
        return isinstance(array, cupy.ndarray) and int(array.device.id) == self.number

    def assign(self, out: Any, values: Any, stream: Stream) -> None:
        """Copy an array into another."""
        with self.at_work("copy a result", stream):
            out[...] = values
            stream.synchronize()

    def address_of(self, array: Any) -> int:
        """Address of the first element."""
        return int(array.data.ptr)

    # ----------------------------------------------------------------------------------- memory

    def allocate(self, nbytes: int, stream: Stream) -> CupyMemory:
        """Memory from CuPy's pool, for the stream."""
        with self.at_work(f"hold {nbytes:,} bytes for a read", stream):
            return CupyMemory(nbytes)

    def buffer(self, address: int, nbytes: int) -> CudaBuffer:
        """Device memory with the CUDA array interface."""
        return CudaBuffer(address, nbytes)

    def pin(self, nbytes: int) -> CupyPinnedMemory:
        """Page-locked memory."""
        with self.at_work(f"lock {nbytes:,} bytes of host memory"):
            return CupyPinnedMemory(nbytes)

    # ---------------------------------------------------------------------------------- streams

    def current_stream(self) -> Stream:
        """CuPy's current stream on this GPU."""
        with self.at_work("tell its current stream"):
            return cupy.cuda.get_current_stream()

    def as_stream(self, stream: Any) -> Stream:
        """CuPy's stream for what a user has.

        Args:
            stream: CuPy's own; an object with `__cuda_stream__`; one of PyTorch's or of Numba's, by
                the attribute that holds its address; or an address.

        Raises:
            ValueError: it is none of these, or of another GPU.
        """
        if isinstance(stream, (cupy.cuda.Stream, cupy.cuda.ExternalStream)):
            if stream.device_id not in (ANY_DEVICE, self.number):
                raise ValueError(
                    f"stream= belongs to cuda:{stream.device_id}, and the read is on {self.name}"
                )
            return stream
        try:
            address = stream_address(stream)
        except (TypeError, ValueError):
            raise ValueError(f"stream= is no CUDA stream: {stream!r}") from None
        from_external = getattr(cupy.cuda.Stream, "from_external", None)
        if from_external is None:  # before CuPy 14, which warns of the other way
            return cupy.cuda.ExternalStream(address, self.number)
        return from_external(LentStream(address, stream))

    def upload(self, source: NDArray[np.uint8], target: int, stream: Stream) -> None:
        """Copy pinned memory to the GPU."""
        self._copy(target, source.ctypes.data, source.nbytes, UPLOAD, stream)

    def download(self, source: int, target: NDArray[np.uint8], stream: Stream) -> None:
        """Copy from the GPU to pinned memory."""
        self._copy(target.ctypes.data, source, target.nbytes, DOWNLOAD, stream)

    def _copy(self, target: int, source: int, nbytes: int, kind: int, stream: Stream) -> None:
        with self.at_work(f"copy {nbytes:,} bytes"):
            cupy.cuda.runtime.memcpyAsync(target, source, nbytes, kind, stream.ptr)

    def clear(self, address: int, nbytes: int, stream: Stream) -> None:
        """Fill memory with zeros."""
        with self.at_work("clear memory"):
            cupy.cuda.runtime.memsetAsync(address, 0, nbytes, stream.ptr)

    def launch(
        self,
        kernel: str,
        blocks: int,
        arguments: Sequence[int],
        stream: Stream,
        constants: Mapping[str, int] | None = None,
    ) -> None:
        """Run a kernel."""
        words = tuple(np.uint64(argument & _WORD) for argument in arguments)
        with self.at_work(f"run {kernel}", stream):
            self._function(kernel, constants)((blocks,), (THREADS,), words)

    def record(self, stream: Stream, *, timed: bool = False) -> CupyEvent:
        """Mark this place in the stream's work."""
        with self.at_work("record an event"):
            event = cupy.cuda.Event(block=False, disable_timing=not timed)
            event.record(stream)
            return CupyEvent(self, event)

    def mark(self, name: str) -> AbstractContextManager[object]:
        """An NVTX range, which costs a quarter of a microsecond where nobody looks."""
        return Range(name) if cupy.cuda.nvtx.available else nullcontext()

    def wait_for(self, event: Any, stream: Stream) -> None:
        """Let the stream wait for the event."""
        with self.at_work("let a stream wait"):
            stream.wait_event(event.event)

    def _function(self, kernel: str, constants: Mapping[str, int] | None) -> Any:
        """A compiled kernel."""
        file = KERNELS[kernel].file
        key = (file, tuple(sorted((constants or {}).items())))
        with self._lock:
            module = self._modules.get(key)
            if module is None:
                values = defines() | constant_defines(constants)
                options = (STANDARD, *(f"-D{name}={value}" for name, value in values.items()))
                module = cupy.RawModule(code=source_text(file), options=options)
                self._modules[key] = module
            return module.get_function(kernel)


_WORD = (1 << 64) - 1
