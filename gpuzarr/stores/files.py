"""Reading from open files, at an offset, into memory that the caller owns.

`os.preadv` does it in one call, moves no file position and so works from many threads and forked
processes on one descriptor. Where it is missing (Windows, old macOS) the next best call stands in.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from functools import partial

from gpuzarr.stores import aliasing

_CALL_LIMIT = 1 << 30
"""Bytes asked for at once: macOS refuses more than 2^31 - 1."""

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_UNKNOWN = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""What systems, sandboxes and file systems say that know no such reads."""

_PLACE_OF_FOLDER = getattr(os, "O_PATH", 0) and os.O_PATH | os.O_DIRECTORY
"""Opens a folder as a place only; where the system can do that, it also tells which one it is."""
_DELETED = " (deleted)"

_position_lock = threading.Lock()
"""Held between seeking and reading where a descriptor's position must be used. Systems that need
it have no fork, so no child process can inherit it locked."""

_PERMISSION = "permission denied: give this user the right to read it and to enter its folders"
_TOO_MANY = "too many files are open: raise the limit (`ulimit -n`) or use fewer threads"
_FAILING = "the disk or the network file system failed: check it, then try again"
_ADVICE = {
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
    errno.EIO: _FAILING,
    getattr(errno, "ESTALE", errno.EIO): _FAILING,
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.ELOOP: "its symbolic links lead in a circle: repair them",
}


class Waits:
    """Whether reads of some files have to wait for a disk, or another machine.

    Threads may share one: whoever counts at the same time as another may be lost.
    """

    __slots__ = ("are_told", "count")

    def __init__(self) -> None:
        """None yet."""
        self.count = 0
        """Reads of which not everything was in the page cache."""
        self.are_told = bool(_NOWAIT)
        """Whether the system tells."""

    def read(self, descriptor: int, memory: memoryview, offset: int) -> int:
        """Read what is there without waiting; as `read_at`, which reads the rest."""
        if not self.are_told or _read_once is not read_vectored:
            return 0
        try:
            done = os.preadv(descriptor, (memory,), offset, _NOWAIT)
        except BlockingIOError:
            done = 0
        except NotImplementedError:  # of a Python that was built without such reads
            self.are_told = False
            return 0
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
            self.are_told = False  # as on network file systems
            return 0
        self.count += done < len(memory)
        return done


def read_at(descriptor: int, memory: memoryview, offset: int, waits: Waits | None = None) -> int:
    """Fill `memory` from a file, from byte `offset` on.

    Args:
        descriptor: of the file.
        memory: for what is read.
        offset: of its first byte in the file.
        waits: counts whether it is waited for.

    Returns:
        How many bytes were there: fewer than asked for only at the end of the file.

    Raises:
        OSError: the read failed.
    """
    wanted = len(memory)
    if wanted >= aliasing.LEAST_NBYTES and aliasing.is_slow(memory, offset):
        return aliasing.read_elsewhere(partial(_read_noting, waits), descriptor, memory, offset)
    done = 0 if waits is None else waits.read(descriptor, memory, offset)
    while done < wanted:  # a read may give less at any time: signals, network file systems
        rest = memory[done : done + _CALL_LIMIT] if done or wanted > _CALL_LIMIT else memory
        more = _read_once(descriptor, rest, offset + done)
        if not more:
            break
        done += more
    return done


def _read_noting(waits: Waits | None, descriptor: int, memory: memoryview, offset: int) -> int:
    """One read, which is counted if it was waited for."""
    done = 0 if waits is None else waits.read(descriptor, memory, offset)
    return done or _read_once(descriptor, memory, offset)


def real_folder(path: str) -> str:
    """The path of a folder without links, as `os.path.realpath` finds it.

    That asks the system for each folder on the way, a third of the time that it takes to open an
    array; the system knows the path of what is open.

    Args:
        path: absolute.
    """
    if _PLACE_OF_FOLDER:
        with suppress(OSError, ValueError):  # it is none, or cannot be opened, or there is no /proc
            descriptor = os.open(path, _PLACE_OF_FOLDER)
            try:
                found = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 -- speed
            finally:
                os.close(descriptor)
            # What lies outside of the process's own root has no path here.
            if found.startswith("/") and not found.endswith(_DELETED):
                return found
    return os.path.realpath(path)


def advise(error: OSError | ValueError) -> str:
    """What an error of the operating system means for a store, and what to do about it."""
    if isinstance(error, OSError):
        return _ADVICE.get(error.errno or 0) or error.strerror or str(error)
    return f"the name cannot be a file's name here ({error})"


def read_vectored(descriptor: int, memory: memoryview, offset: int) -> int:
    """One read, straight into the memory."""
    return os.preadv(descriptor, (memory,), offset)


def read_copied(descriptor: int, memory: memoryview, offset: int) -> int:
    """One read and a copy, for systems without `os.preadv`."""
    data = os.pread(descriptor, len(memory), offset)
    memory[: len(data)] = data
    return len(data)


def read_positioned(descriptor: int, memory: memoryview, offset: int) -> int:
    """One read by moving the descriptor's position, for systems without `os.pread`."""
    with _position_lock:
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, len(memory))
    memory[: len(data)] = data
    return len(data)


if hasattr(os, "preadv"):
    _read_once = read_vectored
elif hasattr(os, "pread"):
    _read_once = read_copied
else:
    _read_once = read_positioned
