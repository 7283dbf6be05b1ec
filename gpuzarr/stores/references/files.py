"""Local files that references point into, read at an offset.

A file holds thousands of chunks, so it is kept open: a read is then two system calls, fstat and
preadv, and on a network file system no round trip for its name. A few files are kept at a time;
one that makes room for another is closed when the last thread has finished with it.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from gpuzarr.errors import StoreError
from gpuzarr.stores.files import advise, read_at
from gpuzarr.stores.store import Blob, find_range, place

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from gpuzarr.stores.store import Buffer, Memory

MOST_OPEN = 16
"""Files that are kept open at a time."""

JOINED_NBYTES = 1 << 20
"""Ranges that lie side by side in a file are read together, up to so many bytes."""

_OPEN = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


class OpenFile:
    """A regular file, closed when nobody has it any more."""

    __slots__ = ("__weakref__", "descriptor", "path")

    def __init__(self, path: str) -> None:
        """Open it, without waiting in case it is a pipe.

        Raises:
            OSError: it cannot be opened.
            ValueError: its name is none.
            StoreError: it is not a regular file.
        """
        self.path = path
        self.descriptor = os.open(path, _OPEN)
        weakref.finalize(self, os.close, self.descriptor)
        if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            raise StoreError(f"{path} is not a regular file; nothing else is read")

    def status(self) -> tuple[tuple[int, int, int], int]:
        """Its validator and its size, as they are now."""
        status = os.fstat(self.descriptor)
        return (status.st_mtime_ns, status.st_size, status.st_ino), status.st_size

    def read(
        self, offset: int, nbytes: int, allocate: Callable[[int], Buffer], key: str = ""
    ) -> Blob:
        """A range of it; see `Store.read`.

        Raises:
            StoreError: it has not so many bytes, or cannot be read.
        """
        validator, size = self.status()
        start, stop = find_range(size, key, offset, nbytes)
        memory = place(allocate, stop - start, key)
        try:
            done = read_at(self.descriptor, memory, start)
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {advise(error)}") from error
        if done != stop - start:
            raise StoreError(f"{self.path} became shorter while it was read")
        return Blob(memory, validator, size)


class OpenFiles:
    """Files by path, the last few of them open."""

    def __init__(self) -> None:
        # Single dict operations are atomic, so there is no lock that a forked child could inherit
        # held; two threads may open the same file, and one of them closes it again.
        self._files: dict[str, OpenFile] = {}

    def get(self, path: str) -> OpenFile:
        """A file, from those that are open or anew.

        Raises:
            StoreError: there is no such file, or it cannot be opened.
        """
        file = self._files.get(path)
        if file is None:
            file = self._open(path)
            while len(self._files) >= MOST_OPEN:
                self._forget_one()
            self._files[path] = file
        return file

    def _open(self, path: str) -> OpenFile:
        try:
            try:
                return OpenFile(path)
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE} or not self._files:
                    raise
            self._files.clear()  # others need descriptors as well
            return OpenFile(path)
        except StoreError:
            raise
        except FileNotFoundError as error:
            raise StoreError(f"there is no file {path}: was it moved, or not fetched?") from error
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot open {path}: {advise(error)}") from error

    def _forget_one(self) -> None:
        with suppress(KeyError, StopIteration, RuntimeError):  # another thread was faster
            del self._files[next(iter(self._files))]


class FileRow:
    """Ranges that are put one behind another; those that lie so in a file are read together."""

    def __init__(self, memory: Memory) -> None:
        self.ends: list[int] = []
        """What is used of the memory once each is read."""
        self._memory = memory
        self._file: OpenFile | None = None
        self._validator: Hashable = None
        self._size = self._begin = self._end = 0
        self._sizes: list[int] = []
        """Of those that wait to be read."""

    def add_bytes(self, data: memoryview) -> None:
        """Bytes that are there."""
        self.flush()
        self._memory.allocate(len(data))[:] = data
        self.ends.append(self._memory.used)

    def add_range(self, file: OpenFile, start: int, nbytes: int, expected: Hashable) -> bool:
        """A range of a file; says whether the file has it, and is the one that is expected."""
        if file is not self._file or start != self._end:
            self.flush()
            self._file, self._begin, self._end = file, start, start
            self._validator, self._size = file.status()
        if expected not in (None, self._validator) or start + nbytes > self._size:
            return False
        self._sizes.append(nbytes)
        self._end += nbytes
        if self._end - self._begin >= JOINED_NBYTES:
            self.flush()
        return True

    def flush(self) -> None:
        """Read what waits.

        Raises:
            OSError: it cannot be read.
            ValueError: the file became shorter.
        """
        if self._file is not None and self._sizes:
            nbytes, used = self._end - self._begin, self._memory.used
            memory = self._memory.allocate(nbytes)
            if read_at(self._file.descriptor, memory, self._begin) != nbytes:
                raise ValueError
            for size in self._sizes:
                used += size
                self.ends.append(used)
        self._file, self._sizes = None, []
