"""Whatever is wrong, reads of a few chunks say the same as other reads, or see as much of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.engines.cpu import few as cpu_few
from gpuzarr.engines.cpu.engine import CpuEngine
from gpuzarr.engines.cpu.fetcher import EncodedMemory
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.store import WHOLE
from tests.arrays import CountingStore, plain_store, sharded_store
from tests.effort import examples
from tests.few_ways import CHUNKS, WAYS, read_few
from tests.stored import RegularGrid, Sharding, assert_result, compress, store_v3
from tests.test_few import dirty, watched, write_files
from tests.test_read import numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr import Blob

GZIP = {"name": "gzip", "configuration": {"level": 1}}
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
VALUES = numbers((12, 12), "i4")


READS = [(0, CHUNKS), *((128, way) for way in WAYS)]
"""Chunks up to which they are few, and how those are read."""


def told(array: gpuzarr.Array, key: Any, most: int, way: str = CHUNKS, **options: Any) -> Any:
    """What a read gives or raises, down to each chunk that failed."""
    with pytest.MonkeyPatch.context() as patch:
        read_few(patch, way, most)
        patch.setattr(CpuEngine, "empty", dirty)
        try:
            found = array.read(key, **options)
        except gpuzarr.ChunkError as error:
            parts = sorted((f.key, f.coords, f.step, str(f.cause)) for f in error.failures)
            return type(error), error.store, error.path, parts
        except Exception as error:  # noqa: BLE001  whatever it is must be the same
            return type(error), str(error)
        return np.asarray(found).tolist()


def stores() -> dict[str, dict[str, bytes]]:
    gzip: dict[str, Any] = {"encode": compress, "codecs": ("bytes", GZIP)}
    crc = Sharding((2, 3), checksum=True, skip=lambda at: at == (0, 1))
    start = Sharding((3, 2), index_at="start", skip=lambda at: at == (1, 0))
    grid = RegularGrid((6, 6))
    return {
        "plain": plain_store(VALUES, (4, 4)),
        "gzip": plain_store(VALUES, (4, 4), **gzip),
        "zstd": plain_store(VALUES, (3, 4), encode=zstandard.compress, codecs=("bytes", ZSTD)),
        "shards": store_v3(VALUES, grid, sharding=[crc], gzip=True).values,
        "shards, zstd": sharded_store(
            VALUES, (6, 6), (2, 2), encode=zstandard.compress, inner_codecs=("bytes", ZSTD)
        ),
        "index at start": store_v3(VALUES, grid, sharding=[start]).values,
    }


DAMAGE: dict[str, Callable[[bytes, int], bytes | None]] = {
    "cut": lambda data, at: data[: at % len(data)],
    "flipped": lambda data, at: (
        data[: at % len(data)] + bytes([data[at % len(data)] ^ 0x41]) + data[at % len(data) + 1 :]
    ),
    "ones": lambda data, at: (
        data[: at % len(data)]
        + b"\xff" * min(9, len(data) - at % len(data))
        + data[at % len(data) + 9 :]
    ),
    "more": lambda data, at: data + b"x" * (1 + at % 9),
    "empty": lambda data, at: b"" * (len(data) + at),
    "gone": lambda *_: None,
}


@examples(80)
@given(
    st.sampled_from(sorted(stores())),
    st.lists(st.tuples(st.sampled_from(sorted(DAMAGE)), st.integers(0, 400), st.integers(0, 8))),
    st.tuples(st.slices(12), st.slices(12)),
    st.sampled_from(["known", "unknown"]),
    st.sampled_from([1, 3]),
)
def test_damage_is_told_as_by_other_reads(
    layout: str,
    damage: list[tuple[str, int, int]],
    key: Any,
    indexes: str,
    threads: int,
) -> None:
    results = []
    for most, way in READS:
        values = stores()[layout]
        array = gpuzarr.open_array(values, threads=threads)
        if indexes == "known":
            array[...]
        else:
            array.read((0, 0), dtype="f4")
        for kind, at, which in damage:
            objects = sorted(name for name in values if name != "zarr.json")
            name = objects[which % len(objects)] if objects else "c/0/0"
            data = DAMAGE[kind](values.get(name, b"some"), at) if values.get(name, b"some") else b""
            if data is None:
                values.pop(name, None)
            else:
                values[name] = data
        results.append(told(array, key, most, way))
    assert results[1:] == results[:1] * 3


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_shard_that_was_replaced_is_read_anew(threads: int, way: str) -> None:
    def written(values: np.ndarray[Any, Any]) -> dict[str, bytes]:
        return sharded_store(values, (6, 6), (2, 2), encode=compress, inner_codecs=("bytes", GZIP))

    values = written(VALUES)
    array = gpuzarr.open_array(values, threads=threads)
    with pytest.MonkeyPatch.context() as patch:
        read_few(patch, way)
        patch.setattr(CpuEngine, "empty", dirty)
        assert_result(array[...], VALUES)
        values.update(written(VALUES * 3))
        with watched() as said:
            assert_result(array[3:9, 3:9], 3 * VALUES[3:9, 3:9])
            assert_result(array[3:9, 3:9], 3 * VALUES[3:9, 3:9])
        assert said == [False, True]
        del values["c/0/0"]
        assert array[3:6, 3:6].tolist() == [[0] * 3] * 3


@pytest.mark.parametrize("way", WAYS)
def test_a_replaced_file_is_read_anew(tmp_path: Path, way: str) -> None:
    write_files(tmp_path, sharded_store(VALUES, (6, 6), (2, 2)))
    array = gpuzarr.open_array(tmp_path, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        read_few(patch, way)
        patch.setattr(CpuEngine, "empty", dirty)
        assert_result(array[...], VALUES)
        write_files(tmp_path, sharded_store(VALUES * 3, (6, 6), (2, 2)))
        for name in (tmp_path / "c").rglob("*"):
            os.utime(name, ns=(5, 5))  # whatever the clock's resolution
        with watched() as said:
            assert_result(array[3:9, 3:9], 3 * VALUES[3:9, 3:9])
        assert said == [False]
        assert_result(array[...], 3 * VALUES)


class FailingStore(CountingStore):
    """A store that fails for one key, from some read on."""

    fails: str = ""
    error: Exception = gpuzarr.StoreError("the disk is on fire", key="c/0/1")

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        if key == self.fails:
            raise self.error
        return super().read(key, offset, nbytes, allocate)


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize(
    "error",
    [
        gpuzarr.StoreError("the disk is on fire", key="c/0/1"),
        gpuzarr.MemoryLimitError("no room"),
        ValueError("odd"),
        MemoryError("none"),
        KeyError("what"),
        OSError(5, "broken"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("layout", ["gzip", "zstd", "shards", "shards, zstd"])
def test_a_failing_store_fails_the_same(
    layout: str, threads: int, error: Exception, *, known: bool
) -> None:
    results = []
    for most, way in READS:
        store = FailingStore(stores()[layout])
        array = gpuzarr.open_array(store, threads=threads)
        if known:
            array[...]
        store.fails, store.error = "c/0/1", error
        keys = [..., (0, slice(5, 9)), (0, 0)]
        results.append([told(array, key, most, way) for key in keys])
    assert results[1:] == results[:1] * 3
    assert isinstance(results[1][0], tuple)
    assert isinstance(results[1][2], (int, list))


def test_values_that_do_not_fit_fail_the_same() -> None:
    values = np.array([[1.0, 2.0], [np.nan, 300.0]], "f4")
    array = gpuzarr.open_array(plain_store(values, (1, 2)))
    missing = gpuzarr.open_array(
        plain_store(values, (1, 2), fill_value="NaN", skip=lambda at: at == (1, 0))
    )
    for one in (array, missing):
        for key in [..., 0, 1, (1, 1)]:
            first, *others = (told(one, key, *read, dtype="int8") for read in READS)
            assert others == [first] * 3
        assert isinstance(told(one, ..., 128, dtype="int8"), tuple)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129, 1000])
def test_a_file_of_another_size_than_a_plain_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(cpu_few, "BOX_NBYTES", 0)
    values = numbers((8, 8), "i4")
    write_files(tmp_path, plain_store(values, (4, 8)))  # 128 bytes a chunk
    array = gpuzarr.open_array(tmp_path, threads=1)
    os.truncate(tmp_path / "c" / "0" / "0", size)
    for key in [..., 0, (0, 0), (3, 7), (slice(1, 3), slice(2, 4)), (slice(3, 6), 1)]:
        first, *others = (told(array, key, *read) for read in READS)
        assert others == [first] * 3
        assert isinstance(first, tuple) == (size != 128)


def test_a_file_too_large_for_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once `LocalStore.read_row` let the MemoryError of `memory.allocate` pass, so that a run of
    # small chunks failed as a whole and did not say which; `read` gives a MemoryLimitError with
    # the key.
    write_files(tmp_path, plain_store(numbers((64,), "i4"), (2,)))
    os.truncate(tmp_path / "c" / "9", 1 << 21)
    allocate = EncodedMemory.allocate

    def small(self: EncodedMemory, nbytes: int) -> memoryview:
        if nbytes > 1 << 20:
            raise MemoryError("so much is not there")
        return allocate(self, nbytes)

    monkeypatch.setattr(EncodedMemory, "allocate", small)
    for read in READS:
        array = gpuzarr.open_array(LocalStore(tmp_path), threads=1)
        assert told(array, 0, *read) == 1
        kind, text = told(array, ..., *read)
        assert kind is gpuzarr.MemoryLimitError
        assert "'c/9'" in text
