"""Reading through the public interface: every layout, type and way to index, against NumPy."""

from __future__ import annotations

import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from tests.arrays import CountingStore, encoded, plain_store, v3_metadata
from tests.stored import (
    RegularGrid,
    Sharding,
    Stored,
    assert_result,
    assert_same,
    box_of,
    boxes,
    every,
    index_of,
    store_v2,
    store_v3,
)
from tests.strategies import advanced_keys, basic_keys, grids, orthogonal_keys, shapes

TYPES = ["bool", "int8", "uint16", "int32", "uint64", "float16", "float32", "float64", "complex64"]


def numbers(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Distinct-looking values of a type, none of them 0."""
    count = int(np.prod(shape, dtype=int))
    return (np.arange(count) % 113 + 1).astype(dtype).reshape(shape)


@st.composite
def stored_arrays(draw: st.DrawFn) -> Stored:
    """Small arrays in every layout, with chunks that are not stored."""
    shape = draw(shapes(max_dims=3))
    layout = draw(st.sampled_from(["v2", "v3", "grid", "sharded", "nested"]))
    skip = every(draw(st.sampled_from([0, 0, 2, 3])))
    gzip = draw(st.booleans())
    array = numbers(shape, draw(st.sampled_from(TYPES)))
    if layout == "v2":
        chunks = draw(st.tuples(*(st.integers(1, 12) for _ in shape)))
        array = array.astype(array.dtype.newbyteorder(draw(st.sampled_from("<>"))))
        v2_order = draw(st.sampled_from("CF"))
        return store_v2(array, chunks, fill=0, order=v2_order, gzip=gzip, skip=skip)
    fill_json = {"b": False, "c": [0, 0]}.get(array.dtype.kind, 0)
    endian = draw(st.sampled_from(["little", "big"]))
    order = draw(st.none() | st.permutations(range(len(shape))))
    sharding: list[Sharding] = []
    grid: Any = RegularGrid(draw(st.tuples(*(st.integers(1, 12) for _ in shape))))
    if layout == "grid":
        grid = draw(grids(shape))
    elif layout in {"sharded", "nested"}:
        chunk = draw(st.tuples(*(st.integers(1, 3) for _ in shape)))
        for _ in range(1 if layout == "sharded" else 2):
            sharding.insert(
                0,
                Sharding(
                    chunk,
                    draw(st.sampled_from(["start", "end"])),
                    draw(st.booleans()),
                    every(draw(st.sampled_from([0, 2, 3]))),
                ),
            )
            chunk = tuple(c * draw(st.integers(1, 3)) for c in chunk)
        grid = RegularGrid(chunk)
    return store_v3(
        array,
        grid,
        fill_json=fill_json,
        endian=endian,
        order=order,
        sharding=sharding,
        gzip=gzip,
        skip=skip,
    )


@given(stored_arrays(), st.data())
def test_basic_and_advanced_indexing_are_numpys(stored: Stored, data: st.DataObject) -> None:
    array = gpuzarr.open_array(stored.values)
    for strategy in (basic_keys, advanced_keys):
        key = data.draw(strategy(stored.expected.shape))
        try:
            expected = index_of(stored.expected, key)
        except IndexError:
            with pytest.raises(gpuzarr.SelectionError):
                array[key]
            continue
        assert_result(array[key], expected)


@given(stored_arrays(), st.data())
def test_orthogonal_and_vectorized_indexing(stored: Stored, data: st.DataObject) -> None:
    array = gpuzarr.open_array(stored.values)
    expected = stored.expected
    key = data.draw(orthogonal_keys(expected.shape))
    product = expected
    for dim, part in reversed(list(enumerate(key))):
        product = product[(slice(None),) * dim + (_as_index(part),)]
    assert_result(
        array.oindex[key],
        index_of(product, tuple(0 if isinstance(part, int) else slice(None) for part in key)),
    )
    if expected.ndim and expected.size:
        places = data.draw(
            st.lists(st.tuples(*(st.integers(-n, n - 1) for n in expected.shape)), min_size=1)
        )
        lists = tuple(np.array(places).T)
        assert_result(array.vindex[lists], expected[lists])
        mask = (expected.view() != 0) & (np.arange(expected.size) % 2 == 0).reshape(expected.shape)
        assert_result(array.vindex[mask], expected[mask])


def _as_index(part: Any) -> Any:
    if isinstance(part, slice):
        return part
    return np.array([part]) if isinstance(part, int) else np.array(part, dtype=_kind(part))


def _kind(part: Any) -> Any:
    return bool if isinstance(part, np.ndarray) and part.dtype == bool else np.int64


@given(stored_arrays())
def test_blocks_put_together_are_the_array(stored: Stored) -> None:
    array = gpuzarr.open_array(stored.values)
    grid = array.metadata.chunk_grid
    for coords, start, size in boxes(array.shape, grid):
        assert_result(array.blocks[coords], index_of(stored.expected, box_of(start, size)))


FIELDS = np.dtype([("id", "<i4"), ("where", ">f8", (2,)), ("name", "<U3"), ("flag", "?")])


def records(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    result = np.zeros(shape, FIELDS)
    result["id"] = numbers(shape, "i4")
    result["where"] = numbers((*shape, 2), "f8") / 4
    result["name"] = numbers(shape, "U3")
    result["flag"] = numbers(shape, "i4") % 2
    return result


OTHERS = {
    "S5": numbers((7, 6), "S5"),
    "U4": numbers((7, 6), "U4"),
    ">U4": numbers((7, 6), ">U4"),
    "M8": numbers((7, 6), "M8[s]"),
    ">m8": numbers((7, 6), ">m8[ms]"),
    "V3": np.frombuffer(bytes(range(126)), "V3").reshape(7, 6),
    "struct": records((7, 6)),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", OTHERS)
def test_types_that_are_no_numbers(name: str, order: str) -> None:
    values = OTHERS[name]
    native = values.dtype.newbyteorder("=")
    empty = np.array("NaT", native) if native.kind in "mM" else np.zeros((), native)
    stored = store_v2(
        values, (3, 4), fill=empty, fill_json=None, garbage=values[1, 1], order=order, skip=every(3)
    )
    array = gpuzarr.open_array(stored.values)
    for key in (..., (slice(None, None, -2), 3), ([6, 0, 6], slice(1, 5)), (2, 2), (None, 6, ...)):
        assert_result(array[key], index_of(stored.expected, key))


def test_a_field_is_read_alone() -> None:
    values = records((7, 6))
    stored = store_v2(values, (3, 4), fill=np.zeros((), FIELDS), fill_json=None, skip=every(3))
    array = gpuzarr.open_array(stored.values)
    for name in ("id", "name", "flag"):
        expected = stored.expected[name]
        assert_result(array[name, 2:5], expected[2:5].astype(expected.dtype.newbyteorder("=")))
        assert_result(array[::-2, name], expected[::-2].astype(expected.dtype.newbyteorder("=")))
    assert_result(array.oindex["id", [1, 5], [0, 0]], stored.expected["id"][[1, 5]][:, [0, 0]])
    out = np.zeros((3, 6), "i8")
    assert array.read(("id", slice(2, 5)), out=out) is out
    assert_same(out, stored.expected["id"][2:5].astype("i8"))
    with pytest.raises(gpuzarr.SelectionError, match="id, where, name, flag"):
        array["nothing"]
    with pytest.raises(gpuzarr.SelectionError, match="one field at a time"):
        array["id", "flag"]
    with pytest.raises(gpuzarr.SelectionError, match="not structured"):
        gpuzarr.open_array(plain_store(numbers((3,), "i4"), (2,)))["id"]


def text_chunk(words: list[str]) -> bytes:
    """What the codec vlen-utf8 makes of strings."""
    parts = [word.encode() for word in words]
    return struct.pack("<I", len(parts)) + b"".join(struct.pack("<I", len(p)) + p for p in parts)


def test_strings() -> None:
    words = ["", "a", "Zürich", "x" * 100, "最後", "\0", "end"]
    codec = {"name": "vlen-utf8"}
    document = v3_metadata((7,), (3,), data_type="string", codecs=(codec,), fill_value="none")
    values = {
        "zarr.json": encoded(document),
        "c/0": text_chunk(words[:3]),
        "c/2": text_chunk([words[6], "padding", "padding"]),
    }
    array = gpuzarr.open_array(values)
    expected = np.array([*words[:3], *["none"] * 3, words[6]], array.dtype)
    for key in (..., slice(None, None, -2), [6, 0, 6], 2, 4, (None, slice(1, 5)), slice(3, 3)):
        assert_result(array[key], index_of(expected, key))


@pytest.mark.parametrize("name", ["bfloat16", "int4", "float8_e5m2"])
def test_types_of_ml_dtypes(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    values = (np.arange(30) % 8).astype(dtype).reshape(5, 6)
    stored = store_v3(values, RegularGrid((2, 4)), data_type=name, skip=every(3))
    array = gpuzarr.open_array(stored.values)
    for key in (..., (slice(None, None, -1), [5, 1]), (4, 5)):
        assert_result(array[key], index_of(stored.expected, key))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0, 2), (1,), (5, 4)])
def test_a_chunk_larger_than_the_array(shape: tuple[int, ...]) -> None:
    stored = store_v3(numbers(shape, "i4"), RegularGrid((7,) * len(shape)))
    array = gpuzarr.open_array(stored.values)
    assert_result(array[...], stored.expected)
    assert_result(array[()], stored.expected)
    assert_result(np.asarray(array), stored.expected)


def test_an_empty_result_asks_the_store_for_nothing() -> None:
    store = CountingStore(plain_store(numbers((6, 6), "i4"), (2, 2)))
    array = gpuzarr.open_array(store)
    store.taken()
    nothing = np.zeros((6, 6), bool)
    keys: list[Any] = [slice(3, 3), (slice(None), []), nothing, (slice(5, 1), [2, 2])]
    for key in keys:
        assert_result(array[key], np.empty((6, 6), "i4")[key])
    assert store.taken() == []


def test_arrays_of_exabytes_are_read_where_they_are_asked() -> None:
    side = 2**40
    document = v3_metadata((side, side), (1000, 1000), data_type="uint8", fill_value=7)
    values = {"zarr.json": encoded(document)}
    values[f"c/{10**9}/{10**9 + 1}"] = bytes(range(250)) * 4000
    array = gpuzarr.open_array(values)
    row, column = 10**12, 10**12 + 1000
    assert_result(array[row, column - 2 : column + 3], np.array([7, 7, 0, 1, 2], "u1"))
    assert_result(array[[0, row, -1], [0, column + 9, -1]], np.array([7, 9, 7], "u1"))
    assert_result(array[:: 2**39, -1], np.array([7, 7], "u1"))
    assert array.nchunks == (-(-side // 1000)) ** 2
    assert f"{side}" in repr(array)
    assert array.explain((row, slice(column, column + 5))).chunks == 1
