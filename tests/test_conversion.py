"""`dtype=`, `scale=` and `offset=`, bit for bit."""

from __future__ import annotations

import bisect
import math
from fractions import Fraction
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuzarr.engines.conversion import convert, make_conversion
from gpuzarr.errors import UnsupportedError
from tests.stored import assert_same

Values = np.ndarray[Any, Any]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
INTEGERS = [np.dtype(kind + str(size)) for kind in "iu" for size in (1, 2, 4, 8)]


def converted(
    values: Any, dtype: Any = None, *, scale: float | None = None, offset: float | None = None
) -> Values:
    """`values` as a read would convert them."""
    values = np.asarray(values)
    conversion = make_conversion(
        values.dtype,
        dtype=None if dtype is None else np.dtype(dtype),
        scale=scale,
        offset=offset,
    )
    return np.asarray(convert(values, conversion))


# Scale and offset


@pytest.mark.parametrize(
    ("stored", "result"),
    [
        ("bool", "f4"),
        ("int8", "f4"),
        ("uint8", "f4"),
        ("int16", "f4"),
        ("uint16", "f4"),
        ("float16", "f4"),
        ("float32", "f4"),
        (BFLOAT16, "f4"),
        (ml_dtypes.float8_e4m3fn, "f4"),
        (ml_dtypes.int4, "f4"),
        ("int32", "f8"),
        ("uint32", "f8"),
        ("int64", "f8"),
        ("uint64", "f8"),
        ("float64", "f8"),
    ],
)
def test_scaled_values_without_a_dtype_are_float32_where_it_holds_them(
    stored: Any, result: str
) -> None:
    assert converted(np.ones(3, stored), scale=2.0).dtype == result
    assert converted(np.ones(3, stored), offset=2.0).dtype == result
    assert converted(np.ones(3, stored)).dtype == np.dtype(stored)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@given(
    values=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=20),
    scale=st.floats(-1e6, 1e6),
    offset=st.floats(-1e6, 1e6),
)
def test_scaling_is_one_product_and_one_sum_in_the_results_type(
    dtype: str, values: list[int], scale: float, offset: float
) -> None:
    """A fused multiply-add rounds once and gives other bits."""
    number = np.dtype(dtype).type
    expected = [number(number(v) * number(scale)) + number(offset) for v in values]
    found = converted(np.array(values, "i2"), dtype, scale=scale, offset=offset)
    assert_same(found, np.array(expected, dtype))
    only = converted(np.array(values, "i2"), dtype, offset=offset)
    assert_same(only, np.array([number(v) + number(offset) for v in values], dtype))


def test_a_fused_multiply_add_would_be_noticed() -> None:
    """The product needs 48 bits: rounded to 24 before the sum, the last bits are lost."""
    value = np.array([1 + 2**12], "i4")
    scale = 1 + 2.0**-12
    found = converted(value, "f4", scale=scale, offset=-(2.0**12) - 2)
    exact = Fraction(1 + 2**12) * Fraction(scale) - 2**12 - 2
    assert found[0] == 0.0
    assert exact != 0


def test_denormals_and_signed_zeros_are_kept() -> None:
    tiny = np.float32(1e-45)
    found = converted(np.array([tiny, -tiny, -0.0], "f4"), scale=1.0)
    assert_same(found, np.array([tiny, -tiny, -0.0], "f4"))
    assert converted(np.array([np.finfo("f4").tiny]), "f4", scale=0.5)[0] > 0


def test_overflow_and_nan_are_values_of_floats() -> None:
    found = converted(np.array([1e38, -1e38, np.nan, np.inf], "f4"), scale=10.0)
    np.testing.assert_array_equal(found, np.array([np.inf, -np.inf, np.nan, np.inf], "f4"))
    np.testing.assert_array_equal(converted(np.array([1e300]), "f4"), np.array([np.inf], "f4"))


@pytest.mark.parametrize("scale", [1, 0])
def test_integers_as_scale_are_numbers_too(scale: int) -> None:
    assert_same(converted(np.array([3], "u1"), scale=scale), np.array([3 * scale], "f4"))


# Rounding once


@cache
def finite_values(name: str) -> tuple[list[Fraction], list[int]]:
    """All finite values of a small float type in order, and their bit patterns' parity."""
    dtype = np.dtype(name) if name == "float16" else np.dtype(getattr(ml_dtypes, name))
    patterns = np.arange(1 << 8 * dtype.itemsize).astype(f"u{dtype.itemsize}")
    with np.errstate(all="ignore"):
        numbers = patterns.view(dtype).astype("f8")
    table = {
        Fraction(number): int(pattern) & 1
        for pattern, number in zip(patterns.tolist(), numbers.tolist(), strict=True)
        if math.isfinite(number)
    }
    order = sorted(table)
    return order, [table[value] for value in order]


def nearest_even(exact: Fraction, name: str) -> float:
    """`exact` rounded once, for values inside the type's range."""
    order, odd = finite_values(name)
    at = bisect.bisect_left(order, exact)
    if at < len(order) and order[at] == exact:
        return float(exact)
    low, high = order[at - 1], order[at]
    if exact - low != high - exact:
        return float(low if exact - low < high - exact else high)
    return float(high if odd[at - 1] else low)


SMALL = ["float16", "bfloat16", "float8_e5m2", "float8_e4m3fn"]
# Just above the middle of two bfloat16, by less than float32 can tell.
ABOVE_A_TIE = 1 + 2.0**-8 + 2.0**-40


@pytest.mark.parametrize("name", SMALL)
@given(value=st.floats(-440, 440, width=64), power=st.integers(-12, 0))
@example(value=ABOVE_A_TIE, power=0)
@example(value=-ABOVE_A_TIE, power=0)
@example(value=1 + 2.0**-8, power=0)
@example(value=1 + 2.0**-11 + 2.0**-45, power=0)
@example(value=1 + 2.0**-3 + 2.0**-50, power=0)
@example(value=5e-324, power=0)
def test_float64_is_rounded_once(name: str, value: float, power: int) -> None:
    value *= 2.0**power
    dtype = np.dtype(name) if name == "float16" else getattr(ml_dtypes, name)
    found = converted(np.array([value]), dtype).astype("f8")[0]
    assert found == nearest_even(Fraction(value), name)


@pytest.mark.parametrize("stored", ["i4", "u4", "i8", "u8"])
@given(data=st.data())
@example(data=None)
def test_integers_are_rounded_once(stored: str, data: st.DataObject | None) -> None:
    limits = np.iinfo(stored)
    values = [2**30 + 2**22 + 1, 2**30 - 2**21 - 1, limits.max, limits.max - 1, limits.min, 3]
    if limits.bits == 64:
        values += [2**62 + 2**54 + 1, 2**62 + 2**54, 2**62 + 2**54 - 1, 2**53 + 2**45 + 1]
    if limits.min:
        values += [-value for value in values if limits.min <= -value <= limits.max]
    if data is not None:
        values = [data.draw(st.integers(int(limits.min), int(limits.max)))]
    found = converted(np.array(values, stored), BFLOAT16).astype("f8")
    assert found.tolist() == [nearest_even(Fraction(value), "bfloat16") for value in values]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("stored", [">f8", ">i4", ">u4", ">i8", ">u8"])
def test_byte_order_does_not_change_the_rounding(name: str, stored: str) -> None:
    dtype = np.dtype(name) if name == "float16" else getattr(ml_dtypes, name)
    if stored == ">f8":
        values = np.array([ABOVE_A_TIE, -ABOVE_A_TIE, 1 + 2.0**-3 + 2.0**-50, 0.1], stored)
    else:
        values = np.array([2**30 + 2**22 + 1, 2**30 - 2**21 - 1, 257, 3], stored)
    assert_same(converted(values, dtype), converted(values.astype(stored[1:]), dtype))


@pytest.mark.parametrize("dtype", [BFLOAT16, "f2"])
def test_scaled_values_are_rounded_once_from_float32(dtype: Any) -> None:
    values = np.arange(-2000, 2000, 7, dtype="i2")
    exact = values.astype("f4") * np.float32(0.37) + np.float32(1.5)
    assert_same(converted(values, dtype, scale=0.37, offset=1.5), exact.astype(dtype))


def test_what_small_floats_cannot_hold() -> None:
    values = np.array([1e300, -1e300, np.inf, np.nan, 65519.0, 65520.0])
    np.testing.assert_array_equal(
        converted(values, "f2").astype("f8"), [np.inf, -np.inf, np.inf, np.nan, 65504, np.inf]
    )
    np.testing.assert_array_equal(
        converted(values[:4], BFLOAT16).astype("f8"), [np.inf, -np.inf, np.inf, np.nan]
    )


# To integers


def test_infinities_of_float16_are_no_integers() -> None:
    """The bounds of integers are infinite as float16, and -inf is not below -inf."""
    for value in (np.inf, -np.inf, np.nan):
        for dtype in ("i1", "i4", "i8", "u2"):
            conversion = make_conversion(np.dtype("f2"), dtype=np.dtype(dtype))
            with pytest.raises(ValueError, match="does not fit"):
                convert(np.array([value], "f2"), conversion)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@given(value=st.floats(width=64))
@example(value=np.nan)
@example(value=-0.9)
@example(value=2.0**63)
@example(value=-(2.0**63))
@example(value=2.0**64)
def test_floats_to_integers_are_cut_or_refused(dtype: np.dtype[Any], value: float) -> None:
    limits = np.iinfo(dtype)
    for stored in ("f8", "f4"):
        with np.errstate(over="ignore"):
            number = np.array([value], stored)
        exact = number.tolist()[0]
        if math.isfinite(exact) and limits.min <= math.trunc(exact) <= limits.max:
            assert converted(number, dtype).tolist() == [math.trunc(exact)]
        else:
            with pytest.raises(ValueError, match="does not fit"):
                converted(number, dtype)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_the_limits_of_integers(dtype: np.dtype[Any]) -> None:
    limits = np.iinfo(dtype)
    high, low = float(int(limits.max) + 1), float(limits.min)
    assert converted(np.array([low]), dtype).tolist() == [limits.min]
    assert converted(np.nextafter([high], 0), dtype)[0] <= limits.max
    for wrong in (high, np.inf, -np.inf, np.nan, -1.0 if low == 0 else 2 * low):
        with pytest.raises(ValueError, match="does not fit"):
            converted(np.array([0.0, wrong]), dtype)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@given(value=st.integers(-(2**63), 2**63 - 1))
def test_integers_to_integers_wrap(dtype: np.dtype[Any], value: int) -> None:
    found = int(converted(np.array([value], "i8"), dtype)[0])
    assert (found - value) % 2 ** (8 * dtype.itemsize) == 0


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2"])
def test_integers_of_few_bits_are_integers_too(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    low, high = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}[name]
    found = converted(np.array([low - 0.9 * (low == 0), high + 0.9]), dtype)
    assert found.astype("i4").tolist() == [low, high]
    for wrong in (low - 1.0, high + 1.0, np.nan):
        with pytest.raises(ValueError, match="does not fit"):
            converted(np.array([wrong]), dtype)
    assert converted(np.array([high], dtype), "i8").tolist() == [high]
    assert converted(np.array([high], dtype), "f4").tolist() == [high]
    assert converted(np.array([high + 1], "i4"), dtype).astype("i4").tolist() == [low]


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float16"])
def test_small_floats_to_integers(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    assert converted(np.array([-2.75, 3.5], dtype), "i4").tolist() == [-2, 3]
    with pytest.raises(ValueError, match="does not fit"):
        converted(np.array([np.nan], dtype), "i4")


def test_scaled_values_to_integers_are_cut_after_the_sum() -> None:
    found = converted(np.array([1, 2, -3], "i2"), "i2", scale=0.75, offset=0.5)
    assert found.tolist() == [1, 2, -1]
    with pytest.raises(ValueError, match="does not fit"):
        converted(np.array([1, 200], "i2"), "i1", scale=1.0)


# Other kinds


@pytest.mark.parametrize("stored", ["M8[s]", "m8[ms]", "M8[D]"])
def test_times_are_read_as_their_integers(stored: str) -> None:
    values = np.array([0, -5, 10**9, np.iinfo("i8").min], "i8").view(stored)
    assert converted(values, "i8").tolist() == values.view("i8").tolist()
    assert converted(values[:3], "u8").tolist() == [0, 2**64 - 5, 10**9]
    for dtype in ("i4", "f8", "M8[us]"):
        with pytest.raises(UnsupportedError, match="cannot be converted"):
            converted(values, dtype)
    with pytest.raises(UnsupportedError, match="cannot be scaled"):
        converted(values, "i8", scale=2.0)


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        ("S3", "i4"),
        ("U3", "f4"),
        ("i4", "U3"),
        ("V4", "i4"),
        ("i4", "M8[s]"),
        ("c8", "f4"),
        ("O", "f4"),
        ([("a", "i4")], "i4"),
    ],
    ids=str,
)
def test_conversions_that_mean_nothing_are_unsupported(stored: Any, dtype: str) -> None:
    with pytest.raises(UnsupportedError, match="read them as they are"):
        converted(np.zeros(2, stored), dtype)


def test_booleans_and_complex_numbers() -> None:
    assert converted(np.array([True, False]), "f4").tolist() == [1, 0]
    assert converted(np.array([0.0, 0.5, np.nan]), "?").tolist() == [False, True, True]
    assert converted(np.array([1.5], "f4"), "c8").tolist() == [1.5 + 0j]
    assert converted(np.array([1 + 2j]), scale=2.0, offset=1.0).tolist() == [3 + 4j]
