"""Copies from chunk to output that go faster than NumPy's assignment alone."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CACHE_LINE = 64
CONFLICT = 1 << 10
"""Bytes apart: such values fall onto few places of the processor's cache."""
LEAST_ACROSS = 1 << 15
"""Bytes below which all fits into the cache anyway."""
ACROSS_NBYTES = 1 << 20
"""Memory to turn values in..."""
LEAST_PLANES = 16
"""... where it holds a cache line of elements."""

MOST_ROW = 1 << 10
"""Elements of a row from which on it makes no difference how it is copied."""


def view(array: NDArray[Any], place: tuple[Any, ...]) -> NDArray[Any]:
    """A place in an array; NumPy gives a copy for the one place of an array of no dimensions."""
    found: NDArray[Any] = array[place] if place else array
    return found


def put(target: NDArray[Any], part: NDArray[Any]) -> None:
    """`target[...] = part`, row by row where both have rows of one run of memory.

    NumPy copies rows as items of their own faster, and for less than 500 items it
    does not hand the interpreter's lock to other threads and wait for it again.
    """
    if type(target) is not np.ndarray:  # masked arrays and their like assign in their own way
        target[...] = part
    elif part.ndim > 1 and 1 < part.shape[-1] <= MOST_ROW and may_be_rows(target, part):
        put_rows(target, part)
    elif part.ndim > 1 and part.strides[-1] % CONFLICT == 0 and part.nbytes >= LEAST_ACROSS:
        _put_across(target, part)
    else:
        target[...] = part


def put_rows(target: NDArray[Any], part: NDArray[Any]) -> None:
    """The same for what is known to have rows, which is not looked at again."""
    row = row_type(part.shape[-1] * part.itemsize)
    target.view(row)[...] = part.view(row)


def may_be_rows(target: NDArray[Any], part: NDArray[Any]) -> bool:
    """Whether parts of either, cut along their axes, are rows of memory of the same values."""
    dtype = target.dtype
    return (
        type(target) is np.ndarray
        and target.ndim > 1
        and part.dtype == dtype
        and part.strides[-1] == target.strides[-1] == dtype.itemsize
        and not dtype.hasobject
    )


def _put_across(target: NDArray[Any], part: NDArray[Any]) -> None:
    """Write values whose neighbours along the last axis lie a multiple of `CONFLICT` apart.

    They compete for a few places of the processor's cache. So they are copied first, in the order
    in which they lie, to memory where they lie a little farther apart.
    """
    order = sorted(range(part.ndim), key=lambda axis: -abs(part.strides[axis]))
    if order[0] != part.ndim - 1 or part.dtype.hasobject:
        target[...] = part
        return
    stored = part.transpose(order)  # the target's last axis is the first
    back = [order.index(axis) for axis in range(part.ndim)]
    itemsize = part.dtype.itemsize
    plane = stored[0].size * itemsize
    pitch = -(-plane // CACHE_LINE) * CACHE_LINE + CACHE_LINE
    step = max(LEAST_PLANES, ACROSS_NBYTES // pitch)
    if step * pitch > 4 * ACROSS_NBYTES:
        target[...] = part
        return
    inner = np.empty(stored.shape[1:], np.uint8).strides
    strides = (pitch, *(stride * itemsize for stride in inner))
    memory = _across.memory
    for begin in range(0, len(stored), step):
        some = stored[begin : begin + step]
        if len(memory) < len(some) * pitch:
            memory = _across.memory = np.empty(len(some) * pitch, np.uint8)
        apart: NDArray[Any] = np.ndarray(some.shape, part.dtype, memory, 0, strides)
        apart[...] = some
        target[..., begin : begin + step] = apart.transpose(back)


class _Across(threading.local):
    """Memory of each thread for `_put_across`."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)


_across = _Across()


@lru_cache(maxsize=1024)
def row_type(nbytes: int) -> np.dtype[np.void]:
    """A row of memory as one item."""
    return np.dtype((np.void, nbytes))
