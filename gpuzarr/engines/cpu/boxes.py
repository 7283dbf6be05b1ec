"""Pieces of chunks as boxes of memory, copied from address to address.

To index two arrays by a tuple of slices for every piece takes longer than to copy a small piece.
Where a piece lies in memory is arithmetic on columns, and its rows are runs of bytes on both sides:
so each is one assignment between two arrays of rows that are made of addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cpu.copying import MOST_ROW, row_type
from gpuzarr.plan.shard_index import unique_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.engine import Output
    from gpuzarr.plan.chunk_table import OutputAxis

LEAST_PIECES = 8
"""Pieces from which on the columns are worth making."""


class Boxes:
    """All pieces that chunks of one shape give to an output."""

    def __init__(
        self,
        array: NDArray[Any],
        shape: tuple[int, ...],
        columns: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        owner: NDArray[np.int64],
        in_chunk: Sequence[bool],
    ) -> None:
        """Find the addresses.

        Args:
            array: the output's.
            shape: of a chunk.
            columns: (n, naxes) each: where pieces begin in their chunks and in the output, and
                their extents.
            owner: (n,) the chunks that they belong to.
            in_chunk: (naxes,) whether an axis of the output is one of the chunk, too.
        """
        start, out_start, extent = columns
        itemsize = array.itemsize
        own = np.empty(shape, np.uint8).strides
        along = iter([stride * itemsize for stride in own])
        strides = tuple(next(along) if inside else 0 for inside in in_chunk)
        self.shape = shape
        self._strides = strides[:-1]
        self._out_strides = array.strides[:-1]
        self._memory = array.reshape(-1).view(np.uint8).data
        self._chunk_nbytes = itemsize * int(np.prod(shape))
        source = start @ np.asarray(strides, np.int64) + owner * self._chunk_nbytes
        self._sources: list[int] = source.tolist()
        self._targets: list[int] = (out_start @ np.asarray(array.strides, np.int64)).tolist()
        self._forms = _forms(extent, itemsize)

    @classmethod
    def of(
        cls,
        output: Output,
        axes: Sequence[OutputAxis],
        shape: tuple[int, ...],
        columns: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        owner: NDArray[np.int64],
    ) -> Boxes | None:
        """For pieces that can be copied so; else None."""
        array, conversion = output.array, output.conversion
        if (
            len(owner) < LEAST_PIECES
            or not axes
            or not (conversion.identity and conversion.field is None)
            or type(array) is not np.ndarray  # masked arrays and their like assign in their own way
            or not array.flags.c_contiguous
            or array.dtype.hasobject
            or not array.nbytes
            or not axes[-1].dims
            or any(axis.local is not None or axis.step != 1 or len(axis.dims) > 1 for axis in axes)
            or int(columns[2][:, -1].max()) > MOST_ROW
        ):
            return None
        return cls(array, shape, columns, owner, [bool(axis.dims) for axis in axes])

    def copy(self, rows: slice, chunk: int, values: NDArray[Any]) -> None:
        """Write some pieces.

        Args:
            rows: which, of chunks that `values` holds.
            chunk: the first of these chunks.
            values: (..., *shape) C-contiguous, one chunk or several.
        """
        source = values.reshape(-1).view(np.uint8).data
        begin = chunk * self._chunk_nbytes
        memory, out_strides, strides = self._memory, self._out_strides, self._strides
        for (shape, row), place, target in zip(
            self._forms[rows], self._sources[rows], self._targets[rows], strict=True
        ):
            to: NDArray[Any] = np.ndarray(shape, row, memory, target, out_strides)
            to[...] = np.ndarray(shape, row, source, place - begin, strides)


def _forms(
    extent: NDArray[np.int64], itemsize: int
) -> list[tuple[tuple[int, ...], np.dtype[np.void]]]:
    """Of each piece how many rows it has along which axes, and what a row is.

    Pieces that are alike share them: Python's garbage collector looks at each of many new tuples.
    """
    heads, kinds = unique_rows(extent)
    known = [(tuple(rows), row_type(last * itemsize)) for *rows, last in extent[heads].tolist()]
    return [known[kind] for kind in kinds.tolist()]
