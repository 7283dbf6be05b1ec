"""Pieces as rows of integers: walked element by element here, against NumPy's own indexing."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cuda.pieces import (
    A_AXIS,
    HEAD,
    PieceRows,
    element_strides,
    first_blocks,
    join_rows,
    merge_axes,
    piece_rows,
)
from gpuzarr.plan.chunk_table import plan_chunks
from gpuzarr.plan.grid import grid_axes
from gpuzarr.plan.selection import normalize_selection
from tests.strategies import any_keys, grids, shapes

if TYPE_CHECKING:
    from gpuzarr.plan.chunk_table import ChunkTable


def scatter(rows: PieceRows, chunks: list[np.ndarray], out: np.ndarray) -> None:
    """What the kernel does: `chunks` are flat, in stored order; addresses are bytes of `out`."""
    memory = out.reshape(-1).view(np.uint8)
    for row in rows.rows:
        axes = row[HEAD:].reshape(-1, A_AXIS).tolist()
        for place in product(*(range(extent) for extent, _, _ in axes)):
            source, target = int(row[1]), int(row[2])
            for a, (k, (_, source_step, target_step)) in enumerate(zip(place, axes, strict=True)):
                if rows.lists >> a & 1:
                    source += int(rows.list_source[source_step + k])
                    target += int(rows.list_target[source_step + k])
                else:
                    source += k * source_step
                    target += k * target_step
            element = chunks[row[0]][source]
            memory[target : target + out.itemsize] = np.frombuffer(element.tobytes(), np.uint8)


def stored(array: np.ndarray, table: ChunkTable, starts: Any, axes: tuple[int, ...]) -> Any:
    """The chunks of a table, flat in stored order, edge chunks padded with -1."""
    for row in range(len(table)):
        begin = [int(starts[d](table.coords[row, d])) for d in range(array.ndim)]
        shape = table.shape[row].tolist()
        chunk = np.full(shape, -1, array.dtype)
        part = array[tuple(slice(b, b + s) for b, s in zip(begin, shape, strict=True))]
        chunk[tuple(map(slice, part.shape))] = part
        yield chunk.transpose(axes).reshape(-1)


@given(data=st.data())
def test_rows_say_what_numpy_indexing_says(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_dims=3, max_side=6))
    grid = grid_axes(data.draw(grids(shape)), shape)
    key = data.draw(any_keys(shape))
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    array = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    selection = normalize_selection(key, shape)
    expected = array[key if isinstance(key, tuple) else (key,)]
    out = np.full(selection.canonical_shape, -7, np.int32)
    merged = out.copy()
    for chunks, pieces in plan_chunks(selection, grid, 4).blocks():
        starts = [axis.start_of for axis in grid]
        flat = list(stored(array, chunks, starts, axes))
        strides = element_strides(chunks.shape, axes)
        chosen = np.arange(len(pieces))
        rows = piece_rows(pieces, chosen, pieces.axes[0], strides, 0, out.strides)
        scatter(rows, flat, out)
        scatter(merge_axes(rows), flat, merged)
        assert merge_axes(rows).naxes <= rows.naxes
    np.testing.assert_array_equal(out.reshape(selection.shape), expected)
    np.testing.assert_array_equal(merged, out)


def test_a_whole_array_in_rows_of_chunks_is_one_run_each() -> None:
    rows = np.array([[0, 0, 0, 1, 60, 240, 5, 12, 48, 12, 1, 4]])
    merged = merge_axes(PieceRows(rows, 0, np.zeros(0, np.int64), np.zeros(0, np.int64)))
    assert merged.rows.tolist() == [[0, 0, 0, 60, 1, 4]]


def test_an_axis_that_one_piece_needs_stays() -> None:
    none = np.zeros(0, np.int64)
    rows = np.array([[0, 0, 0, 1, 9, 9, 3, 1, 4], [1, 0, 64, 2, 9, 400, 3, 1, 4]])
    assert merge_axes(PieceRows(rows, 0, none, none)).naxes == 2


def test_lists_of_several_outputs_stand_behind_one_another() -> None:
    one = PieceRows(np.array([[0, 0, 0, 2, 0, 0]]), 1, np.array([5, 6]), np.array([0, 4]))
    two = PieceRows(np.array([[1, 0, 99, 1, 0, 0]]), 1, np.array([7]), np.array([8]))
    joined = join_rows([one, two])
    assert joined.rows[:, HEAD + 1].tolist() == [0, 2]
    assert joined.list_source.tolist() == [5, 6, 7]


@given(st.lists(st.integers(0, 1000), max_size=20), st.integers(1, 300))
def test_thread_blocks_cover_every_element(counts: list[int], tile: int) -> None:
    edges = first_blocks(np.array(counts, np.int64), tile)
    blocks = np.diff(edges)
    assert (blocks * tile >= counts).all()
    assert ((blocks - 1) * tile < counts).all() or not all(counts)
