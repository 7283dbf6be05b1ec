"""Pieces as the scatter kernels take them: one row of integers a piece, for all outputs at once.

A row holds where the piece begins in its chunk and in its output, and for each axis how many places
there are and how far apart:

    chunk | first element | target address | extent, source step, target step | ... a next axis

Source steps count elements of the stored chunk, whatever its axis order; target steps count bytes
of the output, whatever its strides. So transposed chunks, F order, steps of both signs and strided
outputs are all the same to a kernel. An axis that is a list has instead of steps a row of two
tables of offsets, which stand behind one another for all pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.plan.chunk_table import OutputAxis, PieceTable

HEAD = 3
"""Columns before those of the axes: chunk, first element, target."""
A_AXIS = 3
"""Columns of an axis: extent, source step (or row of the lists), target step."""


@dataclass(frozen=True, slots=True, eq=False)
class PieceRows:
    """Pieces of one number of axes, ready for a kernel."""

    rows: NDArray[np.int64]
    """(n, HEAD + A_AXIS * naxes)."""
    lists: int
    """Bit a is set where axis a is a list."""
    list_source: NDArray[np.int64]
    """(m,) elements to add, for every place along a list axis of every piece."""
    list_target: NDArray[np.int64]
    """(m,) bytes to add."""

    @property
    def naxes(self) -> int:
        """Axes of each piece."""
        return (int(self.rows.shape[1]) - HEAD) // A_AXIS

    @property
    def extents(self) -> NDArray[np.int64]:
        """(n, naxes) places along each axis."""
        return self.rows[:, HEAD::A_AXIS]

    @property
    def source_steps(self) -> NDArray[np.int64]:
        """(n, naxes) elements between places."""
        return self.rows[:, HEAD + 1 :: A_AXIS]

    @property
    def target_steps(self) -> NDArray[np.int64]:
        """(n, naxes) bytes between places."""
        return self.rows[:, HEAD + 2 :: A_AXIS]

    def counts(self) -> NDArray[np.int64]:
        """(n,) elements of each piece."""
        return np.asarray(self.extents.prod(axis=1))


def element_strides(shape: NDArray[np.int64], axes: Sequence[int]) -> NDArray[np.int64]:
    """(n, ndim) elements between neighbours along each array dimension of stored chunks.

    Args:
        shape: (n, ndim) chunk shapes.
        axes: storage order, as in `program.Layout`.

    >>> element_strides(np.array([[4, 6]]), (1, 0)).tolist()
    [[1, 4]]
    """
    stored = shape[:, list(axes)]
    behind = np.ones_like(stored)
    if stored.shape[1]:
        behind[:, :-1] = np.cumprod(stored[:, :0:-1], axis=1)[:, ::-1]
    strides = np.empty_like(behind)
    strides[:, list(axes)] = behind
    return strides


def piece_rows(  # noqa: PLR0913, PLR0917  all that places are made of
    pieces: PieceTable,
    chosen: NDArray[np.int64],
    axes: Sequence[OutputAxis],
    strides: NDArray[np.int64],
    address: int,
    out_strides: Sequence[int],
) -> PieceRows:
    """The pieces of one output.

    Args:
        pieces: the batch's.
        chosen: rows of `pieces` that belong to the output.
        axes: the output's axes.
        strides: (chunks, ndim) element strides of the batch's stored chunks.
        address: of the output's first element.
        out_strides: bytes between neighbours along each of the output's axes.
    """
    naxes = len(axes)
    rows = np.empty((len(chosen), HEAD + A_AXIS * naxes), np.int64)
    chunk = pieces.chunk[chosen]
    start, out_start = pieces.start[chosen], pieces.out_start[chosen]
    extent = pieces.extent[chosen]
    rows[:, 0] = chunk
    first = np.zeros(len(chosen), np.int64)
    target = np.full(len(chosen), address, np.int64)
    lists = 0
    sources: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    listed = 0
    for a, (axis, out_stride) in enumerate(zip(axes, out_strides, strict=True)):
        here = HEAD + A_AXIS * a
        rows[:, here] = extent[:, a]
        if not axis.dims:
            rows[:, here + 1] = 0
            rows[:, here + 2] = out_stride
            target += out_start[:, a] * out_stride
            continue
        stride = strides[chunk][:, list(axis.dims)]
        if axis.local is None:
            rows[:, here + 1] = axis.step * stride[:, 0]
            rows[:, here + 2] = out_stride
            first += start[:, a] * stride[:, 0]
            target += out_start[:, a] * out_stride
            continue
        lists |= 1 << a
        count = extent[:, a]
        begin = np.cumsum(count) - count
        place = np.arange(int(count.sum())) - np.repeat(begin, count)
        local = axis.local[np.repeat(start[:, a], count) + place]
        sources.append((local * np.repeat(stride, count, axis=0)).sum(axis=1))
        where = np.repeat(out_start[:, a], count) + place
        if axis.position is not None:
            where = axis.position[where]
        targets.append(where * out_stride)
        rows[:, here + 1] = listed + begin
        rows[:, here + 2] = 0
        listed += len(place)
    rows[:, 1], rows[:, 2] = first, target
    return PieceRows(rows, lists, _joined(sources), _joined(targets))


def join_rows(parts: Sequence[PieceRows]) -> PieceRows:
    """The pieces of several outputs of the same number and kind of axes, as one table."""
    if len(parts) == 1:
        return parts[0]
    tables = []
    listed = 0
    for part in parts:
        rows = part.rows
        if part.lists and listed:
            rows = rows.copy()
            for a in range(part.naxes):
                if part.lists >> a & 1:
                    rows[:, HEAD + A_AXIS * a + 1] += listed
        tables.append(rows)
        listed += len(part.list_source)
    return PieceRows(
        np.concatenate(tables),
        parts[0].lists,
        _joined([part.list_source for part in parts]),
        _joined([part.list_target for part in parts]),
    )


def merge_axes(pieces: PieceRows) -> PieceRows:
    """The same pieces with as few axes as possible: single places and continued runs go.

    An axis is left out where every piece has one place along it, and two neighbours are one axis
    where, in every piece, the outer one continues the inner one on both sides.
    """
    extents, sources, targets = pieces.extents, pieces.source_steps, pieces.target_steps
    merged: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
    lists = 0
    for a in range(pieces.naxes):
        extent, source, target = extents[:, a], sources[:, a], targets[:, a]
        is_list = pieces.lists >> a & 1
        if not is_list and bool((extent == 1).all()):
            continue
        if merged and not is_list and not lists >> (len(merged) - 1) & 1:
            outer, outer_source, outer_target = merged[-1]
            single = outer == 1
            continues = (outer_source == source * extent) & (outer_target == target * extent)
            if bool((single | continues).all()):
                merged[-1] = (outer * extent, source, target)
                continue
        lists |= is_list << len(merged)
        merged.append((extent, source, target))
    if len(merged) == pieces.naxes:
        return pieces
    rows = np.empty((len(pieces.rows), HEAD + A_AXIS * len(merged)), np.int64)
    rows[:, :HEAD] = pieces.rows[:, :HEAD]
    for place, columns in enumerate(merged):
        for i, column in enumerate(columns):
            rows[:, HEAD + A_AXIS * place + i] = column
    return PieceRows(rows, lists, pieces.list_source, pieces.list_target)


def first_blocks(counts: NDArray[np.int64], tile: int) -> NDArray[np.int64]:
    """(n + 1,) the first thread block of each item, when a block does `tile` of its elements.

    >>> first_blocks(np.array([1, 0, 300]), 256).tolist()
    [0, 1, 1, 3]
    """
    edges = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(-(-counts // tile), out=edges[1:])
    return edges


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
