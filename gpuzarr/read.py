"""Hops 6 to 9 of a read: locate, batch, fetch, decode.

Every read comes through `read_share`: of one selection, of many at once, and the dry runs of
`explain`. Nothing flows back: each hop takes what the hop before it gave.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.failures import FILL, fill_what_fits
from gpuzarr.errors import ChunkFailure
from gpuzarr.locate import locate_chunks
from gpuzarr.plan.batches import make_batches, missing_pieces
from gpuzarr.plan.ranges import MISSING, WHOLE, ByteRanges
from gpuzarr.stores.mounted import MountedStores, mounted_key
from gpuzarr.stores.store import gap_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from gpuzarr.chunk_cache import CacheUse
    from gpuzarr.engines.engine import Engine, Output, Session, Staging
    from gpuzarr.plan.batches import Batch, BatchLimits
    from gpuzarr.plan.chunk_table import ChunkPlan, ChunkTable, PieceTable
    from gpuzarr.plan.joint import JointPlan, Tables
    from gpuzarr.program import DecodeProgram
    from gpuzarr.source import ArraySource
    from gpuzarr.stores.store import Store

array_log = logging.getLogger("gpuzarr.array")
store_log = logging.getLogger("gpuzarr.store")
engine_log = logging.getLogger("gpuzarr.engine")

NEVER_JOIN = -(1 << 62)
"""As `BatchLimits.gap_nbytes`: a request for each chunk."""

AHEAD = 2
"""Batches whose reads are started before the one being decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Chunks that one program decodes, of one array or of several."""

    sources: Sequence[ArraySource]
    """The arrays, as the plan's tables number them; all of one engine and one program."""
    plan: ChunkPlan | JointPlan
    caches: Sequence[CacheUse] = ()
    """For each array the decoded chunks that are kept; () where none are."""

    @property
    def program(self) -> DecodeProgram:
        """How the chunks are decoded."""
        return self.sources[0].codecs.program


@dataclass(frozen=True, slots=True, eq=False)
class EngineShare:
    """What one engine does of a read."""

    engine: Engine
    outputs: Sequence[Output]
    """As the parts' tables number them."""
    parts: Sequence[Part]
    stream: Any = None
    """What the work is ordered on, on a device that has streams; None: the caller's current one."""

    @property
    def stores(self) -> tuple[Store, ...]:
        """The stores of its arrays, each once."""
        if len(self.parts) == 1 and len(self.parts[0].sources) == 1:
            return (self.parts[0].sources[0].store,)
        stores = [source.store for part in self.parts for source in part.sources]
        return tuple({id(store): store for store in stores}.values())


@dataclass(slots=True)
class _Counts:
    """What a read did."""

    debug: bool
    """Whether anybody looks at more than the first."""
    missing: int = 0
    """Chunks that are known not to be stored."""
    chunks: int = 0
    batches: int = 0
    requests: int = 0
    nbytes: int = 0
    whole: int = 0

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.batches += 1
        if self.debug:
            requests = batch.requests
            self.requests += len(requests)
            self.nbytes += sum(size for size in requests.nbytes if size != WHOLE)
            self.whole += requests.nbytes.count(WHOLE)

    def tell(self) -> None:
        """Log them."""
        array_log.debug("batch: %d batches", self.batches)
        message = "fetch: %d requests, %d bytes and %d whole objects"
        store_log.debug(message, self.requests, self.nbytes, self.whole)
        engine_log.debug("decode: %d chunks", self.chunks - self.missing)


def read_share(
    share: EngineShare,
    session: Session,
    stopped: Callable[[], bool] | None = None,
    *,
    careful: bool = False,
) -> int:
    """Find the chunks in the stores, and run them through the engine in batches.

    Args:
        share: what to read.
        session: the read that it belongs to.
        stopped: whether to give up the read; asked often, in any thread.
        careful: check shard indexes against the sizes of their shards, and ask for each chunk
            alone, so that a damaged one takes no other with it.

    Returns:
        How many of the chunks are known not to be stored, before anything was fetched.
    """
    stores = share.stores
    store = stores[0] if len(stores) == 1 else MountedStores(stores)
    counts = _Counts(store_log.isEnabledFor(logging.DEBUG))
    ahead: deque[tuple[DecodeProgram, Batch, Staging]] = deque()
    for part in share.parts:
        program = part.program
        limits = _limits(share.engine, part, careful=careful)
        for chunks, pieces in _blocks(part, stores, session):
            ranges = _locate(part, chunks, stores, session, stopped, careful=careful)
            missing = missing_pieces(pieces, ranges)
            nmissing = 0 if missing is None else int(missing.chunk[-1]) + 1
            message = "locate: %d chunks in %d objects, %d not in them"
            store_log.debug(message, len(chunks), len(ranges.keys), nmissing)
            if missing is not None:
                counts.missing += nmissing
                engine_log.debug("fill: %d chunks", nmissing)
                session.fail(_fill(session, chunks, missing, ranges))
            counts.chunks += len(chunks)
            for batch in make_batches(chunks, pieces, ranges, limits):
                if stopped is not None and stopped():
                    return counts.missing
                ahead.append((program, batch, session.fetch(program, batch, store)))
                counts.add(batch)
                if len(ahead) > AHEAD:
                    session.decode(*ahead.popleft())
    for waiting in ahead:
        session.decode(*waiting)
    counts.tell()
    return counts.missing


def _limits(engine: Engine, part: Part, *, careful: bool) -> BatchLimits:
    """The engine's limits, with the gap that the stores of the part's arrays name."""
    limits = engine.limits_for(part.program)
    if careful:
        return replace(limits, gap_nbytes=NEVER_JOIN)
    gaps = [gap for source in part.sources if (gap := gap_of(source.store)) is not None]
    return replace(limits, gap_nbytes=min(gaps)) if gaps else limits


def _blocks(part: Part, stores: Sequence[Store], session: Session) -> Iterator[Tables]:
    """The part's tables, without the chunks that are there decoded: those are written at once."""
    mounts = {id(store): number for number, store in enumerate(stores) if len(stores) > 1}
    for chunks, pieces in part.plan.blocks():
        for cache in part.caches:
            mount = mounts.get(id(part.sources[cache.array].store))
            chunks, pieces = cache.use(chunks, pieces, session, mount)  # noqa: PLW2901  what is left
        if len(chunks):
            yield chunks, pieces


def _locate(  # noqa: PLR0913  a hop of the loop above
    part: Part,
    chunks: ChunkTable,
    stores: Sequence[Store],
    session: Session,
    stopped: Callable[[], bool] | None,
    *,
    careful: bool,
) -> ByteRanges:
    """Where the chunks of one array lie, or of several."""
    sources = part.sources
    if len(sources) == 1 and len(stores) == 1:
        ranges, failures = locate_chunks(sources[0], chunks, check_sizes=careful, stopped=stopped)
        session.fail(failures)
        return ranges
    number = {id(store): number for number, store in enumerate(stores)}
    keys: list[str] = []
    found: list[ByteRanges] = []
    key_columns = []
    validators: dict[str, Hashable] = {}
    # Chunks are in the order of their arrays.
    edges = np.searchsorted(chunks.array, np.arange(len(sources) + 1))
    for source, begin, end in zip(sources, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if begin == end:
            continue
        ranges, failures = locate_chunks(
            source, chunks.part(slice(begin, end)), check_sizes=careful, stopped=stopped
        )
        mount = number[id(source.store)]
        several = len(stores) > 1
        if several and failures:
            failures = tuple(replace(f, key=mounted_key(mount, f.key)) for f in failures)
        session.fail(failures)
        key_columns.append(ranges.key + len(keys))
        keys += [mounted_key(mount, key) for key in ranges.keys] if several else ranges.keys
        validators |= {
            mounted_key(mount, key) if several else key: value
            for key, value in ranges.validators.items()
        }
        found.append(ranges)
    return ByteRanges(
        keys,
        np.concatenate(key_columns),
        np.concatenate([ranges.offset for ranges in found]),
        np.concatenate([ranges.nbytes for ranges in found]),
        validators,
    )


def _fill(
    session: Session, chunks: ChunkTable, missing: PieceTable, ranges: ByteRanges
) -> list[ChunkFailure]:
    """Write the fill value where chunks are not stored; gives the failures of those it fails."""
    failed = fill_what_fits(session.fill, missing)
    rows = np.flatnonzero(ranges.nbytes == MISSING)
    return [
        ChunkFailure(
            ranges.keys[int(ranges.key[row])], tuple(chunks.coords[row].tolist()), FILL, error
        )
        for row, error in ((int(rows[place]), error) for place, error in failed.items())
    ]
