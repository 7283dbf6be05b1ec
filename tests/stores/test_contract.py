"""Every store of ours against the contract, also on systems that lack some calls."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest

from gpuzarr.stores import files, local
from gpuzarr.stores.decoded import DecodedObjects
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.resolve import open_store
from gpuzarr.stores.store import WHOLE, Blob, Store, check_key, cut, iter_children
from gpuzarr.stores.zip.store import ZipStore

from .contract import StoreContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpuzarr.stores.store import Buffer

    Make = Callable[[dict[str, bytes]], Store]


def write_files(root: Path, objects: dict[str, bytes]) -> Path:
    root.mkdir(exist_ok=True)
    for key, value in objects.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(value)
    return root


def write_zip(path: Path, objects: dict[str, bytes], method: int) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for key, value in objects.items():
            archive.writestr(key, value)
    return path


class TestLocalStore(StoreContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda objects: LocalStore(write_files(tmp_path / "s", objects))


class TestLocalStoreThatFollowsLinks(StoreContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda objects: LocalStore(
            write_files(tmp_path / "s", objects), follow_symlinks=True
        )


class TestLocalStoreWithoutVectoredReads(StoreContract):
    """As on an old macOS."""

    @pytest.fixture
    def make(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
        monkeypatch.setattr(files, "_read_once", files.read_copied)
        return lambda objects: LocalStore(write_files(tmp_path / "s", objects))


class TestLocalStoreOnWindows(StoreContract):
    """Without positioned reads and O_NOFOLLOW."""

    forks = False

    @pytest.fixture
    def make(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
        monkeypatch.setattr(files, "_read_once", files.read_positioned)
        monkeypatch.setattr(local, "_NOFOLLOW", 0)
        monkeypatch.setattr(local, "_SHARED_STREAMS", True)
        return lambda objects: LocalStore(write_files(tmp_path / "s", objects))


class TestMappingStore(StoreContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda objects: MappingStore(dict(objects))


class TestStoredZipStore(StoreContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda objects: ZipStore(write_zip(tmp_path / "s.zip", objects, zipfile.ZIP_STORED))


class TestStoredZipStoreOnWindows(StoreContract):
    forks = False

    @pytest.fixture
    def make(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
        monkeypatch.setattr(files, "_read_once", files.read_positioned)
        return lambda objects: ZipStore(write_zip(tmp_path / "s.zip", objects, zipfile.ZIP_STORED))


class TestCompressedZipStore(StoreContract):
    @pytest.fixture(params=[zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def make(self, request: pytest.FixtureRequest, tmp_path: Path) -> Make:
        return lambda objects: ZipStore(write_zip(tmp_path / "s.zip", objects, request.param))


class TestCompressedZipStoreWithoutCache(StoreContract):
    @pytest.fixture(params=[zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def make(self, request: pytest.FixtureRequest, tmp_path: Path) -> Make:
        def make(objects: dict[str, bytes]) -> Store:
            path = write_zip(tmp_path / "s.zip", objects, request.param)
            return ZipStore(path, cache_nbytes=0)

        return make


def decompress(data: memoryview, key: str) -> bytes:
    del key
    return zlib.decompress(data)


class TestDecodedObjects(StoreContract):
    @pytest.fixture(params=[1 << 20, 1000, 0])
    def make(self, request: pytest.FixtureRequest) -> Make:
        def make(objects: dict[str, bytes]) -> Store:
            encoded = {key: zlib.compress(value, 1) for key, value in objects.items()}
            return DecodedObjects(MappingStore(encoded), decompress, request.param)

        return make


class DictStore(Store):
    """The example in the protocol's documentation, with the keys checked."""

    name = "dict"

    def __init__(self, values: dict[str, bytes]) -> None:
        self.values = values

    def __repr__(self) -> str:
        return "DictStore()"

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        del allocate
        value = self.values.get(check_key(key))
        return None if value is None else Blob(cut(value, key, offset, nbytes))

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        return iter_children(self.values, check_key(prefix) if prefix else "")


class TestDocumentedExample(StoreContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda objects: DictStore(dict(objects))


class OnlyRead:
    """An object of somebody else's, which has never heard of gpuzarr."""

    def __init__(self, values: dict[str, bytes]) -> None:
        self._store = MappingStore(values)

    def __repr__(self) -> str:
        return "OnlyRead()"

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        return self._store.read(key, offset, nbytes, allocate)


class TestForeignStore(StoreContract):
    lists = False

    @pytest.fixture
    def make(self) -> Make:
        return lambda objects: open_store(OnlyRead(dict(objects)))[0]
