"""Arguments for kernels: addresses of arrays, and columns of integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cuda.kernels import STATUS, TYPES
from tests.kernels.host_kernels import host_kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NO_STATUS = np.zeros(1, np.int32)
CODES = {code: name for name, code in STATUS.items()}


def integers(*values: Any) -> NDArray[np.int64]:
    """A column."""
    return np.array(values, np.int64).reshape(-1)


def launch(kernel: str, blocks: int, *arguments: Any, **constants: int) -> None:
    """Launch a kernel; arrays stand for their addresses, floats for their bits."""
    words = [_word(argument) for argument in arguments]
    host_kernels().launch(kernel, blocks, words, constants)


def _word(argument: Any) -> int:
    if isinstance(argument, np.ndarray):
        return argument.ctypes.data
    if isinstance(argument, float):
        return int(np.float64(argument).view(np.int64))
    return int(argument)


def unaligned(data: NDArray[Any], offset: int) -> NDArray[np.uint8]:
    """A copy of an array's bytes that begins `offset` bytes behind a multiple of 16.

    It ends where its memory ends, so that AddressSanitizer sees what is read or written behind it.
    """
    flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    whole = np.full(offset + len(flat), 0x5A, np.uint8)
    assert whole.ctypes.data % 16 == 0, "malloc aligns for every type"
    whole[offset:] = flat
    return whole[offset:]


def addresses(arrays: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """A column of addresses."""
    return integers([array.ctypes.data for array in arrays])


def code(dtype: Any) -> int:
    """A type's code."""
    dtype = np.dtype(dtype)
    name = dtype.name if dtype.name in TYPES else f"{dtype.kind}{dtype.itemsize}"
    return TYPES[name]


def swap(dtype: Any) -> int:
    """Bytes to reverse."""
    dtype = np.dtype(dtype)
    big = dtype.itemsize > 1 and dtype.str.startswith(">")
    return dtype.itemsize // (2 if dtype.kind == "c" else 1) if big else 0
