"""Blosc (version 1) frames: checked here, then decoded by c-blosc inside numcodecs.

c-blosc reads from a bare pointer, so the frame's own sizes are held against the buffer before it is
called. Within the frame it checks every block itself (1.21), except that blocks which do not divide
into elements leave bytes unwritten.

    byte  0 format version (2)     1 inner version     2 flags     3 type size
          4 decoded size           8 block size       12 frame size, all int32, little endian
         16 start of each block (int32), then the blocks
"""

from __future__ import annotations

import os
import threading
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING

import numcodecs.blosc

from gpuzarr.engines.cpu.prepared import Limit, new_bytes
from gpuzarr.engines.pool import Pool, Task, wait_for
from gpuzarr.engines.step_error import DamageError, expect_nbytes

if TYPE_CHECKING:
    from gpuzarr.engines.cpu.prepared import Run

HEADER = Struct("<BBBBiii")
FORMAT_VERSION = 2
MEMCPYED = 0x02
RESERVED = 0x08
NEVER_SPLIT = 0x10
MAX_SPLITS = 16
MIN_SPLIT_ITEMS = 128
SNAPPY = 2
LAST_FORMAT = 4


def prepare(nbytes: int | None, limit: Limit) -> Run:
    """The function of a Blosc step."""

    def decode_blosc(encoded: memoryview, target: memoryview | None) -> memoryview:
        size, blocks = check_frame(encoded, len(encoded))
        if nbytes is not None:
            expect_nbytes(size, nbytes)
        elif size > limit.of(encoded):
            raise DamageError(f"{size} bytes are more than these chunks can have")
        if size == 0:
            return memoryview(b"")
        place = new_bytes(size) if target is None else target
        decompress(encoded, place, blocks)
        return place

    return decode_blosc


def decompress(encoded: memoryview, place: memoryview, blocks: int) -> None:
    """Decode a frame of so many blocks, which `check_frame` has seen, in this thread or another.

    Raises:
        RuntimeError: it is damaged.
    """
    if blocks > 1 and threading.current_thread() is threading.main_thread():
        # In the main thread numcodecs would start Blosc's own threads, which are slower beside
        # other work and do not survive a fork; its switch for that belongs to the user.
        _helper.decompress(encoded, place)
    else:
        numcodecs.blosc.decompress(encoded, place)


def check_frame(encoded: memoryview, there: int | None = None) -> tuple[int, int]:
    """The decoded size of a frame and its number of blocks.

    Args:
        encoded: the frame, or its beginning.
        there: how many bytes are there of it; None: not known.

    Raises:
        DamageError: the frame is not one, or longer than the bytes that are there.
    """
    if len(encoded) < HEADER.size:
        raise DamageError(f"{len(encoded)} bytes are too few to hold a header")
    version, _, flags, itemsize, nbytes, block, stored = HEADER.unpack_from(encoded)
    if version != FORMAT_VERSION or flags & RESERVED or flags >> 5 > LAST_FORMAT:
        raise DamageError(f"format version {version} with flags {flags:#04x} is not known")
    if not HEADER.size <= stored or (there is not None and stored > there):
        raise DamageError(f"the frame has {stored} bytes, but {there} are there")
    if nbytes == 0:
        return 0, 0
    if nbytes < 0 or not 0 < block <= nbytes or itemsize == 0:
        raise DamageError(f"{nbytes} bytes in blocks of {block} with elements of {itemsize}")
    blocks = -(-nbytes // block)
    if flags & MEMCPYED:
        if stored != nbytes + HEADER.size:
            raise DamageError(f"{nbytes} bytes are stored plainly in a frame of {stored}")
    else:
        _check_blocks(flags, itemsize, block, blocks, stored)
    return nbytes, blocks


def _check_blocks(flags: int, itemsize: int, block: int, blocks: int, stored: int) -> None:
    if blocks > (stored - HEADER.size) // 4:
        raise DamageError(f"{blocks} blocks do not fit into {stored} bytes")
    if flags >> 5 == SNAPPY:
        raise DamageError("the frame uses snappy, which numcodecs is built without")
    split = not flags & NEVER_SPLIT and itemsize <= MAX_SPLITS
    if split and block // itemsize >= MIN_SPLIT_ITEMS and block % itemsize:
        raise DamageError(f"blocks of {block} bytes do not divide into elements of {itemsize}")


class _Helper:
    """One thread, started when first needed, that decodes for the main thread.

    It is a pool of its own, which never waits for what the threads of the others do.
    """

    def __init__(self) -> None:
        self._pool = Pool(1)
        self._pid = os.getpid()

    def decompress(self, encoded: memoryview, place: memoryview) -> None:
        """Call numcodecs from the thread and wait. Only the main thread does, so no lock."""
        if self._pid != os.getpid():
            self._pool, self._pid = Pool(1), os.getpid()
        task = Task(partial(numcodecs.blosc.decompress, encoded, place))
        try:
            is_begun = self._pool.start(task)
            if is_begun:
                task.result()
        except BaseException:
            wait_for([task])  # it reads and writes memory that others would take
            raise
        if not is_begun:  # at the end of the interpreter, or where no thread can be started
            numcodecs.blosc.decompress(encoded, place)


_helper = _Helper()
