"""Where windows lie: grids cell by cell, and uniform random places."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.errors import SelectionError
from gpuzarr.loader.windows import GridWindows, RandomWindows, cell_of

if TYPE_CHECKING:
    from collections.abc import Callable

sizes = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(1, 9)),
    max_size=3,
)


@given(dims=sizes, cells=st.booleans())
def test_a_grid_has_every_whole_crop_once(
    dims: list[tuple[int, int, int, int]],
    *,
    cells: bool,
) -> None:
    shape = tuple(max(n, c) for n, c, _, _ in dims)
    crop, stride = tuple(d[1] for d in dims), tuple(d[2] for d in dims)
    cell = tuple(d[3] for d in dims) if cells else None
    grid = GridWindows(shape, crop, stride, cell)
    expected = list(
        product(*(range(0, n - c + 1, s) for n, c, s in zip(shape, crop, stride, strict=True)))
    )
    assert grid.count == len(expected)
    found = list(map(tuple, grid.origins(np.arange(grid.count)).tolist()))
    assert sorted(found) == expected
    if cell is None:
        assert found == expected
    assert 1 <= grid.group <= grid.count


@pytest.mark.parametrize("stride", [(2, 2), (3, 2), (3, 5), (9, 1)])
def test_numbers_run_cell_by_cell(stride: tuple[int, int]) -> None:
    grid = GridWindows((20, 14), (2, 2), stride, (8, 8))
    assert grid.group == prod(max(1, 8 // step) for step in stride)
    cells = grid.origins(np.arange(grid.count)) // 8
    # Windows of a cell have numbers one after another.
    assert (np.diff(cells @ [10, 1]) != 0).sum() == len(np.unique(cells, axis=0)) - 1


def test_grids_of_any_size_cost_the_same() -> None:
    side = 1 << 40
    grid = GridWindows((side, 64), (1 << 20, 64), (1 << 20, 64), (1 << 22, 64))
    assert grid.count == 1 << 20
    assert grid.origins(np.array([0, 5, grid.count - 1])).tolist() == [
        [0, 0],
        [5 << 20, 0],
        [side - (1 << 20), 0],
    ]


def test_a_cell_is_as_large_as_an_object_or_a_crop() -> None:
    assert cell_of((64, 10, 7), (16, 25, 7)) == (64, 30, 7)


def random_windows(locality: int | None, count: int = 40_000) -> RandomWindows:
    return RandomWindows((30, 11), (7, 4), count, 3, 1, (8, 8), locality)


@pytest.mark.parametrize("locality", [None, 1, 4])
def test_random_places_are_uniform(locality: int | None) -> None:
    found = random_windows(locality).origins(np.arange(40_000))
    assert found.min(axis=0).tolist() == [0, 0]
    assert found.max(axis=0).tolist() == [23, 7]
    counts = np.bincount(found @ [8, 1], minlength=24 * 8)
    assert counts.min() > 0.5 * counts.mean()
    assert counts.max() < 1.5 * counts.mean()


def test_samples_do_not_depend_on_what_they_are_asked_with() -> None:
    for locality in (None, 2):
        windows = random_windows(locality, 1000)
        whole = windows.origins(np.arange(1000))
        for some in (np.array([999]), np.array([5, 3, 3]), np.arange(400, 450), np.arange(0)):
            assert np.array_equal(windows.origins(some), whole[some])


def test_with_locality_few_cells_are_visited_at_a_time() -> None:
    windows = random_windows(3)
    assert windows.visit == 2
    found = windows.origins(np.arange(600)).reshape(100, 6, 2) // 8
    assert max(len({tuple(cell) for cell in pool}) for pool in found.tolist()) <= 3


@pytest.mark.parametrize(
    "make",
    [
        lambda shape, crop: GridWindows(shape, crop, crop, None),
        lambda shape, crop: RandomWindows(shape, crop, 5, 0, 0, None, None),
    ],
)
def test_crops_that_do_not_fit_are_refused(make: Callable[..., object]) -> None:
    for shape, crop in (((4, 4), (5, 1)), ((4, 4), (0, 1)), ((4, 4), (1,)), ((0,), (1,))):
        with pytest.raises(SelectionError, match="does not fit into shape"):
            make(shape, crop)
