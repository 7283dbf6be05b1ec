from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata import data_types
from gpuzarr.metadata.data_types import MAX_ITEM_NBYTES, parse_data_type, struct_fields
from gpuzarr.metadata.model import DataType

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE_TEXT = np.dtypes.StringDType() if np.__version__ >= "2" else np.dtype(object)


def with_length(name: str, nbytes: Any) -> dict[str, Any]:
    return {"name": name, "configuration": {"length_bytes": nbytes}}


def time(kind: str, unit: Any, factor: Any) -> dict[str, Any]:
    configuration = {"unit": unit, "scale_factor": factor}
    return {"name": f"numpy.{kind}64", "configuration": configuration}


def struct(fields: Any, name: str = "struct") -> dict[str, Any]:
    return {"name": name, "configuration": {"fields": fields}}


@pytest.mark.parametrize("name", data_types.NUMPY_TYPES)
def test_types_of_numpy(name: str) -> None:
    for spelling in (name, {"name": name}, {"name": name, "configuration": {}}):
        found = parse_data_type(spelling)
        assert (found.name, found.dtype, found.stored) == (name, np.dtype(name), None)
        assert found.bits == (1 if name == "bool" else None)


@pytest.mark.parametrize("name", [*data_types.SMALL_INTS, *data_types.SMALL_FLOATS])
def test_types_of_ml_dtypes(name: str) -> None:
    found = parse_data_type(name)
    assert (found.name, found.dtype) == (name, np.dtype(getattr(ml_dtypes, name)))
    digits = "".join(letter for letter in name.partition("_")[0] if letter.isdigit())
    assert found.bits == (int(digits) if int(digits) < 8 else None)


@pytest.mark.parametrize("part", data_types.SMALL_FLOATS)
def test_complex_of_small_floats(part: str) -> None:
    found = parse_data_type(f"complex_{part}")
    component = parse_data_type(part)
    assert found.dtype.itemsize == 2 * component.dtype.itemsize
    assert found.bits == component.bits
    if not hasattr(ml_dtypes, "bcomplex32") or part != "bfloat16":
        assert found.dtype == np.dtype([("re", component.dtype), ("im", component.dtype)])


def test_complex_float16_without_newer_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ml_dtypes, "complex32", raising=False)
    assert parse_data_type("complex_float16").dtype == np.dtype([("re", "f2"), ("im", "f2")])


def test_missing_ml_dtypes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(UnsupportedError, match="pip install"):
        parse_data_type("bfloat16")


@pytest.mark.parametrize(
    ("value", "name", "dtype"),
    [
        ("complex_float32", "complex64", "c8"),
        ("complex_float64", "complex128", "c16"),
        ("string", "string", VARIABLE_TEXT),
        ("bytes", "bytes", "O"),
        ("variable_length_bytes", "bytes", "O"),
        ("binary", "bytes", "O"),
        ("r8", "r8", "V1"),
        ("r24", "r24", "V3"),
        (with_length("fixed_length_utf32", 20), "fixed_length_utf32", "U5"),
        (with_length("null_terminated_bytes", 5), "null_terminated_bytes", "S5"),
        (with_length("raw_bytes", 3), "raw_bytes", "V3"),
        (time("datetime", "ns", 1), "numpy.datetime64", "M8[ns]"),
        (time("datetime", "\u03bcs", 25), "numpy.datetime64", "M8[25us]"),
        (time("datetime", "generic", 1), "numpy.datetime64", "M8"),
        (time("timedelta", "W", 2**31 - 1), "numpy.timedelta64", "m8[2147483647W]"),
    ],
)
def test_other_types(value: Any, name: str, dtype: Any) -> None:
    found = parse_data_type(value)
    assert (found.name, found.dtype) == (name, np.dtype(dtype))
    assert found.variable == (name in {"string", "bytes"})


@pytest.mark.parametrize("unit", [unit for unit in data_types.DATETIME_UNITS if unit != "generic"])
def test_every_unit(unit: str) -> None:
    assert np.datetime_data(parse_data_type(time("datetime", unit, 3)).dtype)[1] == 3
    assert np.datetime_data(parse_data_type(time("timedelta", unit, 3)).dtype)[1] == 3


BAD_UNITS: list[Any] = ["", "x", None, 5, [], "Ns"]
BAD_FIELDS: list[Any] = [None, [], {}, "a", [1], ["ab"], [["a"]], [["", "int8"]]]
FIELDS = [
    {"name": "a", "data_type": "int32"},
    {"name": "b", "data_type": struct([["x", "float64"], ["y", with_length("raw_bytes", 3)]])},
]


def test_struct_is_packed_and_nested() -> None:
    found = parse_data_type(struct(FIELDS))
    assert found.name == "struct"
    assert found.dtype == np.dtype([("a", "i4"), ("b", [("x", "f8"), ("y", "V3")])])
    assert [name for name, _ in struct_fields(found)] == ["a", "b"]
    assert [part.name for _, part in struct_fields(found)] == ["int32", "struct"]


def test_structured_is_the_same_by_an_older_name() -> None:
    found = parse_data_type(struct([["a", "int32"], ["b", {"name": "uint8"}]], "structured"))
    assert (found.name, found.dtype) == ("struct", np.dtype([("a", "i4"), ("b", "u1")]))


@pytest.mark.parametrize(
    "value",
    [
        *(None, 5, [], "", {}, ["int32"], {"name": "int32", "must_understand": False}),
        {"name": "int32", "configuration": {"endian": "big"}},
        {"name": "int32", "configuration": []},
        *("r7", "r12", f"r{8 * MAX_ITEM_NBYTES + 8}", "r9999999992"),
        *("fixed_length_utf32", "numpy.datetime64", "struct"),
        *(with_length("raw_bytes", n) for n in (0, -1, 2**24 + 1, 2**40, 2.0, True, "3", None)),
        *(with_length("fixed_length_utf32", n) for n in (5, 2**40)),
        {"name": "raw_bytes", "configuration": {"length_bytes": 3, "x": 1}},
        *(time("datetime", unit, 1) for unit in BAD_UNITS),
        *(time("timedelta", "s", factor) for factor in (0, -1, 2**31, 1.0, None, "1", True)),
        *(struct(fields) for fields in BAD_FIELDS),
        struct([["a", "int8", [2]]]),
        struct([["a", "int8"], ["a", "int8"]]),
        struct([["a", "string"]]),
        struct([["a", "bytes"]]),
        struct([[5, "int8"]]),
        struct([{"name": "a"}]),
        struct([{"data_type": "int8"}]),
        struct([{"name": "a", "data_type": "int8", "offset": 4}]),
        struct([[f"f{i}", with_length("raw_bytes", 2**24)] for i in range(2)]),
    ],
)
def test_refuses(value: Any) -> None:
    with pytest.raises(MetadataError):
        parse_data_type(value)


@pytest.mark.parametrize("name", ["float80", "r", "r0", "r08", "R8", "zarrs.optional", "x" * 10**5])
def test_unknown_types_name_those_that_are_known(name: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        parse_data_type(name)
    assert "bfloat16" in str(caught.value)
    assert data_types.ENTRY_POINTS in str(caught.value)
    assert len(str(caught.value)) < 2000


@dataclass
class FakeEntryPoint:
    builder: Callable[[Any], Any] | None
    name: str
    value: str = "package:make"
    dist: None = None

    def load(self) -> Callable[[Any], Any]:
        if self.builder is None:
            raise ImportError("no module named package")
        return self.builder


def test_types_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    builders: dict[str, Callable[[Any], Any] | None] = {
        "mine": lambda configuration: DataType("mine", np.dtype("i2"), configuration=configuration),
        "broken": lambda configuration: configuration["missing"],
        "other": lambda _: np.dtype("i2"),
        "gone": None,
    }

    def entry_points(*, group: str, name: str) -> list[FakeEntryPoint]:
        asked.append((group, name))
        return [FakeEntryPoint(builders[name], name)] if name in builders else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    found = parse_data_type({"name": "mine", "configuration": {"a": 1}})
    assert (found.name, found.configuration) == ("mine", {"a": 1})
    assert asked == [("gpuzarr.data_types", "mine")]
    for name in ("broken", "other", "gone", "absent"):
        with pytest.raises(UnsupportedError, match=name):
            parse_data_type(name)
    parse_data_type("int32")
    assert ("gpuzarr.data_types", "int32") not in asked


def test_ml_dtypes_is_not_imported_before_it_is_needed() -> None:
    code = """
import sys
from gpuzarr.metadata import v2, v3, consolidated
assert "ml_dtypes" not in sys.modules
v3.parse_data_type("float32")
assert "ml_dtypes" not in sys.modules
v3.parse_data_type("bfloat16")
assert "ml_dtypes" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
