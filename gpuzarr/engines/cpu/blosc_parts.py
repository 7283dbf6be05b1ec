"""Parts of Blosc frames: only the blocks that hold what is needed.

Blocks are compressed each by itself, and c-blosc has a call for some of them, which numcodecs does
not pass on. So the blocks that are needed are put into a frame of their own, with the header of the
whole one: what c-blosc makes of a block depends on its bytes, the header, and on whether it is the
last one and shorter than the others, which it is in the smaller frame if it is in the larger.

Nothing is judged here. Where a frame is not as it should be, the answer is no, and decoding all of
it tells what is wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from struct import pack, unpack_from
from typing import TYPE_CHECKING, NamedTuple

from gpuzarr.engines.cpu.blosc import HEADER, MEMCPYED, check_frame, decompress
from gpuzarr.engines.cpu.prepared import Scratch, is_part
from gpuzarr.engines.step_error import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuzarr.engines.cpu.prepared import Span

HEAD_NBYTES = 1 << 12
"""Bytes at the beginning of a frame that tell where its blocks are, if there are no more than a
thousand."""


_room = Scratch()
"""Of each thread, for frames that are put together."""


class BlockRun(NamedTuple):
    """Consecutive blocks of a frame."""

    begin: int
    """First byte that they decode to..."""
    end: int
    """... and the one behind the last."""
    low: int
    """First byte of the frame in which they lie..."""
    high: int
    """... and the one behind the last."""
    starts: tuple[int, ...]
    """Where each begins, counted from `low`; none where the bytes are stored as they are."""


def find_runs(
    head: memoryview, nbytes: int, spans: Sequence[Span], stored: int | None = None
) -> list[BlockRun] | None:
    """The blocks that hold some ranges of bytes; None: all of the frame is to be decoded.

    Args:
        head: the frame, or its beginning.
        nbytes: what it must decode to.
        spans: what is needed.
        stored: bytes that are there of the frame; None: not known.
    """
    try:
        found, count = check_frame(head, stored)
    except DamageError:
        return None
    if found != nbytes or count < 2:  # noqa: PLR2004  a part of one block is all of it
        return None
    *_, flags, _, _, block, stored = HEADER.unpack_from(head)
    first = HEADER.size
    if flags & MEMCPYED:
        return [BlockRun(begin, end, first + begin, first + end, ()) for begin, end in spans]
    needed = {one for begin, end in spans for one in range(begin // block, -(-end // block))}
    bodies = first + 4 * count
    if not is_part(len(needed), count) or bodies > len(head):
        return None
    starts = unpack_from(f"<{count}i", head, first)
    ordered = [*sorted(starts), stored]
    if ordered[0] < bodies or ordered[-2] >= stored:
        return None
    runs: list[BlockRun] = []
    for begin, end in _runs(sorted(needed)):
        if begin == count - 1 and nbytes % block:
            begin -= 1  # noqa: PLW2901  a frame is no shorter than one of its blocks
        own = starts[begin:end]
        # Blocks may lie in any order. Up to the next one are all bytes of each.
        low, high = min(own), ordered[bisect_right(ordered, max(own))]
        places = tuple([start - low for start in own])
        runs.append(BlockRun(begin * block, min(end * block, nbytes), low, high, places))
    return runs


def decode_run(header: bytes, run: BlockRun, data: memoryview, place: memoryview) -> bool:
    """Decode consecutive blocks to where they belong; says whether it was done.

    Args:
        header: the frame's.
        run: the blocks.
        data: the bytes of the frame in which they lie.
        place: for all of what the frame holds.
    """
    if not run.starts:
        return decode_behind(header, run, data, place)
    room = _room.take_many(head_nbytes(run) + len(data))
    room[head_nbytes(run) :] = data
    return decode_behind(header, run, room, place)


def decode_behind(header: bytes, run: BlockRun, room: memoryview, place: memoryview) -> bool:
    """The same of blocks that lie behind `head_nbytes` bytes, which are written over."""
    count, base = len(run.starts), head_nbytes(run)
    if not count:
        place[run.begin : run.end] = room
        return True
    starts = [start + base for start in run.starts]
    nbytes, stored = pack("<i", run.end - run.begin), pack("<i", len(room))
    room[:base] = header[:4] + nbytes + header[8:12] + stored + pack(f"<{count}i", *starts)
    try:
        decompress(room, place[run.begin : run.end], count)
    except (RuntimeError, ValueError):
        return False
    return True


def head_nbytes(run: BlockRun) -> int:
    """Bytes before the blocks in a frame of their own; none where they are stored as they are."""
    return HEADER.size + 4 * len(run.starts) if run.starts else 0


def decode_spans(encoded: memoryview, place: memoryview, spans: Sequence[Span]) -> bool:
    """Decode some ranges of bytes of what a frame holds, and perhaps more.

    Args:
        encoded: the frame.
        place: for all of what it holds; the ranges are written where they belong.
        spans: what is needed, as first byte and the one behind the last.

    Returns:
        Whether it was done; else it is to be decoded as a whole.
    """
    runs = find_runs(encoded, len(place), spans, len(encoded))
    header = bytes(encoded[: HEADER.size])
    return runs is not None and all(
        decode_run(header, run, encoded[run.low : run.high], place) for run in runs
    )


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Consecutive numbers, as the first and the one behind the last.

    >>> list(_runs([1, 2, 3, 7]))
    [(1, 4), (7, 8)]
    """
    begin = end = numbers[0]
    for number in numbers:
        if number != end:
            yield begin, end
            begin = number
        end = number + 1
    yield begin, end
