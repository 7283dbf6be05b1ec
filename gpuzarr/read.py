"""A read, hop by hop: select, plan, locate, batch, fetch, decode, finish.

`read_selection` is what `Array` calls; `read_pieces` is hops 6 to 10, where reads of many
selections enter as well. Nothing flows back: each hop takes what the hop before it gave.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.engine import Output
from gpuzarr.errors import ChunkError, StoreError
from gpuzarr.locate import locate_chunks
from gpuzarr.plan.batches import make_batches, missing_pieces
from gpuzarr.plan.chunk_table import plan_chunks

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

    from gpuzarr.engines.engine import Conversion, DeviceArray, Session
    from gpuzarr.plan.batches import Batch
    from gpuzarr.plan.chunk_table import ChunkTable, PieceTable
    from gpuzarr.plan.selection import Selection
    from gpuzarr.source import ArraySource
    from gpuzarr.stores.store import Pending

log = logging.getLogger("gpuzarr.engine")

AHEAD = 2
"""Batches whose reads are started before the one being decoded."""


def read_selection(
    source: ArraySource,
    selection: Selection,
    conversion: Conversion,
    out: DeviceArray | None = None,
    stopped: threading.Event | None = None,
) -> DeviceArray:
    """Read one selection of one array.

    Args:
        source: the array.
        selection: what to read.
        conversion: from stored values to the result's.
        out: where to write; exact shape and dtype, may be strided. None: a new array.
        stopped: set by another thread to give up the read.

    Returns:
        `out`, or a new C-contiguous array in native byte order.
    """
    if out is None:
        out = source.engine.empty(selection.shape, conversion.result)
    view = out.reshape(selection.canonical_shape)
    shares = view.size == 0 or np.may_share_memory(view, out)
    plan = plan_chunks(selection, source.chunks, source.codecs.program.layout.dtype.itemsize)
    log.debug("plan: %d chunks of %s", plan.nchunks, source.path or "/")
    outputs = (Output(view, source.fill, conversion),)
    try:
        _read_blocks(source, plan.blocks(), outputs, stopped)
    except (ChunkError, StoreError) as error:
        # A writer may have replaced shards whose indexes were read before: look once more.
        keys = (
            {failure.key for failure in error.failures}
            if isinstance(error, ChunkError)
            else {error.key or ""}
        )
        if not source.indexes.forget(keys):
            raise
        log.debug("locate: reading the indexes of %d shards again after: %s", len(keys), error)
        _read_blocks(source, plan.blocks(), outputs, stopped)
    if not shares:
        out[...] = view.reshape(selection.shape)
    return out


def _read_blocks(
    source: ArraySource,
    blocks: Iterable[tuple[ChunkTable, PieceTable]],
    outputs: tuple[Output, ...],
    stopped: threading.Event | None,
) -> None:
    """Hops 6 to 10 for all blocks of a plan, in one session."""
    session = source.engine.begin(outputs)
    try:
        for chunks, pieces in blocks:
            read_pieces(source, chunks, pieces, session, stopped)
            if stopped is not None and stopped.is_set():
                break
        session.finish()
    except BaseException as error:
        session.abort()
        if isinstance(error, (ChunkError, StoreError)):
            error.at(store=source.store.name, path=source.path)
        raise


def read_pieces(
    source: ArraySource,
    chunks: ChunkTable,
    pieces: PieceTable,
    session: Session,
    stopped: threading.Event | None = None,
) -> None:
    """Hops 6 to 9: find the chunks in the store, and run them through the engine in batches."""
    ranges, failures = locate_chunks(source, chunks)
    session.fail(failures)
    missing = missing_pieces(pieces, ranges)
    if missing is not None:
        session.fill(missing)
    ahead: list[tuple[Batch, Pending]] = []
    count = 0
    for batch in make_batches(chunks, pieces, ranges, source.engine.limits):
        if stopped is not None and stopped.is_set():
            return
        ahead.append((batch, session.fetch(batch, source.store)))
        count += 1
        if len(ahead) > AHEAD:
            session.decode(source.codecs.program, *ahead.pop(0))
    for pair in ahead:
        session.decode(source.codecs.program, *pair)
    log.debug(
        "batch: %d chunks in %d batches, %d not stored",
        len(chunks),
        count,
        0 if missing is None else len(missing),
    )
