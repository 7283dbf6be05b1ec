"""Shard indexes of all arrays of a read are under way together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.store import WHOLE, Blob, Pending, Store
from tests.stored import RegularGrid, Sharding, store_v3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuzarr.stores.store import Buffer

SIDE = 16
FLAT = (Sharding((4, 4)),)
NESTED = (Sharding((8, 8), checksum=True), Sharding((2, 2), "start"))
INDEX_NBYTES = 4 * 16
"""Of a shard of 2 x 2 chunks."""


class Clock:
    """Time passes only where somebody waits: then all answers that are under way come."""

    def __init__(self) -> None:
        self.now = 0
        self.lock = threading.Lock()


class Far(Store):
    """A store whose answers come one tick after they were asked for."""

    def __init__(self, values: dict[str, bytes], clock: Clock | None = None) -> None:
        self.name = "far"
        self.clock = Clock() if clock is None else clock
        self.asked: list[tuple[int, str, int]] = []
        """When, of which object, from where."""
        self._store = MappingStore(values)

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        return self.start_reads([key], [offset], [nbytes]).result(0, allocate)

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        with self.clock.lock:
            self.asked += [(self.clock.now, *one) for one in zip(keys, offsets, strict=True)]
            return UnderWay(self, list(zip(keys, offsets, nbytes, strict=True)), self.clock.now)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        return self._store.list(prefix)

    def answer(self, asked_at: int, wanted: tuple[str, int, int]) -> Blob | None:
        with self.clock.lock:
            self.clock.now = max(self.clock.now, asked_at + 1)
        return self._store.read(*wanted)

    def forget(self) -> None:
        """The past."""
        self.asked.clear()
        self.clock.now = 0


class UnderWay:
    """Reads of `Far`."""

    def __init__(self, store: Far, wanted: Sequence[tuple[str, int, int]], now: int) -> None:
        self._store, self._wanted, self._now = store, wanted, now

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        del allocate
        return self._store.answer(self._now, self._wanted[row])


def made(path: str, dtype: str, sharding: tuple[Sharding, ...]) -> tuple[dict[str, bytes], Any]:
    size = 8 if len(sharding) == 1 else 16
    values = np.random.default_rng(len(path)).integers(0, 99, (SIDE, SIDE)).astype(dtype)
    return store_v3(values, RegularGrid((size, size)), sharding=sharding, path=path).values, values


def read_all(
    arrays: Sequence[tuple[str, str, tuple[Sharding, ...]]], *, key: Any = slice(3, 14)
) -> tuple[list[Far], Clock]:
    """Read a part of arrays, each in a store of its own; check them, and give the stores."""
    clock = Clock()
    stores, opened, expected = [], [], []
    for path, dtype, sharding in arrays:
        objects, values = made(path, dtype, sharding)
        stores.append(Far(objects, clock))
        opened.append(gpuzarr.open_array(stores[-1], path=path))
        expected.append(values[key])
    for store in stores:
        store.forget()
    found = gpuzarr.read_batch([(array, key) for array in opened], out=None)
    for result, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)
    return stores, clock


def indexes(store: Far) -> list[int]:
    """When the indexes were asked for: those at the end, of outermost shards."""
    return [when for when, _, offset in store.asked if offset < 0]


@pytest.mark.parametrize(
    "arrays",
    [
        [(f"a{number}", "i4", FLAT) for number in range(12)],
        [("a", "i4", FLAT), ("b", "f8", FLAT), ("c", "u2", FLAT)],
        [("a", "i4", FLAT), ("b", "f8", FLAT), ("c", "f8", FLAT)],
    ],
    ids=["one program", "a program each", "both"],
)
def test_one_round_brings_the_indexes_and_one_the_chunks(arrays: Any) -> None:
    stores, clock = read_all(arrays)
    assert clock.now == 2
    for store in stores:
        assert indexes(store) == [0] * 4  # one a shard


def test_shards_inside_shards_take_a_round_more_for_all_together() -> None:
    arrays = [("a", "i4", NESTED), ("b", "f8", NESTED), ("c", "u2", FLAT)]
    stores, clock = read_all(arrays)
    assert clock.now == 3
    assert [indexes(store) for store in stores] == [[0], [0], [0] * 4]
    inner = [when for when, _, offset in stores[1].asked if offset >= 0 and when == 1]
    assert len(inner) == 4


def test_no_index_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a plan may share shards."""
    monkeypatch.setattr("gpuzarr.plan.joint.BLOCK_NBYTES", 1)
    stores, _ = read_all([("a", "i4", FLAT), ("b", "f8", FLAT)])
    assert [len(indexes(store)) for store in stores] == [4, 4]


@pytest.mark.parametrize(("rows", "nbytes"), [(1 << 16, 1), (0, 1 << 23)])
def test_what_waits_together_is_bounded(
    rows: int, nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpuzarr.read.INDEXES_NBYTES", nbytes)
    monkeypatch.setattr("gpuzarr.read.AHEAD_CHUNKS", rows)
    stores, _ = read_all([("a", "i4", FLAT), ("b", "f8", FLAT), ("c", "u2", FLAT)])
    assert [set(indexes(store)) for store in stores] == [{0}, {1}, {2}]


def test_indexes_that_are_known_are_not_asked_for() -> None:
    objects, values = made("a", "i4", FLAT)
    more, others = made("b", "f8", FLAT)
    store = Far(objects | more)
    first, second = (gpuzarr.open_array(store, path=path) for path in "ab")
    for rounds in (2, 1):
        store.forget()
        found = gpuzarr.read_batch([(first, ...), (second, ...)])
        np.testing.assert_array_equal(found[0], values)
        np.testing.assert_array_equal(found[1], others)
        assert store.clock.now == rounds


def test_a_damaged_index_takes_no_other_with_it() -> None:
    objects, _ = made("a", "i4", FLAT)
    more, _ = made("b", "f8", FLAT)
    objects["a/c/0/1"] = objects["a/c/0/1"][: INDEX_NBYTES - 1]
    store = Far(objects | more)
    arrays = [gpuzarr.open_array(store, path=path) for path in "ab"]
    with pytest.raises(gpuzarr.ChunkError) as caught:
        gpuzarr.read_batch([(array, ...) for array in arrays])
    assert {failure.key for failure in caught.value.failures} == {"a/c/0/1"}
