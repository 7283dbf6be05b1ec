"""Write pieces of decoded chunks to their places in an output.

A `PieceWriter` prepares the pieces of a batch for one output, on whole columns: slices where an
axis is a span, NumPy's own indexing where it is a list, and the one run of output memory that a
chunk fills alone, which decoders may then write straight into.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.conversion import convert
from gpuzarr.engines.cpu.boxes import Boxes
from gpuzarr.engines.cpu.copying import put, view
from gpuzarr.engines.cpu.prepared import is_part
from gpuzarr.plan.ranges import next_begin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cpu.prepared import Span
    from gpuzarr.engines.engine import Output
    from gpuzarr.plan.chunk_table import OutputAxis, PieceTable
    from gpuzarr.program import Layout

Index = tuple[Any, ...]

LEAST_RUN = 6
"""Pieces side by side that are faster written in one go than each by its address."""


class PieceWriter:
    """The pieces that some chunks give to one output."""

    def __init__(
        self,
        output: Output,
        pieces: PieceTable,
        rows: NDArray[np.int64] | slice,
        axes: Sequence[OutputAxis],
        nchunks: int,
    ) -> None:
        """Prepare pieces.

        Args:
            output: where they go.
            pieces: the table.
            rows: the rows of it that belong to this output, in order of their chunks.
            axes: the output's axes.
            nchunks: number of chunks that `pieces.chunk` counts.
        """
        self._output = output
        self._axes = axes
        own = slice(0, len(axes))
        self._start = pieces.start[rows, own]
        self._out_start = pieces.out_start[rows, own]
        self._extent = pieces.extent[rows, own]
        self._owner = pieces.chunk[rows]
        self._first: list[int] = np.searchsorted(self._owner, np.arange(nchunks + 1)).tolist()
        self._lists = any(axis.local is not None for axis in axes)
        self._places_stop: list[int] = []
        self._run_ends: list[int] = []
        self._run_axes: list[int] = []
        self._boxes: Boxes | None = None
        self._looked = False
        self._steps = [axis.step if axis.dims else None for axis in axes]

    # Flat lists: Python's garbage collector would look at each of many new lists.

    @cached_property
    def _starts(self) -> list[int]:
        found: list[int] = self._start.reshape(-1).tolist()
        return found

    @cached_property
    def _out_starts(self) -> list[int]:
        found: list[int] = self._out_start.reshape(-1).tolist()
        return found

    @cached_property
    def _extents(self) -> list[int]:
        found: list[int] = self._extent.reshape(-1).tolist()
        return found

    def _columns(self, row: int) -> slice:
        """Where a piece stands in these lists."""
        naxes = len(self._axes)
        return slice(row * naxes, row * naxes + naxes)

    def allow_direct(self, layout: Layout, chunk_shapes: NDArray[np.int64]) -> None:
        """Find the chunks whose decoded bytes are, as they are, one run of the output's memory.

        Args:
            layout: of the decoded chunks.
            chunk_shapes: (nchunks, ndim) stored shapes.
        """
        array = self._output.array
        conversion = self._output.conversion
        if (
            self._lists
            or not len(self._extent)
            or not (conversion.identity and conversion.field is None and layout.c_order)
            or layout.dtype != array.dtype
            or array.dtype.hasobject
            or not array.flags.c_contiguous
            or type(array) is not np.ndarray  # masked arrays and their like assign in their own way
            or any(axis.step != 1 for axis in self._axes)
        ):
            return
        extent, out_start = self._extent, self._out_start
        alone = None
        if len(extent) != len(chunk_shapes):  # look at one piece of each chunk
            first = np.asarray(self._first)
            row = np.minimum(first[:-1], len(extent) - 1)
            extent, out_start, alone = extent[row], out_start[row], np.diff(first) == 1
        boxes = extent
        if extent.shape[1] > chunk_shapes.shape[1]:
            boxes = extent[:, [place for place, axis in enumerate(self._axes) if axis.dims]]
        direct = (boxes == chunk_shapes).all(axis=1) & _one_run(extent, array.shape)
        if alone is not None:
            direct &= alone
        if not direct.any():
            return
        nbytes = extent.prod(axis=1) * array.itemsize
        begin = out_start @ np.asarray(array.strides, np.int64)
        apart = ~direct
        apart[1:] |= ~direct[:-1] | (begin[1:] != begin[:-1] + nbytes[:-1])
        self._memory = array.reshape(-1).view(np.uint8).data
        self._place_begins = begin.tolist()
        self._place_ends = (begin + nbytes).tolist()
        # For each chunk the first one behind it that does not follow in memory; none: no place.
        self._places_stop = np.where(direct, next_begin(apart), 0).tolist()

    def places(self, chunk: int, stop: int) -> memoryview | None:
        """The memory that the chunks up to `stop` fill alone, in their own order, one by one.

        None where there is no such memory: use `write` or `write_run`.
        """
        if not self._places_stop or stop > self._places_stop[chunk]:
            return None
        return self._memory[self._place_begins[chunk] : self._place_ends[stop - 1]]

    def place(self, chunk: int) -> memoryview | None:
        """The memory that this chunk alone fills, in its own order; None: use `write`."""
        return self.places(chunk, chunk + 1)

    def spans(
        self, strides: Sequence[int], itemsize: int, nbytes: int
    ) -> list[list[Span] | None] | None:
        """For each chunk the bytes that its pieces need, from the first to the last of each.

        None: all of the chunk; and none for any chunk where all of all are needed.

        Args:
            strides: of a chunk's elements, along each dimension of the array.
            itemsize: of an element.
            nbytes: of a chunk.
        """
        if self._lists or not len(self._extent):
            return None
        along = np.array([strides[axis.dims[0]] if axis.dims else 0 for axis in self._axes])
        last = self._start + (self._extent - 1) * [axis.step for axis in self._axes]
        begin = np.minimum(self._start, last) @ along
        end = np.maximum(self._start, last) @ along + itemsize
        needed = np.bincount(self._owner, end - begin, minlength=len(self._first) - 1)
        parts = [is_part(count, nbytes) for count in needed.tolist()]
        if not any(parts):
            return None
        all_spans = list(zip(begin.tolist(), end.tolist(), strict=True))
        return [
            all_spans[first:stop] if part else None
            for part, (first, stop) in zip(parts, pairwise(self._first), strict=True)
        ]

    def write(self, chunk: int, values: NDArray[Any]) -> None:
        """Convert and write all pieces of a decoded chunk.

        Raises:
            ValueError: a value that the output's type cannot hold.
        """
        output = self._output
        conversion = output.conversion
        boxes = self._boxes_of(values, values.shape)
        if boxes is not None:
            boxes.copy(slice(self._first[chunk], self._first[chunk + 1]), chunk, values)
            return
        if conversion.field is not None:
            values = values[conversion.field]
        for row in range(self._first[chunk], self._first[chunk + 1]):
            part = (
                self._list_source(row, values) if self._lists else view(values, self._source(row))
            )
            if not conversion.identity:
                part = convert(part, conversion)
            if self._lists:
                output.array[self._target(row)] = part
            else:
                put(view(output.array, self._target(row)), part)

    def write_run(self, chunk: int, stop: int, values: NDArray[Any]) -> None:
        """Convert and write all pieces of consecutive chunks.

        Args:
            chunk: the first of them.
            stop: the one behind the last.
            values: (stop - chunk, ...) the decoded chunks.

        Raises:
            ValueError: a value that the output's type cannot hold.
        """
        output = self._output
        conversion = output.conversion
        if self._lists or conversion.field is not None or output.array.dtype.hasobject:
            for one in range(chunk, stop):
                self.write(one, values[one - chunk])
            return
        if not self._run_ends:
            self._find_runs()
        row, end = self._first[chunk], self._first[stop]
        owners, ends = self._owners, self._run_ends
        while row < end:
            until = min(end, ends[row])
            begin = owners[row] - chunk
            boxes = None
            if until - row < LEAST_RUN:
                boxes = self._boxes_of(values, values.shape[1:])
            if boxes is not None:
                while until < end and ends[until] - until < LEAST_RUN:
                    until = min(end, ends[until])
                boxes.copy(slice(row, until), chunk, values)
                row = until
                continue
            if until - row == 1:
                part = view(values[begin], self._source(row))
                target = view(output.array, self._target(row))
            else:
                part = values[(slice(begin, begin + until - row), *self._source(row))]
                target = self._run_target(row, until - row)
            put(target, part if conversion.identity else convert(part, conversion))
            row = until

    def _boxes_of(self, values: NDArray[Any], shape: tuple[int, ...]) -> Boxes | None:
        """The pieces as boxes of memory, if chunks of this shape, in these values, have them."""
        if not self._looked:
            columns = (self._start, self._out_start, self._extent)
            self._boxes = Boxes.of(self._output, self._axes, shape, columns, self._owner)
            self._looked = True
        boxes = self._boxes
        fits = (
            boxes is not None
            and boxes.shape == shape
            and values.dtype == self._output.array.dtype
            and values.flags.c_contiguous
        )
        return boxes if fits else None

    def _run_target(self, row: int, count: int) -> NDArray[Any]:
        """(count, ...) where the pieces of so many chunks go that stand side by side."""
        axis = self._run_axes[row]
        places = self._target_slices(row)
        first = places[axis].start
        extent = places[axis].stop - first
        places[axis] = slice(first, first + count * extent)
        block = self._output.array[tuple(places)]
        split: NDArray[Any] = block.reshape(
            *block.shape[:axis], count, extent, *block.shape[axis + 1 :]
        )
        return split.transpose(axis, *(i for i in range(split.ndim) if i != axis))

    def _find_runs(self) -> None:
        """Find pieces of consecutive chunks that stand side by side along one axis."""
        owner = self._owner
        moved = self._out_start[1:] - self._out_start[:-1]
        axis = (moved != 0).argmax(axis=1) if moved.shape[1] else np.zeros(len(moved), np.int64)
        joins = (
            (self._start[1:] == self._start[:-1]).all(axis=1)
            & (self._extent[1:] == self._extent[:-1]).all(axis=1)
            & (owner[1:] == owner[:-1] + 1)
        )
        # Along the one axis by its extent, along the others not at all.
        if moved.shape[1]:
            along = np.take_along_axis(self._extent[1:], axis[:, None], axis=1)[:, 0]
            joins &= (moved.sum(axis=1) == along) & ((moved != 0).sum(axis=1) == 1)
        else:
            joins[:] = False
        joins[1:] &= ~joins[:-1] | (axis[1:] == axis[:-1])
        self._run_axes = np.append(axis, 0).tolist()
        self._owners = owner.tolist()
        self._run_ends = next_begin(np.append(True, ~joins)).tolist()

    def fill(self, chunk: int) -> None:
        """Write the fill value, converted like any value, to all pieces of a chunk."""
        if self._first[chunk] == self._first[chunk + 1]:
            return
        output = self._output
        conversion = output.conversion
        fill = output.fill if conversion.field is None else output.fill[conversion.field]
        if not conversion.identity:
            fill = convert(fill, conversion)
        for row in range(self._first[chunk], self._first[chunk + 1]):
            target = self._target(row)
            if fill.dtype.hasobject:
                # An element may be a list, which NumPy would spread over the place; and the place
                # of a single object would take the array itself.
                shape = output.array[(*target, ...)].shape  # a view, 0-d ones too
                output.array[(*target, ...)] = np.broadcast_to(fill, shape)
            else:
                output.array[target] = fill

    def _source(self, row: int) -> Index:
        """Where the values of a piece lie in its chunk, with an axis for each of the output's."""
        columns = self._columns(row)
        return tuple(
            [
                None
                if step is None
                else slice(first, first + count)
                if step == 1
                else _slice(first, first + count * step, step)
                for first, count, step in zip(
                    self._starts[columns], self._extents[columns], self._steps, strict=True
                )
            ]
        )

    def _target_slices(self, row: int) -> list[slice]:
        columns = self._columns(row)
        return [
            slice(first, first + count)
            for first, count in zip(self._out_starts[columns], self._extents[columns], strict=True)
        ]

    def _target(self, row: int) -> Index:
        if not self._lists:
            return tuple(self._target_slices(row))
        places: list[Any] = []
        for axis, start, extent in zip(
            self._axes, self._out_start[row].tolist(), self._extent[row].tolist(), strict=True
        ):
            where = slice(start, start + extent)
            places.append(where if axis.position is None else axis.position[where])
        if sum(not isinstance(place, slice) for place in places) <= 1:
            return tuple(places)
        lists: list[NDArray[np.int64]] = [
            np.arange(place.start, place.stop) if isinstance(place, slice) else place
            for place in places
        ]
        return np.ix_(*lists)

    def _list_source(self, row: int, values: NDArray[Any]) -> NDArray[Any]:
        """The values of a piece with lists, with one axis for each of the selection's."""
        axes = self._axes
        values = values.transpose([dim for axis in axes for dim in axis.dims])
        place = values.ndim
        starts, extents = self._start[row].tolist(), self._extent[row].tolist()
        # From the last axis to the first, so that the places before it stay what they are.
        for axis, start, extent in zip(
            reversed(axes), reversed(starts), reversed(extents), strict=True
        ):
            place -= len(axis.dims)
            before: Index = (slice(None),) * place
            if not axis.dims:
                values = values[(*before, None)]
            elif axis.local is None:
                values = values[(*before, _slice(start, start + extent * axis.step, axis.step))]
            else:
                local = axis.local[start : start + extent]
                values = values[(*before, *(local[:, i] for i in range(len(axis.dims))))]
        return values


def piece_writers(outputs: Sequence[Output], pieces: PieceTable, nchunks: int) -> list[PieceWriter]:
    """A writer for each output that these pieces go to."""
    if len(outputs) == 1:
        return [PieceWriter(outputs[0], pieces, slice(None), pieces.axes[0], nchunks)]
    return [
        PieceWriter(outputs[number], pieces, rows, pieces.axes[number], nchunks)
        for number, rows in pieces.by_output()
    ]


def _slice(start: int, stop: int, step: int) -> slice:
    # A negative stop would count from the end; None means "down to the very first".
    return slice(start, None if stop < 0 else stop, step)


def _one_run(extent: NDArray[np.int64], shape: Sequence[int]) -> NDArray[np.bool_]:
    """(n,) whether a box of `extent` in a C-contiguous array of `shape` is one run of memory."""
    leading_ones = np.cumprod(extent == 1, axis=1).sum(axis=1)
    trailing_full = np.cumprod((extent == np.asarray(shape))[:, ::-1], axis=1).sum(axis=1)
    return np.asarray(leading_ones + trailing_full >= extent.shape[1] - 1)
