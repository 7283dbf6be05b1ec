from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata.v2_types import parse_v2_data_type


@pytest.mark.parametrize(
    ("value", "name", "endian", "dtype"),
    [
        ("|b1", "bool", None, "?"),
        ("|i1", "int8", None, "i1"),
        ("<u1", "uint8", None, "u1"),
        ("<i2", "int16", "little", "i2"),
        (">u8", "uint64", "big", "u8"),
        ("<f2", "float16", "little", "f2"),
        (">f8", "float64", "big", "f8"),
        ("<c8", "complex64", "little", "c8"),
        (">c16", "complex128", "big", "c16"),
        ("|S3", "null_terminated_bytes", None, "S3"),
        ("<U3", "fixed_length_utf32", "little", "U3"),
        (">U1", "fixed_length_utf32", "big", "U1"),
        ("|V10", "raw_bytes", None, "V10"),
        ("<M8[ns]", "numpy.datetime64", "little", "M8[ns]"),
        (">M8[25us]", "numpy.datetime64", "big", "M8[25us]"),
        ("<M8", "numpy.datetime64", "little", "M8"),
        ("<m8[10D]", "numpy.timedelta64", "little", "m8[10D]"),
        ("bfloat16", "bfloat16", "little", ml_dtypes.bfloat16),
        ("float8_e4m3fn", "float8_e4m3fn", None, ml_dtypes.float8_e4m3fn),
        ("int4", "int4", None, ml_dtypes.int4),
    ],
)
def test_simple(value: str, name: str, endian: str | None, dtype: Any) -> None:
    data_type, found = parse_v2_data_type(value)
    assert (data_type.name, found, data_type.stored) == (name, endian, None)
    assert data_type.dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("value", "descr"),
    [
        ([["a", "<i4"], ["b", ">f8"]], [("a", "<i4"), ("b", ">f8")]),
        ([["a", ">i2", [2, 3]], ["b", "|S2", 4]], [("a", ">i2", (2, 3)), ("b", "S2", (4,))]),
        ([["a", [["x", ">M8[s]"], ["y", "<U2"]]]], [("a", [("x", ">M8[s]"), ("y", "<U2")])]),
        ([["a", "|u1"], ["", "|V3"], ["b", "<i4"]], [("a", "u1"), ("", "V3"), ("b", "<i4")]),
        ([[["title", "a"], ">i4"]], [(("title", "a"), ">i4")]),
        ([["a", "bfloat16"]], [("a", ml_dtypes.bfloat16)]),
    ],
)
def test_structured_keeps_its_exact_dtype(value: Any, descr: Any) -> None:
    data_type, endian = parse_v2_data_type(value)
    assert (data_type.name, endian) == ("struct", None)
    assert data_type.stored == np.dtype(descr)
    assert data_type.dtype == np.dtype(descr).newbyteorder("=")
    assert data_type.dtype.isnative


@pytest.mark.parametrize(
    "value",
    [
        *(None, 5, 1.5, True, {}, "", "f4", "=f4", "|f4", "|U3", "|M8[s]", "<f3", "<i16", "<b4"),
        *("<f4 ", "<f4,<i4", "|S", "|S0", "<U0", "|V0", "|S-1", "<M8[]", "<M8[x]", "<M4[s]"),
        *(
            "<M8[0s]",
            "<M8[2147483648s]",
            "<M8[s/2]",
            "<f4[s]",
            "<c4",
            "int32",
            "float32",
            "(2,)<f4",
        ),
        *("|S1099511627776", "<U1099511627776", "|V99999999999999999999", "<U4194305", "\u0664"),
        *([], [[]], [["a"]], [["a", "<i4", [2], 1]], ["a", "<i4"], [["a", 5]], [["a", None]]),
        *([[5, "<i4"]], [[None, "<i4"]], [[["t"], "<i4"]], [["a", "<i4"], ["a", "<i4"]]),
        *([["a", "<i4", [0]]], [["a", "<i4", [-1]]], [["a", "<i4", [2**40]]], [["a", "<i4", "x"]]),
        *([["a", "<i4", [1] * 65]], [["a", "<i4", [2.0]]], [["a", "<i4", True]], [["a", []]]),
        [["a", "|V16777216"], ["b", "|V1"]],
        [["a", "|i1", [2**20] * 60]],
    ],
)
def test_refuses(value: Any) -> None:
    with pytest.raises(MetadataError, match="dtype"):
        parse_v2_data_type(value)


@pytest.mark.parametrize("value", ["<f16", "<c32", "<f12", "|O", "|O8", [["a", "|O"]]])
def test_unsupported(value: Any) -> None:
    with pytest.raises(UnsupportedError):
        parse_v2_data_type(value)


def as_json(descr: Any) -> Any:
    return [as_json(item) for item in descr] if isinstance(descr, (list, tuple)) else descr


@given(
    hnp.nested_dtypes(
        hnp.integer_dtypes() | hnp.floating_dtypes(sizes=(16, 32, 64)) | hnp.unicode_string_dtypes()
    )
)
def test_whatever_numpy_describes(dtype: np.dtype[Any]) -> None:
    dtype = dtype.base
    if dtype.itemsize == 0 or "U0" in str(dtype) or ", (0," in str(dtype) or "0)" in str(dtype):
        return
    value = as_json(dtype.descr) if dtype.names else dtype.str
    data_type, endian = parse_v2_data_type(value)
    stored = data_type.stored
    if stored is None:
        stored = data_type.dtype.newbyteorder(endian or "=")
    assert stored == dtype
