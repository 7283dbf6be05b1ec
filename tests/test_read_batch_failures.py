"""`read_batch` of damaged data: every failed chunk is named once, with those who need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cpu import task
from gpuzarr.plan import joint
from tests.arrays import CountingStore
from tests.batches import check_batch, device
from tests.cuda_devices import to_numpy
from tests.stored import RegularGrid, Sharding, compress, every, store_v3

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["device"]  # a fixture

Values = np.ndarray[Any, Any]

ARRAY = np.arange(1, 24 * 20 + 1, dtype=np.int32).reshape(24, 20)
GRID = RegularGrid((6, 5))


def stored(path: str = "", **members: Any) -> dict[str, bytes]:
    return store_v3(ARRAY, GRID, gzip=True, path=path, **members).values


def damage(store: dict[str, bytes], *keys: str) -> dict[str, bytes]:
    for key in keys:
        store[key] = store[key][:-9]
    return store


def failed(error: gpuzarr.ChunkError) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Store, key and coordinates of each failure, with the selections; each is there once."""
    found = {(one.store, one.key, one.coords): one.requests for one in error.failures}
    assert len(found) == len(error.failures)
    return found


def fail(pairs: list[Any], **choices: Any) -> gpuzarr.ChunkError:
    with pytest.raises(gpuzarr.ChunkError) as raised:
        gpuzarr.read_batch(pairs, **choices)
    return raised.value


def test_each_failed_chunk_is_named_with_the_selections_that_need_it(device: str) -> None:
    store = CountingStore(damage(stored(), "c/1/1", "c/3/0", "c/0/3"))
    array = gpuzarr.open_array(store, device=device)
    keys: list[Any] = [
        (slice(0, 7), slice(4, 11)),
        (slice(6, 12), slice(5, 10)),
        (slice(0, 6), slice(0, 15)),
        (slice(None, None, -23), 0),
        ([11, 0], [9, 19]),
        (slice(6, 6), 5),
        8,
    ]
    error = fail([(array, key) for key in keys])
    assert type(error) is gpuzarr.DecodeError
    assert failed(error) == {
        (None, "c/1/1", (1, 1)): (0, 1, 4, 6),
        (None, "c/3/0", (3, 0)): (3,),
        (None, "c/0/3", (0, 3)): (4,),
    }
    assert (error.store, error.path) == ("counting", "")
    assert "c/1/1' (selection 0, 1, 4, 6), decompress gzip" in str(error)
    assert "3 chunks could not be decoded" in str(error)


def test_many_selections_are_counted_and_some_shown(device: str) -> None:
    array = gpuzarr.open_array(damage(stored(), "c/1/1"), device=device)
    error = fail([(array, (7, 6))] * 30)
    assert failed(error) == {(None, "c/1/1", (1, 1)): tuple(range(30))}
    assert "(selection 0, 1, 2, 3, 4, 5, 6, 7, ...)" in str(error)


def test_the_same_error_again(device: str) -> None:
    """And the undamaged rest is read as ever."""
    array = gpuzarr.open_array(damage(stored(), "c/1/1"), device=device)
    pairs = [(array, slice(i, i + 2)) for i in (0, 8)]
    assert failed(fail(pairs)) == failed(fail(pairs)) == {(None, "c/1/1", (1, 1)): (1,)}
    check_batch([(array, slice(i, i + 2)) for i in (0, 16)])


def test_a_chunk_of_several_blocks_is_named_once(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint, "BLOCK_NBYTES", 200)
    array = gpuzarr.open_array(damage(stored(), "c/1/1"), device=device)
    pairs = [(array, (slice(i, i + 6), slice(5, 9))) for i in range(12)]
    assert failed(fail(pairs)) == {(None, "c/1/1", (1, 1)): tuple(range(1, 12))}


def test_arrays_of_one_store(device: str) -> None:
    store = stored("a") | stored("b/c") | store_v3(ARRAY, GRID, endian="big", path="d").values
    damage(store, "a/c/1/1", "b/c/c/1/1", "d/c/1/1")
    arrays = [gpuzarr.open_array(store, path=path, device=device) for path in ("a", "b/c", "d")]
    pairs = [(array, i) for i in (7, 0, 8) for array in arrays]
    error = fail(pairs)
    assert {key[1:]: numbers for key, numbers in failed(error).items()} == {
        ("a/c/1/1", (1, 1)): (0, 6),
        ("b/c/c/1/1", (1, 1)): (1, 7),
        ("d/c/1/1", (1, 1)): (2, 8),
    }


def test_arrays_of_different_stores(device: str, tmp_path: Path) -> None:
    damaged = damage(stored("a"), "a/c/1/1")
    folders = []
    for name, store in (("one", damaged), ("two", stored("a")), ("three", damaged)):
        folders.append(tmp_path / name)
        for key, value in store.items():
            (folders[-1] / key).parent.mkdir(parents=True, exist_ok=True)
            (folders[-1] / key).write_bytes(value)
    arrays = [gpuzarr.open_array(folder, path="a", device=device) for folder in folders]
    error = fail([(array, i) for i in (7, 0) for array in arrays])
    where = [array.store.name for array in arrays]
    assert failed(error) == {
        (where[0], "a/c/1/1", (1, 1)): (0,),
        (where[2], "a/c/1/1", (1, 1)): (2,),
    }
    assert (error.store, error.path) == (None, None)
    assert f"'a/c/1/1' of {where[2]!r} (selection 2)" in str(error)


def test_stores_of_one_name_are_not_confused(device: str) -> None:
    """All dicts have the same name."""
    stores = [stored(), damage(stored(), "c/1/1"), stored(), damage(stored(), "c/0/0")]
    arrays = [gpuzarr.open_array(store, device=device) for store in stores]
    error = fail([(array, i) for i in (0, 7) for array in arrays])
    assert sorted((one.key, one.requests) for one in error.failures) == [
        ("c/0/0", (3,)),
        ("c/1/1", (5,)),
    ]


def test_failures_of_two_engines_are_one_error(device: str) -> None:
    stores = [damage(stored(), "c/1/1"), damage(stored(), "c/0/0")]
    arrays = [
        gpuzarr.open_array(stores[0], device=device),
        gpuzarr.open_array(stores[1], device="cpu", threads=1, memory_limit=1 << 20),
    ]
    error = fail([(arrays[0], 7), (arrays[1], 0), (arrays[0], 0), (arrays[1], 5)])
    assert sorted((one.key, one.requests) for one in error.failures) == [
        ("c/0/0", (1, 3)),
        ("c/1/1", (0,)),
    ]
    assert "2 chunks could not be decoded" in str(error)


def test_damaged_shard_indexes(device: str) -> None:
    def sharded(path: str) -> dict[str, bytes]:
        levels = [Sharding((3, 5), checksum=True)]
        return store_v3(ARRAY, RegularGrid((12, 10)), sharding=levels, path=path).values

    store = sharded("a") | sharded("b")
    store["b/c/1/0"] = store["b/c/1/0"][:-1] + b"?"
    arrays = [gpuzarr.open_array(store, path=path, device=device) for path in "ab"]
    error = fail([(array, (slice(i, i + 4), slice(0, 6))) for i in (0, 9) for array in arrays])
    assert type(error) is gpuzarr.ChecksumError
    assert {(one.key, one.coords, one.requests) for one in error.failures} == {
        ("b/c/1/0", (4, j), (3,)) for j in (0, 1)
    }


# ------------------------------------------------------------------------------------ conversions


def test_values_that_do_not_fit_name_their_chunks(device: str) -> None:
    values = ARRAY.astype("f4")
    values[7, 6] = np.nan
    array = gpuzarr.open_array(store_v3(values, GRID).values, device=device)
    pairs = [(array, (slice(i, i + 4), slice(5, 9))) for i in (0, 6, 12, 4)]
    error = fail(pairs, dtype="i4")
    assert failed(error) == {(None, "c/1/1", (1, 1)): (1, 3)}
    assert error.failures[0].step == "convert"


@pytest.mark.parametrize("sharded", [False, True])
def test_fill_values_that_do_not_fit_name_only_chunks_with_that_fill(
    device: str,
    sharded: bool,  # noqa: FBT001
) -> None:
    """All arrays have chunks that are not stored; the fill value of one cannot be an integer."""
    fills: list[Any] = [5.0, float("nan"), -2.0]
    names = [5.0, "NaN", -2.0]
    arrays = []
    for fill, name in zip(fills, names, strict=True):
        members: dict[str, Any] = {"fill": fill, "fill_json": name}
        if sharded:
            levels = [Sharding((6, 5), skip=every(2))]
            store = store_v3(ARRAY.astype("f4"), RegularGrid((12, 10)), sharding=levels, **members)
        else:
            store = store_v3(ARRAY.astype("f4"), GRID, skip=every(2), **members)
        arrays.append(gpuzarr.open_array(store.values, device=device))
    pairs = [(array, i) for i in (0, 6) for array in arrays]
    error = fail(pairs, dtype="i4")
    found = {(one.coords, one.requests) for one in error.failures}
    assert found == {((i, j), (1 + 3 * i,)) for i, j in ((0, 0), (0, 2), (1, 1), (1, 3))}
    assert {one.step for one in error.failures} == {"convert the fill value"}
    assert len(found) == len(error.failures)
    check_batch([pair for pair in pairs if pair[0] is not arrays[1]], dtype="i4")


# ------------------------------------------------------------------------------ stores and memory


class Unwell(CountingStore):
    """Some of its objects cannot be read."""

    def __init__(self, values: dict[str, bytes], *bad: str) -> None:
        super().__init__(values)
        self.bad = bad

    def read(self, key: str, *args: Any, **kwargs: Any) -> Any:
        if key in self.bad:
            raise gpuzarr.StoreError("the disk is on fire", store=self.name, key=key)
        return super().read(key, *args, **kwargs)


def test_a_store_that_fails(device: str) -> None:
    unwell = Unwell(stored(), "c/1/1", "c/0/2")
    unwell.name = "unwell"
    stores = [CountingStore(stored()), unwell]
    arrays = [gpuzarr.open_array(store, device=device) for store in stores]
    pairs = [(array, i) for i in (7, 12) for array in arrays]
    with pytest.raises(gpuzarr.StoreError, match="on fire") as raised:
        gpuzarr.read_batch(pairs)
    assert (raised.value.store, raised.value.key) == ("unwell", "c/1/1")
    with pytest.raises(gpuzarr.StoreError, match=r"on fire.*and 1 more chunk") as raised:
        gpuzarr.read_batch([(array, slice(0, 7)) for array in arrays])
    assert raised.value.key in unwell.bad
    with pytest.raises(gpuzarr.StoreError, match="on fire") as raised:
        gpuzarr.read_batch(pairs[1:2])
    assert (raised.value.store, raised.value.key) == ("unwell", "c/1/1")
    check_batch(pairs[2:])


def test_a_store_that_fails_beside_damage(device: str) -> None:
    stores = [Unwell(stored(), "c/1/1"), CountingStore(damage(stored(), "c/1/2"))]
    arrays = [gpuzarr.open_array(store, device=device) for store in stores]
    error = fail([(array, 7) for array in arrays])
    assert type(error) is gpuzarr.ChunkError
    assert sorted((one.key, one.step, one.requests) for one in error.failures) == [
        ("c/1/1", "fetch", (0,)),
        ("c/1/2", "decompress gzip", (1,)),
    ]


def test_lack_of_memory_names_the_store_and_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "CHECKED_NBYTES", 0)
    monkeypatch.setattr(task, "available_nbytes", lambda: 1)
    monkeypatch.setattr(task, "RUN_NBYTES", 0)  # as for large chunks
    stores = [CountingStore(stored()) for _ in range(2)]
    stores[1].name = "other"
    arrays = [gpuzarr.open_array(store, device="cpu") for store in stores]
    with pytest.raises(gpuzarr.MemoryLimitError, match="and 1 more chunk") as raised:
        gpuzarr.read_batch([(array, (0, 0)) for array in arrays])
    assert (raised.value.store, raised.value.key) in {("counting", "c/0/0"), ("other", "c/0/0")}


# -------------------------------------------------------------------------------- replaced shards


def test_a_shard_that_is_replaced_between_two_batches_is_read_anew(device: str) -> None:
    def write(values: Values, path: str) -> dict[str, bytes]:
        levels = [Sharding((3, 5))]
        grid = RegularGrid((12, 10))
        return store_v3(values, grid, sharding=levels, gzip=True, path=path).values

    others = write(ARRAY, "")
    store = write(ARRAY, "a") | write(ARRAY, "b")
    arrays = [gpuzarr.open_array(store, path=path, device=device) for path in "ab"]
    arrays.append(gpuzarr.open_array(others, device=device))
    pairs = [(array, (slice(i, i + 6), slice(i, i + 6))) for i in (1, 9) for array in arrays]
    check_batch(pairs)
    noise = np.random.default_rng(0).integers(-(2**31), 2**31, ARRAY.shape).astype("i4")
    store |= write(noise, "b")
    found = to_numpy(gpuzarr.read_batch(pairs))
    for number, (_, key) in enumerate(pairs):
        due = noise if number % 3 == 1 else ARRAY
        np.testing.assert_array_equal(found[number], due[key])


def test_damage_in_a_known_shard_is_told_of_its_chunk_alone(device: str) -> None:
    levels = [Sharding((3, 5))]
    store = store_v3(ARRAY, RegularGrid((12, 10)), sharding=levels, gzip=True).values
    array = gpuzarr.open_array(store, device=device)
    pairs = [(array, (slice(i, i + 6), slice(0, 10))) for i in (0, 3, 12)]
    check_batch(pairs)
    chunk = compress(ARRAY[3:6, 5:10].tobytes())
    assert store["c/0/0"].count(chunk) == 1
    store["c/0/0"] = store["c/0/0"].replace(chunk, chunk[:20] + b"\xff" * (len(chunk) - 20))
    error = fail(pairs)
    assert failed(error) == {(None, "c/0/0", (1, 1)): (0, 1)}
