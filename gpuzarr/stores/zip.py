"""A zip archive as it is: every entry an object, its name the key.

The directory is read once, when the store is made, and the file stays open: the store is that one
file, whatever is put in its place later. Entries are read without a lock by any number of threads;
stored ones, which is how Zarr writers make them, cost two reads of the file at first and then one.
"""

from __future__ import annotations

import os
import stat
import weakref
import zlib
from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING

from gpuzarr.errors import GpuzarrError, NotFoundError, StoreError
from gpuzarr.stores.files import advise, read_at
from gpuzarr.stores.object_cache import ObjectCache
from gpuzarr.stores.store import WHOLE, Blob, Store, check_key, find_range, place
from gpuzarr.stores.zip_entries import (
    LOCAL_HEADER_NBYTES,
    STORED,
    check_crc,
    check_entry,
    find_data,
    read_directory,
)
from gpuzarr.stores.zip_inflate import check_promise, inflate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuzarr.stores.store import Buffer
    from gpuzarr.stores.zip_entries import Entry

_AFTER_SLASH = chr(ord("/") + 1)


class ZipStore(Store):
    """The entries of a zip archive. The archive's top is the store's root, whatever it holds."""

    def __init__(self, path: str | os.PathLike[str], *, cache_nbytes: int = 64 << 20) -> None:
        """Open the archive and read its directory.

        Args:
            path: the file.
            cache_nbytes: compressed entries up to this size are kept in memory, in sum no more than
                this, where only parts of them are asked for. Parts of larger ones are decompressed
                from the entry's beginning every time: do not compress an archive of shards.

        Raises:
            NotFoundError: there is no such file.
            StoreError: it cannot be read, or is not a zip archive, or a damaged one.
        """
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 -- also tidies "a/../b"
        self.name = str(self.path)
        self._descriptor = _open_file(self.name)
        # Closed with the last reference: the interface has no close, and threads may be reading.
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError("a zip archive must be a regular file", store=self.name)
        self._nbytes = status.st_size
        self._version = (status.st_mtime_ns, status.st_size)
        self._entries = read_directory(self._descriptor, self.name)
        self._starts: dict[str, int] = {}
        self._sorted: tuple[str, ...] | None = None
        self._inflated = ObjectCache(cache_nbytes)

    def __repr__(self) -> str:
        return f"ZipStore({self.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_remake, (self.name, self._inflated.limit_nbytes))

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Read one byte range of one entry; see `Store.read`.

        The checksum is compared where the whole entry is read or decompressed.
        """
        entry = self._entries.get(key)
        if entry is None:
            check_key(key)
            return None
        try:
            start, stop = find_range(entry.size, key, offset, nbytes)
            validator = (*self._version, entry.header)
            whole = stop - start == entry.size
            if entry.method != STORED and not whole and entry.size <= self._inflated.limit_nbytes:
                kept = self._inflated.get(key, lambda: self._inflate_whole(entry, key))
                return kept and kept._replace(data=kept.data[start:stop], validator=validator)
            data = self._find_data(entry, key)
            read = self._reader(data, key)
            if whole and entry.method != STORED:
                check_promise(read, entry, key)
            memory = place(allocate, stop - start, key)
            if entry.method != STORED:
                inflate(read, entry, key, start, memory)
            else:
                self._fill(memory, data + start, key)
                if whole:
                    check_crc(entry, key, zlib.crc32(memory))
        except GpuzarrError as error:
            error.at(store=self.name)
            raise
        return Blob(memory, validator)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The direct children of `prefix` in the archive's directory."""
        if prefix:
            check_key(prefix)
        keys = self._sorted
        if keys is None:  # two threads may both sort; they get the same
            keys = self._sorted = tuple(sorted(self._entries))
        return _iter_sorted(keys, prefix + "/" if prefix else "")

    def size(self, key: str) -> int | None:
        """Bytes of an entry, as the directory promises."""
        entry = self._entries.get(key)
        if entry is None:
            check_key(key)
            return None
        return entry.size

    def _find_data(self, entry: Entry, key: str) -> int:
        """Where an entry's data begin: looked up, and the entry judged, at its first read."""
        start = self._starts.get(key)
        if start is None:
            check_entry(entry, key, self._nbytes)
            header = memoryview(bytearray(LOCAL_HEADER_NBYTES + len(entry.written_name)))
            self._fill(header, entry.header, key)
            start = self._starts[key] = find_data(header, entry, key)
        return start

    def _inflate_whole(self, entry: Entry, key: str) -> Blob:
        read = self._reader(self._find_data(entry, key), key)
        check_promise(read, entry, key)
        memory = place(bytearray, entry.size, key)
        inflate(read, entry, key, 0, memory)
        return Blob(memory.toreadonly())

    def _reader(self, data: int, key: str) -> Callable[[int, int], bytes]:
        """Reads pieces of one entry's stored bytes."""

        def read(offset: int, nbytes: int) -> bytes:
            piece = bytearray(nbytes)
            self._fill(memoryview(piece), data + offset, key)
            return bytes(piece)

        return read

    def _fill(self, memory: memoryview, offset: int, key: str) -> None:
        try:
            done = read_at(self._descriptor, memory, offset)
        except OSError as error:
            raise StoreError(f"cannot read {self.name}: {advise(error)}", key=key) from error
        if done != len(memory):
            raise StoreError("the archive became shorter: open it again", key=key)


def _open_file(name: str) -> int:
    try:
        # Without waiting, in case it is a pipe.
        return os.open(
            name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {name}", store=name) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {name}: {advise(error)}", store=name) from error


def _iter_sorted(keys: tuple[str, ...], start: str) -> Iterator[tuple[str, bool]]:
    """The children below `start` ("" or "a/b/") among sorted keys, skipping what lies deeper."""
    place_ = bisect_left(keys, start)
    while place_ < len(keys) and keys[place_].startswith(start):
        name, slash, _ = keys[place_][len(start) :].partition("/")
        yield name, bool(slash)
        if slash:
            place_ = bisect_left(keys, start + name + _AFTER_SLASH, place_)
        else:
            place_ += 1


def _remake(path: str, cache_nbytes: int) -> ZipStore:
    return ZipStore(path, cache_nbytes=cache_nbytes)
