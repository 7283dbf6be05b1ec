"""A read, hop by hop: select, plan, locate, batch, fetch, decode, finish.

`read_selection` is what `Array` calls; `read_pieces` is hops 6 to 10, where reads of many
selections enter as well. Nothing flows back: each hop takes what the hop before it gave.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.engine import Output
from gpuzarr.errors import (
    ChunkError,
    ChunkFailure,
    GpuzarrError,
    MemoryLimitError,
    StoreError,
)
from gpuzarr.locate import locate_chunks, object_keys
from gpuzarr.plan.batches import make_batches, missing_pieces
from gpuzarr.plan.chunk_table import plan_chunks
from gpuzarr.plan.ranges import MISSING, WHOLE

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from gpuzarr.engines.engine import Conversion, DeviceArray, Session, Staging
    from gpuzarr.plan.batches import Batch
    from gpuzarr.plan.chunk_table import ChunkPlan, ChunkTable, PieceTable
    from gpuzarr.plan.ranges import ByteRanges
    from gpuzarr.plan.selection import Selection
    from gpuzarr.source import ArraySource

array_log = logging.getLogger("gpuzarr.array")
store_log = logging.getLogger("gpuzarr.store")
engine_log = logging.getLogger("gpuzarr.engine")

NEVER_JOIN = -(1 << 62)
"""As `BatchLimits.gap_nbytes`: a request for each chunk."""

SHOWN_KEYS = 3
"""Objects that are named when none was found."""

SLOW_SECONDS = 10.0
"""A read that takes longer says, at INFO, where to look for the reason."""

AHEAD = 2
"""Batches whose reads are started before the one being decoded."""


def read_selection(  # noqa: PLR0913, PLR0917  as `PendingRead`
    source: ArraySource,
    selection: Selection,
    conversion: Conversion,
    out: DeviceArray | None = None,
    stopped: threading.Event | None = None,
    stream: Any = None,
) -> DeviceArray:
    """Read one selection of one array; the arguments are those of `PendingRead`.

    Returns:
        `out`, or a new C-contiguous array in native byte order.
    """
    return PendingRead(source, selection, conversion, out, stopped, stream).result()


@contextmanager
def named_errors(store: str, path: str) -> Iterator[None]:
    """Errors inside say which array they are about; lack of memory is an error of ours."""
    try:
        yield
    except GpuzarrError as error:
        error.at(store=store, path=path)
        raise
    except MemoryError as error:
        message = f"there is not enough memory for this selection: {error}"
        raise MemoryLimitError(message, store=store, path=path) from error


class PendingRead:
    """A read whose work is started; `result` waits for it, and says how it ended.

    Until then, only work that is ordered behind it on the same stream may use the output.
    """

    def __init__(  # noqa: PLR0913, PLR0917  everything that a read is made of
        self,
        source: ArraySource,
        selection: Selection,
        conversion: Conversion,
        out: DeviceArray | None = None,
        stopped: threading.Event | None = None,
        stream: Any = None,
    ) -> None:
        """Start a read.

        Args:
            source: the array.
            selection: what to read.
            conversion: from stored values to the result's.
            out: where to write; exact shape and dtype, may be strided. None: a new array.
            stopped: set by another thread to give up the read.
            stream: what the work is ordered on, on a device that has streams.
        """
        self._began = time.perf_counter()
        array_log.debug("select: %s of %s", selection.shape, source.path or "/")
        self._source = source
        self._stopped = stopped
        self._stream = stream
        if out is None:
            out = source.engine.empty(selection.shape, conversion.result)
        self._out = out
        self._shape = selection.shape
        self._view = out.reshape(selection.canonical_shape)
        itemsize = source.codecs.program.layout.dtype.itemsize
        self._plan = plan_chunks(selection, source.chunks, itemsize)
        array_log.debug("plan: %d chunks", self._plan.nchunks)
        self._outputs = (Output(self._view, source.fill, conversion),)
        self._missing = 0
        self._session: Session | None = None
        self._error: GpuzarrError | None = None
        self._done = False
        with suppress(ChunkError, StoreError):  # `result` looks whether it is worth another try
            self._session = self._start()

    def result(self) -> DeviceArray:
        """Wait for the read.

        Returns:
            The array that was read into; the same at every call.

        Raises:
            ChunkError: or one of its kinds, naming every failed chunk.
            StoreError: where the storage failed for all of them.
            DeviceError: the device failed.
        """
        if self._done:
            return self._out
        source = self._source
        with named_errors(source.store.name, source.path):
            try:
                missing = self._finish()
            except (ChunkError, StoreError) as error:
                # A writer may have replaced shards whose indexes were read before: look once more.
                # Damage that is found again shall be told of the chunks that have it, not of their
                # neighbours.
                if not source.indexes.forget(_failed_keys(error)):
                    raise
                store_log.debug("locate: reading shard indexes again after: %s", error)
                self._session = self._start(careful=True)
                missing = self._finish()
        self._done = True
        out, view = self._out, self._view
        # A reshape that could not be a view has made a copy.
        if view.size and not np.may_share_memory(view, out):
            self._source.engine.assign(out, view.reshape(self._shape), self._stream)
        self._tell(missing)
        return out

    def _start(self, *, careful: bool = False) -> Session:
        """Hops 6 to 9 for all blocks of the plan, in one session."""
        source = self._source
        session = source.engine.begin(self._outputs, self._stream)
        self._missing, self._error = 0, None
        try:
            for chunks, pieces in self._plan.blocks():
                self._missing += read_pieces(
                    source, chunks, pieces, session, self._stopped, careful=careful
                )
                if self._stopped is not None and self._stopped.is_set():
                    break
        except BaseException as error:
            self._abort(session, error)
            raise
        return session

    def _finish(self) -> int:
        """Hop 10; gives the number of chunks that are not stored."""
        session, self._session = self._session, None
        if session is None:  # it failed, when it was started or when it was waited for
            raise self._error or RuntimeError("this read was given up")
        try:
            return self._missing + session.finish()
        except BaseException as error:
            self._abort(session, error)
            raise

    def _abort(self, session: Session, error: BaseException) -> None:
        session.abort()
        if isinstance(error, GpuzarrError):
            self._error = error

    def _tell(self, missing: int) -> None:
        """Log what is worth it."""
        source = self._source
        seconds = time.perf_counter() - self._began
        engine_log.debug("finish: %d bytes in %.2f ms", self._out.nbytes, 1e3 * seconds)
        if seconds > SLOW_SECONDS:
            message = "this read of %s took %.0f s; array.explain(key) tells what it did"
            array_log.info(message, source.path or "/", seconds)
        if missing == self._plan.nchunks > 0:
            _tell_all_missing(source, self._plan)


def read_pieces(  # noqa: PLR0913  everything that a read is made of
    source: ArraySource,
    chunks: ChunkTable,
    pieces: PieceTable,
    session: Session,
    stopped: threading.Event | None = None,
    *,
    careful: bool = False,
) -> int:
    """Hops 6 to 9: find the chunks in the store, and run them through the engine in batches.

    Args:
        source: the array.
        chunks: what to fetch and decode.
        pieces: what goes where.
        session: the read that they belong to.
        stopped: set by another thread to give up the read.
        careful: check shard indexes against the sizes of their shards, and ask for each chunk
            alone, so that a damaged one takes no other with it.

    Returns:
        How many of the chunks are known not to be stored, before anything was fetched.
    """
    ranges, failures = locate_chunks(source, chunks, check_sizes=careful)
    session.fail(failures)
    missing = missing_pieces(pieces, ranges)
    nmissing = 0 if missing is None else int(missing.chunk[-1]) + 1
    store_log.debug(
        "locate: %d chunks in %d objects, %d not in them", len(chunks), len(ranges.keys), nmissing
    )
    if missing is not None:
        engine_log.debug("fill: %d chunks", nmissing)
        try:
            session.fill(missing)
        except ValueError as error:  # the fill value does not fit into the result's type
            session.fail(_fill_failures(chunks, ranges, error))
    limits = source.engine.limits_for(source.codecs.program)
    if careful:
        limits = replace(limits, gap_nbytes=NEVER_JOIN)
    ahead: list[tuple[Batch, Staging]] = []
    debug = store_log.isEnabledFor(logging.DEBUG)
    nbatches = nrequests = nbytes = nwhole = 0
    for batch in make_batches(chunks, pieces, ranges, limits):
        if stopped is not None and stopped.is_set():
            return nmissing
        ahead.append((batch, session.fetch(source.codecs.program, batch, source.store)))
        nbatches += 1
        if debug:
            nrequests += len(batch.requests)
            nbytes += sum(size for size in batch.requests.nbytes if size != WHOLE)
            nwhole += batch.requests.nbytes.count(WHOLE)
        if len(ahead) > AHEAD:
            session.decode(source.codecs.program, *ahead.pop(0))
    for pair in ahead:
        session.decode(source.codecs.program, *pair)
    array_log.debug("batch: %d batches", nbatches)
    store_log.debug("fetch: %d requests, %d bytes and %d whole objects", nrequests, nbytes, nwhole)
    engine_log.debug("decode: %d chunks", len(chunks) - nmissing)
    return nmissing


def _tell_all_missing(source: ArraySource, plan: ChunkPlan) -> None:
    """Say once that nothing was found: often the sign of a wrong path or of moved chunks."""
    if "all missing" in source.told or not array_log.isEnabledFor(logging.INFO):
        return
    source.told.add("all missing")
    keys = object_keys(source, plan.first_coords(SHOWN_KEYS))
    array_log.info(
        "none of the %d chunks of %s that were read is stored in %s, so every value is the fill"
        " value %r; looked for %s%s",
        plan.nchunks,
        source.path or "/",
        source.store.name,
        source.fill.item(),
        ", ".join(keys),
        "" if source.codecs.shard is not None else "; array.explain() looks under other keys",
    )


def _failed_keys(error: ChunkError | StoreError) -> set[str] | None:
    """The objects that an error is about; None where it names one for all."""
    if isinstance(error, StoreError):
        return None
    return {failure.key for failure in error.failures}


def _fill_failures(chunks: ChunkTable, ranges: ByteRanges, error: ValueError) -> list[ChunkFailure]:
    """The failures of all chunks that are not stored, when the fill value cannot be converted."""
    rows = np.flatnonzero(ranges.nbytes == MISSING)
    return [
        ChunkFailure(ranges.keys[key], tuple(coords), "convert the fill value", error)
        for key, coords in zip(ranges.key[rows].tolist(), chunks.coords[rows].tolist(), strict=True)
    ]
