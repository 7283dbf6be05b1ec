"""Reading through the public interface: every layout, type and way to index, against NumPy."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.stores.store import WHOLE
from tests.arrays import CountingStore, encoded, plain_store, v3_metadata
from tests.stored import (
    RegularGrid,
    Sharding,
    Stored,
    assert_result,
    assert_same,
    box_of,
    boxes,
    compress,
    every,
    index_of,
    store_v2,
    store_v3,
)
from tests.strategies import advanced_keys, basic_keys, grids, orthogonal_keys, shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr import Blob

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


# What fails


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
