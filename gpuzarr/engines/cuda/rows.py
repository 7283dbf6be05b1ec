"""Pieces whose last axis is a run on both sides: they go row by row, in vectors of 16 bytes.

Elements that stay as they are become runs of bytes (`scatter_rows`). Those whose bytes are shuffled
or reversed are put together from them (`scatter_planes`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr.engines.cuda.kernels import ROWS_TILE, VECTOR
from gpuzarr.engines.cuda.pieces import A_AXIS, HEAD, PieceRows, first_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.transfer import ChunkColumns
    from gpuzarr.engines.cuda.work import Argument, Work

LEAST_RUN = 16
"""Bytes of a run from which on it is a row, and not done element by element."""
PLANE_ITEMS = (2, 4, 8, 16)
"""Bytes of elements that `scatter_planes` knows..."""
PLANE_SWAPS = (0, 1, 2, 4, 8)
"""...and bytes of components that it reverses."""
SPECIALISE_NBYTES = 1 << 24
"""Bytes of output from which on a kernel is compiled for its constants: that takes part of a second
the first time."""


def piece_arguments(work: Work, rows: PieceRows, edges: NDArray[np.int64]) -> list[Argument]:
    """The first arguments of kernels that go through pieces."""
    return [
        work.integers(rows.rows),
        work.integers(edges),
        len(rows.rows),
        rows.naxes,
        rows.lists,
        work.integers(rows.list_source),
        work.integers(rows.list_target),
    ]


def has_runs(rows: PieceRows, pitch: int, item: int) -> bool:
    """Whether the last axis of the pieces is a run of whole elements on both sides, long enough.

    Args:
        rows: pieces.
        pitch: bytes from one stored element to the next.
        item: bytes that are read of each.
    """
    if pitch != item or not rows.naxes or rows.lists >> (rows.naxes - 1) & 1:
        return False
    last = HEAD + A_AXIS * (rows.naxes - 1)
    runs = (rows.rows[:, last + 1] == 1) & (rows.rows[:, last + 2] == item)
    runs |= rows.rows[:, last] == 1
    return bool(runs.all()) and bool(rows.rows[:, last].mean() * item >= LEAST_RUN)


def in_bytes(rows: PieceRows, item: int) -> PieceRows:
    """Pieces whose last axis is a run, counted in bytes."""
    table = rows.rows.copy()
    table[:, 1] *= item
    for a in range(rows.naxes):
        if not rows.lists >> a & 1:
            table[:, HEAD + A_AXIS * a + 1] *= item
    last = HEAD + A_AXIS * (rows.naxes - 1)
    table[:, last] *= item
    table[:, last + 1 : last + 3] = 1
    return PieceRows(table, rows.lists, rows.list_source * item, rows.list_target)


def scatter_runs(work: Work, rows: PieceRows, chunks: ChunkColumns) -> None:
    """Add a launch that copies runs of bytes as they are.

    Args:
        work: where it is added.
        rows: pieces that count bytes, whose last axis is a run on both sides.
        chunks: none of them shuffled.
    """
    edges = _row_blocks(rows, 1)
    arguments = (*piece_arguments(work, rows, edges), chunks.address, chunks.nbytes)
    work.launch("scatter_rows", edges[-1], *arguments)


def scatter_planes(work: Work, rows: PieceRows, item: int, swap: int, chunks: ChunkColumns) -> None:
    """Add a launch that copies runs of elements out of byte planes, or with bytes reversed.

    Args:
        work: where it is added.
        rows: pieces whose last axis is a run of elements on both sides.
        item: bytes of an element, one of `PLANE_ITEMS`.
        swap: bytes of the components to be reversed, one of `PLANE_SWAPS`.
        chunks: shuffled in any way, or not.
    """
    edges = _row_blocks(rows, item)
    columns = (chunks.address, chunks.nbytes, chunks.typesize, chunks.block)
    arguments = (*piece_arguments(work, rows, edges), *columns, item, swap)
    worth = int(rows.counts().sum()) * item >= SPECIALISE_NBYTES
    constants = {"item": item, "swap": swap} if worth else {}
    work.launch("scatter_planes", edges[-1], *arguments, **constants)


def _row_blocks(rows: PieceRows, item: int) -> NDArray[np.int64]:
    """(n + 1,) the first thread block of each piece, for kernels that go through rows."""
    run = rows.extents[:, -1]
    slots = (run * item + 2 * (VECTOR - 1)) // VECTOR
    return first_blocks(rows.counts() // run * slots, ROWS_TILE)
