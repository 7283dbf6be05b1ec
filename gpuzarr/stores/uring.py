"""Many small files read by one system call, with Linux's io_uring.

A file takes four system calls, and each gives the interpreter's lock away and takes it again: two
threads that read small files wait for each other longer than they read. Here opening, reading and
closing of up to 64 files are written into a ring that the kernel shares, and one call does them
all. Files are opened into the ring's own table, so they count as no open files of the process.

Only what is usual is done here: a file that is missing, or larger than its place, ends the row, and
is read, or told of, as ever. Where io_uring is missing, switched off (containers often do so), or
does anything unexpected, nothing is done here at all. `GPUZARR_IO_URING=0` leaves it out.

Source of the layouts and numbers: the kernel's header <linux/io_uring.h>, and io_uring(7). System
calls 425 to 427 are the same on all architectures that Linux has Python for. Stores to the ring
need no barriers of their own: only the thread that made them enters the kernel with them, and
completions are read after that call has seen them all.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections import deque
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.stores.store import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.stores.store import Memory, Wanted

FILES = 64
"""Files of a call."""
PLACES_NBYTES = 1 << 20
"""Memory of a ring for what is read; each file of a call has an equal part of it."""
LEAST_NBYTES = 1 << 9
"""Its size is a multiple of this..."""
USUAL_NBYTES = 1 << 14
"""...and larger than a file, which is no larger than this: reading larger ones takes longer than
waiting for a lock."""
PATH_NBYTES = 1 << 8
"""Longer paths are left to others."""
LEAST_FILES = 4
"""Files that are worth a call."""

ENVIRONMENT = "GPUZARR_IO_URING"

_SETUP, _ENTER, _REGISTER = 425, 426, 427
_OFFSET_OF_ENTRIES = 0x10000000
_REGISTER_FILES = 2
_WAIT = 1  # IORING_ENTER_GETEVENTS
_OPEN, _CLOSE, _READ = 18, 19, 22
_FIXED, _LINK, _HARD_LINK = 1 << 0, 1 << 2, 1 << 3
_HERE = -100  # AT_FDCWD
_STEPS = 3  # of a file: open, read, close
_MASK = 0xFFFFFFFF

_ENTRY = np.dtype(
    {
        "names": ["op", "flags", "fd", "address", "nbytes", "open_flags", "mark", "file"],
        "formats": ["u1", "u1", "i4", "u8", "u4", "u4", "u8", "u4"],
        "offsets": [0, 1, 4, 16, 24, 28, 32, 44],
        "itemsize": 64,
    }
)
"""struct io_uring_sqe; `file` is one more than the place in the ring's table."""
_COMPLETION = np.dtype([("mark", "u8"), ("result", "i4"), ("flags", "u4")])
"""struct io_uring_cqe."""

_busy: dict[int, Ring] = {}
"""Rings that the kernel may be writing to the memory of. One whose call was interrupted stays here,
with its memory, and is never used again."""


class Ring:
    """A ring of one thread, with memory for what is read.

    Entries stay as they are from call to call: each file of a call has places of its own for its
    path and its bytes.
    """

    def __init__(self) -> None:
        """Set it up.

        Raises:
            OSError: the system does not have it, or refuses.
        """
        self._descriptor, self._maps = -1, list[tuple[int, int]]()
        parameters = np.zeros(30, np.uint32)  # struct io_uring_params
        self._descriptor = _call(_SETUP, _STEPS * FILES, parameters.ctypes.data)
        entries, completions = map(int, parameters[:2])
        to_kernel, from_kernel = parameters[10:20].tolist(), parameters[20:30].tolist()
        nbytes = max(
            to_kernel[6] + 4 * entries, from_kernel[5] + _COMPLETION.itemsize * completions
        )
        ring = self._map(nbytes, 0)
        self._tail = np.frombuffer(ring, np.uint32, 1, to_kernel[1])
        self._order = np.frombuffer(ring, np.uint32, entries, to_kernel[6])
        self._done_head = np.frombuffer(ring, np.uint32, 1, from_kernel[0])
        self._done_tail = np.frombuffer(ring, np.uint32, 1, from_kernel[1])
        self._done = np.frombuffer(ring, _COMPLETION, completions, from_kernel[5])
        memory = self._map(_ENTRY.itemsize * entries, _OFFSET_OF_ENTRIES)
        self._entries = np.frombuffer(memory, _ENTRY, _STEPS * FILES)
        self._paths = np.zeros(FILES * PATH_NBYTES, np.uint8)
        self._places = np.empty(PLACES_NBYTES, np.uint8)
        self._numbers = np.arange(_STEPS * FILES, dtype=np.uint32)
        self._most = self._flags = -1
        table = np.full(FILES, -1, np.int32)
        _call(_REGISTER, self._descriptor, _REGISTER_FILES, table.ctypes.data, FILES)
        self._write_entries()

    def _map(self, nbytes: int, offset: int) -> np.ndarray:
        """Memory that is shared with the kernel.

        `mmap.mmap` keeps the file open a second time, each of them.
        """
        how = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        access = mmap.PROT_READ | mmap.PROT_WRITE
        address = _libc().mmap(None, nbytes, access, how, self._descriptor, offset)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "the ring cannot be mapped")
        self._maps.append((address, nbytes))
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))

    def __del__(self) -> None:
        """Leave it to the kernel."""
        for address, nbytes in self._maps:
            _libc().munmap(address, nbytes)
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _write_entries(self) -> None:
        """All of each file but its size, and how it is opened."""
        entries, numbers = self._entries, np.arange(FILES, dtype=np.uint64)
        entries[:] = np.zeros(1, _ENTRY)
        opens, reads, closes = (entries[step::_STEPS] for step in range(_STEPS))
        opens["op"], opens["flags"], opens["fd"], opens["file"] = _OPEN, _LINK, _HERE, numbers + 1
        opens["address"] = self._paths.ctypes.data + numbers * np.uint64(PATH_NBYTES)
        # A read that gives less than the place holds would break an ordinary link.
        reads["op"], reads["flags"], reads["fd"] = _READ, _FIXED | _HARD_LINK, numbers
        closes["op"], closes["file"] = _CLOSE, numbers + 1
        entries["mark"] = self._numbers

    def read(self, paths: Sequence[bytes], flags: int, most: int) -> list[memoryview]:
        """The first files whole, up to one that is missing, damaged, empty or larger.

        Args:
            paths: at most `FILES` absolute ones, each shorter than `PATH_NBYTES` and without NULs.
            flags: to open them with.
            most: bytes; a file must have less. `most * len(paths)` is at most `PLACES_NBYTES`.

        Returns:
            Their bytes, until the next call.

        Raises:
            OSError: io_uring failed.
        """
        if flags != self._flags:
            self._entries["open_flags"][0::_STEPS] = flags & ~getattr(os, "O_CLOEXEC", 0)
            self._flags = flags
        if most != self._most:
            reads = self._entries[1::_STEPS]
            reads["nbytes"] = most
            reads["address"] = self._places.ctypes.data + np.arange(FILES, dtype=np.uint64) * most
            self._most = most
        names = b"".join([path.ljust(PATH_NBYTES, b"\0") for path in paths])
        self._paths.data[: len(names)] = names
        results = self._run(_STEPS * len(paths)).tolist()
        found: list[memoryview] = []
        places, begin = self._places.data, 0
        for opened, nbytes in zip(results[0::_STEPS], results[1::_STEPS], strict=True):
            if opened or not 0 < nbytes < most:
                break
            found.append(places[begin : begin + nbytes])
            begin += most
        return found

    def _run(self, count: int) -> np.ndarray:
        """Do what the first entries say; gives the result of each.

        Raises:
            OSError: io_uring failed.
        """
        order, numbers, tail = self._order, self._numbers[:count], int(self._tail[0])
        begin = tail % len(order)
        room = len(order) - begin
        order[begin : begin + count] = numbers[:room]
        if room < count:
            order[: count - room] = numbers[room:]
        left = count
        _busy[id(self)] = self  # from here on until all is done
        self._tail[0] = (tail + count) & _MASK
        head = int(self._done_head[0])
        while left or (int(self._done_tail[0]) - head) & _MASK < count:
            try:
                left -= _call(_ENTER, self._descriptor, left, count, _WAIT, 0, 0)
            except InterruptedError:  # handlers of signals have run
                continue
        begin = head % len(self._done)
        done = self._done[begin : begin + count]
        if len(done) < count:
            done = np.concatenate([done, self._done[: count - len(done)]])
        results = np.empty(count, np.int32)
        results[done["mark"]] = done["result"]
        self._done_head[0] = (head + count) & _MASK
        del _busy[id(self)]
        return results


class Rings:
    """Rings that nobody uses, and whether there are any at all."""

    def __init__(self) -> None:
        """Find that out when the first is asked for."""
        self._free: deque[Ring] = deque(maxlen=2 * (os.cpu_count() or 1))
        """Taking and giving back are atomic."""
        self._works: bool | None = None

    def take(self) -> Ring | None:
        """One that is the caller's; None where there is none."""
        if not self.work():
            return None
        try:
            return self._free.pop()
        except IndexError:
            pass
        try:
            return Ring()
        except OSError:  # too many files are open, say
            return None

    def give_back(self, ring: Ring) -> None:
        """Leave one to others."""
        self._free.append(ring)

    def work(self) -> bool:
        """Whether io_uring reads files here as it should."""
        if self._works is None:
            self._works = _is_wanted() and _reads_well()
        return self._works

    def give_up(self) -> None:
        """Use none from now on."""
        self._works = False

    def forget(self) -> None:
        """In a forked child, whose rings are its parent's."""
        self._free.clear()
        _busy.clear()


rings = Rings()
"""Of this process."""


def read_whole(  # noqa: PLR0913, PLR0917
    wanted: Sequence[Wanted],
    path_of: Callable[[str], str | None],
    flags: int,
    usual: int,
    memory: Memory,
    stopped: Callable[[], bool],
) -> list[int]:
    """The first of a row, as `gpuzarr.stores.store.ReadRow` reads it, that are small whole files.

    Args:
        wanted: the row.
        path_of: the path of a key, or None.
        flags: to open files with.
        usual: bytes of the largest, about; 0: not known.
        memory: where to put them.
        stopped: whether to give up; asked after each call.

    Returns:
        For each of them what is used of the memory once it is read. They end before what is
        missing, damaged, empty or larger than is usual; none where io_uring is not to be had.
    """
    ends: list[int] = []
    if len(wanted) < LEAST_FILES or not 0 < usual <= USUAL_NBYTES:
        return ends
    ring = rings.take()
    if ring is None:
        return ends
    most = -(-(usual + usual // 4 + 1) // LEAST_NBYTES) * LEAST_NBYTES
    step = min(FILES, PLACES_NBYTES // most)
    names = _names(wanted, path_of)
    while len(ends) < len(names):
        some = names[len(ends) : len(ends) + step]
        try:
            found = ring.read(some, flags, most)
        except OSError:
            rings.give_up()
            return ends
        sums = list(accumulate(map(len, found), initial=0))
        begin, room = memory.used, memory.allocate(sums[-1])
        for data, start, end in zip(found, sums, sums[1:], strict=False):
            room[start:end] = data
        ends += [begin + end for end in sums[1:]]
        if len(found) < len(some) or stopped():
            break
    rings.give_back(ring)
    return ends


def _names(wanted: Sequence[Wanted], path_of: Callable[[str], str | None]) -> list[bytes]:
    """The paths, for the system, of the first of a row that are whole files."""
    paths: list[str] = []
    for key, offset, nbytes, expected in wanted:
        path = path_of(key)
        if path is None or nbytes != WHOLE or offset or expected is not None:
            break
        paths.append(path)
    names = os.fsencode("\0".join(paths)).split(b"\0") if paths else []
    is_good = len(names) == len(paths) and max(map(len, names), default=0) < PATH_NBYTES
    return names if is_good else []


def _is_wanted() -> bool:
    return sys.platform.startswith("linux") and os.environ.get(ENVIRONMENT) != "0"


def _reads_well() -> bool:
    """Read this file, and find one missing."""
    path = os.fsencode(os.path.abspath(__file__))  # noqa: PTH100  bytes
    try:
        with open(path, "rb") as file:  # noqa: PTH123  bytes
            expected = file.read()
        found = Ring().read([path, path, path + b"?", path], os.O_RDONLY, len(expected) + 1)
    except (OSError, ValueError):
        return False
    return [*map(bytes, found)] == [expected] * 2


def _call(number: int, *arguments: int) -> int:
    """A system call.

    Raises:
        OSError: it failed.
    """
    result: int = _libc().syscall(number, *map(ctypes.c_long, arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code or errno.EINVAL, os.strerror(code))
    return result


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    library.mmap.restype = ctypes.c_void_p
    numbers = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *numbers)
    library.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return library


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=rings.forget)
