"""What does not become data: every failed chunk is named, and only those; damaged shards."""

from __future__ import annotations

import pickle
import struct
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores.store import WHOLE
from tests.arrays import CountingStore, plain_store
from tests.stored import RegularGrid, Sharding, assert_result, compress, every, store_v3

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr import Blob


def numbers(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Distinct-looking values of a type, none of them 0."""
    count = int(np.prod(shape, dtype=int))
    return (np.arange(count) % 113 + 1).astype(dtype).reshape(shape)


GZIP = {"name": "gzip", "configuration": {"level": 1}}


def compressed_store(side: int, chunk: int) -> dict[str, bytes]:
    array = numbers((side, side), "i4")
    return plain_store(array, (chunk, chunk), encode=compress, codecs=("bytes", GZIP), path="a/b")


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(("side", "chunk"), [(6, 2), (600, 200)])
def test_every_failed_chunk_is_named_and_no_other(side: int, chunk: int, threads: int) -> None:
    values = compressed_store(side, chunk)
    bad = [(0, 1), (1, 1), (2, 0)]
    for i, j in bad:
        values[f"a/b/c/{i}/{j}"] = values[f"a/b/c/{i}/{j}"][:-9]
    store = CountingStore(values)
    array = gpuzarr.open_array(store, path="a/b", threads=threads)
    store.taken()
    with pytest.raises(gpuzarr.DecodeError) as raised:
        array[...]
    error = raised.value
    assert sorted(failure.coords for failure in error.failures) == bad
    assert {failure.key for failure in error.failures} == {f"a/b/c/{i}/{j}" for i, j in bad}
    assert all("gzip" in failure.step for failure in error.failures)
    assert all(isinstance(failure.cause, gpuzarr.DecodeError) for failure in error.failures)
    assert {key for key, _, _ in store.taken()} == {key for key in values if "/c/" in key}
    assert (error.store, error.path) == ("counting", "a/b")
    for part in ("counting", "/a/b", "a/b/c/1/1", "3 chunks"):
        assert part in str(error)
    # What is not damaged is read as before.
    assert_result(array[:chunk, :chunk], numbers((side, side), "i4")[:chunk, :chunk])


def test_of_many_failures_the_message_shows_some() -> None:
    values = compressed_store(6, 2)
    for key in values:
        if "/c/" in key:
            values[key] = b"nothing like gzip"
    with pytest.raises(gpuzarr.DecodeError, match="and 4 more") as raised:
        gpuzarr.open_array(values, path="a/b")[...]
    assert len(raised.value.failures) == 9


def test_failures_of_two_kinds_are_one_chunk_error() -> None:
    crc = {"name": "crc32c"}
    array = numbers((4,), "i4")
    stored = plain_store(array, (2,), codecs=("bytes", crc), encode=lambda data: data + b"oops")
    with pytest.raises(gpuzarr.ChecksumError) as raised:
        gpuzarr.open_array(stored)[...]
    assert [failure.coords for failure in raised.value.failures] == [(0,), (1,)]
    with pytest.raises(gpuzarr.ChunkError) as mixed:
        gpuzarr.open_array({**stored, "c/1": b""})[...]
    assert {type(failure.cause) for failure in mixed.value.failures} == {
        gpuzarr.ChecksumError,
        gpuzarr.DecodeError,
    }
    assert type(mixed.value) is gpuzarr.ChunkError


def test_errors_pickle() -> None:
    values = compressed_store(6, 2)
    values["a/b/c/1/1"] = b""
    with pytest.raises(gpuzarr.ChunkError) as raised:
        gpuzarr.open_array(values, path="a/b")[...]
    again = pickle.loads(pickle.dumps(raised.value))  # noqa: S301  our own
    assert type(again) is type(raised.value)
    assert str(again) == str(raised.value)
    assert again.failures[0].coords == (1, 1)
    assert str(again.failures[0].cause) == str(raised.value.failures[0].cause)


class FailingStore(CountingStore):
    """A store that raises for one key."""

    def __init__(self, values: dict[str, bytes], key: str, error: Exception) -> None:
        super().__init__(values)
        self.key = key
        self.error = error

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        if key == self.key:
            raise self.error
        return super().read(key, offset, nbytes, allocate)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_store_that_fails_is_a_store_error_with_the_key(threads: int) -> None:
    store = FailingStore(
        compressed_store(600, 200), "a/b/c/1/2", gpuzarr.StoreError("no permission")
    )
    array = gpuzarr.open_array(store, path="a/b", threads=threads)
    with pytest.raises(gpuzarr.StoreError, match="no permission") as raised:
        array[...]
    assert (raised.value.key, raised.value.path) == ("a/b/c/1/2", "a/b")
    assert_result(array[:200], numbers((600, 600), "i4")[:200])


def test_a_part_of_a_shard_that_cannot_be_read_spoils_no_neighbour() -> None:
    """Neighbours are read in one request; when it fails, each is asked for alone."""

    class BadSector(CountingStore):
        def read(
            self,
            key: str,
            offset: int = 0,
            nbytes: int = WHOLE,
            allocate: Callable[[int], Any] = bytearray,
        ) -> Blob | None:
            if key == "c/0/0" and 0 <= offset <= 20 < offset + nbytes:
                raise gpuzarr.StoreError("bad sector", key=key)
            return super().read(key, offset, nbytes, allocate)

    values = store_v3(INT, RegularGrid((4, 4)), sharding=[Sharding((2, 2))]).values
    with pytest.raises(gpuzarr.StoreError, match="bad sector") as raised:
        gpuzarr.open_array(BadSector(values))[...]
    assert "more chunks" not in str(raised.value)
    assert (raised.value.key, raised.value.path) == ("c/0/0", "")


@pytest.mark.parametrize("threads", [1, 4])
def test_a_stores_own_exception_arrives_as_it_is(threads: int) -> None:
    class Surprise(Exception):  # noqa: N818  not an error of ours
        pass

    store = FailingStore(compressed_store(600, 200), "a/b/c/1/2", Surprise("from the store"))
    array = gpuzarr.open_array(store, path="a/b", threads=threads)
    with pytest.raises(Surprise, match="from the store"):
        array[...]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("sharded", [True, False])
def test_errors_that_are_kept_keep_nothing_else(*, sharded: bool, threads: int) -> None:
    """What was in memory when a chunk failed is gone when the next ones are read."""

    class Half:
        pass

    alive: weakref.WeakSet[Half] = weakref.WeakSet()
    most = 0

    class Failing(CountingStore):
        def read(
            self,
            key: str,
            offset: int = 0,
            nbytes: int = WHOLE,
            allocate: Callable[[int], Any] = bytearray,
        ) -> Blob | None:
            nonlocal most
            if "c/" not in key:
                return super().read(key, offset, nbytes, allocate)
            half = Half()
            alive.add(half)
            most = max(most, len(alive))
            error = gpuzarr.StoreError("half of it", key=key)
            try:
                int("half")
            except ValueError as cause:
                raise error from cause
            return None

    sharding = [Sharding((1, 1))] if sharded else []
    values = store_v3(numbers((80, 2), "i4"), RegularGrid((2, 2)), sharding=sharding).values
    array = gpuzarr.open_array(Failing(values), threads=threads)
    with pytest.raises(gpuzarr.StoreError, match=f"and {159 if sharded else 39} more"):
        array[...]
    assert most <= 2 * threads + 1


def test_selection_errors_name_the_array() -> None:
    array = gpuzarr.open_array(compressed_store(6, 2), path="a/b")
    for read in (
        lambda: array[9],
        lambda: array.oindex[[9]],
        lambda: array.vindex[[9], [9]],
        lambda: array.blocks[9],
        lambda: array.explain(9),
    ):
        with pytest.raises(gpuzarr.SelectionError) as raised:
            read()
        assert raised.value.path == "a/b"
        assert isinstance(raised.value, IndexError)


def test_a_fill_value_that_cannot_be_converted_is_a_failure_of_its_chunks() -> None:
    array = numbers((4, 4), "f4")
    stored = store_v3(array, RegularGrid((2, 2)), fill=np.nan, fill_json="NaN", skip=every(2))
    sharded = store_v3(
        array,
        RegularGrid((4, 4)),
        fill=np.nan,
        fill_json="NaN",
        sharding=[Sharding((2, 2), skip=every(2))],
    )
    for values in (stored.values, sharded.values):
        with pytest.raises(gpuzarr.ChunkError, match="does not fit") as raised:
            gpuzarr.open_array(values).read(dtype="i4")
        assert sorted(failure.coords for failure in raised.value.failures) == [(0, 0), (1, 1)]
        assert_result(gpuzarr.open_array(values).read((0, 3), dtype="i4"), np.array(4, "i4"))


# Damaged shards

INT = numbers((8, 8), "i4")


def damage(entry: tuple[int, int], at: str = "end") -> dict[str, bytes]:
    """A store of four shards; in c/0/1 the index entry of the chunk (1, 0) is replaced."""
    sharding = [Sharding((2, 2), at)]
    values = store_v3(INT, RegularGrid((4, 4)), sharding=sharding).values
    shard = bytearray(values["c/0/1"])
    begin = len(shard) - 64 if at == "end" else 0
    shard[begin + 32 : begin + 48] = struct.pack("<QQ", *entry)
    return {**values, "c/0/1": bytes(shard)}


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize(
    "entry",
    [
        (2**64 - 1, 16),
        (1, 2**64 - 1),
        (2**63, 16),
        (2**62, 2**62),
        (10**6, 16),
        (0, 10**6),
        (0, 2**63 - 1),
        (2**63 - 1, 0),
    ],
    ids=str,
)
def test_an_index_entry_that_cannot_be(entry: tuple[int, int], at: str) -> None:
    array = gpuzarr.open_array(damage(entry, at))
    for key in (..., (slice(2, 4), slice(4, 6)), (3, 5)):
        with pytest.raises(gpuzarr.DecodeError) as raised:
            array[key]
        (failure,) = raised.value.failures
        assert (failure.key, failure.coords) == ("c/0/1", (1, 2))
    # The neighbours in the same shard are healthy, and said to be.
    assert_result(array[:2], INT[:2])
    assert_result(array[:, 6:], INT[:, 6:])
    report = array.explain()
    assert report.missing_chunks == 0


def test_a_chunk_of_the_wrong_size_in_a_shard() -> None:
    array = gpuzarr.open_array(damage((0, 12)))
    with pytest.raises(gpuzarr.DecodeError, match="12 bytes are stored, not 16") as raised:
        array[...]
    assert [failure.coords for failure in raised.value.failures] == [(1, 2)]


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("nbytes", [0, 1, 63])
def test_a_shard_shorter_than_its_index(at: str, nbytes: int) -> None:
    values = store_v3(INT, RegularGrid((4, 4)), sharding=[Sharding((2, 2), at)]).values
    values["c/1/0"] = values["c/1/0"][:nbytes]
    array = gpuzarr.open_array(values)
    with pytest.raises(gpuzarr.DecodeError, match="index") as raised:
        array[...]
    found = sorted(failure.coords for failure in raised.value.failures)
    assert found == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert {failure.key for failure in raised.value.failures} == {"c/1/0"}
    assert_result(array[:4], INT[:4])
    report = array.explain()
    assert any("4 chunks cannot be found" in note for note in report.notes)
    assert not any("every value is the fill value" in note for note in array.explain(7).notes)


@pytest.mark.parametrize("at", ["start", "end"])
def test_an_index_that_does_not_match_its_checksum(at: str) -> None:
    sharding = [Sharding((2, 2), at, checksum=True)]
    values = store_v3(INT, RegularGrid((4, 4)), sharding=sharding).values
    shard = bytearray(values["c/1/0"])
    shard[-30 if at == "end" else 30] ^= 1
    values["c/1/0"] = bytes(shard)
    array = gpuzarr.open_array(values)
    with pytest.raises(gpuzarr.ChecksumError) as raised:
        array[...]
    assert len(raised.value.failures) == 4
    assert_result(array[:4], INT[:4])


@pytest.mark.parametrize("at", ["start", "end"])
@pytest.mark.parametrize("entry", [(0, 20), (10**6, 100), (0, 2**62)], ids=str)
def test_a_shard_inside_a_shard_that_cannot_be(entry: tuple[int, int], at: str) -> None:
    sharding = [Sharding((4, 4)), Sharding((2, 2), at)]
    values = store_v3(INT, RegularGrid((8, 8)), sharding=sharding).values
    shard = bytearray(values["c/0/0"])
    shard[-64 + 16 : -64 + 32] = struct.pack("<QQ", *entry)
    values["c/0/0"] = bytes(shard)
    array = gpuzarr.open_array(values)
    with pytest.raises(gpuzarr.DecodeError) as raised:
        array[...]
    found = sorted(failure.coords for failure in raised.value.failures)
    assert found == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert_result(array[4:], INT[4:])
    assert_result(array[:, :4], INT[:, :4])


def test_shards_that_were_replaced_by_shorter_ones_are_read_again() -> None:
    def store(array: np.ndarray[Any, Any]) -> dict[str, bytes]:
        return store_v3(
            array, RegularGrid((40, 40)), sharding=[Sharding((20, 20))], gzip=True
        ).values

    rng = np.random.default_rng(0)
    long = rng.integers(0, 2**31, (80, 80), np.int32)
    short = np.ones((80, 80), np.int32)
    values = store(long)
    array = gpuzarr.open_array(values)
    assert_result(array[...], long)
    values.update(store(short))
    assert_result(array[...], short)
    values.update(store(long))
    assert_result(array[:, 30:50], long[:, 30:50])
    del values["c/0/0"]
    expected = long.copy()
    expected[:40, :40] = 0
    assert_result(array[...], expected)
