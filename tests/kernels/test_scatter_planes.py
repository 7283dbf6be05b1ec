"""`scatter_planes` against NumPy: rows of elements out of byte planes, and with bytes reversed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cuda.kernels import ROWS_TILE, VECTOR
from gpuzarr.engines.cuda.pieces import first_blocks
from gpuzarr.engines.cuda.rows import PLANE_ITEMS, PLANE_SWAPS
from tests.kernels.any_pieces import shuffled
from tests.kernels.arguments import addresses, integers, launch, unaligned


class Rows(NamedTuple):
    """Rows of one chunk, and where they go."""

    run: int
    """Elements of a row."""
    lines: int
    first: int
    """The first row's first element."""
    step: int
    """Elements from row to row."""
    gap: int
    """Bytes between rows in the output."""
    typesize: int
    block: int
    shift: tuple[int, int]
    """Bytes by which chunk and output are off a multiple of 16."""


def check(
    pieces: list[Rows], item: int, swap: int, constants: dict[str, int] | None = None
) -> None:
    rng = np.random.default_rng(len(pieces))
    chunks, targets, expected, table = [], [], [], []
    for number, rows in enumerate(pieces):
        elements = rows.first + rows.lines * rows.step + rows.run
        data = rng.integers(0, 256, elements * item, np.uint8)
        stored = shuffled(data, rows.typesize, rows.block) if rows.typesize else data
        chunks.append(unaligned(stored, rows.shift[0]))
        pitch = rows.run * item + rows.gap
        targets.append(unaligned(np.zeros(rows.lines * pitch, np.uint8), rows.shift[1]))
        starts = rows.first + rows.step * np.arange(rows.lines)
        taken = data.reshape(-1, item)[starts[:, None] + np.arange(rows.run)]
        if swap > 1:
            taken = taken.reshape(-1, swap)[:, ::-1].reshape(rows.lines, -1)
        image = np.zeros((rows.lines, pitch), np.uint8)
        image[:, : rows.run * item] = taken.reshape(rows.lines, -1)
        expected.append(image.reshape(-1))
        place = targets[-1].ctypes.data
        table.append(
            [number, rows.first, place, rows.lines, rows.step, pitch, rows.run, 1, item],
        )
    slots = [rows.lines * ((rows.run * item + 2 * (VECTOR - 1)) // VECTOR) for rows in pieces]
    edges = first_blocks(integers(slots), ROWS_TILE)
    none = integers(0)
    columns = [
        addresses(chunks),
        integers([len(chunk) for chunk in chunks]),
        integers([rows.typesize for rows in pieces]),
        integers([rows.block for rows in pieces]),
    ]
    arguments = (integers(table), edges, len(table), 2, 0, none, none, *columns, item, swap)
    launch("scatter_planes", int(edges[-1]), *arguments, **(constants or {}))
    for target, right in zip(targets, expected, strict=True):
        np.testing.assert_array_equal(target, right)


@given(
    pieces=st.lists(
        st.builds(
            Rows,
            run=st.integers(1, 70),
            lines=st.integers(1, 5),
            first=st.integers(0, 20),
            step=st.integers(0, 80),
            gap=st.integers(0, 17),
            typesize=st.sampled_from([0, -1, -1, -1, 1, 2, 3, 4, 8, 255]),
            block=st.sampled_from([1, 4, 5, 16, 24, 64, 1000, 1 << 16]),
            shift=st.tuples(st.integers(0, 16), st.integers(0, 16)),
        ),
        min_size=1,
        max_size=4,
    ),
    item=st.sampled_from(PLANE_ITEMS),
    swap=st.sampled_from(PLANE_SWAPS),
    aligned=st.booleans(),
    whole=st.booleans(),
)
def test_any_rows(pieces: list[Rows], item: int, swap: int, *, aligned: bool, whole: bool) -> None:
    """A typesize of -1 is the elements' own; aligned outputs and whole blocks have a faster way."""
    swap = min(swap, item)
    for number, rows in enumerate(pieces):
        shift, gap = rows.shift, rows.gap
        if aligned:
            shift, gap = (shift[0] // 8 * 8, shift[1] // item * item), gap // item * item
        pieces[number] = rows._replace(
            typesize=item if rows.typesize < 0 else rows.typesize,
            block=rows.block * item if whole else rows.block,
            shift=shift,
            gap=gap,
        )
    check(pieces, item, swap)


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("item", PLANE_ITEMS)
def test_long_rows_of_shuffled_blocks(item: int, constants: bool) -> None:  # noqa: FBT001
    """More than a thread block does; the last block of the shuffle is shorter."""
    run = 2 * ROWS_TILE * VECTOR // item + 5
    rows = Rows(run, 1, 3, 0, 0, item, 512 * item, (0, 0))
    known = {"item": item, "swap": item // 2} if constants else {}
    check([rows, rows._replace(lines=2, step=7, shift=(8, item))], item, item // 2, known)
