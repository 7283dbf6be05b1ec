"""`gpuzarr verify`: indexes of shards that point to wrong places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gpuzarr.metadata.model import RegularGrid
from tests.stored import Sharding, every, store_v3, with_crc32c
from tests.stores.counting import CountingStore

from .test_verify_stores import verify_store  # noqa: F401  a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    Verify = Callable[..., tuple[int, dict[str, Any], str]]

NCHUNKS = 8
"""Of four bytes each, in a shard."""

INDEX_NBYTES = 16 * NCHUNKS


@pytest.fixture(params=["start", "end"])
def index_at(request: pytest.FixtureRequest) -> str:
    at: str = request.param
    return at


def shard_array(index_at: str, **options: Any) -> dict[str, bytes]:
    """Two shards of eight chunks of four bytes."""
    values = np.arange(64, dtype="u1")
    sharding = [Sharding((4,), index_at, **options)]
    return store_v3(values, RegularGrid((32,)), sharding=sharding).values


def change_index(shard: bytes, index_at: str, change: Callable[[Any], None]) -> bytes:
    """The shard with another index."""
    index_place = slice(0, INDEX_NBYTES) if index_at == "start" else slice(-INDEX_NBYTES, None)
    index = np.frombuffer(shard[index_place], "<u8").reshape(-1, 2).copy()
    change(index)
    body = shard[INDEX_NBYTES:] if index_at == "start" else shard[:-INDEX_NBYTES]
    return index.tobytes() + body if index_at == "start" else body + index.tobytes()


def failures(found: dict[str, Any]) -> dict[tuple[int, ...], str]:
    return {
        tuple(failure["coords"]): f"{failure['step']}: {failure['cause']}"
        for failure in found["nodes"][0]["failures"]
    }


def test_gaps_are_legal_and_counted(index_at: str, verify_store: Verify) -> None:  # noqa: F811
    objects = shard_array(index_at, skip=every(4))
    status, found, out = verify_store(CountingStore(objects))
    assert (status, found["missing"], found["stored"]) == (0, 4, 12)
    assert found["nodes"][0]["unused_nbytes"] == 12  # one in front of each chunk
    assert "12 B in shards unused" in out
    if index_at == "start":
        objects["c/1"] += bytes(100)  # legal as well: no entry covers it
        assert verify_store(CountingStore(objects))[1]["nodes"][0]["unused_nbytes"] == 112


def test_entries_that_overlap(index_at: str, verify_store: Verify) -> None:  # noqa: F811
    objects = shard_array(index_at)

    def change(index: Any) -> None:
        index[3, 0] = index[5, 0] + 2
        index[6, 1] = 4

    objects["c/1"] = change_index(objects["c/1"], index_at, change)
    status, found, out = verify_store(CountingStore(objects))
    assert status == 1
    assert set(failures(found)) >= {(8 + 3,), (8 + 5,)}
    assert set(failures(found)) <= {(8 + 3,), (8 + 5,), (8 + 4,)}
    assert all(text.startswith("check the shard index") for text in failures(found).values())
    assert "overlap" in out


def test_a_chunk_with_two_problems_is_one(index_at: str, verify_store: Verify) -> None:  # noqa: F811
    values = np.arange(64, dtype="u1")
    sharding = [Sharding((4,), index_at)]
    objects = store_v3(values, RegularGrid((32,)), sharding=sharding, gzip=True).values

    def change(index: Any) -> None:
        index[3, 0] -= 2  # into the chunk before it, and no gzip stream any more

    objects["c/0"] = change_index(objects["c/0"], index_at, change)
    status, found, _ = verify_store(CountingStore(objects))
    assert (status, found["bad_chunks"], set(failures(found))) == (1, 2, {(3,), (4,)})


def test_entries_that_are_equal_are_told(index_at: str, verify_store: Verify) -> None:  # noqa: F811
    objects = shard_array(index_at)

    def change(index: Any) -> None:
        index[3] = index[5]

    objects["c/0"] = change_index(objects["c/0"], index_at, change)
    status, found, out = verify_store(CountingStore(objects))
    assert (status, found["nodes"][0]["shared_chunks"]) == (0, 1)
    assert "1 with the bytes of another" in out


def test_an_entry_that_runs_into_the_index(index_at: str, verify_store: Verify) -> None:  # noqa: F811
    objects = shard_array(index_at)
    size = len(objects["c/0"])

    def change(index: Any) -> None:
        index[2, 0] = INDEX_NBYTES - 1 if index_at == "start" else size - INDEX_NBYTES - 2

    objects["c/0"] = change_index(objects["c/0"], index_at, change)
    status, found, _ = verify_store(CountingStore(objects))
    assert status == 1
    assert "run into the index" in failures(found)[2,]


def test_sizes_that_are_wrong(index_at: str, verify_store: Verify) -> None:  # noqa: F811
    whole = shard_array(index_at, checksum=True)
    for shard in (whole["c/1"][:-5], whole["c/1"][:20], b"", b"\x00" * 4):
        status, found, _ = verify_store(CountingStore(whole | {"c/1": shard}))
        assert status == 1
        assert all(coords[0] >= 8 for coords in failures(found))
        assert found["stored"] == 16  # what cannot be told is not called missing
    if index_at == "end":
        status, found, _ = verify_store(CountingStore(whole | {"c/1": whole["c/1"] + b"more"}))
        assert (status, len(failures(found))) == (1, 8)


def test_shards_in_shards(verify_store: Verify) -> None:  # noqa: F811
    """The index of an inner shard points two of its chunks to overlapping bytes."""
    values = np.arange(64, dtype="u1")
    sharding = [Sharding((16,), "start"), Sharding((4,), "start")]
    objects = store_v3(values, RegularGrid((64,)), sharding=sharding).values
    status, found, _ = verify_store(CountingStore(objects))
    assert (status, found["stored"], found["nchunks"]) == (0, 16, 16)
    shard = bytearray(objects["c/0"])
    outer = np.frombuffer(shard[:64], "<u8").reshape(4, 2)
    begin = int(outer[2, 0])
    inner = np.frombuffer(shard[begin : begin + 64], "<u8").reshape(4, 2).copy()
    inner[1, 0] = inner[0, 0] - 2
    shard[begin : begin + 64] = inner.tobytes()
    objects["c/0"] = bytes(shard)
    status, found, _ = verify_store(CountingStore(objects))
    assert status == 1
    assert set(failures(found)) == {(8,), (9,)}
    # Outer shards that overlap are named by their first chunk.
    outer = outer.copy()
    outer[1, 0] = outer[0, 0] - 3
    objects["c/0"] = outer.tobytes() + bytes(shard[64:])
    status, found, _ = verify_store(CountingStore(objects))
    assert status == 1
    assert {(0,), (4,)} <= set(failures(found))


def test_an_index_is_read_once(verify_store: Verify) -> None:  # noqa: F811
    store = CountingStore(shard_array("end", checksum=True))
    store.take()
    verify_store(store)
    requests, _ = store.take()
    size = -(INDEX_NBYTES + 4)
    # By each of the two runs.
    assert [key for key, offset, _ in requests if offset == size] == ["c/0", "c/1"] * 2
    assert with_crc32c(b"")
