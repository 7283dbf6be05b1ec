"""Facts about number types that NumPy does not tell of ml_dtypes' types."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BITS = {
    "bool": 1,
    "int2": 2,
    "uint2": 2,
    "int4": 4,
    "uint4": 4,
    "float4_e2m1fn": 4,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
}
"""Bits of the types that are narrower than a byte."""
_SMALL_INTEGERS = ("int2", "uint2", "int4", "uint4")


def is_integer(dtype: np.dtype) -> bool:
    """Whether elements are integers."""
    return dtype.kind in "iu" or dtype.name in _SMALL_INTEGERS


def integer_range(dtype: np.dtype) -> tuple[int, int]:
    """The smallest and the largest value of an integer type.

    >>> integer_range(np.dtype("u2"))
    (0, 65535)
    """
    bits = BITS.get(dtype.name, dtype.itemsize * 8)
    if dtype.name.startswith("u"):
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
