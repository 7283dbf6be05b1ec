"""zlib streams (RFC 1950) and gzip members (RFC 1952): their headers and trailers.

    zlib: 2 bytes, deflate data, Adler-32 (big-endian)
    gzip: 10 bytes, deflate data, CRC-32, size modulo 2**32

Where deflate data end cannot be told without decoding them. So a chunk is taken for one member
that fills it. If the size at its end is not the expected one, or if what looks like another
member's header is inside, the host looks at it. What follows a zlib stream, which the host would
ignore, shows as a checksum that does not match.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.frames.columns import Verdicts, read_big_endian, read_integers
from gpuzarr.engines.cuda.frames.streams import Frames, StreamTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.frames.streams import EncodedChunks, StreamFormat

    Integers = NDArray[np.int64]

ZLIB_HEADER, ZLIB_TRAILER = 2, 4
ZLIB_LEAST = ZLIB_HEADER + 2 + ZLIB_TRAILER
"""Bytes of the shortest stream."""
GZIP_TRAILER = 8
GZIP_LEAST = 10 + 2 + GZIP_TRAILER
DEFLATE, MOST_WINDOW, PRESET_DICTIONARY = 8, 7, 0x20
GZIP_MAGIC = (0x1F, 0x8B, DEFLATE)
RESERVED_FLAGS = 0xE0
TRUNCATED = "the data end early"


def walk_zlib(chunks: EncodedChunks) -> Frames:
    """zlib streams as raw deflate streams with the checksum of what they give."""
    rows = np.arange(len(chunks))
    verdicts = Verdicts(len(rows))
    verdicts.leave(rows, chunks.decoded == 0, "it holds nothing")
    header, wants_dictionary = zlib_headers(chunks.data, chunks.offset, chunks.nbytes)
    verdicts.fail(rows, chunks.nbytes < ZLIB_LEAST, TRUNCATED)
    verdicts.fail(rows, ~header, "incorrect header check")
    verdicts.leave(rows, wants_dictionary, "it needs a dictionary")
    good = np.flatnonzero(verdicts.good)
    trailer = (chunks.offset + chunks.nbytes - ZLIB_TRAILER)[good]
    return _one_stream_each(
        "deflate",
        verdicts,
        chunks.offset + ZLIB_HEADER,
        chunks.nbytes - ZLIB_HEADER - ZLIB_TRAILER,
        chunks.decoded,
        read_big_endian(chunks.data, trailer),
    )


def zlib_headers(
    data: NDArray[np.uint8], offset: Integers, nbytes: Integers
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether streams begin with a zlib header, and whether that asks for a dictionary."""
    if not len(data):
        none = np.zeros(len(offset), np.bool_)
        return none, none
    there = np.where(nbytes >= ZLIB_LEAST, offset, 0)
    there = np.minimum(there, max(len(data) - 2, 0))
    method = data[there].astype(np.int64)
    flags = data[np.minimum(there + 1, len(data) - 1)].astype(np.int64)
    header = (
        (method & 15 == DEFLATE) & (method >> 4 <= MOST_WINDOW) & ((256 * method + flags) % 31 == 0)
    )
    return header, header & (flags & PRESET_DICTIONARY != 0)


def walk_gzip(chunks: EncodedChunks) -> Frames:
    """gzip members, whole."""
    rows = np.arange(len(chunks))
    verdicts = Verdicts(len(rows))
    verdicts.leave(rows, chunks.decoded == 0, "it holds nothing")
    verdicts.fail(rows, chunks.nbytes < GZIP_LEAST, TRUNCATED)
    data, offset = chunks.data, chunks.offset
    good = np.flatnonzero(verdicts.good)
    begins = np.ones(len(good), np.bool_)
    for i, byte in enumerate(GZIP_MAGIC):
        begins &= data[offset[good] + i] == byte
    flags = data[offset[good] + 3]
    verdicts.fail(good, ~begins, "incorrect header check")
    verdicts.fail(good, flags & RESERVED_FLAGS != 0, "unknown header flags set")
    verdicts.leave(good, flags != 0, "its header has optional fields")
    end = offset + chunks.nbytes
    size = read_integers(data, end[good] - 4, 4)
    differs = size != chunks.decoded[good] & 0xFFFFFFFF
    verdicts.leave(good, differs, "it has several members, or its size is not the expected one")
    verdicts.leave(
        good, _holds_header(data, offset[good], end[good]), "it may have several members"
    )
    good = np.flatnonzero(verdicts.good)
    crc = read_integers(data, end[good] - GZIP_TRAILER, 4)
    return _one_stream_each("gzip", verdicts, offset, chunks.nbytes, chunks.decoded, crc)


def _holds_header(data: NDArray[np.uint8], begin: Integers, end: Integers) -> NDArray[np.bool_]:
    """Whether what could be a member's header lies in chunks behind their first byte."""
    candidates = np.flatnonzero(data[:-2] == GZIP_MAGIC[0])
    candidates = candidates[data[candidates + 1] == GZIP_MAGIC[1]]
    candidates = candidates[data[candidates + 2] == GZIP_MAGIC[2]]
    first = np.searchsorted(candidates, begin, side="right")
    return np.asarray(np.searchsorted(candidates, end) > first)


def _one_stream_each(  # noqa: PLR0913, PLR0917  the columns of streams
    name: StreamFormat,
    verdicts: Verdicts,
    source: Integers,
    nbytes: Integers,
    decoded: Integers,
    check: Integers,
) -> Frames:
    """The chunks with which nothing is wrong, as one stream each; `check` is theirs alone."""
    good = np.flatnonzero(verdicts.good)
    table = StreamTable(
        good,
        source[good],
        nbytes[good],
        np.zeros(len(good), np.int64),
        decoded[good],
        np.ones(len(good), np.int64),
        check,
    )
    streams = {name: table} if len(good) else {}
    nothing = table.take(np.zeros(0, np.int64))
    return Frames(streams, nothing, verdicts.failures, verdicts.host)
