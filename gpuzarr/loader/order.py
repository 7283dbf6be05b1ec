"""The order of an epoch's windows, and each rank's share of it: arithmetic on positions alone.

Nothing is kept but a few numbers, however many windows there are, so that any part of any epoch is
found at once, by any rank on any machine.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from gpuzarr.loader.permutation import Stream, draw, hash_numbers, permute

if TYPE_CHECKING:
    from numpy.typing import NDArray

Remainder = Literal["keep", "drop", "pad"]


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """Which window stands at each position of an epoch.

    With a locality, windows of neighbouring numbers form groups; the groups are shuffled, and the
    windows of so many of them at a time.
    """

    count: int
    """Windows of the epoch."""
    seed: int
    epoch: int
    shuffle: bool
    group: int
    """Windows that are neighbours: a run of numbers."""
    locality: int | None
    """Groups that are mixed at a time; None: windows are mixed over all."""

    def numbers(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """(m,) the windows at some positions.

        Args:
            positions: (m,) in range(count).
        """
        if not self.shuffle or not self.count:
            return positions
        if self.locality is None:
            return permute(positions, self.count, self._key(Stream.WINDOWS))
        # The windows of a pool of groups are mixed.
        pool_size = min(self.count, self.locality * self.group)
        pool = positions // pool_size
        begin = pool * pool_size
        size = np.minimum(pool_size, self.count - begin)
        keys = hash_numbers(self._key(Stream.POOLS), pool)
        places = begin + permute(positions - begin, size, keys)
        # The full groups are shuffled, never cut differently, so that one that is a cell stays one.
        # What is left, a short group, goes before a random one of them or to the end.
        full, short = divmod(self.count, self.group)
        before = int(draw(self._key(Stream.SHORT_GROUP), below=full + 1)) * self.group
        shifted = np.where(places < before, places, places - short)
        numbers = full * self.group + places - before
        rows = np.flatnonzero((places < before) | (shifted >= before))
        number, within = np.divmod(shifted[rows], self.group)
        numbers[rows] = permute(number, full, self._key(Stream.GROUPS)) * self.group + within
        return numbers

    def _key(self, stream: Stream) -> NDArray[np.uint64]:
        """Of one of the permutations of this epoch."""
        return hash_numbers(self.seed, self.epoch, stream)


@dataclass(frozen=True, slots=True)
class Split:
    """A rank's share of the positions of an epoch: a run of them."""

    count: int
    """Positions of the epoch."""
    rank: int
    world_size: int
    remainder: Remainder
    """Where they are not a multiple of the ranks: the first ranks have one more ("keep"); the last
    positions are left out ("drop"); the last rank goes on at the beginning ("pad")."""

    def __post_init__(self) -> None:
        """Look at the arguments.

        Raises:
            ValueError: they make no sense.
        """
        if operator.index(self.world_size) < 1:
            raise ValueError(f"world_size={self.world_size} is less than 1")
        if not 0 <= operator.index(self.rank) < self.world_size:
            raise ValueError(f"rank={self.rank} is not one of {self.world_size} ranks, 0 the first")
        if self.remainder not in get_args(Remainder):
            known = ", ".join(map(repr, get_args(Remainder)))
            raise ValueError(f"remainder={self.remainder!r} is none of {known}")

    def __len__(self) -> int:
        share, rest = divmod(self.count, self.world_size)
        match self.remainder:
            case "keep":
                return share + (self.rank < rest)
            case "drop":
                return share
            case "pad":
                return share + (rest > 0)

    def positions(self, start: int, stop: int) -> NDArray[np.int64]:
        """Positions of the epoch that this rank's windows from `start` to `stop` have."""
        share, rest = divmod(self.count, self.world_size)
        first = self.rank * len(self)
        if self.remainder == "keep":
            first = self.rank * share + min(self.rank, rest)
        return np.arange(first + start, first + stop) % max(1, self.count)
