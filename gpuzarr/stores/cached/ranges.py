"""Byte ranges that were read, and where a range that is asked for lies among them.

A range's place is its start and stop in the object, so that one is found that lies in another, or
in several together: which neighbours are asked for in one request differs from read to read. What
is asked for from the end of an object of unknown size has a place as well: counted from the end, in
numbers below zero, which no other range can have.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gpuzarr.errors import StoreError
from gpuzarr.stores.store import WHOLE, Blob, find_range

if TYPE_CHECKING:
    from collections.abc import Sequence


class KeptRanges(Protocol):
    """Where a cache keeps ranges: in memory, or in a folder. Any thread may call any of these."""

    def find(self, key: str, offset: int, nbytes: int) -> Blob | None:
        """A range that is kept, or lies in one; None where it must be read. See `Store.read`."""
        ...

    def holds(self, key: str, offset: int, nbytes: int) -> bool:
        """Whether `find` would most likely find it."""
        ...

    def keep(self, key: str, offset: int, nbytes: int, blob: Blob) -> None:
        """Keep what the store gave for a range; ranges of other versions of the object go."""
        ...

    def forget(self, key: str) -> None:
        """Drop all ranges of an object."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes of an object of which ranges are kept, where they tell."""
        ...


class Span(NamedTuple):
    """A range's place in its object."""

    start: int
    stop: int


def span_of(offset: int, nbytes: int, size: int | None) -> Span | None:
    """The place of a range that is asked for.

    Args:
        offset: as in `Store.read`.
        nbytes: as in `Store.read`.
        size: of the object, if known.

    Returns:
        None where that cannot be told, or the range does not lie in the object.

    >>> span_of(-8, WHOLE, 20), span_of(-8, WHOLE, None), span_of(3, WHOLE, None)
    (Span(start=12, stop=20), Span(start=-8, stop=0), None)
    """
    if size is not None:
        try:
            return Span(*find_range(size, "", offset, nbytes))
        except StoreError:
            return None
    if nbytes == WHOLE:
        return Span(offset, 0) if offset < 0 else None
    if nbytes < 0 or offset < 0 < offset + nbytes:
        return None
    return Span(offset, offset + nbytes)


def known_size(offset: int, nbytes: int, blob: Blob) -> int | None:
    """The size of an object, as far as what was read tells.

    >>> known_size(-100, WHOLE, Blob(memoryview(b"all of it")))
    9
    """
    got = len(blob.data)
    if blob.size is not None or nbytes != WHOLE:
        return blob.size
    if offset >= 0:
        return offset + got
    return got if got < -offset else None


def find_cover(spans: Sequence[Span], wanted: Span) -> list[int]:
    """Those of `spans` that hold `wanted` together, by their numbers; none where they do not.

    Args:
        spans: sorted, and none inside another: so of those that begin before a place, the last one
            reaches furthest.
        wanted: a place.

    >>> spans = [Span(0, 5), Span(3, 9), Span(9, 12), Span(20, 30)]
    >>> [find_cover(spans, Span(*wanted)) for wanted in [(4, 8), (4, 10), (9, 21)]]
    [[1], [1, 2], []]
    """
    cover: list[int] = []
    place = wanted.start
    while place < wanted.stop or not cover:
        found = bisect_right(spans, place, key=lambda span: span.start) - 1
        if found < 0 or spans[found].stop < min(place + 1, wanted.stop):
            return []
        cover.append(found)
        place = spans[found].stop
    return cover


def cut_out(spans: Sequence[Span], wanted: Span) -> list[Span]:
    """What each of some ranges that hold `wanted` together gives to it.

    >>> cut_out([Span(3, 9), Span(8, 12)], Span(4, 10))
    [Span(start=4, stop=9), Span(start=9, stop=10)]
    """
    parts = []
    place = wanted.start
    for span in spans:
        stop = min(span.stop, wanted.stop)
        parts.append(Span(place, stop))
        place = stop
    return parts


def find_inside(spans: Sequence[Span], around: Span) -> range:
    """Those of `spans`, sorted as above, that lie inside `around`, by their numbers.

    >>> find_inside([Span(0, 5), Span(3, 9), Span(8, 12)], Span(3, 20))
    range(1, 3)
    """
    first = bisect_left(spans, around.start, key=lambda span: span.start)
    last = bisect_right(spans, around.stop, key=lambda span: span.stop)
    return range(first, max(first, last))
