"""Directories: special files, failures of the file system, writers beside us."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.errors import MemoryLimitError, StoreError
from gpuzarr.stores import files, local
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.store import WHOLE, Store, at_most

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "array" / "c").mkdir(parents=True)
    (root / "array" / "c" / "0").write_bytes(b"inside")
    return root


def read(store: Store, key: str) -> bytes | None:
    blob = store.read(key)
    return None if blob is None else bytes(blob.data)


@pytest.mark.parametrize("follow_symlinks", [False, True])
def test_pipes_sockets_and_devices_are_refused_at_once(
    root: Path, *, follow_symlinks: bool
) -> None:
    os.mkfifo(root / "pipe")
    (root / "to-pipe").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket"))  # the name of a socket must be short
        store = LocalStore(root, follow_symlinks=follow_symlinks)
        for key in ["pipe", "to-pipe", "socket"]:
            with pytest.raises(StoreError, match="not a regular file"):
                store.read(key)
            assert store.path_of(key) is None
    with pytest.raises(StoreError, match="not a regular file"):
        LocalStore("/dev").read("null")


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EACCES, "give this user the right"),
        (errno.EPERM, "give this user the right"),
        (errno.EMFILE, "ulimit"),
        (errno.EIO, "file system failed"),
        (errno.ESTALE, "file system failed"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EBUSY, "busy"),
    ],
)
def test_what_the_system_refuses_names_the_file_and_a_way_out(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    store = LocalStore(root)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(code))
        with pytest.raises(StoreError) as caught:
            store.read("array/c/0")
    assert str(root / "array" / "c" / "0") in str(caught.value)
    assert advice in str(caught.value).lower()
    assert (caught.value.store, caught.value.key) == (str(root), "array/c/0")
    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", failing(code))
        with pytest.raises(StoreError, match=advice if code != errno.EBUSY else "busy"):
            LocalStore(root).read("array/c/0")
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing(code))
        with pytest.raises(StoreError, match="cannot list"):
            list(store.list("array"))
    assert read(store, "array/c/0") == b"inside"


def test_a_read_that_fails_half_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_read_once", failing(errno.EIO))
    with pytest.raises(StoreError, match=r"cannot read .*array/c/0"):
        LocalStore(root).read("array/c/0")


def test_permissions_hold_for_users_who_are_not_root() -> None:
    """In a process that gives up root's rights, where this one has them."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RIGHTS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == "refused\n", done.stderr


WITHOUT_RIGHTS = """
import os, shutil, tempfile
from gpuzarr.errors import StoreError
from gpuzarr.stores.local import LocalStore

root = tempfile.mkdtemp()
if os.getuid() == 0:
    os.chown(root, 65534, 65534)
    os.setgid(65534)
    os.setuid(65534)
os.makedirs(root + "/closed/folder")
for key in ["file", "closed/0"]:
    open(f"{root}/{key}", "wb").close()
    os.chmod(f"{root}/{key}", 0)
os.chmod(root + "/closed", 0)
try:
    store = LocalStore(root)
    for ask in [lambda: store.read("file"), lambda: store.read("closed/0"),
                lambda: store.read("closed/folder/0"), lambda: list(store.list("closed"))]:
        try:
            ask()
        except StoreError as error:
            assert "permission denied" in str(error), error
            assert root in str(error), error
        else:
            raise AssertionError("not refused")
    assert store.read("closed") is None  # a folder is no object, whatever its rights
finally:
    os.chmod(root + "/closed", 0o700)
    shutil.rmtree(root)
print("refused")
"""


def test_a_root_that_went_away_is_no_empty_array(root: Path) -> None:
    store = LocalStore(root)
    assert read(store, "array/c/0") == b"inside"
    root.rename(root.parent / "elsewhere")
    for key in ["array/c/0", "array/c/1", "other/0"]:
        with pytest.raises(StoreError, match="cannot be reached"):
            store.read(key)
    with pytest.raises(StoreError, match="cannot be reached"):
        list(store.list())


def test_folders_that_come_and_go_are_seen(root: Path) -> None:
    store = LocalStore(root)
    assert read(store, "late/c/0") is None
    (root / "late" / "c").mkdir(parents=True)
    (root / "late" / "c" / "0").write_bytes(b"new")
    assert read(store, "late/c/0") == b"new"
    (root / "late" / "c" / "0").unlink()
    (root / "late" / "c").rmdir()
    assert read(store, "late/c/0") is None
    assert list(store.list("late/c")) == []


def test_validators_tell_when_a_file_changed(root: Path) -> None:
    store = LocalStore(root)
    before = store.read("array/c/0")
    os.utime(root / "array" / "c" / "0", ns=(1, 1))
    touched = store.read("array/c/0")
    assert before is not None
    assert touched is not None
    assert before.validator != touched.validator
    assert touched.validator == (1, 6)


def test_short_reads_are_continued(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "large").write_bytes(bytes(range(256)) * 4)
    plain = files._read_once  # noqa: SLF001

    def read_a_little(descriptor: int, memory: memoryview, offset: int) -> int:
        return plain(descriptor, memory[:7], offset)

    monkeypatch.setattr(files, "_read_once", read_a_little)
    assert read(LocalStore(root), "large") == bytes(range(256)) * 4
    blob = LocalStore(root).read("large", 250, 100)
    assert blob is not None
    assert bytes(blob.data) == (bytes(range(256)) * 2)[250:350]


def test_large_reads_are_split(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    plain = files._read_once  # noqa: SLF001

    def watch(descriptor: int, memory: memoryview, offset: int) -> int:
        asked.append(len(memory))
        return plain(descriptor, memory, offset)

    (root / "large").write_bytes(bytes(100))
    monkeypatch.setattr(files, "_CALL_LIMIT", 40)
    monkeypatch.setattr(files, "_read_once", watch)
    assert read(LocalStore(root), "large") == bytes(100)
    assert asked == [40, 40, 20]


def test_a_file_that_shrinks_while_it_is_read(root: Path) -> None:
    path = root / "array" / "c" / "0"
    path.write_bytes(bytes(10_000))

    def shrink(nbytes: int) -> bytearray:
        os.truncate(path, 5)
        return bytearray(nbytes)

    with pytest.raises(StoreError, match="became shorter"):
        LocalStore(root).read("array/c/0", 0, WHOLE, shrink)
    assert read(LocalStore(root), "array/c/0") == bytes(5)


def test_a_file_that_grows_is_read_as_it_was(root: Path) -> None:
    path = root / "array" / "c" / "0"

    def grow(nbytes: int) -> bytearray:
        with path.open("ab") as file:
            file.write(b"more")
        return bytearray(nbytes)

    blob = LocalStore(root).read("array/c/0", 0, WHOLE, grow)
    assert blob is not None
    assert bytes(blob.data) == b"inside"


def test_sizes_beyond_memory_are_refused_before_they_are_read(root: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 42)
    store = LocalStore(root)
    with pytest.raises(StoreError, match="no more than 1000 are expected"):
        store.read("sparse", 0, WHOLE, at_most(1000, "sparse"))

    def no_memory(nbytes: int) -> bytearray:
        raise MemoryError(nbytes)

    with pytest.raises(MemoryLimitError, match=str(1 << 42)) as caught:
        store.read("sparse", 0, WHOLE, no_memory)
    assert caught.value.key == "sparse"
    blob = store.read("sparse", -3, 3)
    assert blob is not None
    assert bytes(blob.data) == bytes(3)


def count_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_no_descriptor_is_left_open(root: Path) -> None:
    (root / "file").symlink_to(__file__)
    os.mkfifo(root / "pipe")
    store = LocalStore(root)
    before = count_descriptors()
    for key, offset in [("array/c/0", 0), ("array/c/0", 99), ("file", 0), ("pipe", 0), ("x", 0)]:
        with contextlib.suppress(StoreError):
            store.read(key, offset)
    next(store.list())
    with pytest.raises(ZeroDivisionError):
        store.read("array/c/0", 0, WHOLE, lambda nbytes: bytearray(nbytes // 0))
    assert count_descriptors() == before


def test_the_folders_remembered_are_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_MOST_FOLDERS", 10)
    store = LocalStore(root)
    for number in range(100):
        (root / str(number)).mkdir()
        (root / str(number) / "x").write_bytes(b"%d" % number)
        assert read(store, f"{number}/x") == b"%d" % number
        assert len(store._folders) <= 10  # noqa: SLF001
    assert read(store, "array/c/0") == b"inside"


def test_relative_roots_survive_a_change_of_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    store = LocalStore("root/")
    monkeypatch.chdir("/")
    assert read(store, "array/c/0") == b"inside"
    assert store.name == str(root)
    assert repr(store) == f"LocalStore({str(root)!r})"
    assert repr(LocalStore(root, follow_symlinks=True)).endswith("follow_symlinks=True)")


def test_the_root_directory_of_the_system() -> None:
    store = LocalStore("/")
    path = Path(__file__).resolve()
    assert read(store, str(path)[1:]) == path.read_bytes()


def test_names_that_are_no_keys_are_not_listed(root: Path) -> None:
    (root / "back\\slash").write_bytes(b"")
    (root / os.fsdecode(b"\xff")).write_bytes(b"odd")
    store = LocalStore(root)
    assert set(store.list()) == {("array", True), ("\udcff", False)}
    assert read(store, "\udcff") == b"odd"


def test_a_pickle_keeps_what_was_chosen(root: Path) -> None:
    store = LocalStore(root, follow_symlinks=True)
    store.read("array/c/0")
    again = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert again.follow_symlinks
    assert again.root == root


def test_many_threads_meet_new_folders_at_once(root: Path) -> None:
    for number in range(50):
        (root / f"n{number}" / "deep").mkdir(parents=True)
        (root / f"n{number}" / "deep" / "0").write_bytes(b"%d" % number)
    store, start = LocalStore(root), threading.Barrier(8)
    wrong: list[int] = []

    def work() -> None:
        start.wait()
        wrong.extend(n for n in range(50) if read(store, f"n{n}/deep/0") != b"%d" % n)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
