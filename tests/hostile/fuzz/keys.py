"""Keys of arrays made of bytes: what NumPy takes, what it refuses, and any other Python object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.hostile.fuzz.draw import Draw

HUGE = (2**31, 2**62, 2**63 - 1, 2**63, 2**64, 10**30)
INTEGER_TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4")
MOST_ENTRIES = 5


class OwnError(Exception):
    """What the methods of a user's own object raise: theirs, not ours."""


class Integer:
    """An object that is a number where one is asked for."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


class Broken:
    """An object that is a number, and cannot say which."""

    def __index__(self) -> int:
        raise OwnError

    def __repr__(self) -> str:
        return "Broken()"


class Unprintable:
    """No index at all, and its text is an error."""

    def __repr__(self) -> str:
        raise OwnError


def draw_integer(draw: Draw, length: int) -> int:
    """Most often an index of a dimension."""
    if draw.integer(0, 9) < 8:
        return draw.integer(-length - 1, length)
    return draw.choice((1, -1)) * draw.choice(HUGE)


def _end(draw: Draw, length: int) -> Any:
    match draw.integer(0, 9):
        case 0 | 1 | 2:
            return None
        case 3:
            return np.dtype(draw.choice(INTEGER_TYPES)).type(draw.integer(0, 9))
        case 4 if draw.flag():
            return draw.choice((1.0, "1", True, Integer(2), Broken(), [1]))
        case _:
            return draw_integer(draw, length)


def draw_slice(draw: Draw, length: int) -> slice:
    """Any slice, also of what is no number."""
    return slice(_end(draw, length), _end(draw, length), _end(draw, 4))


def draw_list(draw: Draw, length: int) -> Any:
    """A list or array of integers, of any number of axes."""
    shape = tuple(draw.integer(0, 3) for _ in draw.some(3))
    count = int(np.prod(shape))
    values = [draw.integer(-length, max(length - 1, 0)) for _ in range(count)]
    match draw.integer(0, 3):
        case 0:
            return np.array(values, object).reshape(shape).tolist()
        case 1:
            return tuple(values)
        case 2:
            return range(draw.integer(0, 3), draw.integer(0, length + 1), draw.integer(1, 3))
        case _:
            with np.errstate(all="ignore"):
                numbers = np.array(values, np.int64).astype(draw.choice(INTEGER_TYPES))
            return numbers.reshape(shape)


def draw_mask(draw: Draw, shape: Sequence[int]) -> Any:
    """A mask over the next dimensions, or over others."""
    lengths = list(shape[: draw.integer(0, 2)])
    if lengths and draw.integer(0, 7) == 0:
        lengths[0] += 1
    bits = [draw.flag() for _ in range(int(np.prod(lengths)))]
    mask = np.array(bits, bool).reshape(lengths)
    return mask.tolist() if draw.flag() else mask


def draw_any(draw: Draw) -> Any:
    """No index, or hardly one."""
    return draw.choice(
        (
            *(True, False, np.True_, 1.0, 1.5, float("nan"), 1j, "a", "b", "", b"a", "\ud800"),
            *(
                {},
                {1: 2},
                set(),
                {1},
                frozenset({0}),
                object(),
                int,
                len,
                Integer(1),
                Integer(-(2**70)),
            ),
            *(Broken(), Unprintable(), iter([1]), [[1], [1, 2]], [1.0], ["a"], [None], [True, 1]),
            *([0, [1]], [object()], [2**63], [2**70], [...], [slice(1)], ((0,), 1), [[[[[0]]]]]),
            *(
                np.array(1.0),
                np.array([]),
                np.array([1, 2], object),
                np.array(["a"]),
                np.array(None),
            ),
            *(np.datetime64("2000"), np.array([1], "M8[s]"), np.array([1], "m8[s]"), np.float32(1)),
            *(
                np.array([2**63], "u8"),
                np.zeros((0, 3), "i8"),
                np.zeros(3, "V2"),
                np.array(1),
                -0.0,
            ),
            *(memoryview(b"\0\1"), bytearray(b"\1"), NotImplemented, (), [()], np.ma.array([1])),
        )
    )


def draw_entry(draw: Draw, shape: Sequence[int], dim: int) -> Any:
    """One entry of a key, most often one for dimension `dim`."""
    length = shape[dim] if dim < len(shape) else draw.integer(0, 5)
    match draw.integer(0, 15):
        case 0 | 1 | 2:
            return draw_integer(draw, length)
        case 3 | 4 | 5 | 6:
            return draw_slice(draw, length)
        case 7 | 8 | 9:
            return draw_list(draw, length)
        case 10 | 11:
            return draw_mask(draw, shape[dim:])
        case 12:
            return ...
        case 13:
            return None
        case 14:
            return np.dtype(draw.choice(INTEGER_TYPES)).type(draw.integer(0, max(length - 1, 0)))
        case _:
            return draw_any(draw)


def draw_key(draw: Draw, shape: Sequence[int]) -> Any:
    """A key for an array of some shape."""
    if draw.integer(0, 7) == 0:
        return draw_entry(draw, shape, 0)
    count = len(shape) if draw.integer(0, 3) else draw.integer(0, MOST_ENTRIES)
    return tuple(draw_entry(draw, shape, dim) for dim in range(count))
