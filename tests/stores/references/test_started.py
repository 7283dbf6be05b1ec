"""Reads of other stores: started together, neighbours joined, failures told of their own keys."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import StoreError
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.references import started as references_started
from gpuzarr.stores.references import targets as references_targets
from gpuzarr.stores.references.store import ReferenceStore
from gpuzarr.stores.store import WHOLE, Blob, Store
from tests.arrays import plain_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuzarr.stores.store import Buffer, Pending

BODY = np.random.default_rng(0).bytes(1 << 16)


Rows = list[tuple[str, int, int]]


class Remote(Store):
    """A store that counts the requests that it starts, and those that are read otherwise."""

    name = "remote"
    gap_nbytes = 10

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._store = MappingStore(objects)
        self.started: Rows = []
        self.asked: Rows = []
        self.stopped: Any = []

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        self.asked.append((key, offset, nbytes))
        return self.copy(key, offset, nbytes, allocate)

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        rows = list(zip(keys, offsets, nbytes, strict=True))
        self.started += rows
        return Answers(self, rows)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        return self._store.list(prefix)

    def copy(
        self, key: str, offset: int, nbytes: int, allocate: Callable[[int], Buffer]
    ) -> Blob | None:
        blob = self._store.read(key, offset, nbytes)
        if blob is None:
            return None
        memory = memoryview(allocate(len(blob.data)))
        memory[:] = blob.data
        return Blob(memory, "etag", 1 << 16)


class Answers:
    """Gives each answer once."""

    def __init__(self, store: Remote, rows: Rows) -> None:
        self._store = store
        self._rows: list[tuple[str, int, int] | None] = list(rows)

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        self._store.stopped.append(stopped)

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        wanted = self._rows[row]
        assert wanted is not None
        self._rows[row] = None
        return self._store.copy(*wanted, allocate)


@pytest.fixture
def remotes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Remote]:
    """Stores by URL."""
    stores = {
        "s3://one": Remote({"a.nc": BODY, "b.nc": BODY[::-1]}),
        "s3://two": Remote({"a.nc": BODY}),
    }
    monkeypatch.setattr(references_targets, "open_url", lambda url, _: stores[url])
    return stores


def read_all(store: Store, refs: dict[str, Any]) -> dict[str, bytes]:
    keys = list(refs)
    pending = store.start_reads(keys, [0] * len(keys), [WHOLE] * len(keys))
    found = {}
    for row in reversed(range(len(keys))):
        blob = pending.result(row)
        assert blob is not None
        found[keys[row]] = bytes(blob.data)
    return found


def test_neighbours_in_an_object_are_one_request(remotes: dict[str, Remote]) -> None:
    refs: dict[str, Any] = {
        "5": ["s3://one/a.nc", 500, 100],
        "0": ["s3://one/a.nc", 0, 100],
        "1": ["s3://one/a.nc", 110, 90],  # 10 bytes behind it: joined
        "2": ["s3://one/a.nc", 211, 9],  # 11 bytes behind it: not
        "inside": ["s3://one/a.nc", 20, 5],
        "same": ["s3://one/a.nc", 0, 100],
        "b": ["s3://one/b.nc", 200, 5],
        "two": ["s3://two/a.nc", 200, 5],
        "whole": ["s3://one/b.nc"],
        "inline": "text",
    }
    store = ReferenceStore.from_document(refs)
    found = read_all(store, refs)
    for key, (url, *place) in ((k, v) for k, v in refs.items() if k != "inline"):
        body = BODY[::-1] if "b.nc" in url else BODY
        assert found[key] == (body[place[0] :][: place[1]] if place else body)
    assert found["inline"] == b"text"
    assert remotes["s3://one"].started == [
        ("a.nc", 0, 200),
        ("a.nc", 211, 9),
        ("a.nc", 500, 100),
        ("b.nc", 0, WHOLE),
        ("b.nc", 200, 5),
    ]
    assert remotes["s3://two"].started == [("a.nc", 200, 5)]
    assert not remotes["s3://one"].asked


def test_joined_requests_are_bounded(
    remotes: dict[str, Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references_started, "JOINED_NBYTES", 1000)
    refs: dict[str, Any] = {str(i): ["s3://one/a.nc", 400 * i, 400] for i in range(5)}
    refs["large"] = ["s3://one/a.nc", 2000, 5000]
    store = ReferenceStore.from_document(refs)
    found = read_all(store, refs)
    assert all(found[key] == BODY[begin : begin + n] for key, (_, begin, n) in refs.items())
    assert [nbytes for _, _, nbytes in remotes["s3://one"].started] == [800, 800, 400, 5000]


def test_ranges_inside_references(remotes: dict[str, Remote]) -> None:
    refs = {"k": ["s3://one/a.nc", 1000, 100]}
    store = ReferenceStore.from_document(refs)
    pending = store.start_reads(["k"] * 4, [0, 10, -5, 0], [5, WHOLE, 5, WHOLE])
    expected = [BODY[1000:1005], BODY[1010:1100], BODY[1095:1100], BODY[1000:1100]]
    for row, value in enumerate(expected):
        blob = pending.result(row)
        assert blob is not None
        assert (bytes(blob.data), blob.size, blob.validator) == (value, 100, "etag")
    assert remotes["s3://one"].started == [("a.nc", 1000, 100)]


def test_a_request_for_one_row_reads_into_the_callers_memory(remotes: dict[str, Remote]) -> None:
    store = ReferenceStore.from_document({"k": ["s3://one/a.nc", 7, 100]})
    memory = bytearray(100)
    asked: list[int] = []

    def allocate(nbytes: int) -> bytearray:
        asked.append(nbytes)
        return memory

    blob = store.start_reads(["k"], [0], [WHOLE]).result(0, allocate)
    assert blob is not None
    assert asked == [100]
    assert bytes(memory) == BODY[7:107]
    assert not remotes["s3://one"].asked


def test_a_damaged_reference_takes_no_other_with_it(remotes: dict[str, Remote]) -> None:
    end = len(BODY)
    refs: dict[str, Any] = {
        "good": ["s3://one/a.nc", end - 10, 10],
        "beyond": ["s3://one/a.nc", end - 5, 10],
        "bad": ["s3://one/a.nc", -5, 10],
        "gone": ["s3://one/c.nc", 0, 10],
        "empty": ["", 0, 10],
    }
    store = ReferenceStore.from_document(refs)
    keys = [*refs, "missing"]
    pending = store.start_reads(keys, [0] * len(keys), [WHOLE] * len(keys))
    for row, key in enumerate(keys):
        if key == "missing":
            assert pending.result(row) is None
        elif key == "good":
            blob = pending.result(row)
            assert blob is not None
            assert bytes(blob.data) == BODY[-10:]
        else:
            with pytest.raises(StoreError) as caught:
                pending.result(row)
            assert caught.value.key == key
    # The joined request is made once; each of its rows then once alone.
    one = remotes["s3://one"]
    assert one.started == [("a.nc", end - 10, 15), ("c.nc", 0, 10)]
    assert one.asked == [("a.nc", end - 10, 10), ("a.nc", end - 5, 10)]


def test_many_threads_share_a_request(remotes: dict[str, Remote]) -> None:
    refs = {str(i): ["s3://one/a.nc", 10 * i, 10] for i in range(1000)}
    store = ReferenceStore.from_document(refs)
    keys = list(refs)
    pending = store.start_reads(keys, [0] * 1000, [WHOLE] * 1000)
    start = threading.Barrier(8)

    def read(share: int) -> bool:
        start.wait()
        for row in range(share, 1000, 8):
            blob = pending.result(row)
            if blob is None or bytes(blob.data) != BODY[10 * row : 10 * row + 10]:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    assert remotes["s3://one"].started == [("a.nc", 0, 10_000)]


def test_who_stops_a_read_is_handed_on(remotes: dict[str, Remote]) -> None:
    store = ReferenceStore.from_document(
        {"1": ["s3://one/a.nc"], "2": ["s3://two/a.nc"], "3": "inline"}
    )
    pending: Any = store.start_reads(["1", "2", "3"], [0] * 3, [WHOLE] * 3)
    pending.stop_when(bool)
    assert [remote.stopped for remote in remotes.values()] == [[bool], [bool]]


def test_an_array_whose_chunks_lie_side_by_side_is_one_request(remotes: dict[str, Remote]) -> None:
    values = np.arange(4096, dtype="i4").reshape(64, 64)
    chunks = plain_store(values, (8, 8))
    body, refs = b"", {}
    for key, value in chunks.items():
        if key == "zarr.json":
            refs[key] = value.decode()
        else:
            refs[key] = ["s3://one/a.nc", len(body), len(value)]  # type: ignore[assignment]
            body += value
    remotes["s3://one"] = Remote({"a.nc": body})
    array = gpuzarr.open_array(ReferenceStore.from_document(refs), device="cpu")
    np.testing.assert_array_equal(array[...], values)
    assert sum(nbytes for _, _, nbytes in remotes["s3://one"].started) == len(body)
    batches = len(remotes["s3://one"].started)
    assert batches < 64 / 4
    assert not remotes["s3://one"].asked
