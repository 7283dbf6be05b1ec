"""Where an archive's bytes lie: in a file of this machine, or in an object of another store.

A source gives byte ranges of one archive, always of the same one: a file stays open, and an object
that was replaced is refused, where its store tells.
"""

from __future__ import annotations

import io
import os
import stat
import weakref
from typing import TYPE_CHECKING, Protocol

from gpuzarr.errors import NotFoundError, StoreError
from gpuzarr.stores.files import advise, read_at
from gpuzarr.stores.store import check_key, place
from gpuzarr.stores.zip.joined import JoinedRanges

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from gpuzarr.stores.store import Blob, Buffer, Pending, Store

TAIL_NBYTES = (1 << 16) + 22 + 20 + 56
"""What of an object is read at first, from its end: the longest comment, and the records before it
(end of directory, and Zip64's two). Most directories end the search there."""

LARGEST_DIRECTORY = 1 << 30
"""Bytes of a directory; one that claims more is not read."""


class Started(Protocol):
    """Ranges that were asked for; each is waited for on its own, once."""

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """See `gpuzarr.stores.store.give_up_when`."""
        ...

    def result(
        self, row: int, key: str, allocate: Callable[[int], Buffer] = bytearray
    ) -> memoryview:
        """The bytes of range `row`; the other arguments and errors are those of `Source.read`."""
        ...


class Source(Protocol):
    """The bytes of an archive."""

    name: str
    """What errors call it."""
    nbytes: int
    """Size of the archive."""
    version: Hashable
    """Differs between two versions of the archive; None: unknown."""
    has_latency: bool
    """Whether one range after the other takes longer than several at once."""

    def read(
        self, key: str, offset: int, nbytes: int, allocate: Callable[[int], Buffer] = bytearray
    ) -> memoryview:
        """Read a range of the archive.

        Args:
            key: the entry that it is read for, for errors.
            offset: first byte.
            nbytes: how many.
            allocate: as in `Store.read`.

        Raises:
            StoreError: the storage failed, or the archive is shorter, gone or another one by now.
        """
        ...

    def start(self, offsets: Sequence[int], nbytes: Sequence[int]) -> Started:
        """Ask for many ranges."""
        ...

    def open(self) -> io.RawIOBase:
        """The archive as a file, for reading its directory, which is at its end."""
        ...


class FileSource(Source):
    """A file that stays open: whatever is put in its place later, its bytes are read."""

    has_latency = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file.

        Raises:
            NotFoundError: there is none.
            StoreError: it cannot be opened, or is no regular file.
        """
        self.name = os.path.abspath(path)  # noqa: PTH100 -- also tidies "a/../b"
        self._descriptor = _open_file(self.name)
        # Closed with the last reference: the interface has no close, and threads may be reading.
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError("a zip archive must be a regular file", store=self.name)
        self.nbytes = status.st_size
        self.version = (status.st_mtime_ns, status.st_size)

    def read(
        self, key: str, offset: int, nbytes: int, allocate: Callable[[int], Buffer] = bytearray
    ) -> memoryview:
        """Read a range of the file."""
        memory = place(allocate, nbytes, key)
        try:
            done = read_at(self._descriptor, memory, offset)
        except OSError as error:
            raise StoreError(f"cannot read {self.name}: {advise(error)}", key=key) from error
        if done != nbytes:
            raise StoreError("the archive became shorter: open it again", key=key)
        return memory

    def start(self, offsets: Sequence[int], nbytes: Sequence[int]) -> Started:
        """Nothing yet: a range is read when it is asked for."""
        return _ReadWhenAsked(self, offsets, nbytes)

    def open(self) -> io.RawIOBase:
        """The same open file, which is not closed with this."""
        return io.FileIO(self._descriptor, closefd=False)


class ObjectSource(Source):
    """An object of another store, read by ranges."""

    has_latency = True

    def __init__(self, store: Store, key: str) -> None:
        """Read the end of the object: one request, and one more where the store tells no sizes.

        Raises:
            NotFoundError: there is no such object.
            StoreError: the storage failed.
        """
        self.store = store
        self.key = check_key(key)
        self.name = f"{store.name.rstrip('/')}/{key}"
        blob = store.read(key, -TAIL_NBYTES)
        if blob is None:
            raise NotFoundError("there is no such archive", store=store.name, key=key)
        size = blob.size
        if size is None:
            size = len(blob.data) if len(blob.data) < TAIL_NBYTES else store.size(key)
        self.nbytes = max(size or 0, len(blob.data))
        self.version = blob.validator
        self._tail = bytes(blob.data)

    def read(
        self, key: str, offset: int, nbytes: int, allocate: Callable[[int], Buffer] = bytearray
    ) -> memoryview:
        """Read a range of the object: one request."""
        try:
            blob = self.store.read(self.key, offset, nbytes, allocate)
        except StoreError as error:
            raise self._failed(error, key) from error
        return self.check(blob, nbytes, key)

    def start(self, offsets: Sequence[int], nbytes: Sequence[int]) -> Started:
        """Ask for all ranges now, neighbours together."""
        return JoinedRanges(self, offsets, nbytes)

    def open(self) -> io.RawIOBase:
        """The object as a file: what lies before its end, which is known, takes a request."""
        tail, self._tail = self._tail, b""  # the directory is read once: nothing to keep it for
        return _ObjectFile(self, tail)

    def check(self, blob: Blob | None, nbytes: int, key: str) -> memoryview:
        """The bytes that the store gave, once it is sure that they are of the same archive."""
        if blob is None:
            raise StoreError(f"the archive {self.name} is not there any more", key=key)
        if self.version not in (None, blob.validator):
            raise StoreError(
                f"the archive {self.name} was replaced after it was opened: open it again", key=key
            )
        if len(blob.data) != nbytes:
            raise StoreError("the archive became shorter: open it again", key=key)
        return blob.data

    def _failed(self, error: StoreError, key: str) -> StoreError:
        return StoreError(f"cannot read the archive {self.name}: {error.message}", key=key)

    def wait(
        self, pending: Pending, row: int, nbytes: int, key: str, allocate: Callable[[int], Buffer]
    ) -> memoryview:
        """The bytes of a request that was started."""
        try:
            blob = pending.result(row, allocate)
        except StoreError as error:
            raise self._failed(error, key) from error
        return self.check(blob, nbytes, key)


class _ReadWhenAsked:
    """Reads each range in the thread that asks for it."""

    __slots__ = ("_nbytes", "_offsets", "_source")

    def __init__(self, source: Source, offsets: Sequence[int], nbytes: Sequence[int]) -> None:
        self._source = source
        self._offsets = offsets
        self._nbytes = nbytes

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """Files do not take long."""

    def result(
        self, row: int, key: str, allocate: Callable[[int], Buffer] = bytearray
    ) -> memoryview:
        return self._source.read(key, self._offsets[row], self._nbytes[row], allocate)


class _ObjectFile(io.RawIOBase):
    """The end of an object as a file; reading before it fetches all from there on, in one range."""

    def __init__(self, source: ObjectSource, tail: bytes) -> None:
        super().__init__()
        self._source = source
        self._tail = tail
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._source.nbytes}[whence]
        if start + offset < 0:
            raise ValueError("a place before the beginning of the archive")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        tail_start = self._source.nbytes - len(self._tail)
        if self._place < tail_start:
            if tail_start - self._place > LARGEST_DIRECTORY:
                raise ValueError("its directory is too large")
            before = self._source.read("", self._place, tail_start - self._place)
            self._tail = bytes(before) + self._tail
            tail_start = self._place
        start = self._place - tail_start
        piece = self._tail[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)


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
