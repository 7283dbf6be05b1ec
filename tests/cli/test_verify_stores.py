"""`gpuzarr verify` on stores that cannot list, that fail, are huge and empty; and interrupted."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr as package
from gpuzarr.cli import verify, verify_reads
from gpuzarr.errors import MemoryLimitError, StoreError, UnsupportedError
from gpuzarr.metadata.model import RectilinearGrid, RegularGrid
from gpuzarr.stores.store import Blob, Store, cut
from tests.arrays import encoded, v3_metadata
from tests.stored import Sharding, every, store_v3
from tests.stores.counting import CountingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., tuple[int, str, str]]
    Verify = Callable[..., tuple[int, dict[str, Any], str]]


class Unlistable(CountingStore):
    """As on a plain HTTP server."""

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        raise UnsupportedError("this store cannot list its keys", store=self.name, key=prefix)


@pytest.fixture
def verify_store(gpuzarr: Run, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verify a store object: the status, the document, and what people see."""

    def run(store: Any, *arguments: str) -> tuple[int, dict[str, Any], str]:
        monkeypatch.setattr(verify, "open_node", lambda _: package.open(store))
        status, out, _ = gpuzarr("verify", "x", *arguments)
        with_json, document, _ = gpuzarr("verify", "x", "--json", *arguments)
        assert with_json == status
        return status, json.loads(document), out

    return run


GRIDS = [
    (RegularGrid((2, 3)), ()),
    (RectilinearGrid(((1, 2, 6), 4)), ()),
    (RegularGrid((4, 6)), (Sharding((2, 3), skip=every(3)),)),
    (RectilinearGrid(((4, 6), 8)), (Sharding((2, 4), "start", checksum=True),)),
    (RegularGrid((8, 8)), (Sharding((4, 4), checksum=True), Sharding((2, 2), skip=every(2)))),
]


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize(("grid", "sharding"), GRIDS)
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("nbytes", [1, 13, verify.READ_NBYTES])
@pytest.mark.parametrize("together", [1, 3, verify_reads.LEAST_TOGETHER])
def test_every_kind_of_grid(
    grid: Any,
    sharding: Any,
    nbytes: int,
    together: int,
    verify_store: Verify,
    monkeypatch: pytest.MonkeyPatch,
    *,
    listed: bool,
) -> None:
    monkeypatch.setattr(verify, "READ_NBYTES", nbytes)
    monkeypatch.setattr(verify, "AT_ONCE", 7)
    monkeypatch.setattr(verify_reads, "LEAST_TOGETHER", together)
    monkeypatch.setattr(verify, "SHARDS_AT_ONCE", 2)
    values = np.arange(9 * 8, dtype="u1").reshape(9, 8)
    stored = store_v3(values, grid, sharding=sharding, skip=every(4))
    store = (CountingStore if listed else Unlistable)(stored.values)
    array = package.open_array(store)
    status, found, out = verify_store(store)
    assert (status, found["ok"], found["bad_chunks"], found["stray_keys"]) == (0, True, 0, 0)
    leaf = package.open_array(store)._prepare(array._snapshot).chunks  # noqa: SLF001
    assert found["nchunks"] == np.prod([axis.nchunks for axis in leaf])
    assert found["stored"] + found["missing"] == found["nchunks"]
    assert ("cannot list" in out) is not listed
    assert found["nodes"][0]["listed"] is listed
    # A chunk is stored if its elements are not all the fill value.
    chunks = package.open_array(store).metadata.chunk_grid if not sharding else None
    if chunks == RegularGrid((2, 3)):
        assert found["stored"] == sum(key.startswith("c/") for key in stored.values)
    if sharding == GRIDS[2][1]:
        inner = [(i, j) for i in range(5) for j in range(3)]
        expected = sum((i // 2 + j // 2) % 4 != 0 and (i % 2 + j % 2) % 3 != 0 for i, j in inner)
        assert found["stored"] == expected


@pytest.mark.parametrize("store_type", [CountingStore, Unlistable])
def test_an_array_without_dimensions_and_one_without_elements(
    store_type: type[CountingStore], verify_store: Verify
) -> None:
    stored = store_v3(np.array(7, "u1"), RegularGrid(())).values
    status, found, _ = verify_store(store_type(stored))
    assert (status, found["nchunks"], found["stored"], found["missing"]) == (0, 1, 1, 0)
    status, found, _ = verify_store(store_type(stored | {"c": b""}))
    assert (status, found["bad_chunks"], found["nodes"][0]["failures"][0]["coords"]) == (1, 1, [])
    del stored["c"]
    status, found, _ = verify_store(store_type(stored))
    assert (status, found["stored"], found["missing"]) == (0, 0, 1)
    stored = store_v3(np.zeros((0, 5), "u1"), RegularGrid((2, 2))).values
    status, found, _ = verify_store(store_type(stored))
    assert (status, found["nchunks"], found["stored"], found["missing"]) == (0, 0, 0, 0)


@pytest.mark.parametrize(("grid", "sharding"), GRIDS)
@pytest.mark.parametrize("nbytes", [1, 13, verify.READ_NBYTES])
@pytest.mark.parametrize("together", [1, verify_reads.LEAST_TOGETHER])
def test_each_chunk_is_read_whole_and_once(
    grid: Any,
    sharding: Any,
    nbytes: int,
    together: int,
    verify_store: Verify,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verify, "READ_NBYTES", nbytes)
    monkeypatch.setattr(verify, "AT_ONCE", 7)
    monkeypatch.setattr(verify_reads, "LEAST_TOGETHER", together)
    values = np.arange(9 * 8, dtype="u1").reshape(9, 8)
    stored = store_v3(values, grid, sharding=sharding, skip=every(4))
    seen = np.zeros(values.shape, int)
    plain, plain_batch = package.Array.read, package.read_batch

    def read(self: package.Array, key: Any = ..., **options: Any) -> Any:
        seen[key] += 1
        return plain(self, key, **options)

    def read_batch(requests: Any) -> Any:
        for _, key in requests:
            seen[key] += 1
        return plain_batch(requests)

    monkeypatch.setattr(package.Array, "read", read)
    monkeypatch.setattr(verify_reads, "read_batch", read_batch)
    verify_store(CountingStore(stored.values))
    assert set(np.unique(seen)) == {0, 2}  # by each of the two runs
    assert not seen[stored.expected != 0].min() < 2


def test_a_chunk_that_the_storage_fails_for(verify_store: Verify) -> None:
    """It is named, and the others are checked."""

    class Fails(CountingStore):
        def _answer(self, key: str, offset: int, nbytes: int, allocate: Any) -> Blob | None:
            if key in {"c/1/1", "c/4/0"}:
                raise StoreError("permission denied", key=key)
            return super()._answer(key, offset, nbytes, allocate)

    values = np.ones((10, 8), "u1")
    stored = store_v3(values, RegularGrid((2, 4))).values
    stored["c/3/0"] = stored["c/3/0"][:-1]
    status, found, out = verify_store(Fails(stored))
    assert (status, found["bad_chunks"], found["stored"]) == (1, 3, 10)
    failures = {tuple(f["coords"]): f for f in found["nodes"][0]["failures"]}
    assert set(failures) == {(1, 1), (3, 0), (4, 0)}
    assert failures[1, 1]["key"] == "c/1/1"
    assert "permission denied" in failures[1, 1]["cause"]
    assert "permission denied" in out


@pytest.mark.parametrize("length", [1 << 16, 1 << 20, 1000])
def test_damage_in_a_part_that_other_reads_may_leave_out(verify_store: Verify, length: int) -> None:
    """Other blocks of a chunk of which little is read; what lies beyond the array's edge."""
    blosc = pytest.importorskip("numcodecs.blosc")
    values = np.arange(1 << 16, dtype="u2") // 100
    codec = blosc.Blosc("lz4", clevel=1, shuffle=0, blocksize=1 << 13)
    document = {
        "zarr_format": 2,
        "shape": [length],
        "chunks": [1 << 16],
        "dtype": "<u2",
        "compressor": codec.get_config(),
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    chunk = bytearray(codec.encode(values))
    nblocks = -(-values.nbytes // int.from_bytes(chunk[8:12], "little"))
    last = int.from_bytes(chunk[12 + 4 * nblocks : 16 + 4 * nblocks], "little")
    chunk[last : last + 4] = b"\xff\xff\xff\x7f"  # the size of the last block
    store = CountingStore({".zarray": encoded(document), "0": bytes(chunk)})
    assert nblocks > 1
    assert len(chunk) < values.nbytes  # compressed
    status, found, _ = verify_store(store)
    assert (status, found["bad_chunks"]) == (1, 1)


def test_a_storage_that_is_gone_is_given_up(verify_store: Verify) -> None:
    class Gone(CountingStore):
        def _answer(self, key: str, offset: int, nbytes: int, allocate: Any) -> Blob | None:
            if key.startswith("c/"):
                raise StoreError("the disk is gone", key=key)
            return super()._answer(key, offset, nbytes, allocate)

    store = Gone(store_v3(np.ones(1000, "u1"), RegularGrid((1,))).values)
    status, found, _ = verify_store(store)
    assert status == 1
    assert found["bad_chunks"] == verify_reads.MOST_IN_A_ROW
    assert found["nodes"][0]["errors"][0]["message"].startswith("the disk is gone")


def test_a_chunk_that_memory_is_too_small_for(
    verify_store: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = package.Array.read

    def read(self: package.Array, key: Any = ..., **options: Any) -> Any:
        if key[0].start <= 500 < key[0].stop:
            raise MemoryLimitError("too large", key="c/5")
        return plain(self, key, **options)

    monkeypatch.setattr(package.Array, "read", read)
    monkeypatch.setattr(verify_reads, "LEAST_TOGETHER", 1)
    stored = store_v3(np.ones(1000, "u1"), RegularGrid((100,))).values
    status, found, _ = verify_store(CountingStore(stored))
    assert (status, found["bad_chunks"]) == (1, 1)
    assert found["nodes"][0]["failures"][0]["coords"] == [5]


HUGE = [((10**12,), (1,)), ((10**9, 10**9), (10**3, 10**3)), ((2**60,), (7,))]


@pytest.mark.parametrize(("shape", "chunks"), HUGE)
@pytest.mark.parametrize("nstored", [0, 3])
def test_an_empty_huge_array_costs_what_is_there(
    shape: tuple[int, ...], chunks: tuple[int, ...], nstored: int, verify_store: Verify
) -> None:
    document = v3_metadata(shape, chunks, data_type="uint8", codecs=[{"name": "bytes"}])
    objects = {"zarr.json": encoded(document)}
    for number in range(nstored):
        place = "/".join(str(number * 1000) for _ in shape)
        objects[f"c/{place}"] = bytes(int(np.prod(chunks)))
    store = CountingStore(objects)
    status, found, out = verify_store(store)
    nchunks = int(np.prod([-(-n // c) for n, c in zip(shape, chunks, strict=True)], dtype=object))
    assert (status, found["ok"]) == (0, True)
    assert (found["nchunks"], found["stored"]) == (nchunks, nstored)
    assert found["missing"] == nchunks - nstored
    assert f"{nstored} of them stored" in out
    assert store.rounds < 50  # both runs


def test_a_huge_array_of_shards(verify_store: Verify) -> None:
    values = np.ones(64, "u1")
    stored = store_v3(values, RegularGrid((64,)), sharding=[Sharding((4,), checksum=True)])
    document = json.loads(stored.values["zarr.json"])
    document["shape"] = [64 * 10**12]
    store = CountingStore({"zarr.json": encoded(document), "c/7": stored.values["c/0"]})
    status, found, _ = verify_store(store)
    assert (status, found["stored"], found["nchunks"]) == (0, 16, 16 * 10**12)
    assert store.rounds < 30


class Interrupted(Exception):  # noqa: N818  in the place of Ctrl-C
    pass


@pytest.mark.parametrize("listed", [True, False])
def test_ctrl_c_gives_the_table_so_far(
    gpuzarr: Run, monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    class Stopped(CountingStore if listed else Unlistable):  # type: ignore[misc]
        asked = 0

        def start_reads(self, keys: Any, offsets: Any, nbytes: Any) -> Any:
            self.asked += any(key.startswith("b/c") for key in keys)
            if self.asked > 40:
                raise KeyboardInterrupt
            return super().start_reads(keys, offsets, nbytes)

    monkeypatch.setattr(verify, "AT_ONCE", 1)
    first = store_v3(np.ones(4, "u1"), RegularGrid((1,)), path="a").values
    first["a/c/1"] = b""
    second = store_v3(np.ones(1000, "u1"), RegularGrid((1,)), path="b").values
    second["b/c/0"] = b""
    members = {path: json.loads(values[f"{path}/zarr.json"])
               for path, values in (("a", first), ("b", second))}  # fmt: skip
    inline = {"kind": "inline", "must_understand": False, "metadata": members}
    group = {"zarr_format": 3, "node_type": "group", "consolidated_metadata": inline}
    objects = {"zarr.json": encoded(group), **first, **second}
    for arguments in ([], ["--json"]):
        store = Stopped(objects)
        monkeypatch.setattr(verify, "open_node", lambda _, store=store: package.open(store))
        status, out, err = gpuzarr("verify", "x", *arguments)
        assert status == 130
        assert "interrupted" in err
        if not arguments:
            assert "bad  /a" in out
            assert "bad  /b: 1 of 1000 chunks" in out
            assert "what was found so far" in out
            continue
        found = json.loads(out)
        assert (found["interrupted"], found["ok"], found["bad_chunks"]) == (True, False, 2)
        nodes = {node["path"]: node for node in found["nodes"]}
        assert nodes["a"]["complete"]
        assert not nodes["b"]["complete"]
        assert 0 < nodes["b"]["stored"] < 100


def test_very_many_keys_take_no_memory(verify_store: Verify) -> None:
    document = encoded(v3_metadata((10**9,), (1,), data_type="uint8", codecs=[{"name": "bytes"}]))
    count = 20_000

    class Lazy(Store):
        name = "lazy"

        def read(
            self, key: str, offset: int = 0, nbytes: int = -1, allocate: Any = bytearray
        ) -> Blob | None:
            del allocate
            return Blob(cut(document, key, offset, nbytes)) if key == "zarr.json" else None

        def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
            if not prefix:
                yield "zarr.json", False
                yield from ((f"stray of a long enough name {n}", False) for n in range(count))

    tracemalloc.start()
    try:
        status, found, _ = verify_store(Lazy(), "--most", "10")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (status, found["stray_keys"], len(found["nodes"][0]["notes"])) == (0, count, 10)
    assert peak < 2 << 20
