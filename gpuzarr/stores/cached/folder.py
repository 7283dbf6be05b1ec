"""Ranges that are kept in a folder of the local disk, by any number of processes at once.

    <folder>/gpuzarr-cache/
      lock                       locked while something is added; holds how many bytes are used
      partial                    a range while it is written, by the holder of the lock
      ab/cdef.../                an object: a hash of the store's name and the key
        0_65536_200000_1f2e...   a range of it: start, stop, the object's size, its version

Readers take no lock: a range is there as a whole or not at all, since it is renamed into its place,
and one that is dropped while it is read stays readable. What is added is counted before it is
there, so that the bytes in the folder never exceed the limit by more than the one range that a
process left half written when it was killed. Whoever finds the limit reached drops the least
recently used tenth; the times of use are the files' modification times, which a reader sets.

Nothing in the folder is needed: what cannot be read, written or believed is read from the store.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import time
from array import array
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.errors import StoreError, UnsupportedError
from gpuzarr.stores.cached.file import (
    DamagedFileError,
    Kept,
    encode_head,
    read_range,
    validator_text,
)
from gpuzarr.stores.cached.lock import Lock, locked
from gpuzarr.stores.cached.names import (
    NAME,
    NO_SIZE,
    NOTHING,
    Listing,
    is_of_one_object,
    parse_names,
    size_of,
)
from gpuzarr.stores.cached.ranges import (
    KeptRanges,
    Span,
    cut_out,
    find_cover,
    find_inside,
    known_size,
    span_of,
)
from gpuzarr.stores.files import advise
from gpuzarr.stores.store import Blob

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

log = logging.getLogger("gpuzarr.store")

FREED_FRACTION = 0.1
"""Of the limit that is freed at once, since it takes a look at every file."""

_OPEN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_READ = os.O_RDONLY | _OPEN | getattr(os, "O_NONBLOCK", 0)  # what is no file is not waited for
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LISTINGS = 1 << 10


class FolderRanges(KeptRanges):
    """See the module's text."""

    def __init__(self, folder: str | os.PathLike[str], limit_nbytes: int, store_name: str) -> None:
        """Use a folder, which is made where there is none.

        Args:
            folder: on a local disk.
            limit_nbytes: bytes of files. Each process keeps to its own limit.
            store_name: what tells the store apart from others that are kept there.

        Raises:
            StoreError: it cannot be made, or belongs to or may be written by another user.
            UnsupportedError: this system has no locks of files that this can use.
        """
        if find_spec("fcntl") is None:
            raise UnsupportedError(
                "a cache in a folder needs the file locks of Linux, macOS or BSD; one in memory"
                " (without folder=) works everywhere"
            )
        self.limit_nbytes = limit_nbytes
        self._store_name = store_name
        self._folder = os.path.abspath(folder)  # noqa: PTH100 -- not what its links lead to
        self._root = f"{self._folder}/gpuzarr-cache"
        self._listings: dict[str, Listing] = {}
        self._told: set[int | None] = set()
        try:
            self._make_root()
            status = os.lstat(self._root)
        except OSError as error:
            raise StoreError(f"cannot use the folder {folder}: {advise(error)}") from error
        if (
            not stat.S_ISDIR(status.st_mode)
            or status.st_uid != os.geteuid()
            or status.st_mode & _OTHERS_WRITE
        ):
            raise StoreError(
                f"{self._root} is no folder that only this user may write to: whoever writes there"
                " decides what is read; choose another folder"
            )

    def __reduce__(self) -> tuple[object, ...]:
        return (FolderRanges, (self._folder, self.limit_nbytes, self._store_name))

    def find(self, key: str, offset: int, nbytes: int) -> Blob | None:
        """Read a range from its file, and check it; see `KeptRanges`."""
        folder = self._folder_of(key)
        listing = self._list(folder)
        wanted = span_of(offset, nbytes, listing.size)
        cover = [] if wanted is None else find_cover(listing.spans, wanted)
        if wanted is None or not cover:
            return None
        path, datas, validators = "", [], set()
        try:
            parts = cut_out([listing.spans[place] for place in cover], wanted)
            for place, part in zip(cover, parts, strict=True):
                path = f"{folder}/{listing.names[place]}"
                said = size_of(listing.names[place])
                expected = (self._store_name, key, listing.spans[place], said)
                data, validator = _read(path, expected, part)
                datas.append(data)
                validators.add(validator)
            if len(validators) > 1:  # of other versions than their names say
                self.forget(key)
                return None
            data = datas[0] if len(datas) == 1 else memoryview(b"".join(datas))
            return Blob(data, validators.pop(), listing.size)
        except FileNotFoundError:  # dropped since
            self._listings.pop(folder, None)
        except DamagedFileError as error:
            log.info("cache: %s cannot be believed (%s) and is removed", path, error)
            _unlink(path)
        except OSError as error:
            self._tell(f"{path} cannot be read", error)
        except MemoryError:  # the store says what to do without
            log.info("cache: there is no memory for %s", path)
        return None

    def holds(self, key: str, offset: int, nbytes: int) -> bool:
        """Whether there is a file with the range, by its name."""
        listing = self._list(self._folder_of(key))
        wanted = span_of(offset, nbytes, listing.size)
        return wanted is not None and bool(find_cover(listing.spans, wanted))

    def keep(self, key: str, offset: int, nbytes: int, blob: Blob) -> None:
        """Write a range to a file of its own; see `KeptRanges`."""
        size = known_size(offset, nbytes, blob)
        span = span_of(offset, nbytes, size)
        text = validator_text(blob.validator)
        if span is None or text is None or not len(blob.data):
            return
        if len(blob.data) != span.stop - span.start:  # the reader says what is wrong with it
            return
        head = encode_head(Kept(self._store_name, key, span, size, blob.validator), blob.data)
        needed = len(head) + len(blob.data)
        if needed > self.limit_nbytes:
            return
        folder = self._folder_of(key)
        version = hashlib.sha256(text.encode()).hexdigest()[:16]
        name = f"{span.start}_{span.stop}_{NO_SIZE if size is None else size}_{version}"
        try:
            self._make_root()
            with locked(f"{self._root}/lock") as lock:
                if lock.nbytes < 0:
                    lock.set(self.nbytes)
                freed = self._make_way(folder, span, name)
                if freed is None:
                    return
                lock.add(-freed)
                self._add(lock, f"{folder}/{name}", head, blob.data)
        except OSError as error:
            self._tell(f"nothing can be added in {self._root}", error)
        finally:
            self._listings.pop(folder, None)

    def forget(self, key: str) -> None:
        """Drop all ranges of an object."""
        folder = self._folder_of(key)
        self._listings.pop(folder, None)
        with suppress(OSError):
            _check_folder(folder)
            # Still counted as used, until the next look at all files: the bound holds.
            for name in os.listdir(folder):  # noqa: PTH208 -- speed
                _unlink(f"{folder}/{name}")

    def size(self, key: str) -> int | None:
        """Bytes of an object of which ranges are kept."""
        return self._list(self._folder_of(key)).size

    @property
    def nbytes(self) -> int:
        """Bytes of all files, looked at one by one."""
        return sum(status.st_size for _, status in self._files())

    def _make_root(self) -> None:
        os.makedirs(self._root, mode=0o700, exist_ok=True)  # noqa: PTH103 -- speed

    def _folder_of(self, key: str) -> str:
        text = f"{len(self._store_name)}:{self._store_name}/{key}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self._root}/{digest[:2]}/{digest[2:42]}"

    def _list(self, folder: str) -> Listing:
        """What is kept of an object. It may be a moment old, which costs a read of the store."""
        try:
            changed = os.lstat(folder).st_mtime_ns
            listing = self._listings.get(folder)
            if listing is None or listing.changed != changed:
                _check_folder(folder)
                listing = parse_names(changed, os.listdir(folder))  # noqa: PTH208 -- speed
                if len(self._listings) >= _MOST_LISTINGS:
                    self._listings = {}
                self._listings[folder] = listing
        except OSError:
            return NOTHING
        return listing

    def _make_way(self, folder: str, span: Span, name: str) -> int | None:
        """Drop what a new range replaces: other versions, and what lies inside it.

        Returns:
            The bytes that were freed; None where the range is there already.
        """
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 -- speed
        _check_folder(folder)
        names = list(filter(NAME.fullmatch, os.listdir(folder)))  # noqa: PTH208 -- speed
        others = [other for other in names if not is_of_one_object(other, name)]
        listing = parse_names(0, [other for other in names if other not in others])
        if find_cover(listing.spans, span):
            return None
        others += [listing.names[place] for place in find_inside(listing.spans, span)]
        return sum(_unlink(f"{folder}/{other}") for other in others)

    def _add(self, lock: Lock, path: str, head: bytes, data: memoryview) -> None:
        """Write a file; the lock is held."""
        needed = len(head) + len(data)
        if lock.nbytes + needed > self.limit_nbytes:
            lock.set(self._free(needed))
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        lock.add(needed)
        partial = f"{self._root}/partial"
        try:
            _unlink(partial)  # of a process that was killed; or anything else, which stays as it is
            descriptor = os.open(partial, _WRITE, 0o600)
            try:
                for part in (memoryview(head), data):
                    _write_all(descriptor, part)
            finally:
                os.close(descriptor)
            os.replace(partial, path)  # noqa: PTH105 -- speed
        except OSError:
            _unlink(partial)
            lock.add(-needed)
            raise

    def _free(self, needed: int) -> int:
        """Drop the least recently used files until there is room; gives the bytes that are left.

        Two looks at every file, and numbers in between: there may be millions.
        """
        ages, sizes = array("q"), array("q")
        for _, status in self._files():
            ages.append(status.st_mtime_ns)
            sizes.append(status.st_size)
        age, size = np.array(ages, np.int64), np.array(sizes, np.int64)
        goal = int((1 - FREED_FRACTION) * self.limit_nbytes)
        excess = int(size.sum()) - min(goal, self.limit_nbytes - needed)
        if excess <= 0:
            return int(size.sum())
        order = np.argsort(age, kind="stable")
        last = int(np.searchsorted(np.cumsum(size[order]), excess))
        newest = int(age[order[min(last, len(order) - 1)]])
        left = 0
        for path, status in self._files():
            if status.st_mtime_ns > newest:
                left += status.st_size
                continue
            _unlink(path)
            with suppress(OSError):  # it holds others
                os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120 -- speed
        return left

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every kept range."""
        for folder in _entries(self._root):
            for object_folder in _entries(folder) if len(folder) == len(self._root) + 3 else ():
                for path in _entries(object_folder):
                    with suppress(OSError):
                        yield path, os.stat(path, follow_symlinks=False)  # noqa: PTH116

    def _tell(self, what: str, error: OSError) -> None:
        """Log what goes wrong, once: the cache does not help, but nothing else is the matter."""
        if error.errno not in self._told:
            self._told.add(error.errno)
            log.warning("cache: %s (%s); going on without", what, advise(error))


def _check_folder(folder: str) -> None:
    """Raise an OSError where the folder of an object, or the one that it is in, is a link.

    Nothing below it is ours then, to be read or removed.
    """
    for path in (os.path.dirname(folder), folder):  # noqa: PTH120 -- speed
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a folder, or a link to one", path)


def _entries(folder: str) -> list[str]:
    """The paths of what is in a folder; none where it is no folder, but a link to one."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return []
        return [f"{folder}/{name}" for name in os.listdir(folder)]  # noqa: PTH208 -- speed
    except OSError:
        return []


def _read(
    path: str, expected: tuple[str, str, Span, int | None], wanted: Span
) -> tuple[memoryview, Hashable]:
    """Read from a range's file, and say that it was used just now."""
    descriptor = os.open(path, _READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DamagedFileError("it is no regular file")
        found = read_range(descriptor, status.st_size, expected, wanted)
        now = time.time_ns()
        os.utime(descriptor, ns=(now, now))
    finally:
        os.close(descriptor)
    return found


def _unlink(path: str) -> int:
    """Remove a file; gives the bytes that it had, 0 where it is gone already."""
    try:
        nbytes = os.stat(path, follow_symlinks=False).st_size  # noqa: PTH116 -- speed
        os.unlink(path)  # noqa: PTH108 -- speed
    except OSError:
        return 0
    return nbytes


def _write_all(descriptor: int, data: memoryview) -> None:
    while len(data):
        data = data[os.write(descriptor, data) :]
