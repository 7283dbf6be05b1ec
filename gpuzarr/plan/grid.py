"""The chunk grid along each dimension: which chunk holds an index, and where a chunk begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gpuzarr.metadata.model import ChunkGrid, RectilinearGrid, RegularGrid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


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
