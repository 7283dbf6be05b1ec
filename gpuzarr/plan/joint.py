"""Hop 5 for many selections at once: each chunk that any of them touches is in the table once.

Selections that differ only in where they begin, such as the crops of a batch, are cut together, on
whole columns, and go to one output, whose first axis counts them. All others are planned one by
one. The pieces of all are then brought into the order of their chunks, so that a chunk is decoded
once and scattered to every place that needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.plan.chunk_table import ChunkTable, OutputAxis, PieceTable, plan_chunks
from gpuzarr.plan.ranges import changes
from gpuzarr.plan.selection import Span
from gpuzarr.plan.shard_index import unique_rows
from gpuzarr.plan.spans import check_chunks, cut_jumps, cut_spans, jumps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gpuzarr.plan.grid import GridAxis
    from gpuzarr.plan.selection import Selection

BLOCK_NBYTES = 32 << 20
"""Bytes of tables that are written out at a time. A chunk that selections of several such blocks
need is decoded once for each block."""

BEHIND = OutputAxis(())
"""The first axis of an output that holds the results of several selections, one behind another."""

Tables = tuple[ChunkTable, PieceTable]


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """One selection of a read."""

    array: int
    """Which array of the read."""
    selection: Selection
    output: int
    """Which output of the read."""
    place: int | None
    """Its place along the output's first axis; None: the output is its own."""


@dataclass(frozen=True, slots=True, eq=False)
class JointPlan:
    """The chunks that several selections of arrays with one program need."""

    wanted: Sequence[Wanted]
    grids: Sequence[Sequence[GridAxis]]
    """The chunk grid of each array."""
    noutputs: int
    """Outputs of the whole read."""
    itemsize: int
    """Bytes of a decoded element."""

    def blocks(self) -> Iterator[Tables]:
        """The tables, at most about `BLOCK_NBYTES` of them at a time."""
        ndim = max((len(grid) for grid in self.grids), default=0)
        naxes = 1 + max((len(want.selection.axes) for want in self.wanted), default=0)
        naxes = max(naxes, 1 + ndim)  # whole chunks may go to an output as well
        most = max(1, BLOCK_NBYTES // (8 * (2 + 2 * ndim + 3 * naxes)))
        parts: list[_Pieces] = []
        rows = 0
        for part in self._cut(most, naxes):
            if rows and rows + len(part) > most:
                yield self._together(parts)
                parts, rows = [], 0
            parts.append(part)
            rows += len(part)
        if rows:
            yield self._together(parts)

    def _cut(self, most: int, naxes: int) -> Iterator[_Pieces]:
        """The pieces of all selections, in runs of about `most` at the largest."""
        together: dict[object, list[Wanted]] = {}
        for want in self.wanted:
            axes = want.selection.axes
            if want.place is not None and all(isinstance(axis, Span) for axis in axes):
                steps = tuple((axis.dims, axis.step) for axis in axes if isinstance(axis, Span))
                together.setdefault((want.array, want.output, steps), []).append(want)
            else:
                yield from _cut_alone(want, self.grids[want.array], naxes)
        for wanted in together.values():
            yield from _cut_together(wanted, self.grids[wanted[0].array], most, naxes)

    def _together(self, parts: list[_Pieces]) -> Tables:
        """Pieces of all parts in the order of their chunks, and each chunk once."""
        pieces = _Pieces.join(parts)
        order, begins = _chunk_order(pieces.array, pieces.coords, len(self.grids))
        heads = order[np.flatnonzero(begins)]
        shape = pieces.size[heads]
        nbytes = np.minimum(shape.prod(axis=1, dtype=np.float64) * self.itemsize, 2.0**62)
        if len(shape) and bool((shape == shape[:1]).all()):
            shape = np.broadcast_to(shape[0], shape.shape)  # so that others need not look again
        chunks = ChunkTable(
            pieces.array[heads], pieces.coords[heads], shape, nbytes.astype(np.int64)
        )
        axes: list[tuple[OutputAxis, ...]] = [()] * self.noutputs
        for part in parts:
            axes[part.number] = part.axes
        table = PieceTable(
            np.cumsum(begins) - 1,
            pieces.output[order],
            pieces.start[order],
            pieces.out_start[order],
            pieces.extent[order],
            tuple(axes),
        )
        return chunks, table


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Pieces with the chunks that they are of, in any order; columns as in the tables."""

    array: NDArray[np.int32]
    coords: NDArray[np.int64]
    size: NDArray[np.int64]
    output: NDArray[np.int32]
    start: NDArray[np.int64]
    out_start: NDArray[np.int64]
    extent: NDArray[np.int64]
    number: int
    """The output, where it is one."""
    axes: tuple[OutputAxis, ...]

    def __len__(self) -> int:
        return len(self.coords)

    @classmethod
    def of(cls, want: Wanted, chunks: ChunkTable, pieces: PieceTable, naxes: int) -> _Pieces:
        """The pieces of one selection."""
        n = len(chunks)
        columns = [pieces.start, pieces.out_start, pieces.extent]
        axes = pieces.axes[0]
        if want.place is not None:
            axes = (BEHIND, *axes)
            columns = [
                np.concatenate([np.full((n, 1), value), column], axis=1)
                for value, column in zip((0, want.place, 1), columns, strict=True)
            ]
        start, out_start, extent = (
            _widened(column, naxes, value) for column, value in zip(columns, (0, 0, 1), strict=True)
        )
        array, output = np.full(n, want.array, np.int32), np.full(n, want.output, np.int32)
        return cls(
            array, chunks.coords, chunks.shape, output, start, out_start, extent, want.output, axes
        )

    @classmethod
    def join(cls, parts: Sequence[_Pieces]) -> _Pieces:
        """All of them behind one another."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.array for part in parts]),
            np.concatenate([part.coords for part in parts]),
            np.concatenate([part.size for part in parts]),
            np.concatenate([part.output for part in parts]),
            np.concatenate([part.start for part in parts]),
            np.concatenate([part.out_start for part in parts]),
            np.concatenate([part.extent for part in parts]),
            -1,
            (),
        )


def _widened(column: NDArray[np.int64], naxes: int, value: int) -> NDArray[np.int64]:
    """The column with as many axes as the widest output of the read has."""
    if column.shape[1] == naxes:
        return column
    wide = np.full((len(column), naxes), value, np.int64)
    wide[:, : column.shape[1]] = column
    return wide


@dataclass(frozen=True, slots=True, eq=False)
class _AxisCuts:
    """What many spans along one dimension take from chunks: rows in the order of the spans."""

    first: NDArray[np.int64]
    """(spans,) the first row of each."""
    count: NDArray[np.int64]
    """(spans,) its rows."""
    columns: NDArray[np.int64]
    """(rows, 5) chunk, its size, first index inside it, first place of the span, places."""


def _cut_alone(want: Wanted, grid: Sequence[GridAxis], naxes: int) -> Iterator[_Pieces]:
    """The pieces of one selection."""
    itemsize = 1  # sizes of chunks are computed for all pieces together
    for chunks, pieces in plan_chunks(want.selection, grid, itemsize).blocks():
        yield _Pieces.of(want, chunks, pieces, naxes)


def _cut_together(
    wanted: Sequence[Wanted], grid: Sequence[GridAxis], most: int, naxes: int
) -> Iterator[_Pieces]:
    """Cut selections that consist of spans of the same steps."""
    spans = [[axis for axis in want.selection.axes if isinstance(axis, Span)] for want in wanted]
    table = np.array(
        [[(span.start, span.count) for span in row] for row in spans], np.int64
    ).reshape(len(wanted), len(grid), 2)
    place = np.array([want.place for want in wanted], np.int64)
    cuts = [
        _cut_axis(table[:, i, 0], table[:, i, 1], span.step, grid[span.dim])
        for i, span in enumerate(spans[0])
    ]
    dims = [span.dim for span in spans[0]]
    axes = (BEHIND, *(OutputAxis(span.dims, span.step) for span in spans[0]))
    counts = np.ones((len(wanted), len(cuts)), np.int64)
    for i, cut in enumerate(cuts):
        counts[:, i] = cut.count
    total = counts.prod(axis=1, dtype=np.float64)
    # Runs of selections: the pieces before a selection, counted in runs of `most`.
    run = ((np.cumsum(total) - total) // most).astype(np.int64)
    edges = [*np.flatnonzero(changes(run)).tolist(), len(wanted)]
    for begin, end in pairwise(edges):
        if total[begin:end].max() > 2 * most:  # one of them alone is too large: by its own blocks
            for want in wanted[begin:end]:
                yield from _cut_alone(want, grid, naxes)
            continue
        rows, which = _product([cut.first[begin:end] for cut in cuts], counts[begin:end])
        n = len(which)
        coords = np.empty((n, len(grid)), np.int64)
        size = np.empty_like(coords)
        start = np.zeros((n, naxes), np.int64)
        out_start = np.zeros_like(start)
        extent = np.ones_like(start)
        out_start[:, 0] = place[begin:end][which]
        for i, (dim, cut) in enumerate(zip(dims, cuts, strict=True)):
            columns = cut.columns[rows[i]]
            coords[:, dim], size[:, dim] = columns[:, 0], columns[:, 1]
            start[:, i + 1], out_start[:, i + 1], extent[:, i + 1] = columns[:, 2:].T
        array = np.full(n, wanted[0].array, np.int32)
        output = np.full(n, wanted[0].output, np.int32)
        yield _Pieces(array, coords, size, output, start, out_start, extent, wanted[0].output, axes)


def _cut_axis(
    start: NDArray[np.int64], count: NDArray[np.int64], step: int, grid: GridAxis
) -> _AxisCuts:
    """Cut spans along one dimension."""
    nspans = len(start)
    if jumps(step, grid):
        touched = count
        heads = start
    else:
        live = count > 0
        heads = grid.chunk_of(start)
        tails = grid.chunk_of(np.where(live, start + (count - 1) * step, start))
        touched = np.where(live, np.abs(tails - heads) + 1, 0)
    check_chunks(int(touched.max(initial=0)))
    span = np.repeat(np.arange(nspans), touched)
    within = np.arange(len(span)) - np.repeat(np.cumsum(touched) - touched, touched)
    if jumps(step, grid):
        cuts = cut_jumps(start[span], within, step, grid)
    else:
        chunk = heads[span] + (within if step > 0 else -within)
        cuts, keep = cut_spans(start[span], count[span], step, chunk, grid)
        if not keep.all():
            cuts, span = cuts.take(keep), span[keep]
            touched = np.bincount(span, minlength=nspans)
    size = grid.size_of(cuts.chunk)
    columns = np.stack([cuts.chunk, size, cuts.start, cuts.out_start, cuts.extent], axis=-1)
    return _AxisCuts(np.cumsum(touched) - touched, touched, columns)


def _product(
    first: Sequence[NDArray[np.int64]], counts: NDArray[np.int64]
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """The product of the axes' rows, selection by selection: rows of each axis, and selections."""
    total = counts.prod(axis=1).astype(np.int64)
    which = np.repeat(np.arange(len(counts)), total)
    rest = np.arange(len(which)) - np.repeat(np.cumsum(total) - total, total)
    rows: list[NDArray[np.int64]] = []
    for i in reversed(range(len(first))):
        rest, row = np.divmod(rest, counts[which, i])
        rows.insert(0, first[i][which] + row)
    return rows, which


def _chunk_order(
    array: NDArray[np.int32], coords: NDArray[np.int64], narrays: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The order of pieces by array and chunk, and where in it another chunk begins."""
    rows = coords
    if narrays > 1:
        rows = np.concatenate([array[:, None], coords], axis=1, dtype=np.int64)
    first, group = unique_rows(rows)
    # Sorting small integers of few bits takes one pass.
    order = np.argsort(group.astype(np.min_scalar_type(len(first))), kind="stable")
    return order, changes(group[order])
