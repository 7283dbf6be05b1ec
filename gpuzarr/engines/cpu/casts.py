"""v3's cast_value undone: casts with a rounding mode, a range rule and exceptions.

zarr-extensions, codec cast_value. Rounding comes first, then the range; without a rule a value that
the type cannot hold is an error. Values in the scalar map escape both.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from gpuzarr.engines.number_types import integer_range, is_integer
from gpuzarr.engines.step_error import DamageError

WIDEST = 8
"""Bytes of the widest integers."""
FAR = 1 << 1100
"""Stands for an infinity among integers."""


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
        return np.asarray(np.isnan(stored))
    number = float(key.lower()) if isinstance(key, str) else key
    return np.asarray(stored == np.array(number).astype(stored.dtype))


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
    if out_of_range is None or not np.isfinite(wide[outside]).all():
        # NaN and the infinities have no place among integers, unless the map gives them one.
        _refuse(stored[outside], target)
    if out_of_range == "clamp":
        exact = [low if value < low else high for value in wide[outside]]
    else:
        exact = [(int(value) - low) % (high - low + 1) + low for value in wide[outside]]
    result = np.where(outside, np.zeros((), wide.dtype), wide)
    result = result.astype(np.uint64 if target == np.uint64 else np.int64)
    result[outside] = np.array(exact, result.dtype)
    return result.astype(target)


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
    exact = stored.astype(np.float64)
    finite = np.isfinite(exact)
    result = stored.astype(target)
    if (lost := np.isnan(exact) & ~np.isnan(result)).any():
        _refuse(stored[lost], target)
    infinity = np.array(np.inf).astype(target)
    if np.isinf(infinity):
        exceeded = finite & ~np.isfinite(result)
    else:
        # Too large values became NaN or the largest one, by the type's own rule.
        largest = _largest(target)
        infinity = np.array(largest).astype(target)
        step = largest - float(np.nextafter(infinity, np.zeros((), target)))
        exceeded = (np.abs(exact) >= largest + step / 2) | (finite & np.isnan(result))
    if rounding != "nearest-even":
        result = np.where(exceeded, result, _redirect(stored, result, rounding))
        exceeded |= finite & ~np.isfinite(result)
    if exceeded.any():
        if out_of_range is None:
            _refuse(stored[exceeded], target)
        result[exceeded] = np.where(exact[exceeded] > 0, infinity, -infinity)
    return result


def _largest(target: np.dtype) -> float:
    import ml_dtypes  # noqa: PLC0415  NumPy's own types have infinities

    return float(cast("Any", ml_dtypes.finfo)(target).max)


def _redirect(stored: np.ndarray, nearest: np.ndarray, rounding: str) -> np.ndarray:
    """From the nearest value to the one in the wanted direction."""
    exact, near = _exactly(stored), _exactly(nearest, stored)
    below, above = np.asarray(near < exact, bool), np.asarray(near > exact, bool)
    up = np.nextafter(nearest, np.array(np.inf).astype(nearest.dtype))
    down = np.nextafter(nearest, np.array(-np.inf).astype(nearest.dtype))
    positive = stored > np.zeros((), stored.dtype)
    match rounding:
        case "towards-positive":
            above = np.zeros_like(above)
        case "towards-negative":
            below = np.zeros_like(below)
        case "towards-zero":
            above, below = above & positive, below & ~positive
        case _:
            # A tie went to the even neighbour; take the one that is farther from zero.
            below &= positive & _is_tie(exact, near, _exactly(up, stored))
            above &= ~positive & _is_tie(exact, near, _exactly(down, stored))
    return np.asarray(np.where(below, up, np.where(above, down, nearest)))


def _exactly(values: np.ndarray, stored: np.ndarray | None = None) -> np.ndarray:
    """Values in a type that holds them, and the stored ones, exactly."""
    like = values if stored is None else stored
    wide = values.astype(np.float64)
    if like.dtype.kind not in "iu" or like.dtype.itemsize < WIDEST:
        return wide
    # float64 holds no integers of 64 bits; Python's are exact beside everything.
    if stored is None:
        return values.astype(object)
    whole = [int(each) if np.isfinite(each) else FAR for each in wide]
    return np.array(whole, object)


def _is_tie(exact: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    return np.asarray(abs(exact - near) == abs(far - exact), bool)


def _refuse(values: np.ndarray, target: np.dtype) -> None:
    raise DamageError(f"{values[0]} is not a value of {target.name}")
