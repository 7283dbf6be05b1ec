"""What a read asks of the store and of Python, counted: numbers that only a change of design
changes."""

from __future__ import annotations

import gc
import json
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.codecs.lower import lower
from gpuzarr.engines.recording import RecordingEngine
from gpuzarr.metadata.v3 import parse_array
from gpuzarr.plan.batches import BatchLimits, make_batches
from gpuzarr.plan.chunk_table import plan_chunks
from gpuzarr.plan.grid import RegularAxis
from gpuzarr.plan.ranges import ByteRanges
from gpuzarr.plan.selection import normalize_selection
from gpuzarr.plan.shard_index import shard_rows
from gpuzarr.program import DecodeProgram, Layout, ShardLayout
from gpuzarr.read import EngineShare, Part, read_share
from gpuzarr.source import ArraySource
from gpuzarr.stores.memory import MappingStore
from tests.arrays import CountingStore, encoded, plain_store, sharded_store, v3_metadata

if TYPE_CHECKING:
    from collections.abc import Callable

ARRAY = np.arange(40 * 30, dtype=np.int32).reshape(40, 30)


def keys(store: CountingStore) -> list[str]:
    return [key for key, _, _ in store.taken()]


def test_opening_v3_is_one_request() -> None:
    store = CountingStore(plain_store(ARRAY, (10, 10)))
    gpuzarr.open(store)
    assert keys(store) == ["zarr.json"]
    gpuzarr.open_array(store)
    assert keys(store) == ["zarr.json"]


V2_ARRAY = {
    "zarr_format": 2,
    "shape": [4],
    "chunks": [2],
    "dtype": "<i4",
    "compressor": None,
    "fill_value": 0,
    "order": "C",
    "filters": None,
}


def test_opening_v2_is_two_rounds_and_attributes_wait() -> None:
    store = CountingStore({".zarray": encoded(V2_ARRAY), ".zattrs": b'{"units": "K"}'})
    array = gpuzarr.open_array(store)
    assert keys(store) == ["zarr.json", ".zarray"]
    assert array.attrs["units"] == "K"
    assert array.attrs["units"] == "K"
    assert keys(store) == [".zattrs"]
    gpuzarr.open_array(store, zarr_format=2)
    assert keys(store) == [".zarray"]


def test_opening_a_v2_group_of_known_format_is_two_requests() -> None:
    store = CountingStore({".zgroup": b'{"zarr_format": 2}'})
    gpuzarr.open_group(store, zarr_format=2)
    assert sorted(keys(store)) == [".zgroup", ".zmetadata"]


def test_zarr_json_wins_over_v2_documents() -> None:
    values = plain_store(ARRAY, (10, 10))
    values[".zarray"] = encoded(V2_ARRAY)
    assert gpuzarr.open_array(values).zarr_format == 3


def test_members_of_a_consolidated_group_cost_no_request() -> None:
    members = {f"a{i}": v3_metadata((4,), (2,)) for i in range(100)}
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": members},
    }
    store = CountingStore({"zarr.json": encoded(document)})
    group = gpuzarr.open_group(store)
    assert len(list(group.arrays())) == 100
    assert keys(store) == ["zarr.json"]


def test_one_element_of_a_shard_is_its_index_and_one_chunk() -> None:
    store = CountingStore(sharded_store(ARRAY, (20, 30), (10, 10)))
    array = gpuzarr.open_array(store)
    store.taken()
    assert array[25, 15] == ARRAY[25, 15]
    index, chunk = store.taken()
    assert index == ("c/1/0", -6 * 16, -1)
    assert chunk == ("c/1/0", 400, 400)
    assert array[39, 29] == ARRAY[39, 29]
    assert store.taken() == [("c/1/0", 5 * 400, 400)]


def test_neighbours_in_a_shard_are_one_request() -> None:
    store = CountingStore(sharded_store(ARRAY, (20, 30), (10, 10)))
    array = gpuzarr.open_array(store, threads=1)
    store.taken()
    np.testing.assert_array_equal(array[:20], ARRAY[:20])
    assert store.taken() == [("c/0/0", -96, -1), ("c/0/0", 0, 6 * 400)]


def test_far_ranges_of_a_shard_are_not_joined() -> None:
    array = np.arange(3 * 100_000, dtype=np.int32).reshape(3, -1)
    store = CountingStore(sharded_store(array, (3, 100_000), (1, 100_000)))
    handle = gpuzarr.open_array(store, threads=1)
    store.taken()
    np.testing.assert_array_equal(handle[::2], array[::2])
    assert [nbytes for _, _, nbytes in store.taken()] == [-1, 400_000, 400_000]


def test_chunks_not_in_a_shard_and_shards_not_there_are_not_asked_for() -> None:
    values = sharded_store(ARRAY, (20, 30), (10, 10), skip=lambda coords: coords == (0, 0))
    del values["c/1/0"]
    store = CountingStore(values)
    array = gpuzarr.open_array(store)
    store.taken()
    assert array[0, 0] == 0
    assert [key for key, *_ in store.taken()] == ["c/0/0"]
    assert array[30, 0] == 0
    assert [key for key, *_ in store.taken()] == ["c/1/0"]


def test_a_shard_that_is_written_later_is_seen() -> None:
    values = sharded_store(ARRAY, (20, 30), (10, 10))
    late = values.pop("c/1/0")
    array = gpuzarr.open_array(values)
    assert array[30, 0] == 0
    values["c/1/0"] = late
    assert array[30, 0] == ARRAY[30, 0]


def test_each_chunk_is_read_once_for_a_list_with_repeats() -> None:
    store = CountingStore(plain_store(ARRAY, (10, 10)))
    array = gpuzarr.open_array(store)
    store.taken()
    rows = [3, 39, 3, 0, 12, 39]
    np.testing.assert_array_equal(array.oindex[rows, [29, 0]], ARRAY[rows][:, [29, 0]])
    read = keys(store)
    assert len(read) == len(set(read)) == 6


def calls(work: Callable[[], Any]) -> int:
    """Python function calls that `work` makes."""
    count = 0

    def profile(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        del frame, arg
        count += event in {"call", "c_call"}

    gc.collect()
    gc.disable()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


@pytest.mark.parametrize("key", [..., (slice(None, None, -2),), ([5, 3, 900],)], ids=str)
def test_planning_makes_as_many_calls_for_many_chunks_as_for_few(key: Any) -> None:
    """Hops 4, 5 and 7; locating unsharded chunks makes key strings, of which there is one each."""

    def plan(side: int) -> Callable[[], None]:
        def work() -> None:
            shape = (side * 10, 1000)
            grid = (RegularAxis(shape[0], 10), RegularAxis(1000, 10))
            selection = normalize_selection(key, shape)
            for chunks, pieces in plan_chunks(selection, grid, 4).blocks():
                n = len(chunks)
                ranges = ByteRanges(["k"], np.zeros(n, int), np.arange(n) * 400, np.full(n, 400))
                # One batch, since calls may grow with batches, which grow with bytes.
                limits = BatchLimits(1 << 60, 1, 0, least_nbytes=1 << 60)
                assert len(list(make_batches(chunks, pieces, ranges, limits))) == 1

        return work

    plan(100)()  # imports and caches
    few, many = calls(plan(100)), calls(plan(1000))
    assert few == many


def test_locating_in_a_shard_makes_as_many_calls_for_many_chunks_as_for_few() -> None:
    layout = ShardLayout(
        (10, 10), (0, 1), DecodeProgram((), Layout(np.dtype("<u8"), (0, 1, 2))), "end"
    )

    def locate(n: int) -> Callable[[], Any]:
        starts = np.stack([np.arange(n) * 10, np.zeros(n, int)], axis=-1)
        grid = (RegularAxis(10**9, 1000), RegularAxis(1000, 1000))
        return lambda: shard_rows(starts, grid, layout)

    locate(10)()
    assert calls(locate(1_000)) == calls(locate(100_000))


def test_the_recording_engine_sees_the_batches_of_a_read() -> None:
    array = gpuzarr.open_array(plain_store(ARRAY, (10, 10)))
    report = array.explain((slice(0, 5), slice(None)))
    assert (report.chunks, report.objects, report.requests) == (3, 3, 3)
    assert report.decoded_nbytes == 3 * 400
    assert report.needed_nbytes == 5 * 30 * 4
    assert report.decode_waste == 2.0
    assert RecordingEngine(BatchLimits(1, 1, 1)).sessions == []


def test_explain_names_the_keys_and_the_other_separator_when_all_is_fill() -> None:
    values = plain_store(ARRAY, (10, 10))
    moved = {
        key.replace("c/", "c.", 1).replace("/", "."): value
        for key, value in values.items()
        if key != "zarr.json"
    }
    moved["zarr.json"] = values["zarr.json"]
    report = gpuzarr.open_array(moved).explain()
    assert report.missing_chunks == report.chunks == 12
    assert "c/0/0" in str(report)
    assert "c.0.0" in str(report)
    assert json.dumps(report.to_dict())


def test_a_replaced_shard_is_noticed_and_read_again() -> None:
    compress = {"name": "gzip", "configuration": {"level": 1}}

    def store(array: np.ndarray[Any, Any]) -> dict[str, bytes]:
        return sharded_store(
            array,
            (40, 30),
            (10, 10),
            encode=_gzip,
            inner_codecs=("bytes", compress),
        )

    values = store(ARRAY)
    array = gpuzarr.open_array(values)
    np.testing.assert_array_equal(array[...], ARRAY)
    values.update(store(ARRAY[::-1] * 7919))
    np.testing.assert_array_equal(array[...], ARRAY[::-1] * 7919)


def _gzip(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=31)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("sharded", [False, True])
def test_a_read_makes_as_many_calls_for_many_chunks_as_for_few(*, sharded: bool) -> None:
    """Hops 4 to 7 together, for chunks in objects of their own and for chunks in four shards."""

    def read(n: int) -> Callable[[], None]:
        values = np.zeros(4 * n, np.int32)
        if sharded:
            index = np.stack([np.arange(n) * 4, np.full(n, 4)], axis=-1).astype("<u8").tobytes()
            store = sharded_store(values[:0], (n,), (1,))
            document = json.loads(store["zarr.json"])
            document["shape"] = [4 * n]
            store = {f"c/{i}": bytes(4 * n) + index for i in range(4)}
        else:
            document, store = v3_metadata((4 * n,), (1,)), {}
        metadata = parse_array(document)
        limits = BatchLimits(1 << 60, 1, 0, least_nbytes=1 << 60)
        source = ArraySource.prepare(
            metadata, lower(metadata), MappingStore(store), "", RecordingEngine(limits)
        )

        def work() -> None:
            session = source.engine.begin(())
            selection = normalize_selection(..., metadata.shape)
            plan = plan_chunks(selection, source.chunks, 4)
            read_share(EngineShare(source.engine, (), (Part((source,), plan),)), session)
            session.finish()

        work()  # imports, caches, and the shards' indexes
        return work

    few, many = calls(read(250)), calls(read(25_000))
    assert many == few
