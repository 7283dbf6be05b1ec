"""A real GPU, through CuPy: the only file that imports it.

Memory comes from the allocator that is current in CuPy, so that a user's pool (RMM's, say) is used.
Kernels are compiled by NVRTC when they are first launched, and kept on disk by CuPy.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

from gpuzarr.engines.cuda.kernels import (
    KERNELS,
    THREADS,
    constant_defines,
    defines,
    source_text,
)
from gpuzarr.engines.cuda.nvcomp import Nvcomp
from gpuzarr.errors import DeviceError, MemoryLimitError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Decompressor, Stream

HELD = frozenset({*"?bBhHiIlLqQefdFD"})
"""NumPy's characters for the dtypes that CuPy's arrays have."""
UPLOAD, DOWNLOAD = cupy.cuda.runtime.memcpyHostToDevice, cupy.cuda.runtime.memcpyDeviceToHost
STANDARD = "--std=c++17"


@contextmanager
def _named_errors(doing: str) -> Iterator[None]:
    """CUDA's errors as ours."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise MemoryLimitError(f"there is not enough GPU memory to {doing}: {error}") from error
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"the GPU failed to {doing}: {error}; nothing that is on it can be used any more if the"
            " CUDA context is lost"
        ) from error
    except cupy.cuda.driver.CUDADriverError as error:
        raise DeviceError(f"the GPU's driver failed to {doing}: {error}") from error


class CupyMemory:
    """Device memory from CuPy's current allocator."""

    __slots__ = ("_pointer", "address", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self._pointer = cupy.cuda.alloc(nbytes)
        self.address = int(self._pointer.ptr)
        self.nbytes = nbytes


class CudaBuffer:
    """Bytes in device memory, as numba's CUDA array interface (version 3) describes them."""

    __slots__ = ("__cuda_array_interface__",)

    def __init__(self, address: int, nbytes: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }


class CupyPinnedMemory:
    """Page-locked host memory of its own; the slabs above it are what is pooled."""

    __slots__ = ("_memory", "array")

    def __init__(self, nbytes: int) -> None:
        self._memory = cupy.cuda.PinnedMemoryPointer(cupy.cuda.PinnedMemory(nbytes), 0)
        self.array: NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8, nbytes)


class CupyEvent:
    """See `gpuzarr.engines.cuda.device.Event`."""

    __slots__ = ("_device", "_event")

    def __init__(self, device: Any, event: Any) -> None:
        self._device = device
        self._event = event

    def wait(self) -> None:
        """Block until everything before it is done."""
        with self._device, _named_errors("finish a read"):
            self._event.synchronize()


class CupyDevice:
    """See `gpuzarr.engines.cuda.device.Device`."""

    def __init__(self, number: int) -> None:
        """Use a GPU by its number among those that CUDA shows.

        Raises:
            UnsupportedError: there is no such GPU, or nvCOMP is not here.
        """
        count = cupy.cuda.runtime.getDeviceCount()
        if not 0 <= number < count:
            raise UnsupportedError(f"there is no GPU of number {number}: CUDA shows {count}")
        self.number = number
        self.name = f"cuda:{number}"
        self._device = cupy.cuda.Device(number)
        with self._device, _named_errors("start"):
            cupy.cuda.runtime.free(0)  # makes the context, so that what is wrong with it shows here
            self.decompressor: Decompressor = Nvcomp()
        self._modules: dict[object, Any] = {}
        self._lock = threading.Lock()

    # ----------------------------------------------------------------------------------- arrays

    def holds(self, dtype: np.dtype[Any]) -> bool:
        """Whether CuPy has arrays of the dtype."""
        return dtype.char in HELD and dtype.isnative

    def free_nbytes(self) -> int:
        """What the driver has, and what CuPy's pool keeps unused."""
        with self._device, _named_errors("tell its free memory"):
            free, _ = cupy.cuda.runtime.memGetInfo()
            return int(free) + int(cupy.get_default_memory_pool().free_bytes())

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """A new array."""
        nbytes = prod(shape) * dtype.itemsize
        with self._device, _named_errors(f"hold the result of {nbytes:,} bytes"):
            return cupy.empty(tuple(shape), dtype)

    def owns(self, array: object) -> bool:
        """Whether this is a CuPy array on this GPU."""
        return isinstance(array, cupy.ndarray) and int(array.device.id) == self.number

    def assign(self, out: Any, values: Any, stream: Stream) -> None:
        """Copy an array into another."""
        with self._device, stream, _named_errors("copy a result"):
            out[...] = values
            stream.synchronize()

    def address_of(self, array: Any) -> int:
        """Address of the first element."""
        return int(array.data.ptr)

    # ----------------------------------------------------------------------------------- memory

    def allocate(self, nbytes: int, stream: Stream) -> CupyMemory:
        """Memory from CuPy's pool, for the stream."""
        with self._device, stream, _named_errors(f"hold {nbytes:,} bytes for a read"):
            return CupyMemory(nbytes)

    def buffer(self, address: int, nbytes: int) -> CudaBuffer:
        """Device memory with the CUDA array interface."""
        return CudaBuffer(address, nbytes)

    def pin(self, nbytes: int) -> CupyPinnedMemory:
        """Page-locked memory."""
        with self._device, _named_errors(f"lock {nbytes:,} bytes of host memory"):
            return CupyPinnedMemory(nbytes)

    # ---------------------------------------------------------------------------------- streams

    def current_stream(self) -> Stream:
        """CuPy's current stream on this GPU."""
        with self._device:
            return cupy.cuda.get_current_stream()

    def as_stream(self, stream: Any) -> Stream:
        """CuPy's stream for what a user has.

        Args:
            stream: CuPy's own; one of PyTorch's or of Numba's, by the attribute that holds its
                address; an object with `__cuda_stream__`; or an address.

        Raises:
            ValueError: it is none of these.
        """
        if isinstance(stream, (cupy.cuda.Stream, cupy.cuda.ExternalStream)):
            return stream
        address: Any = stream
        if hasattr(stream, "__cuda_stream__"):
            pair = stream.__cuda_stream__
            address = (pair() if callable(pair) else pair)[1]
        else:
            for name in ("cuda_stream", "ptr", "handle"):
                address = getattr(stream, name, address)
        try:
            return cupy.cuda.ExternalStream(int(address), self.number)
        except (TypeError, ValueError):
            raise ValueError(f"stream= is no CUDA stream: {stream!r}") from None

    def upload(self, source: NDArray[np.uint8], target: int, stream: Stream) -> None:
        """Copy pinned memory to the GPU."""
        self._copy(target, source.ctypes.data, source.nbytes, UPLOAD, stream)

    def download(self, source: int, target: NDArray[np.uint8], stream: Stream) -> None:
        """Copy from the GPU to pinned memory."""
        self._copy(target.ctypes.data, source, target.nbytes, DOWNLOAD, stream)

    def _copy(self, target: int, source: int, nbytes: int, kind: int, stream: Stream) -> None:
        with self._device, _named_errors(f"copy {nbytes:,} bytes"):
            cupy.cuda.runtime.memcpyAsync(target, source, nbytes, kind, stream.ptr)

    def clear(self, address: int, nbytes: int, stream: Stream) -> None:
        """Fill memory with zeros."""
        with self._device, _named_errors("clear memory"):
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
        with self._device, stream, _named_errors(f"run {kernel}"):
            self._function(kernel, constants)((blocks,), (THREADS,), words)

    def record(self, stream: Stream) -> CupyEvent:
        """Mark this place in the stream's work."""
        with self._device, _named_errors("record an event"):
            event = cupy.cuda.Event(block=False, disable_timing=True)
            event.record(stream)
            return CupyEvent(self._device, event)

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
