"""What is not in the page cache: the system is told beforehand what will be read.

A thread that reads one file after another from a disk waits for each, where a disk could read many
at once. So where reads were waited for, the system begins to read what comes next (`posix_fadvise`,
POSIX_FADV_WILLNEED). That costs a call a range, which ranges in the page cache are not worth:
every so-many-th is read plainly, and shows whether it still is.

Rows of small files (`OpenedAhead`) are opened before their turn, and stay open until it comes.
Ranges that are read one by one (`ReadsAhead`) are opened twice.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING

from gpuzarr.stores.files import Waits
from gpuzarr.stores.store import WHOLE, ReadWhenAsked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gpuzarr.stores.store import Blob, Buffer, Store, Wanted

WAITED = 4
"""A row was waited for if one of so many of its ranges was not in the page cache."""
SLOW_ROW_S = 70e-6
"""Where the system does not tell that, if it took longer than this, and..."""
SLOW_RANGE_S = 30e-6
"""...so much for each range, which takes 8 to 15 where it is in the page cache, and..."""
SLOW_BYTE_S = 0.6e-9
"""...so much for each byte: 0.1 to 0.4 in the page cache, 1 and more on disks."""
SLOW = 2
"""Rows or ranges in a row that were waited for: one may have been for something else."""
ROWS = 32
"""Rows that are read ahead, before one shows whether it is still worth it."""
RANGES = 64
"""The same for ranges that are read one by one."""
AHEAD_NBYTES = 1 << 23
"""Bytes on either side of such a range that the system is told to read..."""
FILES = 64
"""...in at most so many ranges; and files of a row that are open before their turn."""
LEAST_LIMIT = 512
"""Files that a process must be allowed to have open..."""
ALL_FILES = 128
"""...so that the rows of all threads may have so many before their turn."""

UNTOLD = b"\0"

CAN_ADVISE = hasattr(os, "posix_fadvise")

_room: deque[None] = deque([None] * ALL_FILES)
"""An entry for each that may be opened yet. Taking and giving back are atomic."""


class Pace:
    """Whether a store's reads are waited for. Threads may share it: it is a guess, and no more."""

    def __init__(self) -> None:
        """As if all were in the page cache."""
        self.waits = Waits()
        """Counts for reads of the store."""
        self._slow = 0
        """Slow ones since one was fast."""
        self._left = 0

    def note(self, count: int, nbytes: int, seconds: float, waits: int) -> None:
        """A row of ranges was read plainly.

        Args:
            count: of the ranges; none, where something is missing.
            nbytes: of all of them.
            seconds: that it took.
            waits: those that were waited for, if the system tells.
        """
        if not count:
            return
        if self.waits.are_told:
            is_slow = waits * WAITED >= count and waits > 0
        else:
            is_slow = seconds > SLOW_ROW_S + count * SLOW_RANGE_S + nbytes * SLOW_BYTE_S
        self._slow = self._slow + 1 if is_slow else 0
        self._left = RANGES if self._slow >= SLOW and CAN_ADVISE else 0

    def takes_turn(self) -> bool:
        """Whether the system shall be told of what comes behind a range."""
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    def ahead(
        self, wanted: Iterable[Wanted], path_of: Callable[[str], str | None], flags: int
    ) -> OpenedAhead | None:
        """What opens the files of a row; None: nothing needs be done before their turn.

        Args:
            wanted: the row; only of a list is known what comes.
            path_of: the path of a key, or None.
            flags: to open files with.
        """
        if (
            self._left <= 0
            or not isinstance(wanted, list)
            or len(wanted) <= 1
            or _most_files() < LEAST_LIMIT
        ):
            return None
        self._left -= RANGES // ROWS
        return OpenedAhead(wanted, path_of, flags)


class OpenedAhead:
    """The files of a row, open before their turn."""

    def __init__(
        self, wanted: Sequence[Wanted], path_of: Callable[[str], str | None], flags: int
    ) -> None:
        """Open none yet."""
        self._wanted = iter(wanted)
        self._path_of = path_of
        self._flags = flags
        self._open: dict[str, int] = {}

    def take(self, path: str) -> int:
        """A descriptor for a file, which is the caller's to close.

        Raises:
            OSError: it cannot be opened.
        """
        while len(self._open) < FILES and _room:
            wanted = next(self._wanted, None)
            if wanted is None:
                break
            self._begin(*wanted[:3])
        found = self._open.pop(path, None)
        if found is None:
            return os.open(path, self._flags)
        _room.append(None)
        return found

    def close(self) -> None:
        """Close those whose turn did not come."""
        while self._open:
            _room.append(None)
            os.close(self._open.popitem()[1])

    def _begin(self, key: str, offset: int, nbytes: int) -> None:
        """Let the system read a range."""
        path = self._path_of(key)
        if path is None:
            return
        with suppress(OSError, ValueError, IndexError):  # whoever takes it is told
            descriptor = self._open.get(path)
            if descriptor is None:
                descriptor = self._open[path] = _open(path, self._flags)
            _advise(descriptor, offset, nbytes)


class ReadsAhead(ReadWhenAsked):
    """The reads of a batch, of which the system is told beforehand where reads are waited for.

    Threads begin at both ends of a batch, so what comes lies on either side of a range.
    """

    __slots__ = ("_flags", "_pace", "_path_of", "_told", "_usual_nbytes")

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        store: Store,
        keys: Sequence[str],
        offsets: Sequence[int],
        nbytes: Sequence[int],
        pace: Pace,
        path_of: Callable[[str], str | None],
        flags: int,
    ) -> None:
        """Tell of none yet.

        Args:
            store: reads them.
            keys: of each range.
            offsets: of each range.
            nbytes: of each range.
            pace: of the store.
            path_of: the path of a key, or None.
            flags: to open files with.
        """
        super().__init__(store, keys, offsets, nbytes)
        self._pace = pace
        self._path_of = path_of
        self._flags = flags
        self._told = bytearray(len(keys))
        self._usual_nbytes = AHEAD_NBYTES

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        """Read one."""
        pace, told = self._pace, self._told
        if pace.takes_turn():
            self._tell_around(row)
        if told[row]:
            return super().result(row, allocate)
        told[row] = True
        begun, before = perf_counter(), pace.waits.count
        blob = super().result(row, allocate)
        if blob is not None:
            self._usual_nbytes = nbytes = len(blob.data)
            pace.note(1, nbytes, perf_counter() - begun, pace.waits.count - before)
            if pace.takes_turn():
                self._tell_around(row)
        return blob

    def _tell_around(self, row: int) -> None:
        """Let the system read what comes on both sides of a range."""
        told = self._told
        most = max(1, min(FILES, AHEAD_NBYTES // max(1, self._usual_nbytes)))
        begin, end = max(0, row - most), row + 1 + most
        while (next_row := told.find(UNTOLD, row + 1, end)) >= 0:
            self._tell(next_row)
        while (next_row := told.rfind(UNTOLD, begin, row)) >= 0:
            self._tell(next_row)

    def _tell(self, row: int) -> None:
        """Let the system read a range."""
        self._told[row] = True
        path = self._path_of(self._keys[row])
        if path is None:
            return
        with suppress(OSError, ValueError):  # whoever reads it is told
            descriptor = os.open(path, self._flags)
            try:
                _advise(descriptor, self._offsets[row], self._nbytes[row])
            finally:
                os.close(descriptor)


def _advise(descriptor: int, offset: int, nbytes: int) -> None:
    """Let the system read a range, or so much of it as is worth to be read ahead.

    Raises:
        OSError: this is no file.
    """
    nbytes = AHEAD_NBYTES if nbytes == WHOLE else min(nbytes, AHEAD_NBYTES)
    os.posix_fadvise(descriptor, offset, nbytes, os.POSIX_FADV_WILLNEED)


def _open(path: str, flags: int) -> int:
    """A descriptor, for which there is room.

    Raises:
        IndexError: there is none.
        OSError: the file cannot be opened.
    """
    _room.pop()
    try:
        return os.open(path, flags)
    except BaseException:
        _room.append(None)
        raise


def _most_files() -> int:
    """Files that this process may have open."""
    import resource  # noqa: PLC0415  not on every system, but where files can be advised

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return LEAST_LIMIT if soft == resource.RLIM_INFINITY else soft
