"""Write pieces of decoded chunks to their places in an output.

A `PieceWriter` prepares the pieces of a batch for one output, on whole columns: slices where an
axis is a span, NumPy's own indexing where it is a list, and the one run of output memory that a
chunk fills alone, which decoders may then write straight into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.conversion import convert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.engine import Output
    from gpuzarr.plan.chunk_table import OutputAxis, PieceTable
    from gpuzarr.program import Layout

Index = tuple[Any, ...]


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
        self._first = np.searchsorted(pieces.chunk[rows], np.arange(nchunks + 1)).tolist()
        self._lists = any(axis.local is not None for axis in axes)
        self._places: list[memoryview | None] | None = None
        if not self._lists:
            self._sources = self._columns(
                self._start, [axis.step if axis.dims else None for axis in axes]
            )
            self._targets = self._columns(self._out_start, [1] * len(axes))

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
        nbytes = (extent.prod(axis=1) * array.itemsize).tolist()
        offset = (out_start @ np.asarray(array.strides, np.int64)).tolist()
        flat = memoryview(array.reshape(-1).view(np.uint8))
        self._places = [
            flat[o : o + n] if is_direct else None
            for is_direct, o, n in zip(direct.tolist(), offset, nbytes, strict=True)
        ]

    def place(self, chunk: int) -> memoryview | None:
        """The output memory that this chunk alone fills, in its own order; None: use `write`."""
        return None if self._places is None else self._places[chunk]

    def write(self, chunk: int, values: NDArray[Any]) -> None:
        """Convert and write all pieces of a decoded chunk.

        Raises:
            ValueError: a value that the output's type cannot hold.
        """
        output = self._output
        conversion = output.conversion
        if conversion.field is not None:
            values = values[conversion.field]
        for row in range(self._first[chunk], self._first[chunk + 1]):
            part = self._list_source(row, values) if self._lists else values[self._sources[row]]
            if not conversion.identity:
                part = convert(part, conversion)
            output.array[self._target(row)] = part

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
                # An element may be a list, which NumPy would spread over the place.
                shape = output.array[target].shape
                output.array[target] = np.broadcast_to(fill, shape)
            else:
                output.array[target] = fill

    def _columns(self, start: NDArray[np.int64], steps: Sequence[int | None]) -> list[Index]:
        """Slices of every row, one for each axis; without a step, an axis that is not there."""
        if not steps:
            return [()] * len(start)
        columns: list[Sequence[Any]] = [
            [None] * len(start) if step is None else _slices(start[:, i], self._extent[:, i], step)
            for i, step in enumerate(steps)
        ]
        return list(zip(*columns, strict=True))

    def _target(self, row: int) -> Index:
        if not self._lists:
            return self._targets[row]
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


def _slices(start: NDArray[np.int64], extent: NDArray[np.int64], step: int) -> list[slice]:
    stop = start + extent * step
    return [_slice(a, b, step) for a, b in zip(start.tolist(), stop.tolist(), strict=True)]


def _slice(start: int, stop: int, step: int) -> slice:
    # A negative stop would count from the end; None means "down to the very first".
    return slice(start, None if stop < 0 else stop, step)


def _one_run(extent: NDArray[np.int64], shape: Sequence[int]) -> NDArray[np.bool_]:
    """(n,) whether a box of `extent` in a C-contiguous array of `shape` is one run of memory."""
    leading_ones = np.cumprod(extent == 1, axis=1).sum(axis=1)
    trailing_full = np.cumprod((extent == np.asarray(shape))[:, ::-1], axis=1).sum(axis=1)
    return np.asarray(leading_ones + trailing_full >= extent.shape[1] - 1)
