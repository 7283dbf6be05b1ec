"""Walking zstd frames (RFC 8878) without decoding them: where they end, what sizes they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np

from gpuzarr.engines.step_error import DamageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = 0xFD2FB528
SKIPPABLE_MAGIC = 0x184D2A50
RLE_BLOCK = 1
RESERVED_BLOCK = 3
CHECKSUM_NBYTES = 4
LEAST_FRAME = 14
"""Frames below this many bytes are not looked at together: their heads would reach into others."""
HEAD = np.arange(LEAST_FRAME)
BYTE_WEIGHTS = np.array([1, 1 << 8, 1 << 16])
MOST_BLOCKS = 4
"""Blocks of a frame that are looked at together: 512 KiB of content."""


def content_size(encoded: memoryview) -> int | None:
    """Bytes in all frames together; None where a frame does not say.

    Raises:
        DamageError: the frames do not end where the bytes do.
    """
    total: int | None = 0
    place = 0
    if not encoded:
        _truncated()
    while place < len(encoded):
        place, size = _walk_frame(encoded, place)
        total = None if size is None or total is None else total + size
    return total


def is_one_frame(encoded: memoryview, nbytes: int) -> bool:
    """Whether the bytes are exactly one frame that says `nbytes` of content."""
    try:
        return _walk_frame(encoded, 0) == (len(encoded), nbytes)
    except DamageError:
        return False


def are_frames(
    encoded: memoryview, start: NDArray[np.int64], sizes: NDArray[np.int64], nbytes: int
) -> bool:
    """Whether many ranges are each exactly one frame that says `nbytes` of content.

    Only for frames with headers of one form and few blocks, as one writer makes them of chunks of
    one size; False for others.

    Args:
        encoded: what the ranges lie in.
        start: (n,) first byte of each range.
        sizes: (n,) bytes of each range.
        nbytes: the content of each frame.
    """
    data = np.frombuffer(encoded, np.uint8)
    if int(sizes.min()) < LEAST_FRAME:
        return False
    head = data[start[:, None] + HEAD]
    if bool((head[:, :5] != head[0, :5]).any()):
        return False
    magic = int(head[0, :4].view("<u4")[0])
    descriptor = int(head[0, 4])
    single_segment = descriptor >> 5 & 1
    size_nbytes = (single_segment, 2, 4, 8)[descriptor >> 6]
    if magic != MAGIC or descriptor & 3 or not size_nbytes:
        return False
    place = 6 - single_segment
    content = np.zeros((len(start), 8), np.uint8)
    content[:, :size_nbytes] = head[:, place : place + size_nbytes]
    due = nbytes - 256 if size_nbytes == 2 else nbytes  # noqa: PLR2004  see `_walk_frame`
    if bool((content.view("<i8") != due).any()):
        return False
    block = start + place + size_nbytes
    end = start + sizes - (CHECKSUM_NBYTES if descriptor & 4 else 0)
    last = np.zeros(len(start), np.bool_)
    for _ in range(MOST_BLOCKS):
        where = np.minimum(block[:, None] + HEAD[:3], len(data) - 1)
        header = data[where] @ BYTE_WEIGHTS
        kind = header >> 1 & 3
        if bool((kind == RESERVED_BLOCK).any()):
            return False
        stored = np.where(kind == RLE_BLOCK, 1, header >> 3)
        block = np.where(last, block, block + 3 + stored)
        last |= (header & 1).astype(np.bool_)
        if bool(last.all()):
            return bool((block == end).all())
        if bool((block[~last] + 3 > end[~last]).any()):
            return False
    return False


def _walk_frame(encoded: memoryview, place: int) -> tuple[int, int | None]:
    """Where a frame ends, and its content size (0 for a skippable frame)."""
    magic = _read(encoded, place, 4)
    if magic & 0xFFFFFFF0 == SKIPPABLE_MAGIC:
        end = place + 8 + _read(encoded, place + 4, 4)
        if end > len(encoded):
            _truncated()
        return end, 0
    if magic != MAGIC:
        raise DamageError(f"{magic:#010x} is not the magic number of a frame")
    descriptor = _read(encoded, place + 4, 1)
    single_segment = descriptor >> 5 & 1
    dictionary_nbytes = (0, 1, 2, 4)[descriptor & 3]
    size_nbytes = (single_segment, 2, 4, 8)[descriptor >> 6]
    place += 5 + (1 - single_segment) + dictionary_nbytes
    size = None
    if size_nbytes:
        size = _read(encoded, place, size_nbytes)
        if size_nbytes == 2:  # noqa: PLR2004  the two-byte form starts where the one-byte form ends
            size += 256
    place += size_nbytes
    last = False
    while not last:
        header = _read(encoded, place, 3)
        last = bool(header & 1)
        kind, nbytes = header >> 1 & 3, header >> 3
        if kind == RESERVED_BLOCK:
            raise DamageError("a block of a reserved kind")
        place += 3 + (1 if kind == RLE_BLOCK else nbytes)
    if descriptor & 4:
        place += CHECKSUM_NBYTES
    if place > len(encoded):
        _truncated()
    return place, size


def _read(encoded: memoryview, place: int, nbytes: int) -> int:
    if place + nbytes > len(encoded):
        _truncated()
    return int.from_bytes(encoded[place : place + nbytes], "little")


def _truncated() -> NoReturn:
    raise DamageError("the data end in the middle of a frame")
