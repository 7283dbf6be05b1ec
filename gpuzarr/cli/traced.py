"""One read of an array, recorded: see `gpuzarr.engines.trace`."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuzarr.cli.screen import format_nbytes
from gpuzarr.cli.timeline import draw_timeline, format_seconds
from gpuzarr.engines.cpu.engine import CpuEngine, decoder_for
from gpuzarr.engines.cpu.session import CpuSession
from gpuzarr.engines.cuda.engine import CudaEngine
from gpuzarr.engines.trace import Trace, TracedEngine, chrome_events
from gpuzarr.many import make_request
from gpuzarr.pending import read_selection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuzarr.array import Array
    from gpuzarr.engines.cpu.decoder import ChunkDecoder
    from gpuzarr.engines.cpu.prepared import Frames
    from gpuzarr.engines.engine import DeviceArray, Engine, Output
    from gpuzarr.engines.trace import Span
    from gpuzarr.program import DecodeProgram


@dataclass(frozen=True, slots=True, eq=False)
class TracedRead:
    """What was read, and how."""

    result: DeviceArray
    engine: str
    device: str
    spans: list[Span]

    @property
    def stored_nbytes(self) -> int:
        """Bytes that the store gave for chunks; none of those that kvikio read."""
        return sum(span.nbytes or 0 for span in self.spans if span.kind == "read")

    @property
    def seconds(self) -> float:
        """From the first operation to the last."""
        return max(s.stop for s in self.spans) - min(s.start for s in self.spans)


SUFFIXES = (".svg", ".json")
"""Of files that `write_trace` writes: a picture, or Chrome's format, which Perfetto opens."""


def write_trace(path: Path, array: Array, key: Any, what: str) -> TracedRead:
    """Record one read, and write what it did.

    Args:
        path: the file, with one of `SUFFIXES`.
        array: what is read.
        key: which part of it.
        what: its name.
    """
    read = traced_read(array, key)
    nbytes = int(read.result.nbytes)
    name = array.name if array.path else Path(array.store.name).name or array.store.name
    title = f"{name}, {what}: {format_nbytes(nbytes)} in {format_seconds(read.seconds)}"
    where = "" if read.device == read.engine else f" on {read.device}"
    below = f"engine {read.engine}{where}; {format_nbytes(read.stored_nbytes)} stored"
    if path.suffix == ".svg":
        text = draw_timeline(read.spans, title, below)
    else:
        about = {"title": title, "engine": read.engine, "device": read.device, "nbytes": nbytes}
        text = json.dumps({**chrome_events(read.spans), "otherData": about}, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")
    return read


def traced_read(array: Array, key: Any = ...) -> TracedRead:
    """`array[key]`, recorded.

    Reads of few chunks take the way of large ones here. The session and the CPU engine's decoders
    are told of by threads, whatever is on a GPU by streams.
    """
    request = make_request(array, key)
    trace = Trace()
    engine = traced(request.source.engine, trace)
    # What is derived from a source knows its engine.
    source = replace(request.source, engine=engine, derived={})
    result = read_selection(replace(request, source=source)).result()
    return TracedRead(result, engine.name, engine.device, trace.spans())


def traced(engine: Engine, trace: Trace) -> Engine:
    """An engine like this one, whose reads are recorded."""
    if isinstance(engine, CudaEngine):
        engine = engine.traced(trace)
    elif isinstance(engine, CpuEngine):
        engine = TracedCpuEngine(engine, trace)
    return TracedEngine(engine, trace)


class TracedCpuEngine(CpuEngine):
    """The CPU engine, with decoders that note what they do."""

    def __init__(self, engine: CpuEngine, trace: Trace) -> None:
        """Work as `engine` does."""
        super().__init__(engine.threads, engine.memory_limit)
        self._trace = trace
        self._decoders: dict[int, TracedDecoder] = {}
        """By the identity of what they trace; that lives in them."""
        self._lock = threading.Lock()

    def begin(
        self,
        outputs: Sequence[Output],
        stream: object = None,
        stopped: Callable[[], bool] | None = None,
    ) -> CpuSession:
        """Start a read."""
        if stream is not None:
            return super().begin(outputs, stream, stopped)
        decoders: Any = self._decoder_for
        return CpuSession(outputs, decoders, self.threads, self.memory_limit, stopped)

    def _decoder_for(self, program: DecodeProgram, shape: tuple[int, ...]) -> TracedDecoder:
        """The same for the same decoder: sessions see by that which chunks are alike."""
        decoder = decoder_for(program, shape)
        with self._lock:
            return self._decoders.setdefault(id(decoder), TracedDecoder(decoder, self._trace))


class TracedDecoder:
    """A chunk decoder that notes what it does; what is not here is as the decoder has it."""

    def __init__(self, decoder: ChunkDecoder, trace: Trace) -> None:
        """Note what `decoder` does."""
        self._decoder = decoder
        self._trace = trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        """Of whatever batch: a thread that brings one does work of others meanwhile."""
        with self._trace.at(None), self._trace.span("decode", what):
            yield

    def decode(self, *arguments: Any) -> Any:
        """As the decoder."""
        with self._noted("a chunk"):
            return self._decoder.decode(*arguments)

    def decode_many(self, encoded: Frames, *arguments: Any) -> Any:
        """As the decoder."""
        with self._noted(f"{len(encoded)} chunks"):
            return self._decoder.decode_many(encoded, *arguments)

    def decode_spans(self, *arguments: Any) -> Any:
        """As the decoder."""
        with self._noted("a part of a chunk"):
            return self._decoder.decode_spans(*arguments)
