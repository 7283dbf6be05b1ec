"""Shuffles undone: bytes by whatever reads them next, bits by a pass of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.kernels import BIT_TILE, SCATTER_TILE
from gpuzarr.engines.cuda.pieces import PieceRows, first_blocks, merge_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.batch import BatchBuilder
    from gpuzarr.program import Unshuffle

    Integers = NDArray[np.int64]


def unshuffle(builder: BatchBuilder, step: Unshuffle) -> None:
    """numcodecs' shuffle, over whole chunks that are not shuffled otherwise."""
    rows = builder.encoded
    if step.unit == "bit":
        target = builder.next_slots(rows)
        sizes = builder.nbytes[rows]
        typesize = np.full(len(rows), step.itemsize)
        _unshuffle_bits(builder, builder.address[rows], target, sizes, typesize, round_down=True)
        builder.move(rows, target)
    elif step.itemsize > 1:
        builder.typesize[rows] = step.itemsize
        builder.block[rows] = np.maximum(builder.nbytes[rows], 1)


def unshuffle_blocks(
    builder: BatchBuilder, rows: Integers, typesize: Integers, block: Integers
) -> None:
    """Blosc's bit shuffle, which was done block by block.

    Args:
        builder: of the batch.
        rows: the chunks.
        typesize: (rows,) bytes of their elements.
        block: (rows,) bytes of their blocks.
    """
    nbytes = builder.nbytes[rows]
    count = -(-nbytes // block)
    chunk = np.repeat(np.arange(len(rows)), count)
    start = (np.arange(len(chunk)) - np.repeat(np.cumsum(count) - count, count)) * block[chunk]
    target = builder.next_slots(rows)
    _unshuffle_bits(
        builder,
        builder.address[rows][chunk] + start,
        target[chunk] + start,
        np.minimum(block[chunk], nbytes[chunk] - start),
        typesize[chunk],
        round_down=False,
    )
    builder.move(rows, target)


def _unshuffle_bits(  # noqa: PLR0913  the columns of the kernel
    builder: BatchBuilder,
    source: Integers,
    target: Integers,
    nbytes: Integers,
    typesize: Integers,
    *,
    round_down: bool,
) -> None:
    work = builder.work
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


def bring_into_order(builder: BatchBuilder) -> None:
    """Undo the byte shuffles that are left, for a step that needs bytes in their own order."""
    if not builder.typesize.any():
        return
    rows = builder.encoded
    target = builder.next_slots(rows)
    ones = np.ones_like(rows)
    table = np.stack([rows, 0 * ones, target, builder.nbytes[rows], ones, ones], axis=1)
    none = np.zeros(0, np.int64)
    copy_elements(builder, PieceRows(table, 0, none, none), item=1)
    builder.move(rows, target)


def copy_elements(builder: BatchBuilder, rows: PieceRows, item: int) -> None:
    """Add a launch that copies elements of chunks, as they are, to places in device memory."""
    rows = merge_axes(rows)
    work, columns = builder.work, builder.columns()
    edges = first_blocks(rows.counts(), SCATTER_TILE)
    work.launch(
        "scatter_items",
        edges[-1],
        *(work.integers(rows.rows), work.integers(edges), len(rows.rows), rows.naxes, 0, 0, 0),
        *(columns.address, columns.nbytes, columns.typesize, columns.block),
        *(item, 0, item, 0, int(columns.shuffled)),
    )
