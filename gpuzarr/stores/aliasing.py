"""Reads into memory that the kernel copies to at a tenth of its speed.

AMD's processors with "fast short rep mov" (Zen 3 and later) are slow at the instruction that Linux
copies with where the target lies 1 to 31 bytes behind the source, as far as the lower 12 bits of
addresses tell. The source is the page cache, where a file's bytes lie at their offset from the
start of a page; the target, where `malloc` of glibc makes large arrays, 16 bytes behind one. So a
whole file that is read into a new NumPy array meets this every time (`benchmarks/aliasing.py`).

`new_memory` begins at a cache line. What is left, callers' arrays and ranges at unlucky places, is
read through a small piece of memory that lies elsewhere.
"""

from __future__ import annotations

import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import ctypes
except ImportError:  # some Pythons have none
    HAS_CTYPES = False
else:
    HAS_CTYPES = True

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LINE_NBYTES = 1 << 6
"""A cache line."""
LEAST_NEW_NBYTES = 1 << 16
"""New memory from this size on begins at one; less is copied to in no time."""
PAGE_NBYTES = 1 << 12
SLOW = range(1, 32)
"""Bytes from the source to the target, modulo a page, between which copies are slow."""
LEAST_NBYTES = 1 << 17
"""Reads from this size on are looked at: a slow one takes 70 us longer, looking at one takes
0.7 us, and of reads to anywhere every 130th is slow."""
PIECE_NBYTES = 1 << 17
"""Read at a time, so that the copy finds it in a core's own cache. Whole pages, so that all pieces
lie alike."""

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_INFO_NBYTES = 1 << 13
"""Enough for what it says of one processor."""


def new_memory(nbytes: int) -> NDArray[np.uint8]:
    """(nbytes,) uninitialised memory."""
    if nbytes < LEAST_NEW_NBYTES:
        return np.empty(nbytes, np.uint8)
    memory = np.empty(nbytes + LINE_NBYTES - 1, np.uint8)
    begin = -_address(memory) % LINE_NBYTES
    return memory[begin : begin + nbytes]


def is_slow(memory: memoryview, offset: int) -> bool:
    """Whether bytes of a file, from `offset` on, would be copied slowly to this memory."""
    return _may_be_slow() and (_address(memory) - offset) % PAGE_NBYTES in SLOW


def _address(memory: Any) -> int:
    """Where memory that may be written to begins."""
    if HAS_CTYPES:  # five times as fast
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))
    address: int = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    return address


def ask_processor() -> bool:
    """Whether this machine's is one of those."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        with _CPU_INFO.open("rb") as file:
            return is_slow_processor(file.read(_CPU_INFO_NBYTES))
    except OSError:
        return False


_may_be_slow = lru_cache(maxsize=1)(ask_processor)


def is_slow_processor(cpu_info: bytes) -> bool:
    """What `/proc/cpuinfo` says of it.

    >>> is_slow_processor(b"vendor_id : AuthenticAMD, flags : fpu fsrm")
    True
    """
    return b"AuthenticAMD" in cpu_info and b"fsrm" in cpu_info.split()


class _Elsewhere(threading.local):
    """A thread's memory to read through."""

    def __init__(self) -> None:
        memory = np.empty(PIECE_NBYTES + 2 * PAGE_NBYTES, np.uint8)
        begin = -_address(memory) % PAGE_NBYTES
        self.memory = memory[begin:].data


_elsewhere = _Elsewhere()


def read_elsewhere(
    read: Callable[[int, memoryview, int], int], descriptor: int, memory: memoryview, offset: int
) -> int:
    """Read to a place half a page away from where it would be slow, and copy; as `files.read_at`.

    Args:
        read: reads once, as `files.read_vectored`.
        descriptor: of the file.
        memory: for what is read.
        offset: of its first byte in the file.
    """
    begin = (offset + PAGE_NBYTES // 2) % PAGE_NBYTES  # the memory begins at a page
    piece = _elsewhere.memory[begin : begin + PIECE_NBYTES]
    wanted, done = len(memory), 0
    while done < wanted:
        count = read(descriptor, piece[: wanted - done], offset + done)
        if not count:
            break
        memory[done : done + count] = piece[:count]
        done += count
    return done
