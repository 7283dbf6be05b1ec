"""The path of a folder without links, by what the system knows of it or folder by folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.stores import files
from gpuzarr.stores.files import real_folder
from gpuzarr.stores.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "key").write_bytes(b"data")
    (tmp_path / "b (deleted)").mkdir()
    (tmp_path / "a" / "new\nline \udcff").mkdir()
    (tmp_path / "to a").symlink_to("a")
    (tmp_path / "to b").symlink_to(tmp_path / "to a" / "b")
    (tmp_path / "to nothing").symlink_to("c")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "file").write_bytes(b"")
    return tmp_path


PLACES = [
    "a/b",
    "to a/b",
    "to b",
    "b (deleted)",
    "a/new\nline \udcff",
    "to a/new\nline \udcff",
    "to nothing",
    "round",
    "missing/b",
    "file",
    "null\0",
]


@pytest.mark.parametrize("name", PLACES)
def test_it_is_that_of_the_library(folder: Path, name: str) -> None:
    path = str(folder / name)
    try:
        expected = os.path.realpath(path)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            real_folder(path)
    else:
        assert real_folder(path) == expected
    assert real_folder("/") == "/"


def test_no_folder_is_looked_at_where_the_system_tells(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not files._PLACE_OF_FOLDER:  # noqa: SLF001
        pytest.skip("this system has no such handles")
    expected = os.path.realpath(folder / "a" / "b")
    calls: list[str] = []
    lstat = os.lstat

    def counted(path: Any) -> os.stat_result:
        calls.append(path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", counted)
    assert real_folder(str(folder / "to b")) == expected
    assert not calls


def fail(*_: Any) -> str:
    raise OSError(2, "there is no /proc")


@pytest.mark.parametrize(
    "answer",
    [fail, lambda _: "(unreachable)/a/b", lambda _: "/a/b (deleted)"],
    ids=["none", "outside", "deleted"],
)
def test_what_the_system_says_otherwise_is_not_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., str]
) -> None:
    path = str(folder / "to b")
    expected = os.path.realpath(path)
    opened: list[int] = []
    closed: list[int] = []
    open_, close, readlink = os.open, os.close, os.readlink

    def noting(*arguments: Any) -> int:
        opened.append(open_(*arguments))
        return opened[-1]

    def asked(path: Any) -> str:
        return answer(path) if str(path).startswith("/proc") else readlink(path)

    def closing(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    monkeypatch.setattr(os, "open", noting)
    monkeypatch.setattr(os, "close", closing)
    monkeypatch.setattr(os, "readlink", asked)
    assert real_folder(path) == expected
    assert opened == closed


def test_a_system_without_such_handles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PLACE_OF_FOLDER", 0)
    assert real_folder(str(folder / "to b")) == os.path.realpath(folder / "a" / "b")


def test_a_store_whose_root_is_switched_stays_where_it_was(folder: Path) -> None:
    link = folder / "to b"
    store = LocalStore(link)
    link.unlink()
    link.symlink_to(folder / "a")
    blob = store.read("key")
    assert blob is not None
    assert bytes(blob.data) == b"data"
    assert LocalStore(link).read("key") is None
