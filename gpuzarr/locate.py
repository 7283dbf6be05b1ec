"""Hop 6, locate: from chunks to byte ranges in the store. Shards end here.

An unsharded chunk is a whole object. A chunk of a shard is a range of one, found in the shard's
index, which is read once and remembered; nested shards are the same again inside that range. The
indexes that a read needs are asked for together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuzarr.engines.cpu.engine import decoder_for
from gpuzarr.engines.failures import note_key, storage_failed
from gpuzarr.engines.pool import do_all
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import (
    ChecksumError,
    ChunkFailure,
    DecodeError,
    GpuzarrError,
    MemoryLimitError,
    MetadataError,
    StoreError,
    forget_frames,
)
from gpuzarr.plan.grid import RegularAxis
from gpuzarr.plan.keys import chunk_keys
from gpuzarr.plan.ranges import BROKEN, MISSING, WHOLE, ByteRanges
from gpuzarr.plan.shard_index import (
    ShardIndex,
    check_entries,
    rows_of_groups,
    shard_rows,
    unique_rows,
)
from gpuzarr.stores.store import give_up_when

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    from gpuzarr.plan.chunk_table import ChunkTable
    from gpuzarr.plan.shard_index import ShardRows
    from gpuzarr.program import ShardLayout
    from gpuzarr.source import ArraySource
    from gpuzarr.stores.store import Blob, Pending, Store

MOST_ENTRIES = 1 << 28
"""Numbers in a shard index: 2 GiB of them; what says more is taken for damaged."""

PARALLEL_INDEXES = 4
"""Shard indexes from which on they are read by several threads at once."""

INDEXES_NBYTES = 1 << 23
"""Encoded shard indexes that are asked for together; the next ones meanwhile."""


def locate_chunks(
    source: ArraySource,
    chunks: ChunkTable,
    *,
    check_sizes: bool = False,
    stopped: Callable[[], bool] | None = None,
) -> tuple[ByteRanges, tuple[ChunkFailure, ...]]:
    """Where chunks lie, and the failures of those whose shard index is damaged.

    With `check_sizes` the store is asked how large shards are, so that entries that reach past
    them are found here. `stopped` says whether to give up.
    """
    n = len(chunks)
    encoding = source.metadata.chunk_key_encoding
    if source.codecs.shard is None:
        keys = chunk_keys(chunks.coords, encoding, source.path)
        whole = np.full(n, WHOLE, np.int64)
        return ByteRanges(keys, np.arange(n), np.zeros(n, np.int64), whole), ()
    layout = source.codecs.shard
    starts = chunks.coords * np.asarray(layout.leaf.chunk_shape, np.int64)
    rows = shard_rows(starts, source.objects, layout)
    first, group = unique_rows(rows.shard)
    keys = chunk_keys(rows.shard[first], encoding, source.path)
    found = _Found(keys, group, np.zeros(n, np.int64), np.full(n, WHOLE, np.int64), {}, {})
    level: ShardLayout | None = layout
    while level is not None:
        _descend(source, level, rows, found, check_sizes=check_sizes, stopped=stopped)
        # Shards inside shards form one grid over the whole array as well: outer sizes are
        # multiples of theirs.
        grid = tuple(map(RegularAxis, source.metadata.shape, level.chunk_shape))
        level = level.inner
        if level is not None:
            rows = shard_rows(starts, grid, level)
    failures = tuple(
        ChunkFailure(
            keys[group[row]], tuple(chunks.coords[row].tolist()), "read the shard index", cause
        )
        for row, cause in sorted(found.failures.items())
    )
    return ByteRanges(keys, group, found.offset, found.nbytes, found.validators), failures


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

    keys: list[str]
    key: NDArray[np.int64]
    offset: NDArray[np.int64]
    nbytes: NDArray[np.int64]
    failures: dict[int, GpuzarrError]
    validators: dict[str, Hashable]

    def container_of(self, rows: NDArray[np.int64]) -> Container:
        """The shard that holds these chunks, which share one."""
        head = int(rows[0])
        return Container(
            self.keys[int(self.key[head])], int(self.offset[head]), int(self.nbytes[head])
        )


def _descend(  # noqa: PLR0913  one step of the loop above
    source: ArraySource,
    layout: ShardLayout,
    rows: ShardRows,
    found: _Found,
    *,
    check_sizes: bool,
    stopped: Callable[[], bool] | None,
) -> None:
    """Narrow each chunk's range from its shard to the shard's entry for it."""
    live = np.flatnonzero((found.nbytes >= 0) | (found.nbytes == WHOLE))
    if not len(live):
        return
    first, group = unique_rows(rows.shard[live])
    unread: list[_Unread] = []
    for some in rows_of_groups(group, len(first)):
        chunks = live[some]
        container = found.container_of(chunks)
        # Looking into an index that was read already is not worth a thread.
        if source.indexes.holds(*container):
            _narrow(source, layout, rows, found, chunks, check_sizes=check_sizes)
        else:
            unread.append(_Unread(chunks, container, rows.counts[chunks[0]].tolist()))

    def narrow(one: tuple[_Unread, StartedIndex | None]) -> None:
        shard, started = one
        _narrow(source, layout, rows, found, shard.chunks, started, check_sizes=check_sizes)

    for together in _start_indexes(source.store, layout, unread, stopped):
        if len(together) >= PARALLEL_INDEXES:
            do_all(narrow, together)
        else:
            for one in together:
                narrow(one)


class _Unread(NamedTuple):
    """A shard whose index is to be read."""

    chunks: NDArray[np.int64]
    """Rows of the chunk table that it holds."""
    container: Container
    counts: list[int]
    """Its chunks along each axis of the index."""


def _start_indexes(
    store: Store,
    layout: ShardLayout,
    unread: Sequence[_Unread],
    stopped: Callable[[], bool] | None,
) -> Iterator[list[tuple[_Unread, StartedIndex | None]]]:
    """Start to read indexes, many together, and the next many before these are waited for.

    None stands for an index that cannot be: `read_index` says why.
    """
    ahead: list[tuple[_Unread, StartedIndex | None]] = []
    # Shards differ little in size.
    size = layout.index_program.stored_nbytes((*unread[0].counts, 2)) if unread else None
    together = max(PARALLEL_INDEXES, INDEXES_NBYTES // max(1, size or 0))
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
        pending = store.start_reads(
            [key for key, _, _ in wanted],
            [offset for _, offset, _ in wanted],
            [nbytes for _, _, nbytes in wanted],
        )
        if stopped is not None:
            give_up_when(pending, stopped)
        row = count()
        started = [
            (one, None if place is None else StartedIndex(place, pending, next(row)))
            for one, place in zip(some, places, strict=True)
        ]
        if ahead:
            yield ahead
        ahead = started
    if ahead:
        yield ahead


def _narrow(  # noqa: PLR0913, PLR0917  one step of the loop above
    source: ArraySource,
    layout: ShardLayout,
    rows: ShardRows,
    found: _Found,
    chunks: NDArray[np.int64],
    started: StartedIndex | None = None,
    *,
    check_sizes: bool,
) -> None:
    """Narrow the ranges of chunks that share one shard; `started` as in `read_index`."""
    container = found.container_of(chunks)
    try:
        index = read_index(source, layout, container, rows.counts[chunks[0]].tolist(), started)
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


class Container(NamedTuple):
    """A shard: a whole object, or a range of one."""

    key: str
    offset: int
    nbytes: int
    """Its size, or WHOLE."""


class IndexPlace(NamedTuple):
    """Where the index of a shard lies in its object."""

    shape: tuple[int, ...]
    """Of the index: chunks along each of its axes, and 2."""
    size: int
    """Its encoded bytes."""
    offset: int
    nbytes: int
    """What to ask for, as in `Store.read`."""


class StartedIndex(NamedTuple):
    """An index that is on its way."""

    place: IndexPlace
    pending: Pending
    row: int
    """Which of the pending reads brings it."""


def index_place(layout: ShardLayout, container: Container, counts: Sequence[int]) -> IndexPlace:
    """Where the index of a shard lies; the arguments are as in `read_index`.

    Raises:
        GpuzarrError: there can be none.
    """
    shape = (*counts, 2)
    size = layout.index_program.stored_nbytes(shape)
    if size is None:
        raise MetadataError("the shard index is compressed, so its size cannot be known")
    if prod(shape) > MOST_ENTRIES:
        raise MetadataError(f"a shard of {prod(shape) // 2} chunks has an index too large to read")
    if container.nbytes != WHOLE and container.nbytes < size:
        raise DecodeError(
            f"a nested shard has {container.nbytes} bytes, fewer than the {size} of its index"
        )
    if layout.index_at != "end":
        return IndexPlace(shape, size, container.offset, size)
    if container.nbytes == WHOLE:
        return IndexPlace(shape, size, -size, WHOLE)
    return IndexPlace(shape, size, container.offset + container.nbytes - size, size)


def read_index(
    source: ArraySource,
    layout: ShardLayout,
    container: Container,
    counts: Sequence[int],
    started: StartedIndex | None = None,
) -> ShardIndex | None:
    """A shard's index; None when the shard is not stored.

    Args:
        source: the array.
        layout: of this level of shards.
        container: the shard.
        counts: its chunks along each axis of the index.
        started: its read, where that was started; None: it is read now.

    Raises:
        GpuzarrError: the index is damaged, or cannot be read.
    """
    known = source.indexes.get(*container)
    if known is not None:
        return known
    place = index_place(layout, container, counts) if started is None else started.place
    blob = _fetch_index(source.store, container, place, started)
    if blob is None:
        return None
    encoded, size = blob.data, place.size
    if len(encoded) != size:
        raise DecodeError(f"the shard has {len(encoded)} bytes, fewer than the {size} of its index")
    try:
        table = decoder_for(layout.index_program, place.shape).decode(encoded)
    except StepError as error:
        kind = ChecksumError if error.checksum else DecodeError
        raise kind(str(error)) from error
    index = ShardIndex(np.array(table, np.uint64).reshape(-1, 2), blob.validator)
    source.indexes.put(*container, index)
    return index


def _fetch_index(
    store: Store, container: Container, place: IndexPlace, started: StartedIndex | None
) -> Blob | None:
    """The encoded index; shorter than it must be where the shard is."""
    offset, nbytes = place.offset, place.nbytes
    try:
        if started is not None:
            return started.pending.result(started.row)
        return store.read(container.key, offset, nbytes)
    except StoreError as error:
        if nbytes == WHOLE:
            raise
        there = store.size(container.key)
        if there is None or there >= offset + nbytes:
            raise
        raise DecodeError(
            f"the shard has {there} bytes, too few for an index of {place.size} at {offset}"
        ) from error
    except GpuzarrError:
        raise
    except MemoryError as error:
        raise MemoryLimitError(f"there is not enough memory: {error}") from error
    except OSError as error:
        raise storage_failed(error) from error
    except BaseException as error:
        note_key(error, container.key)
        raise
