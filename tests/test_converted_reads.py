"""`dtype=`, `scale=` and `offset=` through reads of every layout and every kind of selection."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import gpuzarr
from tests.arrays import plain_store
from tests.stored import RegularGrid, Sharding, assert_result, every, store_v2, store_v3

Values = np.ndarray[Any, Any]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def numbers(shape: tuple[int, ...], dtype: Any = "i2") -> Values:
    return np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)


KEYS: list[Any] = [
    ...,
    (slice(None, None, -2), slice(1, 7)),
    ([5, 0, 5], slice(None)),
    (slice(None), [[1, 6], [0, 3]]),
    (4, 6),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("layout", ["big", "F", "sharded", "holes"])
def test_every_way_to_read_converts_alike(layout: str, key: Any) -> None:
    array = numbers((6, 8))
    stored = {
        "big": lambda: store_v2(array.astype(">i2"), (4, 3)),
        "F": lambda: store_v2(array, (4, 3), order="F"),
        "sharded": lambda: store_v3(array, RegularGrid((4, 8)), sharding=[Sharding((2, 2))]),
        "holes": lambda: store_v3(array, RegularGrid((4, 3)), fill=9, skip=every(2)),
    }[layout]()
    opened = gpuzarr.open_array(stored.values)
    whole = np.asarray(stored.expected[key])
    scaled = (whole.astype("f4") * np.float32(0.1) + np.float32(3)).astype("f4")
    assert_result(opened.read(key, scale=0.1, offset=3), scaled)
    assert_result(opened.read(key, dtype="u1"), whole.astype("u1"))
    assert_result(opened.read(key, dtype=">f8"), whole.astype("f8"))
    assert_result(opened.read(key, dtype=BFLOAT16), whole.astype("f4").astype(BFLOAT16))
    assert_result(opened.read(key, dtype="i2"), whole)


def test_an_array_without_dimensions_is_converted_too() -> None:
    for skip in (0, 1):
        stored = store_v3(np.array(7, "i2"), RegularGrid(()), fill=5, skip=every(skip))
        array = gpuzarr.open_array(stored.values)
        expected = float(stored.expected[()])
        assert_result(array.read(scale=0.5), np.array(expected * 0.5, "f4"))
        assert_result(array.read(dtype="u8"), np.array(expected, "u8"))
        assert_result(array.read(dtype=BFLOAT16), np.array(expected, BFLOAT16))
        out = np.zeros((), "f8")
        assert array.read(out=out) is out
        assert out == expected


def test_a_value_that_does_not_fit_is_a_failure_of_its_chunk() -> None:
    array = numbers((6, 8), "f4")
    array[5, 7] = np.nan
    array[0, 0] = 1e10
    opened = gpuzarr.open_array(plain_store(array, (2, 4)))
    with pytest.raises(gpuzarr.ChunkError) as raised:
        opened.read(dtype="i4")
    assert [failure.coords for failure in raised.value.failures] == [(0, 0), (2, 1)]
    assert {failure.step for failure in raised.value.failures} == {"convert"}
    assert "nan does not fit into int32" in str(raised.value)
    assert_result(opened.read(slice(2, 4), dtype="i4"), array[2:4].astype("i4"))
