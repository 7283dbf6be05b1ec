"""Where windows lie: the grid of all whole crops, or random places, by number and without a list.

Both know cells: boxes as large as a stored object. The grid is numbered cell by cell, and random
places are drawn some in a cell, so that windows that follow each other share chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.errors import SelectionError
from gpuzarr.loader.permutation import MOST, Stream, draw, hash_numbers, permute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def cell_of(object_shape: Sequence[int], crop: Sequence[int]) -> tuple[int, ...]:
    """The cells for crops: along each dimension the least multiple of an object that holds one.

    >>> cell_of((64, 10), (16, 25))
    (64, 30)
    """
    return tuple(-(-c // o) * o for o, c in zip(object_shape, crop, strict=True))


def check_crop(shape: Sequence[int], crop: Sequence[int]) -> None:
    """Refuse crops of which none fits.

    Raises:
        SelectionError: too large, empty, or of another number of dimensions.
    """
    fits = len(shape) == len(crop)
    if not fits or any(not 1 <= c <= n for n, c in zip(shape, crop, strict=True)):
        raise SelectionError(f"crop {tuple(crop)} does not fit into shape {tuple(shape)}")


@dataclass(frozen=True, slots=True)
class GridWindows:
    """All whole crops of an array that lie `stride` apart."""

    shape: tuple[int, ...]
    """Of the array."""
    crop: tuple[int, ...]
    stride: tuple[int, ...]
    """Elements between windows along each dimension."""
    cell: tuple[int, ...] | None
    """Elements of a cell along each dimension, for numbers that run cell by cell; None: C order."""

    def __post_init__(self) -> None:
        """Refuse crops of which none fits, and more windows than can be numbered."""
        check_crop(self.shape, self.crop)
        if self.count > MOST:
            raise SelectionError(f"a grid of {self.count:,} windows is too large; take a stride")

    @property
    def counts(self) -> tuple[int, ...]:
        """Windows along each dimension."""
        return tuple(
            (n - c) // s + 1 for n, c, s in zip(self.shape, self.crop, self.stride, strict=True)
        )

    @property
    def count(self) -> int:
        """Number of windows."""
        return prod(self.counts)

    @property
    def group(self) -> int:
        """Windows of a full cell."""
        return prod(self._cell_counts)

    @property
    def _cell_counts(self) -> tuple[int, ...]:
        """Windows of a full cell along each dimension."""
        if self.cell is None:
            return (1,) * len(self.shape)
        return tuple(
            min(n, max(1, c // s))
            for n, c, s in zip(self.counts, self.cell, self.stride, strict=True)
        )

    def origins(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """(m, ndim) the first element of each window.

        Args:
            numbers: (m,) in range(count).
        """
        counts, cells = self.counts, self.cell or self.stride
        ndim = len(counts)
        first = np.empty((len(numbers), ndim), np.int64)
        size = np.empty_like(first)
        rest = numbers
        thick = np.ones(len(numbers), np.int64)  # windows of the cell along the dimensions before
        for dim, (cell, stride) in enumerate(zip(cells, self.stride, strict=True)):
            # What has one index along this dimension, in the row of cells found so far.
            row = thick * prod(counts[dim + 1 :])
            along = rest // row * stride // cell
            first[:, dim] = -(-along * cell // stride)
            end = np.minimum(-(-(along + 1) * cell // stride), counts[dim])
            size[:, dim] = end - first[:, dim]
            rest = rest - first[:, dim] * row
            thick = thick * size[:, dim]
        for dim in reversed(range(ndim)):  # C order inside the cell
            rest, within = np.divmod(rest, size[:, dim])
            first[:, dim] += within
        return first * np.array(self.stride, np.int64)


@dataclass(frozen=True, slots=True)
class RandomWindows:
    """Crops at places that are drawn uniformly from all where one fits.

    With a locality, samples come in visits: each draws a cell, and then as many samples inside it
    as crops would fill it. Every sample alone is uniform all the same.
    """

    shape: tuple[int, ...]
    """Of the array."""
    crop: tuple[int, ...]
    count: int
    """Samples of the epoch."""
    seed: int
    epoch: int
    cell: tuple[int, ...] | None
    """Elements of a cell along each dimension; for a locality."""
    locality: int | None
    """Visits that are mixed at a time; None: samples do not depend on each other."""

    def __post_init__(self) -> None:
        """Refuse crops of which none fits."""
        check_crop(self.shape, self.crop)

    @property
    def visit(self) -> int:
        """Samples of a visit."""
        return 1 if self.cell is None else max(1, prod(self.cell) // prod(self.crop))

    def origins(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """(m, ndim) the first element of each window.

        Args:
            numbers: (m,) samples, in range(count).
        """
        if self.locality is None or self.cell is None:
            return self._draw(Stream.ORIGINS, numbers)
        pool_size = self.locality * self.visit
        pool = numbers // pool_size
        begin = pool * pool_size
        keys = hash_numbers(self.seed, self.epoch, Stream.SAMPLE_POOLS, pool)
        # The last pool is mixed as if it were full, so that samples do not depend on their number.
        places = begin + permute(numbers - begin, pool_size, keys)
        cells = np.array(self.cell, np.int64)
        low = self._draw(Stream.VISITS, places // self.visit) // cells * cells
        end = np.minimum(low + cells, np.array(self._places, np.int64))
        return low + self._draw(Stream.PLACES, places, end - low)

    @property
    def _places(self) -> tuple[int, ...]:
        """Origins that a window may have along each dimension."""
        return tuple(n - c + 1 for n, c in zip(self.shape, self.crop, strict=True))

    def _draw(
        self,
        stream: Stream,
        numbers: NDArray[np.int64],
        below: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """(m, ndim) a random index along each dimension."""
        columns = [
            draw(
                *(self.seed, self.epoch, stream, numbers, dim),
                below=most if below is None else below[:, dim],
            )
            for dim, most in enumerate(self._places)
        ]
        return np.stack(columns, axis=-1) if columns else np.empty((len(numbers), 0), np.int64)
