"""A device that counts what reads ask of it: calls, bytes, and the most memory at once."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gpuzarr.engines.choose import forget_engines
from gpuzarr.engines.cuda import availability

if TYPE_CHECKING:
    from collections.abc import Iterator


class CountedMemory:
    """Memory that says when it goes."""

    def __init__(self, device: CountedDevice, memory: Any) -> None:
        self._device = device
        self._memory = memory
        self.address, self.nbytes = memory.address, memory.nbytes

    def __del__(self) -> None:
        self._device.used -= self.nbytes


class CountedDecompressor:
    """nvCOMP, counted."""

    def __init__(self, device: CountedDevice, decompressor: Any) -> None:
        self._device = device
        self._decompressor = decompressor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decompressor, name)

    def decompress(self, *arguments: Any, **keywords: Any) -> None:
        """Count, and decompress."""
        self._device.counts["nvCOMP calls"] += 1
        self._decompressor.decompress(*arguments, **keywords)

    def checksum(self, *arguments: Any, **keywords: Any) -> None:
        """Count, and compute."""
        self._device.counts["nvCOMP calls"] += 1
        self._decompressor.checksum(*arguments, **keywords)


class CountedDevice:
    """A device around another."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.decompressor = CountedDecompressor(self, device.decompressor)
        self.counts: Counter[str] = Counter()
        self.used = self.peak = 0
        """Bytes of device memory now, and the most at once, beside results."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def allocate(self, nbytes: int, stream: Any) -> CountedMemory:
        """Count, and allocate."""
        memory = CountedMemory(self, self._device.allocate(nbytes, stream))
        self.used += memory.nbytes
        self.peak = max(self.peak, self.used)
        return memory

    def upload(self, source: Any, target: int, stream: Any) -> None:
        """Count, and copy."""
        self.counts["copies"] += 1
        self.counts["bytes up"] += source.nbytes
        self._device.upload(source, target, stream)

    def download(self, source: int, target: Any, stream: Any) -> None:
        """Count, and copy."""
        self.counts["copies"] += 1
        self.counts["bytes down"] += target.nbytes
        self._device.download(source, target, stream)

    def launch(self, *arguments: Any, **keywords: Any) -> None:
        """Count, and launch."""
        self.counts["launches"] += 1
        self._device.launch(*arguments, **keywords)


@contextmanager
def counted() -> Iterator[CountedDevice]:
    """Reads in here go to the device that is open, counted."""
    usual = availability.open_device
    device = CountedDevice(usual(None))
    forget_engines()
    availability.open_device = lambda _: device  # type: ignore[assignment,return-value]
    try:
        yield device
    finally:
        availability.open_device = usual
        forget_engines()
