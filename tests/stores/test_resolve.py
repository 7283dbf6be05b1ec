"""What users call a store, and what they are told when it is none."""

from __future__ import annotations

import os
import sys
import warnings
import zipfile
from collections import ChainMap
from importlib.metadata import EntryPoint
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from gpuzarr.errors import NotFoundError, StoreError, UnsupportedError
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.resolve import open_store
from gpuzarr.stores.zip.store import ZipStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my data.zarr"
    folder.mkdir()
    (folder / "zarr.json").write_bytes(b"{}")
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "data.zarr.zip"
    with zipfile.ZipFile(path, "w") as writer:
        writer.writestr("zarr.json", b"{}")
    return path


def test_paths_of_directories(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for path in [folder, str(folder), f"{folder}/", os.fsencode(folder), "my data.zarr", "./x/.."]:
        if path == "./x/..":
            monkeypatch.chdir(folder)
        store, inside = open_store(path)
        assert isinstance(store, LocalStore)
        assert store.root == folder
        assert inside == ""
        assert store.read("zarr.json") is not None


def test_links_are_followed_by_choice(folder: Path) -> None:
    (folder.parent / "outside").write_bytes(b"x")
    (folder / "link").symlink_to("../outside")
    with pytest.raises(StoreError):
        open_store(folder)[0].read("link")
    assert open_store(folder, follow_symlinks=True)[0].read("link") is not None


def test_zip_files(archive: Path) -> None:
    plain = archive.with_name("DATA.ZIP")
    nameless = archive.with_name("data.zarr")
    for path in [archive, plain, nameless, f"{archive}/", archive.as_uri()]:
        if isinstance(path, Path):
            path.write_bytes(archive.read_bytes())
        store, inside = open_store(path)
        assert isinstance(store, ZipStore)
        assert inside == ""
        assert store.read("zarr.json") is not None


def test_file_urls(folder: Path) -> None:
    assert " " in str(folder)
    for url in [folder.as_uri(), folder.as_uri() + "/", f"file://localhost{folder}", "x"]:
        store, _ = open_store(url if url != "x" else f"FILE://{folder}")
        assert isinstance(store, LocalStore)
        assert store.root == folder
    odd = folder.parent / "50%25 #1?\u00e4"
    odd.mkdir()
    assert open_store(odd.as_uri())[0].name == str(odd)
    for url in ["file://server/share", "file://", "file://relative"]:
        with pytest.raises(UnsupportedError, match="a path on this machine"):
            open_store(url)


def test_mappings() -> None:
    values = {"zarr.json": b"{}"}
    for mapping in (values, MappingProxyType(values), ChainMap(values)):
        store, inside = open_store(mapping)
        assert isinstance(store, MappingStore)
        assert inside == ""
        assert store.read("zarr.json") is not None


def test_stores_are_taken_as_they_are(folder: Path) -> None:
    store = LocalStore(folder)
    assert open_store(store) == (store, "")


def test_a_missing_path_names_what_is_near(folder: Path) -> None:
    parent = folder.parent
    with pytest.raises(NotFoundError) as caught:
        open_store(parent / "my date.zarr")
    assert str(parent / "my date.zarr") in str(caught.value)
    assert "did you mean 'my data.zarr'?" in str(caught.value)
    with pytest.raises(NotFoundError) as caught:
        open_store(parent / "my dat.zarr" / "group" / "array")
    assert f"{parent / 'my dat.zarr'} is missing already" in str(caught.value)
    assert "did you mean 'my data.zarr'?" in str(caught.value)
    with pytest.raises(NotFoundError, match="there is no") as caught:
        open_store(folder / "zarr.json" / "below")
    with pytest.raises(FileNotFoundError) as plain:
        open_store(parent / "q")
    assert "did you mean" not in str(plain.value)


def test_relative_paths_are_named_in_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(NotFoundError, match=str(folder.parent / "nowhere")):
        open_store("nowhere")
    with pytest.raises(NotFoundError, match="is not expanded"):
        open_store("~/nowhere")
    with pytest.raises(NotFoundError, match="empty"):
        open_store("")
    Path("gone").symlink_to("target")
    with pytest.raises(NotFoundError, match=r"is a link to .*target, which does not exist"):
        open_store("gone")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("zarr.json", "open the directory that it is in"),
        (".zgroup", "open the directory that it is in"),
        ("reference.parquet", "kerchunk.*are folders"),
        ("data.nc", "a directory or a .zip file"),
    ],
)
def test_files_that_are_no_stores(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(UnsupportedError, match=advice):
        open_store(tmp_path / name)


def test_things_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"no zip at all")
    with pytest.raises(StoreError, match="not a zip archive"):
        open_store(tmp_path / "bad.zip")
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(StoreError, match="neither a directory nor a regular file"):
        open_store(tmp_path / "pipe.zip")
    for name in ["nul\0", "x" * 300, "\ud800"]:
        with pytest.raises(StoreError, match="cannot open"):
            open_store(name)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(StoreError, match="circle"):
        open_store(tmp_path / "circle")


@pytest.mark.parametrize("thing", [None, 7, object(), ["a"], b"".join, Path])
def test_other_objects(thing: object) -> None:
    with pytest.raises(UnsupportedError, match="is not a store"):
        open_store(thing)


def test_an_open_file_is_no_store(archive: Path) -> None:
    with archive.open("rb") as file, pytest.raises(UnsupportedError, match="is not a store"):
        open_store(file)


REMOTE = ["http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "memory", "S3"]


@pytest.mark.parametrize("scheme", REMOTE)
def test_urls_need_a_package(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UnsupportedError, match=r"pip install gpuzarr\[remote\]") as caught:
        open_store(f"{scheme}://user:secret@bucket/data.zarr?sig=secret")
    assert caught.value.store == f"{scheme}://bucket/data.zarr"


def test_unknown_schemes_say_what_is_known() -> None:
    with pytest.raises(
        UnsupportedError, match=r"no installed package opens ftp://.*file.*s3.*fsspec"
    ):
        open_store("ftp://host/data.zarr")


def test_options_without_a_url(folder: Path) -> None:
    stores: list[object] = [folder, folder.as_uri(), {}]
    for store in stores:
        with pytest.raises(UnsupportedError, match="storage_options"):
            open_store(store, storage_options={"anon": True})
        open_store(store, storage_options={})


def open_test_url(url: str, storage_options: Any) -> MappingStore:
    return MappingStore({"options": repr(storage_options).encode()}, name=url)


def test_packages_announce_their_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def entry_points(*, group: str, name: str) -> list[EntryPoint]:
        asked.append((group, name))
        value = {"test": f"{__name__}:open_test_url", "broken": "no_such_module:open"}.get(name)
        return [EntryPoint(name, value, group)] if value else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    store, inside = open_store("TEST://host/path", storage_options={"a": 1})
    blob = store.read("options")
    assert (store.name, inside) == ("TEST://host/path", "")
    assert blob is not None
    assert bytes(blob.data) == b"{'a': 1}"
    with pytest.raises(UnsupportedError, match="no_such_module"):
        open_store("broken://x")
    assert asked == [("gpuzarr.stores", "test"), ("gpuzarr.stores", "broken")]


def test_zarr_pythons_stores(folder: Path, archive: Path) -> None:
    zarr = pytest.importorskip("zarr")
    storage = zarr.storage
    local, _ = open_store(storage.LocalStore(folder))
    assert isinstance(local, LocalStore)
    assert local.root == folder
    writer = storage.ZipStore(archive)
    packed, _ = open_store(writer)
    assert isinstance(packed, ZipStore)
    assert packed.path == archive
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(folder.parent / "new.zarr", mode="w")
        array = group.create_array("a/b", shape=3, dtype="i4")
    store, inside = open_store(array)
    assert (store.name, inside) == (str(folder.parent / "new.zarr"), "a/b")
    assert store.read(f"{inside}/zarr.json") is not None
    assert open_store(group)[1] == ""


def test_reference_files(tmp_path: Path) -> None:
    (tmp_path / "refs.json").write_text('{"zarr.json": "{}", "c/0": ["data.nc", 0, 4]}')
    (tmp_path / "data.nc").write_bytes(b"data")
    path = tmp_path / "refs.json"
    for store in (path, str(path), path.as_uri(), str(path).encode()):
        opened, inside = open_store(store)
        blob = opened.read("c/0")
        assert blob is not None
        assert (bytes(blob.data), inside) == (b"data", "")
    allowed = {"allowed_targets": [str(tmp_path / "other")]}
    with pytest.raises(StoreError, match="allowed_targets"):
        open_store(path, storage_options=allowed)[0].read("c/0")
    (tmp_path / "folder.json").mkdir()
    assert isinstance(open_store(tmp_path / "folder.json")[0], LocalStore)
