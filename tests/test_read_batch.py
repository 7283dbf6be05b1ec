"""`read_batch`: what many selections give together is what each of them gives alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.metadata.model import RectilinearGrid, RegularGrid
from tests.arrays import plain_store
from tests.batches import check_batch, device
from tests.cuda_devices import to_numpy
from tests.stored import Sharding, every, store_v2, store_v3
from tests.strategies import basic_keys, grids, orthogonal_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["device"]  # a fixture

Values = np.ndarray[Any, Any]

SHAPE = (23, 17)


def numbers(shape: tuple[int, ...] = SHAPE, dtype: Any = "i4", first: int = 1) -> Values:
    count = int(np.prod(shape, dtype=int))
    return np.arange(first, first + count).astype(dtype).reshape(shape)


def crops(side: int = 6, count: int = 9, shape: tuple[int, ...] = SHAPE) -> list[Any]:
    """Boxes of one shape anywhere in an array."""
    rng = np.random.default_rng(5)
    corners = [[int(rng.integers(0, n - side + 1)) for n in shape] for _ in range(count)]
    return [tuple(slice(low, low + side) for low in corner) for corner in corners]


STORES: dict[str, dict[str, bytes]] = {
    "v3": store_v3(numbers(), RegularGrid((5, 4)), fill=-7, skip=every(3), gzip=True).values,
    "rectilinear": store_v3(
        numbers(), RectilinearGrid(((3, 9, 4, 12), 5)), fill=3, skip=every(4)
    ).values,
    "sharded": store_v3(
        numbers(), RegularGrid((12, 8)), sharding=[Sharding((4, 4), skip=every(3))], gzip=True
    ).values,
    "nested shards": store_v3(
        numbers(),
        RegularGrid((12, 16)),
        sharding=[Sharding((6, 8), "start", checksum=True), Sharding((3, 4), skip=every(2))],
        skip=lambda coords: coords == (1, 1),
    ).values,
    "big-endian": store_v3(numbers(dtype="f8"), RegularGrid((5, 9)), endian="big").values,
    "transposed": store_v3(
        numbers(), RegularGrid((5, 4)), order=(1, 0), fill=2, skip=every(5)
    ).values,
    "v2": store_v2(numbers(), (6, 7), fill=9, skip=every(2), gzip=True).values,
    "v2 in F order": store_v2(numbers(dtype=">i2"), (6, 7), fill=-1, order="F").values,
    "one chunk": store_v3(numbers(), RegularGrid((40, 40))).values,
    "nothing stored": store_v3(numbers(), RegularGrid((5, 4)), fill=6, skip=every(1)).values,
}

KEYS: dict[str, list[Any]] = {
    "crops": crops(),
    "rows": [3, 22, 3, 0, -1],
    "single places": [(3, 5), (22, 16), (0, 0), (3, 5)],
    "steps": [(slice(i, i + 12, 3), slice(10 - i, None, -2)) for i in range(3)],
    "steps of both signs": [(slice(8, None, -3), 4), (slice(0, 7, 3), 16), (slice(4, 13, 4), 3)],
    "steps over chunks": [(slice(i, None, 11), slice(None, None, 16)) for i in range(2)],
    "everything": [..., slice(None), (slice(None), slice(None, None, 1))],
    "new axes": [(None, i, slice(2, 9), None) for i in range(4)],
    "empty": [(slice(4, 4), slice(None)), (slice(9, 2), slice(None))],
    "lists": [([1, 22, 1], slice(3, 8)), ([0, 0, 9], slice(0, 5)), ([4, 3, 2], [1, 1, 1])],
    "places": [([1, 22, 1, 5], [3, 8, 0, 16]), ([0, 9, 9, 2], [1, 0, 0, 1])],
    "masks": [numbers() % 7 == i for i in (1, 2)],
    "lists of one place": [(np.array(4), np.array(i)) for i in (0, 9)],
    "of different shapes": [0, (slice(3), slice(4)), ..., (5, 5), ([3, 1],), (slice(0, 0),)],
    "lists and spans of one shape": [([1, 5, 22], 3), (slice(4, 7), 5), (7, [3, 2, 1])],
    "one": [(slice(3, 9), slice(2, 12))],
}


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("store", STORES)
def test_one_array(device: str, store: str, keys: str) -> None:
    array = gpuzarr.open_array(STORES[store], device=device)
    check_batch([(array, key) for key in KEYS[keys]])


@pytest.mark.parametrize("store", STORES)
def test_every_way_of_indexing(device: str, store: str) -> None:
    array = gpuzarr.open_array(STORES[store], device=device)
    rows = np.array([3, 22, 3])
    check_batch(
        [
            (array, (slice(1, 4), slice(0, 2))),
            (array.oindex, (rows, [16, 0])),
            (array.oindex, (slice(0, 6, 2), [4, 4])),
            (array.vindex, ([[3, 1]] * 3, [[0, 9], [1, 1], [2, 2]])),
        ]
    )
    check_batch([(array.vindex, (rows, rows % 5)), (array.vindex, (4, 3)), (array.oindex, (4, 3))])
    check_batch([(array.blocks, (0, 0)), (array.blocks, (-1, slice(None))), (array, 3)])
    check_batch([(array.blocks, (0, 0)), (array.blocks, (0, 0))])
    check_batch([(array.vindex, (i, i)) for i in range(3)])


# ------------------------------------------------------------------------------- several arrays


def several(root: dict[str, bytes]) -> dict[str, bytes]:
    """A group of arrays that one program decodes, with fill values of their own; and others."""
    root["zarr.json"] = json.dumps({"zarr_format": 3, "node_type": "group"}).encode()
    for i, (chunks, fill) in enumerate([((5, 4), 11), ((7, 17), -22), ((23, 3), 11)]):
        root |= store_v3(
            numbers(first=1000 * i), RegularGrid(chunks), fill=fill, skip=every(2), path=f"like/{i}"
        ).values
    root |= store_v3(
        numbers(first=7000), RegularGrid((5, 4)), gzip=True, skip=every(3), fill=5, path="gzip"
    ).values
    root |= store_v3(
        numbers(first=8000), RegularGrid((8, 8)), sharding=[Sharding((4, 2))], path="shards"
    ).values
    root |= store_v3(numbers((6,), "f8"), RegularGrid((4,)), path="floats").values
    root |= store_v3(numbers((), "i4"), RegularGrid(()), path="scalar").values
    return root


GROUP = several({})
PATHS = ["like/0", "like/1", "gzip", "like/2", "shards", "like/0"]


def test_several_arrays_of_one_store(device: str) -> None:
    group = gpuzarr.open_group(GROUP, device=device)
    arrays = [group[path] for path in PATHS]
    check_batch([(arrays[i % 6], key) for i, key in enumerate(crops(count=24))])
    check_batch([(array, key) for key in KEYS["lists and spans of one shape"] for array in arrays])
    check_batch([(array, key) for key in KEYS["of different shapes"] for array in arrays])


def test_several_dtypes_and_dimensions(device: str) -> None:
    group = gpuzarr.open_group(GROUP, device=device)
    found = check_batch(
        [
            (group["floats"], slice(1, 5)),
            (group["like/0"], (3, slice(1, 5))),
            (group["scalar"], ()),
            (group["floats"], 3),
        ]
    )
    assert [values.dtype for values in found] == ["f8", "i4", "i4", "f8"]
    alike = check_batch(
        [(group["floats"], slice(1, 5)), (group["like/0"], (3, slice(1, 5)))], dtype="f4"
    )
    assert alike.shape == (2, 4)


def open_mapping(store: dict[str, bytes], tmp_path: Path) -> Any:
    del tmp_path
    return store


def open_folder(store: dict[str, bytes], tmp_path: Path) -> Any:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    for key, value in store.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(value)
    return folder


@pytest.mark.parametrize("places", ["mappings", "folders", "both"])
def test_several_stores(device: str, places: str, tmp_path: Path) -> None:
    kept = {"mappings": [open_mapping], "folders": [open_folder]}
    ways = kept.get(places, [open_mapping, open_folder])
    arrays = [
        gpuzarr.open_array(ways[i % len(ways)](STORES[name], tmp_path), device=device)
        for i, name in enumerate(["v3", "sharded", "rectilinear", "nested shards", "v3", "v2"])
    ]
    check_batch([(arrays[i % 6], key) for i, key in enumerate(crops(count=25))])
    check_batch([(array, key) for key in KEYS["of different shapes"] for array in arrays])


def test_one_array_opened_twice(device: str) -> None:
    arrays = [gpuzarr.open_array(STORES["sharded"], device=device) for _ in range(2)]
    check_batch([(arrays[i % 2], key) for i, key in enumerate(crops())])


def test_arrays_opened_with_other_options_have_other_engines(device: str) -> None:
    store = STORES["v3"]
    arrays = [
        gpuzarr.open_array(store, device=device),
        gpuzarr.open_array(store, device=device, threads=1, memory_limit=100_000),
    ]
    check_batch([(arrays[i % 2], key) for i, key in enumerate(crops())])
    check_batch([(arrays[i % 2], key) for i, key in enumerate(KEYS["of different shapes"])])


def test_arrays_on_different_devices(device: str) -> None:
    arrays = [gpuzarr.open_array(STORES["v3"], device=kind) for kind in (device, "cpu")]
    found = gpuzarr.read_batch([(arrays[i % 2], key) for i, key in enumerate(crops())])
    for key, values in zip(crops(), found, strict=True):
        np.testing.assert_array_equal(to_numpy(values), arrays[1][key])
    assert (type(found) is list) is (device == "cuda")


# ------------------------------------------------------------------------------ any of all that


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_selections_of_any_arrays(device: str, data: st.DataObject) -> None:
    arrays = []
    for i in range(data.draw(st.integers(1, 3))):
        shape = tuple(data.draw(st.lists(st.integers(0, 9), max_size=3)))
        sharding: list[Sharding] = []
        grid = data.draw(grids(shape))
        if data.draw(st.booleans()):
            inner = tuple(data.draw(st.integers(1, 4)) for _ in shape)
            grid = RegularGrid(tuple(side * data.draw(st.integers(1, 3)) for side in inner))
            sharding = [Sharding(inner, skip=every(data.draw(st.integers(0, 3))))]
        stored = store_v3(
            numbers(shape, first=1000 * i),
            grid,
            fill=data.draw(st.sampled_from([0, -5])),
            endian=data.draw(st.sampled_from(["little", "big"])),
            sharding=sharding,
            skip=every(data.draw(st.integers(0, 4))),
        )
        arrays.append(gpuzarr.open_array(stored.values, device=device))
    pairs: list[tuple[Any, Any]] = []
    for _ in range(data.draw(st.integers(0, 6))):
        array = data.draw(st.sampled_from(arrays))
        if data.draw(st.booleans()):
            pairs.append((array, data.draw(basic_keys(array.shape))))
        else:
            pairs.append((array.oindex, data.draw(orthogonal_keys(array.shape))))
    pairs = data.draw(st.permutations(pairs * data.draw(st.integers(1, 2))))
    check_batch(pairs)


# ----------------------------------------------------------------------------------- odds and ends


def test_requests_may_come_from_a_generator(device: str) -> None:
    array = gpuzarr.open_array(STORES["v3"], device=device)

    def requests() -> Iterator[Any]:
        for key in crops():
            yield [array, key]

    found = to_numpy(gpuzarr.read_batch(requests()))
    np.testing.assert_array_equal(found, np.stack([to_numpy(array[key]) for key in crops()]))


def test_nothing_asked_is_an_empty_list() -> None:
    assert gpuzarr.read_batch([]) == []
    assert gpuzarr.read_batch(iter(()), dtype="f4") == []
    assert gpuzarr.read_batch([], out=[]) == []


def test_no_dimensions(device: str) -> None:
    scalar = gpuzarr.open_group(GROUP, device=device)["scalar"]
    assert to_numpy(check_batch([(scalar, ()), (scalar, ...), (scalar, ())])).tolist() == [1, 1, 1]
    check_batch([(scalar, None), (scalar, ...)])


# --------------------------------------------------------------------------- dtypes, conversions


CHOICES: list[dict[str, Any]] = [
    {"dtype": "f8"},
    {"dtype": "f2"},
    {"scale": 0.1},
    {"scale": 0.25, "offset": -3, "dtype": "i8"},
    {"scale": 1e-3, "dtype": "f2"},
    {"dtype": "c16"},
]


@pytest.mark.parametrize("choices", CHOICES, ids=str)
@pytest.mark.parametrize("keys", ["crops", "lists", "of different shapes"])
def test_conversions(device: str, keys: str, choices: dict[str, Any]) -> None:
    arrays = [
        gpuzarr.open_array(STORES[name], device=device) for name in ("v3", "big-endian", "sharded")
    ]
    check_batch([(array, key) for key in KEYS[keys] for array in arrays], **choices)


@pytest.mark.parametrize("choices", [{}, {"offset": 0.5}, {"scale": 1e-3, "offset": 2}], ids=str)
def test_conversions_to_bfloat16(choices: dict[str, Any]) -> None:
    """On the CPU: arrays in GPU memory cannot have it everywhere."""
    arrays = [
        gpuzarr.open_array(STORES[name], device="cpu") for name in ("v3", "big-endian", "sharded")
    ]
    for keys in ("crops", "lists", "of different shapes"):
        pairs = [(array, key) for key in KEYS[keys] for array in arrays]
        check_batch(pairs, dtype=ml_dtypes.bfloat16, **choices)


def test_bfloat16_as_stored(device: str) -> None:
    values = numbers(dtype=ml_dtypes.bfloat16)
    store = store_v3(values, RegularGrid((5, 4)), data_type="bfloat16").values
    array = gpuzarr.open_array(store, device=device)
    check_batch([(array, key) for key in crops()], dtype="f4")
    if device == "cpu":
        check_batch([(array, key) for key in crops()])


DTYPE = np.dtype([("a", "<i4"), ("b", "<f8"), ("c", "<u2")])


def structured() -> dict[str, bytes]:
    values = np.zeros(SHAPE, DTYPE)
    for i, name in enumerate("abc"):
        values[name] = numbers(first=100 * i)
    return store_v2(values, (5, 4), fill_json=None, skip=every(4)).values


def test_fields_of_structures(device: str) -> None:
    array = gpuzarr.open_array(structured(), device=device)
    check_batch([(array, ("abc"[i % 3], *key)) for i, key in enumerate(crops())])
    check_batch([(array, ("abc"[i % 3], *key)) for i, key in enumerate(crops())], dtype="f4")
    check_batch([(array, ("a", 3)), (array, ("a", [1, 2], slice(4)))])
    if device == "cpu":
        check_batch([(array, key) for key in crops()])
        check_batch([(array, 3), (array, ("b", 3)), (array, ("c", 4, [3, 3]))])


def test_dates_as_numbers_and_as_dates(device: str) -> None:
    values = numbers(dtype="i8").view("M8[s]")
    array = gpuzarr.open_array(store_v2(values, (5, 4), fill=0).values, device=device)
    check_batch([(array, key) for key in crops()], dtype="i8")
    if device == "cpu":
        check_batch([(array, key) for key in crops()])


def test_text() -> None:
    words = [f"w{i}" * (i % 4) for i in range(12)]
    chunks = [words[:5], words[5:10], [*words[10:], "", "", ""]]
    document = {
        "zarr_format": 2,
        "shape": [12],
        "chunks": [5],
        "dtype": "|O",
        "compressor": None,
        "fill_value": "none",
        "order": "C",
        "filters": [{"id": "vlen-utf8"}],
    }
    store = {".zarray": json.dumps(document).encode()}
    for i, chunk in enumerate(chunks):
        if i != 1:
            items = [word.encode() for word in chunk]
            store[str(i)] = len(items).to_bytes(4, "little") + b"".join(
                len(item).to_bytes(4, "little") + item for item in items
            )
    array = gpuzarr.open_array(store, device="cpu")
    other = gpuzarr.open_array(dict(store), device="cpu")
    assert array[4:7].tolist() == [words[4], "none", "none"]
    check_batch([(array, slice(i, i + 4)) for i in range(8)])
    check_batch([(array, slice(2, 6)), (other, slice(8, 12)), (other, [0, 11, 5, 0]), (array, 3)])


def test_a_batch_reads_what_is_there_when_it_is_asked(device: str) -> None:
    store = dict(plain_store(numbers(), (5, 4)))
    array = gpuzarr.open_array(store, device=device)
    before = to_numpy(gpuzarr.read_batch([(array, 0), (array, 1)])).copy()
    store |= plain_store(numbers(first=5000), (5, 4))
    after = to_numpy(gpuzarr.read_batch([(array, 0), (array, 1)]))
    np.testing.assert_array_equal(after - before, np.full((2, 17), 4999))
