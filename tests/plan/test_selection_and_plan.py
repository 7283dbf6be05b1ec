"""Selection and planning against NumPy: cut an array into chunks, plan, copy pieces, compare."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cpu.scatter import PieceWriter
from gpuzarr.engines.engine import Conversion, Output
from gpuzarr.errors import SelectionError
from gpuzarr.metadata.model import RegularGrid
from gpuzarr.plan.chunk_table import plan_chunks
from gpuzarr.plan.grid import grid_axes
from gpuzarr.plan.selection import (
    normalize_blocks,
    normalize_orthogonal,
    normalize_selection,
    normalize_vectorized,
)
from tests.strategies import advanced_keys, any_keys, basic_keys, grids, orthogonal_keys, shapes

if TYPE_CHECKING:
    from gpuzarr.metadata.model import ChunkGrid
    from gpuzarr.plan.selection import Selection

DTYPE = np.dtype(np.int32)


def read_through_plan(
    array: np.ndarray[Any, Any], grid: ChunkGrid, selection: Selection
) -> np.ndarray[Any, Any]:
    """The selection, copied from chunks as the plan says; no place may be missed."""
    axes = grid_axes(grid, array.shape)
    ends = [
        int(axis.start_of(np.array(axis.nchunks - 1)) + axis.size_of(np.array(axis.nchunks - 1)))
        if axis.nchunks
        else 0
        for axis in axes
    ]
    padded = np.full(ends, -99, DTYPE)
    padded[tuple(map(slice, array.shape))] = array
    out = np.full(selection.shape, -1, DTYPE)
    output = Output(
        out.reshape(selection.canonical_shape), np.zeros((), DTYPE), Conversion(DTYPE, DTYPE)
    )
    plan = plan_chunks(selection, axes, DTYPE.itemsize)
    written = 0
    seen = set()
    for chunks, pieces in plan.blocks():
        writer = PieceWriter(output, pieces, np.arange(len(pieces)), pieces.axes[0], len(chunks))
        for row, (coords, shape) in enumerate(
            zip(chunks.coords.tolist(), chunks.shape.tolist(), strict=True)
        ):
            assert tuple(coords) not in seen
            seen.add(tuple(coords))
            begin = [int(axis.start_of(np.array(c))) for axis, c in zip(axes, coords, strict=True)]
            box = tuple(slice(b, b + s) for b, s in zip(begin, shape, strict=True))
            writer.write(row, padded[box])
        written += int(pieces.extent.prod(axis=1).sum())
    assert written == selection.size
    return out


def case(keys: Any) -> Any:
    return shapes().flatmap(lambda shape: st.tuples(st.just(shape), grids(shape), keys(shape)))


def filled(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape, dtype=int), dtype=DTYPE).reshape(shape)


@given(case(basic_keys))
def test_basic_selection_is_numpys(args: Any) -> None:
    shape, grid, key = args
    array = filled(shape)
    expected = array[key]
    selection = normalize_selection(key, shape)
    np.testing.assert_array_equal(read_through_plan(array, grid, selection), expected)
    assert selection.shape == np.shape(expected)


@given(case(advanced_keys))
def test_advanced_selection_is_numpys(args: Any) -> None:
    shape, grid, key = args
    array = filled(shape)
    try:
        expected = array[key]
    except IndexError:
        with pytest.raises(SelectionError):
            normalize_selection(key, shape)
        return
    selection = normalize_selection(key, shape)
    assert selection.shape == np.shape(expected)
    np.testing.assert_array_equal(read_through_plan(array, grid, selection), expected)


@given(case(orthogonal_keys))
def test_orthogonal_selection_is_the_outer_product_of_its_parts(args: Any) -> None:
    shape, grid, key = args
    array = filled(shape)
    expected = array
    for dim, part in reversed(list(enumerate(key))):
        where = [part] if isinstance(part, int) else part
        where = (
            np.asarray(where, dtype=None if len(where) else int)
            if not isinstance(where, slice)
            else where
        )
        expected = expected[(slice(None),) * dim + (where,)]
    expected = expected[tuple(0 if isinstance(part, int) else slice(None) for part in key)]
    selection = normalize_orthogonal(key, shape)
    np.testing.assert_array_equal(read_through_plan(array, grid, selection), expected)


def places_in(shape: tuple[int, ...]) -> st.SearchStrategy[list[tuple[int, ...]]]:
    if 0 in shape:
        return st.just([])
    return st.lists(st.tuples(*(st.integers(-n, n - 1) for n in shape)), max_size=20)


@given(case(places_in))
def test_vectorized_selection_is_a_list_of_places(args: Any) -> None:
    shape, grid, places = args
    if not shape:
        return
    array = filled(shape)
    key = tuple(np.array([place[dim] for place in places], int) for dim in range(len(shape)))
    selection = normalize_vectorized(key, shape)
    np.testing.assert_array_equal(read_through_plan(array, grid, selection), array[key])


@given(shapes().flatmap(lambda shape: st.tuples(st.just(shape), grids(shape))), st.data())
def test_blocks_are_whole_chunks(args: Any, data: st.DataObject) -> None:
    shape, grid = args
    axes = grid_axes(grid, shape)
    key = tuple(
        data.draw(st.slices(axis.nchunks).filter(lambda s: s.step in {None, 1})) for axis in axes
    )
    array = filled(shape)
    expected = array
    for dim, (axis, part) in enumerate(zip(axes, key, strict=True)):
        places = itertools.chain.from_iterable(
            range(
                int(axis.start_of(np.array(c))),
                min(shape[dim], int(axis.start_of(np.array(c)) + axis.size_of(np.array(c)))),
            )
            for c in range(axis.nchunks)[part]
        )
        expected = expected.take(list(places), axis=dim)
    selection = normalize_blocks(key, shape, axes)
    np.testing.assert_array_equal(read_through_plan(array, grid, selection), expected)


@pytest.mark.parametrize(
    "key",
    [
        5,
        -6,
        (0, 0, 0),
        (slice(None), 4),
        1.5,
        b"a.b",
        [[0], [9]],
        slice(0, 5, 0),
        (..., ...),
        True,
        [True, False],
        {"a": 1},
        ([0, 1], [0, 1, 2]),
        np.array([0.5]),
        np.array(["a"]),
        slice("a", None),
    ],
    ids=repr,
)
def test_keys_that_do_not_fit_are_selection_errors(key: Any) -> None:
    with pytest.raises(SelectionError):
        normalize_selection(key, (5, 4))


def test_more_dimensions_than_the_array_has() -> None:
    with pytest.raises(SelectionError, match="too many indices"):
        normalize_selection((0, 0), (5,))


def test_the_largest_shapes_are_planned_without_overflow() -> None:
    shape = (2**63 - 1, 2**62)
    axes = grid_axes(RegularGrid((2**62, 2**61 + 1)), shape)
    selection = normalize_selection((slice(-3, None), slice(2**61 - 1, 2**61 + 3)), shape)
    plan = plan_chunks(selection, axes, 8)
    ((chunks, pieces),) = plan.blocks()
    assert chunks.coords.tolist() == [[1, 0], [1, 1]]
    assert pieces.extent.tolist() == [[3, 2], [3, 2]]
    assert (chunks.decoded_nbytes == 2**62).all()


@given(case(any_keys))
def test_steps_longer_than_chunks_touch_only_the_chunks_they_hit(args: Any) -> None:
    shape, grid, key = args
    try:
        selection = normalize_selection(key, shape)
    except SelectionError:
        return
    plan = plan_chunks(selection, grid_axes(grid, shape), 4)
    for axis in plan.axes:
        assert (axis.extent > 0).all()
