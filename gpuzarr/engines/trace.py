"""What a read did, and when: operations of threads and streams, as data.

Nothing in the engines is there for it. A read is recorded by running it on wrapped things: an
engine whose sessions say where they are (`TracedEngine`), stores that note what they give, and
for the CUDA engine a device that notes what is put on its streams
(`engines.cuda.traced_device`). So a read that is not recorded pays nothing.

    trace = Trace()
    engine = TracedEngine(engine, trace)
    ...
    trace.spans()

Each operation says which ones it waited for, as far as streams, events and the host's waits order
them. On a device without a clock, that is the whole of a trace.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np

    from gpuzarr.engines.engine import DeviceArray, Engine, Output, ProgramReport, Session, Staging
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch, BatchLimits
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Blob, Buffer, Memory, Pending, ReadRow, Store, Wanted

Kind = Literal["host", "read", "decode", "upload", "decompress", "kernel", "download", "wait"]
"""What an operation is. In threads: what the session does, "host", and in it reads of the store,
decoding of chunks, and waits for the device. On streams: the others."""

Times = tuple[float, float]

CALLER = "caller"
"""The lane of the thread that began the trace; others are numbered."""


@dataclass(frozen=True, slots=True)
class Span:
    """An operation."""

    number: int
    """Operations are numbered as they were asked for."""
    kind: Kind
    name: str
    """What exactly: a key, a kernel, a format."""
    lane: str
    """The thread or the stream."""
    batch: int | None
    """The batch of the read that the session was at, counted from 0; None: none of them."""
    nbytes: int | None
    """Bytes that it moved, where that is known."""
    after: tuple[int, ...]
    """Operations that it waited for; those in turn for others."""
    start: float
    """Seconds since the trace began..."""
    stop: float
    """...and when it had ended."""


@dataclass(frozen=True, slots=True)
class _Noted:
    """An operation whose times are known later."""

    kind: Kind
    name: str
    lane: str
    batch: int | None
    nbytes: int | None
    after: tuple[int, ...]
    times: Callable[[], Times]


class Trace:
    """Operations, as they are noted by any thread."""

    def __init__(self) -> None:
        """It begins now."""
        self.zero = perf_counter()
        """When, on the clock of `time.perf_counter`."""
        self._noted: list[_Noted] = []
        self._reads: dict[int, list[int]] = {}
        self._lock = threading.Lock()
        self._here = threading.local()
        self._threads = {threading.get_ident(): CALLER}

    @property
    def batch(self) -> int | None:
        """The batch that this thread is at."""
        return getattr(self._here, "batch", None)

    @contextmanager
    def at(self, batch: int | None) -> Iterator[None]:
        """What this thread does in here belongs to a batch."""
        before, self._here.batch = self.batch, batch
        try:
            yield
        finally:
            self._here.batch = before

    def note(  # noqa: PLR0913  the columns of a span
        self,
        kind: Kind,
        name: str,
        times: Callable[[], Times],
        *,
        lane: str | None = None,
        nbytes: int | None = None,
        after: tuple[int, ...] = (),
        batch: int | None = None,
    ) -> int:
        """Note an operation; gives its number.

        Args:
            kind: of it.
            name: of it.
            times: gives its start and its end, on the clock of `time.perf_counter`, when the trace
                is looked at.
            lane: the stream; None: this thread.
            nbytes: that it moved.
            after: what it waited for.
            batch: of it; None: the one that this thread is at.
        """
        noted = _Noted(
            kind,
            name,
            self._thread() if lane is None else lane,
            self.batch if batch is None else batch,
            nbytes,
            after,
            times,
        )
        with self._lock:
            self._noted.append(noted)
            number = len(self._noted) - 1
            if kind == "read" and noted.batch is not None:
                self._reads.setdefault(noted.batch, []).append(number)
            return number

    def _thread(self) -> str:
        """The lane of this thread."""
        with self._lock:
            return self._threads.setdefault(threading.get_ident(), f"thread {len(self._threads)}")

    def reads(self) -> tuple[int, ...]:
        """The reads so far of the batch that this thread is at."""
        with self._lock:
            return () if self.batch is None else tuple(self._reads.get(self.batch, ()))

    @contextmanager
    def span(self, kind: Kind, name: str, batch: int | None = None) -> Iterator[list[int]]:
        """Note what is done in here, and the bytes that are put into the list."""
        nbytes: list[int] = []
        start = perf_counter()
        try:
            yield nbytes
        finally:
            times = start, perf_counter()
            self.note(
                kind, name, lambda: times, nbytes=sum(nbytes) if nbytes else None, batch=batch
            )

    def spans(self) -> list[Span]:
        """All operations, by number; those on a device must have ended."""
        found = []
        for number, noted in enumerate(self._noted):
            start, stop = noted.times()
            found.append(
                Span(
                    number,
                    noted.kind,
                    noted.name,
                    noted.lane,
                    noted.batch,
                    noted.nbytes,
                    noted.after,
                    start - self.zero,
                    stop - self.zero,
                )
            )
        return found


def chrome_events(spans: Sequence[Span]) -> dict[str, Any]:
    """A trace in Chrome's format, which Perfetto and chrome://tracing open.

    Times are in microseconds; what else a span has is in its "args".
    """
    lanes = {lane: number for number, lane in enumerate(dict.fromkeys(s.lane for s in spans))}
    named: list[dict[str, Any]] = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": number, "args": {"name": lane}}
        for lane, number in lanes.items()
    ]
    events = [
        {
            "name": span.name,
            "cat": span.kind,
            "ph": "X",
            "pid": 0,
            "tid": lanes[span.lane],
            "ts": 1e6 * span.start,
            "dur": 1e6 * (span.stop - span.start),
            "args": {
                "number": span.number,
                "batch": span.batch,
                "nbytes": span.nbytes,
                "after": list(span.after),
            },
        }
        for span in spans
    ]
    return {"displayTimeUnit": "ms", "traceEvents": named + events}


class TracedEngine:
    """An engine whose reads are noted; it has no shorter way for a few chunks."""

    def __init__(self, engine: Engine, trace: Trace) -> None:
        """Note what sessions of `engine` do."""
        self._engine = engine
        self._trace = trace
        self.name = engine.name
        self.device = engine.device

    def limits_for(self, program: DecodeProgram) -> BatchLimits:
        """As the engine's."""
        return self._engine.limits_for(program)

    def describe(self, program: DecodeProgram) -> ProgramReport:
        """As the engine does."""
        return self._engine.describe(program)

    def unsupported(self, program: DecodeProgram) -> tuple[str, ...]:
        """As the engine's."""
        return self._engine.unsupported(program)

    def current_stream(self) -> Any:
        """As the engine's."""
        return self._engine.current_stream()

    def empty(self, shape: Sequence[int], dtype: np.dtype, stream: Any = None) -> DeviceArray:
        """As the engine makes it."""
        return self._engine.empty(shape, dtype, stream)

    def owns(self, array: object) -> bool:
        """As the engine says."""
        return self._engine.owns(array)

    def assign(self, out: DeviceArray, values: DeviceArray, stream: Any = None) -> None:
        """As the engine does."""
        self._engine.assign(out, values, stream)

    def begin(
        self,
        outputs: Sequence[Output],
        stream: Any = None,
        stopped: Callable[[], bool] | None = None,
    ) -> TracedSession:
        """Start a read."""
        return TracedSession(self._engine.begin(outputs, stream, stopped), self._trace)


class TracedSession:
    """A session that says what it is at."""

    def __init__(self, session: Session, trace: Trace) -> None:
        """Note what `session` does."""
        self._session = session
        self._trace = trace
        self._fetched = 0
        self._batches: dict[int, int] = {}
        """Numbers of batches, by their identity; they live until they are decoded."""

    def fetch(self, program: DecodeProgram, batch: Batch, store: Store) -> Staging:
        """As the session, from a store that notes its reads."""
        number, self._fetched = self._fetched, self._fetched + 1
        self._batches[id(batch)] = number
        watched = cast("Store", WatchedStore(store, self._trace, number))
        with self._trace.at(number), self._trace.span("host", "fetch"):
            return self._session.fetch(program, batch, watched)

    def decode(self, program: DecodeProgram, batch: Batch, staging: Staging) -> None:
        """As the session."""
        with self._trace.at(self._batches.pop(id(batch))), self._trace.span("host", "decode"):
            self._session.decode(program, batch, staging)

    def fill(self, pieces: PieceTable) -> None:
        """As the session."""
        with self._trace.span("host", "fill"):
            self._session.fill(pieces)

    def scatter(self, program: DecodeProgram, batch: Batch, array: DeviceArray) -> None:
        """As the session."""
        with self._trace.span("host", "scatter"):
            self._session.scatter(program, batch, array)

    def fail(self, failures: Sequence[ChunkFailure]) -> None:
        """As the session."""
        self._session.fail(failures)

    def finish(self) -> int:
        """As the session."""
        with self._trace.span("host", "finish"):
            return self._session.finish()

    def abort(self) -> None:
        """As the session."""
        self._session.abort()


class WatchedStore:
    """A store whose reads for one batch are noted."""

    def __init__(self, store: Store, trace: Trace, batch: int) -> None:
        self._store = store
        self._trace = trace
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> WatchedReads:
        """As the store."""
        pending = self._store.start_reads(keys, offsets, nbytes)
        return WatchedReads(pending, keys, self._trace, self._batch)


class WatchedReads:
    """Reads that are noted by the thread that waits for them."""

    def __init__(self, pending: Pending, keys: Sequence[str], trace: Trace, batch: int) -> None:
        self._pending = pending
        self._keys = keys
        self._trace = trace
        self._batch = batch
        row_reader: ReadRow | None = getattr(pending, "read_row", None)
        self.read_row = None if row_reader is None else self._noting(row_reader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pending, name)

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        """As the store's, noted."""
        with self._trace.span("read", self._keys[row], self._batch) as nbytes:
            blob = self._pending.result(row, allocate)
            if blob is not None:
                nbytes.append(len(blob.data))
            return blob

    def _noting(self, read_row: ReadRow) -> ReadRow:
        def read(
            wanted: Iterable[Wanted], memory: Memory, stopped: Callable[[], bool]
        ) -> list[int]:
            with self._trace.span("read", "several ranges", self._batch) as nbytes:
                before = memory.used
                ends = read_row(wanted, memory, stopped)
                nbytes.append(memory.used - before)
                return ends

        return read
