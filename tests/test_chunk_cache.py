"""Decoded chunks that are kept: reads are what they were, and ask for nothing twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.chunk_cache import NONE, ChunkCache
from gpuzarr.engines.cpu import session
from gpuzarr.many import make_requests, start_batch
from gpuzarr.metadata.model import RectilinearGrid, RegularGrid
from gpuzarr.plan import joint
from tests.arrays import CountingStore
from tests.batches import assert_alike, device, one_by_one
from tests.cuda_devices import fake
from tests.stored import Sharding, every, store_v2, store_v3
from tests.strategies import basic_keys, grids, orthogonal_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.batches import Pair
    from tests.engines.cuda.fake_device import FakeDevice

__all__ = ["device", "fake"]  # fixtures

SHAPE = (23, 17)
ARRAY = np.arange(1, 23 * 17 + 1, dtype=np.int32).reshape(SHAPE)
MUCH = 1 << 30

Caches = dict[int, ChunkCache]


def source_of(array: gpuzarr.Array) -> Any:
    return array._prepare(array._snapshot)  # noqa: SLF001  what caches are named by


def caches_of(limit: int, *arrays: gpuzarr.Array) -> Caches:
    return {id(source_of(array)): ChunkCache(source_of(array), limit) for array in arrays}


def the_cache(caches: Caches) -> ChunkCache:
    (cache,) = caches.values()
    return cache


def read(pairs: Sequence[Pair], caches: Caches, *, stacked: bool = False, **choices: Any) -> Any:
    stacks = [len(pairs)] if stacked else None
    try:
        return start_batch(make_requests(pairs, **choices), stacks, caches=caches).result()
    finally:
        for cache in caches.values():
            check_slots(cache)


def check_slots(cache: ChunkCache) -> None:
    """Each slot is empty or holds one chunk, and no two the same."""
    held = cache.chunk[cache.chunk != NONE]
    assert len(held) == len(set(held.tolist()))
    assert (held >= 0).all()


def check(pairs: Sequence[Pair], caches: Caches, *, stacked: bool = False, **choices: Any) -> None:
    """The same as single reads, which know of no cache."""
    found = read(pairs, caches, stacked=stacked, **choices)
    expected = one_by_one(pairs, **choices)
    for due, values in zip([np.stack(expected)] if stacked else expected, found, strict=True):
        assert_alike(due, values)


STORES: dict[str, dict[str, bytes]] = {
    "v3": store_v3(ARRAY, RegularGrid((5, 4)), gzip=True).values,
    "gaps": store_v3(ARRAY, RegularGrid((5, 4)), fill=-7, skip=every(3)).values,
    "rectilinear": store_v3(ARRAY, RectilinearGrid(((3, 9, 4, 12), 5)), skip=every(4)).values,
    "sharded": store_v3(
        ARRAY, RegularGrid((12, 8)), sharding=[Sharding((4, 4), skip=every(3))], gzip=True
    ).values,
    "big-endian": store_v3(ARRAY.astype("f8"), RegularGrid((5, 9)), endian="big").values,
    "transposed": store_v3(ARRAY, RegularGrid((5, 4)), order=(1, 0)).values,
    "v2 in F order": store_v2(ARRAY.astype(">i2"), (6, 7), order="F", skip=every(5)).values,
    "one chunk": store_v3(ARRAY, RegularGrid((40, 40))).values,
    "nothing stored": store_v3(ARRAY, RegularGrid((5, 4)), fill=6, skip=every(1)).values,
}
CROPS: list[Any] = [(slice(i, i + 7), slice(j, j + 6)) for i in (0, 5, 16) for j in (0, 3, 11)]
OTHERS: list[Any] = [
    *[(3, 5), (slice(None, None, -2), 4), ([1, 22, 1], [3, 0, 16]), ..., (slice(4, 4), 0)],
    *[([20, 3], slice(9)), (slice(1, None, 11), slice(None, None, 16)), (None, 8, slice(3, 9))],
]


@pytest.mark.parametrize("store", STORES)
def test_what_is_there_is_neither_fetched_nor_decoded_again(device: str, store: str) -> None:
    counting = CountingStore(dict(STORES[store]))
    array = gpuzarr.open_array(counting, device=device)
    caches = caches_of(MUCH, array)
    cache = the_cache(caches)
    requests = [(array, key) for key in CROPS]
    check(requests, caches, stacked=True)
    brought = cache.misses
    assert (cache.hits, brought > 0) == (0, True)
    counting.taken()
    for key in list(counting.values):
        if not key.endswith(("zarr.json", ".zarray")):
            counting.values[key] = b"not data any more"
    again = read(requests, caches, stacked=True)
    assert counting.taken() == []
    assert (cache.hits, cache.misses) == (brought, brought)
    counting.values.update(STORES[store])
    assert_alike(np.stack(one_by_one(requests)), again[0])


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("chunks", [0.9, 3, 7, MUCH])
def test_any_limit_gives_the_same(device: str, store: str, chunks: float) -> None:
    array = gpuzarr.open_array(STORES[store], device=device)
    slot = ChunkCache(source_of(array), MUCH).slot_nbytes
    limit = int(chunks * slot)
    caches = caches_of(limit, array)
    cache = the_cache(caches)
    assert cache.nbytes <= limit
    assert cache.nslots == min(int(chunks), np.prod([a.nchunks for a in source_of(array).chunks]))
    for some in (CROPS, OTHERS, CROPS[::-1], OTHERS[2:4]):
        check([(array, key) for key in some], caches)
    for key in CROPS:
        check([(array, key)], caches, stacked=True)
    if chunks > 1:
        assert cache.hits > 0
        assert cache.output is not None
        assert cache.output.array.nbytes == cache.nbytes


def keys_read(store: CountingStore) -> set[str]:
    return {key for key, _, _ in store.taken()}


def test_what_was_used_longest_ago_goes_first(device: str) -> None:
    store = CountingStore(dict(STORES["v3"]))
    array = gpuzarr.open_array(store, device=device)
    caches = caches_of(3 * 5 * 4 * 4 + 1, array)
    assert the_cache(caches).nslots == 3

    def touch(*columns: int) -> set[str]:
        store.taken()
        found = read([(array, (0, 4 * column)) for column in columns], caches, stacked=True)
        np.testing.assert_array_equal(
            np.asarray(found[0].tolist()), ARRAY[0, 0:17:4][list(columns)]
        )
        return {key.rpartition("/")[2] for key in keys_read(store)}

    assert touch(0, 1, 2) == {"0", "1", "2"}
    assert touch(0) == set()
    assert touch(3) == {"3"}, "in the place of 1"
    assert touch(0, 2) == set()
    assert touch(1) == {"1"}, "in the place of 3"
    assert touch(0, 2, 1) == set()
    assert touch(3, 4, 0) == {"3", "4"}, "0 stays, being used by this read"
    assert touch(0) == set()
    assert touch(0, 1, 2, 3, 4) >= {"1", "2"}, "more than fit"
    assert touch(0) == set(), "chunks of one read do not push out each other"


def test_a_read_in_many_blocks_keeps_what_it_uses(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one block a chunk is found, whose place the chunks of the next ones must not get."""
    store = CountingStore(dict(STORES["v3"]))
    array = gpuzarr.open_array(store, device=device)
    caches = caches_of(2 * 5 * 4 * 4, array)
    monkeypatch.setattr(joint, "BLOCK_NBYTES", 1)
    check([(array, (0, 0))], caches, stacked=True)
    check([(array, (0, column)) for column in (0, 4, 8, 5, 1)], caches, stacked=True)
    store.taken()
    found = read([(array, (0, column)) for column in (0, 4)], caches, stacked=True)
    assert store.taken() == []
    assert found[0].tolist() == [ARRAY[0, 0], ARRAY[0, 4]]


def test_a_chunk_of_many_blocks_takes_one_place(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = gpuzarr.open_array(STORES["v3"], device=device)
    caches = caches_of(MUCH, array)
    monkeypatch.setattr(joint, "BLOCK_NBYTES", 1)
    check([(array, (0, column)) for column in (0, 1, 2, 3)], caches, stacked=True)
    assert (the_cache(caches).chunk != NONE).sum() == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_reads_one_after_another(device: str, data: st.DataObject) -> None:
    arrays = []
    for i in range(data.draw(st.integers(1, 3))):
        shape = tuple(data.draw(st.lists(st.integers(0, 9), max_size=3)))
        count = int(np.prod(shape, dtype=int))
        stored = store_v3(
            np.arange(1000 * i, 1000 * i + count, dtype="i2").reshape(shape),
            data.draw(grids(shape)),
            fill=-1 - i,
            endian=data.draw(st.sampled_from(["little", "big"])),
            skip=every(data.draw(st.integers(0, 4))),
        )
        arrays.append(gpuzarr.open_array(stored.values, device=device))
    caches: Caches = {}
    for array in arrays:
        limit = data.draw(st.sampled_from([0, 50, 200, 1000, MUCH]))
        caches |= caches_of(limit, array)
        assert caches[id(source_of(array))].nbytes <= limit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint, "BLOCK_NBYTES", data.draw(st.sampled_from([1, 500, 1 << 20])))
        patch.setattr(session, "SCATTER_NBYTES", data.draw(st.sampled_from([1, 1 << 20])))
        for _ in range(data.draw(st.integers(1, 4))):
            pairs: list[Any] = []
            for _ in range(data.draw(st.integers(0, 5))):
                array = data.draw(st.sampled_from(arrays))
                if data.draw(st.booleans()):
                    pairs.append((array, data.draw(basic_keys(array.shape))))
                else:
                    pairs.append((array.oindex, data.draw(orthogonal_keys(array.shape))))
            check(pairs * data.draw(st.integers(1, 2)), caches)


# --------------------------------------------------------------------------------- what is kept


def test_no_memory_for_a_chunk_is_no_cache(device: str) -> None:
    store = CountingStore(dict(STORES["v3"]))
    array = gpuzarr.open_array(store, device=device)
    for limit in (0, 79):
        caches = caches_of(limit, array)
        assert (the_cache(caches).nslots, the_cache(caches).nbytes) == (0, 0)
        store.taken()
        for _ in range(2):
            read([(array, 0)], caches)
            assert len(store.taken()) == 5
        assert the_cache(caches).hits == 0


def test_no_more_memory_is_taken_than_the_array_has_chunks(device: str) -> None:
    array = gpuzarr.open_array(STORES["v3"], device=device)
    cache = the_cache(caches_of(MUCH, array))
    assert (cache.nslots, cache.nbytes) == (25, 25 * 80)
    empty = gpuzarr.open_array(store_v3(ARRAY[:0], RegularGrid((5, 4))).values, device=device)
    caches = caches_of(MUCH, empty)
    assert the_cache(caches).nbytes == 0
    check([(empty, ...), (empty, slice(2))], caches)


def test_a_result_without_dimensions(device: str) -> None:
    store = CountingStore(store_v3(np.array(7, "i4"), RegularGrid(())).values)
    array = gpuzarr.open_array(store, device=device)
    caches = caches_of(4, array)
    check([(array, ()), (array, ...)], caches)
    store.taken()
    assert [int(value) for value in read([(array, ())], caches)] == [7]
    assert store.taken() == []
    assert the_cache(caches).nbytes == 4


def test_slots_are_as_large_as_the_largest_chunk() -> None:
    grid = RectilinearGrid(((2,) * 20 + (9,), (1, 16)))
    values = np.arange(49 * 17, dtype="i4").reshape(49, 17)
    array = gpuzarr.open_array(store_v3(values, grid).values, device="cpu")
    caches = caches_of(MUCH, array)
    assert the_cache(caches).slot_nbytes == 9 * 16 * 4
    for _ in range(2):
        check([(array, ...), (array, (slice(30, None, 3), slice(None, None, -1)))], caches)


def test_text_and_objects_are_not_kept() -> None:
    document = {
        "zarr_format": 2,
        "shape": [4],
        "chunks": [2],
        "dtype": "|O",
        "compressor": None,
        "fill_value": "none",
        "order": "C",
        "filters": [{"id": "json2"}],
    }
    store = CountingStore(
        {
            ".zarray": json.dumps(document).encode(),
            "0": json.dumps(["ab", {"c": [1]}, "|O", [2]]).encode(),
        }
    )
    array = gpuzarr.open_array(store, device="cpu")
    caches = caches_of(MUCH, array)
    assert the_cache(caches).nbytes == 0
    for _ in range(2):
        check([(array, slice(0, 3)), (array, slice(1, 4))], caches)
    assert the_cache(caches).hits == 0


def test_on_the_device_a_cached_read_only_scatters(fake: FakeDevice) -> None:
    array = gpuzarr.open_array(STORES["v3"], device="cuda")
    caches = caches_of(MUCH, array)
    found = []
    for count in (3, 9):
        requests = [(array, key) for key in CROPS[:count]]
        read(requests, caches, stacked=True)
        fake.counts.clear()
        read(requests, caches, stacked=True)
        del fake.counts["pin"]  # that is pooled
        found.append(dict(fake.counts))
    assert found[0] == found[1]
    assert "decompress" not in found[0]
    assert (found[0]["launch"], found[0]["upload"], found[0]["download"]) == (1, 1, 1)


@pytest.mark.parametrize("limit", [10_000, 40_000])
def test_memory_of_a_cached_read_stays_in_the_limit(fake: FakeDevice, limit: int) -> None:
    values = np.arange(64 * 64, dtype="i4").reshape(64, 64)
    store = store_v3(values, RegularGrid((4, 4))).values
    array = gpuzarr.open_array(store, device="cuda", memory_limit=limit)
    caches = caches_of(MUCH, array)
    requests = [(array, (slice(i, i + 9), slice(7, 60))) for i in range(50)]
    for _ in range(2):
        check(requests, caches, stacked=True)
    assert the_cache(caches).hits > 0
    assert 0 < fake.peak <= limit
