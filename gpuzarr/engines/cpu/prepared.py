"""What a decode step becomes for the CPU: a function from bytes to bytes, and what it promises."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.stores.aliasing import new_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Run = Callable[[memoryview, memoryview | None], memoryview | np.ndarray]
    RunBytes = Callable[[memoryview, memoryview | None], memoryview]
    Buffer = memoryview | bytes
    """Or any other object that gives bytes."""
    RunSpans = Callable[[memoryview, memoryview, Sequence["Span"]], bool]

Span = tuple[int, int]
"""The first byte of a range, and the one behind the last."""

LEFT_OUT = 4
"""One of so many bytes of a chunk must be left out, to make it worth decoding a part..."""
LEAST_PARTS_NBYTES = 1 << 17
"""... of chunks from this size on."""

KEPT_NBYTES = 1 << 24
"""A thread keeps scratch up to this size for its next chunks; larger scratch is given back."""

MANY_SLOT = 2


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The encoded bytes of several chunks, all in one piece of memory."""

    data: memoryview
    """The memory."""
    starts: NDArray[np.int64]
    """(n) where each begins in it."""
    nbytes: NDArray[np.int64]
    """(n) bytes of each."""

    @classmethod
    def between(cls, data: memoryview, ends: Sequence[int], begin: int = 0) -> Frames:
        """Those that lie one behind another from `begin` on, of which the ends are known."""
        edges = np.array([begin, *ends], np.int64)
        return cls(data, edges[:-1], np.diff(edges))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.starts)

    def __iter__(self) -> Iterator[memoryview]:
        """The bytes of each."""
        data = self.data
        for start, nbytes in zip(self.starts.tolist(), self.nbytes.tolist(), strict=True):
            yield data[start : start + nbytes]

    def some(self, which: slice | NDArray[np.int64]) -> Frames:
        """Some of them."""
        return Frames(self.data, self.starts[which], self.nbytes[which])


@dataclass(frozen=True, slots=True)
class Many:
    """How a step does several chunks at once."""

    decode: Callable[[Frames], Sequence[Buffer] | None]
    """Gives the bytes of each, or None. One call of a library does most of it, without the
    interpreter's lock. What it gives counts only for frames that `takes` lets pass."""
    takes: Callable[[Frames], bool]
    """Whether it may do these; most frames that are damaged it may not."""
    least: int
    """Frames from which on it is worth to look at all of them first."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One step, ready to run on chunks of one shape from many threads at once."""

    name: str
    """What it does, for errors."""
    run: Run
    """Takes the encoded bytes and a place for the result (or None); gives the result, there or
    elsewhere. Only steps that give objects give an array: flat, of objects."""
    nbytes: int | None
    """Bytes that must come out; None where only the data tell."""
    writes: bool
    """Whether a place for the result is of use to it..."""
    many: Many | None = None
    """How it does several chunks at once."""
    run_spans: RunSpans | None = None
    """Takes the encoded bytes, a place for the whole result, and ranges of it; writes those, and
    perhaps more. Gives whether it did, which only sound chunks let it."""
    wants_scratch: bool = True
    """...and one that is only for what comes next; it is quicker with memory of its own otherwise.
    """


@dataclass(frozen=True, slots=True)
class Limit:
    """The most bytes that a step of unknown size may give: `nbytes + factor * len(encoded)`."""

    nbytes: int
    factor: int = 0

    def of(self, encoded: memoryview) -> int:
        """The limit for one chunk."""
        return self.nbytes + self.factor * len(encoded)


class Scratch(threading.local):
    """Places for intermediate results, for each thread, reused from chunk to chunk.

    Fresh memory costs a page fault for every 4 KiB, which is as dear as decoding them.
    """

    def __init__(self) -> None:
        """Start with nothing; called once in every thread."""
        self._slots = [new_bytes(0), new_bytes(0), new_bytes(0)]

    def take(self, slot: int, nbytes: int) -> memoryview:
        """A place of `nbytes` in a slot; it ends what the slot held before."""
        place = self._slots[slot]
        if len(place) < nbytes:
            place = new_bytes(nbytes)
            if nbytes <= KEPT_NBYTES:
                self._slots[slot] = place
        return place[:nbytes]

    def take_many(self, nbytes: int) -> memoryview:
        """A place for the results of several chunks, which lies in no slot."""
        return self.take(MANY_SLOT, nbytes)


def is_part(nbytes: int, of: int) -> bool:
    """Whether so many bytes of so many are few enough that the others should be left out.

    >>> is_part(75, 100), is_part(76, 100), is_part(2, 2)
    (True, False, False)
    """
    return nbytes <= of - max(1, of // LEFT_OUT)


def new_bytes(nbytes: int) -> memoryview:
    """Uninitialised memory."""
    return new_memory(nbytes).data
