"""Where the chunks of a shard lie: from chunk coordinates to rows of shard indexes.

Sharding ends here. Chunks of a sharded array are numbered by one grid over the whole array, as if
there were no shards; `ShardGrid` tells for each of them which shard holds it and which row of that
shard's index is its own. Nested shards are the same again, inside a byte range of the shard around
them.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.plan.grid import RegularAxis

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.plan.grid import GridAxis
    from gpuzarr.program import ShardLayout

EMPTY = np.uint64(2**64 - 1)
"""Offset and size of a chunk that a shard does not hold (zarr-specs, sharding_indexed v1.0)."""


@dataclass(frozen=True, slots=True, eq=False)
class ShardRows:
    """For chunks of a sharded array, their places in one level of shards."""

    shard: NDArray[np.int64]
    """(n, ndim) coordinates of the shard that holds the chunk, in this level's grid."""
    counts: NDArray[np.int64]
    """(n, ndim) how many chunks that shard has along each index axis."""
    row: NDArray[np.int64]
    """(n,) the chunk's row in the shard's index."""


def leaf_grid(layout: ShardLayout, shape: Sequence[int]) -> tuple[GridAxis, ...]:
    """The grid of decodable chunks of a sharded array, over the whole array."""
    return tuple(map(RegularAxis, shape, layout.leaf.chunk_shape))


def shard_rows(
    starts: NDArray[np.int64], grid: Sequence[GridAxis], layout: ShardLayout
) -> ShardRows:
    """Find the shard and the index row of chunks by their first elements.

    Args:
        starts: (n, ndim) first element of each chunk (or of each shard inside the shard).
        grid: the grid of this level's shards along each dimension.
        layout: how this level's shards are laid out.
    """
    shard = np.empty_like(starts)
    within = np.empty_like(starts)
    counts = np.empty_like(starts)
    for dim, axis in enumerate(grid):
        size = layout.chunk_shape[dim]
        shard[:, dim] = axis.chunk_of(starts[:, dim])
        within[:, dim] = (starts[:, dim] - axis.start_of(shard[:, dim])) // size
        counts[:, dim] = axis.size_of(shard[:, dim]) // size
    row = np.zeros(len(starts), np.int64)
    for dim in layout.axes:
        row = row * counts[:, dim] + within[:, dim]
    return ShardRows(shard, counts[:, list(layout.axes)], row)


def unique_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct rows in C order: (groups,) one row of each, and (n,) the group of every row."""
    n, width = rows.shape
    if not n or not width:
        return np.zeros(min(1, n), np.int64), np.zeros(n, np.int64)
    columns = rows.T
    lows = [int(column.min()) for column in columns]
    spans = [int(column.max()) - low + 1 for column, low in zip(columns, lows, strict=True)]
    if prod(spans) > 4 * n + 1024:
        order = np.lexsort(columns[::-1])
        ordered = rows[order]
        begins = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)]
        group = np.empty(n, np.int64)
        group[order] = np.cumsum(begins) - 1
        return order[begins], group
    # They lie close together, so a table of all places between them does without sorting.
    place = np.zeros(n, np.int64)
    for column, low, span in zip(columns, lows, spans, strict=True):
        place = place * span + (column - low)
    row_at = np.full(prod(spans), -1, np.int64)
    row_at[place] = np.arange(n)
    taken = row_at >= 0
    return row_at[taken], (np.cumsum(taken) - 1)[place]


def rows_of_groups(group: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """For each of `count` groups its rows, ascending; every group has some."""
    # Sorting small integers of few bits takes one pass.
    order = np.argsort(group.astype(np.min_scalar_type(count)), kind="stable")
    return np.split(order, np.cumsum(np.bincount(group, minlength=count))[:-1])


def check_entries(
    entries: NDArray[np.uint64], container_nbytes: int | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which entries of a shard index are empty, and which cannot be true.

    Args:
        entries: (n, 2) offset and number of bytes.
        container_nbytes: size of the shard, where it is known.

    Returns:
        (n,) empty and (n,) broken: half empty, past 2**63, or outside the shard.
    """
    empty = (entries == EMPTY).all(axis=1)
    limit = np.uint64(2**63 - 1 if container_nbytes is None else container_nbytes)
    offset, nbytes = entries[:, 0], entries[:, 1]
    # limit - offset cannot wrap where offset <= limit.
    outside = (offset > limit) | (nbytes > limit - np.minimum(offset, limit))
    return empty, outside & ~empty


@dataclass(frozen=True, slots=True, eq=False)
class ShardIndex:
    """The index of one shard."""

    entries: NDArray[np.uint64]
    """(chunks, 2) offset and size of each chunk, in the order of the index."""
    validator: Hashable
    """Of the stored object when the index was read, see `Blob`; None: unknown."""


class ShardIndexCache:
    """Shard indexes that were read already, bounded by bytes, least recently used dropped first.

    That a shard is not stored is never remembered: a writer may store it at any time.
    """

    def __init__(self, limit_nbytes: int = 1 << 24) -> None:
        """Make an empty cache that holds at most `limit_nbytes` of indexes."""
        self._limit = limit_nbytes
        self._start()

    def _start(self) -> None:
        self._nbytes = 0
        self._indexes: OrderedDict[tuple[str, int, int], ShardIndex] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()  # last, so that no thread takes the old lock for the new

    def _guard(self) -> threading.Lock:
        """The lock; a forked child starts anew, since another thread may have held the parent's."""
        if self._process != os.getpid():
            self._start()
        return self._lock

    def get(self, key: str, offset: int, nbytes: int) -> ShardIndex | None:
        """The index of the shard in this range of object `key`, where it is known.

        A nested shard may begin where the shard around it does, so the size tells them apart.
        """
        with self._guard():
            index = self._indexes.get((key, offset, nbytes))
            if index is not None:
                self._indexes.move_to_end((key, offset, nbytes))
            return index

    def holds(self, key: str, offset: int, nbytes: int) -> bool:
        """Whether the index of the shard in this range is known."""
        return (key, offset, nbytes) in self._indexes

    def put(self, key: str, offset: int, nbytes: int, index: ShardIndex) -> None:
        """Remember an index, unless it alone is above the limit."""
        with self._guard():
            if index.entries.nbytes > self._limit or (key, offset, nbytes) in self._indexes:
                return
            self._indexes[key, offset, nbytes] = index
            self._nbytes += index.entries.nbytes
            while self._nbytes > self._limit:
                _, dropped = self._indexes.popitem(last=False)
                self._nbytes -= dropped.entries.nbytes

    def forget(self, keys: Collection[str] | None = None) -> bool:
        """Drop the indexes of some objects, or of all; says whether there were any."""
        with self._guard():
            stale = [place for place in self._indexes if keys is None or place[0] in keys]
            for place in stale:
                self._nbytes -= self._indexes.pop(place).entries.nbytes
            return bool(stale)

    def __reduce__(self) -> tuple[type[ShardIndexCache], tuple[int]]:
        return (ShardIndexCache, (self._limit,))
