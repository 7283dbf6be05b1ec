"""The chunk grid along each dimension: which chunk holds an index, and where a chunk begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gpuzarr.errors import MemoryLimitError
from gpuzarr.metadata.model import ChunkGrid, RectilinearGrid, RegularGrid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


Chunks = tuple[int, ...] | tuple[tuple[int, ...], ...]
"""A chunk shape, or the sizes along each dimension."""

MOST_SIZES = 1 << 24
"""Sizes of rectilinear chunks along one dimension that are written out."""

LONGEST_TEXT = 60
"""Characters of a chunk grid's sizes in a repr."""


class GridAxis(Protocol):
    """Chunks along one dimension. Everything takes and gives arrays of int64."""

    @property
    def length(self) -> int:
        """Length of the array along this dimension, in elements."""
        ...

    @property
    def nchunks(self) -> int:
        """Number of chunks that hold elements of the array."""
        ...

    def chunk_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The chunks that hold elements `indices`."""
        ...

    def start_of(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first element of each chunk."""
        ...

    def size_of(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The size of each chunk as it is stored: the last one may reach past the array."""
        ...


@dataclass(frozen=True, slots=True)
class RegularAxis:
    """Chunks of one size."""

    length: int
    size: int

    @property
    def nchunks(self) -> int:
        """Number of chunks that hold elements of the array."""
        return -(-self.length // self.size)

    def chunk_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The chunks that hold elements `indices`."""
        return indices // self.size

    def start_of(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first element of each chunk."""
        return chunks * self.size

    def size_of(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The size of each chunk."""
        return np.full(chunks.shape, self.size, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class RectilinearAxis:
    """Chunks of different sizes."""

    length: int
    edges: NDArray[np.int64]
    """(chunks + 1,) first element of each chunk, then the end of the last."""

    @property
    def nchunks(self) -> int:
        """Number of chunks that hold elements of the array."""
        return int(np.searchsorted(self.edges[:-1], self.length, side="left"))

    def chunk_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The chunks that hold elements `indices`."""
        return np.searchsorted(self.edges, indices, side="right") - 1

    def start_of(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first element of each chunk."""
        return self.edges[chunks]

    def size_of(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The size of each chunk."""
        return self.edges[chunks + 1] - self.edges[chunks]


def grid_axes(grid: ChunkGrid, shape: Sequence[int]) -> tuple[GridAxis, ...]:
    """The grid along each dimension of an array of `shape`.

    >>> grid_axes(RegularGrid((4,)), (10,))[0].nchunks
    3
    """
    match grid:
        case RegularGrid(chunk_shape):
            return tuple(map(RegularAxis, shape, chunk_shape))
        case RectilinearGrid(chunk_sizes):
            return tuple(
                RegularAxis(length, sizes)
                if isinstance(sizes, int)
                else RectilinearAxis(length, np.cumsum([0, *sizes], dtype=np.int64))
                for length, sizes in zip(shape, chunk_sizes, strict=True)
            )


def grid_sizes(grid: ChunkGrid) -> tuple[int | tuple[int, ...], ...]:
    """Along each dimension the size of all chunks, or the sizes of each."""
    match grid:
        case RegularGrid(chunk_shape):
            return chunk_shape
        case RectilinearGrid(chunk_sizes):
            return chunk_sizes


def grid_shape(grid: ChunkGrid, shape: Sequence[int]) -> Chunks:
    """The chunk shape; of a rectilinear grid each dimension's sizes, written out.

    Raises:
        MemoryLimitError: they would fill gigabytes.
    """
    if isinstance(grid, RegularGrid):
        return grid.chunk_shape
    counts = [axis.nchunks for axis in grid_axes(grid, shape)]
    if max(counts, default=0) > MOST_SIZES:
        raise MemoryLimitError(
            f"{max(counts)} chunk sizes along one dimension are too many to list; see"
            " `metadata.chunk_grid`"
        )
    return tuple(
        (sizes,) * count if isinstance(sizes, int) else sizes
        for sizes, count in zip(grid_sizes(grid), counts, strict=True)
    )


def grid_text(grid: ChunkGrid) -> str:
    """The chunk sizes for people.

    >>> grid_text(RectilinearGrid(((1, 2), 4)))
    '((1, 2), 4)'
    """
    text = str(grid_sizes(grid))
    return text if len(text) <= LONGEST_TEXT else "rectilinear"
