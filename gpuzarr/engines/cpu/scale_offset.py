"""v3's scale_offset undone: `encoded / scale + offset` in the data type itself, or an error.

Integers must divide exactly and stay in range. Floats may become infinite or NaN, which are values
of their types. The results are those of zarr-python 3.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.number_types import integer_range, is_integer
from gpuzarr.engines.step_error import DamageError

WIDEST = 8
"""Bytes of the widest integers."""

if TYPE_CHECKING:
    from collections.abc import Callable


def undo_scale_offset(
    scale: float | str, offset: float | str, dtype: np.dtype
) -> Callable[[np.ndarray, np.ndarray], None]:
    """The function that fills values of `dtype` from stored ones."""
    native = dtype.newbyteorder("=")
    if is_integer(dtype):
        integer_scale, integer_offset = int(scale), int(offset)

        def undo_integers(stored: np.ndarray, values: np.ndarray) -> None:
            values[...] = _exact_integers(stored, integer_scale, integer_offset, native)

        return undo_integers

    factor = np.array(float(scale)).astype(native)[()]
    summand = np.array(float(offset)).astype(native)[()]

    def undo_floats(stored: np.ndarray, values: np.ndarray) -> None:
        with np.errstate(all="ignore"):
            values[...] = stored.astype(native, copy=False) / factor + summand

    return undo_floats


def _exact_integers(stored: np.ndarray, scale: int, offset: int, dtype: np.dtype) -> np.ndarray:
    """The quotients plus the offset, computed without overflow."""
    low, high = integer_range(dtype)
    if not stored.size:
        return np.empty(0, dtype)
    lowest, highest = int(stored.min()) // scale, int(stored.max()) // scale
    if not all(low <= quotient + offset <= high for quotient in (lowest, highest)):
        raise DamageError(f"elements leave the range of {dtype.name}")
    wide = stored.astype(np.int64 if dtype.itemsize < WIDEST else dtype)
    if not all(low <= quotient <= high for quotient in (lowest, highest)):
        # Quotients of 64 bits have no wider type; Python's integers do for these few arrays.
        wide = stored.astype(object)
    if np.any(wide % scale):
        raise DamageError(f"elements do not divide by the scale {scale}")
    return (wide // scale + offset).astype(dtype)
