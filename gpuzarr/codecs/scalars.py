"""Scalars and number types as codec configurations write them, made exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpuzarr.codecs.configuration import malformed
from gpuzarr.program import resolve_dtype

DATA_TYPE_BITS = {
    "int2": 2,
    "uint2": 2,
    "int4": 4,
    "uint4": 4,
    "float4_e2m1fn": 4,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
}
"""Bits of the data types that are narrower than a byte."""

NUMBER_TYPES = frozenset(
    {*(f"{sign}int{bits}" for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64))}
    | {"float16", "float32", "float64", "bfloat16", *DATA_TYPE_BITS}
    | {"float8_e3m4", "float8_e4m3", "float8_e4m3fn", "float8_e4m3b11fnuz", "float8_e4m3fnuz"}
    | {"float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"}
)
"""Data types that cast_value and scale_offset are defined for."""

_NAMED = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "+Infinity": math.inf,
    "-Infinity": -math.inf,
}


def resolve_number_type(codec: str, name: object) -> np.dtype:
    """The dtype of a v3 number type, in native byte order."""
    if not isinstance(name, str) or name not in NUMBER_TYPES:
        malformed(codec, f"'data_type' must be a type of integers or floats, not {name!r}")
    return resolve_dtype(name)


def parse_scalar(codec: str, value: object, dtype: np.dtype) -> int | float | str:
    """A scalar in v3's fill-value encoding, as the value that `dtype` makes of it.

    NaN and the infinities stay names, because programs must be equal to themselves and JSON.
    """
    if dtype.kind in "iu" or "int" in dtype.name:
        return _parse_integer(codec, value, dtype)
    number: Any = value
    if isinstance(value, str):
        if value in _NAMED:
            number = _NAMED[value]
        elif value.startswith("0x"):
            number = _from_hexadecimal(codec, value, dtype)
        else:
            malformed(codec, f"{value!r} is not a number of type {dtype.name}")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        malformed(codec, f"{value!r} is not a number")
    try:
        with np.errstate(all="ignore"):
            exact = float(np.array(float(number)).astype(dtype))
    except OverflowError:
        malformed(codec, f"{value!r} is too large")
    if math.isnan(exact):
        return "NaN"
    if math.isinf(exact):
        return "Infinity" if exact > 0 else "-Infinity"
    return exact


def _parse_integer(codec: str, value: object, dtype: np.dtype) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        malformed(codec, f"{value!r} is not an integer, but the data type is {dtype.name}")
    low, high = integer_range(dtype)
    if not low <= value <= high:
        malformed(codec, f"{value} is outside the range of {dtype.name}")
    return value


def _from_hexadecimal(codec: str, text: str, dtype: np.dtype) -> float:
    """A float by its bits, most significant first."""
    try:
        bits = int(text, 16).to_bytes(dtype.itemsize, "little")
    except (ValueError, OverflowError):
        malformed(codec, f"{text!r} is not {dtype.itemsize} hexadecimal bytes")
    return float(np.frombuffer(bits, dtype.newbyteorder("<"))[0])


def integer_range(dtype: np.dtype) -> tuple[int, int]:
    """The smallest and the largest value of an integer type, those of ml_dtypes included.

    >>> integer_range(np.dtype("i1"))
    (-128, 127)
    """
    bits = DATA_TYPE_BITS.get(dtype.name, dtype.itemsize * 8)
    if dtype.kind == "u" or dtype.name.startswith("u"):
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
