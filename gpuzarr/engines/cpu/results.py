"""Memory for large results, used again once nobody holds them.

Memory that the system gives for the first time is cleared page by page while it is written to: for
uncompressed chunks a quarter of a read's time. Whoever reads batch after batch drops one result for
the next, so that the memory of one can become that of another.

What is kept is marked free to the system (MADV_FREE), which takes it, without asking, when anyone
needs memory; until then it still counts as used where programs count pages. A little is kept as it
is, since marking takes 20 us a MiB, and writing to it then 12 more. No more than a sixteenth of the
machine's memory is kept, and 1 GiB at most; and before memory of another size is taken from the
system, as much of what is kept is given back.

Linux only. Elsewhere, and for small results, which the C library keeps by itself, it is NumPy's.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.stores.aliasing import new_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_NBYTES = 1 << 20
"""Results below this size are left to the C library."""

MOST_KEPT_NBYTES = 1 << 30
"""Kept at most, on machines that have sixteen times as much."""

KEPT_FRACTION = 16

UNMARKED_NBYTES = 1 << 25
"""What is kept and not marked free, at most..."""
MOST_UNMARKED_NBYTES = 1 << 23
"""...of results up to this size."""

_HUGE_NBYTES = 1 << 21
"""Results from this size on lie in huge pages, where the system has any: they take fewer faults."""

_AVAILABLE = all(
    hasattr(mmap, name) for name in ("MADV_FREE", "MADV_HUGEPAGE", "MAP_ANONYMOUS", "MAP_PRIVATE")
)


class ResultMemory:
    """Memory of results that were dropped, up to a number of bytes."""

    def __init__(self, limit_nbytes: int) -> None:
        """Keep nothing yet, and never more than `limit_nbytes`."""
        self.limit_nbytes = limit_nbytes
        self.kept_nbytes = 0
        """Bytes of what is kept."""
        self.unmarked_nbytes = 0
        """Bytes of that which the system cannot take."""
        self._kept: deque[tuple[mmap.mmap, bool]] = deque()  # and whether it is marked free
        # Results are dropped anywhere, also by a garbage collection in the middle of `take`. So
        # `_give_back` never waits for the lock, and `take` waits only for other threads.
        self._lock = threading.Lock()

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """(nbytes,) memory with anything in it, which comes back when its last view is dropped.

        Raises:
            MemoryError: the system has not so much.
        """
        if nbytes < LEAST_NBYTES:
            return np.empty(nbytes, np.uint8)
        if not _AVAILABLE or nbytes > self.limit_nbytes:
            return new_memory(nbytes)
        with self._lock:
            memory = self._find(nbytes)
        if memory is None:
            memory = _map(nbytes)
        array = np.frombuffer(memory, np.uint8, nbytes)
        weakref.finalize(array, self._give_back, memory).atexit = False
        return array

    def release(self) -> None:
        """Give to the system what is kept."""
        with self._lock:
            self._give_up(self.kept_nbytes)

    def _find(self, nbytes: int) -> mmap.mmap | None:
        """Kept memory of about this size; where there is none, as much is given up."""
        for _ in range(len(self._kept)):
            memory = self._kept[0][0]
            if nbytes <= len(memory) <= nbytes + nbytes // 8 + _HUGE_NBYTES:
                return self._pop()
            self._kept.rotate(-1)
        self._give_up(nbytes)
        return None

    def _give_up(self, nbytes: int) -> None:
        """Give the oldest to the system, until it was so much or nothing is left."""
        while nbytes > 0 and self._kept:
            nbytes -= len(self._pop())

    def _pop(self) -> mmap.mmap:
        """The oldest, which is kept no more."""
        memory, is_marked = self._kept.popleft()
        self.kept_nbytes -= len(memory)
        if not is_marked:
            self.unmarked_nbytes -= len(memory)
        return memory

    def _give_back(self, memory: mmap.mmap) -> None:
        """Keep the memory of a result that was dropped, if there is room for it."""
        if not self._lock.acquire(blocking=False):
            return  # not kept then; the system has it back
        try:
            nbytes = len(memory)
            if self.kept_nbytes + nbytes <= self.limit_nbytes:
                most = min(UNMARKED_NBYTES, self.limit_nbytes) - self.unmarked_nbytes
                is_marked = nbytes > min(MOST_UNMARKED_NBYTES, most)
                if is_marked:
                    memory.madvise(mmap.MADV_FREE)
                else:
                    self.unmarked_nbytes += nbytes
                self._kept.append((memory, is_marked))
                self.kept_nbytes += nbytes
        except OSError:
            pass  # a system that cannot take it back when it must: not kept
        finally:
            self._lock.release()


def _map(nbytes: int) -> mmap.mmap:
    """Memory from the system, of this process alone."""
    if nbytes >= _HUGE_NBYTES:
        nbytes = -(-nbytes // _HUGE_NBYTES) * _HUGE_NBYTES
    try:
        memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, ValueError) as error:
        raise MemoryError(f"the system has no {nbytes} bytes: {error}") from error
    if nbytes >= _HUGE_NBYTES:
        with suppress(OSError):  # of a system without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _limit_nbytes() -> int:
    try:
        nbytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0
    return min(MOST_KEPT_NBYTES, nbytes // KEPT_FRACTION)


_memory = ResultMemory(_limit_nbytes())
"""The one of this process."""


def take(nbytes: int) -> NDArray[np.uint8]:
    """As `ResultMemory.take`, from the memory of this process."""
    return _memory.take(nbytes)


def release() -> None:
    """As `ResultMemory.release`, for the memory of this process."""
    _memory.release()


def _start_anew() -> None:
    """In a forked child: another thread of its parent may have held the lock."""
    global _memory  # noqa: PLW0603  one a process
    _memory = ResultMemory(_memory.limit_nbytes)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
