"""Reading little-endian numbers at many places of a buffer at once, and noting what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

MOST = 1 << 62
"""Sizes are cut here, so that sums of absurd ones do not wrap."""


def read_integers(data: NDArray[np.uint8], place: Integers, nbytes: int) -> Integers:
    """Unsigned little-endian integers of 1, 2, 4, or 8 bytes at places that are inside `data`.

    >>> read_integers(np.array([1, 2, 0, 1], np.uint8), np.array([0, 2]), 2).tolist()
    [513, 256]
    """
    if not len(place):
        return np.zeros(0, np.int64)
    # A view with a number at every byte: one look at memory for each number, however it lies.
    words = np.ndarray((len(data) - nbytes + 1,), f"<u{nbytes}", data, strides=(1,))
    found = words[place]
    if nbytes == 8:  # noqa: PLR2004  the only ones that can be absurd
        found = np.minimum(found, MOST)
    return found.astype(np.int64)


def read_big_endian(data: NDArray[np.uint8], place: Integers) -> Integers:
    """Unsigned big-endian integers of 4 bytes."""
    return read_integers(data, place, 4).astype(np.uint32).byteswap().astype(np.int64)


class Verdicts:
    """What is wrong with rows; the first word counts."""

    def __init__(self, count: int) -> None:
        """Nothing is wrong yet with `count` rows."""
        self.good = np.ones(count, np.bool_)
        self.failures: dict[int, str] = {}
        self.host: dict[int, str] = {}

    def fail(
        self, rows: Integers, wrong: NDArray[np.bool_], message: str | Callable[[int], str]
    ) -> None:
        """Some of these rows are damaged; a message may depend on the place in `rows`."""
        self._note(self.failures, rows, wrong, message)

    def leave(self, rows: Integers, wrong: NDArray[np.bool_], reason: str) -> None:
        """Some of these rows are for the host."""
        self._note(self.host, rows, wrong, reason)

    def _note(
        self,
        notes: dict[int, str],
        rows: Integers,
        wrong: NDArray[np.bool_],
        text: str | Callable[[int], str],
    ) -> None:
        if not wrong.any():
            return
        for place in np.flatnonzero(wrong).tolist():
            row = int(rows[place])
            if self.good[row]:
                self.good[row] = False
                notes[row] = text if isinstance(text, str) else text(place)
