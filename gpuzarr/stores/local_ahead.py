"""Small files that are not in the page cache: the system is told of the next ones beforehand.

A thread that reads one small file after another from a disk waits for each, where a disk could read
many at once. So where a row of reads was slow, the files of the next rows are opened before their
turn, and the system begins to read them (`posix_fadvise`, POSIX_FADV_WILLNEED). That costs a call
a file, which files in the page cache are not worth: every so-many-th row is read plainly, and shows
whether it still is.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from gpuzarr.stores.store import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gpuzarr.stores.store import Wanted

SLOW_RANGE_S = 50e-6
"""A range that took longer was waited for; from the page cache it takes 5 to 30, and..."""
SLOW_BYTE_S = 4e-9
"""...so much for each of its bytes (250 MB/s)."""
ROWS = 8
"""Rows that are read ahead, before one shows whether it is still worth it."""
FILES = 32
"""Files of a row that are open before their turn. A disk has a queue of about as many."""
LEAST_LIMIT = 256
"""Files that a process must be allowed to have open..."""
ALL_FILES = 64
"""...so that the rows of all threads may have so many before their turn."""

CAN_ADVISE = hasattr(os, "posix_fadvise")

_room: deque[None] = deque([None] * ALL_FILES)
"""An entry for each that may be opened yet. Taking and giving back are atomic."""


class Pace:
    """Whether a store's reads are waited for. Threads may share it: it is a guess, and no more."""

    def __init__(self) -> None:
        """As if all were in the page cache."""
        self._rows_left = 0

    def note(self, count: int, nbytes: int, seconds: float) -> None:
        """A row of so many ranges was read plainly."""
        slow = count > 0 and seconds > count * SLOW_RANGE_S + nbytes * SLOW_BYTE_S
        self._rows_left = ROWS if slow and CAN_ADVISE else 0

    def ahead(
        self, wanted: Iterable[Wanted], path_of: Callable[[str], str | None], flags: int
    ) -> OpenedAhead | None:
        """What opens the files of a row; None: nothing needs be done before their turn.

        Args:
            wanted: the row; only of a list is known what comes.
            path_of: the path of a key, or None.
            flags: to open files with.
        """
        if not self._rows_left or not isinstance(wanted, list) or _most_files() < LEAST_LIMIT:
            return None
        self._rows_left -= 1
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
            size = 0 if nbytes == WHOLE else nbytes  # 0: to the end
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)


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
