"""Which reads go the way of a few chunks, what they ask stores for, and many of them at once."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

import gpuzarr
from gpuzarr import few
from gpuzarr.engines.cpu import few as cpu_few
from gpuzarr.engines.cpu.engine import CpuEngine
from gpuzarr.stores import files, local
from gpuzarr.stores.store import WHOLE, Store
from tests.arrays import CountingStore, plain_store
from tests.arrays import sharded_store as sharded
from tests.few_ways import CHUNKS, SMALL, read_few
from tests.pool_threads import in_pool
from tests.stored import (
    RegularGrid,
    Sharding,
    assert_result,
    compress,
    index_of,
    store_v3,
)
from tests.test_few import dirty, watched, write_files
from tests.test_read import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gpuzarr.stores.store import Pending

LIMIT_S = 60.0
GZIP = {"name": "gzip", "configuration": {"level": 1}}


@pytest.fixture(autouse=True, params=[CHUNKS, SMALL])
def way(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """How they are read."""
    found: str = request.param
    read_few(monkeypatch, found)
    monkeypatch.setattr(CpuEngine, "empty", dirty)
    return found


# Which reads go this way


def test_what_is_not_made_for_it_is_left_to_other_reads() -> None:
    values = numbers((40, 40), "i4")
    plain = plain_store(values, (2, 2))
    array = gpuzarr.open_array(plain)
    with watched() as said:
        for key in [(slice(None, None, 2), 0), ([0, 1], 0), (slice(0, 0), 0), ..., (0, ..., None)]:
            assert_result(array[key], index_of(values, key))
        assert said == [False, False, False, False, True]
        del said[:]
        assert_result(gpuzarr.open_array(plain, memory_limit=1 << 20)[0, 0], values[0, 0, ...])
        nested = store_v3(
            values, RegularGrid((20, 20)), sharding=[Sharding((10, 10)), Sharding((5, 5))]
        )
        assert_result(gpuzarr.open_array(nested.values)[0, 0], values[0, 0, ...])
        assert said == [False, False]


def test_as_many_chunks_as_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few, "MOST_CHUNKS", 6)
    values = numbers((8, 8), "i4")
    array = gpuzarr.open_array(plain_store(values, (2, 2)))
    with watched() as said:
        assert_result(array[:4, :6], values[:4, :6].copy())
        assert_result(array[:4, :7], values[:4, :7].copy())
    assert said == [True, False]


# Requests


def test_one_element_of_a_chunk_is_one_request() -> None:
    store = CountingStore(plain_store(numbers((6, 6), "i4"), (2, 2)))
    array = gpuzarr.open_array(store)
    store.taken()
    array[3, 5]
    assert store.taken() == [("c/1/2", 0, WHOLE)]
    array[1:3, 2]
    assert sorted(store.taken()) == [("c/0/1", 0, WHOLE), ("c/1/1", 0, WHOLE)]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_shards_index_is_read_once_and_neighbours_together(threads: int) -> None:
    values = numbers((8, 8), "i4")
    store = CountingStore(sharded(values, (4, 8), (2, 2)))
    array = gpuzarr.open_array(store, threads=threads)
    store.taken()
    array[0, 0]
    assert store.taken() == [("c/0/0", -128, WHOLE), ("c/0/0", 0, 16)]
    array[3, 7]
    assert store.taken() == [("c/0/0", 112, 16)]
    assert_result(array[:4, :2], values[:4, :2].copy())  # rows 0 and 4 of the index: a small gap
    reads = store.taken()
    assert sum(nbytes for _, _, nbytes in reads) == (80 if threads == 1 else 32)
    assert len(reads) == min(threads, 2)


def test_what_lies_far_apart_is_not_read_together() -> None:
    values = numbers((3, 1 << 14), "i4")  # chunks of 32 KiB, gaps of as much
    store = CountingStore(sharded(values, (3, 1 << 14), (1, 1 << 13)))
    array = gpuzarr.open_array(store, threads=1)
    store.taken()
    assert_result(array[:, : 1 << 13], values[:, : 1 << 13].copy())
    size = 1 << 15
    places = [("c/0/0", place * 2 * size, size) for place in range(3)]
    assert store.taken() == [("c/0/0", -96, WHOLE), *places]
    assert_result(array[...], values)
    assert store.taken() == [("c/0/0", 0, 6 * size)]


def test_a_shard_that_is_not_there_is_asked_for_once() -> None:
    values = sharded(numbers((8, 8), "i4"), (4, 4), (2, 2))
    del values["c/0/0"]
    store = CountingStore(values)
    array = gpuzarr.open_array(store)
    store.taken()
    assert array[0, 0] == 0
    assert store.taken() == [("c/0/0", -64, WHOLE)]


def test_of_a_plain_chunk_only_what_is_needed_is_read(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_few, "BOX_NBYTES", 1 << 8)
    values = numbers((8, 16), "i4")
    write_files(tmp_path, plain_store(values, (8, 8)))  # 256 bytes a chunk
    array = gpuzarr.open_array(tmp_path, threads=1)
    array[0, 0]
    read: list[tuple[int, int]] = []
    real = files.read_at

    def count(descriptor: int, memory: memoryview, offset: int, waits: files.Waits) -> int:
        read.append((offset, len(memory)))
        return real(descriptor, memory, offset, waits)

    monkeypatch.setattr(local, "read_at", count)
    assert_result(array[2, 3], values[2, 3, ...])
    assert_result(array[2:4, 7:9], values[2:4, 7:9].copy())
    assert read == [(76, 4), *([(92, 36), (64, 36)] if way == CHUNKS else [(0, 256)] * 2)]


# Threads


def test_many_threads_at_once() -> None:
    values = numbers((64, 64), "i4")
    stores = [
        plain_store(values, (8, 8), encode=compress, codecs=("bytes", GZIP)),
        sharded(values, (32, 32), (8, 8), encode=compress, inner_codecs=("bytes", GZIP)),
    ]
    for store in stores:
        array = gpuzarr.open_array(store, threads=4)
        keys = [(slice(i, i + 20), slice(j, j + 9)) for i, j in product(range(0, 44, 7), repeat=2)]
        barrier = threading.Barrier(6)

        def work(number: int, array: Any = array, keys: Any = keys, barrier: Any = barrier) -> None:
            barrier.wait(LIMIT_S)
            for key in keys[number::2] + keys[::-1]:
                assert_result(array[key], values[key].copy())

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6), timeout=LIMIT_S))


def test_a_thread_of_the_pool_reads_alone() -> None:
    values = numbers((64, 64), "i4")
    array = gpuzarr.open_array(
        plain_store(values, (8, 8), encode=compress, codecs=("bytes", GZIP)), threads=4
    )
    found = [in_pool(lambda: array[...]) for _ in range(24)]
    for one in found:
        assert_result(one.result(LIMIT_S), values)


# Stores


def test_an_array_that_was_read_is_freed_at_once() -> None:
    # Once `FewChunks` in `source.derived` held the source, a cycle, so that the store of an
    # array that was read (an open zip file, perhaps) lived until the next collection.
    array = gpuzarr.open_array(plain_store(numbers((4,), "i4"), (2,)))
    array[0]
    gc.disable()
    try:
        store = weakref.ref(array.store)
        del array
        assert store() is None
    finally:
        gc.enable()


class EarlyStore(CountingStore):
    """A store with latency: it starts reads early."""

    started = 0

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        self.started += 1
        return Store.start_reads(self, keys, offsets, nbytes)


def test_a_store_that_starts_reads_early_is_let_do_so() -> None:
    # Once `read_few` called `Store.read` for one range after another, so that a store with
    # latency had no reads in flight together (20 ms a read, 100 chunks: 2.0 s instead of 0.08 s).
    store = EarlyStore(plain_store(numbers((40,), "i4"), (2,)))
    array = gpuzarr.open_array(store, threads=1)
    assert_result(array[...], numbers((40,), "i4"))
    assert store.started == 1
