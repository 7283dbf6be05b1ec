"""A cache in a folder: shared by processes, which may be killed, and on a disk that may fail."""

from __future__ import annotations

import errno
import logging
import os
import random
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from gpuzarr.errors import StoreError, UnsupportedError
from gpuzarr.stores.cached import folder as cached_folder
from gpuzarr.stores.cached import lock as cached_lock
from gpuzarr.stores.cached.file import BLOCK_NBYTES
from gpuzarr.stores.cached.folder import FolderRanges
from gpuzarr.stores.cached.store import CachedStore
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.store import WHOLE, Blob, Store
from tests.stores.counting import CountingStore

if TYPE_CHECKING:
    from pathlib import Path

VALUE = random.Random(0).randbytes(300_000)  # noqa: S311
KEY = "a/c/0"


@pytest.fixture
def far() -> CountingStore:
    return CountingStore({KEY: VALUE, "a/c/1": VALUE[::-1]})


def read(store: Store, offset: int = 0, nbytes: int = WHOLE, key: str = KEY) -> bytes | None:
    blob = store.read(key, offset, nbytes)
    return None if blob is None else bytes(blob.data)


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*_*")) if path.is_file()]


def used(folder: Path) -> int:
    """All bytes in the folder, whatever they are, but for the count of them."""
    return sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "lock"
    )


def counted(folder: Path) -> int:
    """What the count says."""
    return int.from_bytes((folder / "gpuzarr-cache" / "lock").read_bytes()[:8], "little")


def test_what_another_cache_has_kept_is_found(far: CountingStore, tmp_path: Path) -> None:
    read(CachedStore(far, 10**6, tmp_path), 1000, 100_000)
    read(CachedStore(far, 10**6, tmp_path), -50)
    far.take()
    store = CachedStore(far, 10**6, tmp_path)
    assert read(store, 70_000, 1000) == VALUE[70_000:71_000]
    assert read(store, -50) == VALUE[-50:]
    blob = store.read(KEY, 1000, 1)
    assert blob is not None
    assert (blob.validator, blob.size) == ("v0", len(VALUE))
    assert far.take()[0] == []


def test_stores_are_told_apart(far: CountingStore, tmp_path: Path) -> None:
    other = CountingStore({KEY: bytes(300_000)})
    other.name = "far://elsewhere"
    read(CachedStore(far, 10**6, tmp_path), 0, 1000)
    assert read(CachedStore(other, 10**6, tmp_path), 0, 1000) == bytes(1000)
    assert read(CachedStore(far, 10**6, tmp_path, name="mine"), 0, 1000) == VALUE[:1000]
    assert len(far.take()[0]) == 2
    with pytest.raises(UnsupportedError, match="name="):
        CachedStore({KEY: VALUE}, 10**6, tmp_path)
    with pytest.raises(UnsupportedError, match="name="):
        CachedStore(MappingStore({KEY: VALUE}), 10**6, tmp_path)
    assert CachedStore({KEY: VALUE}, 10**6, tmp_path, name="dict").name == "<dict in memory>"


def test_versions_that_mean_nothing_elsewhere_are_not_kept(tmp_path: Path) -> None:
    """The values of a dict are told apart by what they are, in this process."""
    store = CachedStore({KEY: VALUE}, 10**6, tmp_path, name="dict")
    assert read(store) == VALUE
    assert files(tmp_path) == []


@pytest.mark.parametrize("validator", ["etag", 17, None, (1, ("a", 2.5), b"\x00"), True])
def test_versions_come_back_as_they_were(validator: object, tmp_path: Path) -> None:
    ranges = FolderRanges(tmp_path, 10**6, "store")
    ranges.keep(KEY, 0, WHOLE, Blob(memoryview(VALUE), validator, len(VALUE)))
    blob = ranges.find(KEY, 5, 5)
    assert blob is not None
    assert blob.validator == validator
    assert type(blob.validator) is type(validator)


def test_what_another_process_kept_meanwhile_is_not_written_again(tmp_path: Path) -> None:
    mine, other = (FolderRanges(tmp_path, 10**6, "store") for _ in range(2))
    for ranges, start, stop in [(mine, 0, 1000), (other, 0, 1000), (other, 10, 500)]:
        ranges.keep(KEY, start, stop - start, Blob(memoryview(VALUE)[start:stop], "v", 10**6))
        (file,) = files(tmp_path)
        if ranges is mine:
            first = file.stat()
        assert (file.stat().st_ino, file.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert counted(tmp_path) == used(tmp_path)


def test_each_byte_of_a_file_is_checked(far: CountingStore, tmp_path: Path) -> None:
    far.objects[KEY] = VALUE[:40]
    for position in range(400):
        store = CachedStore(far, 10**6, tmp_path)
        read(store)
        far.take()
        (file,) = files(tmp_path)
        data = bytearray(file.read_bytes())
        if position >= len(data):
            break
        data[position] ^= 1 << position % 8
        file.write_bytes(data)
        assert read(store) == VALUE[:40]
        assert len(far.take()[0]) == 1  # it was not believed
        assert read(store) == VALUE[:40]
        assert far.take()[0] == []  # and kept anew
    else:
        pytest.fail("the file has more bytes than were looked at")


def test_cut_off_anywhere_and_grown(far: CountingStore, tmp_path: Path) -> None:
    far.objects[KEY] = VALUE[:40]
    store = CachedStore(far, 10**6, tmp_path)
    read(store)
    whole = files(tmp_path)[0].read_bytes()
    for data in [*(whole[:length] for length in range(0, len(whole), 3)), whole + b"x", b""]:
        files(tmp_path)[0].write_bytes(data)
        far.take()
        assert read(store) == VALUE[:40]
        assert len(far.take()[0]) == 1


def test_only_the_blocks_that_are_needed_are_read(far: CountingStore, tmp_path: Path) -> None:
    store = CachedStore(far, 10**6, tmp_path)
    read(store)
    far.take()
    (file,) = files(tmp_path)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # in the last block
    file.write_bytes(data)
    last = len(VALUE) // BLOCK_NBYTES * BLOCK_NBYTES
    assert read(store, 0, last) == VALUE[:last]
    assert read(store, BLOCK_NBYTES - 3, 6) == VALUE[BLOCK_NBYTES - 3 : BLOCK_NBYTES + 3]
    assert far.take()[0] == []
    assert read(store, last, 1) == VALUE[last : last + 1]
    assert len(far.take()[0]) == 1


def test_a_file_in_the_place_of_another_is_not_believed(far: CountingStore, tmp_path: Path) -> None:
    store = CachedStore(far, 10**6, tmp_path)
    read(store, 0, 1000)
    read(store, 0, 1000, "a/c/1")
    first, second = files(tmp_path)
    second.write_bytes(first.read_bytes())
    far.take()
    assert read(store, 0, 1000) == VALUE[:1000]
    assert read(store, 0, 1000, "a/c/1") == VALUE[::-1][:1000]
    assert len(far.take()[0]) == 1


def test_links_are_not_followed(far: CountingStore, tmp_path: Path) -> None:
    store = CachedStore(far, 10**6, tmp_path / "cache")
    read(store, 0, 1000)
    (file,) = files(tmp_path / "cache")
    file.rename(tmp_path / "moved")
    file.symlink_to(tmp_path / "moved")
    far.take()
    assert read(store, 0, 1000) == VALUE[:1000]
    assert len(far.take()[0]) == 1


def test_a_folder_of_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = CountingStore({})
    CachedStore(far, 1000, tmp_path)
    root = tmp_path / "gpuzarr-cache"
    assert root.stat().st_mode & 0o777 == 0o700
    root.chmod(0o770)
    with pytest.raises(StoreError, match="only this user"):
        CachedStore(far, 1000, tmp_path)
    root.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(StoreError, match="only this user"):
        CachedStore(far, 1000, tmp_path)
    monkeypatch.undo()
    root.rename(tmp_path / "elsewhere")
    root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="only this user"):
        CachedStore(far, 1000, tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot use"):
        CachedStore(far, 1000, tmp_path / "file")


def test_systems_without_locks_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cached_folder, "find_spec", lambda name: None if name == "fcntl" else find_spec(name)
    )
    with pytest.raises(UnsupportedError, match="file locks"):
        CachedStore(CountingStore({}), 1000, tmp_path)


@pytest.mark.parametrize("call", ["open", "write", "replace", "makedirs", "pwrite"])
def test_a_disk_that_fails_costs_the_cache_and_nothing_else(
    call: str,
    far: CountingStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = CachedStore(far, 10**6, tmp_path)

    def fail(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "gpuzarr.store"):
        patch.setattr(os, call, fail)
        for _ in range(3):
            assert read(store, 0, 1000) == VALUE[:1000]
    assert len(far.take()[0]) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # once
    assert "no space" in caplog.text
    read(store, 0, 1000)
    assert read(store, 0, 1000) == VALUE[:1000]
    assert len(far.take()[0]) == 1
    assert store._kept.nbytes == used(tmp_path) == counted(tmp_path)  # type: ignore[attr-defined]  # noqa: SLF001


def test_a_folder_that_is_removed_is_made_again(far: CountingStore, tmp_path: Path) -> None:
    import shutil  # noqa: PLC0415

    store = CachedStore(far, 10**6, tmp_path / "cache")
    read(store, 0, 1000)
    shutil.rmtree(tmp_path / "cache")
    far.take()
    for _ in range(3):
        assert read(store, 0, 1000) == VALUE[:1000]
    assert len(far.take()[0]) == 1


def test_a_count_that_is_damaged_is_made_anew(far: CountingStore, tmp_path: Path) -> None:
    lock = tmp_path / "gpuzarr-cache" / "lock"
    for data in (b"", b"short", os.urandom(16), bytes(16)):
        store = CachedStore(far, 5000, tmp_path)
        lock.write_bytes(data)
        for offset in range(0, 50_000, 1000):
            read(store, offset, 1000)
            assert used(tmp_path) <= 5000


class Busy:
    """Another process that holds the lock."""

    def __init__(self, folder: Path) -> None:
        code = (
            "import fcntl, sys\n"
            "file = open(sys.argv[1], 'r+b')\n"
            "fcntl.lockf(file, fcntl.LOCK_EX)\n"
            "print('held', flush=True)\n"
            "sys.stdin.read()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder / "gpuzarr-cache" / "lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == b"held"

    def let_go(self) -> None:
        self.process.communicate(timeout=60)


def test_reads_do_not_wait_for_a_process_that_holds_the_lock(
    far: CountingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_lock, "LOCK_SECONDS", 0.01)
    store = CachedStore(far, 10**6, tmp_path)
    read(store, 0, 1000)
    other = Busy(tmp_path)
    try:
        far.take()
        assert read(store, 0, 1000) == VALUE[:1000]  # a hit takes no lock
        assert far.take()[0] == []
        assert read(store, 5000, 1000) == VALUE[5000:6000]
        assert len(files(tmp_path)) == 1  # not kept
    finally:
        other.let_go()
    read(store, 5000, 1000)
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("moment", ["write", "replace", "unlink"])
def test_a_crash_in_the_middle(
    moment: str, far: CountingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends at once, at each of the steps of adding a range."""
    store = CachedStore(far, 10_000, tmp_path)
    for offset in range(0, 9000, 1000):
        read(store, offset, 1000)

    class Crash(BaseException):
        pass

    def crash(*_args: object, **_options: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(os, moment, crash)
        with pytest.raises(Crash):
            [read(store, offset, 1000) for offset in range(10_000, 20_000, 1000)]
    assert used(tmp_path) <= 10_000 + 2000
    again = CachedStore(far, 10_000, tmp_path)
    for offset in range(0, 30_000, 500):
        assert read(again, offset, 1000) == VALUE[offset : offset + 1000]
        assert used(tmp_path) <= 10_000 + 2000
    assert again._kept.nbytes <= 10_000  # type: ignore[attr-defined]  # noqa: SLF001
