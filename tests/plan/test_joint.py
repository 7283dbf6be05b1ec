"""Planning many selections at once, against NumPy: chunks once a block, pieces in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cpu.scatter import piece_writers
from gpuzarr.engines.engine import Conversion, Output
from gpuzarr.errors import MemoryLimitError
from gpuzarr.metadata.model import ChunkGrid, RegularGrid
from gpuzarr.plan import chunk_table, joint
from gpuzarr.plan.chunk_table import plan_chunks
from gpuzarr.plan.grid import grid_axes
from gpuzarr.plan.joint import JointPlan, Wanted
from gpuzarr.plan.selection import (
    Selection,
    Span,
    normalize_orthogonal,
    normalize_selection,
    normalize_vectorized,
)
from tests.stored import box_of
from tests.strategies import grids, orthogonal_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.plan.grid import GridAxis
    from gpuzarr.plan.joint import Tables

DTYPE = np.dtype(np.int32)
NOT_WRITTEN, OUTSIDE = -1, -99


@dataclass
class Chunked:
    """An array of numbers that no other array has, and its chunks."""

    values: np.ndarray[Any, Any]
    axes: tuple[GridAxis, ...]

    def chunk(self, coords: Sequence[int], shape: Sequence[int]) -> np.ndarray[Any, Any]:
        """A chunk as it is stored: what reaches past the array is `OUTSIDE`."""
        chunk = np.full(shape, OUTSIDE, DTYPE)
        starts = [int(a.start_of(np.array(c))) for a, c in zip(self.axes, coords, strict=True)]
        sizes = [int(a.size_of(np.array(c))) for a, c in zip(self.axes, coords, strict=True)]
        assert tuple(sizes) == tuple(shape)
        inside = self.values[box_of(starts, shape)]
        chunk[box_of([0] * inside.ndim, inside.shape)] = inside
        return chunk


def chunked(grid_of: Sequence[tuple[tuple[int, ...], ChunkGrid]]) -> list[Chunked]:
    arrays = []
    first = 0
    for shape, grid in grid_of:
        count = int(np.prod(shape, dtype=int))
        values = np.arange(first, first + count, dtype=DTYPE).reshape(shape)
        arrays.append(Chunked(values, grid_axes(grid, shape)))
        first += count
    return arrays


Ask = tuple[int, Selection]
"""Which array, and what of it."""


def plan_of(
    arrays: Sequence[Chunked], asks: Sequence[Ask], *, stacked: bool
) -> tuple[JointPlan, list[Output], list[np.ndarray[Any, Any]]]:
    """A plan as a read makes it, its outputs, and for each selection where its result will be."""
    outputs: list[Output] = []
    results: list[np.ndarray[Any, Any]] = []
    wanted: list[Wanted] = []
    known: dict[object, tuple[int, list[int]]] = {}
    for number, (_, selection) in enumerate(asks):
        spans = [axis for axis in selection.axes if isinstance(axis, Span)]
        together = stacked and len(spans) == len(selection.axes)
        steps = tuple((span.dims, span.step) for span in spans)
        kind: object = (steps, selection.canonical_shape) if together else number
        known.setdefault(kind, (len(known), []))[1].append(number)
    places = {n: (output, i) for output, ns in known.values() for i, n in enumerate(ns)}
    for kind, (_, numbers) in known.items():
        shape = asks[numbers[0]][1].canonical_shape
        if isinstance(kind, tuple):
            shape = (len(numbers), *shape)
        array = np.full(shape, NOT_WRITTEN, DTYPE)
        outputs.append(Output(array, np.zeros((), DTYPE), Conversion(DTYPE, DTYPE)))
    for number, (array_number, selection) in enumerate(asks):
        output, place = places[number]
        array = outputs[output].array
        apart = array.ndim == len(selection.axes)
        results.append(array if apart else array[place, ...])
        wanted.append(Wanted(array_number, selection, output, None if apart else place))
    plan = JointPlan(wanted, [array.axes for array in arrays], len(outputs), DTYPE.itemsize)
    return plan, outputs, results


def check_tables(tables: Tables) -> None:
    chunks, pieces = tables
    rows = [
        (array, *coords)
        for array, coords in zip(chunks.array.tolist(), chunks.coords.tolist(), strict=True)
    ]
    assert len(rows) == len(set(rows)), "each chunk once"
    assert (np.diff(chunks.array) >= 0).all(), "arrays one behind another"
    assert (np.diff(pieces.chunk) >= 0).all(), "pieces in the order of chunks"
    assert sorted(set(pieces.chunk.tolist())) == list(range(len(chunks))), "no chunk for nothing"
    assert (pieces.extent > 0).all()
    nbytes = chunks.shape.prod(axis=1) * DTYPE.itemsize
    np.testing.assert_array_equal(chunks.decoded_nbytes, nbytes)


def run(arrays: Sequence[Chunked], plan: JointPlan, outputs: Sequence[Output]) -> int:
    """Write all pieces; gives the number of blocks."""
    blocks = written = 0
    for chunks, pieces in plan.blocks():
        blocks += 1
        check_tables((chunks, pieces))
        writers = piece_writers(outputs, pieces, len(chunks))
        for row, (array, coords, shape) in enumerate(
            zip(chunks.array, chunks.coords.tolist(), chunks.shape.tolist(), strict=True)
        ):
            values = arrays[array].chunk(coords, shape)
            for writer in writers:
                writer.write(row, values)
        written += int(pieces.extent.prod(axis=1).sum())
    assert written == sum(want.selection.size for want in plan.wanted), "each place once"
    return blocks


def check(
    arrays: Sequence[Chunked],
    asks: Sequence[Ask],
    expected: Sequence[np.ndarray[Any, Any]],
    *,
    stacked: bool,
) -> int:
    plan, outputs, results = plan_of(arrays, asks, stacked=stacked)
    blocks = run(arrays, plan, outputs)
    for (_, selection), found, due in zip(asks, results, expected, strict=True):
        np.testing.assert_array_equal(found.reshape(selection.shape), due)
    return blocks


def spans(shape: tuple[int, ...]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Keys of slices of any step, integers and None."""

    def part(length: int) -> st.SearchStrategy[Any]:
        inside = [st.integers(-length, length - 1)] if length else []
        return st.one_of(st.slices(length), *inside)

    keys = st.tuples(*map(part, shape))
    return st.one_of(keys, keys.map(lambda key: (None, *key)))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Chunked], list[Ask], list[np.ndarray[Any, Any]]]:
    """Arrays of one number of dimensions, and selections of them with NumPy's results."""
    ndim = draw(st.integers(0, 3))
    shapes = draw(st.lists(st.tuples(*[st.integers(0, 12)] * ndim), min_size=1, max_size=3))
    arrays = chunked([(shape, draw(grids(shape))) for shape in shapes])
    asks: list[Ask] = []
    expected: list[np.ndarray[Any, Any]] = []
    for _ in range(draw(st.integers(0, 6))):
        number = draw(st.integers(0, len(arrays) - 1))
        values = arrays[number].values
        way = draw(st.sampled_from(["spans", "spans", "orthogonal", "points"]))
        if way == "spans":
            key = draw(spans(values.shape))
            due, selection = values[key], normalize_selection(key, values.shape)
        elif way == "orthogonal":
            key = draw(orthogonal_keys(values.shape))
            selection = normalize_orthogonal(key, values.shape)
            due = orthogonal(values, key)
        elif not values.shape or 0 in values.shape:
            continue
        else:
            count = draw(st.integers(0, 5))
            key = tuple(
                draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count))
                for n in values.shape
            )
            selection = normalize_vectorized(key, values.shape)
            due = values[tuple(np.array(part, int) for part in key)]
        asks.append((number, selection))
        expected.append(np.asarray(due))
    return arrays, asks, expected


def orthogonal(values: np.ndarray[Any, Any], key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """The outer product of a key's parts."""
    found = values
    for dim, part in reversed(list(enumerate(key))):
        where = part if isinstance(part, (slice, int)) else np.asarray(part)
        if isinstance(where, np.ndarray) and not where.size:
            where = where.astype(bool if where.dtype == bool else int)
        found = found[(slice(None),) * dim + (where,)]
    return found


@given(case=cases(), stacked=st.booleans())
def test_any_selections_of_any_arrays_are_numpys(case: Any, stacked: bool) -> None:  # noqa: FBT001
    check(*case, stacked=stacked)


@given(case=cases(), stacked=st.booleans(), nbytes=st.integers(1, 4000))
def test_small_blocks_give_the_same(case: Any, stacked: bool, nbytes: int) -> None:  # noqa: FBT001
    with patch.object(joint, "BLOCK_NBYTES", nbytes):
        check(*case, stacked=stacked)


@st.composite
def crops(draw: st.DrawFn) -> tuple[list[Chunked], list[Ask], list[np.ndarray[Any, Any]]]:
    """Boxes of one shape and one step, some of them empty or of one place."""
    ndim = draw(st.integers(1, 3))
    shapes = draw(st.lists(st.tuples(*[st.integers(6, 24)] * ndim), min_size=1, max_size=2))
    arrays = chunked([(shape, draw(grids(shape))) for shape in shapes])
    steps = [draw(st.sampled_from([1, 1, 2, 3, 5, -1, -2, -5])) for _ in range(ndim)]
    counts = [draw(st.integers(0, 1 + 5 // abs(step))) for step in steps]
    asks: list[Ask] = []
    expected: list[np.ndarray[Any, Any]] = []
    for _ in range(draw(st.integers(1, 12))):
        number = draw(st.integers(0, len(arrays) - 1))
        shape = arrays[number].values.shape
        axes = []
        due = arrays[number].values
        for dim, (length, step, count) in enumerate(zip(shape, steps, counts, strict=True)):
            reach = max(0, count - 1) * abs(step)
            low = draw(st.integers(0, length - 1 - reach))
            start = low if step > 0 else low + reach
            axes.append(Span(dim, start, step, count))
            due = due.take(start + step * np.arange(count), axis=dim)
        asks.append((number, Selection(tuple(axes), tuple(counts))))
        expected.append(due)
    return arrays, asks, expected


@given(case=crops(), nbytes=st.sampled_from([1, 300, 1000, 1 << 20]))
def test_crops_of_one_shape_are_cut_together(case: Any, nbytes: int) -> None:
    arrays, asks, expected = case
    with (
        patch.object(joint, "BLOCK_NBYTES", nbytes),
        patch("gpuzarr.plan.joint.plan_chunks", side_effect=plan_chunks) as one_by_one,
    ):
        blocks = check(arrays, asks, expected, stacked=True)
    if nbytes == 1 << 20:
        assert blocks <= 1
        assert not one_by_one.called


def test_one_selection_larger_than_a_block_is_written_out_by_its_own() -> None:
    arrays = chunked([((40, 40), RegularGrid((1, 1)))])
    keys = [(slice(0, 40), slice(0, 40)), (slice(0, 3), slice(5, 9)), (slice(0, 1), slice(0, 1))]
    asks = [(0, normalize_selection(key, (40, 40))) for key in keys]
    expected = [arrays[0].values[key] for key in keys]
    assert check(arrays, asks, expected, stacked=True) == 1
    with patch.object(joint, "BLOCK_NBYTES", 4000), patch.object(chunk_table, "BLOCK_NBYTES", 4000):
        assert check(arrays, asks, expected, stacked=True) > 20


@pytest.mark.parametrize("stacked", [False, True])
def test_arrays_without_dimensions(stacked: bool) -> None:  # noqa: FBT001
    arrays = chunked([((), RegularGrid(())), ((), RegularGrid(()))])
    asks = [(number, normalize_selection((), ())) for number in (1, 0, 1)]
    expected = [arrays[number].values for number in (1, 0, 1)]
    assert check(arrays, asks, expected, stacked=stacked) == 1


def test_a_chunk_that_many_selections_need_is_there_once() -> None:
    arrays = chunked([((30,), RegularGrid((10,)))])
    asks = [(0, normalize_selection((slice(i, i + 5),), (30,))) for i in range(25)]
    plan, _, _ = plan_of(arrays, asks, stacked=True)
    ((chunks, pieces),) = plan.blocks()
    assert chunks.coords.tolist() == [[0], [1], [2]]
    assert len(pieces) == 25 + 2 * 4


def test_nothing_wanted_has_no_blocks() -> None:
    arrays = chunked([((30,), RegularGrid((10,)))])
    assert list(JointPlan([], [arrays[0].axes], 0, 4).blocks()) == []
    asks = [(0, normalize_selection((slice(3, 3),), (30,)))] * 2
    for stacked in (False, True):
        plan, _, _ = plan_of(arrays, asks, stacked=stacked)
        assert list(plan.blocks()) == []


def test_the_largest_chunks_do_not_wrap() -> None:
    shape = (2**62, 2**40)
    axes = grid_axes(RegularGrid((2**61 + 1, 2**39)), shape)
    asks = [(0, normalize_selection((slice(s, s + 3), slice(-2, None)), shape)) for s in (5, 2**61)]
    wanted = [Wanted(0, selection, 0, place) for place, (_, selection) in enumerate(asks)]
    ((chunks, pieces),) = JointPlan(wanted, [axes], 1, 8).blocks()
    assert chunks.coords.tolist() == [[0, 1], [1, 1]]
    assert (chunks.decoded_nbytes == 2**62).all()
    assert pieces.extent.tolist() == [[1, 3, 2], [1, 1, 2], [1, 2, 2]]


def test_too_many_chunks_are_refused() -> None:
    shape = (2**40,)
    axes = grid_axes(RegularGrid((1,)), shape)
    selection = normalize_selection((slice(None),), shape)
    for place in (None, 0):
        with pytest.raises(MemoryLimitError, match="touches 1099511627776 chunks"):
            list(JointPlan([Wanted(0, selection, 0, place)], [axes], 1, 4).blocks())
