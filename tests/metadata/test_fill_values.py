from __future__ import annotations

import base64
import math
import sys
from typing import Any, Literal

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata import data_types
from gpuzarr.metadata.data_types import parse_data_type
from gpuzarr.metadata.fill_values import parse_fill_value
from gpuzarr.metadata.model import DataType

from .documents import each

Format = Literal[2, 3]


def bits_of(value: Any) -> int:
    """The bits of a scalar, as one unsigned integer."""
    return int.from_bytes(value.tobytes(), sys.byteorder)


def parse(name: Any, value: Any, zarr_format: Format = 3) -> Any:
    return parse_fill_value(parse_data_type(name), value, zarr_format=zarr_format)


def length(name: str, nbytes: int) -> dict[str, Any]:
    return {"name": name, "configuration": {"length_bytes": nbytes}}


SECONDS = {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 5}}
SPANS = {"name": "numpy.timedelta64", "configuration": {"unit": "D", "scale_factor": 1}}


@pytest.mark.parametrize(
    ("name", "value", "bits"),
    [
        ("float32", 0, 0),
        ("float32", -0.0, 0x80000000),
        ("float32", 1, 0x3F800000),
        ("float32", 0.1, 0x3DCCCCCD),
        ("float32", "NaN", 0x7FC00000),
        ("float32", math.nan, 0x7FC00000),
        ("float32", "Infinity", 0x7F800000),
        ("float32", "-Infinity", 0xFF800000),
        ("float32", "0x7fc00000", 0x7FC00000),
        ("float32", "0x7fa00001", 0x7FA00001),
        ("float32", "0xFFC12345", 0xFFC12345),
        ("float32", "1.5", 0x3FC00000),
        ("float32", 1e39, 0x7F800000),
        ("float32", 2**127, 0x7F000000),
        ("float64", "NaN", 0x7FF8000000000000),
        ("float64", "0x7ff4000000000001", 0x7FF4000000000001),
        ("float64", 5e-324, 1),
        ("float16", "NaN", 0x7E00),
        ("float16", "0xfe01", 0xFE01),
        ("float16", 65504, 0x7BFF),
        ("bfloat16", "NaN", 0x7FC0),
        ("bfloat16", "0x7fc1", 0x7FC1),
        ("bfloat16", 1.5, 0x3FC0),
        ("bfloat16", "-Infinity", 0xFF80),
        ("float8_e3m4", "NaN", 0x78),
        ("float8_e4m3", "NaN", 0x7C),
        ("float8_e4m3", "Infinity", 0x78),
        ("float8_e4m3b11fnuz", "NaN", 0x80),
        ("float8_e4m3fn", "NaN", 0x7F),
        ("float8_e4m3fn", "0x38", 0x38),
        ("float8_e4m3fnuz", "NaN", 0x80),
        ("float8_e5m2", "NaN", 0x7E),
        ("float8_e5m2", "-Infinity", 0xFC),
        ("float8_e5m2fnuz", "NaN", 0x80),
        ("float8_e8m0fnu", "NaN", 0xFF),
        ("float8_e8m0fnu", 1.0, 0x7F),
        ("float8_e8m0fnu", 0.0, 0),
        ("float6_e2m3fn", -7.5, 0x3F),
        ("float6_e3m2fn", 28, 0x1F),
        ("float4_e2m1fn", 1.5, 0x3),
        ("float4_e2m1fn", -0.0, 0x8),
        ("float4_e2m1fn", "0x3", 0x3),
        ("float4_e2m1fn", "0x0f", 0xF),
        ("int8", -128, 0x80),
        ("int8", 127.0, 0x7F),
        ("int8", "-5", 0xFB),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("int64", -(2**63), 2**63),
        ("uint2", 3, 3),
        ("uint4", 15, 15),
        ("int4", 7, 7),
        ("bool", True, 1),
        ("bool", False, 0),
        ("complex64", [1, -0.0], 0x80000000_3F800000),
        ("complex64", ["0x7fc00001", "-Infinity"], 0xFF800000_7FC00001),
        ("complex_float32", ["NaN", "0x7fa00000"], 0x7FA00000_7FC00000),
        ("complex128", [0, "NaN"], 0x7FF8000000000000 << 64),
        ("complex_bfloat16", ["0x7fc1", -0.0], 0x8000_7FC1),
        ("complex_float16", ["0x7e01", 1], 0x3C00_7E01),
        ("complex_float8_e4m3", [1, "0x7d"], 0x7D38),
        ("complex_float4_e2m1fn", [1.5, "0x8"], 0x0803),
        (SECONDS, "NaT", 2**63),
        (SECONDS, -(2**63), 2**63),
        (SPANS, 5, 5),
        ("r24", [1, 2, 255], 0xFF0201),
        (length("raw_bytes", 3), "YWJj", 0x636261),
        (length("raw_bytes", 3), [0, 0, 1], 0x010000),
    ],
)
def test_bits(name: Any, value: Any, bits: int) -> None:
    found = parse(name, value)
    assert bits_of(found) == bits
    assert np.dtype(found.dtype) == parse_data_type(name).dtype
    assert isinstance(found, np.generic)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        (length("fixed_length_utf32", 12), "h\u00e9", "h\u00e9"),
        (length("fixed_length_utf32", 4), "\U0001f600", "\U0001f600"),
        (length("null_terminated_bytes", 4), "YWL/", b"ab\xff"),
        (length("null_terminated_bytes", 4), "", b""),
        ("string", "", ""),
        ("string", "\u00e9\U0001f600", "\u00e9\U0001f600"),
        ("bytes", "", b""),
        ("bytes", [], b""),
        ("bytes", "AQID", b"\x01\x02\x03"),
        ("bytes", [1, 2, 255], b"\x01\x02\xff"),
    ],
)
def test_text_and_bytes(name: Any, value: Any, right: Any) -> None:
    assert parse(name, value) == right


INTEGERS = [name for name in data_types.NUMPY_TYPES if "int" in name]
FLOATS = ["float16", "float32", "float64", *data_types.SMALL_FLOATS]
WRONG: dict[tuple[str, ...], list[Any]] = {
    ("bool",): [None, 0, 1, "true", 0.0, [], {}],
    tuple(INTEGERS): [
        None,
        True,
        0.5,
        "",
        "1.5",
        "NaN",
        math.nan,
        math.inf,
        [],
        {},
        2**64,
        -(2**65),
    ],
    ("int2",): [2, -3, True],
    ("uint2",): [4, -1],
    ("int4",): [8, -9],
    ("uint4", "uint8", "uint64"): [-1, 10**4000],
    tuple(FLOATS): [
        None,
        True,
        "",
        "nan",
        "inf",
        "0x",
        "0x1g",
        "1e",
        "--1",
        [],
        [1],
        {},
        "0x" + "f" * 40,
    ],
    ("float32",): ["0x7fc0", "0x7fc000000", "0x7ff8000000000000", 10**4000],
    ("float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"): ["NaN", "Infinity", "0xff", 1000, -29],
    ("float8_e4m3fn", "float8_e5m2fnuz", "float8_e8m0fnu"): ["Infinity", "-Infinity", 1e300],
    ("float8_e8m0fnu",): [-1.0],
    ("complex64", "complex_float8_e4m3"): [
        None,
        0,
        1.5,
        [],
        [1],
        [1, 2, 3],
        ["x", 0],
        [True, 0],
        "NaN",
    ],
    ("string",): [None, 0, True, [], {}, "\ud800"],
    ("bytes",): [None, 0, [256], [-1], [1.0], [True], "\u00e9", "abc", {}],
    ("r24",): [None, 0, [1, 2], [1, 2, 3, 4], [1, 2, 256], "AAA=", {}],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for names, values in WRONG.items() for name in names for value in values],
)
def test_refuses(name: str, value: Any) -> None:
    with pytest.raises(MetadataError, match="fill_value"):
        parse(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((SECONDS, value) for value in each((None, "nat", "2000-01-01", 0.0, True, 2**63, []))),
        *(
            (length("fixed_length_utf32", 8), value)
            for value in each((None, 0, "abc", "\ud800", []))
        ),
        *(
            (length("null_terminated_bytes", 2), value)
            for value in each((None, 0, "YWJj", "a", {}))
        ),
    ],
)
def test_refuses_of_fixed_size(name: Any, value: Any) -> None:
    with pytest.raises(MetadataError, match="fill_value"):
        parse(name, value)


STRUCT = {
    "name": "struct",
    "configuration": {
        "fields": [
            {"name": "a", "data_type": "int32"},
            {"name": "b", "data_type": "float32"},
            {
                "name": "c",
                "data_type": {
                    "name": "struct",
                    "configuration": {
                        "fields": [["x", "complex64"], ["y", length("null_terminated_bytes", 2)]]
                    },
                },
            },
            {"name": "d", "data_type": "bfloat16"},
        ]
    },
}


def test_struct_by_fields_keeps_bits() -> None:
    value = {
        "a": -5,
        "b": "0x7fa00001",
        "c": {"x": ["NaN", -0.0], "y": "YQ=="},
        "d": "0x7fc1",
    }
    found = parse(STRUCT, value)
    assert (found["a"], found["c"]["y"]) == (-5, b"a")
    assert bits_of(found["b"]) == 0x7FA00001
    assert bits_of(found["c"]["x"]) == 0x80000000_7FC00000
    assert bits_of(found["d"]) == 0x7FC1


def test_struct_by_base64_is_little_endian() -> None:
    data_type = parse_data_type(
        {"name": "structured", "configuration": {"fields": [["a", "int32"], ["b", "float64"]]}}
    )
    stored = np.array((7, 1.5), data_type.dtype.newbyteorder("<"))
    text = base64.b64encode(stored.tobytes()).decode()
    found = parse_fill_value(data_type, text)
    assert found.tolist() == (7, 1.5)
    assert found.dtype == data_type.dtype


def test_struct_by_tensorstores_zero() -> None:
    assert bits_of(parse(STRUCT, 0)) == 0


@pytest.mark.parametrize(
    "value",
    [
        *(None, [], 1, True, 0.5, "", "AAAA", "not base64", {}, {"a": 1}),
        {"a": 1, "b": 2, "c": {"x": [0, 0], "y": ""}, "d": 0, "e": 0},
        {"a": 1, "b": 2, "c": {"x": [0, 0]}, "d": 0},
        {"a": 1.5, "b": 2, "c": {"x": [0, 0], "y": ""}, "d": 0},
    ],
)
def test_struct_refuses(value: Any) -> None:
    with pytest.raises(MetadataError, match="fill_value"):
        parse(STRUCT, value)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("bool", 1, True),
        ("int32", 0.0, 0),
        ("complex64", 2, 2),
        ("string", 0, ""),
        ("bytes", 0, b""),
        (length("fixed_length_utf32", 8), 0, ""),
        (length("null_terminated_bytes", 3), 0, b""),
        (length("null_terminated_bytes", 3), "a!", b"a!"),
        (length("raw_bytes", 3), 0, b"\0\0\0"),
    ],
)
def test_what_only_v2_writes(name: Any, value: Any, right: Any) -> None:
    found = parse(name, value, 2)
    assert (found.tobytes() if isinstance(found, np.void) else found) == right
    if name != "int32":
        with pytest.raises(MetadataError):
            parse(name, value, 3)


def test_objects_of_v2_may_be_anything() -> None:
    for value in each((0, "text", [1, {"a": None}], {"b": 1.5})):
        assert parse_fill_value(DataType("object", np.dtype(object)), value, zarr_format=2) == value


def test_types_of_other_packages_go_by_their_dtype() -> None:
    assert parse_fill_value(DataType("mine.float", np.dtype("f4")), "0x7fc00001").dtype == "f4"
    assert parse_fill_value(DataType("mine.complex", np.dtype("c16")), [1, 2]) == 1 + 2j
    with pytest.raises(UnsupportedError, match="mine"):
        parse_fill_value(DataType("mine.object", np.dtype(object)), "x")


@given(st.integers(0, 2**32 - 1))
def test_every_float32_by_its_bits(bits: int) -> None:
    assert bits_of(parse("float32", f"0x{bits:08x}")) == bits


@given(st.floats(width=32, allow_nan=False))
def test_every_float32_by_its_number(number: float) -> None:
    assert bits_of(parse("float32", number)) == bits_of(np.float32(number))


@given(st.sampled_from(data_types.SMALL_FLOATS), st.integers(0, 255))
def test_every_small_float_by_its_number(name: str, bits: int) -> None:
    data_type = parse_data_type(name)
    bits &= (1 << (data_type.bits or 8)) - 1
    found = parse(name, f"0x{bits:0{2 * data_type.dtype.itemsize}x}")
    assert bits_of(found) == bits
    number = float(found)
    if math.isfinite(number):
        again = parse(name, number)
        assert float(again) == number
        assert math.copysign(1, float(again)) == math.copysign(1, number)


@given(
    st.sampled_from([*data_types.NUMPY_TYPES, *data_types.SMALL_INTS]),
    st.integers(-(2**65), 2**65),
)
def test_integers_in_range_or_refused(name: str, value: int) -> None:
    if "int" not in name:
        return
    low, high = limits(name)
    if low <= value <= high:
        assert int(parse(name, value)) == value
    else:
        with pytest.raises(MetadataError, match=f"from {low} to {high}"):
            parse(name, value)


def limits(name: str) -> tuple[int, int]:
    small: Any = ml_dtypes.iinfo
    info = small(name) if name in data_types.SMALL_INTS else np.iinfo(name)
    return int(info.min), int(info.max)
