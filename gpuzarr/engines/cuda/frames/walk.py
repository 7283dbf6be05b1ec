"""The walk over the frames of each format that a program can name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpuzarr.engines.cuda.frames.blosc import walk_blosc
from gpuzarr.engines.cuda.frames.deflate import walk_gzip, walk_zlib
from gpuzarr.engines.cuda.frames.lz4 import walk_lz4
from gpuzarr.engines.cuda.frames.zstd import walk_zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpuzarr.engines.cuda.frames.streams import EncodedChunks, Frames

WALKS: Final[Mapping[str, Callable[[EncodedChunks], Frames]]] = {
    "zstd": walk_zstd,
    "gzip": walk_gzip,
    "zlib": walk_zlib,
    "lz4": walk_lz4,
    "blosc": walk_blosc,
}


def walk_frames(format: str, chunks: EncodedChunks) -> Frames:  # noqa: A002  the word for it
    """Find the streams in a batch of encoded chunks, and what is wrong with them.

    Args:
        format: of `program.Decompress`, one of `WALKS`.
        chunks: the batch.
    """
    return WALKS[format](chunks)
