"""Blosc frames (version 1), taken apart: a batch of chunks at once, split by split.

    byte  0 format version (2)     1 inner version (1)     2 flags     3 type size
          4 decoded size           8 block size           12 frame size, all int32, little endian
         16 start of each block in the frame (int32), in any order, then the blocks

A block is one stream, or `type size` streams where it is split; each is preceded by its size
(int32) and decodes to an equal part of the block; one as large as its part is stored as it is.
Streams of all chunks that have the same inner format come together, to be decoded in one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from gpuzarr.engines.cuda.frames.columns import Verdicts, read_big_endian, read_integers
from gpuzarr.engines.cuda.frames.deflate import (
    ZLIB_HEADER,
    ZLIB_LEAST,
    ZLIB_TRAILER,
    zlib_headers,
)
from gpuzarr.engines.cuda.frames.snappy import snappy_sizes
from gpuzarr.engines.cuda.frames.streams import (
    BIT_SHUFFLE,
    BYTE_SHUFFLE,
    NO_SHUFFLE,
    UNCHECKED,
    EncodedChunks,
    Frames,
    StreamTable,
)
from gpuzarr.engines.cuda.frames.zstd import walk_zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.frames.streams import StreamFormat

    Refine = Callable[[NDArray[np.uint8], StreamTable, Verdicts], StreamTable]
    Integers = NDArray[np.int64]

HEADER_NBYTES = 16
SIZE_NBYTES = 4
FORMAT_VERSION, INNER_VERSION = 2, 1
BYTE_SHUFFLED, MEMCPYED, BIT_SHUFFLED, RESERVED, NEVER_SPLIT = 0x01, 0x02, 0x04, 0x08, 0x10
MAX_SPLITS = 16
MIN_SPLIT_ITEMS = 128
OUTSIDE = "a stream does not fit into the frame"
ODD_ZSTD = "a zstd stream inside is not one plain frame"
ODD_ZLIB = "a zlib stream inside has an unknown header"


@dataclass(slots=True, eq=False)
class Headers:
    """(n,) columns of what the headers say."""

    flags: Integers
    typesize: Integers
    nbytes: Integers
    block: Integers
    frame: Integers

    @property
    def inner(self) -> Integers:
        """The inner format."""
        return self.flags >> 5

    @property
    def copied(self) -> NDArray[np.bool_]:
        """Whether the data are stored as they are, whole."""
        return np.asarray(self.flags & MEMCPYED != 0)

    @property
    def may_split(self) -> NDArray[np.bool_]:
        """Whether blocks (but a short last one) are split."""
        return np.asarray(
            (self.flags & NEVER_SPLIT == 0)
            & (self.typesize <= MAX_SPLITS)
            & (self.block // self.typesize >= MIN_SPLIT_ITEMS)
        )


@dataclass(slots=True, eq=False)
class Blocks:
    """(b,) columns of the blocks of all chunks."""

    chunk: Integers
    start: Integers
    """Where the next stream's size stands, in the frame."""
    target: Integers
    """First byte of the block in the chunk."""
    splits: Integers
    part: Integers
    """Bytes that each of its streams decodes to."""

    def take(self, rows: NDArray[np.bool_]) -> Blocks:
        """Some of the blocks."""
        return Blocks(
            self.chunk[rows],
            self.start[rows],
            self.target[rows],
            self.splits[rows],
            self.part[rows],
        )


def walk_blosc(chunks: EncodedChunks) -> Frames:
    """The streams of a batch of frames; see `Frames`."""
    verdicts = Verdicts(len(chunks))
    headers = read_headers(chunks, verdicts)
    blocks = find_blocks(chunks, headers, verdicts)
    tables = _walk_streams(chunks, headers, blocks, verdicts)
    table = _of(verdicts.good, StreamTable.join(tables))
    stored = table.nbytes == table.decoded
    inner = headers.inner[table.chunk]
    streams: dict[StreamFormat, StreamTable] = {}
    for code, (name, refine) in enumerate(INNER):
        found = table.take(np.flatnonzero(~stored & (inner == code)))
        if len(found):
            streams[name] = refine(chunks.data, found, verdicts)
    return make_frames(chunks, headers, verdicts, streams, table.take(np.flatnonzero(stored)))


def make_frames(
    chunks: EncodedChunks,
    headers: Headers,
    verdicts: Verdicts,
    streams: dict[StreamFormat, StreamTable],
    stored: StreamTable,
) -> Frames:
    """What was found of good chunks, with how they are shuffled."""
    copies = _with_whole_chunks(chunks, headers, stored, verdicts)
    good = verdicts.good
    kept = {name: _of(good, each) for name, each in streams.items()}
    by_bytes = (headers.flags & BYTE_SHUFFLED != 0) & (headers.typesize > 1)
    by_bits = headers.flags & BIT_SHUFFLED != 0
    shuffle = np.where(by_bytes, BYTE_SHUFFLE, np.where(by_bits, BIT_SHUFFLE, NO_SHUFFLE))
    return Frames(
        {name: each for name, each in kept.items() if len(each)},
        _of(good, copies),
        verdicts.failures,
        verdicts.host,
        np.where(headers.copied, NO_SHUFFLE, shuffle).astype(np.uint8),
        headers.typesize,
        headers.block,
    )


def _of(good: NDArray[np.bool_], table: StreamTable) -> StreamTable:
    """The streams of good chunks."""
    return table.take(np.flatnonzero(good[table.chunk]))


def read_headers(chunks: EncodedChunks, verdicts: Verdicts) -> Headers:
    """The headers, held against the chunks; those of bad chunks say something harmless."""
    rows = np.arange(len(chunks))
    nbytes, decoded = chunks.nbytes, chunks.decoded
    verdicts.fail(
        rows,
        nbytes < HEADER_NBYTES,
        lambda k: f"{nbytes[k]} bytes are too few to hold a header",
    )
    data = chunks.data if len(chunks.data) >= HEADER_NBYTES else np.zeros(HEADER_NBYTES, np.uint8)
    head = data[np.where(verdicts.good, chunks.offset, 0)[:, None] + np.arange(HEADER_NBYTES)]
    words = head[:, 4:].copy().view("<i4").astype(np.int64)
    flags, typesize = head[:, 2].astype(np.int64), head[:, 3].astype(np.int64)
    size, block, frame = words[:, 0], words[:, 1], words[:, 2]
    version = head[:, 0]
    unknown = (version != FORMAT_VERSION) | (flags & RESERVED != 0) | (flags >> 5 >= len(INNER))
    verdicts.fail(
        rows,
        unknown,
        lambda k: f"format version {version[k]} with flags {flags[k]:#04x} is not known",
    )
    verdicts.fail(
        rows,
        (frame < HEADER_NBYTES) | (frame > nbytes),
        lambda k: f"the frame has {frame[k]} bytes, but {nbytes[k]} are there",
    )
    odd = (size < 0) | ((size > 0) & ((block <= 0) | (block > size) | (typesize == 0)))
    verdicts.fail(
        rows,
        odd,
        lambda k: f"{size[k]} bytes in blocks of {block[k]} with elements of {typesize[k]}",
    )
    verdicts.fail(rows, size != decoded, lambda k: f"{size[k]} bytes instead of {decoded[k]}")
    verdicts.leave(rows, decoded == 0, "it holds nothing")
    copied = flags & MEMCPYED != 0
    verdicts.fail(
        rows,
        copied & (frame != size + HEADER_NBYTES),
        lambda k: f"{size[k]} bytes are stored plainly in a frame of {frame[k]}",
    )
    verdicts.leave(rows, head[:, 1] != INNER_VERSION, "its inner version is not known")
    headers = Headers(
        flags,
        np.maximum(typesize, 1),
        np.where(verdicts.good, size, 0),
        np.maximum(block, 1),
        frame,
    )
    uneven = ~copied & headers.may_split & (headers.block % headers.typesize != 0)
    verdicts.fail(
        rows,
        uneven,
        lambda k: f"blocks of {block[k]} bytes do not divide into elements of {typesize[k]}",
    )
    return headers


def find_blocks(chunks: EncodedChunks, headers: Headers, verdicts: Verdicts) -> Blocks:
    """The blocks of all frames that have some."""
    size, block = headers.nbytes, headers.block
    count = -(-size // block)
    rows = np.arange(len(chunks))
    too_many = ~headers.copied & (count > (headers.frame - HEADER_NBYTES) // SIZE_NBYTES)
    verdicts.fail(
        rows,
        too_many,
        lambda k: f"{count[k]} blocks do not fit into {headers.frame[k]} bytes",
    )
    count = np.where(verdicts.good & ~headers.copied, count, 0)
    chunk = np.repeat(rows, count)
    number = np.arange(len(chunk)) - np.repeat(np.cumsum(count) - count, count)
    place = chunks.offset[chunk] + HEADER_NBYTES + SIZE_NBYTES * number
    start = _signed(read_integers(chunks.data, place, SIZE_NBYTES)) if len(chunk) else place
    short = size % block
    is_short = (number == count[chunk] - 1) & (short[chunk] > 0)
    length = np.where(is_short, short[chunk], block[chunk])
    splits = np.where(headers.may_split[chunk] & ~is_short, headers.typesize[chunk], 1)
    # Streams in the header and the table of starts are not what a writer makes, but c-blosc refuses
    # only those before the frame.
    odd = (start >= 0) & (start < HEADER_NBYTES + SIZE_NBYTES * count[chunk])
    verdicts.leave(chunk, odd, "its blocks lie in its header")
    return Blocks(chunk, start, number * block[chunk], splits, length // splits)


def _walk_streams(
    chunks: EncodedChunks, headers: Headers, blocks: Blocks, verdicts: Verdicts
) -> list[StreamTable]:
    """The streams, a table for each number of a split."""
    tables: list[StreamTable] = []
    for split in range(int(blocks.splits.max(initial=0))):
        inside = blocks.splits > split
        if not inside.all():
            blocks = blocks.take(inside)
        frame, start = headers.frame[blocks.chunk], blocks.start
        there = (start >= HEADER_NBYTES) & (start <= frame - SIZE_NBYTES)
        verdicts.fail(blocks.chunk, ~there, OUTSIDE)
        if not there.all():
            blocks = blocks.take(there)
            frame, start = headers.frame[blocks.chunk], blocks.start
        begin = chunks.offset[blocks.chunk] + start
        nbytes = _signed(read_integers(chunks.data, begin, SIZE_NBYTES))
        fits = (nbytes > 0) & (nbytes <= frame - start - SIZE_NBYTES)
        verdicts.fail(blocks.chunk, ~fits, OUTSIDE)
        if not fits.all():
            blocks, nbytes, begin = blocks.take(fits), nbytes[fits], begin[fits]
        ones = np.ones(len(nbytes), np.int64)
        tables.append(
            StreamTable(
                blocks.chunk,
                begin + SIZE_NBYTES,
                nbytes,
                blocks.target + split * blocks.part,
                blocks.part,
                ones,
                UNCHECKED * ones,
            )
        )
        blocks.start = blocks.start + SIZE_NBYTES + nbytes
    return tables


def _snappy_streams(data: NDArray[np.uint8], table: StreamTable, verdicts: Verdicts) -> StreamTable:
    """Inner Snappy streams, whose own sizes are the due ones."""
    sizes = snappy_sizes(data, table.source, table.nbytes)
    verdicts.fail(
        table.chunk,
        sizes != table.decoded,
        lambda k: f"a Snappy stream gives {sizes[k]} bytes instead of {table.decoded[k]}",
    )
    return table


def _as_they_are(data: NDArray[np.uint8], table: StreamTable, verdicts: Verdicts) -> StreamTable:
    """Inner streams of which nothing can be told before they are decoded."""
    del data, verdicts
    return table


def _zstd_streams(data: NDArray[np.uint8], table: StreamTable, verdicts: Verdicts) -> StreamTable:
    """Inner zstd streams, walked; what is not plain in one leaves its chunk to the host."""
    frames = walk_zstd(EncodedChunks(data, table.source, table.nbytes, table.decoded))
    found = frames.streams.get("zstd")
    plain = np.zeros(len(table), np.bool_)
    if found is not None:
        # Nothing before or behind it, not even skippable frames, as for the walk on the device.
        found = found.take(np.flatnonzero(found.nbytes == table.nbytes[found.chunk]))
        plain[found.chunk] = True
    verdicts.leave(table.chunk, ~plain, ODD_ZSTD)
    if found is None:
        return table.take(np.zeros(0, np.int64))
    rows = table.take(found.chunk)
    return StreamTable(
        rows.chunk,
        found.source,
        found.nbytes,
        rows.target,
        found.decoded,
        found.blocks,
        found.check,
    )


def _zlib_streams(data: NDArray[np.uint8], table: StreamTable, verdicts: Verdicts) -> StreamTable:
    """Inner zlib streams as raw deflate streams with their checksums."""
    header, wants_dictionary = zlib_headers(data, table.source, table.nbytes)
    plain = header & ~wants_dictionary & (table.nbytes >= ZLIB_LEAST)
    verdicts.leave(table.chunk, ~plain, ODD_ZLIB)
    table = table.take(np.flatnonzero(plain))
    trailer = table.source + table.nbytes - ZLIB_TRAILER
    return StreamTable(
        table.chunk,
        table.source + ZLIB_HEADER,
        table.nbytes - ZLIB_HEADER - ZLIB_TRAILER,
        table.target,
        table.decoded,
        table.blocks,
        read_big_endian(data, trailer),
    )


def _with_whole_chunks(
    chunks: EncodedChunks, headers: Headers, stored: StreamTable, verdicts: Verdicts
) -> StreamTable:
    """What is copied: stored streams, and chunks that are stored whole."""
    rows = np.flatnonzero(headers.copied & verdicts.good)
    size = headers.nbytes[rows]
    ones = np.ones(len(rows), np.int64)
    whole = StreamTable(
        rows,
        chunks.offset[rows] + HEADER_NBYTES,
        size,
        0 * ones,
        size,
        ones,
        UNCHECKED * ones,
    )
    return StreamTable.join([stored, whole])


def _signed(words: Integers) -> Integers:
    """Unsigned words of 32 bits as the signed ones that they are."""
    return words - (words >> 31 << 32)


INNER: Final[Sequence[tuple[StreamFormat, Refine]]] = (
    ("blosclz", _as_they_are),
    ("lz4", _as_they_are),
    ("snappy", _snappy_streams),
    ("deflate", _zlib_streams),
    ("zstd", _zstd_streams),
)
"""Inner formats by their number in the flags, and what is looked at in their streams."""
