"""Walking an array in pieces that end where chunks end, so that no chunk is decoded twice."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Sizes = int | Sequence[int]
    """Chunk sizes along an axis: one for all, or each in order."""


class Edges:
    """Where the chunks of one axis begin and end."""

    def __init__(self, length: int, sizes: Sizes) -> None:
        self.length = length
        self._size = max(sizes, 1) if isinstance(sizes, int) else 0
        self._starts = [] if isinstance(sizes, int) else [0, *accumulate(sizes)]

    def chunk(self, position: int) -> tuple[int, int]:
        """Start and stop of the chunk that holds `position`; the stop is cut at the axis' end.

        >>> Edges(10, 4).chunk(9), Edges(10, (3, 7)).chunk(3)
        ((8, 10), (3, 10))
        """
        if self._size:
            start = position // self._size * self._size
            return start, min(start + self._size, self.length)
        row = bisect_right(self._starts, position) - 1
        return self._starts[row], min(self._starts[row + 1], self.length)

    def split(self, most: int) -> Iterator[tuple[int, int]]:
        """Cut the axis into runs of whole chunks of at most `most` elements, or of one chunk.

        >>> list(Edges(10, 2).split(5)), list(Edges(10, 4).split(1))
        ([(0, 4), (4, 8), (8, 10)], [(0, 4), (4, 8), (8, 10)])
        """
        yield from split_range(range(self.length), self, most)


def split_range(positions: range, edges: Edges, most: int) -> Iterator[tuple[int, int]]:
    """Cut `positions` into runs `positions[i:j]` that end where a chunk ends.

    Each has at most `most` positions, or those of one chunk.

    >>> list(split_range(range(9, -1, -1), Edges(10, 4), 5))
    [(0, 2), (2, 6), (6, 10)]
    """
    begin, count = 0, len(positions)
    while begin < count:
        end = begin + max(most, 1)
        if end >= count:
            yield begin, count
            return
        shared = _first_in_chunk(positions, edges, end)
        end = shared if shared > begin else _first_after_chunk(positions, edges, begin)
        yield begin, end
        begin = end


def _first_in_chunk(positions: range, edges: Edges, i: int) -> int:
    """The first index whose position lies in the same chunk as that of index `i`."""
    start, stop = edges.chunk(positions[i])
    if positions.step > 0:
        return bisect_left(positions, start)
    return bisect_left(positions, 1 - stop, key=lambda position: -position)


def _first_after_chunk(positions: range, edges: Edges, i: int) -> int:
    """The first index behind `i` whose position lies in another chunk."""
    start, stop = edges.chunk(positions[i])
    if positions.step > 0:
        return bisect_left(positions, stop)
    return bisect_left(positions, 1 - start, key=lambda position: -position)


def split_array(
    shape: Sequence[int], chunks: Sequence[Sizes], most: int
) -> Iterator[tuple[slice, ...]]:
    """Cut an array into boxes of whole chunks of about `most` elements, or of one chunk.

    Boxes are as long as they can be along the last axes, where what is stored lies together.

    >>> [tuple((s.start, s.stop) for s in box) for box in split_array((4, 6), (2, 3), 12)]
    [((0, 2), (0, 6)), ((2, 4), (0, 6))]
    """
    edges = [Edges(length, sizes) for length, sizes in zip(shape, chunks, strict=True)]
    smallest = [axis.chunk(0)[1] if axis.length else 0 for axis in edges]
    per_axis = list(smallest)
    taken = 1
    for size in smallest:
        taken *= max(size, 1)
    for axis in reversed(range(len(shape))):
        grown = max(taken // max(per_axis[axis], 1), 1)
        per_axis[axis] = min(max(most // grown, per_axis[axis]), shape[axis])
        taken = grown * max(per_axis[axis], 1)
        if per_axis[axis] < shape[axis]:
            break
    cuts = (list(axis.split(most)) for axis, most in zip(edges, per_axis, strict=True))
    for box in product(*cuts):
        yield tuple(slice(start, stop) for start, stop in box)
