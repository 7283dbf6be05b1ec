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
from gpuzarr.locate import INDEXES_NBYTES, Manner, locate_chunks
from gpuzarr.plan.batches import make_batches, missing_pieces
from gpuzarr.plan.ranges import MISSING, WHOLE, ByteRanges
from gpuzarr.stores.mounted import MountedStores, mounted_key
from gpuzarr.stores.store import gap_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from gpuzarr.chunk_cache import CacheUse
    from gpuzarr.engines.engine import Engine, Output, Session, Staging
    from gpuzarr.locate import Locating
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

AHEAD_CHUNKS = 1 << 16
"""Chunks, about, that may wait for shard indexes while those of the next array are asked for."""


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
    manner = Manner(careful, stopped, INDEXES_NBYTES)
    for block in _blocks_ahead(share, stores, session, manner):
        program, chunks, pieces = block.part.program, block.chunks, block.pieces
        limits = _limits(share.engine, block.part, careful=careful)
        ranges = _ranges(block, stores, session)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Chunks of a part, which are being found in the stores."""

    part: Part
    chunks: ChunkTable
    pieces: PieceTable
    searches: Sequence[tuple[ArraySource, Locating]]
    """For each array that has some of the chunks, in their order."""

    @property
    def waits(self) -> bool:
        """Whether shard indexes are under way for it."""
        return any(search.nbytes for _, search in self.searches)

    def step(self) -> None:
        """Wait for these, and ask for those that they lead to."""
        for _, search in self.searches:
            if search.nbytes:
                search.step()


def _blocks_ahead(
    share: EngineShare, stores: Sequence[Store], session: Session, manner: Manner
) -> Iterator[_Block]:
    """Blocks of the parts, for which nothing is waited for any more.

    The shard indexes of all arrays are under way together, up to `INDEXES_NBYTES` of them. What an
    array's next block needs may be known once the one before is found, so that is waited for first.
    """
    window: deque[_Block] = deque()
    for part in share.parts:
        for chunks, pieces in _blocks(part, stores, session):
            if window and window[-1].part is part:
                yield from _settled(window)
            window.append(_start_block(part, chunks, pieces, manner))
            yield from _settled(window, manner.most_nbytes)
    yield from _settled(window)


def _settled(window: deque[_Block], most_nbytes: int = 0) -> Iterator[_Block]:
    """The first blocks, until no more than so many bytes of indexes are under way for others."""
    while window:
        nbytes = sum(search.nbytes for block in window for _, search in block.searches)
        nchunks = sum(len(block.chunks) for block in window)
        if window[0].waits and nbytes <= most_nbytes and nchunks <= AHEAD_CHUNKS:
            return
        block = window.popleft()
        while block.waits:
            block.step()
            if block.waits:  # for shards inside shards, as the others may have
                for other in window:
                    other.step()
        yield block


def _start_block(part: Part, chunks: ChunkTable, pieces: PieceTable, manner: Manner) -> _Block:
    """Start to find the chunks of a block."""
    if len(part.sources) == 1:
        (source,) = part.sources
        return _Block(part, chunks, pieces, [(source, locate_chunks(source, chunks, manner))])
    # They are in the order of their arrays.
    edges = np.searchsorted(chunks.array, np.arange(len(part.sources) + 1)).tolist()
    spans = [
        (source, slice(begin, end))
        for source, begin, end in zip(part.sources, edges[:-1], edges[1:], strict=True)
        if begin < end
    ]
    manner = replace(manner, most_nbytes=manner.most_nbytes // len(spans))
    searches = [
        (source, locate_chunks(source, chunks.part(rows), manner)) for source, rows in spans
    ]
    return _Block(part, chunks, pieces, searches)


def _ranges(block: _Block, stores: Sequence[Store], session: Session) -> ByteRanges:
    """Where the chunks of a block lie, in its arrays' stores or in these stores mounted as one."""
    number = {id(store): number for number, store in enumerate(stores)}
    several = len(stores) > 1
    keys: list[str] = []
    found: list[ByteRanges] = []
    key_columns = []
    validators: dict[str, Hashable] = {}
    for source, search in block.searches:
        ranges, failures = search.result()
        mount = number[id(source.store)]
        if several and failures:
            failures = tuple(replace(f, key=mounted_key(mount, f.key)) for f in failures)
        session.fail(failures)
        if len(block.searches) == 1 and not several:
            return ranges
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
