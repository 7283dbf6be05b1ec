"""zstd frames (RFC 8878), walked in lockstep: all chunks block after block, none decoded.

    magic 4 | descriptor 1 | window 0-1 | dictionary 0-4 | content size 0-8 | blocks | checksum 0-4
    block: 3 bytes (last 1 bit, kind 2, size 21), then `size` bytes, or one for a run

nvCOMP is given frames that say how much they hold and name no dictionary, not even number 0, which
means none. Everything else that is valid is the host's. The number of blocks is what nvCOMP's
temporary memory depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.frames.columns import MOST, Verdicts, read_integers
from gpuzarr.engines.cuda.frames.streams import UNCHECKED, Frames, StreamTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.frames.streams import EncodedChunks

    Integers = NDArray[np.int64]

MAGIC = 0xFD2FB528
SKIPPABLE_MAGIC = 0x184D2A50
SINGLE_SEGMENT, UNUSED, RESERVED, CHECKSUM = 0x20, 0x10, 0x08, 0x04
RUN, RESERVED_KIND = 1, 3
CHECKSUM_NBYTES = 4
BLOCK_HEADER_NBYTES = 3
LONGEST_NUMBER = 8
MOST_BLOCK_NBYTES = 128 << 10
MOST_FRAMES = 64
"""Frames of a chunk, above which it is left to the host."""
LEAST_BLOCK_NBYTES = 256
"""Output of a block on average, below which a frame is left to the host: no compressor makes such
blocks, and walking them takes time."""
TRUNCATED = "the data end in the middle of a frame"


@dataclass(slots=True, eq=False)
class _Walk:
    """Where the walk is in each chunk."""

    data: NDArray[np.uint8]
    place: Integers
    """(n,) the next byte."""
    end: Integers
    """(n,) the end of the chunk."""
    expected: Integers
    verdicts: Verdicts
    tables: list[StreamTable]
    """Frames found so far, one table a round."""

    def integers(self, rows: Integers, nbytes: int, ahead: Integers | int = 0) -> Integers:
        """Integers `ahead` of where the rows are; those that do not have them are truncated."""
        place = self.place[rows] + ahead
        short = place + nbytes > self.end[rows]
        self.verdicts.fail(rows, short, TRUNCATED)
        return read_integers(self.data, np.where(short, 0, place), nbytes)

    def live(self, rows: Integers) -> Integers:
        """Those of the rows with which nothing is wrong yet."""
        return rows[self.verdicts.good[rows]]


def walk_zstd(chunks: EncodedChunks) -> Frames:
    """The frames of a batch of chunks; see `Frames`."""
    n = len(chunks)
    rows = np.arange(n)
    verdicts = Verdicts(n)
    verdicts.leave(rows, chunks.decoded == 0, "it holds nothing")
    end = chunks.offset + chunks.nbytes
    data = chunks.data
    if len(data) < LONGEST_NUMBER:  # where numbers that are not there are read from
        data = np.concatenate([data, np.zeros(LONGEST_NUMBER, np.uint8)])
    walk = _Walk(data, chunks.offset.copy(), end, chunks.decoded, verdicts, [])
    verdicts.fail(rows, chunks.nbytes == 0, TRUNCATED)
    rows = walk.live(rows)
    for _ in range(MOST_FRAMES):
        if not len(rows):
            break
        rows = _next_frame(walk, rows)
    verdicts.leave(rows, np.ones(len(rows), np.bool_), "it has very many frames")
    table = StreamTable.join(walk.tables)
    total = np.bincount(table.chunk, np.minimum(table.decoded, MOST), minlength=n)
    wrong = np.flatnonzero(verdicts.good & (total != chunks.decoded))
    everything = np.ones(len(wrong), np.bool_)
    expected = chunks.decoded
    verdicts.fail(
        wrong,
        everything,
        lambda k: f"{int(total[wrong[k]])} bytes instead of {expected[wrong[k]]}",
    )
    empty = table.chunk[table.decoded == 0]
    verdicts.leave(empty, np.ones(len(empty), np.bool_), "it has an empty frame")
    table = table.take(np.flatnonzero(verdicts.good[table.chunk]))
    begins = np.cumsum(table.decoded) - table.decoded
    first = np.searchsorted(table.chunk, table.chunk)
    table.target[:] = begins - begins[first]
    streams = {"zstd": table} if len(table) else {}
    nothing = table.take(np.zeros(0, np.int64))
    return Frames(streams, nothing, verdicts.failures, verdicts.host)  # type: ignore[arg-type]


def _next_frame(walk: _Walk, rows: Integers) -> Integers:
    """Walk over the next frame of some chunks; gives the chunks in which more follows."""
    verdicts = walk.verdicts
    magic = walk.integers(rows, 4)
    skippable = (magic & 0xFFFFFFF0) == SKIPPABLE_MAGIC
    other = ~skippable & (magic != MAGIC)
    verdicts.fail(rows, other, lambda k: f"{magic[k]:#010x} is not the magic number of a frame")
    skipped = walk.live(rows[skippable])
    if len(skipped):
        walk.place[skipped] += 8 + walk.integers(skipped, 4, 4)
        verdicts.fail(skipped, walk.place[skipped] > walk.end[skipped], TRUNCATED)
    framed = walk.live(rows[magic == MAGIC])
    if len(framed):
        _walk_frames(walk, framed)
    rows = walk.live(rows)
    return rows[walk.place[rows] < walk.end[rows]]


def _walk_frames(walk: _Walk, rows: Integers) -> None:
    """Walk over data frames that begin where the rows are."""
    verdicts = walk.verdicts
    start = walk.place.copy()
    descriptor = walk.integers(rows, 1, 4)
    size_nbytes = np.array([0, 2, 4, 8])[descriptor >> 6]
    single = (descriptor & SINGLE_SEGMENT) != 0
    size_nbytes = np.where(single & (size_nbytes == 0), 1, size_nbytes)
    dictionary_nbytes = np.array([0, 1, 2, 4])[descriptor & 3]
    verdicts.leave(rows, (descriptor & (UNUSED | RESERVED)) != 0, "its header has unknown bits")
    window = np.full(len(rows), MOST)
    with_window = np.flatnonzero(~single)
    if len(with_window):
        code = walk.integers(rows[with_window], 1, 5)
        base = np.left_shift(1, 10 + (code >> 3))
        window[with_window] = base + (base >> 3) * (code & 7)
    ahead = 5 + ~single + dictionary_nbytes
    content = np.full(len(rows), -1)
    for nbytes in (1, 2, 4, 8):
        sized = np.flatnonzero(size_nbytes == nbytes)
        if len(sized):
            found = walk.integers(rows[sized], nbytes, ahead[sized])
            content[sized] = found + (256 if nbytes == 2 else 0)  # noqa: PLR2004  RFC 8878
    verdicts.leave(rows, dictionary_nbytes > 0, "it names a dictionary")
    window = np.where(single, content, window)
    walk.place[rows] += ahead + size_nbytes
    blocks = _walk_blocks(walk, rows, np.minimum(window, MOST_BLOCK_NBYTES))
    checked = (descriptor & CHECKSUM) != 0
    check = np.full(len(rows), UNCHECKED)
    at = np.flatnonzero(checked & verdicts.good[rows])
    if len(at):
        check[at] = walk.integers(rows[at], CHECKSUM_NBYTES)
        walk.place[rows[at]] += CHECKSUM_NBYTES
    # A frame that is damaged behind this is found damaged, whatever its header says; so this last.
    verdicts.leave(rows, content < 0, "it does not say its size")
    good = np.flatnonzero(verdicts.good[rows])
    kept = rows[good]
    walk.tables.append(
        StreamTable(
            kept,
            start[kept],
            walk.place[kept] - start[kept],
            np.zeros(len(kept), np.int64),
            content[good],
            blocks[good],
            check[good],
        )
    )


def _walk_blocks(walk: _Walk, rows: Integers, most: Integers) -> Integers:
    """Walk over the blocks of frames; gives how many each has."""
    verdicts = walk.verdicts
    blocks = np.zeros(len(rows), np.int64)
    at = np.flatnonzero(verdicts.good[rows])
    here = rows[at]
    place, end, most = walk.place[here], walk.end[here], most[at]
    limit = 64 + walk.expected[here] // LEAST_BLOCK_NBYTES
    count = 0
    # Frames begin together, so all have the same number of blocks behind them. Few calls a round
    # count here: where few frames have many blocks, calls are all that it costs.
    while len(at):
        count += 1
        short = place + BLOCK_HEADER_NBYTES > end
        # With the byte before it, which there is, a header is as long as a number.
        header = read_integers(walk.data, np.where(short, 0, place - 1), 4) >> 8
        kind, size = header >> 1 & 3, header >> 3
        place = place + BLOCK_HEADER_NBYTES + np.where(kind == RUN, 1, size)
        reserved, large, beyond = kind == RESERVED_KIND, size > most, place > end
        wrong = short | reserved | large | beyond | (count > limit)
        done = wrong | (header & 1 != 0)
        if not done.any():
            continue
        if wrong.any():
            verdicts.fail(here, short, TRUNCATED)
            verdicts.fail(here, reserved, "a block of a reserved kind")
            verdicts.leave(here, large, "it has a block that is too large")
            verdicts.fail(here, beyond, TRUNCATED)
            verdicts.leave(here, count > limit, "it has very many blocks")
        blocks[at[done]] = count
        walk.place[here[done]] = place[done]
        more = np.flatnonzero(~done)
        at, here, place, end = at[more], here[more], place[more], end[more]
        most, limit = most[more], limit[more]
    return blocks
