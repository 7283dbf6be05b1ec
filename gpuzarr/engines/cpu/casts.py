"""v3's cast_value undone: casts with a rounding mode, a rule for values out of range, and exceptions.

zarr-extensions, codec cast_value. Rounding comes first, then the range; without a rule a value that
the type cannot hold is an error. Values in the scalar map escape both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cpu.step_error import DamageError
from gpuzarr.engines.cpu.types import integer_range, is_integer

if TYPE_CHECKING:
    from collections.abc import Callable

EXACT_INTEGERS = 1 << 53
"""Integers up to this size are exact as float64."""


def cast_value(stored: np.ndarray, values: np.ndarray, rules: dict[str, Any]) -> None:
    """Fill `values` from `stored`."""
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    mapped: list[tuple[np.ndarray, Any]] = []
    free = np.ones(len(native), bool)
    for key, value in rules.get("scalar_map", ()):
        # The first of equal keys counts.
        hit = _equals(native, key) & free
        free &= ~hit
        mapped.append((hit, value))
    if not free.all():
        native = np.where(free, native, np.zeros((), native.dtype))
    target = values.dtype.newbyteorder("=")
    out_of_range = rules.get("out_of_range")
    if is_integer(target):
        values[...] = _to_integers(native, target, rules["rounding"], out_of_range)
    else:
        values[...] = _to_floats(native, target, rules["rounding"], out_of_range)
    for hit, value in mapped:
        number = float(value.lower()) if isinstance(value, str) else value
        values[hit] = np.array(number).astype(target)


def _equals(stored: np.ndarray, key: float | str) -> np.ndarray:
    if key == "NaN":
        return np.isnan(stored)
    number = float(key.lower()) if isinstance(key, str) else key
    return stored == np.array(number).astype(stored.dtype)


# ------------------------------------------------------------------------------- to integers


def _to_integers(
    stored: np.ndarray, target: np.dtype, rounding: str, out_of_range: str | None
) -> np.ndarray:
    low, high = integer_range(target)
    if is_integer(stored.dtype):
        wide = stored.astype(np.uint64 if stored.dtype == np.uint64 else np.int64)
        outside = _outside_integers(wide, low, high)
    else:
        wide = _round(_wide_floats(stored), rounding)
        # high + 1 is a power of two, which floats hold exactly; high itself may not be.
        outside = ~((wide >= float(low)) & (wide < float(high + 1)))
    if not outside.any():
        return wide.astype(np.uint64 if target == np.uint64 else np.int64).astype(target)
    finite = np.isfinite(wide)
    if out_of_range is None or np.isnan(wide).any() or (
        out_of_range == "wrap" and not finite.all()
    ):
        _refuse(stored[outside], target)
    if out_of_range == "clamp":
        exact = [min(max(_to_int(value, low, high), low), high) for value in wide[outside]]
    else:
        exact = [(int(value) - low) % (high - low + 1) + low for value in wide[outside]]
    result = np.where(outside, np.zeros((), wide.dtype), wide)
    result = result.astype(np.uint64 if target == np.uint64 else np.int64)
    result[outside] = np.array(exact, result.dtype)
    return result.astype(target)


def _to_int(value: float, low: int, high: int) -> int:
    if np.isinf(value):
        return high if value > 0 else low
    return int(value)


def _outside_integers(wide: np.ndarray, low: int, high: int) -> np.ndarray:
    info = np.iinfo(wide.dtype)
    outside = np.zeros(len(wide), bool)
    if low > info.min:
        outside |= wide < low
    if high < info.max:
        outside |= wide > high
    return outside


def _wide_floats(stored: np.ndarray) -> np.ndarray:
    return stored.astype(np.float64, copy=False)


def _round(wide: np.ndarray, rounding: str) -> np.ndarray:
    """Round float64 to whole numbers."""
    rounded: np.ndarray
    match rounding:
        case "nearest-even":
            rounded = np.rint(wide)
        case "towards-zero":
            rounded = np.trunc(wide)
        case "towards-positive":
            rounded = np.ceil(wide)
        case "towards-negative":
            rounded = np.floor(wide)
        case _:
            rounded = np.trunc(wide)
            away = np.abs(wide - rounded) >= 0.5  # noqa: PLR2004  a tie
            rounded = np.where(away, rounded + np.copysign(1.0, wide), rounded)
    return rounded


# --------------------------------------------------------------------------------- to floats


def _to_floats(
    stored: np.ndarray, target: np.dtype, rounding: str, out_of_range: str | None
) -> np.ndarray:
    nearest = stored.astype(target)
    if rounding != "nearest-even":
        nearest = _redirect(stored, nearest, rounding)
    wide = nearest.astype(np.float64)
    # Types without infinities make NaN, or their largest value, of what is too large.
    limit = _largest(target)
    stored_wide = stored.astype(np.float64)
    exceeded = ~np.isnan(stored_wide) & (
        (~np.isfinite(wide) & np.isfinite(stored_wide))
        | (np.isinf(stored_wide) & ~np.isinf(wide))
        | (~np.isinf(stored_wide) & (np.abs(stored_wide) > limit) & (np.abs(wide) >= limit))
        & ~_rounds_to_limit(stored_wide, limit, target, rounding)
    )
    lost_nan = np.isnan(stored_wide) & ~np.isnan(wide)
    if lost_nan.any():
        _refuse(stored[lost_nan], target)
    if exceeded.any():
        if out_of_range is None:
            _refuse(stored[exceeded], target)
        top = np.array(np.inf).astype(target)
        if not np.isinf(top.astype(np.float64)):
            top = np.array(limit).astype(target)
        nearest[exceeded] = np.where(stored_wide[exceeded] > 0, top, -top)
    return nearest


def _largest(target: np.dtype) -> float:
    if target.kind == "f" and target.itemsize > 1:
        return float(np.finfo(target).max)
    import ml_dtypes  # noqa: PLC0415  arrays of other types do without it

    return float(ml_dtypes.finfo(target).max)


def _rounds_to_limit(
    stored: np.ndarray, limit: float, target: np.dtype, rounding: str
) -> np.ndarray:
    """Whether a value above the largest one rounds to it rather than past it."""
    del rounding
    half = (limit - float(np.nextafter(np.array(limit).astype(target), np.array(0).astype(target)))) / 2
    return np.abs(stored) < limit + half


def _redirect(stored: np.ndarray, nearest: np.ndarray, rounding: str) -> np.ndarray:
    """From the nearest value to the one in the wanted direction."""
    compare = _exact_comparison(stored)
    below, above = compare(nearest, stored)
    up = np.nextafter(nearest, np.array(np.inf).astype(nearest.dtype))
    down = np.nextafter(nearest, np.array(-np.inf).astype(nearest.dtype))
    positive = stored > np.zeros((), stored.dtype)
    match rounding:
        case "towards-positive":
            return np.where(below, up, nearest)
        case "towards-negative":
            return np.where(above, down, nearest)
        case "towards-zero":
            return np.where(above & positive, down, np.where(below & ~positive, up, nearest))
        case _:
            # A tie went to the even neighbour; take the one that is farther from zero.
            tie_up = below & positive & _is_tie(stored, nearest, up)
            tie_down = above & ~positive & _is_tie(stored, nearest, down)
            return np.where(tie_up, up, np.where(tie_down, down, nearest))


def _exact_comparison(
    stored: np.ndarray,
) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def compare(nearest: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if stored.dtype.kind in "iu" and stored.dtype.itemsize == np.dtype(np.int64).itemsize:
            # Python compares integers with floats exactly, NumPy rounds first.
            left, right = nearest.astype(np.float64).astype(object), exact.astype(object)
        else:
            left, right = nearest.astype(np.float64), exact.astype(np.float64)
        return (left < right).astype(bool), (left > right).astype(bool)

    return compare


def _is_tie(stored: np.ndarray, nearest: np.ndarray, other: np.ndarray) -> np.ndarray:
    if stored.dtype.kind in "iu":
        exact = np.array([int(value) for value in stored], object)
        near, far = (
            np.array([int(each) if np.isfinite(each) else 0 for each in side.astype(np.float64)], object)
            for side in (nearest, other)
        )
        return (abs(exact - near) == abs(far - exact)).astype(bool)
    exact, near, far = (each.astype(np.float64) for each in (stored, nearest, other))
    return np.abs(exact - near) == np.abs(far - exact)


def _refuse(values: np.ndarray, target: np.dtype) -> None:
    message = f"{values[0]} is not a value of {target.name}"
    raise DamageError(message)
