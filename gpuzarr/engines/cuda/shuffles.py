"""Shuffles undone: bytes by whatever reads them next, bits by a pass of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.kernels import BIT_TILE, SCATTER_TILE
from gpuzarr.engines.cuda.pieces import PieceRows, first_blocks, merge_axes
from gpuzarr.engines.cuda.rows import PLANE_ITEMS, scatter_planes, scatter_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.chunk_state import ChunkState
    from gpuzarr.program import Unshuffle

    Integers = NDArray[np.int64]


def unshuffle(chunks: ChunkState, step: Unshuffle) -> None:
    """numcodecs' shuffle, over whole chunks that are not shuffled otherwise."""
    rows = chunks.encoded
    if step.unit == "bit":
        target = chunks.next_slots(rows)
        sizes = chunks.nbytes[rows]
        typesize = np.full(len(rows), step.itemsize)
        _unshuffle_bits(chunks, chunks.address[rows], target, sizes, typesize, round_down=True)
        chunks.move(rows, target)
    elif step.itemsize > 1:
        chunks.typesize[rows] = step.itemsize
        chunks.block[rows] = np.maximum(chunks.nbytes[rows], 1)


def unshuffle_blocks(
    chunks: ChunkState, rows: Integers, typesize: Integers, block: Integers
) -> None:
    """Blosc's bit shuffle, which was done block by block.

    Args:
        chunks: of the batch.
        rows: which of them.
        typesize: (rows,) bytes of their elements.
        block: (rows,) bytes of their blocks.
    """
    nbytes = chunks.nbytes[rows]
    count = -(-nbytes // block)
    chunk = np.repeat(np.arange(len(rows)), count)
    start = (np.arange(len(chunk)) - np.repeat(np.cumsum(count) - count, count)) * block[chunk]
    target = chunks.next_slots(rows)
    _unshuffle_bits(
        chunks,
        chunks.address[rows][chunk] + start,
        target[chunk] + start,
        np.minimum(block[chunk], nbytes[chunk] - start),
        typesize[chunk],
        round_down=False,
    )
    chunks.move(rows, target)


def _unshuffle_bits(  # noqa: PLR0913  the columns of the kernel
    chunks: ChunkState,
    source: Integers,
    target: Integers,
    nbytes: Integers,
    typesize: Integers,
    *,
    round_down: bool,
) -> None:
    work = chunks.work
    edges = first_blocks(np.maximum(nbytes // typesize, 1), BIT_TILE)
    work.launch(
        "bit_unshuffle",
        edges[-1],
        work.integers(source),
        work.integers(target),
        work.integers(nbytes),
        work.integers(typesize),
        work.integers(edges),
        len(nbytes),
        int(round_down),
    )


def bring_into_order(chunks: ChunkState) -> None:
    """Undo the byte shuffles that are left, for a step that needs bytes in their own order."""
    if not chunks.typesize.any():
        return
    rows = chunks.encoded
    target = chunks.next_slots(rows)
    columns = chunks.columns()
    nbytes, typesize = chunks.nbytes[rows], chunks.typesize[rows]
    for item in np.unique(typesize).tolist():
        known = item if item in PLANE_ITEMS else 1
        here = np.flatnonzero(typesize == item)
        count = nbytes[here] // known
        whole = _ranges(rows[here], 0 * count, target[here], count, known)
        if item in PLANE_ITEMS:
            scatter_planes(chunks.work, whole, item, 0, columns)
            rest = _ranges(
                *(rows[here], count * item, target[here] + count * item),
                *(nbytes[here] - count * item, 1),
            )
            copy_elements(chunks, rest, item=1)
        elif item:
            copy_elements(chunks, whole, item=1)
        else:
            scatter_runs(chunks.work, whole, columns)
    chunks.move(rows, target)


def _ranges(
    chunk: Integers, first: Integers, target: Integers, count: Integers, item: int
) -> PieceRows:
    """Pieces of one axis: `count` elements of `item` bytes each, without those of none."""
    table = np.stack([chunk, first, target, count, np.ones_like(count), item * np.ones_like(count)])
    none = np.zeros(0, np.int64)
    return PieceRows(table.T[count > 0], 0, none, none)


def copy_elements(chunks: ChunkState, rows: PieceRows, item: int) -> None:
    """Add a launch that copies elements of chunks, as they are, to places in device memory."""
    rows = merge_axes(rows)
    work, columns = chunks.work, chunks.columns()
    edges = first_blocks(rows.counts(), SCATTER_TILE)
    work.launch(
        "scatter_items",
        edges[-1],
        *(work.integers(rows.rows), work.integers(edges), len(rows.rows), rows.naxes, 0, 0, 0),
        *(columns.address, columns.nbytes, columns.typesize, columns.block),
        *(item, 0, item, 0, int(columns.shuffled)),
    )
