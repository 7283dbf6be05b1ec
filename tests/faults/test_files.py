"""Files that change while they are read, and calls of the system that fail."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores import files, uring
from tests.faults.cases import FILL, LAYOUTS, VALUES, WAYS, engine, objects
from tests.faults.programs import check_program, write_files, write_zip
from tests.faults.test_store_faults import attempt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="made of Linux's calls")

NAMES = ["cpu, threads", "few", "cuda"]
SOME_WAYS = [WAYS[name] for name in ("[...]", "[part]", "oindex", "read_batch", "Loader", "await")]
SOME = [LAYOUTS[name] for name in ("plain", "zstd", "blosc", "plain shards", "zstd shards")]
ERRORS = [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM, errno.EPERM]


class Calls:
    """Calls of the system on one file, of which some go wrong."""

    def __init__(self, patch: pytest.MonkeyPatch, path: Path) -> None:
        """Watch all calls on `path`."""
        self.path = str(path)
        self.broken: dict[str, int] = {}
        """What each call gives instead: an error number, or with "short" bytes at most."""
        self.before: Callable[[], None] | None = None
        """Called once, after the file is opened and its size is known, before it is read."""
        self._descriptors: set[int] = set()
        self._open, self._fstat = os.open, os.fstat
        self._preadv, self._close = os.preadv, os.close
        patch.setattr(uring, "LEAST_FILES", 1 << 30)  # whose calls nobody can watch
        for name in ("open", "fstat", "preadv", "close"):
            patch.setattr(os, name, getattr(self, name))

    def open(self, path: Any, *arguments: Any, **more: Any) -> int:
        """`os.open`."""
        if os.fspath(path) == self.path:
            self._fail("open")
        descriptor = self._open(path, *arguments, **more)
        if os.fspath(path) == self.path:
            self._descriptors.add(descriptor)
        return descriptor

    def fstat(self, descriptor: int) -> os.stat_result:
        """`os.fstat`."""
        if descriptor in self._descriptors:
            self._fail("fstat")
        return self._fstat(descriptor)

    def preadv(self, descriptor: int, buffers: Any, offset: int, flags: int = 0) -> int:
        """`os.preadv`."""
        if descriptor in self._descriptors:
            self._fail("preadv")
            before, self.before = self.before, None
            if before is not None:
                before()
            if "short" in self.broken:
                buffers = [memoryview(buffers[0])[: self.broken["short"]]]
        return self._preadv(descriptor, buffers, offset, flags)

    def close(self, descriptor: int) -> None:
        """`os.close`."""
        self._descriptors.discard(descriptor)
        self._close(descriptor)

    def _fail(self, call: str) -> None:
        if call in self.broken:
            raise OSError(self.broken[call], os.strerror(self.broken[call]), self.path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("call", ["open", "fstat", "preadv"])
def test_a_call_that_fails_is_a_store_error_that_names_the_file(
    name: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(name) as opened:
        for number, layout in enumerate(SOME):
            root = tmp_path / layout.name
            values = layout.stored()
            write_files(root, values)
            key = objects(values)[1]
            array = opened(root)
            np.testing.assert_array_equal(np.asarray(array[...]), VALUES)
            with monkeypatch.context() as patch:
                calls = Calls(patch, root / key)
                for place, code in enumerate(ERRORS):
                    way = SOME_WAYS[(number + place) % len(SOME_WAYS)]
                    again = array if place else opened(root)
                    calls.broken = {call: code}
                    error = attempt(partial(way, again))
                    assert isinstance(error, gpuzarr.StoreError), repr(error)
                    assert (error.key, error.store) == (key, str(root))
                    assert str(root / key) in str(error)
                    calls.broken = {}
                    np.testing.assert_array_equal(way(array), way.of(VALUES))


@pytest.mark.parametrize("name", NAMES)
def test_a_system_that_gives_few_bytes_at_a_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files._read_once is files.read_vectored  # noqa: SLF001  or nothing is tested here
    with engine(name) as opened:
        for layout in SOME:
            root = tmp_path / layout.name
            values = layout.stored()
            write_files(root, values)
            with monkeypatch.context() as patch:
                calls = Calls(patch, root / objects(values)[0])
                for short in (1, 7):
                    calls.broken = {"short": short}
                    np.testing.assert_array_equal(np.asarray(opened(root)[...]), VALUES)


def _truncate(path: Path) -> None:
    os.truncate(path, 5)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _no_more(path: Path) -> None:
    path.unlink()


def _another(path: Path) -> None:
    """A file of other content, of which nobody saw the beginning, takes its place."""
    new = path.with_name("new")
    new.write_bytes(bytes(byte ^ 0x5A for byte in path.read_bytes()))
    new.replace(path)


CHANGES: list[Callable[[Path], None]] = [
    _truncate,
    _empty,
    _grow,
    _folder,
    _pipe,
    _no_more,
    _another,
]
SHORTER = {_truncate, _empty}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_file_that_changes_between_two_calls(
    name: str,
    change: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Right data, or an error that names it: never a crash, never data that nobody wrote."""
    with engine(name) as opened:
        for number, layout in enumerate(SOME):
            values = layout.stored()
            key = objects(values)[-1]
            way = SOME_WAYS[(number + CHANGES.index(change)) % len(SOME_WAYS)]
            hole = VALUES.copy()
            hole[layout.box(key)] = FILL
            for known in (False, True):
                root = tmp_path / f"{layout.name} {known}"
                write_files(root, values)
                array = opened(root)
                if known:
                    array[...]
                with monkeypatch.context() as patch:
                    calls = Calls(patch, root / key)
                    calls.before = lambda path=root / key: change(path)
                    found = attempt(partial(way, array))
                if isinstance(found, BaseException):
                    assert isinstance(found, (gpuzarr.StoreError, gpuzarr.ChunkError)), repr(found)
                    assert repr(key) in str(found)
                else:
                    assert change not in SHORTER
                    right = [way.of(VALUES)]
                    if change is not _grow:
                        right.append(way.of(hole))
                    if change is not _another or layout.checked:
                        assert any(np.array_equal(found, one) for one in right)
                shutil.rmtree(root)
                write_files(root, values)
                np.testing.assert_array_equal(way(array), way.of(VALUES))


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_that_changes(name: str, tmp_path: Path) -> None:
    with engine(name) as opened:
        for layout in SOME:
            values = layout.stored()
            path = tmp_path / "archive.zip"
            for change in (_truncate, _no_more, _another, _folder):
                write_zip(path, values)
                array = opened(path)
                if change is _truncate:
                    opened(path)[0]
                change(path)
                found = attempt(partial(array.read, ...))
                if change is _truncate:
                    assert isinstance(found, gpuzarr.StoreError), repr(found)
                    assert "became shorter" in str(found)
                    assert found.store == str(path)
                else:
                    np.testing.assert_array_equal(np.asarray(found), VALUES)
                if path.is_dir():
                    path.rmdir()


def test_files_that_shrink_kill_nobody(tmp_path: Path) -> None:
    """Where memory is mapped to a file, reading behind its end is the end of the process."""
    root, archive = tmp_path / "files", tmp_path / "archive.zip"
    code = """
use_many_threads()
big = np.arange(1 << 20, dtype="i4").reshape(1024, 1024)
from tests.stored import RegularGrid, Sharding, store_v3
values = store_v3(big, RegularGrid((512, 1024)), sharding=[Sharding((128, 512))]).values
write_files(sys.argv[1], values)
write_zip(sys.argv[2], values)
paths = [f"{sys.argv[1]}/c/0/0", f"{sys.argv[1]}/c/1/0", sys.argv[2]]
whole = [open(path, "rb").read() for path in paths]
arrays = [gpuzarr.open_array(store, threads=4) for store in sys.argv[1:]]
stop = threading.Event()
def shrink():
    while not stop.is_set():
        for path, data in zip(paths, whole):
            os.truncate(path, len(data) // 3)
            with open(path, "r+b") as file:
                file.write(data)
writer = threading.Thread(target=shrink)
writer.start()
outcomes = set()
for attempt in range(40):
    for array in arrays:
        try:
            found = array[attempt:900]
        except (gpuzarr.StoreError, gpuzarr.ChunkError) as error:
            outcomes.add(type(error).__name__)
        else:
            outcomes.add("data")
            assert (found == big[attempt:900]).all()
stop.set()
writer.join()
assert len(outcomes) > 1, outcomes
for array in arrays:
    assert (array[...] == big).all()
print("done")
"""
    check_program(code, root, archive)
