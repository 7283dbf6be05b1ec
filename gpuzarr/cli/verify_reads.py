"""Reading stored objects whole, in large boxes where they lie together, and naming what fails.

Whole, since a read of a part may leave out what it does not need, such as blocks of a Blosc frame.
What lies alone, as in a listing that is in no order, is read many at a time as crops of one shape,
which costs a fraction of reading each.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.errors import ChunkError, ChunkFailure, GpuzarrError, MemoryLimitError, StoreError
from gpuzarr.many import read_batch
from gpuzarr.plan.keys import chunk_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuzarr.array import Array
    from gpuzarr.source import ArraySource

Coords = tuple[int, ...]
Box = tuple[tuple[int, int], ...]
"""Along each dimension the first and the end: of objects in their grid, or of elements."""

FETCH = "fetch"
"""The step of chunks that the storage failed for."""
LEAST_TOGETHER = 32
"""Objects that lie together and are worth a read of their own."""
MOST_IN_A_ROW = 16
"""Chunks that the storage may fail for one after the other before the array is given up."""


def merge_boxes(coords: Sequence[Coords]) -> list[Box]:
    """Boxes that cover some places of a grid exactly, neighbours joined.

    >>> merge_boxes([(0, 0), (0, 1), (1, 1), (1, 0), (5, 5)])
    [((0, 2), (0, 2)), ((5, 6), (5, 6))]
    """
    around = tuple((min(axis), max(axis) + 1) for axis in zip(*coords, strict=True))
    if coords and _size(around) == len(set(coords)):
        return [around]
    boxes: list[Box] = sorted({tuple((at, at + 1) for at in place) for place in coords})
    for dim in reversed(range(len(around))):
        boxes.sort(key=lambda box: (box[:dim], box[dim + 1 :], box[dim]))
        merged: list[Box] = []
        for box in boxes:
            last = merged[-1] if merged else None
            if (
                last is not None
                and last[dim][1] == box[dim][0]
                and (last[:dim], last[dim + 1 :]) == (box[:dim], box[dim + 1 :])
            ):
                merged[-1] = (*last[:dim], (last[dim][0], box[dim][1]), *last[dim + 1 :])
            else:
                merged.append(box)
        boxes = merged
    return sorted(boxes)


def consecutive(counts: Coords, most: int) -> Iterator[list[Coords]]:
    """All places of a grid in C order, some at a time, however many there are.

    >>> list(consecutive((2, 2), 3))
    [[(0, 0), (0, 1), (1, 0)], [(1, 1)]]
    """

    def places() -> Iterator[Coords]:
        for number in range(prod(counts)):
            place = []
            for count in reversed(counts):
                number, at = divmod(number, count)  # noqa: PLW2901  its digits
                place.append(at)
            yield tuple(reversed(place))

    every = places()
    while batch := list(islice(every, most)):
        yield batch


def find_stored(source: ArraySource, coords: Sequence[Coords]) -> dict[Coords, int | None]:
    """Those of some objects that are stored, and their sizes, by requests of no bytes, together.

    None stands for a size that cannot be told.
    """
    table = np.array(coords, np.int64).reshape(len(coords), len(source.objects))
    keys = chunk_keys(table, source.metadata.chunk_key_encoding, source.path)
    zeros = [0] * len(keys)
    pending = source.store.start_reads(keys, zeros, zeros)
    stored: dict[Coords, int | None] = {}
    for row, (place, key) in enumerate(zip(coords, keys, strict=True)):
        try:
            blob = pending.result(row)
            if blob is not None:
                sharded = source.codecs.shard is not None
                asked = sharded and blob.size is None
                stored[place] = source.store.size(key) if asked else blob.size
        except GpuzarrError:  # whoever reads it says what it is
            stored[place] = None
    return stored


class Reader:
    """Reads parts of an array, and tells of chunks that fail."""

    def __init__(
        self,
        array: Array,
        source: ArraySource,
        most: int,
        fail: Callable[[ChunkFailure], None],
        advance: Callable[[int], None],
    ) -> None:
        """Prepare to read.

        Args:
            array: the array.
            source: the same array, prepared.
            most: elements that one read may have, unless a single chunk has more.
            fail: is told of each chunk that did not become data, once.
            advance: is told how many chunks were dealt with.
        """
        self._array = array
        self._source = source
        self._most = max(most, 1)
        self._fail = fail
        self._advance = advance
        self._failed_in_a_row = 0

    def read_objects(self, coords: Sequence[Coords]) -> None:
        """Read all chunks of some stored objects, by the objects' places in their grid.

        Raises:
            GpuzarrError: the same will happen to every other chunk.
        """
        alone: dict[Coords, list[Box]] = {}
        for box in merge_boxes(coords):
            if _size(box) >= LEAST_TOGETHER:
                self._read_box(self._elements_of(box))
                continue
            for place in product(*(range(*edges) for edges in box)):
                elements = self._elements_of(tuple((at, at + 1) for at in place))
                shape = tuple(stop - start for start, stop in elements)
                if prod(shape) > self._most:
                    self._read_box(elements)
                    continue
                same = alone.setdefault(shape, [])
                same.append(elements)
                if (len(same) + 1) * prod(shape) > self._most:
                    self._read(alone.pop(shape))
        for same in alone.values():
            self._read(same)

    def _read_box(self, box: Box) -> None:
        """Read a box of elements, in parts where it is large."""
        waiting = [box]
        while waiting:
            part = waiting.pop()
            halves = self._halves(part) if _size(part) > self._most else None
            if halves is None:
                self._read([part])
            else:
                waiting += reversed(halves)

    def _read(self, boxes: Sequence[Box]) -> None:
        """Read boxes of elements of one shape."""
        keys = [tuple(slice(start, stop) for start, stop in box) for box in boxes]
        try:
            if len(keys) == 1:
                self._array.read(keys[0])
            else:
                read_batch([(self._array, key) for key in keys])
        except ChunkError as error:
            if not error.failures:
                raise
            for failure in error.failures:
                self._fail(replace(failure, store=None, requests=()))
        except (StoreError, MemoryLimitError) as error:
            # It says nothing of the other chunks of this read.
            if len(boxes) > 1:
                self._read(boxes[: len(boxes) // 2])
                self._read(boxes[len(boxes) // 2 :])
                return
            halves = self._halves(boxes[0])
            if halves is not None:
                self._read(halves[:1])
                self._read(halves[1:])
                return
            self._failed_in_a_row += 1
            coords = tuple(chunks.start for chunks in self._chunks_of(boxes[0]))
            self._fail(ChunkFailure(error.key or "", coords, FETCH, error))
            if self._failed_in_a_row >= MOST_IN_A_ROW:
                raise
            self._advance(1)
            return
        self._failed_in_a_row = 0
        self._advance(sum(prod(map(len, self._chunks_of(box))) for box in boxes))

    def _elements_of(self, box: Box) -> Box:
        """The elements of a box of objects."""
        elements = []
        for axis, (first, end) in zip(self._source.objects, box, strict=True):
            edge = np.array([first, end - 1], np.int64)
            begins, sizes = axis.start_of(edge).tolist(), axis.size_of(edge).tolist()
            elements.append((begins[0], min(begins[1] + sizes[1], axis.length)))
        return tuple(elements)

    def _chunks_of(self, box: Box) -> list[range]:
        """The chunks in a box of elements, along each dimension."""
        found = []
        for axis, (start, stop) in zip(self._source.chunks, box, strict=True):
            first, last = axis.chunk_of(np.array([start, stop - 1], np.int64)).tolist()
            found.append(range(first, last + 1))
        return found

    def _halves(self, box: Box) -> list[Box] | None:
        """The box cut in two between chunks; None where it is one chunk."""
        for dim, chunks in enumerate(self._chunks_of(box)):
            if len(chunks) > 1:
                middle = np.array([chunks[len(chunks) // 2]], np.int64)
                cut = int(self._source.chunks[dim].start_of(middle)[0])
                start, stop = box[dim]
                return [
                    (*box[:dim], (start, cut), *box[dim + 1 :]),
                    (*box[:dim], (cut, stop), *box[dim + 1 :]),
                ]
        return None


def _size(box: Box) -> int:
    return prod(stop - start for start, stop in box)
