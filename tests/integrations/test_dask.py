"""Zarr arrays as dask arrays: what tasks read, how often, and what they give."""

from __future__ import annotations

import pickle
import threading
import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dask
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.integrations.dask import from_gpuzarr
from gpuzarr.metadata.model import RectilinearGrid, RegularGrid
from tests.arrays import CountingStore, encoded, plain_store, sharded_store, v3_metadata
from tests.cuda_devices import installed
from tests.engines.cuda.fake_device import FakeDevice
from tests.integrations.steps import LoggedStore, write_steps
from tests.stored import Sharding, assert_same, every, grid_document, store_v2, store_v3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpuzarr.metadata.model import ChunkGrid

NUMBERS = np.arange(13 * 20, dtype="i4").reshape(13, 20)
RECORDS = np.array([(n, n / 4) for n in range(7)], [("a", "<i4"), ("b", "<f8")])
PLAIN = plain_store(NUMBERS, (4, 6))
SHARDED = sharded_store(NUMBERS, (8, 12), (4, 3))

STORED = {
    "v2": store_v2(NUMBERS, (4, 6), order="F", gzip=True, skip=every(3)),
    "v3": store_v3(NUMBERS, RegularGrid((4, 6)), fill=7, endian="big", skip=every(4)),
    "sharded": store_v3(
        NUMBERS, RegularGrid((8, 12)), sharding=[Sharding((4, 3), skip=every(3))], skip=every(5)
    ),
    "rectilinear": store_v3(NUMBERS, RectilinearGrid(((3, 9, 4), 6)), skip=every(4)),
    "0-d": store_v3(np.array(5, "f4"), RegularGrid(())),
    "empty": store_v3(np.empty((0, 5), "f4"), RegularGrid((2, 2))),
    "one element": store_v3(np.array([2.5]), RegularGrid((9,))),
    "records": store_v2(RECORDS, (3,)),
    "times": store_v2(np.arange(6).astype("M8[s]"), (4,), fill_json=0),
    "bfloat16": store_v3(np.arange(6).astype(ml_dtypes.bfloat16), RegularGrid((4,))),
}


@pytest.fixture(autouse=True)
def _in_this_thread() -> Iterator[None]:
    """Tests that want another scheduler say so."""
    with dask.config.set(scheduler="synchronous"):
        yield


def texts() -> dict[str, bytes]:
    """An array of three texts in two chunks."""
    document = v3_metadata((3,), (2,), data_type="string", codecs=["vlen-utf8"], fill_value="")
    document["codecs"] = [{"name": "vlen-utf8"}]

    def chunk(*elements: str) -> bytes:
        parts = [len(elements).to_bytes(4, "little")]
        for element in elements:
            parts += [len(element).to_bytes(4, "little"), element.encode()]
        return b"".join(parts)

    return {"zarr.json": encoded(document), "c/0": chunk("a", "bcd"), "c/1": chunk("ef", "")}


def unread(shape: tuple[int, ...], grid: ChunkGrid) -> gpuzarr.Array:
    """An array of int32 with nothing stored."""
    document = v3_metadata(shape, ()) | {"chunk_grid": grid_document(grid)}
    return gpuzarr.open_array({"zarr.json": encoded(document)})


def lazily(source: Any, **choices: Any) -> Any:
    """A dask array; dask has no types."""
    return from_gpuzarr(source, **choices)


def in_graph(lazy: Any) -> Any:
    """The array that the tasks of a dask array read."""
    return dict(lazy.dask)[f"original-{lazy.name}"]


# ---------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("chunks", [None, "auto", -1])
@pytest.mark.parametrize("kind", STORED)
def test_values_are_those_of_the_array(kind: str, chunks: Any) -> None:
    stored = STORED[kind]
    lazy = lazily(stored.values, chunks=chunks)
    assert (lazy.shape, lazy.dtype) == (stored.expected.shape, stored.expected.dtype)
    assert_same(np.asarray(lazy.compute()), stored.expected)


def test_texts_are_read_and_have_no_size_to_choose_chunks_by() -> None:
    lazy = lazily(texts())
    assert lazy.chunks == ((2, 1),)
    assert lazy.compute().tolist() == ["a", "bcd", "ef"]
    assert lazily(texts(), chunks=3).numblocks == (1,)
    with pytest.raises(gpuzarr.UnsupportedError, match="no fixed size"):
        lazily(texts(), chunks="auto")


@pytest.mark.parametrize(
    "key",
    [
        (slice(3, 11), slice(None, None, -3)),
        (5, ...),
        (..., None, 7),
        ([1, 12, 0, 1], slice(2, 9)),
        (slice(0, 0), slice(1, 2)),
        NUMBERS[:, 0] % 3 == 0,
    ],
    ids=str,
)
def test_what_dask_selects_is_what_numpy_selects(key: Any) -> None:
    for stored in (PLAIN, SHARDED):
        np.testing.assert_array_equal(lazily(stored)[key].compute(), NUMBERS[key])


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_operations_over_blocks(scheduler: str) -> None:
    lazy = lazily(SHARDED)
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal((lazy + lazy.T.T).sum(axis=0), (2 * NUMBERS).sum(axis=0))
        np.testing.assert_array_equal(lazy.rechunk((5, 7)), NUMBERS)


def test_a_damaged_chunk_is_named() -> None:
    values = PLAIN | {"c/1/2": b"short"}
    with pytest.raises(gpuzarr.ChunkError, match="c/1/2"):
        lazily(values).sum().compute()


# ---------------------------------------------------------------------------------------- chunks


@pytest.mark.parametrize(
    ("kind", "chunks"),
    [
        ("v2", ((4, 4, 4, 1), (6, 6, 6, 2))),
        ("v3", ((4, 4, 4, 1), (6, 6, 6, 2))),
        ("sharded", ((8, 5), (12, 8))),
        ("rectilinear", ((3, 9, 1), (6, 6, 6, 2))),
        ("0-d", ()),
        ("empty", ((0,), (2, 2, 1))),
        ("one element", ((1,),)),
    ],
)
def test_a_task_reads_one_stored_object(kind: str, chunks: Any) -> None:
    assert lazily(STORED[kind].values).chunks == chunks


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (5, ((5, 5, 3), (5, 5, 5, 5))),
        ((8, -1), ((8, 5), (20,))),
        ([4, (6, 14)], ((4, 4, 4, 1), (6, 14))),
        ({0: 6}, ((6, 6, 1), (20,))),
        (np.int64(13), ((13,), (13, 7))),
    ],
    ids=str,
)
def test_given_chunks_are_used_as_they_are(chunks: Any, expected: Any) -> None:
    lazy = lazily(PLAIN, chunks=chunks)
    assert lazy.chunks == expected
    np.testing.assert_array_equal(lazy, NUMBERS)


@pytest.mark.parametrize(
    ("nbytes", "chunks", "expected"),
    [
        ("1 GiB", "auto", ((13,), (20,))),
        ("1 B", "auto", ((4, 4, 4, 1), (6, 6, 6, 2))),
        ("390 B", "auto", ((8, 5), (12, 8))),
        ("1 GiB", "390 B", ((8, 5), (12, 8))),
        ("400 B", (1, "auto"), ((1,) * 13, (20,))),
        ("64 B", {0: "auto", 1: 5}, ((4, 4, 4, 1), (5, 5, 5, 5))),
    ],
)
def test_sizes_that_dask_chooses_are_made_of_whole_chunks(
    nbytes: str, chunks: Any, expected: Any
) -> None:
    with dask.config.set({"array.chunk-size": nbytes}):
        assert lazily(PLAIN, chunks=chunks).chunks == expected


def test_of_a_sharded_array_dask_joins_shards() -> None:
    plain = unread((64, 64), RegularGrid((4, 4)))
    sharded = sharded_store(np.zeros((64, 64), "i4"), (16, 16), (4, 4))
    with dask.config.set({"array.chunk-size": 32 * 32 * 4}):
        assert lazily(sharded, chunks="auto").chunks == ((32, 32),) * 2
        assert lazily(plain, chunks="auto").chunks == ((32, 32),) * 2
    with dask.config.set({"array.chunk-size": 8 * 8 * 4}):
        assert lazily(sharded, chunks="auto").chunks == ((16,) * 4,) * 2
        assert lazily(plain, chunks="auto").chunks == ((8,) * 8,) * 2


@given(
    sizes=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=8), min_size=1, max_size=3),
    cut=st.integers(0, 30),
    nbytes=st.integers(1, 10_000),
)
def test_no_stored_chunk_is_cut(sizes: list[list[int]], cut: int, nbytes: int) -> None:
    shape = tuple(max(0, sum(dimension) - cut) for dimension in sizes)
    array = unread(shape, RectilinearGrid(tuple(map(tuple, sizes))))
    with dask.config.set({"array.chunk-size": nbytes}):
        lazy = lazily(array, chunks="auto")
    assert lazy.shape == shape
    stored = lazily(array)
    for joined, single in zip(lazy.chunks, stored.chunks, strict=True):
        assert set(np.cumsum(joined)) <= set(np.cumsum(single))
        assert 0 not in joined or joined == (0,)


def test_chunks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to shape"):
        lazily(PLAIN, chunks=((4, 4), (20,)))
    with pytest.raises(ValueError, match="same length"):
        lazily(PLAIN, chunks=(4, 4, 4))


def test_an_endless_array_needs_chunks() -> None:
    endless = unread((1 << 40,), RegularGrid((1,)))
    for chunks in (None, "auto"):
        with pytest.raises(gpuzarr.MemoryLimitError, match="1,099,511,627,776 tasks"):
            lazily(endless, chunks=chunks)
    assert lazily(endless, chunks=1 << 39).numblocks == (2,)


# -------------------------------------------------------------------------------- what a read costs


def test_making_one_reads_nothing() -> None:
    for stored in (STORED["v3"], STORED["sharded"], STORED["0-d"]):
        store = CountingStore(stored.values)
        array = gpuzarr.open_array(store)
        store.taken()
        lazily(array)
        assert store.taken() == []


@pytest.mark.parametrize("chunks", [None, "auto"])
def test_chunks_are_read_once(chunks: Any) -> None:
    store = CountingStore(PLAIN)
    lazy = lazily(store, chunks=chunks)
    store.taken()
    assert lazy.sum().compute() == NUMBERS.sum()
    assert sorted(key for key, _, _ in store.taken()) == sorted(set(PLAIN) - {"zarr.json"})


def test_shard_indexes_and_chunks_are_read_once() -> None:
    store = CountingStore(SHARDED)
    lazy = lazily(store)
    store.taken()
    assert lazy.sum().compute() == NUMBERS.sum()
    reads = store.taken()
    shards = sorted(set(SHARDED) - {"zarr.json"})
    assert sorted(key for key, offset, _ in reads if offset < 0) == shards
    ranges = sorted((key, offset, offset + nbytes) for key, offset, nbytes in reads if offset >= 0)
    assert {key for key, _, _ in ranges} == set(shards)
    for (key, _, end), (next_key, begin, _) in pairwise(ranges):
        assert key != next_key or end <= begin


def test_chunks_that_are_not_aligned_are_read_by_each_task_that_needs_them() -> None:
    store = CountingStore(PLAIN)
    lazy = lazily(store, chunks=(13, 10))
    store.taken()
    lazy.sum().compute()
    reads = Counter(key for key, _, _ in store.taken())
    assert {key for key, count in reads.items() if count == 2} == {f"c/{i}/1" for i in range(4)}


class ThreadsStore(CountingStore):
    """Remembers which threads read, and takes its time so that others could."""

    def __init__(self, values: dict[str, bytes]) -> None:
        super().__init__(values)
        self.threads: set[int] = set()

    def read(self, key: str, *arguments: Any, **more: Any) -> Any:
        """Remember, and read."""
        self.threads.add(threading.get_ident())
        time.sleep(0.001)
        return super().read(key, *arguments, **more)


def test_a_task_decodes_in_its_own_thread() -> None:
    store = ThreadsStore(plain_store(np.zeros((32, 1024)), (1, 1024)))
    lazily(store, chunks=-1, device="cpu").sum().compute()
    assert store.threads == {threading.get_ident()}


def test_an_array_keeps_the_threads_that_it_was_opened_with() -> None:
    threaded = gpuzarr.open_array(PLAIN, device="cpu", threads=2)
    assert in_graph(lazily(threaded)) is threaded
    usual = gpuzarr.open_array(PLAIN, device="cpu")
    assert in_graph(lazily(usual)) is not usual
    with installed(FakeDevice()):
        on_device = gpuzarr.open_array(PLAIN, device="cuda")
        assert in_graph(lazily(on_device)) is on_device


# ------------------------------------------------------------------------------- names and devices


def test_equal_arrays_have_equal_names(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_steps(tmp_path / folder, 0)
    array = gpuzarr.open_array(tmp_path / "a")
    name = lazily(array).name
    assert name.startswith("gpuzarr-")
    assert lazily(str(tmp_path / "a")).name == name
    assert lazily(pickle.loads(pickle.dumps(array))).name == name  # noqa: S301  our own
    assert lazily(tmp_path / "a", threads=2).name == name
    assert lazily(tmp_path / "b").name != name
    assert lazily(array, chunks=64).name != name
    assert lazily(array, name="mine").name == "mine"
    metadata = tmp_path / "a" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"fill_value": 0', '"fill_value": 1'))
    assert lazily(tmp_path / "a").name != name


def test_other_contents_paths_and_devices_have_other_names() -> None:
    both = {**plain_store(NUMBERS, (4, 6), path="a"), **plain_store(NUMBERS, (4, 6), path="b")}
    with installed(FakeDevice()):
        lazy = [
            lazily(PLAIN, device="cpu"),
            lazily(PLAIN, device="cuda"),
            lazily(PLAIN | {"c/0/0": PLAIN["c/0/1"]}, device="cpu"),
            lazily(both, path="a", device="cpu"),
            lazily(both, path="b", device="cpu"),
        ]
    assert len({each.name for each in lazy}) == len(lazy)


def test_equal_arrays_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_steps(tmp_path / "a", 1)
    log = tmp_path / "log"
    one, other = (lazily(LoggedStore(tmp_path / "a", log)) for _ in range(2))
    log.unlink()
    assert (one - other).any().compute() == False  # noqa: E712  a NumPy bool
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["c/0/0"]


class OnDevice(np.ndarray):
    """An array that gives arrays and no scalars, as CuPy's do."""

    def __getitem__(self, key: Any) -> Any:
        """A 0-d array where NumPy gives a scalar."""
        return np.asarray(super().__getitem__(key)).view(OnDevice)


class OwnArrays(FakeDevice):
    """A device whose arrays have a type of their own."""

    def empty(self, *arguments: Any) -> Any:
        """As the fake device, with another type."""
        return super().empty(*arguments).view(OnDevice)


@pytest.mark.parametrize("kind", ["v2", "sharded", "0-d", "empty"])
def test_meta_and_blocks_are_the_devices_arrays(kind: str) -> None:
    stored = STORED[kind]
    with installed(OwnArrays()):
        for device, of in (("cpu", np.ndarray), ("cuda", OnDevice)):
            lazy = lazily(stored.values, device=device)
            meta = lazy._meta  # noqa: SLF001  dask's own name for it
            assert type(meta) is of
            assert (meta.shape, meta.dtype) == ((0,) * lazy.ndim, stored.expected.dtype)
            for block in lazy.to_delayed().flat:
                assert type(block.compute()) is of
            np.testing.assert_array_equal(np.asarray(lazy.compute()), stored.expected)


def test_what_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    document = v3_metadata((4,), (2,)) | {"codecs": [{"name": "of nobody"}]}
    with pytest.raises(gpuzarr.UnsupportedError, match="of nobody"):
        lazily({"zarr.json": encoded(document)})
    with pytest.raises(gpuzarr.NotFoundError):
        lazily(tmp_path)
    with pytest.raises(TypeError, match="threads= is for opening an array"):
        lazily(gpuzarr.open_array(PLAIN), threads=2)
