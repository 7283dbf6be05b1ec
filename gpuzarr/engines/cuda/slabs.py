"""Host memory for copies to and from the device: few large slabs, used over and over.

Pinning memory costs milliseconds, so slabs go back to a pool when the device has copied them. The
pool keeps a bounded number of bytes for the next reads; one pool serves all reads of a device.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Device, PinnedMemory

KEPT_NBYTES = 1 << 29
"""Bytes of slabs that the pool keeps while no read uses them."""
GRAIN = 1 << 12
"""Slabs are multiples of this..."""
STEPS_AN_OCTAVE = 8
"""...and of an eighth of the power of two below them, so that one fits the next read as well."""


def slab_nbytes(nbytes: int) -> int:
    """The size of the slab that so many bytes get.

    >>> slab_nbytes(1), slab_nbytes(1_000_000)
    (4096, 1048576)
    """
    step = max(GRAIN, (1 << max(nbytes, 1).bit_length() - 1) // STEPS_AN_OCTAVE)
    return max(1, -(-nbytes // step)) * step


class Slab:
    """Pinned memory, lent by a pool."""

    __slots__ = ("_memory", "_pool", "array")

    def __init__(self, pool: SlabPool, memory: PinnedMemory, nbytes: int) -> None:
        self._pool = pool
        self._memory: PinnedMemory | None = memory
        self.array: NDArray[np.uint8] = memory.array[:nbytes]

    @property
    def nbytes(self) -> int:
        """Bytes of host memory that it takes."""
        return 0 if self._memory is None else len(self._memory.array)

    def give_back(self) -> None:
        """Let the next read have it; nobody may use the array any more."""
        memory, self._memory = self._memory, None
        if memory is not None:
            self._pool.put(memory)


class SlabPool:
    """The slabs of one device."""

    def __init__(self, device: Device, kept_nbytes: int = KEPT_NBYTES) -> None:
        """Start with none.

        Args:
            device: what the slabs are copied to.
            kept_nbytes: bytes to keep while no read uses them.
        """
        self._device = device
        self._kept_nbytes = kept_nbytes
        self._lock = threading.Lock()
        self._free: list[PinnedMemory] = []
        self.lent_nbytes = 0
        """Bytes of slabs that reads have now..."""
        self.peak_nbytes = 0
        """...and the most that they ever had."""

    def take(self, nbytes: int) -> Slab:
        """A slab of `nbytes`."""
        size = slab_nbytes(nbytes)
        with self._lock:
            self.lent_nbytes += size
            self.peak_nbytes = max(self.peak_nbytes, self.lent_nbytes)
            # The newest first: it is likely to be in the cache.
            for place in range(len(self._free) - 1, -1, -1):
                if len(self._free[place].array) == size:
                    return Slab(self, self._free.pop(place), nbytes)
        return Slab(self, self._device.pin(size), nbytes)

    def put(self, memory: PinnedMemory) -> None:
        """Take back what `take` lent; the oldest slabs go where there are too many."""
        with self._lock:
            self.lent_nbytes -= len(memory.array)
            self._free.append(memory)
            while sum(len(free.array) for free in self._free) > self._kept_nbytes:
                self._free.pop(0)
