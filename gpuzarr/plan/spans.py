"""Spans of indices, cut at chunk boundaries: the arithmetic of one span and of columns of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.errors import MemoryLimitError
from gpuzarr.plan.grid import RegularAxis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.plan.grid import GridAxis

    Integers = int | NDArray[np.int64]

AXIS_CHUNKS = 1 << 26
"""Chunks along one axis that one read may touch; more would need gigabytes of tables."""


@dataclass(frozen=True, slots=True, eq=False)
class SpanCuts:
    """What spans take from each chunk that they touch: a row a chunk."""

    chunk: NDArray[np.int64]
    """(rows,) the chunk."""
    start: NDArray[np.int64]
    """(rows,) first index inside it."""
    out_start: NDArray[np.int64]
    """(rows,) how many places of the span come before."""
    extent: NDArray[np.int64]
    """(rows,) places inside it."""

    def take(self, rows: NDArray[np.bool_]) -> SpanCuts:
        """Some of the rows."""
        return SpanCuts(self.chunk[rows], self.start[rows], self.out_start[rows], self.extent[rows])


def jumps(step: int, grid: GridAxis) -> bool:
    """Whether a step skips chunks, so that each index has a chunk of its own."""
    return isinstance(grid, RegularAxis) and abs(step) >= grid.size


def check_chunks(count: int) -> None:
    """Refuse to touch too many chunks along one axis.

    Raises:
        MemoryLimitError: the tables alone would need gigabytes.
    """
    if count > AXIS_CHUNKS:
        raise MemoryLimitError(
            f"this selection touches {count} chunks along one dimension; read it in parts of at"
            f" most {AXIS_CHUNKS}"
        )


def cut_jumps(start: Integers, place: NDArray[np.int64], step: int, grid: GridAxis) -> SpanCuts:
    """The cuts of spans of which every place has a chunk of its own.

    Args:
        start: first index of the span, or of each row's.
        place: (rows,) place in the span.
        step: between places.
        grid: the chunks.
    """
    index = start + step * place
    chunk = grid.chunk_of(index)
    return SpanCuts(chunk, index - grid.start_of(chunk), place, np.ones_like(place))


def cut_spans(
    start: Integers, count: Integers, step: int, chunk: NDArray[np.int64], grid: GridAxis
) -> tuple[SpanCuts, NDArray[np.bool_]]:
    """What spans take from chunks between their first and their last.

    Args:
        start: first index of the span, or of each row's.
        count: its places.
        step: between places.
        chunk: (rows,) a chunk.
        grid: the chunks.

    Returns:
        The cuts, and (rows,) whether a row has any place: steps may jump over chunks.
    """
    begin = grid.start_of(chunk)
    end = begin + np.minimum(grid.size_of(chunk), grid.length - begin)  # a size may be huge
    # The first place k with start + k * step in (or past) the near side of the chunk, and the same
    # for its far side.
    near, far = (begin, end) if step > 0 else (end - 1, begin - 1)
    first = np.maximum(0, -((start - near) // step))
    stop = np.minimum(count, -((start - far) // step))
    return SpanCuts(chunk, start + first * step - begin, first, stop - first), stop > first
