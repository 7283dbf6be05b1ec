"""numcodecs' LZ4: the decoded size in 4 bytes, little-endian, then one raw block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.frames.columns import Verdicts, read_integers
from gpuzarr.engines.cuda.frames.streams import UNCHECKED, Frames, StreamTable

if TYPE_CHECKING:
    from gpuzarr.engines.cuda.frames.streams import EncodedChunks

SIZE_PREFIX = 4


def walk_lz4(chunks: EncodedChunks) -> Frames:
    """The blocks of a batch of chunks; see `Frames`."""
    rows = np.arange(len(chunks))
    verdicts = Verdicts(len(rows))
    nbytes, decoded = chunks.nbytes, chunks.decoded
    verdicts.fail(
        rows,
        nbytes < SIZE_PREFIX,
        lambda k: f"{nbytes[k]} bytes are too few to hold a size",
    )
    verdicts.leave(rows, decoded == 0, "it holds nothing")
    good = np.flatnonzero(verdicts.good)
    size = read_integers(chunks.data, chunks.offset[good], SIZE_PREFIX)
    verdicts.fail(
        good, size != decoded[good], lambda k: f"{size[k]} bytes instead of {decoded[good[k]]}"
    )
    verdicts.fail(good, nbytes[good] == SIZE_PREFIX, "the block is empty")
    good = np.flatnonzero(verdicts.good)
    ones = np.ones(len(good), np.int64)
    table = StreamTable(
        good,
        chunks.offset[good] + SIZE_PREFIX,
        nbytes[good] - SIZE_PREFIX,
        0 * ones,
        decoded[good],
        ones,
        UNCHECKED * ones,
    )
    nothing = table.take(np.zeros(0, np.int64))
    streams = {"lz4": table} if len(good) else {}
    return Frames(streams, nothing, verdicts.failures, verdicts.host)  # type: ignore[arg-type]
