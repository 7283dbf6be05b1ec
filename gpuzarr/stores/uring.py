"""Many small files read by one system call, with Linux's io_uring.

A file takes four system calls, and each gives the interpreter's lock away and takes it again: two
threads that read small files wait for each other longer than they read. Here opening, reading and
closing of up to 64 files are written into a ring that the kernel shares, and one call does them
all. Files are opened into the ring's own table, so they count as no open files of the process.

Only what is usual is done here: a file that is missing, no plain file, or larger than its place,
ends the row, and is read, or told of, as ever. Where io_uring is missing, switched off (containers
often do so), or does anything unexpected, nothing is done here at all. `GPUZARR_IO_URING=0` leaves
it out.

Of each file the ring has five entries, which are done one after the other:

- it is opened;
- it is said to be read as usual (FADV_NORMAL), which pipes refuse: reading one could wait for ever;
- it is read, up to the size of its place;
- one byte more is read, which must not be there: some file systems give less than there is;
- it is closed.

Source of the layouts and numbers: the kernel's header <linux/io_uring.h>, and io_uring(7). Stores
to the ring need no barriers of their own: only the thread that made them enters the kernel with
them, and completions are read after that call has seen them all.
"""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.stores.aliasing import new_memory
from gpuzarr.stores.libc import libc
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
LEAST_FILES = 16
"""Files that are worth a call: one thread reads eight as quickly without."""
SKIPPED_ROWS = 16
"""Rows that are left to others, where files of one before were missing."""

ENVIRONMENT = "GPUZARR_IO_URING"

_SETUP, _ENTER, _REGISTER = 425, 426, 427
_OFFSET_OF_ENTRIES = 0x10000000
_REGISTER_FILES = 2
_WAIT = 1  # IORING_ENTER_GETEVENTS
_OPEN, _CLOSE, _READ, _ADVISE = 18, 19, 22, 24
_FIXED, _LINK, _HARD_LINK = 1 << 0, 1 << 2, 1 << 3
_HERE = -100  # AT_FDCWD
_ON = 2**64 - 1  # an offset: where the last read ended
_STEPS = 5
_MASK = 0xFFFFFFFF

_ENTRY = np.dtype(
    {
        "names": ["op", "flags", "fd", "offset", "address", "nbytes", "open_flags", "mark", "file"],
        "formats": ["u1", "u1", "i4", "u8", "u8", "u4", "u4", "u8", "u4"],
        "offsets": [0, 1, 4, 8, 16, 24, 28, 32, 44],
        "itemsize": 64,
    }
)
"""struct io_uring_sqe; `file` is one more than the place in the ring's table."""
_COMPLETION = np.dtype([("mark", "u8"), ("result", "i4"), ("flags", "u4")])
"""struct io_uring_cqe."""


class Ring:
    """A ring, for one thread at a time, with memory for what is read.

    Entries stay as they are from call to call: each file of a call has places of its own for its
    path and its bytes.
    """

    _is_busy = True
    """Whether the kernel may be writing to its memory."""

    def __init__(self) -> None:
        """Set it up.

        Raises:
            OSError: the system does not have it, or refuses.
        """
        self.process = os.getpid()
        self.is_good = True
        """Whether it may be used again."""
        self._descriptor, self._maps = -1, list[tuple[int, int]]()
        self._libc = libc()
        self._paths = np.zeros(FILES * PATH_NBYTES, np.uint8)
        self._places = new_memory(PLACES_NBYTES + 1)
        for memory in (self._paths, self._places):
            self._libc.keep(memory)
        self._is_busy = False
        parameters = np.zeros(30, np.uint32)  # struct io_uring_params
        self._descriptor = self._libc.call(_SETUP, _STEPS * FILES, parameters.ctypes.data)
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
        self._numbers = np.arange(_STEPS * FILES, dtype=np.uint32)
        self._most = self._flags = -1
        table = np.full(FILES, -1, np.int32)
        self._libc.call(_REGISTER, self._descriptor, _REGISTER_FILES, table.ctypes.data, FILES)
        self._write_entries()

    def _map(self, nbytes: int, offset: int) -> np.ndarray:
        """Memory that is shared with the kernel.

        `mmap.mmap` keeps the file open a second time, each of them.
        """
        memory = self._libc.map(self._descriptor, nbytes, offset)
        self._maps.append((memory.ctypes.data, nbytes))
        return memory

    def __del__(self) -> None:
        """Leave it to the kernel; all of it, where that may be at work yet."""
        if self._is_busy:
            return
        for address, nbytes in self._maps:
            self._libc.unmap(address, nbytes)
        if self._descriptor >= 0:
            self._libc.close(self._descriptor)
        for memory in (self._paths, self._places):
            self._libc.release(memory)

    def _write_entries(self) -> None:
        """All of each file but its size, and how it is opened."""
        entries, numbers = self._entries, np.arange(FILES, dtype=np.uint64)
        entries[:] = np.zeros(1, _ENTRY)
        opens, advices, reads, ends, closes = (entries[step::_STEPS] for step in range(_STEPS))
        opens["op"], opens["flags"], opens["fd"], opens["file"] = _OPEN, _LINK, _HERE, numbers + 1
        opens["address"] = self._paths.ctypes.data + numbers * np.uint64(PATH_NBYTES)
        advices["op"], advices["flags"], advices["fd"] = _ADVISE, _FIXED | _LINK, numbers
        # A read that gives less than it was asked for would break an ordinary link.
        for each in (reads, ends):
            each["op"], each["flags"], each["fd"] = _READ, _FIXED | _HARD_LINK, numbers
            each["offset"] = _ON
        ends["address"], ends["nbytes"] = self._places.ctypes.data + PLACES_NBYTES, 1
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
            reads = self._entries[2::_STEPS]
            reads["nbytes"] = most
            reads["address"] = self._places.ctypes.data + np.arange(FILES, dtype=np.uint64) * most
            self._most = most
        names = b"".join([path.ljust(PATH_NBYTES, b"\0") for path in paths])
        self._paths.data[: len(names)] = names
        results = self._run(_STEPS * len(paths)).reshape(-1, _STEPS)
        opened, closed = results[:, 0], results[:, -1]
        # What stays open could be taken for another file.
        self.is_good = not bool(((opened >= 0) & (closed < 0)).any())
        found: list[memoryview] = []
        places, begin = self._places.data, 0
        for failed, advised, nbytes, more, _ in results.tolist():
            if failed or advised or more or not 0 < nbytes < most:
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
        self._is_busy = True  # until all is done, whatever ends this
        self._tail[0] = (tail + count) & _MASK
        head = int(self._done_head[0])
        while left or (int(self._done_tail[0]) - head) & _MASK < count:
            try:
                taken = self._libc.call(_ENTER, self._descriptor, left, count, _WAIT)
            except InterruptedError:  # handlers of signals have run
                continue
            if left and not taken:
                raise OSError(errno.EAGAIN, "io_uring takes nothing")
            left -= taken
        begin = head % len(self._done)
        done = self._done[begin : begin + count]
        if len(done) < count:
            done = np.concatenate([done, self._done[: count - len(done)]])
        results = np.empty(count, np.int32)
        results[done["mark"]] = done["result"]
        self._done_head[0] = (head + count) & _MASK
        self._is_busy = False
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
        with suppress(IndexError):  # none is left
            while (ring := self._free.pop()).process != os.getpid():
                pass
            return ring
        try:
            return Ring()
        except OSError:  # too many files are open, say
            return None

    def give_back(self, ring: Ring) -> None:
        """Leave one to others."""
        if ring.is_good:
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


rings = Rings()
"""Of this process."""


class Manner:
    """What a store's files are like. Threads may share it: it is a guess, and no more."""

    def __init__(self) -> None:
        """Nothing is known."""
        self.nbytes = 0
        """Of the largest, about; 0: not known."""
        self.files = FILES
        """Of a call."""
        self.skipped = 0
        """Rows that are left to others yet."""

    def note(self, asked: int, found: int) -> None:
        """A call was asked for some files, and found the first of them."""
        if found == asked:
            self.files = min(FILES, 2 * self.files)
            return
        self.files = max(LEAST_FILES, found)
        self.skipped = SKIPPED_ROWS * (found < LEAST_FILES)


def read_whole(  # noqa: PLR0913, PLR0917
    wanted: Sequence[Wanted],
    path_of: Callable[[str], str | None],
    flags: int,
    manner: Manner,
    memory: Memory,
    stopped: Callable[[], bool],
) -> list[int]:
    """The first of a row, as `gpuzarr.stores.store.ReadRow` reads it, that are small whole files.

    Args:
        wanted: the row.
        path_of: the path of a key, or None.
        flags: to open files with.
        manner: what the store's files are like.
        memory: where to put them.
        stopped: whether to give up; asked after each call.

    Returns:
        For each of them what is used of the memory once it is read. They end before what is
        missing, damaged, empty or larger than is usual; none where io_uring is not to be had.
    """
    ends: list[int] = []
    usual = manner.nbytes
    if len(wanted) < LEAST_FILES or not 0 < usual <= USUAL_NBYTES:
        return ends
    if manner.skipped > 0:
        manner.skipped -= 1
        return ends
    ring = rings.take()
    if ring is None:
        return ends
    most = -(-(usual + usual // 4 + 1) // LEAST_NBYTES) * LEAST_NBYTES
    while len(ends) < len(wanted):
        step = min(manner.files, PLACES_NBYTES // most)
        some = wanted[len(ends) : len(ends) + step]
        names = _names(some, path_of)
        if not names:
            break
        try:
            found = ring.read(names, flags, most)
        except OSError:
            rings.give_up()
            return ends
        sums = list(accumulate(map(len, found), initial=0))
        begin, room = memory.used, memory.allocate(sums[-1])
        for data, start, end in zip(found, sums, sums[1:], strict=False):
            room[start:end] = data
        ends += [begin + end for end in sums[1:]]
        manner.note(len(names), len(found))
        if len(found) < len(some) or not ring.is_good or stopped():
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
    """Whether this is a system for it; Android ends processes that ask for it."""
    is_linux = sys.platform.startswith("linux") and not hasattr(sys, "getandroidapilevel")
    return is_linux and sys.maxsize > _MASK and os.environ.get(ENVIRONMENT) != "0"


def _reads_well() -> bool:
    """Read this file, and find one missing."""
    path = os.fsencode(os.path.abspath(__file__))  # noqa: PTH100  bytes
    try:
        with open(path, "rb") as file:  # noqa: PTH123  bytes
            expected = file.read()
        ring = Ring()
        found = ring.read([path, path, path + b"?", path], os.O_RDONLY, len(expected) + 1)
    except (OSError, ValueError, ImportError, AttributeError):  # some Pythons have no ctypes
        return False
    return ring.is_good and [*map(bytes, found)] == [expected] * 2


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=rings.forget)
