"""Walking zstd frames (RFC 8878) without decoding them: where they end, what sizes they say."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NoReturn

from gpuzarr.engines.step_error import DamageError

if TYPE_CHECKING:
    from gpuzarr.engines.cpu.prepared import Frames

MAGIC = 0xFD2FB528
SKIPPABLE_MAGIC = 0x184D2A50
RLE_BLOCK = 1
RESERVED_BLOCK = 3
CHECKSUM_FLAG = 4
CHECKSUM_NBYTES = 4
MOST_HEAD_NBYTES = 18
"""Bytes of the longest head of a frame, magic number included."""


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


def has_checksum(frame: memoryview) -> bool:
    """Whether the content of a frame, which is one, is followed by its checksum."""
    return bool(frame[4] & CHECKSUM_FLAG)


def are_alike(frames: Frames, nbytes: int) -> bool:
    """Whether all are exactly one frame of one block that says `nbytes` of content.

    Only for frames with the same header, as one writer makes them of chunks of one size; False for
    others.
    """
    data, starts, sizes = frames.data, frames.starts.tolist(), frames.nbytes.tolist()
    first = data[starts[0] : starts[0] + sizes[0]]
    if not is_one_frame(first, nbytes):
        return False
    descriptor = first[4]
    size = 6 - (descriptor >> 5 & 1) + (descriptor >> 5 & 1, 2, 4, 8)[descriptor >> 6]
    header, head = bytes(first[:size]), struct.Struct(f"<{size}sHB")
    rest = head.size + (CHECKSUM_NBYTES if descriptor & CHECKSUM_FLAG else 0)
    unpack = head.unpack_from
    if min(sizes) < rest:
        return False
    for start, held in zip(starts, sizes, strict=True):
        found, low, high = unpack(data, start)  # a block's last bit, its kind and its size
        kind = low >> 1 & 3
        stored = 1 if kind == RLE_BLOCK else (high << 16 | low) >> 3
        if not low & 1 or kind == RESERVED_BLOCK or stored + rest != held or found != header:
            return False
    return not descriptor & 3


def _walk_frame(encoded: memoryview, place: int) -> tuple[int, int | None]:
    """Where a frame ends, and its content size (0 for a skippable frame)."""
    from_bytes, end = int.from_bytes, len(encoded)
    head = from_bytes(encoded[place : place + MOST_HEAD_NBYTES], "little")
    magic = head & 0xFFFFFFFF
    if place + 5 > end:
        _truncated()
    if magic != MAGIC:
        return _walk_skippable(place, head, end)
    descriptor = head >> 32 & 0xFF
    nbytes, size = _read_head(head, descriptor)
    place += nbytes
    last = 0
    while not last:
        block = from_bytes(encoded[place : place + 3], "little")
        place += 3
        if place > end:
            _truncated()
        last, kind = block & 1, block >> 1 & 3
        if kind == RLE_BLOCK:
            place += 1
        elif kind != RESERVED_BLOCK:
            place += block >> 3
        else:
            raise DamageError("a block of a reserved kind")
    if descriptor & CHECKSUM_FLAG:
        place += CHECKSUM_NBYTES
    if place > end:
        _truncated()
    return place, size


def _read_head(head: int, descriptor: int) -> tuple[int, int | None]:
    """Bytes of a frame's head, and its content size."""
    single_segment = descriptor >> 5 & 1
    size_nbytes = (single_segment, 2, 4, 8)[descriptor >> 6]
    before = 6 - single_segment + (0, 1, 2, 4)[descriptor & 3]
    if not size_nbytes:
        return before, None
    size = head >> 8 * before & (1 << 8 * size_nbytes) - 1
    if size_nbytes == 2:  # noqa: PLR2004  the two-byte form starts where the one-byte form ends
        size += 256
    return before + size_nbytes, size


def _walk_skippable(place: int, head: int, end: int) -> tuple[int, int]:
    """Where a skippable frame ends, and that it holds nothing."""
    magic = head & 0xFFFFFFFF
    if magic & 0xFFFFFFF0 != SKIPPABLE_MAGIC:
        raise DamageError(f"{magic:#010x} is not the magic number of a frame")
    stop = place + 8 + (head >> 32 & 0xFFFFFFFF)
    if stop > end:
        _truncated()
    return stop, 0


def _truncated() -> NoReturn:
    raise DamageError("the data end in the middle of a frame")
