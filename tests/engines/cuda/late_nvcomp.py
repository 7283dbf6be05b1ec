"""nvCOMP's double on the fake device: it works when its turn on the stream has come."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from tests.engines.cuda.fake_nvcomp import FakeNvcomp

if TYPE_CHECKING:
    from gpuzarr.engines.cuda.device import Streams
    from tests.engines.cuda.fake_device import FakeDevice


class LateNvcomp(FakeNvcomp):
    """nvCOMP's calls, put on streams like everything else."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()
        self._device = device

    def decompress(self, format: str, streams: Streams, *, stream: Any, **sizes: int) -> None:  # noqa: A002
        def work() -> None:
            super(LateNvcomp, self).decompress(format, streams, stream=stream, **sizes)

        self._device.put(f"decompress {format}", work, stream, *astuple(streams))

    def checksum(self, algorithm: str, *, stream: Any, **columns: int) -> None:
        def work() -> None:
            super(LateNvcomp, self).checksum(algorithm, stream=stream, **columns)

        self._device.put(f"checksum {algorithm}", work, stream, *columns.values())
