"""Stores on the network, and those of other packages, against the contract of all stores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores.resolve import open_store
from tests.stores.contract import StoreContract

from .loopback import FileServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpuzarr.stores.store import Store

    from .s3 import S3Server

    Make = Callable[[dict[str, bytes]], Store]

pytest.importorskip("obstore")


class TestHttp(StoreContract):
    """A server below a folder of which the store lies."""

    lists = False
    forks = False  # test_processes.py says what happens

    @pytest.fixture
    def make(self) -> Iterator[Make]:
        servers: list[FileServer] = []

        def make(objects: dict[str, bytes]) -> Store:
            server = FileServer({f"some folder/s.zarr/{key}": v for key, v in objects.items()})
            servers.append(server)
            return open_store(f"{server.url}/some%20folder/s.zarr")[0]

        yield make
        for server in servers:
            server.close()


class TestS3(StoreContract):
    forks = False

    @pytest.fixture
    def make(self, s3: S3Server) -> Make:
        return s3.store


class TestObstoresMemory(StoreContract):
    forks = False
    pickles = False

    @pytest.fixture
    def make(self) -> Make:
        stores = pytest.importorskip("obstore.store")

        def make(objects: dict[str, bytes]) -> Store:
            store = stores.MemoryStore()
            for key, value in objects.items():
                store.put(key, value)
            return open_store(store)[0]

        return make


class TestZarrPythonsMemory(StoreContract):
    @pytest.fixture
    def make(self) -> Make:
        zarr = pytest.importorskip("zarr")

        def make(objects: dict[str, bytes]) -> Store:
            buffer = zarr.core.buffer.default_buffer_prototype().buffer
            values = {key: buffer.from_bytes(value) for key, value in objects.items()}
            return open_store(zarr.storage.MemoryStore(values))[0]

        return make


class TestFsspecsLocalFiles(StoreContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        fsspec = pytest.importorskip("fsspec")

        def make(objects: dict[str, bytes]) -> Store:
            for key, value in objects.items():
                (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / key).write_bytes(value)
            return open_store(fsspec.get_mapper(tmp_path.as_uri()))[0]

        return make


class TestFsspecsMemory(StoreContract):
    @pytest.fixture
    def make(self, request: pytest.FixtureRequest) -> Make:
        fsspec = pytest.importorskip("fsspec")

        def make(objects: dict[str, bytes]) -> Store:
            fs = fsspec.filesystem("memory")
            root = f"/{request.node.name}"
            for key, value in objects.items():
                fs.pipe_file(f"{root}/{key}", value)
            return open_store(fs.get_mapper(root))[0]

        return make


def test_arrays_are_read_through_them(s3: S3Server) -> None:
    """The same array by URL, by obstore, fsspec and zarr-python."""
    zarr = pytest.importorskip("zarr")
    values: dict[str, Any] = {}
    expected = np.arange(2000, dtype="i4").reshape(40, 50)
    zarr.create_array(zarr.storage.MemoryStore(values), data=expected, chunks=(7, 9), name="a/b")
    objects = {key: value.to_bytes() for key, value in values.items()}
    assert json.loads(objects["a/b/zarr.json"])["shape"] == [40, 50]
    url = s3.put(objects)
    for opened, path in (
        (gpuzarr.open_array(f"{url}/a/b", storage_options=s3.options), ""),
        (gpuzarr.open_array(url, path="a/b", storage_options=s3.options), "a/b"),
        (gpuzarr.open_array(s3.obstore(url), path="a/b"), "a/b"),
        (gpuzarr.open_array(zarr.storage.ObjectStore(s3.obstore(url)), path="a/b"), "a/b"),
        (gpuzarr.open_array(zarr.open_array(zarr.storage.MemoryStore(values), path="a/b")), "a/b"),
    ):
        assert opened.path == path
        np.testing.assert_array_equal(opened[...], expected)
        np.testing.assert_array_equal(opened[3:31, ::7], expected[3:31, ::7])
