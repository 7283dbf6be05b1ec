"""Conversions out of the cache, several arrays, and what a read that fails leaves in it."""

from __future__ import annotations

import threading
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import gpuzarr
from gpuzarr.chunk_cache import NONE
from gpuzarr.many import make_requests, start_batch
from gpuzarr.metadata.model import RegularGrid
from tests.arrays import CountingStore
from tests.batches import device, numpy_device
from tests.stored import Sharding, every, store_v2, store_v3
from tests.test_chunk_cache import (
    ARRAY,
    CROPS,
    MUCH,
    OTHERS,
    SHAPE,
    Caches,
    caches_of,
    check,
    read,
    the_cache,
)

__all__ = ["device", "numpy_device"]  # fixtures

Values = np.ndarray[Any, Any]

GRID = RegularGrid((5, 4))
CHOICES: list[dict[str, Any]] = [
    {"dtype": "f8"},
    {"scale": 0.1, "offset": -3},
    {"dtype": "i2", "scale": 0.5},
    {"dtype": "f2"},
    {"dtype": "u1"},
]


def fail(pairs: list[Any], caches: Caches, **choices: Any) -> gpuzarr.ChunkError:
    with pytest.raises(gpuzarr.ChunkError) as raised:
        read(pairs, caches, **choices)
    return raised.value


@pytest.mark.parametrize("choices", CHOICES, ids=str)
@pytest.mark.parametrize("dtype", ["<i4", ">f4"])
def test_kept_values_are_converted_as_decoded_ones(
    device: str, dtype: str, choices: dict[str, Any]
) -> None:
    if dtype == ">f4" and choices == {"dtype": "u1"}:
        choices = {"dtype": "u2"}
    values = ARRAY.astype(dtype)
    store = store_v2(values, (5, 4), dtype=dtype, fill=9, skip=every(4)).values
    array = gpuzarr.open_array(store, device=device)
    caches = caches_of(MUCH, array)
    requests = [(array, key) for key in CROPS]
    check(requests, caches, stacked=True)
    before = the_cache(caches).misses
    check(requests, caches, stacked=True, **choices)
    check([(array, key) for key in OTHERS if key is not ...], caches, **choices)
    assert the_cache(caches).hits >= before
    fresh = caches_of(MUCH, array)
    check(requests, fresh, stacked=True, **choices)
    check(requests, fresh, stacked=True)
    assert the_cache(fresh).misses == before, "kept as stored, whatever the result was"


def unfit() -> Values:
    values = ARRAY.astype("f4")
    values[7, 6], values[22, 16] = np.nan, 1e30
    return values


@pytest.mark.parametrize("sharded", [False, True])
def test_kept_values_that_do_not_fit_name_chunk_and_key(device: str, *, sharded: bool) -> None:
    levels = [Sharding((5, 4))] if sharded else []
    grid = RegularGrid((10, 8)) if sharded else GRID
    store = store_v3(unfit(), grid, sharding=levels, path="a/b").values
    array = gpuzarr.open_array(store, path="a/b", device=device)
    caches = caches_of(MUCH, array)
    requests = [(array, (slice(i, i + 5), slice(0, 17))) for i in (0, 6, 18)]
    read(requests, caches, stacked=True)
    for kept in (caches, caches_of(MUCH, array)):
        error = fail(requests, kept, stacked=True, dtype="i4")
        keys = ["a/b/c/0/0", "a/b/c/2/2"] if sharded else ["a/b/c/1/1", "a/b/c/4/4"]
        found = sorted((one.key, one.coords, one.step, one.requests) for one in error.failures)
        assert found == [
            (keys[0], (1, 1), "convert", (1,)),
            (keys[1], (4, 4), "convert", (2,)),
        ]
    misses = the_cache(caches).misses
    check(requests, caches, stacked=True)
    assert the_cache(caches).misses == misses, "a conversion does not damage what is kept"


def test_kept_values_of_several_stores_that_do_not_fit(device: str) -> None:
    stores = [CountingStore(store_v3(unfit(), GRID, path=f"a/{i}").values) for i in range(2)]
    for i, store in enumerate(stores):
        store.name = f"store {i}"
    arrays = [
        gpuzarr.open_array(store, path=f"a/{i}", device=device) for i, store in enumerate(stores)
    ]
    caches = caches_of(MUCH, *arrays)
    requests = [(array, i) for i in (7, 0) for array in arrays]
    for _ in range(2):
        check(requests, caches, stacked=True)
        error = fail(requests, caches, stacked=True, dtype="i4")
        assert sorted((one.store, one.key, one.requests) for one in error.failures) == [
            ("store 0", "a/0/c/1/1", (0,)),
            ("store 1", "a/1/c/1/1", (1,)),
        ]


# -------------------------------------------------------------------------------- reads that fail


def gzipped(path: str = "") -> dict[str, bytes]:
    return store_v3(ARRAY, GRID, gzip=True, path=path).values


def test_a_failed_read_leaves_nothing_wrong(device: str) -> None:
    whole = gzipped()
    store = CountingStore(dict(whole))
    array = gpuzarr.open_array(store, device=device)
    caches = caches_of(6 * 80, array)
    check([(array, 0)], caches)
    store.values["c/1/1"] = whole["c/1/1"][:-9]
    for _ in range(3):
        error = fail([(array, 0), (array, slice(4, 7))], caches)
        assert [(one.key, one.requests) for one in error.failures] == [("c/1/1", (1,))]
    store.taken()
    check([(array, 0)], caches)
    assert {key for key, _, _ in store.taken()} == {f"c/0/{i}" for i in range(5)}, (
        "by the single read alone: what was there stays"
    )
    store.values.update(whole)
    check([(array, 0), (array, slice(4, 7))], caches)
    check([(array, slice(4, 7)), (array, (6, 5))], caches)


def test_a_store_that_fails_leaves_nothing_wrong(device: str) -> None:
    class Shaky(CountingStore):
        down = False

        def read(self, key: str, *args: Any, **kwargs: Any) -> Any:
            if self.down:
                raise gpuzarr.StoreError("down", key=key)
            return super().read(key, *args, **kwargs)

    store = Shaky(gzipped())
    array = gpuzarr.open_array(store, device=device)
    caches = caches_of(MUCH, array)
    store.down = True
    with pytest.raises(gpuzarr.StoreError, match="down"):
        read([(array, 0)], caches)
    assert the_cache(caches).hits == 0
    store.down = False
    check([(array, 0), (array, 4)], caches)
    store.down = True
    np.testing.assert_array_equal(read([(array, 4)], caches)[0].tolist(), ARRAY[4])


def test_a_read_that_is_given_up_leaves_nothing_wrong(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = gpuzarr.open_array(gzipped(), device=device)
    caches = caches_of(MUCH, array)
    pending = start_batch(make_requests([(array, 0)]), caches=caches)
    with monkeypatch.context() as patch:
        patch.setattr(pending, "_finish_all", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pending.result()
    assert (the_cache(caches).chunk == NONE).sum() == 25
    check([(array, 0), (array, 4)], caches)


def test_a_read_that_another_thread_stops_keeps_nothing(device: str) -> None:
    """It ends as if it had been done, though not all was read."""
    array = gpuzarr.open_array(gzipped(), device=device)
    caches = caches_of(MUCH, array)
    check([(array, 0)], caches)
    stopped = threading.Event()
    stopped.set()
    requests = make_requests([(array, slice(0, 9))])
    start_batch(requests, caches=caches, stopped=stopped.is_set).result()
    assert (the_cache(caches).chunk == NONE).sum() == 20
    check([(array, slice(0, 9))], caches)


def test_a_replaced_shard_is_read_again_and_kept_as_it_is_now(device: str) -> None:
    def write(values: Values) -> dict[str, bytes]:
        return store_v3(values, RegularGrid((10, 8)), sharding=[Sharding((5, 4))], gzip=True).values

    store = write(ARRAY)
    array = gpuzarr.open_array(store, device=device)
    caches = caches_of(MUCH, array)
    check([(array, (0, 0))], caches)
    noise = np.random.default_rng(0).integers(-(2**31), 2**31, SHAPE).astype("i4")
    store.update(write(noise))
    for _ in range(2):
        found = read([(array, (slice(0, 10), slice(4, 8)))], caches)
        np.testing.assert_array_equal(found[0].tolist(), noise[:10, 4:8])


# --------------------------------------------------------------------------------- several arrays


@pytest.mark.parametrize("together", [False, True])
def test_several_arrays_some_of_them_kept(device: str, *, together: bool) -> None:
    """Of one program and of others, in one store or in several."""
    paths = ["a", "b", "c", "d"]
    stores = [
        store_v3(ARRAY + 1000 * i, GRID, gzip=i == 2, fill=-i, skip=every(3 + i), path=path).values
        for i, path in enumerate(paths)
    ]
    if together:
        stores = [{key: value for store in stores for key, value in store.items()}] * 4
    counting = [CountingStore(store) for store in stores]
    if together:
        counting = counting[:1] * 4
    arrays = [
        gpuzarr.open_array(store, path=path, device=device)
        for store, path in zip(counting, paths, strict=True)
    ]
    caches = caches_of(MUCH, arrays[0]) | caches_of(400, arrays[1], arrays[2])
    requests = [(array, key) for key in CROPS for array in arrays]
    for _ in range(2):
        check(requests, caches, stacked=True)
        check([(array, key) for key in OTHERS for array in arrays], caches)
    for store in counting:
        store.taken()
    read([pair for pair in requests if pair[0] is arrays[0]], caches)
    assert counting[0].taken() == []
    assert all(cache.hits > 0 and cache.nbytes <= MUCH for cache in caches.values())
    read([pair for pair in requests if pair[0] is arrays[3]], caches)
    assert counting[3].taken(), "it has no cache"


# ------------------------------------------------------------------------------------- odd dtypes

STRUCT = np.dtype([("a", "<i4"), ("b", "<f8")])


def test_fields_of_kept_structures(numpy_device: str) -> None:
    """A GPU's arrays cannot hold whole structures, so there they are decoded again."""
    values = np.zeros(SHAPE, STRUCT)
    values["a"], values["b"] = ARRAY, ARRAY / 7
    store = CountingStore(store_v2(values, (5, 4), fill_json=None, skip=every(4)).values)
    array = gpuzarr.open_array(store, device=numpy_device)
    caches = caches_of(MUCH, array)
    assert (the_cache(caches).nbytes > 0) is (numpy_device == "cpu")
    for _ in range(2):
        check([(array, ("ab"[i % 2], *key)) for i, key in enumerate(CROPS)], caches)
        check([(array, ("a", 3)), (array, ("b", [1, 2], slice(4)))], caches, dtype="f4")
    if numpy_device == "cpu":
        store.taken()
        found = read([(array, (3, slice(5)))], caches)
        assert found[0].tolist() == [array[3, i].tolist() for i in range(5)]
        assert the_cache(caches).hits > the_cache(caches).misses


@pytest.mark.parametrize("dtype", ["bfloat16", "datetime"])
def test_types_that_a_gpu_does_not_hold(numpy_device: str, dtype: str) -> None:
    if dtype == "bfloat16":
        values = ARRAY.astype(ml_dtypes.bfloat16)
        store = store_v3(values, GRID, data_type="bfloat16").values
    else:
        store = store_v2(ARRAY.astype("i8").view("M8[s]"), (5, 4), fill=0).values
    array = gpuzarr.open_array(store, device=numpy_device)
    caches = caches_of(MUCH, array)
    for _ in range(2):
        wished = "f4" if dtype == "bfloat16" else "i8"
        check([(array, key) for key in CROPS], caches, stacked=True, dtype=wished)
    assert (the_cache(caches).hits > 0) is (numpy_device == "cpu")
