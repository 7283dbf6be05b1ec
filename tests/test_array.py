"""`Array` as an object: its properties and pictures, opening it, pickling it, reading it in
ways other than `array[key]`."""

from __future__ import annotations

import asyncio
import pickle
import re
import threading
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores.store import WHOLE
from tests.arrays import CountingStore, encoded, plain_store, v3_metadata
from tests.stored import (
    RectilinearGrid,
    RegularGrid,
    Sharding,
    assert_result,
    store_v2,
    store_v3,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr import Blob

INT = np.arange(96, dtype="i4").reshape(8, 12)


def metadata_only(document: dict[str, Any]) -> gpuzarr.Array:
    return gpuzarr.open_array({"zarr.json": encoded(document)})


@cache
def variants() -> dict[str, gpuzarr.Array]:
    """An array of every kind."""
    grid = v3_metadata((8, 12), ())
    sizes = {"kind": "inline", "chunk_shapes": [[3, 5], 4]}
    grid["chunk_grid"] = {"name": "rectilinear", "configuration": sizes}
    long = v3_metadata((8, 10**6), ())
    many = {"kind": "inline", "chunk_shapes": [8, [1, 2] * 333_334]}
    long["chunk_grid"] = {"name": "rectilinear", "configuration": many}
    endless = v3_metadata((2**62, 3), ())
    one = {"kind": "inline", "chunk_shapes": [1, [1, 2]]}
    endless["chunk_grid"] = {"name": "rectilinear", "configuration": one}
    named = v3_metadata((8, 12), (4, 5), dimension_names=["<y>", None])
    unknown = v3_metadata((8, 12), (4, 5), codecs=("bytes", {"name": "never.heard"}))
    sharded = store_v3(INT, RegularGrid((8, 6)), sharding=[Sharding((2, 3))])
    nested = store_v3(INT, RegularGrid((8, 12)), sharding=[Sharding((4, 6)), Sharding((2, 3))])
    document = v3_metadata((5,), (2,), data_type="string", codecs=({"name": "vlen-utf8"},))
    return {
        "plain": gpuzarr.open_array(plain_store(INT, (4, 5), path="a/b"), path="a/b"),
        "v2": gpuzarr.open_array(store_v2(INT, (4, 5)).values),
        "sharded": gpuzarr.open_array(sharded.values),
        "nested": gpuzarr.open_array(nested.values),
        "rectilinear": metadata_only(grid),
        "many sizes": metadata_only(long),
        "sizes without end": metadata_only(endless),
        "named": metadata_only(named),
        "unknown codec": metadata_only(unknown),
        "string": metadata_only({**document, "fill_value": "<x>"}),
        "0-d": gpuzarr.open_array(store_v3(np.array(3, "f4"), RegularGrid(())).values),
        "1-d": metadata_only(v3_metadata((7,), (3,))),
        "3-d": metadata_only(v3_metadata((7, 8, 9), (3, 4, 5))),
        "empty": metadata_only(v3_metadata((0, 4), (3, 2))),
        "exabytes": metadata_only(v3_metadata((2**40, 2**40), (1000, 1000))),
        "structured": gpuzarr.open_array(
            store_v2(np.zeros(3, [("a", "i4")]), (2,), fill=0, fill_json=None).values
        ),
    }


KINDS = list(variants())


def test_properties() -> None:
    array = gpuzarr.open_array(
        plain_store(INT, (4, 5), path="a/b", attributes={"k": [1]}, fill_value=3), path="/a/b/"
    )
    assert (array.path, array.name, array.store.name) == ("a/b", "/a/b", "<dict in memory>")
    assert (array.shape, array.ndim, array.size, array.nbytes) == ((8, 12), 2, 96, 384)
    assert (array.dtype, array.fill_value, array.zarr_format) == (np.dtype("i4"), 3, 3)
    assert (array.chunks, array.shards, array.nchunks) == ((4, 5), None, 6)
    assert array.attrs == {"k": [1]}
    assert array.dimension_names is None
    assert len(array) == 8
    assert [row.tolist() for row in array] == INT.tolist()
    assert array.metadata.shape == (8, 12)
    with pytest.raises(AttributeError):
        array.shape = (1,)  # type: ignore[misc]
    with pytest.raises(TypeError):
        array[0] = 1  # type: ignore[index]


def test_an_array_without_dimensions_is_no_sequence() -> None:
    array = variants()["0-d"]
    assert (array.size, array.nchunks, array.chunks) == (1, 1, ())
    with pytest.raises(TypeError, match="0-dimensional"):
        len(array)
    with pytest.raises(TypeError, match="0-dimensional"):
        iter(array)
    assert float(array[()]) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_and_tables_of_every_kind(kind: str) -> None:
    array = variants()[kind]
    text = repr(array)
    assert text.startswith(f"<gpuzarr.Array {array.name} {array.shape} {array.dtype}, chunks ")
    assert text.endswith(f"zarr v{array.zarr_format}>")
    assert len(text) < 200
    rows = array.info.to_dict()
    table = repr(array.info)
    assert all(label in table and value in table for label, value in rows.items())
    assert rows["Number of chunks"] == f"{array.nchunks:,}"
    assert ("Shards" in rows) == (kind in {"sharded", "nested"})
    assert all(len(value) < 250 for value in rows.values())
    html = array._repr_html_()
    assert len(html) < 100_000
    picture = ET.fromstring(html)  # noqa: S314  our own: well-formed, so all text is escaped
    assert len(picture.findall(".//tr")) == len(rows)
    assert ("svg" in html) == (kind not in {"0-d", "empty"})


def test_a_picture_draws_chunks_thin_and_shards_bold() -> None:
    def lines(kind: str) -> list[str]:
        return re.findall(r"<line [^>]*stroke-width='([\d.]+)'", variants()[kind]._repr_html_())

    assert lines("plain") == ["0.5"] * 3
    assert sorted(lines("sharded")) == ["0.5"] * 6 + ["1.8"]
    assert lines("1-d") == ["0.5"] * 2
    assert lines("rectilinear") == ["0.5"] * 3
    assert lines("many sizes") == []
    assert lines("exabytes") == []


def test_dimension_names_and_chunk_sizes_are_told() -> None:
    kinds = variants()
    assert kinds["named"].info.rows()["Dimension names"] == "<y>, None"
    assert "chunks ((3, 5), 4)" in repr(kinds["rectilinear"])
    assert "chunks rectilinear" in repr(kinds["many sizes"])
    assert "chunks (2, 3), shards (8, 6)" in repr(kinds["sharded"])
    assert kinds["sizes without end"].nchunks == 2**63
    with pytest.raises(gpuzarr.MemoryLimitError):
        _ = kinds["sizes without end"].chunks
    assert kinds["sizes without end"].metadata.chunk_grid == RectilinearGrid((1, (1, 2)))


def test_an_array_that_cannot_be_read_can_be_looked_at() -> None:
    array = variants()["unknown codec"]
    assert (array.shape, array.chunks, array.shards) == ((8, 12), (4, 5), None)
    assert "never.heard" in repr(array.info)
    for use in (lambda: array[0], array.explain, lambda: array.device):
        with pytest.raises(gpuzarr.UnsupportedError, match=r"never\.heard") as raised:
            use()
        assert raised.value.store == "<dict in memory>"
        assert isinstance(raised.value, NotImplementedError)


def test_numpy_takes_it_as_an_array() -> None:
    array = gpuzarr.open_array(plain_store(INT, (4, 5)))
    assert_result(np.asarray(array), INT)
    assert np.asarray(array, dtype="f4").dtype == "f4"
    assert np.add(array, 1).tolist() == (INT + 1).tolist()
    with pytest.raises(ValueError, match="always makes a new array"):
        np.array(array, copy=False)


def test_results_are_the_callers_own() -> None:
    values = plain_store(INT, (8, 12))
    array = gpuzarr.open_array(values)
    before = values["c/0/0"]
    for key in (..., (slice(2, 4),), ([1, 0],), (3, 3)):
        result = array[key]
        result[...] = -1
        assert_result(array[key], np.asarray(INT[key]))
    assert values["c/0/0"] == before


# Opening


def test_open_array_and_open_group_insist() -> None:
    values = {
        "zarr.json": encoded({"zarr_format": 3, "node_type": "group"}),
        **plain_store(INT, (4, 5), path="a"),
    }
    assert isinstance(gpuzarr.open(values), gpuzarr.Group)
    assert isinstance(gpuzarr.open(values, path="a"), gpuzarr.Array)
    with pytest.raises(gpuzarr.NotFoundError, match="there is a group here, not an array"):
        gpuzarr.open_array(values)
    with pytest.raises(gpuzarr.NotFoundError, match="there is an array here, not a group"):
        gpuzarr.open_group(values, path="a")
    v2 = store_v2(INT, (4, 5)).values
    with pytest.raises(gpuzarr.NotFoundError):
        gpuzarr.open_group(v2)
    with pytest.raises(gpuzarr.NotFoundError, match="did you mean 'a'"):
        gpuzarr.open(values, path="aa")
    with pytest.raises(gpuzarr.NotFoundError, match=r"no zarr\.json, \.zarray or \.zgroup"):
        gpuzarr.open({"x": b""})


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ({"mode": "r"}, TypeError, "unexpected keyword argument 'mode'"),
        ({"thread": 2}, TypeError, "did you mean 'threads'"),
        ({"path": 3}, TypeError, "path"),
        ({"device": None}, TypeError, "device"),
        ({"decode": "gpu"}, ValueError, "'auto', 'device', 'host'"),
        ({"io": "fast"}, ValueError, "io"),
        ({"consolidated": "yes"}, ValueError, "consolidated"),
        ({"zarr_format": 4}, ValueError, "zarr_format"),
        ({"threads": 0}, ValueError, "threads"),
        ({"threads": 1.5}, ValueError, "threads"),
        ({"memory_limit": -1}, ValueError, "memory_limit"),
        ({"memory_limit": "1GB"}, ValueError, "memory_limit"),
        ({"cache_nbytes": -1}, ValueError, "cache_nbytes"),
    ],
    ids=str,
)
@pytest.mark.parametrize("function", [gpuzarr.open, gpuzarr.open_array, gpuzarr.open_group])
def test_arguments_that_mean_nothing(
    function: Any, arguments: dict[str, Any], error: type[Exception], why: str
) -> None:
    store = CountingStore(plain_store(INT, (4, 5)))
    with pytest.raises(error, match=why):
        function(store, **arguments)
    assert store.taken() == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"threads": np.int64(2), "memory_limit": np.uint32(1 << 20)},
        {"decode": "host", "io": "pinned", "cache_nbytes": 0},
        {"threads": None, "memory_limit": None, "consolidated": False, "zarr_format": 3},
    ],
    ids=str,
)
def test_arguments_that_mean_something(arguments: dict[str, Any]) -> None:
    assert_result(gpuzarr.open_array(plain_store(INT, (4, 5)), **arguments)[...], INT)


@pytest.mark.parametrize("path", ["..", "a/../b", "a//b", "../x", "a/./b", "a\\b", "a\0b"])
def test_paths_that_leave_the_store(path: str) -> None:
    store = CountingStore(plain_store(INT, (4, 5)))
    with pytest.raises(gpuzarr.StoreError, match="not allowed"):
        gpuzarr.open(store, path=path)
    assert store.taken() == []


def test_a_format_may_be_insisted_on() -> None:
    both = {**plain_store(INT, (4, 5)), **store_v2(INT + 1, (4, 5)).values}
    assert gpuzarr.open_array(both)[0, 0] == 0
    assert gpuzarr.open_array(both, zarr_format=2)[0, 0] == 1
    with pytest.raises(gpuzarr.NotFoundError, match=r"no zarr\.json"):
        gpuzarr.open(store_v2(INT, (4, 5)).values, zarr_format=3)
    with pytest.raises(gpuzarr.NotFoundError, match=r"\.zarray or \.zgroup"):
        gpuzarr.open(plain_store(INT, (4, 5)), zarr_format=2)


# Pickles


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_pickle(protocol: int) -> None:
    stored = store_v3(INT, RegularGrid((8, 6)), sharding=[Sharding((2, 3))], gzip=True)
    array = gpuzarr.open_array(stored.values, threads=2)
    fresh = len(pickle.dumps(array, protocol))
    assert_result(array[...], INT)
    blob = pickle.dumps(array, protocol)
    assert len(blob) == fresh  # what reads remember does not travel
    again = pickle.loads(blob)  # noqa: S301  our own
    assert repr(again) == repr(array)
    assert again.metadata == array.metadata
    assert_result(again[...], INT)
    info = pickle.loads(pickle.dumps(array.explain()))  # noqa: S301
    assert str(info) == str(array.explain())


def test_arrays_of_directories_pickle(tmp_path: Path) -> None:
    for key, value in plain_store(INT, (4, 5), path="a").items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(value)
    array = gpuzarr.open_array(tmp_path, path="a")
    again = pickle.loads(pickle.dumps(array))  # noqa: S301
    assert_result(again[1:3, ::-1], np.ascontiguousarray(INT[1:3, ::-1]))


# Async


def test_getitem_is_awaited() -> None:
    array = gpuzarr.open_array(plain_store(INT, (4, 5)))

    async def read() -> list[Any]:
        keys: list[Any] = [..., (slice(2), 3), 5]
        return await asyncio.gather(*map(array.getitem, keys))

    whole, part, row = asyncio.run(read())
    assert_result(whole, INT)
    assert_result(part, INT[:2, 3].copy())
    assert_result(row, INT[5])


def test_errors_come_out_of_the_await() -> None:
    values = plain_store(INT, (4, 5))
    values["c/0/0"] = b""
    array = gpuzarr.open_array(values)
    with pytest.raises(gpuzarr.SelectionError):
        asyncio.run(array.getitem(9))
    with pytest.raises(gpuzarr.DecodeError):
        asyncio.run(array.getitem())


class GatedStore(CountingStore):
    """Chunks are given one at a time, when the test says so."""

    def __init__(self, values: dict[str, bytes]) -> None:
        super().__init__(values)
        self.asked = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        if "c/" in key:
            self.asked.release()
            assert self.open.acquire(timeout=60)
        return super().read(key, offset, nbytes, allocate)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cancelled_read_stops_and_the_array_stays_of_use(threads: int) -> None:
    # Chunks above the size from which each has a batch of its own.
    big = np.arange(64 * 65536, dtype="i4").reshape(64, 65536)
    store = GatedStore(plain_store(big, (1, 65536)))
    array = gpuzarr.open_array(store, threads=threads)
    store.taken()

    async def cancel() -> bool:
        task = asyncio.create_task(array.getitem())
        await asyncio.to_thread(store.asked.acquire)  # the first chunk is being read
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    async def main() -> bool:
        cancelled = await cancel()
        for _ in range(200):
            store.open.release()
        return cancelled

    assert asyncio.run(main())  # it also waits for the thread that reads
    assert len(store.taken()) < 32
    assert_result(array[63], big[63])


def test_nodes_with_equal_documents_do_not_share_attributes() -> None:
    document = v3_metadata((4,), (2,)) | {"attributes": {"units": ["K"]}}
    store = {"zarr.json": encoded(document)}
    one, other = gpuzarr.open_array(store), gpuzarr.open_array(store)
    one.attrs["units"].append("changed")
    assert other.attrs == {"units": ["K"]}
    assert gpuzarr.open_array(store).attrs == {"units": ["K"]}
    assert one.attrs == {"units": ["K", "changed"]}, "read once"


def test_a_document_means_what_its_name_says_however_often_it_was_read() -> None:
    document = plain_store(np.arange(6, dtype=np.int32), (3,))["zarr.json"]
    v2 = {"zarr_format": 2, "shape": [6], "chunks": [3], "dtype": "<i4", "fill_value": 0}
    zarray = encoded(v2 | {"order": "C", "filters": None, "compressor": None})
    for _ in range(2):
        assert gpuzarr.open_array({"zarr.json": document}).zarr_format == 3
        one, other = (gpuzarr.open_array({".zarray": zarray, "0": bytes(12)}) for _ in range(2))
        assert one.metadata is other.metadata, "parsed once"
        for name, wrong in (("zarr.json", zarray), (".zarray", document)):
            with pytest.raises(gpuzarr.MetadataError, match=r"zarr_format|node_type"):
                gpuzarr.open_array({name: wrong})
