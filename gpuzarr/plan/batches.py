"""Hop 7, batch: cut the tables into pieces of work of bounded size, with the reads each needs."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.plan.ranges import MISSING, WHOLE, Requests, changes, coalesce

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
    """Batches that run at once; a read of few chunks is cut into as many where it can be."""
    gap_nbytes: int
    """Bytes between two ranges of an object that are read for nothing to save a request."""
    _: KW_ONLY
    request_nbytes: int = 1 << 20
    """Chunks that begin in different spans of so many bytes of an object are not joined."""
    least_nbytes: int = 1 << 16
    """Decoded bytes below which cutting for parallelism costs more than it gives."""
    chunk_nbytes: int = 0
    """What each chunk counts as on top of its bytes."""


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
    """(n,) encoded bytes of each chunk; or WHOLE, then of all."""
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

    All is done on whole columns, of which each batch is then a few slices. Where several arrays are
    read, some of them in shards, chunks that are objects and chunks in objects have batches apart.
    """
    rows = np.flatnonzero(ranges.stored)
    if not len(rows):
        return
    key, offset, nbytes = ranges.key[rows], ranges.offset[rows], ranges.nbytes[rows]
    several = len(ranges.keys) < len(ranges.key)  # chunks in an object
    if several:
        order = _order(key, offset)
        rows, key, offset, nbytes = rows[order], key[order], offset[order], nbytes[order]
    if several or len(rows) < len(chunks):
        chunks, pieces = chunks.take(rows), pieces.of_chunks(rows)
    work = chunks.decoded_nbytes + np.maximum(nbytes, 0) + limits.chunk_nbytes
    cut_before = _cut(work, limits) | changes(nbytes == WHOLE)
    begins = cut_before | changes(offset // limits.request_nbytes)
    joined = coalesce(key, offset, nbytes, begins, limits.gap_nbytes)
    firsts = np.flatnonzero(cut_before)
    edges = np.append(firsts, len(rows))
    ends = edges[1:]
    low, high = joined.request[firsts], joined.request[ends - 1] + 1
    request = joined.request - np.repeat(low, ends - firsts)
    request_keys = ranges.keys
    if not np.array_equal(key[joined.first], np.arange(len(request_keys))):
        request_keys = [ranges.keys[k] for k in key[joined.first].tolist()]
    request_offset, request_nbytes = offset[joined.first].tolist(), joined.nbytes.tolist()
    cuts = np.searchsorted(pieces.chunk, edges)
    pieces = replace(pieces, chunk=pieces.chunk - np.repeat(firsts, np.diff(cuts)))
    place = np.full(len(rows), DEVICE, np.uint8)
    bounds = np.stack([firsts, ends, low, high, cuts[:-1], cuts[1:]], axis=-1)
    for row, row_end, ask, ask_end, piece, piece_end in bounds.tolist():
        here, asked = slice(row, row_end), slice(ask, ask_end)
        yield Batch(
            chunks.part(here),
            pieces.part(slice(piece, piece_end)),
            Requests(
                request_keys[asked],
                request_offset[asked],
                request_nbytes[asked],
                ranges.validators,
            ),
            request[here],
            joined.start[here],
            nbytes[here],
            place[here],
        )


def _order(key: NDArray[np.int64], offset: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows by key and offset."""
    span = int(offset.max()) + 1
    if int(key.max() + 1) * span < 1 << 62:  # one number a row is sorted faster than two
        return np.argsort(key * span + offset)
    return np.lexsort((offset, key))


def _cut(work: NDArray[np.int64], limits: BatchLimits) -> NDArray[np.bool_]:
    """The rows that begin a batch, so that no batch of several rows holds more than the limit."""
    total = int(work.sum(dtype=np.float64).clip(max=2.0**62))
    most = limits.nbytes
    if limits.parallel > 1:
        most = min(most, max(limits.least_nbytes, total // (4 * limits.parallel)))
    if total <= most:  # one batch
        return np.equal(np.arange(len(work)), 0)
    # Rows whose first byte falls into the same half of a limit go together, larger rows alone: so a
    # batch of several rows stays within the limit.
    half = max(1, most // 2)
    capped = np.minimum(work, half + 1)
    bucket = (np.cumsum(capped) - capped) // half
    large = work > half
    begins = changes(bucket) | large
    begins[1:] |= large[:-1]
    return begins
