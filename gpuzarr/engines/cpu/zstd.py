"""zstd, by whichever library is fastest for a frame.

small frames, one by one         zstandard, with one context a thread
small frames, many               zstandard's call for many buffers
medium ones, to go elsewhere     as small ones, one by one
larger ones                      zstandard's reader, into place
the largest                      numcodecs, whose wheels have the library's assembly
up to the last byte needed       zstandard's reader
of unknown size, skippable, ...  numcodecs, or a reader that stops at a limit
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numcodecs.zstd
import numpy as np
import zstandard

from gpuzarr.engines.cpu import zstd_frames
from gpuzarr.engines.cpu.prepared import Limit, Many, Prepared, is_part, new_bytes
from gpuzarr.engines.step_error import DamageError, expect_nbytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.engines.cpu.prepared import Buffer, Frames, RunBytes, Span

SMALL_NBYTES = 1 << 14
"""Frames up to this size are decoded into memory of their own, or many into one place."""
MEDIUM_NBYTES = 1 << 16
"""So are those up to this size whose elements go elsewhere; for larger pieces the C library maps
fresh memory each time."""
LEAST_PARTS_NBYTES = 1 << 18
"""Frames from this size on have several blocks, of which the last ones can be left out."""
LEAST_MANY = 4
"""Frames from which on it is worth to look at all of them first, and decode them in one call."""
LARGE_NBYTES = 1 << 18
"""Frames from this size on numcodecs decodes in 0.92 to 0.97 of the time, as what it spends on
making a context for each no longer counts."""
PIECE_NBYTES = 1 << 20
"""What is taken at a time of frames that say no size."""


def prepare(name: str, nbytes: int | None, limit: Limit) -> Prepared:
    """The functions of zstd's step; the arguments are as in `decoders.prepare`."""
    large = nbytes is not None and nbytes > SMALL_NBYTES
    many = _many(nbytes) if nbytes and nbytes <= MEDIUM_NBYTES else None
    by_parts = nbytes is not None and nbytes >= LEAST_PARTS_NBYTES
    spans = _decode_spans if by_parts else None
    scratch = nbytes is None or nbytes > MEDIUM_NBYTES
    return Prepared(name, _one(nbytes, limit), nbytes, large, many, spans, scratch)


class _Contexts(threading.local):
    """A zstd context for each thread."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def _one(nbytes: int | None, limit: Limit) -> RunBytes:
    frame_size = zstandard.frame_content_size

    def decode_small(encoded: memoryview, target: memoryview | None) -> memoryview:
        if frame_size(encoded) == nbytes:
            # Another frame may follow; if it is damage, it is found again below.
            with suppress(zstandard.ZstdError):
                context = _contexts.decompressor
                return memoryview(context.decompress(encoded, allow_extra_data=False))
        return _frames(encoded, target, nbytes, limit)

    def decode_zstd(encoded: memoryview, target: memoryview | None) -> memoryview:
        if target is None:
            return decode_small(encoded, None)
        if len(target) < LARGE_NBYTES and zstd_frames.is_one_frame(encoded, len(target)):
            # The reader decodes a frame that is there as a whole in one go, into the place.
            with suppress(zstandard.ZstdError):
                reader = _contexts.decompressor.stream_reader(encoded)
                if reader.readinto(target) == len(target):
                    return target
        return _frames(encoded, target, nbytes, limit)

    return decode_small if nbytes is not None and nbytes <= SMALL_NBYTES else decode_zstd


def _decode_spans(encoded: memoryview, place: memoryview, spans: Sequence[Span]) -> bool:
    """Decode a frame up to the last byte that is needed, unless its end has a checksum."""
    end = max(span[1] for span in spans)
    if (
        not is_part(end, len(place))
        or not zstd_frames.is_one_frame(encoded, len(place))
        or zstd_frames.has_checksum(encoded)
    ):
        return False
    with suppress(zstandard.ZstdError):
        return _contexts.decompressor.stream_reader(encoded).readinto(place[:end]) == end
    return False


def _many(nbytes: int) -> Many | None:
    if "multi_decompress_to_buffer" not in zstandard.backend_features:
        return None
    size = nbytes.to_bytes(8, sys.byteorder)

    def decode_frames(frames: Frames) -> Sequence[Buffer] | None:
        segments = np.stack((frames.starts, frames.nbytes), axis=1).astype(np.uint64)
        encoded = zstandard.BufferWithSegments(frames.data, segments.tobytes())
        decompress: Any = _contexts.decompressor.multi_decompress_to_buffer
        try:
            found: Sequence[Buffer] = decompress(encoded, decompressed_sizes=size * len(frames))
        except zstandard.ZstdError:
            return None
        return found

    return Many(decode_frames, partial(zstd_frames.are_alike, nbytes=nbytes), LEAST_MANY)


def _frames(
    encoded: memoryview, target: memoryview | None, nbytes: int | None, limit: Limit
) -> memoryview:
    """Any sequence of frames, skippable ones too, with or without sizes."""
    total = zstd_frames.content_size(encoded)
    if total is None:
        total = nbytes
    elif nbytes is not None:
        expect_nbytes(total, nbytes)
    if total is None:
        return _stream(encoded, limit.of(encoded))
    if total > limit.of(encoded):
        raise DamageError(f"{total} bytes are more than these chunks can have")
    if total == 0:
        # numcodecs takes a size of zero for an error.
        data = zstandard.ZstdDecompressor().stream_reader(encoded, read_across_frames=True).read(1)
        expect_nbytes(len(data), 0)
        return memoryview(b"")
    place = new_bytes(total) if target is None else target
    # Decodes frames of unknown size too, as they must fill the place exactly.
    numcodecs.zstd.decompress(encoded, place)
    return place


def _stream(encoded: memoryview, limit: int) -> memoryview:
    """Frames that do not say their size, where nobody else does either."""
    reader = zstandard.ZstdDecompressor().stream_reader(encoded, read_across_frames=True)
    return _collect(reader.read, limit)


def _collect(read: Callable[[int], bytes], limit: int) -> memoryview:
    data = bytearray()
    while piece := read(min(PIECE_NBYTES, limit + 1 - len(data))):
        data += piece
        if len(data) > limit:
            raise DamageError(f"more than {limit} bytes came out")
    return memoryview(data)
