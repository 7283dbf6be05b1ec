"""A cache of encoded ranges, in memory and in a folder."""

from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import StoreError, UnsupportedError
from gpuzarr.stores.cached.memory import OVERHEAD_NBYTES
from gpuzarr.stores.cached.store import CachedStore
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.store import WHOLE, Blob, Store
from tests.stores.contract import LARGE, OBJECTS
from tests.stores.counting import CountingStore
from tests.stores.test_contract import write_files

if TYPE_CHECKING:
    from pathlib import Path


MIB = 1 << 20


class Cache:
    """Makes caches of one kind in front of one store."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.far = CountingStore(dict(OBJECTS))

    def make(self, nbytes: int = MIB, **options: Any) -> CachedStore:
        return CachedStore(self.far, nbytes, self.folder, **options)

    def room(self, *sizes: int) -> int:
        """Bytes that are used by ranges of such sizes."""
        extra = OVERHEAD_NBYTES if self.folder is None else 400
        return sum(sizes) + extra * len(sizes)


@pytest.fixture(params=["memory", "folder"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache" if request.param == "folder" else None)


def read(store: Store, key: str, offset: int = 0, nbytes: int = WHOLE) -> bytes | None:
    blob = store.read(key, offset, nbytes)
    return None if blob is None else bytes(blob.data)


def start(store: Store, *wanted: tuple[str, int, int]) -> list[bytes | None]:
    keys, offsets, sizes = zip(*wanted, strict=True)
    pending = store.start_reads(keys, offsets, sizes)
    blobs = [pending.result(row) for row in range(len(wanted))]
    return [None if blob is None else bytes(blob.data) for blob in blobs]


def test_what_was_read_is_not_asked_for_again(cache: Cache) -> None:
    store, value = cache.make(), OBJECTS[LARGE]
    assert read(store, LARGE, 1000, 5000) == value[1000:6000]
    assert len(cache.far.take()[0]) == 1
    for offset, nbytes in [(1000, 5000), (1000, 1), (5999, 1), (2000, 0), (3000, 1000)]:
        assert read(store, LARGE, offset, nbytes) == value[offset : offset + nbytes]
        assert start(store, (LARGE, offset, nbytes)) == [value[offset : offset + nbytes]]
    assert cache.far.take() == ([], 0)
    assert read(store, LARGE, 6000, 100) == value[6000:6100]
    assert len(cache.far.take()[0]) == 1
    assert read(store, LARGE, 5990, 100) == value[5990:6090]  # in two that were read
    assert cache.far.take() == ([], 0)
    for offset, nbytes in [(999, 2), (6099, 2), (0, WHOLE)]:
        stop = len(value) if nbytes == WHOLE else offset + nbytes
        assert read(store, LARGE, offset, nbytes) == value[offset:stop]
        assert len(cache.far.take()[0]) == 1
    # The whole object holds everything, however it is asked for.
    for offset, nbytes in [(-16, WHOLE), (-16, 4), (0, WHOLE), (7, WHOLE), (-(10**9), 3)]:
        start_at = offset if offset >= 0 else max(0, len(value) + offset)
        stop = len(value) if nbytes == WHOLE else start_at + nbytes
        assert read(store, LARGE, offset, nbytes) == value[start_at:stop]
    assert store.size(LARGE) == len(value)
    assert cache.far.take() == ([], 0)
    assert cache.far.others == []


def test_only_what_is_not_kept_is_started(cache: Cache) -> None:
    store, value = cache.make(), OBJECTS[LARGE]
    read(store, LARGE, 0, 100)
    cache.far.take()
    wanted = [(LARGE, 0, 50), (LARGE, 200, 10), ("missing", 0, WHOLE), (LARGE, 90, 10)]
    assert start(store, *wanted) == [value[:50], value[200:210], None, value[90:100]]
    requests, rounds = cache.far.take()
    assert (requests, rounds) == ([(LARGE, 200, 10), ("missing", 0, WHOLE)], 1)
    assert start(store, *wanted[:2], *wanted[3:]) == [value[:50], value[200:210], value[90:100]]
    assert cache.far.take() == ([], 0)


@pytest.mark.parametrize("tells_sizes", [True, False])
def test_ends_of_objects(cache: Cache, *, tells_sizes: bool) -> None:
    """As shard indexes are read."""
    cache.far.tells_sizes = tells_sizes
    store, value = cache.make(), OBJECTS[LARGE]
    for _ in range(2):
        assert read(store, LARGE, -100) == value[-100:]
        assert read(store, LARGE, -50, 20) == value[-50:-30]
    assert len(cache.far.take()[0]) == 1
    assert read(store, LARGE, -101, 2) == value[-101:-99]
    assert len(cache.far.take()[0]) == 1


def test_missing_objects_are_asked_for_again(cache: Cache) -> None:
    store = cache.make()
    assert read(store, "late") is None
    assert start(store, ("late", 0, WHOLE)) == [None]
    cache.far.put("late", b"value")
    assert read(store, "late") == b"value"
    assert read(store, "late") == b"value"
    assert len(cache.far.take()[0]) == 3


def test_documents_are_always_read(cache: Cache) -> None:
    for documents in (False, True):
        store = cache.make(documents=documents)
        for key in ("zarr.json", "group/zarr.json", "group.other/.zarray"):
            cache.far.take()
            assert read(store, key) == OBJECTS[key]
            assert start(store, (key, 0, WHOLE)) == [OBJECTS[key]]
            assert len(cache.far.take()[0]) == (1 if documents else 2)


def test_listings_are_always_made(cache: Cache) -> None:
    store = cache.make()
    assert ("late", False) not in store.list("group")
    cache.far.put("group/late", b"")
    assert ("late", False) in store.list("group")


def test_another_version_drops_the_old_one(cache: Cache) -> None:
    store = cache.make()
    read(store, LARGE, 0, 1000)
    read(store, LARGE, 2000, 1000)
    other = OBJECTS[LARGE][::-1]
    cache.far.put(LARGE, other)
    assert read(store, LARGE, 0, 10) == OBJECTS[LARGE][:10]  # documented: nobody asked
    assert read(store, LARGE, 5000, 10) == other[5000:5010]
    assert read(store, LARGE, 0, 10) == other[:10]
    assert read(store, LARGE, 2000, 10) == other[2000:2010]
    blob = store.read(LARGE, 2000, 10)
    assert blob is not None
    assert (blob.validator, blob.size) == ("v1", len(other))


def test_a_size_that_changed_is_another_version(cache: Cache) -> None:
    store = cache.make()
    read(store, "group/array/c/0/0", 0, 100)
    cache.far.objects["group/array/c/0/0"] = b"shorter" * 50  # and no other validator
    assert read(store, "group/array/c/0/0", 200, 10) == (b"shorter" * 50)[200:210]
    assert read(store, "group/array/c/0/0", 0, 7) == b"shorter"
    cache.far.take()
    assert read(store, "group/array/c/0/0", 0, 7) == b"shorter"
    assert read(store, "group/array/c/0/0", 202, 5) == (b"shorter" * 50)[202:207]
    assert cache.far.take()[0] == []


def test_clear(cache: Cache) -> None:
    store = cache.make()
    read(store, LARGE, 0, 1000)
    cache.far.put(LARGE, bytes(1000))
    store.clear(LARGE)
    assert read(store, LARGE, 0, 1000) == bytes(1000)


def test_revalidate(cache: Cache) -> None:
    store, value = cache.make(revalidate=True), OBJECTS[LARGE]
    wanted = ((LARGE, 0, 100), (LARGE, 10, 10), (LARGE, 300, 10))
    expected = [value[offset : offset + nbytes] for _, offset, nbytes in wanted]
    assert start(store, *wanted) == expected
    cache.far.take()
    assert start(store, *wanted) == expected
    assert cache.far.take() == ([(LARGE, 0, 0)], 1)
    assert read(store, LARGE, 0, 100) == value[:100]
    assert cache.far.take()[0] == [(LARGE, 0, 0)]
    cache.far.put(LARGE, value[::-1])
    assert start(store, *wanted) == [
        value[::-1][offset : offset + nbytes] for _, offset, nbytes in wanted
    ]
    assert read(store, LARGE, 0, 100) == value[::-1][:100]
    del cache.far.objects[LARGE]
    assert start(store, *wanted) == [None, None, None]
    assert read(store, LARGE, 0, 100) is None


def test_revalidate_without_validators(tmp_path: Path) -> None:
    objects = dict(OBJECTS)

    class Plain(CountingStore):
        name = "plain"
        reads = 0

        def read(
            self, key: str, offset: int = 0, nbytes: int = WHOLE, allocate: Any = bytearray
        ) -> Blob | None:
            del allocate
            self.reads += 1
            blob = MappingStore(objects).read(key, offset, nbytes)
            return None if blob is None else blob._replace(validator=None)

    for folder in (None, tmp_path):
        inner = Plain({})
        objects[LARGE] = OBJECTS[LARGE]
        store = CachedStore(inner, MIB, folder, revalidate=True)
        assert read(store, LARGE, 0, 10) == OBJECTS[LARGE][:10]
        objects[LARGE] = OBJECTS[LARGE][::-1]
        assert read(store, LARGE, 0, 10) == objects[LARGE][:10]
        kept = CachedStore(inner, MIB, folder)
        before = inner.reads
        for _ in range(2):
            assert read(kept, "empty.not", 0, 10) is None
            assert read(kept, "group/array/c/0/0", 5, 10) == bytes(range(5, 15))
        assert inner.reads == before + 3


def test_the_least_recently_used_go_first(cache: Cache) -> None:
    store = cache.make(cache.room(1000, 1000, 1000))
    for offset in (0, 2000, 4000):
        read(store, LARGE, offset, 1000)
    read(store, LARGE, 0, 1000)  # used again
    cache.far.take()
    read(store, LARGE, 6000, 1000)
    assert len(cache.far.take()[0]) == 1
    read(store, LARGE, 0, 1000)
    read(store, LARGE, 6000, 1000)
    assert cache.far.take()[0] == []
    read(store, LARGE, 2000, 1000)
    assert len(cache.far.take()[0]) == 1


def test_the_bound_holds(cache: Cache) -> None:
    store = cache.make(50_000)
    draw = np.random.default_rng(0)
    for _ in range(300):
        offset, nbytes = int(draw.integers(0, 200_000)), int(draw.integers(1, 20_000))
        value = read(store, LARGE, offset, nbytes)
        assert value == OBJECTS[LARGE][offset : offset + nbytes]
        assert 0 < store._kept.nbytes <= 50_000  # type: ignore[attr-defined]  # noqa: SLF001
    cache.far.take()
    read(store, LARGE, 0, 60_000)  # larger than all of it
    read(store, LARGE, 0, 60_000)
    assert len(cache.far.take()[0]) == 2


def test_errors_pass_and_nothing_is_kept_of_them(cache: Cache) -> None:
    store = cache.make()
    cache.far.fail = StoreError("the network is down")
    with pytest.raises(StoreError, match="the network is down"):
        read(store, LARGE)
    with pytest.raises(StoreError, match="the network is down"):
        start(store, (LARGE, 0, 10))
    cache.far.fail = None
    assert read(store, LARGE) == OBJECTS[LARGE]
    with pytest.raises(StoreError, match="were asked for"):
        read(store, LARGE, 10**9, 10)
    with pytest.raises(ValueError, match="negative"):
        cache.make(-1)


def test_the_callers_memory_is_not_kept(cache: Cache) -> None:
    store = cache.make()
    memory = bytearray(1000)
    blob = store.read(LARGE, 0, 1000, lambda nbytes: memoryview(memory)[:nbytes])
    assert blob is not None
    memory[:] = bytes(1000)  # as a reader does with its staging
    kept = store.read(LARGE, 0, 1000)
    assert kept is not None
    assert bytes(kept.data) == OBJECTS[LARGE][:1000]
    assert kept.data.readonly


def test_many_threads_fill_and_drop(cache: Cache) -> None:
    store = cache.make(100_000)

    def work(seed: int) -> bool:
        draw = np.random.default_rng(seed)
        for _ in range(30):
            offset, nbytes = int(draw.integers(0, 280_000)), int(draw.integers(1, 20_000))
            wanted = (LARGE, offset, nbytes)
            value = OBJECTS[LARGE][offset : offset + nbytes]
            if start(store, wanted, wanted) != [value, value] or read(store, *wanted) != value:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert store._kept.nbytes <= 100_000  # type: ignore[attr-defined]  # noqa: SLF001


def test_what_is_dropped_in_between_is_read(cache: Cache) -> None:
    store = cache.make()
    read(store, LARGE, 0, 100)
    pending = store.start_reads([LARGE], [0], [100])
    store.clear(LARGE)
    blob = pending.result(0)
    assert blob is not None
    assert bytes(blob.data) == OBJECTS[LARGE][:100]


def test_pickles(cache: Cache) -> None:
    store = cache.make(12_345, documents=True, revalidate=True, name="mine")
    read(store, LARGE, 0, 100)
    cache.far.take()
    again: CachedStore = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert (again.nbytes, again.folder, again.documents, again.revalidate) == (
        12_345,
        store.folder,
        True,
        True,
    )
    assert read(again, LARGE, 0, 100) == OBJECTS[LARGE][:100]
    asked = [nbytes for _, _, nbytes in again.store.take()[0]]  # type: ignore[attr-defined]
    assert asked == ([100] if cache.folder is None else [0])
    assert "12345 bytes" in repr(again)


def test_arrays(cache: Cache, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    values = np.arange(256 * 256, dtype="f4").reshape(256, 256)
    path = tmp_path / "array.zarr"
    array = zarr.create_array(
        path, shape=values.shape, shards=(128, 128), chunks=(32, 32), dtype="f4"
    )
    array[:] = values
    for file in path.rglob("*"):
        if file.is_file():
            cache.far.put(file.relative_to(path).as_posix(), file.read_bytes())
    opened = gpuzarr.open_array(cache.make())
    assert np.array_equal(opened[...], values)
    cache.far.take()
    assert np.array_equal(opened[...], values)
    assert np.array_equal(opened[10:40, ::-3], values[10:40, ::-3])
    assert cache.far.take()[0] == []
    opened = gpuzarr.open_array(opened.store)
    assert np.array_equal(opened[5], values[5])
    requests = cache.far.take()[0]
    assert [key for key, _, _ in requests] == ["zarr.json"]
    # A writer replaces a shard: the index that is kept belongs to the old one.
    array[:128, :128] = 7
    cache.far.put("c/0/0", (path / "c/0/0").read_bytes())
    fresh = cache.make()
    if cache.folder is not None:
        fresh.clear("c/0/0")
    assert np.array_equal(gpuzarr.open_array(fresh)[:128, :128], np.full((128, 128), 7))


def test_anything_that_can_be_opened(tmp_path: Path) -> None:
    write_files(tmp_path / "s", OBJECTS)
    for store in (str(tmp_path / "s"), tmp_path / "s", dict(OBJECTS), f"file://{tmp_path}/s"):
        assert read(CachedStore(store, 1000), LARGE, 5, 5) == OBJECTS[LARGE][5:10]
    with pytest.raises(UnsupportedError, match="storage_options"):
        CachedStore(tmp_path / "s", 1000, storage_options={"anon": True})


def test_a_node_of_zarr_python(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    root = zarr.create_group(tmp_path / "s.zarr")
    root.create_array("a", shape=(4,), chunks=(2,), dtype="u1")[:] = 5
    store = CachedStore(root["a"], MIB, tmp_path / "cache")
    assert sorted(store.list()) == [("c", True), ("zarr.json", False)]
    again = pickle.loads(pickle.dumps(store))  # noqa: S301
    for opened in (store, again):
        assert gpuzarr.open_array(opened)[...].tolist() == [5, 5, 5, 5]
        assert opened.path_of("c/0") == tmp_path / "s.zarr" / "a" / "c" / "0"
        with pytest.raises(StoreError, match="not allowed"):
            opened.read("../zarr.json")


def test_a_forked_child_begins_with_an_empty_memory() -> None:
    far = CountingStore(dict(OBJECTS))
    store = CachedStore(far, MIB)
    read(store, LARGE, 0, 100)
    state = store._kept._state  # type: ignore[attr-defined]  # noqa: SLF001
    state.process = -1  # as in a child
    state.lock.acquire()  # by a thread that the child has not
    done = threading.Event()

    def work() -> None:
        assert read(store, LARGE, 0, 100) == OBJECTS[LARGE][:100]
        done.set()

    threading.Thread(target=work, daemon=True).start()
    assert done.wait(60)
    assert os.getpid() == store._kept._state.process  # type: ignore[attr-defined]  # noqa: SLF001
