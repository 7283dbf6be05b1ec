"""Choices made of bytes, so that mutating bytes explores whatever can be built of choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Option = TypeVar("Option")


class Draw:
    """The same bytes make the same choices; where they run out, every choice is its first option.

    >>> draw = Draw(bytes([2, 7, 1]))
    >>> draw.choice("abc"), draw.integer(-5, 4), draw.flag(), draw.integer(3, 9)
    ('c', 2, True, 3)
    """

    def __init__(self, data: bytes) -> None:
        """Begin at the first byte."""
        self._data = data
        self._place = 0

    def integer(self, low: int, high: int) -> int:
        """A number from `low` to `high`, of as many bytes as the range takes."""
        count = high - low + 1
        nbytes = -(-(count - 1).bit_length() // 8)
        return low + int.from_bytes(self.take(nbytes), "little") % count

    def choice(self, options: Sequence[Option]) -> Option:
        """One of some options."""
        return options[self.integer(0, len(options) - 1)]

    def flag(self) -> bool:
        """False or True."""
        return bool(self.integer(0, 1))

    def some(self, most: int) -> range:
        """To be iterated over a drawn number of times, `most` at most."""
        return range(self.integer(0, most))

    def take(self, nbytes: int) -> bytes:
        """The next bytes; zeros where there are none left."""
        taken = self._data[self._place : self._place + nbytes]
        self._place += nbytes
        return taken.ljust(nbytes, b"\0")

    def rest(self) -> bytes:
        """All bytes that are left."""
        taken = self._data[self._place :]
        self._place = max(self._place, len(self._data))
        return taken
