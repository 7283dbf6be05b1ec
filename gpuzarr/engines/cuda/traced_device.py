"""A device that notes what is put on its streams: what, when, and what it waits for.

Work on one stream is done in order. It waits for another stream where it was told to, and for all
that the host had waited for before it put it there: reads, before the upload of what they brought,
and the device. On a GPU each operation stands between two
events, whose times are asked for when the trace is looked at.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Decompressor, Device, Event, Stream, Streams
    from gpuzarr.engines.trace import Kind, Times, Trace

COPIES = "copies"
"""The lane of the device's stream for copies; others are numbered."""


@dataclass(slots=True)
class _Lane:
    """What is known of a stream."""

    name: str
    last: tuple[int, ...] = ()
    """What the next operation on it waits for: the one before, and what it was told to."""


@dataclass(frozen=True, slots=True, eq=False)
class TracedEvent:
    """An event that knows what comes before it."""

    event: Event
    device: TracedDevice
    after: tuple[int, ...]

    def wait(self) -> None:
        """As the event, noted."""
        start = perf_counter()
        self.event.wait()
        times = start, perf_counter()
        self.device.has_waited(self.after, times)


class TracedDecompressor:
    """nvCOMP, noted."""

    def __init__(self, decompressor: Decompressor, device: TracedDevice) -> None:
        self._decompressor = decompressor
        self._device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decompressor, name)

    def decompress(self, format: str, streams: Streams, *, stream: Stream, **sizes: int) -> None:  # noqa: A002
        """As nvCOMP."""
        with self._device.noted("decompress", f"{format}, {streams.count:,} streams", stream):
            self._decompressor.decompress(format, streams, stream=stream, **sizes)

    def checksum(self, algorithm: str, *, stream: Stream, **columns: int) -> None:
        """As nvCOMP."""
        with self._device.noted("kernel", algorithm, stream):
            self._decompressor.checksum(algorithm, stream=stream, **columns)


@dataclass(eq=False)
class TracedDevice:
    """See `gpuzarr.engines.cuda.device.Device`; what is not here is as the device has it."""

    device: Device
    trace: Trace
    _lanes: dict[Stream, _Lane] = field(default_factory=dict)
    _waited: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By thread the last time that it waited."""

    def __post_init__(self) -> None:
        """Find out what the device's clock shows now."""
        self.decompressor = TracedDecompressor(self.device.decompressor, self)
        self._lanes[self.device.copy_stream] = _Lane(COPIES)
        self._origin = self.device.record(self.device.copy_stream, timed=True)
        self._origin.wait()
        self._zero = perf_counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.device, name)

    @contextmanager
    def noted(
        self, kind: Kind, name: str, stream: Stream, nbytes: int | None = None
    ) -> Iterator[None]:
        """Note what is put on a stream in here."""
        begin = self.device.record(stream, timed=True)
        yield
        end = self.device.record(stream, timed=True)

        def times() -> Times:
            start = self._zero + begin.seconds_since(self._origin)
            return start, start + end.seconds_since(begin)

        lane = self._lane(stream)
        host = self._waited.get(threading.get_ident(), ())
        reads = self.trace.reads() if kind == "upload" else ()
        after = tuple(dict.fromkeys(lane.last + host + reads))
        number = self.trace.note(kind, name, times, lane=lane.name, nbytes=nbytes, after=after)
        lane.last = (number,)

    def has_waited(self, after: tuple[int, ...], times: Times) -> None:
        """Note that this thread has waited for the device."""
        number = self.trace.note("wait", "for the device", lambda: times, after=after)
        self._waited[threading.get_ident()] = (number,)

    def _lane(self, stream: Stream) -> _Lane:
        return self._lanes.setdefault(stream, _Lane(f"stream {len(self._lanes)}"))

    # ---------------------------------------------------------------------------- noted calls

    def upload(self, source: NDArray[np.uint8], target: int, stream: Stream) -> None:
        """As the device."""
        with self.noted("upload", "to the device", stream, source.nbytes):
            self.device.upload(source, target, stream)

    def download(self, source: int, target: NDArray[np.uint8], stream: Stream) -> None:
        """As the device."""
        with self.noted("download", "from the device", stream, target.nbytes):
            self.device.download(source, target, stream)

    def clear(self, address: int, nbytes: int, stream: Stream) -> None:
        """As the device."""
        with self.noted("kernel", "clear", stream, nbytes):
            self.device.clear(address, nbytes, stream)

    def launch(
        self,
        kernel: str,
        blocks: int,
        arguments: Sequence[int],
        stream: Stream,
        constants: Mapping[str, int] | None = None,
    ) -> None:
        """As the device."""
        with self.noted("kernel", kernel, stream):
            self.device.launch(kernel, blocks, arguments, stream, constants)

    def record(self, stream: Stream) -> TracedEvent:
        """As the device."""
        event = self.device.record(stream)
        return TracedEvent(event, self, self._lane(stream).last)

    def wait_for(self, event: TracedEvent, stream: Stream) -> None:
        """As the device."""
        self.device.wait_for(event.event, stream)
        lane = self._lane(stream)
        lane.last = tuple(dict.fromkeys(lane.last + event.after))
