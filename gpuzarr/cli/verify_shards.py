"""What a shard's index says about the shard, beyond what reading its chunks tells.

Reading finds chunks that cannot be decoded, and entries that reach out of the shard. Where nothing
in a chunk says that it is the right one, an index that points to wrong places is found here:
entries that overlap each other, or the index itself. Bytes that no entry covers are legal (a writer
that updates a shard may leave them), and so are two entries with one range (equal chunks); they are
counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.errors import ChunkFailure, DecodeError, GpuzarrError
from gpuzarr.plan.keys import chunk_key
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.plan.shard_index import check_entries
from gpuzarr.shard_indexes import Container, read_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gpuzarr.program import ShardLayout
    from gpuzarr.source import ArraySource

STEP = "check the shard index"


@dataclass(slots=True)
class ShardReport:
    """What the indexes of a shard, and of those inside it, say."""

    stored: int = 0
    """Chunks of the array that it holds."""
    shared: int = 0
    """Entries whose range another entry has as well."""
    unused_nbytes: int = 0
    """Bytes that neither an entry nor an index covers."""
    failures: list[ChunkFailure] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """A shard, or one inside another."""

    layout: ShardLayout
    container: Container
    nbytes: int
    """Its bytes."""
    start: NDArray[np.int64]
    """(ndim,) its first element."""
    size: NDArray[np.int64]
    """(ndim,) its shape."""


def check_shard(
    source: ArraySource, shape: tuple[int, ...], coords: tuple[int, ...], nbytes: int
) -> ShardReport:
    """Look at the indexes of one stored shard. Damaged ones are left to whoever reads the chunks.

    Args:
        source: the array, which knows the indexes if the shard's chunks were read just now.
        shape: of the array; chunks that lie outside are not counted.
        coords: of the shard.
        nbytes: its size.
    """
    report = ShardReport()
    layout = source.codecs.shard
    if layout is None:
        return report
    place = [np.array([at], np.int64) for at in coords]
    axes = list(zip(source.objects, place, strict=True))
    key = chunk_key(coords, source.metadata.chunk_key_encoding, source.path)
    start = np.array([axis.start_of(at)[0] for axis, at in axes], np.int64)
    size = np.array([axis.size_of(at)[0] for axis, at in axes], np.int64)
    waiting = [_Level(layout, Container(key, 0, WHOLE), nbytes, start, size)]
    while waiting:
        level = waiting.pop()
        try:
            waiting += _check_level(source, np.array(shape, np.int64), level, report)
        except GpuzarrError:  # reading the chunks says what it is, of each
            report.stored += _count_chunks(np.array(shape, np.int64), level)
    return report


def _count_chunks(shape: NDArray[np.int64], level: _Level) -> int:
    """How many chunks of the array lie in the part of it that a shard covers."""
    chunk = np.array(level.layout.leaf.chunk_shape, np.int64)
    end = np.minimum(level.start + level.size, shape)
    return prod(np.maximum(-(-(end - level.start) // chunk), 0).tolist())


def _check_level(
    source: ArraySource, shape: NDArray[np.int64], level: _Level, report: ShardReport
) -> Iterator[_Level]:
    """Judge one index; gives the shards inside this one that are to be judged, too."""
    layout, container = level.layout, level.container
    counts = [int(level.size[dim]) // layout.chunk_shape[dim] for dim in layout.axes]
    index = read_index(source, layout, container, counts)
    if index is None:  # removed since
        return
    nbytes = level.nbytes
    empty, broken = check_entries(index.entries, nbytes)
    rows = np.flatnonzero(~empty)
    # Where each entry's chunk, or shard inside, begins in the array.
    places = np.unravel_index(rows, counts) if counts else ()
    starts = np.tile(level.start, (len(rows), 1))
    for dim, place in zip(layout.axes, places, strict=True):
        starts[:, dim] += place * layout.chunk_shape[dim]
    inside = (starts < shape).all(axis=1)
    sound = ~broken[rows]
    ranges = index.entries[rows][sound].astype(np.int64)
    size = layout.index_program.stored_nbytes((*counts, 2)) or 0
    odd = _find_odd(ranges, nbytes, size, layout.index_at, report)
    for row, text in odd.items():
        leaf = tuple((starts[sound][row] // np.array(layout.leaf.chunk_shape, np.int64)).tolist())
        report.failures.append(ChunkFailure(container.key, leaf, STEP, DecodeError(text)))
    if layout.inner is None:
        report.stored += int(inside.sum())
        return
    size_inside = np.array(layout.chunk_shape, np.int64)
    for row in range(len(rows)):
        offset, length = index.entries[rows[row]].tolist()
        within = Container(container.key, container.offset + offset, length)
        level_inside = _Level(layout.inner, within, length, starts[row], size_inside)
        if sound[row]:
            yield level_inside
        else:  # reading its chunks says so
            report.stored += _count_chunks(shape, level_inside)


def _find_odd(
    ranges: NDArray[np.int64], nbytes: int, index_nbytes: int, index_at: str, report: ShardReport
) -> dict[int, str]:
    """Which of the entries (n, 2) run into others or into the index, and what to say of each."""
    odd: dict[int, str] = {}
    unique, first, count = np.unique(ranges, axis=0, return_index=True, return_counts=True)
    report.shared += int((count[unique[:, 1] > 0] - 1).sum())
    begins, ends = unique[:, 0], unique[:, 0] + unique[:, 1]
    index_begin = 0 if index_at == "start" else nbytes - index_nbytes
    into_index = (begins < index_begin + index_nbytes) & (ends > index_begin)
    for place in np.flatnonzero(into_index & (unique[:, 1] > 0)).tolist():
        odd[int(first[place])] = (
            f"its {unique[place, 1]} bytes at {begins[place]} run into the index of the shard, at"
            f" {index_begin}"
        )
    # Entries are sorted by where they begin; `reach` is the end of all before each.
    furthest = np.maximum.accumulate(ends)
    reach = np.concatenate(([0], furthest))[: len(ends)]
    holders = np.maximum.accumulate(np.where(ends >= furthest, np.arange(len(ends)), 0))
    for place in np.flatnonzero((begins < reach) & (unique[:, 1] > 0)).tolist():
        for one in (place, int(holders[place - 1])):
            text = f"its {unique[one, 1]} bytes at {begins[one]} and those of another chunk overlap"
            odd.setdefault(int(first[one]), text)
    covered = int(np.maximum(ends - np.maximum(begins, reach), 0).sum())
    report.unused_nbytes += max(0, nbytes - index_nbytes - covered)
    return odd
