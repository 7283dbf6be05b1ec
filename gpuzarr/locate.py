"""Hop 6, locate: from chunks to byte ranges in the store. Shards end here.

An unsharded chunk is a whole object. A chunk of a shard is a range of one, found in the shard's
index, which is read once and remembered; nested shards are the same again inside that range.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuzarr.engines.cpu.engine import decoder_for
from gpuzarr.engines.pool import in_worker, shared_pool
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import (
    ChecksumError,
    ChunkFailure,
    DecodeError,
    GpuzarrError,
    MetadataError,
    StoreError,
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

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.plan.chunk_table import ChunkTable
    from gpuzarr.plan.shard_index import ShardRows
    from gpuzarr.program import ShardLayout
    from gpuzarr.source import ArraySource
    from gpuzarr.stores.store import Blob, Store

MOST_ENTRIES = 1 << 28
"""Numbers in a shard index: 2 GiB of them; what says more is taken for damaged."""

PARALLEL_INDEXES = 4
"""Shard indexes from which on they are read by several threads at once."""


def locate_chunks(
    source: ArraySource, chunks: ChunkTable, *, check_sizes: bool = False
) -> tuple[ByteRanges, tuple[ChunkFailure, ...]]:
    """Where chunks lie, and the failures of those whose shard index is damaged.

    With `check_sizes` the store is asked how large shards are, so that entries that reach past
    them are found here.
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
        _descend(source, level, rows, found, check_sizes=check_sizes)
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


def _descend(
    source: ArraySource, layout: ShardLayout, rows: ShardRows, found: _Found, *, check_sizes: bool
) -> None:
    """Narrow each chunk's range from its shard to the shard's entry for it."""
    live = np.flatnonzero((found.nbytes >= 0) | (found.nbytes == WHOLE))
    if not len(live):
        return
    first, group = unique_rows(rows.shard[live])
    # Reading an index is worth a thread; looking into one that was read already is not.
    known: list[NDArray[np.int64]] = []
    unread: list[NDArray[np.int64]] = []
    for some in rows_of_groups(group, len(first)):
        chunks = live[some]
        is_known = source.indexes.holds(*found.container_of(chunks))
        (known if is_known else unread).append(chunks)

    def narrow(chunks: NDArray[np.int64]) -> None:
        _narrow(source, layout, rows, found, chunks, check_sizes=check_sizes)

    if len(unread) >= PARALLEL_INDEXES and not in_worker():
        list(shared_pool().map(narrow, unread))
    else:
        known += unread
    for chunks in known:
        narrow(chunks)


def _narrow(  # noqa: PLR0913  one step of the loop above
    source: ArraySource,
    layout: ShardLayout,
    rows: ShardRows,
    found: _Found,
    chunks: NDArray[np.int64],
    *,
    check_sizes: bool,
) -> None:
    """Narrow the ranges of chunks that share one shard."""
    container = found.container_of(chunks)
    try:
        index = read_index(source, layout, container, rows.counts[chunks[0]].tolist())
        inside = None if container.nbytes == WHOLE else container.nbytes
        if check_sizes and inside is None:
            inside = source.store.size(container.key)
    except GpuzarrError as error:
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


def read_index(
    source: ArraySource, layout: ShardLayout, container: Container, counts: Sequence[int]
) -> ShardIndex | None:
    """A shard's index; None when the shard is not stored.

    Args:
        source: the array.
        layout: of this level of shards.
        container: the shard.
        counts: its chunks along each axis of the index.

    Raises:
        GpuzarrError: the index is damaged, or cannot be read.
    """
    known = source.indexes.get(*container)
    if known is not None:
        return known
    shape = (*counts, 2)
    size = layout.index_program.stored_nbytes(shape)
    if size is None:
        raise MetadataError("the shard index is compressed, so its size cannot be known")
    if prod(shape) > MOST_ENTRIES:
        raise MetadataError(f"a shard of {prod(shape) // 2} chunks has an index too large to read")
    blob = _fetch_index(source.store, layout, container, size)
    if blob is None:
        return None
    encoded = blob.data
    if len(encoded) != size:
        raise DecodeError(f"the shard has {len(encoded)} bytes, fewer than the {size} of its index")
    try:
        table = decoder_for(layout.index_program, shape).decode(encoded)
    except StepError as error:
        kind = ChecksumError if error.checksum else DecodeError
        raise kind(str(error)) from error
    index = ShardIndex(np.array(table, np.uint64).reshape(-1, 2), blob.validator)
    source.indexes.put(*container, index)
    return index


def _fetch_index(store: Store, layout: ShardLayout, container: Container, size: int) -> Blob | None:
    """The encoded index; shorter than `size` where the shard is."""
    offset, nbytes = container.offset, size
    if layout.index_at == "end":
        if container.nbytes == WHOLE:
            offset, nbytes = -size, WHOLE
        else:
            offset = container.offset + container.nbytes - size
    if container.nbytes != WHOLE and container.nbytes < size:
        raise DecodeError(
            f"a nested shard has {container.nbytes} bytes, fewer than the {size} of its index"
        )
    try:
        return store.read(container.key, offset, nbytes)
    except StoreError as error:
        there = store.size(container.key)
        if there is None or nbytes == WHOLE or there >= offset + nbytes:
            raise
        raise DecodeError(
            f"the shard has {there} bytes, too few for an index of {size} at {offset}"
        ) from error
