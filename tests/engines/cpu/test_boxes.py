"""Pieces copied by their addresses: which are, and that they are right."""

from __future__ import annotations

import gc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.engines.cpu.boxes import Boxes, _forms
from tests.arrays import plain_store, sharded_store
from tests.stored import store_v2

SHAPE, CHUNKS = (23, 40, 31), (4, 8, 7)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pieces were copied by address, call by call."""
    found: list[int] = []
    copy = Boxes.copy

    def counted(self: Boxes, rows: slice, chunk: int, values: Any) -> None:
        found.append(rows.stop - rows.start)
        copy(self, rows, chunk, values)

    monkeypatch.setattr(Boxes, "copy", counted)
    return found


def numbers(dtype: Any, shape: tuple[int, ...] = SHAPE) -> np.ndarray[Any, Any]:
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    values = np.random.default_rng(0).integers(0, 2 if dtype == "?" else 100, nbytes, np.uint8)
    found: np.ndarray[Any, Any] = values.view(dtype).reshape(shape)
    return found


@pytest.mark.parametrize("dtype", ["?", "u1", "<i2", "<f4", "<c16", "<M8[s]", "S3", "<U2"])
def test_pieces_of_all_types_are_copied_so(dtype: str, copied: list[int]) -> None:
    values = numbers(dtype) if dtype != "<M8[s]" else numbers("<i8").view(dtype)
    if dtype == "<U2":
        values = np.array(["ab", "c", "de"] * 9520)[: values.size].reshape(SHAPE)
    array = gpuzarr.open_array(store_v2(values, CHUNKS).values)
    key = (slice(1, 21), slice(3, 39), slice(2, 30))
    assert np.array_equal(array[key], values[key])
    assert sum(copied) > 100


def test_types_that_numpy_has_no_name_for_are_copied_so(copied: list[int]) -> None:
    values = numbers("<u2").view(ml_dtypes.bfloat16)
    store = plain_store(values, CHUNKS)
    found = gpuzarr.open_array(store)[1:, 3:, 2:]
    assert found.dtype == ml_dtypes.bfloat16
    assert np.array_equal(found.view("u2"), values[1:, 3:, 2:].view("u2"))
    assert sum(copied) > 100


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...] = SHAPE) -> tuple[slice, ...]:
    """A box of an array."""
    begins = [draw(st.integers(0, length - 1)) for length in shape]
    ends = [draw(st.integers(b + 1, n)) for b, n in zip(begins, shape, strict=True)]
    return tuple(map(slice, begins, ends))


VALUES = numbers("<u2")
STORES = (
    plain_store(VALUES, CHUNKS),
    sharded_store(VALUES, (8, 16, 14), CHUNKS),
    plain_store(VALUES, (23, 40, 1)),
    plain_store(VALUES, (1, 1, 31)),
)


@given(store=st.sampled_from(STORES), keys=st.lists(boxes(), min_size=1, max_size=6))
def test_batches_of_boxes_are_right(store: dict[str, bytes], keys: list[Any]) -> None:
    array = gpuzarr.open_array(store)
    found = gpuzarr.read_batch([(array, key) for key in keys])
    for key, one in zip(keys, found, strict=True):
        assert np.array_equal(one, VALUES[key])


@given(places=st.lists(boxes((17, 9, 11)), min_size=2, max_size=9))
def test_stacked_crops_are_right(places: list[Any]) -> None:
    keys = [tuple(slice(s.start, s.start + 6) for s in place) for place in places]
    array = gpuzarr.open_array(STORES[1])
    found = gpuzarr.read_batch([(array, key) for key in keys])
    assert np.array_equal(found, np.stack([VALUES[key] for key in keys]))


KEY = (slice(1, 21), slice(3, 39), slice(2, 30))
STRIDED = np.zeros((20, 36, 56), np.uint16)[..., ::2]


@pytest.mark.parametrize(
    ("key", "options"),
    [
        pytest.param((slice(1, 21, 2), slice(3, 39), slice(2, 30)), {}, id="steps"),
        pytest.param((slice(1, 21), slice(3, 39), slice(29, 1, -1)), {}, id="backwards"),
        pytest.param(([1, 5, 9, 20], slice(3, 39), slice(2, 30)), {}, id="a list"),
        pytest.param(KEY, {"dtype": "float32"}, id="converted"),
        pytest.param(KEY, {"out": STRIDED}, id="strided"),
        pytest.param((slice(1, 3), slice(3, 5), slice(2, 4)), {}, id="few"),
    ],
)
def test_other_pieces_are_not(key: Any, options: dict[str, Any], copied: list[int]) -> None:
    found = gpuzarr.open_array(STORES[0]).read(key, **options)
    assert np.array_equal(found, VALUES[key])
    assert not copied


def test_long_rows_and_chunks_in_f_order_are_not(copied: list[int]) -> None:
    wide = numbers("<u2", (12, 3000))
    assert np.array_equal(gpuzarr.open_array(plain_store(wide, (2, 2000)))[1:, 1:], wide[1:, 1:])
    array = gpuzarr.open_array(store_v2(VALUES, CHUNKS, order="F").values)
    assert np.array_equal(array[KEY], VALUES[KEY])
    assert not copied


def test_chunks_of_another_shape_than_the_first_are_written_too(copied: list[int]) -> None:
    """Those of a rectilinear grid, each by an index unless it has the first one's shape."""
    sizes = [[3, 5, 3, 12], [8] * 5, [31]]
    store = {}
    edges = [np.cumsum([0, *lengths]) for lengths in sizes]
    for i in range(4):
        for j in range(5):
            part = VALUES[edges[0][i] : edges[0][i + 1], edges[1][j] : edges[1][j + 1]]
            store[f"c/{i}/{j}/0"] = part.tobytes()
    document = plain_store(VALUES, CHUNKS)["zarr.json"].decode()
    grid = (
        f'{{"name": "rectilinear", "configuration": {{"kind": "inline", "chunk_shapes": {sizes}}}}}'
    )
    begin = document.index('{"name": "regular"')
    end = document.index("}}", begin) + 2
    store["zarr.json"] = (document[:begin] + grid + document[end:]).encode()
    assert np.array_equal(gpuzarr.open_array(store)[1:, 3:, 2:], VALUES[1:, 3:, 2:])
    assert 0 < sum(copied) < 20


@pytest.mark.parametrize("sharded", [False, True])
def test_chunks_leave_few_objects_to_the_garbage_collector(*, sharded: bool) -> None:
    """It comes for every 700 more tuples and lists, and looks at all there are now and then."""
    values = np.arange(256 * 256, dtype="u2").reshape(256, 256)
    store = sharded_store(values, (64, 64), (4, 4)) if sharded else plain_store(values, (4, 4))
    array = gpuzarr.open_array(store)
    crops = [np.s_[i : i + 40, j : j + 40] for i in range(0, 200, 13) for j in range(0, 200, 13)]

    def read() -> None:
        assert np.array_equal(array[...], values)
        assert np.array_equal(array[1:250, 3:252], values[1:250, 3:252])
        found = gpuzarr.read_batch([(array, crop) for crop in crops])
        assert np.array_equal(found, [values[crop] for crop in crops])

    read()
    gc.collect()
    before = gc.get_stats()[0]["collections"]
    read()
    # Of 8,192 chunks, and 31,000 pieces of them in 256 crops.
    assert gc.get_stats()[0]["collections"] - before <= 12


def test_pieces_share_a_form_only_if_they_are_alike() -> None:
    """However far apart their extents are, as of chunks that are long along different axes."""
    extents = [(2**40, 1, 3), (1, 2**40, 3), (1, 1, 1), (1, 1, 5), (2**40, 1, 3), (1, 1, 5)]
    forms = _forms(np.array(extents), 2)
    assert [(*rows, row.itemsize // 2) for rows, row in forms] == extents
    assert forms[0] is forms[4]
    assert forms[3] is forms[5]
