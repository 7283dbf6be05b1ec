"""Hop 6, locate: from chunks to byte ranges in the store. Shards end here.

An unsharded chunk is a whole object. A chunk of a shard is a range of one, found in the shard's
index, which is read once and remembered; nested shards are the same again inside that range.
Finding is started and waited for apart, as reads are, so that the indexes of many arrays are under
way together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuzarr.engines.pool import do_all
from gpuzarr.errors import ChunkFailure, DecodeError, GpuzarrError, forget_frames
from gpuzarr.plan.grid import RegularAxis
from gpuzarr.plan.keys import chunk_keys
from gpuzarr.plan.ranges import BROKEN, MISSING, WHOLE, ByteRanges
from gpuzarr.plan.shard_index import check_entries, rows_of_groups, shard_rows, unique_rows
from gpuzarr.shard_indexes import Container, IndexPlace, StartedIndex, index_place, read_index
from gpuzarr.stores.store import give_up_when, reads_when_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    from gpuzarr.plan.chunk_table import ChunkTable
    from gpuzarr.plan.shard_index import ShardRows
    from gpuzarr.program import ShardLayout
    from gpuzarr.source import ArraySource

PARALLEL_INDEXES = 4
"""Shard indexes from which on they are read by several threads at once."""

INDEXES_NBYTES = 1 << 23
"""Encoded shard indexes that are asked for together; the next ones meanwhile."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How to find chunks."""

    check_sizes: bool
    """Ask the store how large shards are, so that entries that reach past them are found here."""
    stopped: Callable[[], bool] | None
    """Whether to give up."""
    most_nbytes: int
    """Encoded shard indexes of one array that are asked for together."""


def locate_chunks(source: ArraySource, chunks: ChunkTable, manner: Manner) -> Locating:
    """Start to find where chunks of an array lie."""
    n, encoding = len(chunks), source.metadata.chunk_key_encoding
    layout = source.codecs.shard
    if layout is None:
        keys = chunk_keys(chunks.coords, encoding, source.path)
        found = _Found(keys, np.arange(n), np.zeros(n, np.int64), np.full(n, WHOLE, np.int64))
        return Locating(chunks, found, iter(()))
    starts = chunks.coords * np.asarray(layout.leaf.chunk_shape, np.int64)
    rows = shard_rows(starts, source.objects, layout)
    first, group = unique_rows(rows.shard)
    keys = chunk_keys(rows.shard[first], encoding, source.path)
    found = _Found(keys, group, np.zeros(n, np.int64), np.full(n, WHOLE, np.int64))
    return Locating(chunks, found, _find(source, layout, rows, starts, found, manner))


class Locating:
    """Chunks that are being found. What they wait for is under way."""

    def __init__(self, chunks: ChunkTable, found: _Found, steps: Iterator[int]) -> None:
        """Use `locate_chunks`."""
        self._chunks = chunks
        self._found = found
        self._steps = steps
        self.nbytes = next(steps, 0)
        """Encoded bytes of shard indexes, about, that are under way; 0: nothing is waited for."""

    def step(self) -> None:
        """Wait for what is under way, and ask for the indexes that it leads to."""
        self.nbytes = next(self._steps, 0)

    def result(self) -> tuple[ByteRanges, tuple[ChunkFailure, ...]]:
        """Where the chunks lie, and the failures of those whose shard index is damaged."""
        while self.nbytes:
            self.step()
        found, coords = self._found, self._chunks.coords
        failures = tuple(
            ChunkFailure(
                found.keys[found.key[row]],
                tuple(coords[row].tolist()),
                "read the shard index",
                cause,
            )
            for row, cause in sorted(found.failures.items())
        )
        ranges = ByteRanges(found.keys, found.key, found.offset, found.nbytes, found.validators)
        return ranges, failures


def object_keys(source: ArraySource, coords: NDArray[np.int64]) -> list[str]:
    """Keys of the objects that hold some chunks, each once."""
    layout = source.codecs.shard
    if layout is not None:
        starts = coords * np.asarray(layout.leaf.chunk_shape, np.int64)
        coords = shard_rows(starts, source.objects, layout).shard
    return list(dict.fromkeys(chunk_keys(coords, source.metadata.chunk_key_encoding, source.path)))


@dataclass(slots=True, eq=False)
class _Found:
    """What is known of each chunk so far: the range that holds it, narrowed level by level."""

    keys: Sequence[str]
    key: NDArray[np.int64]
    offset: NDArray[np.int64]
    nbytes: NDArray[np.int64]
    failures: dict[int, GpuzarrError] = field(default_factory=dict)
    validators: dict[str, Hashable] = field(default_factory=dict)

    def container_of(self, rows: NDArray[np.int64]) -> Container:
        """The shard that holds these chunks, which share one."""
        head = int(rows[0])
        return Container(
            self.keys[int(self.key[head])], int(self.offset[head]), int(self.nbytes[head])
        )


def _find(  # noqa: PLR0913, PLR0917  the state of the search
    source: ArraySource,
    layout: ShardLayout,
    rows: ShardRows,
    starts: NDArray[np.int64],
    found: _Found,
    manner: Manner,
) -> Iterator[int]:
    """Narrow each chunk's range level by level; gives how much is under way, before each wait."""
    early = not reads_when_asked(source.store)
    level: ShardLayout | None = layout
    while level is not None:
        narrow = partial(_narrow, source, level, rows, found, check_sizes=manner.check_sizes)
        groups = _start_indexes(source, level, _narrow_known(source, rows, found, narrow), manner)
        together = next(groups, None)
        if together is not None and early:
            yield together.nbytes
        while together is not None:
            following = next(groups, None)  # under way while these are waited for
            if len(together.shards) >= PARALLEL_INDEXES:
                do_all(narrow, together.shards)
            else:
                for shard in together.shards:
                    narrow(shard)
            together = following
        # Shards inside shards form one grid over the whole array as well: outer sizes are
        # multiples of theirs.
        grid = tuple(map(RegularAxis, source.metadata.shape, level.chunk_shape))
        level = level.inner
        if level is not None:
            rows = shard_rows(starts, grid, level)


class _Shard(NamedTuple):
    """A shard, and chunks in it."""

    chunks: NDArray[np.int64]
    """Rows of the chunk table that it holds."""
    container: Container
    counts: list[int]
    """Its chunks along each axis of the index."""
    started: StartedIndex | None = None
    """The read of its index; None: it is known, or cannot be, as `read_index` says."""


class _Together(NamedTuple):
    """Shards whose indexes are under way together."""

    shards: list[_Shard]
    nbytes: int
    """Of the encoded indexes, about; 1 at least."""


def _narrow_known(
    source: ArraySource, rows: ShardRows, found: _Found, narrow: Callable[[_Shard], None]
) -> list[_Shard]:
    """Narrow the ranges of chunks in shards whose index is known; gives the other shards."""
    unread: list[_Shard] = []
    live = np.flatnonzero((found.nbytes >= 0) | (found.nbytes == WHOLE))
    if len(live):
        first, group = unique_rows(rows.shard[live])
        for some in rows_of_groups(group, len(first)):
            chunks = live[some]
            shard = _Shard(chunks, found.container_of(chunks), rows.counts[chunks[0]].tolist())
            # Looking into an index that was read already is not worth a thread.
            if source.indexes.holds(*shard.container):
                narrow(shard)
            else:
                unread.append(shard)
    return unread


def _start_indexes(
    source: ArraySource, layout: ShardLayout, unread: Sequence[_Shard], manner: Manner
) -> Iterator[_Together]:
    """Start to read indexes, many together."""
    # Shards differ little in size.
    size = layout.index_program.stored_nbytes((*unread[0].counts, 2)) if unread else None
    together = max(PARALLEL_INDEXES, manner.most_nbytes // max(1, size or 0))
    for begin in range(0, len(unread), together):
        some = unread[begin : begin + together]
        places: list[IndexPlace | None] = []
        for one in some:
            try:
                places.append(index_place(layout, one.container, one.counts))
            except GpuzarrError:
                places.append(None)
        wanted = [
            (one.container.key, place.offset, place.nbytes)
            for one, place in zip(some, places, strict=True)
            if place is not None
        ]
        pending = source.store.start_reads(
            [key for key, _, _ in wanted],
            [offset for _, offset, _ in wanted],
            [nbytes for _, _, nbytes in wanted],
        )
        if manner.stopped is not None:
            give_up_when(pending, manner.stopped)
        row = count()
        shards = [
            one._replace(started=None if place is None else StartedIndex(place, pending, next(row)))
            for one, place in zip(some, places, strict=True)
        ]
        yield _Together(shards, max(1, (size or 0) * len(shards)))


def _narrow(  # noqa: PLR0913  one step of the loop above
    source: ArraySource,
    layout: ShardLayout,
    rows: ShardRows,
    found: _Found,
    shard: _Shard,
    *,
    check_sizes: bool,
) -> None:
    """Narrow the ranges of chunks that share one shard."""
    chunks, container, counts, started = shard
    try:
        index = read_index(source, layout, container, counts, started)
        inside = None if container.nbytes == WHOLE else container.nbytes
        if check_sizes and inside is None:
            inside = source.store.size(container.key)
    except GpuzarrError as error:
        forget_frames(error)
        found.nbytes[chunks] = BROKEN
        found.failures.update(dict.fromkeys(chunks.tolist(), error))
        return
    if index is None:
        found.nbytes[chunks] = MISSING
        return
    if index.validator is not None:
        found.validators[container.key] = index.validator
    mine = index.entries[rows.row[chunks]]
    empty, broken = check_entries(mine, inside)
    found.offset[chunks] = container.offset + mine[:, 0].astype(np.int64)
    found.nbytes[chunks] = np.where(empty, MISSING, mine[:, 1].astype(np.int64))
    found.nbytes[chunks[broken]] = BROKEN
    for row, (offset, nbytes) in zip(chunks[broken].tolist(), mine[broken].tolist(), strict=True):
        found.failures[row] = DecodeError(
            f"the shard index says {nbytes} bytes at {offset}, which cannot be"
            + (f": the shard has {inside}" if inside is not None else "")
        )
