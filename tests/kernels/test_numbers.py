"""Numbers of every type against NumPy and ml_dtypes, down to the bits of what is not a number."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.conversion import convert, make_conversion
from gpuzarr.engines.cuda.kernels import SCATTER_TILE
from tests.kernels.arguments import addresses, code, integers, launch, swap, unaligned
from tests.kernels.test_scatter_converted import converted, special

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TYPES = ("|i1", "|u1", "<i2", ">u2", ">i4", "<u4", "<i8", ">i8", "<u8", ">u8")
FLOATS = ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8")
HALVES = np.arange(1 << 16, dtype=np.uint16)


def cast(values: np.ndarray, decoded: Any, source_shift: int = 0, target_shift: int = 0) -> Any:
    """What `cast_elements` makes of values."""
    dtype = np.dtype(decoded)
    source = unaligned(values, source_shift)
    target = unaligned(np.zeros(len(values), dtype), target_shift)
    blocks = -(-len(values) // SCATTER_TILE)
    launch(
        "cast_elements",
        blocks,
        *(addresses([source]), addresses([target]), integers(len(values)), integers(0, blocks), 1),
        *(code(values.dtype), swap(values.dtype), code(dtype), swap(dtype)),
    )
    return target.copy().view(dtype)


def numpy_cast(values: np.ndarray, decoded: Any) -> np.ndarray:
    out = np.empty(len(values), decoded)
    with np.errstate(all="ignore"):
        np.copyto(out, values, casting="unsafe")
    return out


def assert_bits(expected: np.ndarray, got: np.ndarray, values: np.ndarray) -> None:
    """The same bytes."""
    size = expected.itemsize
    want, have = (a.view(np.uint8).reshape(-1, size) for a in (expected, got))
    wrong = np.flatnonzero((want != have).any(axis=1))
    assert not len(wrong), (values[wrong[:3]], expected[wrong[:3]], got[wrong[:3]])


def to_f8(values: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return values.astype("f8")


def around_middles(narrow: np.ndarray) -> np.ndarray:
    """float64 in the middle of every two neighbours of a float type, and next to these middles."""
    wide = to_f8(narrow)
    values = np.unique(wide[np.isfinite(wide)])
    middles = (values[1:] + values[:-1]) / 2
    last = values[-1] + (values[-1] - values[-2]) / 2  # from here on it is infinite
    middles = np.concatenate([middles, [last, -last]])
    return np.concatenate([middles, np.nextafter(middles, np.inf), np.nextafter(middles, -np.inf)])


@pytest.mark.parametrize("decoded", ["<f4", ">f4", "<f8", "<f2", ">f2", "<i2", ">i8", "|u1"])
def test_every_float16(decoded: str) -> None:
    values = HALVES.view("f2")
    assert_bits(numpy_cast(values, decoded), cast(values, decoded), values)


@pytest.mark.parametrize("encoded", ["<f8", ">f8", "<f4"])
def test_float16_from_around_every_middle(encoded: str) -> None:
    values = around_middles(HALVES.view("f2")).astype(encoded)
    assert_bits(numpy_cast(values, "<f2"), cast(values, "<f2"), values)


def test_float32_from_around_middles() -> None:
    bits = np.random.default_rng(0).integers(0, 0x7F7FFFFF, 20000, np.uint32)
    bits[:4000] >>= 8  # below the normal range
    bits[:4] = 0, 1, 0x7FFFFF, 0x7F7FFFFE
    middles = (to_f8(bits.view("f4")) + to_f8((bits + 1).view("f4"))) / 2
    most = (2.0 - 2.0**-24) * 2.0**127  # from here on it is infinite
    middles = np.concatenate([middles, [most]])
    values = np.concatenate([middles, np.nextafter(middles, 0), np.nextafter(middles, np.inf)])
    values = np.concatenate([values, -values])
    assert_bits(numpy_cast(values, "<f4"), cast(values, "<f4"), values)


@pytest.mark.parametrize("result", ["f4", "f8", "f2", "c8", "c16"])
def test_every_bfloat16(result: str) -> None:
    values = HALVES.view(BFLOAT16)
    conversion = make_conversion(BFLOAT16, dtype=np.dtype(result))
    with np.errstate(all="ignore"):
        expected = convert(values, conversion)
    assert_bits(expected, converted(values, np.dtype(result), None, None)[0], values)


@pytest.mark.parametrize("stored", ["<f8", ">f8", "<f4", "<i8", ">u8", "<i4", "<u4"])
def test_bfloat16_from_around_every_middle(stored: str) -> None:
    """Rounded once: what float32 cannot hold decides on which side of a middle a value is."""
    values = around_middles(HALVES.view(BFLOAT16))
    native = np.dtype(stored).newbyteorder("=")
    if native.kind in "iu":
        info = np.iinfo(native)
        values = values[(values >= info.min) & (values < float(info.max)) & (abs(values) > 256)]
        values = np.concatenate([values.astype(native) + np.array(d, native) for d in (0, 1)])
    with np.errstate(all="ignore"):
        values = values.astype(native)
        expected = convert(values, make_conversion(native, dtype=BFLOAT16))
    got, _ = converted(values.astype(stored), BFLOAT16, None, None)
    assert_bits(expected, got, values)


@pytest.mark.parametrize("decoded", [*TYPES, *FLOATS, "|b1"])
@pytest.mark.parametrize("encoded", [*TYPES, *FLOATS, "|b1"])
def test_casts_of_special_values(encoded: str, decoded: str) -> None:
    values = special(np.dtype(encoded).newbyteorder("=")).astype(encoded)
    values = _defined(values, decoded)
    assert_bits(numpy_cast(values, decoded), cast(values, decoded), values)


@given(
    words=st.binary(min_size=64, max_size=640).map(lambda data: data[: len(data) // 8 * 8]),
    encoded=st.sampled_from([*TYPES, *FLOATS]),
    decoded=st.sampled_from([*TYPES, *FLOATS, "|b1"]),
    shifts=st.tuples(st.integers(0, 15), st.integers(0, 15)),
)
def test_casts_of_any_bits_at_any_address(
    words: bytes, encoded: str, decoded: str, shifts: tuple[int, int]
) -> None:
    values = _defined(np.frombuffer(words, encoded), decoded)
    if len(values):
        assert_bits(numpy_cast(values, decoded), cast(values, decoded, *shifts), values)


def _defined(values: np.ndarray, decoded: str) -> np.ndarray:
    """Without floats of which NumPy makes uint32 in more than one way."""
    if values.dtype.kind != "f" or np.dtype(decoded).newbyteorder("=") != np.uint32:
        return values
    wide = to_f8(values)
    return values[(wide >= -(2.0**31)) & (wide < 2.0**32)]


@pytest.mark.parametrize(
    ("stored", "result"), [("<f4", "f8"), ("<f8", "f4"), ("<f4", "f2"), ("<f8", BFLOAT16)]
)
def test_no_nan_becomes_infinite(stored: str, result: Any) -> None:
    """Not even where its payload lies in the bits that are cut off."""
    size = np.dtype(stored).itemsize
    least = np.array([1, 2, 1 << 12], f"u{size}")
    infinite = np.array([np.inf, -np.inf, np.inf], stored).view(f"u{size}")
    values = (infinite | least).view(stored)
    got, _ = converted(values, np.dtype(result), None, None)
    assert np.isnan(to_f8(got)).all()
    with np.errstate(all="ignore"):
        expected = convert(values, make_conversion(values.dtype, dtype=np.dtype(result)))
    assert_bits(expected, got, values)
