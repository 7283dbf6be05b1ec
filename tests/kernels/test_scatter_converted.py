"""Conversions in the scatter, bit for bit those of `gpuzarr.engines.conversion.convert`."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gpuzarr.engines.conversion import convert, make_conversion
from gpuzarr.engines.cuda.kernels import STATUS, TYPES
from gpuzarr.engines.cuda.transfer import _values_of_bytes, find_transfer
from tests.kernels.any_pieces import any_pieces
from tests.kernels.arguments import integers, launch, unaligned

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
NUMBERS = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", BFLOAT16)
COMPLEX = ("c8", "c16")
NARROW = (
    *(ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e8m0fnu),
    *(ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float4_e2m1fn, ml_dtypes.int2),
)


def special(dtype: np.dtype) -> np.ndarray:
    """Values at which conversions go wrong."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        near = [2**k + d for k in range(64) for d in (-1, 0, 1)]
        near += [-value for value in near] + [info.min, info.max, 0]
        odd = [0x7FFFFF7FFFFFFFFF, 0x7FFFFFBFFFFFFFFF, (1 << 24) + 1, (1 << 53) + 1]
        return np.array([v for v in near + odd if info.min <= v <= info.max], dtype)
    if dtype.itemsize == 1:
        return np.arange(256, dtype=np.uint8).view(dtype)
    powers = [2.0**k for k in range(-160, 140, 7)] + [2.0**-149, 2.0**-24, 2.0**-25, 2.0**-126]
    near = [p * f for p in powers for f in (1, 1 + 2**-11, 1 + 2**-8, 1 + 2**-9, 1.5, 1 - 2**-12)]
    near += [1 + 2**-8 + 2**-30, 1 + 2**-24, 1 + 2**-24 + 2**-50, 65504, 65519.99, 65520, 3.4e38]
    whole = [2.0**k + d for k in (7, 8, 15, 16, 31, 32, 53, 63, 64) for d in (-1, -0.5, 0, 0.5)]
    values = [*near, *whole, 0.0, np.inf, np.nan, 1e300, 5e-324, 2.5, 3.5]
    with np.errstate(all="ignore"):
        signed = np.array([*values, *(-v for v in values)])
        if dtype.kind == "c":
            return (signed + 1j * signed[::-1]).astype(dtype)
        return signed.astype(dtype)


def converted(
    values: np.ndarray, result: Any, scale: float | None, offset: float | None, shift: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """What the kernel makes of each value, each being a chunk of its own, and the statuses."""
    conversion = make_conversion(
        values.dtype.newbyteorder("="), dtype=result, scale=scale, offset=offset
    )
    how = find_transfer(values.dtype, conversion)
    assert how.converted is not None
    n, size = len(values), conversion.result.itemsize
    source, target = unaligned(values, shift), unaligned(np.zeros(n * size, np.uint8), shift)
    rows = np.zeros((n, 3), np.int64)
    rows[:, 0] = np.arange(n)
    rows[:, 2] = target.ctypes.data + size * np.arange(n)
    place = source.ctypes.data + values.itemsize * np.arange(n)
    status = np.zeros(n, np.int32)
    table = _values_of_bytes(how.converted.dtype) if how.converted.dtype else integers(0)
    none = integers(0)
    launch(
        "scatter_converted",
        n,
        *(rows, np.arange(n + 1), n, 0, 0, none, none, place, none, none, none),
        *(how.pitch, how.field, how.item, how.swap, 0),
        *(TYPES[how.converted.source], TYPES[how.converted.result], how.converted.arithmetic),
        *(scale is not None, 0.0 if scale is None else scale),
        *(offset is not None, 0.0 if offset is None else offset),
        *(table, status),
    )
    return target.view(np.uint8).copy().view(conversion.result), status


def check(values: np.ndarray, result: Any, scale: float | None, offset: float | None) -> None:
    """Each value alone, since one that does not fit fails the whole array on the host."""
    got, status = converted(values, result, scale, offset)
    native = values.dtype.newbyteorder("=")
    conversion = make_conversion(native, dtype=result, scale=scale, offset=offset)
    for i, value in enumerate(values):
        one = np.array([value], values.dtype)
        try:
            expected = convert(one, conversion)
        except ValueError:
            assert status[i] == STATUS["CONVERSION"], (value, result)
            continue
        assert status[i] == 0, (value, result)
        assert_bits(expected, got[i : i + 1], value)


def assert_bits(expected: np.ndarray, got: np.ndarray, value: Any) -> None:
    """The same bits; not-a-number is not-a-number."""
    wide = expected.astype(np.complex128), got.astype(np.complex128)
    for part in ("real", "imag"):
        want, have = getattr(wide[0], part), getattr(wide[1], part)
        same = (want == have) & (np.signbit(want) == np.signbit(have))
        assert (same | (np.isnan(want) & np.isnan(have))).all(), (value, expected, got)


@pytest.mark.parametrize("result", NUMBERS, ids=str)
@pytest.mark.parametrize("stored", NUMBERS, ids=str)
def test_every_type_to_every_other(stored: Any, result: Any) -> None:
    if np.dtype(stored) != np.dtype(result):
        check(special(np.dtype(stored)), np.dtype(result), None, None)


@pytest.mark.parametrize("result", [*NUMBERS, *COMPLEX], ids=str)
@pytest.mark.parametrize("stored", NUMBERS, ids=str)
def test_scaled(stored: Any, result: Any) -> None:
    check(special(np.dtype(stored)), np.dtype(result), 0.1, -3.7)


@pytest.mark.parametrize(
    ("scale", "offset"), [(2.5, None), (None, 1e-40), (1e30, 1e300), (0, -0.0)]
)
@pytest.mark.parametrize("stored", ["f4", "f8", "i8"])
def test_other_factors(stored: str, scale: float | None, offset: float | None) -> None:
    for result in ("f4", "f8", "f2", BFLOAT16):
        check(special(np.dtype(stored)), np.dtype(result), scale, offset)


@pytest.mark.parametrize("stored", [*NUMBERS, *COMPLEX], ids=str)
@pytest.mark.parametrize("result", COMPLEX)
def test_to_complex(stored: Any, result: str) -> None:
    values = special(np.dtype(stored))
    if values.dtype != np.dtype(result):
        check(values, np.dtype(result), None, None)
    if values.dtype.kind == "c" or result == "c16":
        finite = values[np.isfinite(values.astype("c16"))]
        check(finite, np.dtype(result), 0.3, 1.25)


@pytest.mark.parametrize("stored", NARROW, ids=lambda t: np.dtype(t).name)
@pytest.mark.parametrize("result", ["f4", "f8", "f2", "i2", "u1", "i8", "?", BFLOAT16], ids=str)
def test_types_that_a_table_explains(stored: Any, result: Any) -> None:
    dtype = np.dtype(stored)
    values = special(dtype)
    if "4" in dtype.name[:6] or "int" in dtype.name:
        values = np.arange(-8, 16).astype(np.int8).view(np.uint8)[8:12].view(dtype)
        values = np.array([0, 1, 1, 0]).astype(dtype) if "int" in dtype.name else values
    check(values, np.dtype(result), None, None)
    if np.dtype(result).kind == "f":
        check(values, np.dtype(result), 1.5, -2.0)


def test_negative_narrow_integers_wrap() -> None:
    values = np.array([-8, -1, 0, 7]).astype(ml_dtypes.int4)
    got, status = converted(values, np.dtype("u2"), None, None)
    assert not status.any()
    np.testing.assert_array_equal(got, values.astype("u2"))


@given(data=st.data())
def test_random_values(data: st.DataObject) -> None:
    stored = np.dtype(
        data.draw(st.sampled_from(["f4", "f8", "i8", "u8", "f2", "i4", ">f4", ">i8"]))
    )
    result = np.dtype(data.draw(st.sampled_from(["f4", "f8", "f2", "i4", "u8", BFLOAT16])))
    values = data.draw(npst.arrays(stored, 20))
    scale = data.draw(st.one_of(st.none(), st.floats(-1e6, 1e6)))
    if values.dtype.newbyteorder("=") != result or scale is not None:
        check(values, result, scale, data.draw(st.sampled_from([None, 0.5, -1e-3])))


@pytest.mark.parametrize("shift", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("stored", ["<f4", ">f8", "<i2", ">u4"])
def test_unaligned_places(stored: str, shift: int) -> None:
    values = np.arange(-3, 40).astype(stored)
    got, _ = converted(
        values, np.dtype("f8") if "f4" in stored else np.dtype("f4"), 2.0, 1.0, shift
    )
    native = values.dtype.newbyteorder("=")
    expected = convert(values, make_conversion(native, dtype=got.dtype, scale=2.0, offset=1.0))
    np.testing.assert_array_equal(got, expected)


FIELDS = {"a": "u1", "f": ">f4", "c": "<c16", "i": "<i2", "d": ">f8"}
STRUCTURE = np.dtype(list(FIELDS.items()))


@given(
    data=st.data(),
    stored=st.sampled_from(["<i2", ">u4", "<i8", "<f2", ">f4", ">f8", ">c8", "<c16", *FIELDS]),
    result=st.sampled_from(["f4", "f8", "c8", "c16", "?", BFLOAT16]),
    factors=st.sampled_from([(None, None), (0.1, None), (None, 3.0), (-2.5, 1e-3)]),
    typesize=st.sampled_from([0, -1, 2, 3]),
    block=st.sampled_from([1, 3, 7, 1 << 12]),
)
def test_any_pieces_of_any_chunks(
    data: st.DataObject,
    stored: str,
    result: Any,
    factors: tuple[float | None, float | None],
    typesize: int,
    block: int,
) -> None:
    """Shuffled by their own size (-1), by another one, or not (0)."""
    name = stored if stored in FIELDS else None
    whole = STRUCTURE if name else np.dtype(stored)
    native = (STRUCTURE[name] if name else whole).newbyteorder("=")
    result = np.dtype(result)
    if native == result or (native.kind == "c" and result.kind != "c"):
        return
    pieces = data.draw(any_pieces(whole, name, result))
    conversion = make_conversion(
        whole, dtype=result, scale=factors[0], offset=factors[1], field=name
    )
    how = find_transfer(whole, conversion)
    assert how.converted is not None
    typesize = whole.itemsize if typesize < 0 else typesize
    columns = pieces.shuffle_columns(typesize, block * whole.itemsize if block > 1 else 5)
    status = np.zeros(len(pieces.rows), np.int32)
    launch(
        "scatter_converted",
        *(*pieces.arguments(), *columns),
        *(how.pitch, how.field, how.item, how.swap, int(typesize > 0)),
        *(TYPES[how.converted.source], TYPES[how.converted.result], how.converted.arithmetic),
        *(factors[0] is not None, factors[0] or 0.0, factors[1] is not None, factors[1] or 0.0),
        *(0, status),
    )
    assert not status.any()
    for source, found in zip(pieces.sources, pieces.results(), strict=True):
        assert_bits(convert(source.astype(native), conversion), found, stored)


@pytest.mark.parametrize("shuffle", [0, 1])
@pytest.mark.parametrize(
    ("stored", "result", "scale"), [("<i2", "f4", 0.5), (">f4", "i2", None), ("<c8", "c16", None)]
)
def test_kernels_for_constants_do_the_same(
    stored: str, result: str, scale: float | None, shuffle: int
) -> None:
    dtype, out = np.dtype(stored), np.zeros((5, 7, 11), result)
    array = np.arange(-200, 5 * 7 * 11 * 2 - 200).astype(dtype).reshape(5, 7, 22)
    conversion = make_conversion(dtype.newbyteorder("="), dtype=out.dtype, scale=scale)
    how = find_transfer(dtype, conversion)
    assert how.converted is not None
    words = array.view(np.uint8).reshape(-1, dtype.itemsize)
    chunk = unaligned(words.T.copy() if shuffle else words, 8)
    row = [0, 0, out.ctypes.data, 5, 7 * 22, out.strides[0], 7, 22, out.strides[1]]
    row += [11, 2, out.strides[2]]
    places = {"naxes": 3, "lists": 0, "pitch": how.pitch, "field": 0, "item": how.item}
    places |= {"swap": how.swap, "shuffled": shuffle}
    values = {
        "source_type": TYPES[how.converted.source],
        "result_type": TYPES[how.converted.result],
        "arithmetic": how.converted.arithmetic,
        "has_scale": int(scale is not None),
        "has_offset": 0,
    }
    status, none, size = np.zeros(1, np.int32), integers(0), len(chunk)
    launch(
        "scatter_converted",
        1,
        *(integers(row), integers(0, 1), 1, 3, 0, none, none, integers(chunk.ctypes.data)),
        *(integers(size), integers(dtype.itemsize), integers(size)),
        *(how.pitch, 0, how.item, how.swap, shuffle, *list(values.values())[:4]),
        *(scale or 0.0, 0, 0.0, 0, status),
        **places,
        **values,
    )
    assert not status.any()
    expected = convert(array[..., ::2].astype(dtype.newbyteorder("=")), conversion)
    assert_bits(expected, out, stored)
