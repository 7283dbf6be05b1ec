"""Stores of other packages: which is taken for what, and what they do wrong."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import StoreError, UnsupportedError
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.remote.daemon_threads import DaemonThreads
from gpuzarr.stores.remote.foreign import ForeignStore
from gpuzarr.stores.remote.objects import ObjectStore
from gpuzarr.stores.resolve import open_store
from tests.arrays import plain_store

if TYPE_CHECKING:
    from pathlib import Path

fsspec: Any = pytest.importorskip("fsspec")
zarr: Any = pytest.importorskip("zarr")
AsyncFileSystem: Any = pytest.importorskip("fsspec.asyn").AsyncFileSystem
MemoryStore: Any = zarr.storage.MemoryStore
WrapperStore: Any = zarr.storage.WrapperStore

VALUES = np.arange(40 * 40, dtype="i4").reshape(40, 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for key, value in plain_store(VALUES, (10, 10), path="a").items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(value)
    return tmp_path


def test_fsspecs_file_systems(folder: Path) -> None:
    local = fsspec.filesystem("file")
    below = fsspec.filesystem("dir", path=str(folder), fs=local)
    for store, path in (
        (local.get_mapper(str(folder)), "a"),
        (local, f"{folder}/a"),
        (below, "a"),
        (zarr.storage.FsspecStore.from_url(folder.as_uri()), "a"),
    ):
        array = gpuzarr.open_array(store, path=path)
        assert isinstance(array.store, ForeignStore)
        np.testing.assert_array_equal(array[3:33, 5], VALUES[3:33, 5])
        opened, _ = open_store(store)
        assert "secret" not in repr(opened)


def test_an_asynchronous_file_system_is_made_anew() -> None:
    """Its connections belong to an event loop that is not ours."""
    made: list[dict[str, Any]] = []

    class Remote(AsyncFileSystem):  # type: ignore[misc]
        cachable = False

        def __init__(self, token: str, **more: Any) -> None:
            super().__init__(**more)
            made.append({"token": token, **more})

        async def _cat_file(self, path: str, start: Any = None, end: Any = None) -> bytes:
            if path != "x/zarr.json":
                raise FileNotFoundError(path)
            return b"{}"[start:end]

    store, _ = open_store(zarr.storage.FsspecStore(Remote("t", asynchronous=True), path="x"))
    blob = store.read("zarr.json")
    assert blob is not None
    assert bytes(blob.data) == b"{}"
    assert [one.get("asynchronous", False) for one in made] == [True, False]
    assert {one["token"] for one in made} == {"t"}


def test_zarr_pythons_stores_by_what_they_are(folder: Path) -> None:
    stores = pytest.importorskip("obstore.store")
    memory = stores.MemoryStore()
    memory.put("zarr.json", b"{}")
    for store, kind in (
        (memory, ObjectStore),
        (zarr.storage.ObjectStore(memory), ObjectStore),
        (zarr.storage.LocalStore(folder), LocalStore),
        (MemoryStore(), ForeignStore),
        (zarr.storage.LoggingStore(MemoryStore(), log_level="ERROR"), ForeignStore),
    ):
        assert type(open_store(store)[0]) is kind


def test_another_packages_zarr_store() -> None:
    """As icechunk's: known by its base class alone."""

    class Theirs(WrapperStore):  # type: ignore[misc]
        async def exists(self, key: str) -> bool:
            if not key.endswith("zarr.json"):
                raise ValueError(f"{key!r} is no key of Zarr's")
            return bool(await super().exists(key))

        def __str__(self) -> str:
            return object.__repr__(self)

    Theirs.__module__ = "theirs.store"
    values: dict[str, Any] = {}
    zarr.create_array(MemoryStore(values), data=VALUES, chunks=(9, 9), name="a")
    array = gpuzarr.open_array(Theirs(MemoryStore(values)), path="a")
    assert isinstance(array.store, ForeignStore)
    assert array.store.name == "<Theirs of theirs>"
    np.testing.assert_array_equal(array[...], VALUES)
    assert set(array.store.list("a")) == {("zarr.json", False), ("c", True)}


class Wrong(MemoryStore):  # type: ignore[misc]
    """Answers whatever it likes."""

    answer: Any = None

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        del key, byte_range
        if isinstance(self.answer, Exception):
            raise self.answer
        return prototype.buffer.from_bytes(self.answer)

    async def getsize(self, key: str) -> int:
        del key
        return 10


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"too much", "8 bytes came where 4 were asked for"),
        (b"few", "3 bytes came where 4 were asked for"),
        (RuntimeError("broken"), "cannot read it: RuntimeError: broken"),
        (PermissionError("no"), "access was refused"),
        (TimeoutError(), "did not answer in time"),
    ],
)
def test_wrong_answers_are_no_data(answer: Any, message: str) -> None:
    buffer = zarr.core.buffer.default_buffer_prototype().buffer
    theirs = Wrong({"k": buffer.from_bytes(b"0123456789")})
    theirs.answer = answer
    store, _ = open_store(theirs)
    for offset, nbytes in ((2, 4), (-4, -1)):
        with pytest.raises(StoreError, match=message) as caught:
            store.read("k", offset, nbytes)
        assert caught.value.key == "k"


def test_what_lists_nothing() -> None:
    class NoListing(MemoryStore):  # type: ignore[misc]
        supports_listing = False

    with pytest.raises(UnsupportedError, match="cannot list"):
        open_store(NoListing())[0].list()


def test_threads_are_as_many_as_there_is_work_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuzarr.stores.remote.daemon_threads.IDLE_S", 0.05)
    threads = DaemonThreads(3)
    seen: set[int] = set()
    together = threading.Barrier(3)

    def meet() -> None:
        seen.add(threading.get_ident())
        together.wait(30)

    for future in [threads.submit(meet) for _ in range(6)]:
        future.result(30)
    assert len(seen) == 3
    one = threads.submit(threading.current_thread).result(30)
    one.join(30)
    assert not one.is_alive()
    assert threads.submit(threading.current_thread).result(30) is not one
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(30)
