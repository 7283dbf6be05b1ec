"""One process and thread at a time adds to a folder, and counts what is in it.

The lock is one of the system's on a file, so that it ends with the process that holds it; the count
stands in the same file.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_SECONDS = 1.0
"""How long to wait for another process that adds something, before going on without adding."""

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_COUNT = struct.Struct("<QQ")
_ALL_BITS = (1 << 64) - 1

_threads: dict[int, threading.Lock] = {}
"""For each process (a forked child has its own) what keeps its threads apart: locks of files only
keep processes apart."""


class Lock:
    """The open and locked file that says how many bytes are used."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        text = os.pread(descriptor, _COUNT.size, 0)
        count, complement = _COUNT.unpack(text) if len(text) == _COUNT.size else (0, 0)
        self.nbytes = count if count ^ complement == _ALL_BITS else -1
        """Bytes of all files; -1: not known, since the count is missing or damaged."""

    def set(self, nbytes: int) -> None:
        """Say how many there are."""
        self.nbytes = max(nbytes, 0)
        os.pwrite(self._descriptor, _COUNT.pack(self.nbytes, self.nbytes ^ _ALL_BITS), 0)

    def add(self, nbytes: int) -> None:
        """Say how many more there are."""
        if nbytes:
            self.set(self.nbytes + nbytes)


@contextmanager
def locked(path: str) -> Iterator[Lock]:
    """Hold a file's lock against other threads and processes.

    Args:
        path: the file, which is made where there is none.

    Raises:
        OSError: not possible, or not in `LOCK_SECONDS`.
    """
    import fcntl  # noqa: PLC0415 -- not on every system

    with _threads.setdefault(os.getpid(), threading.Lock()):
        descriptor = os.open(path, _OPEN, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise OSError(errno.EINVAL, "no file, or one with another name", path)
            give_up = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    # A lock of the process and not of the descriptor, which a child that is
                    # forked meanwhile would hold for ever.
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    busy = error.errno in {errno.EACCES, errno.EAGAIN}
                    if not busy or time.monotonic() > give_up:
                        raise
                time.sleep(1e-3)
            yield Lock(descriptor)
        finally:
            os.close(descriptor)  # unlocks
