"""Hop 7, batch: cut the tables into pieces of work of bounded size, with the reads each needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.plan.ranges import MISSING, Requests, coalesce

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gpuzarr.plan.chunk_table import ChunkTable, PieceTable
    from gpuzarr.plan.ranges import ByteRanges

DEVICE, HOST = 0, 1
"""Where a chunk is decoded: on the result's device, or on the host first."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large batches may be."""

    nbytes: int
    """Encoded and decoded bytes of a batch together; one chunk that is larger has a batch alone."""
    parallel: int
    """Batches that run at once; a read of few chunks is cut into as many batches where it can be."""
    gap_nbytes: int
    """Bytes between two ranges of an object that are read for nothing to save a request."""
    least_nbytes: int = 1 << 16
    """Decoded bytes below which cutting for parallelism costs more than it gives."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Chunks that are fetched and decoded together."""

    chunks: ChunkTable
    pieces: PieceTable
    """Pieces of these chunks; `pieces.chunk` is a row of `chunks`, ascending."""
    requests: Requests
    request: NDArray[np.int64]
    """(n,) the request that brings each chunk."""
    start: NDArray[np.int64]
    """(n,) first byte of each chunk in its request's bytes."""
    nbytes: NDArray[np.int64]
    """(n,) encoded bytes of each chunk, or WHOLE."""
    place: NDArray[np.uint8]
    """(n,) DEVICE or HOST."""


def missing_pieces(pieces: PieceTable, ranges: ByteRanges) -> PieceTable | None:
    """The pieces of chunks that are known not to be stored; None when there are none."""
    missing = np.flatnonzero(ranges.nbytes == MISSING)
    return pieces.of_chunks(missing) if len(missing) else None


def make_batches(
    chunks: ChunkTable, pieces: PieceTable, ranges: ByteRanges, limits: BatchLimits
) -> Iterator[Batch]:
    """Cut stored chunks into batches, in the order in which they lie in the store.

    Work per batch, not per chunk: everything else is done on whole columns.
    """
    rows = np.flatnonzero(ranges.stored)
    if not len(rows):
        return
    key, offset, nbytes = ranges.key[rows], ranges.offset[rows], ranges.nbytes[rows]
    if len(ranges.keys) < len(ranges.key):  # objects that hold several chunks
        order = np.lexsort((offset, key))
        rows, key, offset, nbytes = rows[order], key[order], offset[order], nbytes[order]
    work = chunks.decoded_nbytes[rows] + np.maximum(nbytes, 0)
    batch = _cut(work, limits)
    cut_before = np.r_[True, batch[1:] != batch[:-1]]
    joined = coalesce(key, offset, nbytes, cut_before, limits.gap_nbytes)
    request_offset = offset[joined.first]
    request_key = key[joined.first]
    firsts = np.flatnonzero(cut_before)
    for first, last in zip(firsts.tolist(), [*firsts[1:].tolist(), len(rows)], strict=True):
        here = rows[first:last]
        low, high = int(joined.request[first]), int(joined.request[last - 1]) + 1
        keys = ranges.keys
        yield Batch(
            chunks.take(here),
            pieces.of_chunks(here),
            Requests(
                [keys[k] for k in request_key[low:high].tolist()],
                request_offset[low:high].tolist(),
                joined.nbytes[low:high].tolist(),
                ranges.validators,
            ),
            joined.request[first:last] - low,
            joined.start[first:last],
            nbytes[first:last],
            np.zeros(last - first, np.uint8),
        )


def _cut(work: NDArray[np.int64], limits: BatchLimits) -> NDArray[np.int64]:
    """The batch of each row, so that no batch of several rows holds more than the limit."""
    total = int(work.sum(dtype=np.float64).clip(max=2.0**62))
    share = max(limits.least_nbytes, total // (4 * limits.parallel))
    # Rows whose first byte falls into the same half of a limit go together, larger rows alone: so a
    # batch of several rows stays within the limit.
    half = max(1, min(limits.nbytes, share) // 2)
    capped = np.minimum(work, half + 1)
    bucket = (np.cumsum(capped) - capped) // half
    large = work > half
    alone = np.cumsum(large) + np.cumsum(np.r_[False, large[:-1]])
    changed = np.r_[False, (bucket[1:] != bucket[:-1]) | (alone[1:] != alone[:-1])]
    return np.cumsum(changed)
