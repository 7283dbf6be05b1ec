"""What the engine asks of a GPU: a seam of a few calls, so that all above it runs without one.

`cupy_device.CupyDevice` is the real one. The tests have another, whose memory is NumPy's and whose
kernels are the same sources compiled for the host. Everything on the device is an address (an
integer); arrays appear only where results leave the engine.

All work is ordered on a stream; copies and launches return before it is done. Streams know nothing
of each other: `record` marks a place in the work of one, and the event that it gives is what the
host waits for, or another stream.

Memory is allocated for a stream, and given back in the order of its work: what comes next on that
stream may have it at once. So memory that another stream uses as well must be kept until the host
has seen that the other one is done with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gpuzarr.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from gpuzarr.engines.engine import DeviceArray

Stream = Any
"""A stream of the device; only the device looks into it."""

ALIGNMENT = 256
"""Device memory begins at multiples of this."""


def used_after_fork(name: str, process: int) -> DeviceError:
    """The error of a process that was forked from one that had started CUDA.

    Args:
        name: of the device.
        process: the number of the process that had started CUDA.
    """
    return DeviceError(
        f"device {name!r} cannot be used in this process: it was forked from process {process},"
        " which had started CUDA; start workers with the method 'spawn', or read with"
        ' device="cpu"'
    )


class Memory(Protocol):
    """Device memory, given back when nothing refers to it any more."""

    address: int
    nbytes: int


class PinnedMemory(Protocol):
    """Host memory that the device copies from and to; given back with the object."""

    array: NDArray[np.uint8]
    """(nbytes,) the memory itself."""


class Event(Protocol):
    """A place in a stream's work."""

    def wait(self) -> None:
        """Block until everything before it is done.

        Raises:
            DeviceError: something before it failed.
        """
        ...

    def seconds_since(self, earlier: Event) -> float:
        """Seconds on the device's clock between two events that are timed and have come."""
        ...


@dataclass(frozen=True, slots=True)
class Streams:
    """Compressed streams in device memory, as nvCOMP takes them: addresses of columns."""

    count: int
    source: int
    """(count,) uint64 addresses of the streams."""
    nbytes: int
    """(count,) uint64 bytes of each."""
    target: int
    """(count,) uint64 addresses of their outputs."""
    capacity: int
    """(count,) uint64 bytes that each output has room for."""
    actual: int
    """(count,) uint64, written: bytes that came out."""
    status: int
    """(count,) int32, written: 0, or why the stream could not be decoded."""


class Alignment(NamedTuple):
    """What addresses must be multiples of."""

    input: int
    output: int
    temp: int


class Decompressor(Protocol):
    """Batched decompression: nvCOMP."""

    version: str
    """Such as "nvCOMP 6.0.0"."""

    def __hash__(self) -> int:
        """By identity."""
        ...

    def unsupported(self, format: str) -> str | None:  # noqa: A002  the word for it
        """Why something cannot be done; None when it can.

        Args:
            format: of streams ("zstd", "lz4", "snappy", "deflate", "gzip"), or the checksum "crc32"
                or "crc32c".
        """
        ...

    def alignment(self, format: str) -> Alignment:  # noqa: A002
        """What the addresses of a format's streams, outputs and temporary memory must keep to."""
        ...

    def temp_nbytes(self, format: str, count: int, most: int, total: int) -> int:  # noqa: A002
        """Temporary memory for a call.

        Args:
            format: of the streams.
            count: streams; for zstd the blocks inside them, where those are more.
            most: bytes of the largest output.
            total: bytes of all outputs.
        """
        ...

    def decompress(  # noqa: PLR0913  a call of C
        self,
        format: str,  # noqa: A002
        streams: Streams,
        *,
        most: int,
        temp: int,
        temp_nbytes: int,
        stream: Stream,
    ) -> None:
        """Decode streams; each gets a status and an actual size.

        Raises:
            DeviceError: the call itself was refused.
        """
        ...

    def checksum(  # noqa: PLR0913  a call of C
        self,
        algorithm: str,
        *,
        source: int,
        nbytes: int,
        count: int,
        most: int,
        value: int,
        stream: Stream,
    ) -> None:
        """CRCs of `count` ranges.

        Args:
            algorithm: "crc32" or "crc32c".
            source: address of (count,) uint64 addresses.
            nbytes: address of (count,) uint64 sizes.
            count: how many.
            most: bytes of the largest.
            value: address of (count,) uint32, written.
            stream: what it is ordered on.

        Raises:
            DeviceError: the call itself was refused.
        """
        ...


class Device(Protocol):
    """One GPU."""

    name: str
    """As in `device=`: "cuda:0"."""
    product: str
    """What the GPU is sold as: "NVIDIA H100 80GB HBM3"."""
    decompressor: Decompressor
    copy_stream: Stream
    """A stream of the device's own, which waits for no other one, the default stream included: for
    what need not wait for the work of any consumer."""

    def __hash__(self) -> int:
        """By identity."""
        ...

    def as_stream(self, stream: Any) -> Stream:
        """The stream that a user means: one of this device, of another library, or an address.

        Raises:
            ValueError: it is none.
        """
        ...

    def holds(self, dtype: np.dtype[Any]) -> bool:
        """Whether arrays of this device can have the dtype."""
        ...

    def free_nbytes(self) -> int:
        """Bytes of device memory that can be allocated, about."""
        ...

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any], stream: Stream) -> DeviceArray:
        """A new C-contiguous array, not written yet, for work that is ordered on `stream`.

        Raises:
            MemoryLimitError: it does not fit.
        """
        ...

    def owns(self, array: object) -> bool:
        """Whether this is an array in this device's memory."""
        ...

    def assign(self, out: DeviceArray, values: DeviceArray, stream: Stream) -> None:
        """`out[...] = values`, ordered on the stream, and waited for."""
        ...

    def address_of(self, array: DeviceArray) -> int:
        """Address of the array's first element (index zero along every axis)."""
        ...

    def allocate(self, nbytes: int, stream: Stream) -> Memory:
        """Memory for work that is ordered on `stream`, or that waits for an event on it.

        Raises:
            MemoryLimitError: it does not fit.
        """
        ...

    def buffer(self, address: int, nbytes: int) -> Any:
        """Device memory as an object that other libraries take."""
        ...

    def pin(self, nbytes: int) -> PinnedMemory:
        """Host memory for copies."""
        ...

    def current_stream(self) -> Stream:
        """The stream that the caller's own work goes to."""
        ...

    def upload(self, source: NDArray[np.uint8], target: int, stream: Stream) -> None:
        """Copy pinned host memory to the device."""
        ...

    def download(self, source: int, target: NDArray[np.uint8], stream: Stream) -> None:
        """Copy device memory to pinned host memory."""
        ...

    def clear(self, address: int, nbytes: int, stream: Stream) -> None:
        """Fill memory with zeros."""
        ...

    def launch(
        self,
        kernel: str,
        blocks: int,
        arguments: Sequence[int],
        stream: Stream,
        constants: Mapping[str, int] | None = None,
    ) -> None:
        """Run a kernel of `kernels.KERNELS` with so many thread blocks.

        Args:
            kernel: its name.
            blocks: thread blocks, at least one.
            arguments: every one 64 bits wide: addresses and integers.
            stream: where it is ordered.
            constants: arguments that are known, by name, to compile the kernel for them.
        """
        ...

    def record(self, stream: Stream, *, timed: bool = False) -> Event:
        """Mark this place in the stream's work.

        Args:
            stream: the stream.
            timed: note when it comes; that costs a little.
        """
        ...

    def mark(self, name: str) -> AbstractContextManager[object]:
        """Name what the host does in here, for profilers: an NVTX range of this thread."""
        ...

    def wait_for(self, event: Event, stream: Stream) -> None:
        """Let all work that is put on the stream from now on wait for the event; the host goes on.

        Args:
            event: of any stream of this device.
            stream: what waits.
        """
        ...
