"""What the corpus calls equal: if it let errors through, every other test would be worthless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from .case import assert_equal
from .corpus import case_ids, describe
from .samples import numbers
from .values import describe as describe_dtype
from .values import load_expected, save_expected, small_dtype

if TYPE_CHECKING:
    from pathlib import Path

RECORD = np.dtype([("a", "i2"), ("m", "f4", (2,)), ("in", [("t", "M8[s]"), ("s", "U2")])])


def objects(*items: Any) -> np.ndarray[Any, Any]:
    out = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):
        out[position] = item
    return out


EQUAL = [
    (np.array([np.nan, 1.0]), np.array([-np.nan, 1.0])),
    (np.array(["NaT", 5], "M8[s]"), np.array(["NaT", 5], "M8[s]")),
    (objects("a", ""), np.array(["a", ""], dtype=np.dtypes.StringDType())),
    (objects(b"a", None, [1, 2.5]), objects(b"a", None, [1, 2.5])),
    (numbers(RECORD, (5,)), numbers(RECORD, (5,))),
]
DIFFERENT = [
    (np.array([0.0]), np.array([-0.0])),
    (np.array([0j]), np.array([complex(0.0, -0.0)])),
    (np.array([1], "i4"), np.array([1], "i8")),
    (np.array([1], "i4"), np.array([1], "u4")),
    (np.array([1], "<i4"), np.array([1], ">i4")),
    (np.array([1, 2]), np.array([[1, 2]])),
    (np.array(1), 1),
    (np.array([1], "M8[s]"), np.array([1], "M8[ms]")),
    (np.array([np.nan]), np.array([np.inf])),
    (objects("a"), objects(b"a")),
    (objects(1), objects(True)),  # noqa: FBT003 - the point of it
    (objects(0.0), objects(-0.0)),
    (objects("1"), np.array(["1"])),
    (np.array([(1, 2)], "i2,i2"), np.array([(1, 3)], "i2,i2")),
    (np.array([(1,)], [("a", "i2")]), np.array([(1,)], [("b", "i2")])),
]


@pytest.mark.parametrize("pair", EQUAL)
def test_equal(pair: tuple[Any, Any]) -> None:
    assert_equal(*pair)


@pytest.mark.parametrize("pair", DIFFERENT)
def test_different(pair: tuple[Any, Any]) -> None:
    with pytest.raises(AssertionError):
        assert_equal(*pair)


@pytest.mark.parametrize("name", ["bfloat16", "int4", "float6_e3m2fn", "complex_bfloat16"])
def test_small_types(name: str) -> None:
    values = numbers(small_dtype(name), (40,))
    assert_equal(values, values.copy())
    other = values.copy()
    other[7] = values[8]
    with pytest.raises(AssertionError):
        assert_equal(values, other)


@pytest.mark.parametrize("dtype", ["i4", ">f8", "M8[25s]", "S3", "U2", "V5", RECORD, "bfloat16"])
def test_expected_values_survive_the_disk(tmp_path: Path, dtype: Any) -> None:
    values = numbers(small_dtype(dtype) if dtype == "bfloat16" else dtype, (7, 3))
    save_expected(tmp_path, values)
    assert_equal(values, load_expected(tmp_path, describe_dtype(values.dtype), values.shape))


def test_objects_survive_the_disk(tmp_path: Path) -> None:
    values = objects(
        "é", b"\0\xff", None, [1, {"k": None}], np.arange(3, dtype="<i4"), float("nan")
    )
    save_expected(tmp_path, values)
    assert_equal(values, load_expected(tmp_path, "object", values.shape))


def test_every_writer_is_there() -> None:
    writers = {describe(case_id).writer for case_id in case_ids()}
    assert writers == {"zarr2", "zarr3", "zarr34", "tensorstore", "zarrs", "handmade"}
