"""`Array.explain`: its numbers are those of the read, and its notes say what is worth knowing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.engines.cpu.engine import decoder_for
from tests.arrays import CountingStore, encoded, plain_store, v3_metadata
from tests.stored import RegularGrid, Sharding, compress, every, store_v3
from tests.strategies import basic_keys

INT = np.arange(40 * 30, dtype=np.int32).reshape(40, 30)
GZIP = {"name": "gzip", "configuration": {"level": 1}}
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}


@given(basic_keys((40, 30)), st.sampled_from([0, 2, 3]), st.booleans())
def test_the_numbers_are_those_of_the_read(key: Any, holes: int, sharded: bool) -> None:  # noqa: FBT001  drawn
    sharding = [Sharding((5, 10), skip=every(holes))] if sharded else []
    stored = store_v3(
        INT, RegularGrid((10, 10)), sharding=sharding, skip=every(0 if sharded else holes)
    )
    store = CountingStore(stored.values)
    array = gpuzarr.open_array(store, threads=1)
    report = array.explain(key)
    store.taken()
    result = array[key]
    reads = [read for read in store.taken() if read[1] >= 0]
    chunk_nbytes = 200 if sharded else 400
    assert report.shape == result.shape
    assert report.needed_nbytes == result.nbytes
    if sharded:
        assert report.requests == len(reads)
        assert report.fetched_nbytes == sum(nbytes for _, _, nbytes in reads)
        assert report.objects == len({name for name, _, _ in reads})
        assert report.decoded_nbytes == (report.chunks - report.missing_chunks) * chunk_nbytes
    else:
        there = [name for name, _, _ in reads if name in store.values]
        assert report.requests == report.chunks == len(reads)
        assert report.objects == len(there)
        assert report.missing_chunks == len(reads) - len(there)
        assert report.fetched_nbytes == len(there) * chunk_nbytes
        assert report.decoded_nbytes == len(there) * chunk_nbytes
    assert report.engine == "cpu"
    assert report.scratch_nbytes >= 0
    waste = report.decoded_nbytes / result.nbytes if result.nbytes else 1.0
    assert report.decode_waste == waste


def test_it_prints_and_is_data() -> None:
    values = plain_store(INT, (10, 10), encode=compress, codecs=("bytes", GZIP), path="a")
    report = gpuzarr.open_array(values, path="a").explain((slice(0, 5), slice(None)))
    text = str(report)
    assert repr(report) == text
    assert "a in <dict in memory>" in text
    assert "3, of which 0 are not stored" in text
    assert "decompress gzip" in text
    assert "2.00 for each needed" in text
    assert "note" not in text
    document = json.loads(json.dumps(report.to_dict()))
    assert document["decode_waste"] == 2.0
    assert document["steps"] == ["decompress gzip"]
    assert document["chunks"] == 3


def test_explaining_decodes_nothing_and_reads_only_indexes() -> None:
    values = store_v3(INT, RegularGrid((20, 30)), sharding=[Sharding((5, 10))]).values
    store = CountingStore(values)
    array = gpuzarr.open_array(store)
    store.taken()
    array.explain()
    assert [(key, offset < 0) for key, offset, _ in store.taken()] == [
        ("c/0/0", True),
        ("c/1/0", True),
    ]
    array.explain()
    assert store.taken() == []
    plain = CountingStore({**plain_store(INT, (10, 10)), "c/0/0": b"damaged"})
    damaged = gpuzarr.open_array(plain)
    plain.taken()
    damaged.explain()
    assert plain.taken() == []


def test_a_read_of_nothing() -> None:
    report = gpuzarr.open_array(plain_store(INT, (10, 10))).explain((slice(3, 3),))
    assert (report.chunks, report.objects, report.requests, report.batches) == (0, 0, 0, 0)
    assert (report.fetched_nbytes, report.decoded_nbytes, report.decode_waste) == (0, 0, 1.0)
    assert report.notes == ()


@pytest.mark.parametrize("sharded", [False, True])
def test_when_nothing_is_stored_it_says_where_it_looked(sharded: bool) -> None:  # noqa: FBT001
    sharding = [Sharding((5, 5))] if sharded else []
    values = store_v3(INT, RegularGrid((10, 10)), sharding=sharding, path="a/b").values
    array = gpuzarr.open_array({"a/b/zarr.json": values["a/b/zarr.json"]}, path="a/b")
    report = array.explain((slice(25, 30), slice(0, 20)))
    assert report.missing_chunks == report.chunks > 0
    (note,) = report.notes
    assert "every value is the fill value" in note
    assert "a/b/c/2/0" in note
    assert "a/b/c/0/0" not in note
    # As soon as one chunk is stored there is nothing to say.
    values = {key: value for key, value in values.items() if key.endswith(("json", "c/2/1"))}
    assert gpuzarr.open_array(values, path="a/b").explain((slice(25, 30), slice(0, 20))).notes == ()


def test_chunks_under_the_other_separator_are_noticed() -> None:
    values = plain_store(INT, (10, 10), path="a")
    document = v3_metadata((40, 30), (10, 10))
    document["chunk_key_encoding"] = {"name": "v2", "configuration": {"separator": "."}}
    values = {
        key.replace("a/c/", "a/", 1): value for key, value in values.items() if "json" not in key
    }
    values["a/zarr.json"] = encoded(document)
    report = gpuzarr.open_array(values, path="a").explain()
    assert any("'a/0/0' exists" in note and "separator" in note for note in report.notes)


def test_of_many_objects_the_sizes_are_an_estimate() -> None:
    array = np.ones((4000,), "u1")
    store = CountingStore(plain_store(array, (10,), skip=lambda coords: coords[0] % 2 == 0))
    report = gpuzarr.open_array(store).explain()
    assert (report.chunks, report.missing_chunks, report.objects) == (400, 200, 200)
    assert report.fetched_nbytes == 2000


def test_notes_name_damage() -> None:
    values = store_v3(INT, RegularGrid((20, 30)), sharding=[Sharding((5, 10))]).values
    values["c/0/0"] = b"short"
    report = gpuzarr.open_array(values).explain()
    assert report.missing_chunks == 0
    (note,) = report.notes
    assert note.startswith("12 chunks cannot be found")
    assert "c/0/0" in note


def test_notes_tell_why_a_read_is_slow() -> None:
    wide = np.zeros((1024, 1024), np.int32)
    report = gpuzarr.open_array(plain_store(wide, (1024, 1024))).explain((0, slice(None)))
    assert any("(1024, 1024) and hold 1024 bytes for each" in note for note in report.notes)
    many = gpuzarr.open_array(plain_store(np.zeros(1200, np.int32), (1,))).explain()
    assert any("a request brings 4 bytes" in note for note in many.notes)
    large = np.zeros(1 << 26, np.int8)
    one = gpuzarr.open_array(plain_store(large, large.shape)).explain()
    assert any("one large chunk" in note for note in one.notes)


@pytest.mark.parametrize("name", ["none", "gzip", "zstd", "blosc", "zstd, crc32c", "zstd, shuffle"])
def test_what_is_decoded_in_parts_is_told(name: str) -> None:
    blosc = {"typesize": 4, "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0}
    codecs: dict[str, tuple[Any, ...]] = {
        "none": ("bytes",),
        "gzip": ("bytes", GZIP),
        "zstd": ("bytes", ZSTD),
        "blosc": ("bytes", {"name": "blosc", "configuration": blosc}),
        "zstd, crc32c": ("bytes", ZSTD, "crc32c"),
        "zstd, shuffle": (
            "bytes",
            {"name": "numcodecs.shuffle", "configuration": {"elementsize": 4}},
            ZSTD,
        ),
    }
    wide = np.zeros((1024, 1024), np.int32)
    array = gpuzarr.open_array(plain_store(wide, (1024, 1024), codecs=codecs[name]), device="cpu")
    report, whole = array.explain((0, slice(None))), array.explain()
    assert report.in_parts == (name not in ("gzip", "zstd, shuffle"))
    program = array._prepare(array._snapshot).codecs.program  # noqa: SLF001
    assert report.in_parts == (name == "none" or decoder_for(program, array.shape).takes_spans)
    (note,) = [note for note in report.notes if "(1024, 1024)" in note]
    assert ("decoded whole" in note) == (not report.in_parts)
    assert str(report).count("at most 4,") == 2 * report.in_parts
    assert "at most 4," not in str(whole), "nothing can be left out"
