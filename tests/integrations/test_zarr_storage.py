"""zarr-python's stores of every kind: each is read by gpuzarr, through what gives its bytes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import UserDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.storage import (
    FsspecStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    ObjectStore,
    WrapperStore,
    ZipStore,
)

import gpuzarr
from gpuzarr.integrations.zarr import GpuzarrCodecPipeline
from gpuzarr.stores.remote.foreign import ForeignStore
from gpuzarr.stores.remote.objects import ObjectStore as OurObjectStore
from gpuzarr.stores.resolve import open_store
from tests.integrations.zarr_arrays import assert_same, create, filled, read_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

fsspec: Any = pytest.importorskip("fsspec")
obstore: Any = pytest.importorskip("obstore")
AsyncFileSystem: Any = pytest.importorskip("fsspec.asyn").AsyncFileSystem
CacheStore: Any = pytest.importorskip("zarr.experimental.cache_store").CacheStore
asyn_wrapper: Any = pytest.importorskip("fsspec.implementations.asyn_wrapper")

LIMIT_S = 60
"""What a deadlock takes to be one."""


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with read_by(GpuzarrCodecPipeline):
        yield


class OneLoop(AsyncFileSystem):  # type: ignore[misc]
    """Files in memory, of the event loop that they were first asked for in, as connections are."""

    protocol = "one-loop"
    cachable = False

    def __init__(self) -> None:
        super().__init__(asynchronous=True)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, int | None, int | None]] = []
        self.loop_of_all: Any = None

    async def _cat_file(self, path: str, start: Any = None, end: Any = None, **more: Any) -> bytes:
        del more
        loop = asyncio.get_running_loop()
        if self.loop_of_all not in {None, loop}:
            raise RuntimeError("attached to a different loop")
        self.loop_of_all = loop
        await asyncio.sleep(0)
        self.asked.append((path, start, end))
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path][start:end]

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite") -> None:
        del mode
        self.files[path] = value

    async def _info(self, path: str, **more: Any) -> dict[str, Any]:
        del more
        if path not in self.files:
            raise FileNotFoundError(path)
        return {"name": path, "type": "file", "size": len(self.files[path])}


class Subclass(MemoryStore):
    """A store that may give other bytes than are in its dict."""


class Asked(WrapperStore[Any]):
    """Remembers what it was asked for; `fail` is raised instead of an answer."""

    fail: Exception | None = None

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.gets: list[tuple[str, Any]] = []
        self.under_way = self.most_at_once = 0

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self.gets.append((key, byte_range))
        if self.fail is not None:
            raise self.fail
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        for _ in range(50):  # so many turns of the loop are enough for others to begin
            await asyncio.sleep(0)
        self.under_way -= 1
        return await self._store.get(key, prototype, byte_range)

    def taken(self) -> list[str]:
        """Keys of the chunks and shards that were asked for since the last call."""
        keys = [key for key, _ in self.gets if not key.endswith("zarr.json")]
        self.gets.clear()
        self.most_at_once = 0
        return keys


def synchronous_files() -> Any:
    """As `FsspecStore.from_url` makes it: each call takes a thread of the loop's executor."""
    files = fsspec.filesystem("file", auto_mkdir=True, skip_instance_cache=True)
    return asyn_wrapper.AsyncFileSystemWrapper(files, asynchronous=True)


STORES: dict[str, Callable[[Path], Any]] = {
    "asynchronous files": lambda _: FsspecStore(OneLoop(), path="data"),
    "synchronous files": lambda folder: FsspecStore(synchronous_files(), path=str(folder)),
    "objects in memory": lambda _: ObjectStore(obstore.store.MemoryStore()),
    "objects in files": lambda folder: ObjectStore(obstore.store.LocalStore(folder)),
    "logging": lambda _: LoggingStore(MemoryStore(), log_level="ERROR"),
    "logging files": lambda folder: LoggingStore(LocalStore(folder), log_level="ERROR"),
    "logging asynchronous files": lambda _: LoggingStore(
        FsspecStore(OneLoop(), path="data"), log_level="ERROR"
    ),
    "wrapped twice": lambda folder: Asked(Asked(LocalStore(folder))),
    "cached": lambda folder: CacheStore(store=LocalStore(folder), cache_store=MemoryStore()),
    "subclass": lambda _: Subclass(),
    "another mapping": lambda _: MemoryStore(UserDict()),
    "archive that is written": lambda folder: ZipStore(folder / "array.zip", mode="w"),
}

SELECTIONS: tuple[tuple[str, Any], ...] = (
    ("basic", (slice(3, 14), slice(1, 9))),
    ("basic", (slice(None, None, 3), 5)),
    ("oindex", ([9, 3, 3], [1, 8])),
    ("vindex", ([9, 3, 16], [1, 8, 0])),
)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["sharded", "v2"])
@pytest.mark.parametrize("store", STORES)
def test_every_store_is_read_as_zarr_reads_it(store: str, kind: str, tmp_path: Path) -> None:
    array, own = filled(kind, STORES[store](tmp_path))
    for of, key in SELECTIONS:
        place, expected = (a if of == "basic" else getattr(a, of) for a in (array, own))
        assert_same(place[key], expected[key])
    assert_same(array[...], own[...])
    array[4:9, 2:] = 1
    assert_same(array[...], own[...])


def test_object_storage_is_asked_without_zarr(tmp_path: Path) -> None:
    objects = ObjectStore(obstore.store.LocalStore(tmp_path))
    array, own = filled("sharded", objects)
    reader = array.async_array.codec_pipeline.reader
    assert_same(array[...], own[...])
    assert type(reader._direct.store) is OurObjectStore  # noqa: SLF001


@pytest.mark.parametrize(
    ("kind", "requests", "together"),
    [("edges", 3 * 3, 9), ("sharded", 2 * 2, 2)],
    ids=["chunks", "shards"],
)
def test_requests_are_few_and_together(kind: str, requests: int, together: int) -> None:
    """A chunk takes one; a shard one for its index, and one for its chunks side by side."""
    store = Asked(MemoryStore())
    array, _ = create(kind, store)
    array[...] = 1
    store.taken()
    array[0:11, :12]
    assert store.most_at_once == together
    assert len(store.taken()) == requests
    if kind == "edges":
        array.oindex[[1, 7], 3]
        assert sorted(store.taken()) == ["c/0/0", "c/1/0"]


def test_what_others_write_to_shards_is_seen() -> None:
    """No store of this kind tells versions of a shard apart, so its index is read each time."""
    array, own = create(
        "plain", Asked(MemoryStore()), shape=(8,), chunks=(4,), shards=(8,), fill_value=0
    )
    for values in ([1, 2, 3, 4, 0, 0, 0, 0], [0, 0, 0, 0, 5, 6, 7, 8], [1, 2, 3, 4, 0, 0, 0, 0]):
        with read_by(BatchedCodecPipeline):
            own[...] = values
        assert array[...].tolist() == values


def test_a_store_is_awaited_in_the_loop_that_asks() -> None:
    files = OneLoop()
    array, own = filled("sharded", FsspecStore(files, path="data"))
    expected = own[...]

    async def read() -> list[Any]:
        rows = [array.async_array.getitem((row, slice(None))) for row in range(17)]
        return await asyncio.gather(*rows)

    for _ in range(2):
        files.loop_of_all = None
        np.testing.assert_array_equal(asyncio.run(read()), expected)
    files.loop_of_all = None
    assert_same(array[3], expected[3])


def test_gpuzarr_itself_awaits_zarrs_stores_in_zarrs_loop() -> None:
    files = OneLoop()
    logging: Any = LoggingStore(FsspecStore(files, path="data"), log_level="ERROR")
    array, own = filled("sharded", logging)
    assert_same(array[...], own[...])
    opened = gpuzarr.open_array(logging)
    assert isinstance(opened.store, ForeignStore)
    np.testing.assert_array_equal(opened[...], own[...])


def test_failures_of_a_store_are_told() -> None:
    store = Asked(MemoryStore())
    array, _ = filled("edges", store)
    store.fail = PermissionError("not yours")
    with pytest.raises(gpuzarr.GpuzarrError, match="not yours"):
        array[...]
    store.fail = None
    assert array[16, 22] == 16 * 23 + 22


WITHOUT_DEADLOCK = """
import asyncio, sys
import numpy as np, zarr
from zarr.storage import LocalStore, WrapperStore

zarr.config.set({
    "codec_pipeline.path": "gpuzarr.integrations.zarr.GpuzarrCodecPipeline",
    "codec_pipeline.strict": True,
    "threading.max_workers": 1,  # which the store needs
})
store = WrapperStore(LocalStore(sys.argv[1]))
values = np.arange(480).reshape(60, 8)
array = zarr.create_array(store, data=values, chunks=(5, 4), shards=(10, 8))
assert (array[...] == values).all()

async def read():
    rows = [array.async_array.getitem((row % 60, slice(None))) for row in range(100)]
    return await asyncio.gather(*rows)

assert (np.array(asyncio.run(read())) == values[np.arange(100) % 60]).all()
assert (array[7] == values[7]).all()
print("done")
"""


def test_nothing_waits_for_what_waits_for_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_DEADLOCK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.stdout.strip(), done.stderr) == ("done", "")


def test_icechunks_store(tmp_path: Path) -> None:
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    session = repository.writable_session("main")
    filled("sharded", session.store)
    session.commit("data")
    store = repository.readonly_session("main").store
    array = zarr.open_array(store, mode="r")
    with read_by(BatchedCodecPipeline):
        own = zarr.open_array(store, mode="r")
    assert_same(array[3:14, 1:9], own[3:14, 1:9])
    found, path = open_store(store)
    np.testing.assert_array_equal(gpuzarr.open_array(found, path=path)[...], own[...])
