"""A GPU to measure on, or the fake one: memory, copies, and times that wait for the device.

Arrays on the device are CuPy's; on the fake device they are NumPy's, so that the same lines run
there. Times of the fake device mean nothing.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.choose import forget_engines
from gpuzarr.engines.cuda import availability
from gpuzarr.engines.cuda.slabs import SlabPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Device

KIB, MIB, GIB, GB = 1 << 10, 1 << 20, 1 << 30, 1e9
MOST_REPEATS = 20


@dataclass(frozen=True)
class Size:
    """How much is moved, and how often."""

    copy: int
    """Bytes of copies."""
    decoded: int
    """Bytes that nvCOMP decodes, and that checksums are of."""
    kernel: int
    """Bytes of the larger side of what a kernel alone does."""
    rounds: int
    short_rounds: int
    """Of reads that give little."""
    sample: float
    """Seconds that a sample lasts at least: what is shorter is repeated, and waited for once."""
    small: bool = False
    """Whether workloads are small: to see that they run."""


REAL = Size(GIB, 256 * MIB, 512 * MIB, 9, 45, 4e-3)
FAKE = Size(2 * MIB, MIB, 16 * KIB, 1, 1, 0.0, small=True)


class LostDeviceError(BaseException):
    """The device cannot be used in this process any more, whatever is tried next."""


@dataclass
class Bench:
    """A device, and what every measurement needs of it."""

    device: Device
    size: Size
    real: bool
    xp: Any = field(init=False)
    """CuPy, or NumPy on the fake device."""

    def __post_init__(self) -> None:
        """Find the stream, and a pool of pinned memory."""
        self.xp = np
        if self.real:
            import cupy  # noqa: PLC0415  there is none on the fake device

            self.xp = cupy
        self.stream = self.device.current_stream()
        self.pool = SlabPool(self.device)
        self._pinned: NDArray[np.uint8] = np.empty(0, np.uint8)

    # ------------------------------------------------------------------------------- waiting

    def wait(self) -> None:
        """Until the device has done what is on the stream."""
        self.device.record(self.stream).wait()

    def settle(self) -> None:
        """Until the device has done everything, on whichever stream others put it."""
        if self.real:
            self.xp.cuda.Device().synchronize()
        self.wait()

    def require_device(self) -> None:
        """Find out whether an error has ended more than the work that it came from.

        Raises:
            LostDeviceError: it has.
        """
        try:
            self.settle()
        except Exception as error:
            raise LostDeviceError(str(error)) from error

    def seconds(self, start: Callable[[], object], *, repeats: int | None = None) -> float:
        """The median time of work that is put on the stream; an untimed run goes first.

        Args:
            start: puts it there.
            repeats: how often before the device is waited for; None: so often that a sample is
                long enough for the wait not to count.
        """
        start()
        self.wait()
        if repeats is None:
            once = self._sample(start, 1) if self.size.sample else 1.0
            repeats = min(MOST_REPEATS, max(1, math.ceil(self.size.sample / once)))
        return statistics.median(self._sample(start, repeats) for _ in range(self.size.rounds))

    def _sample(self, start: Callable[[], object], repeats: int) -> float:
        begin = time.perf_counter()
        for _ in range(repeats):
            start()
        self.wait()
        return (time.perf_counter() - begin) / repeats

    # -------------------------------------------------------------------------------- memory

    def memory(self, nbytes: int) -> Any:
        """Device memory for as long as it is referred to."""
        return self.device.allocate(nbytes, self.stream)

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Pinned memory that all who ask for it share."""
        if len(self._pinned) < nbytes:
            self._pinned = self.device.pin(nbytes).array
        return self._pinned[:nbytes]

    def put(self, data: NDArray[Any], target: int) -> None:
        """Copy bytes to the device, and wait."""
        flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        slab = self.pool.take(flat.nbytes)
        slab.array[:] = flat
        self.device.upload(slab.array, target, self.stream)
        self.wait()
        slab.give_back()

    def get(self, source: int, nbytes: int) -> NDArray[np.uint8]:
        """A copy of bytes from the device."""
        slab = self.pool.take(nbytes)
        self.device.download(source, slab.array, self.stream)
        self.wait()
        found = slab.array.copy()
        slab.give_back()
        return found

    def table(self, *columns: Any, room: int = 0) -> tuple[Any, list[int], int]:
        """Columns of 64-bit numbers on the device.

        Returns:
            the memory, the address of each column, and that of `room` more bytes behind them.
        """
        words = [np.atleast_1d(np.asarray(column, np.int64)) for column in columns]
        joined = np.concatenate(words)
        memory = self.memory(joined.nbytes + room + 64)
        self.put(joined, memory.address)
        ends = memory.address + 8 * np.cumsum([len(column) for column in words])
        places = [memory.address, *ends[:-1].tolist()]
        return memory, places, int(ends[-1])

    # -------------------------------------------------------------------------------- arrays

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        """A new array on the device."""
        return self.device.empty(shape, dtype, self.stream)

    def upload(self, pinned: NDArray[Any]) -> Any:
        """A new array on the device, with what is in pinned memory; copied when this returns."""
        array = self.empty(pinned.shape, pinned.dtype)
        flat = pinned.reshape(-1).view(np.uint8)
        self.device.upload(flat, self.device.address_of(array), self.stream)
        self.wait()
        return array

    def same(self, result: Any, truth: NDArray[Any]) -> bool:
        """Whether an array on the device holds this."""
        if (result.shape, result.dtype) != (truth.shape, truth.dtype):
            return False
        return bool(self.xp.array_equal(result, self.xp.asarray(truth)))

    def give_back(self) -> None:
        """Memory that nobody uses goes back to the driver, so that each row begins alike."""
        forget_engines()
        self.pool = SlabPool(self.device)
        self._pinned = np.empty(0, np.uint8)
        if self.real:
            self.settle()
            self.xp.get_default_memory_pool().free_all_blocks()


def open_bench(*, fake: bool) -> Bench:
    """The GPU of this machine, or the fake one in its place."""
    if fake:
        from tests.engines.cuda.fake_device import FakeDevice  # noqa: PLC0415

        stand_in = FakeDevice(free=1 << 32)
        availability.open_device = lambda _: stand_in
    return Bench(availability.open_device(None), FAKE if fake else REAL, not fake)
