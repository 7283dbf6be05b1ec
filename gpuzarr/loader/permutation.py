"""Random order without a table: where an element goes is computed, for a whole column at once.

`permute` is a permutation of range(n) that a key picks. The numbers below 2**b, the least such
power that is not below n, are permuted by a Feistel network, whose two halves are mixed into each
other in turn by a hash; a number that leaves range(n) is sent through the network again until it is
back ("cycle walking"), which is a permutation of range(n) once more:

    position -> high half, low half -> 8 rounds -> >= n? once more -> element

So an epoch of 10**12 windows takes as much memory as one of ten, and any part of it costs the same.
Up to n = 32 each element has a hash instead, and goes where that stands among the hashes of all
("prefix cipher"): then all n! permutations are equally likely, which small networks cannot do.

All three are in Black and Rogaway, "Ciphers with arbitrary finite domains" (CT-RSA 2002); halves of
unequal size keep the walk below two steps on average. The hash is the finaliser of splitmix64
(Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). It shuffles
well and keeps no secrets.

All is arithmetic modulo 2**64, nothing is asked of `numpy.random`: the same numbers come out on
every machine and with every version, which the tests pin down.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 1 << 62
"""The largest domain."""

ROUNDS = 8
"""With 6, a million keys show that where two elements go together is not uniform for n below 200;
with 8 they do not."""

SMALL = 32
"""Domains up to this size are sorted by hashes."""

GAMMA = 0x9E3779B97F4A7C15
"""The step of splitmix64: 2**64 over the golden ratio, odd."""

ALL_BITS = (1 << 64) - 1
STEPS = np.array([GAMMA * step & ALL_BITS for step in range(1, ROUNDS + 1)], np.uint64)[:, None]
ONE, HALF, LOW_HALF = np.uint64(1), np.uint64(32), np.uint64((1 << 32) - 1)
SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@unique
class Stream(IntEnum):
    """What random numbers are for. It is hashed with the rest, so that no two uses share any."""

    WINDOWS = 1
    """The order of all windows."""
    GROUPS = 2
    """The order of groups of windows."""
    SHORT_GROUP = 3
    """Where the short group goes."""
    POOLS = 4
    """The order inside pools of groups."""
    ORIGINS = 5
    """Origins of independent random windows."""
    VISITS = 6
    """Which cells are visited."""
    PLACES = 7
    """Origins of random windows inside a cell."""
    SAMPLE_POOLS = 8
    """The order inside pools of visits."""


def permute(
    index: NDArray[np.int64], n: int | NDArray[np.int64], key: int | NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Where a permutation of range(n) sends each element of a column.

    Args:
        index: (m,) elements of range(n).
        n: the size of the domain, at most `MOST`; one for all, or a column of one for each element.
        key: which permutation; one for all, or a column.

    Returns:
        (m,) elements of range(n).

    Raises:
        ValueError: for elements outside range(n), which would walk forever.
    """
    size = np.asarray(n, np.int64).reshape(-1)
    if len(index) and (index.min() < 0 or (index >= size).any()):
        raise ValueError(f"positions must be in range(n); n is {n}")
    if size.size and size.max() > MOST:
        raise ValueError(f"n must be at most 2**62; it is {n}")
    return _permute(index, size, _numbers(key).reshape(-1))


def hash_numbers(*parts: int | NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix numbers, and columns of numbers, into 64 bits each.

    Each part is added to what the parts before it gave, and that is mixed (a step of splitmix64):
    so order and number of the parts count, and numbers modulo 2**64.

    Returns:
        An array of the shape that the parts broadcast to, () for numbers alone.
    """
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):  # numbers alone are scalars to NumPy, which warns of those
        for part in parts:
            state = _mix(np.array(state + _numbers(part) + STEPS[0, 0]))
    return state


def draw(
    *parts: int | NDArray[np.int64] | NDArray[np.uint64], below: int | NDArray[np.int64]
) -> NDArray[np.int64]:
    """Uniform integers of range(below), of which each depends on its parts alone.

    The hash of the parts, read as a fraction of 2**64, times `below`. No integer is likelier than
    another by more than the `below / 2**64`-th part.
    """
    hashed, size = hash_numbers(*parts), _numbers(below)
    high, low = hashed >> HALF, hashed & LOW_HALF
    size_high, size_low = size >> HALF, size & LOW_HALF
    middle = high * size_low + (low * size_low >> HALF)
    carry = low * size_high + (middle & LOW_HALF)
    return np.asarray(high * size_high + (middle >> HALF) + (carry >> HALF)).astype(np.int64)


def _permute(
    index: NDArray[np.int64], size: NDArray[np.int64], key: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """`permute`, by the way that each size needs; `size` and `key` have a row each, or one."""
    small = size <= SMALL
    if small.all():
        return _sort(index, size, key)
    if not small.any():
        return _walk(index, size, key)
    moved = np.empty_like(index)
    for way, chosen in ((_sort, small), (_walk, ~small)):
        rows = np.flatnonzero(chosen)
        moved[rows] = way(index[rows], size[rows], _rows(key, rows))
    return moved


def _sort(
    index: NDArray[np.int64], size: NDArray[np.int64], key: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """How many elements of its domain come before each: those of lower hashes."""
    own = _mix(key + (index + 1).astype(np.uint64) * STEPS[0])
    rank = np.zeros(len(index), np.int64)
    for other in range(size.max(initial=0)):
        hashed = _mix(key + np.uint64(GAMMA * (other + 1) & ALL_BITS))
        before = (hashed < own) | ((hashed == own) & (other < index))
        rank += before & (other < size)
    return rank


def _walk(
    index: NDArray[np.int64], size: NDArray[np.int64], key: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Send each element through its network until it is in its domain."""
    network, end = _Network.of(size, key), size.astype(np.uint64)
    moved = network.send(index.astype(np.uint64))
    outside = np.flatnonzero(moved >= end)
    while len(outside):
        again = network.of_rows(outside).send(moved[outside])
        moved[outside] = again
        outside = outside[again >= _rows(end, outside)]
    return moved.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Network:
    """A Feistel network for each element of a column, or one for all: columns of one row."""

    high: NDArray[np.uint64]
    """The bits of the high half, as a mask that is shifted to the right end."""
    low: NDArray[np.uint64]
    """The bits of the low half, as a mask: as many, or one bit less."""
    low_bits: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    """(ROUNDS, rows) numbers that splitmix64 gives from the key on."""

    @staticmethod
    def of(size: NDArray[np.int64], key: NDArray[np.uint64]) -> _Network:
        """Networks for domains of at least some sizes."""
        last = np.maximum(size, 1) - 1
        # The leading bit, and no bit after it by which a float could round up to one bit more.
        leading = (last & ~(last >> 1)).astype(np.float64)
        bits = np.frexp(leading)[1].astype(np.uint64)
        low_bits = bits >> ONE
        high, low = (ONE << (bits - low_bits)) - ONE, (ONE << low_bits) - ONE
        return _Network(high, low, low_bits, _mix(key + STEPS))

    def of_rows(self, rows: NDArray[np.int64]) -> _Network:
        """The networks of some elements."""
        keys = self.keys if self.keys.shape[1] == 1 else self.keys[:, rows]
        return _Network(
            _rows(self.high, rows), _rows(self.low, rows), _rows(self.low_bits, rows), keys
        )

    def send(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Permute numbers of as many bits as the halves have."""
        high, low = numbers >> self.low_bits, numbers & self.low
        for number, key in enumerate(self.keys):
            if number % 2:
                low ^= _mix(high ^ key) & self.low
            else:
                high ^= _mix(low ^ key) & self.high
        return high << self.low_bits | low


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64, in place: every bit decides on every other."""
    bits ^= bits >> SHIFTS[0]
    bits *= FACTORS[0]
    bits ^= bits >> SHIFTS[1]
    bits *= FACTORS[1]
    bits ^= bits >> SHIFTS[2]
    return bits


def _numbers(part: int | NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers modulo 2**64."""
    if isinstance(part, np.ndarray):
        return part.astype(np.uint64)
    return np.asarray(int(part) & ALL_BITS, np.uint64)


def _rows(column: NDArray[np.uint64], rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Some rows of a column, unless one row stands for all."""
    return column if len(column) == 1 else column[rows]
