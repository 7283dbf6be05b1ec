"""Hop 5, plan: which chunks a selection touches, and what each of them gives to which output.

Every axis of a selection touches a row of chunks, found with arithmetic on whole columns
(`AxisPieces`). A `ChunkPlan` is the product of these rows, kept implicit, so that planning costs
the sum of the axes and not their product. `ChunkPlan.tables` writes a range of it out as two
tables of columns, which the rest of the read works on:

    ChunkTable   row i: one chunk to fetch and decode, once
    PieceTable   row j: the part of a chunk that one output needs, and where it goes
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise, product
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gpuzarr.plan.selection import Points, Span
from gpuzarr.plan.spans import check_chunks, cut_jumps, cut_spans, jumps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gpuzarr.plan.grid import GridAxis
    from gpuzarr.plan.selection import Selection

AnyInteger = TypeVar("AnyInteger", np.int32, np.int64)

BLOCK_NBYTES = 10 << 20
"""Bytes of the tables that are written out at a time: 100,000 chunks of three dimensions. The hops
after this one hold about four times as much, however large the read."""


@dataclass(frozen=True, slots=True, eq=False)
class OutputAxis:
    """One axis of an output, as all pieces that go there have it."""

    dims: tuple[int, ...]
    """The array dimensions that the axis covers; none where it counts results of many selections
    that lie behind one another."""
    step: int = 1
    """Step inside the chunk; 1 where `local` is given."""
    local: NDArray[np.int64] | None = None
    """(places, len(dims)) index inside the chunk of every place, for lists; else None."""
    position: NDArray[np.int64] | None = None
    """(places,) place in the output, where a list is not in the order of the chunks; else None."""


@dataclass(frozen=True, slots=True, eq=False)
class AxisPieces:
    """What one axis of a selection takes from each chunk that it touches: a row a chunk."""

    axis: OutputAxis
    chunk: NDArray[np.int64]
    """(rows, len(dims)) chunk coordinates."""
    size: NDArray[np.int64]
    """(rows, len(dims)) stored size of the chunk along these dimensions."""
    start: NDArray[np.int64]
    """(rows,) first index inside the chunk; with `local`, the first row of it that belongs to the
    chunk."""
    out_start: NDArray[np.int64]
    """(rows,) first place in the output; with `position`, the first row of it."""
    extent: NDArray[np.int64]
    """(rows,) number of places."""


@dataclass(frozen=True, slots=True, eq=False)
class ChunkTable:
    """Chunks to fetch and decode, each once."""

    array: NDArray[np.int32]
    """(n,) which array of the read it belongs to."""
    coords: NDArray[np.int64]
    """(n, ndim) position in the chunk grid."""
    shape: NDArray[np.int64]
    """(n, ndim) elements along each dimension, as stored (edge chunks are stored whole)."""
    decoded_nbytes: NDArray[np.int64]
    """(n,) bytes of the decoded chunk."""

    def __len__(self) -> int:
        return len(self.coords)

    def __repr__(self) -> str:
        shown = ", ".join(str(tuple(row)) for row in self.coords[:3].tolist())
        return f"<ChunkTable of {len(self)} chunks: {shown}{', ...' if len(self) > 3 else ''}>"  # noqa: PLR2004

    def part(self, rows: slice) -> ChunkTable:
        """Consecutive rows, without a copy."""
        return ChunkTable(
            self.array[rows], self.coords[rows], self.shape[rows], self.decoded_nbytes[rows]
        )

    def take(self, rows: NDArray[np.int64]) -> ChunkTable:
        """Some of the rows."""
        return ChunkTable(
            _take(self.array, rows),
            _take(self.coords, rows),
            _take(self.shape, rows),
            _take(self.decoded_nbytes, rows),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PieceTable:
    """Parts of chunks and their places in the outputs; rows are in the order of `chunk`."""

    chunk: NDArray[np.int64]
    """(n,) row of the chunk table."""
    output: NDArray[np.int32]
    """(n,) which output of the read."""
    start: NDArray[np.int64]
    """(n, axes) first index inside the chunk, or first row of the axis's `local`."""
    out_start: NDArray[np.int64]
    """(n, axes) first place in the output, or first row of the axis's `position`."""
    extent: NDArray[np.int64]
    """(n, axes) number of places."""
    axes: tuple[tuple[OutputAxis, ...], ...]
    """For each output its axes. Columns behind those of an output with fewer axes than others
    have mean nothing: start 0, extent 1."""

    def __len__(self) -> int:
        return len(self.chunk)

    def part(self, rows: slice) -> PieceTable:
        """Consecutive rows, without a copy, numbered as they are."""
        return PieceTable(
            self.chunk[rows],
            self.output[rows],
            self.start[rows],
            self.out_start[rows],
            self.extent[rows],
            self.axes,
        )

    def take(self, rows: NDArray[np.int64]) -> PieceTable:
        """Some of the rows, numbered as they are."""
        return PieceTable(
            _take(self.chunk, rows),
            _take(self.output, rows),
            _take(self.start, rows),
            _take(self.out_start, rows),
            _take(self.extent, rows),
            self.axes,
        )

    def by_output(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """The outputs that pieces go to, each with its rows, in the order of their chunks."""
        order = np.argsort(self.output, kind="stable")
        sorted_outputs = self.output[order]
        edges = np.flatnonzero(np.diff(sorted_outputs, prepend=-1, append=-1))
        for begin, end in pairwise(edges.tolist()):
            yield int(sorted_outputs[begin]), order[begin:end]

    def of_chunks(self, wanted: NDArray[np.int64]) -> PieceTable:
        """The pieces of some chunks, numbered by their place in `wanted`, in that order."""
        if np.array_equal(self.chunk, np.arange(len(self.chunk))):  # one piece each
            return replace(self.take(wanted), chunk=np.arange(len(wanted)))
        first = np.searchsorted(self.chunk, wanted, side="left")
        count = np.searchsorted(self.chunk, wanted, side="right") - first
        chunk = np.repeat(np.arange(len(wanted)), count)
        within = np.arange(len(chunk)) - np.repeat(np.cumsum(count) - count, count)
        return replace(self.take(np.repeat(first, count) + within), chunk=chunk)


@dataclass(frozen=True, slots=True, eq=False)
class ChunkPlan:
    """The chunks that a selection touches: the product of its axes, in C order, not written out."""

    axes: tuple[AxisPieces, ...]
    ndim: int
    itemsize: int

    @property
    def nchunks(self) -> int:
        """Number of chunks touched."""
        return prod(len(axis.extent) for axis in self.axes)

    def blocks(self) -> Iterator[tuple[ChunkTable, PieceTable]]:
        """The tables, at most `BLOCK_NBYTES` of them at a time, in the order of the output."""
        counts = [len(axis.extent) for axis in self.axes]
        row_nbytes = 8 * (1 + self.ndim + 3 * len(self.axes))
        most = BLOCK_NBYTES // row_nbytes
        split, inner = len(counts), 1
        while split and inner * counts[split - 1] <= most:
            split -= 1
            inner *= counts[split]
        whole = [slice(0, count) for count in counts]
        if not inner:
            return
        if not split:
            yield self.tables(whole)
            return
        # Boxes, each a run of rows: single places along the first axes, then a part of one axis.
        step = max(1, most // inner)
        parts = [
            slice(first, min(first + step, counts[split - 1]))
            for first in range(0, counts[split - 1], step)
        ]
        for places in product(*map(range, counts[: split - 1])):
            for part in parts:
                yield self.tables([*(slice(at, at + 1) for at in places), part, *whole[split:]])

    def first_coords(self, count: int) -> NDArray[np.int64]:
        """(count or fewer, ndim) the first chunks, in the order of the output."""
        counts = [len(axis.extent) for axis in self.axes]
        rows = np.unravel_index(np.arange(min(count, prod(counts))), counts) if counts else ()
        coords = np.zeros((min(count, prod(counts)), self.ndim), np.int64)
        for axis, row in zip(self.axes, rows, strict=True):
            coords[:, list(axis.axis.dims)] = axis.chunk[row]
        return coords

    def tables(self, box: Sequence[slice]) -> tuple[ChunkTable, PieceTable]:
        """A box of the product as tables, in C order; every chunk gives one piece."""
        counts = [part.stop - part.start for part in box]
        count = prod(counts)
        sides, alongs = _product(counts)
        coords = np.empty((*sides, self.ndim), np.int64)
        start = np.empty((*sides, len(box)), np.int64)
        out_start = np.empty_like(start)
        extent = np.empty_like(start)
        for place, (axis, part, along) in enumerate(zip(self.axes, box, alongs, strict=True)):
            for i, dim in enumerate(axis.axis.dims):
                coords[..., dim] = axis.chunk[part, i].reshape(along)
            start[..., place] = axis.start[part].reshape(along)
            out_start[..., place] = axis.out_start[part].reshape(along)
            extent[..., place] = axis.extent[part].reshape(along)
        shape = self._shapes(box, counts)
        # In floating point, exact to 2**53, so that absurd chunk shapes do not wrap to small sizes.
        nbytes = np.minimum(shape.prod(axis=1, dtype=np.float64) * self.itemsize, 2.0**62)
        zeros = np.broadcast_to(np.int32(0), (count,))
        chunks = ChunkTable(
            zeros,
            coords.reshape(count, self.ndim),
            np.broadcast_to(shape, (count, self.ndim)),
            np.broadcast_to(nbytes.astype(np.int64), (count,)),
        )
        start, out_start, extent = (
            column.reshape(count, len(box)) for column in (start, out_start, extent)
        )
        axes = tuple(axis.axis for axis in self.axes)
        return chunks, PieceTable(np.arange(count), zeros, start, out_start, extent, (axes,))

    def _shapes(self, box: Sequence[slice], counts: Sequence[int]) -> NDArray[np.int64]:
        """(n, ndim) shapes of a box's chunks; one row where all are the same."""
        sizes = [axis.size[part] for axis, part in zip(self.axes, box, strict=True)]
        if all(len(size) == 1 or bool((size == size[:1]).all()) for size in sizes):
            counts, sizes = [1] * len(counts), [size[:1] for size in sizes]
        sides, alongs = _product(counts)
        shape = np.empty((*sides, self.ndim), np.int64)
        for axis, size, along in zip(self.axes, sizes, alongs, strict=True):
            for i, dim in enumerate(axis.axis.dims):
                shape[..., dim] = size[:, i].reshape(along)
        return shape.reshape(prod(counts), self.ndim)


def _product(counts: Sequence[int]) -> tuple[list[int], list[tuple[int, ...]]]:
    """The shape of a product of axes, and for each axis the shape of what lies along it.

    Axes of one entry are left out: NumPy has 64 dimensions, which a column needs one more than.
    """
    wide = [count for count in counts if count != 1]
    places = accumulate(count != 1 for count in counts)
    return wide, [
        (-1, *(1,) * (len(wide) - place)) if count != 1 else (1,)
        for count, place in zip(counts, places, strict=True)
    ]


def _take(column: NDArray[AnyInteger], rows: NDArray[np.int64]) -> NDArray[AnyInteger]:
    """Some rows of a column; without a copy where all rows are one."""
    if column.strides[0] == 0 and len(column) >= len(rows):
        return column[: len(rows)]
    return column.take(rows, axis=0)


def plan_chunks(selection: Selection, grid: Sequence[GridAxis], itemsize: int) -> ChunkPlan:
    """Find the chunks that `selection` touches in an array with this grid.

    Args:
        selection: what is read.
        grid: the chunk grid along each dimension.
        itemsize: bytes of one decoded element.

    Raises:
        MemoryLimitError: the tables alone would need gigabytes.
    """
    if not all(axis.count for axis in selection.axes):
        # However many chunks the other axes touch.
        nothing = tuple(_no_pieces(OutputAxis(axis.dims)) for axis in selection.axes)
        return ChunkPlan(nothing, len(grid), itemsize)
    axes = tuple(
        _span_pieces(axis, grid[axis.dim])
        if isinstance(axis, Span)
        else _point_pieces(axis, [grid[dim] for dim in axis.dims])
        for axis in selection.axes
    )
    return ChunkPlan(axes, len(grid), itemsize)


def count_at_least(selection: Selection, grid: Sequence[GridAxis]) -> int:
    """How many chunks a selection touches if each of its lists stays in one; without any table."""
    count = 1
    for axis in selection.axes:
        if not axis.count:
            return 0
        if isinstance(axis, Span) and not jumps(axis.step, grid[axis.dim]):
            ends = grid[axis.dim].chunk_of(np.array([axis.start, axis.last]))
            # Smaller steps may jump over every other chunk of a rectilinear grid.
            touched = min(axis.count, abs(int(ends[1]) - int(ends[0])) + 1)
            count *= touched if abs(axis.step) == 1 else 1
        elif isinstance(axis, Span):
            count *= axis.count
    return count


def _span_pieces(span: Span, grid: GridAxis) -> AxisPieces:
    """Cut start, start + step, ... at the chunk boundaries; rows are in the order of the output."""
    axis = OutputAxis(span.dims, span.step)
    step = span.step
    if span.count == 0:
        return _no_pieces(axis)
    if jumps(step, grid):
        check_chunks(span.count)
        cuts = cut_jumps(span.start, np.arange(span.count), step, grid)
    else:
        ends = grid.chunk_of(np.array([span.start, span.last]))
        check_chunks(abs(int(ends[1]) - int(ends[0])) + 1)
        chunk = np.arange(ends[0], ends[1] + np.sign(step), np.sign(step))
        cuts, keep = cut_spans(span.start, span.count, step, chunk, grid)
        if not keep.all():  # chunks that a step jumps over
            cuts = cuts.take(keep)
    size = grid.size_of(cuts.chunk)
    return AxisPieces(
        axis, cuts.chunk[:, None], size[:, None], cuts.start, cuts.out_start, cuts.extent
    )


def _point_pieces(points: Points, grids: Sequence[GridAxis]) -> AxisPieces:
    """Group a list of places by chunk."""
    coords = points.coords
    if not len(coords):
        return _no_pieces(OutputAxis(points.dims))
    chunk = np.stack([grid.chunk_of(coords[:, i]) for i, grid in enumerate(grids)], axis=-1)
    order = None
    if not _in_order(chunk):
        order = np.lexsort(chunk.T[::-1])
        chunk = chunk[order]
        coords = coords[order]
    first = np.flatnonzero(np.r_[True, (chunk[1:] != chunk[:-1]).any(axis=1)])
    begin = np.stack([grid.start_of(chunk[:, i]) for i, grid in enumerate(grids)], axis=-1)
    heads = chunk[first]
    return AxisPieces(
        OutputAxis(points.dims, 1, coords - begin, order),
        heads,
        np.stack([grid.size_of(heads[:, i]) for i, grid in enumerate(grids)], axis=-1),
        first,
        first,
        np.diff(np.r_[first, len(coords)]),
    )


def _in_order(chunk: NDArray[np.int64]) -> bool:
    """Whether rows of chunk coordinates stand in C order already."""
    delta = chunk[1:] - chunk[:-1]
    # The sign of the first coordinate that differs decides.
    differs = delta != 0
    lead = np.take_along_axis(delta, differs.argmax(axis=1)[:, None], axis=1)
    return bool((lead >= 0).all())


def _no_pieces(axis: OutputAxis) -> AxisPieces:
    none = np.zeros(0, np.int64)
    table = np.zeros((0, len(axis.dims)), np.int64)
    return AxisPieces(axis, table, table, none, none, none)
