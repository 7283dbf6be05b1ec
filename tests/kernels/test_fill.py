"""`fill` against assignment in NumPy; selections of whole arrays are beside `scatter`'s."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cuda.kernels import SCATTER_TILE
from gpuzarr.engines.cuda.pieces import first_blocks
from tests.kernels.arguments import integers, launch, unaligned

NOT_READ = 1 << 60
"""In the parts of rows that mean nothing here."""


def value_of(item: int) -> np.ndarray:
    return np.arange(1, item + 1, dtype=np.uint8)


def run_fill(
    rows: list[list[int]], counts: list[int], item: int, lists: int = 0, places: object = ()
) -> None:
    table, edges = np.array(rows, np.int64), first_blocks(integers(counts), SCATTER_TILE)
    naxes = (table.shape[1] - 3) // 3
    columns = (table, edges, len(rows), naxes, lists, integers(places))
    launch("fill", int(edges[-1]), *columns, value_of(item), item)


@pytest.mark.parametrize("item", [1, 2, 3, 4, 6, 8, 12, 16, 17])
@pytest.mark.parametrize("shift", [0, 1, 2, 4, 8])
def test_runs_of_all_lengths(item: int, shift: int) -> None:
    """Tiles that end with a piece, before and behind it; nothing behind a run is written."""
    counts = [1, 2, 0, SCATTER_TILE - 1, SCATTER_TILE, SCATTER_TILE + 1, 2 * SCATTER_TILE + 1]
    memories = [unaligned(np.zeros((count + 1) * item, np.uint8), shift) for count in counts]
    rows = [
        [NOT_READ, NOT_READ, memory.ctypes.data, count, NOT_READ, item]
        for memory, count in zip(memories, counts, strict=True)
    ]
    run_fill(rows, counts, item)
    for memory, count in zip(memories, counts, strict=True):
        filled, behind = memory[: count * item], memory[count * item :]
        np.testing.assert_array_equal(filled, np.tile(value_of(item), count))
        assert not behind.any()


def test_single_elements_have_no_axes() -> None:
    memory = np.zeros(12, np.uint8)
    run_fill([[0, 0, memory.ctypes.data], [0, 0, memory.ctypes.data + 7]], [1, 1], 4)
    assert memory.tolist() == [1, 2, 3, 4, 0, 0, 0, 1, 2, 3, 4, 0]


def test_as_many_axes_as_arrays_have() -> None:
    memory = np.zeros((2, 3, 2), np.uint16)
    shape = [1] * 20 + [2] + [1] * 20 + [3] + [1] * 20 + [2, 1]
    steps = [0] * 20 + [12] + [0] * 20 + [4] + [0] * 20 + [2, 0]
    assert len(shape) == 64
    axes = [word for extent, step in zip(shape, steps, strict=True) for word in (extent, 9, step)]
    run_fill([[0, 0, memory.ctypes.data, *axes]], [12], 2)
    assert (memory == 0x0201).all()


@given(data=st.data())
def test_spans_and_lists(data: st.DataObject) -> None:
    """Axes that go either way, and axes whose places are listed."""
    ndim = data.draw(st.integers(1, 4), "ndim")
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * ndim), "shape")
    item = data.draw(st.sampled_from([1, 2, 3, 4, 8, 16]), "item")
    memory = unaligned(np.zeros((*shape, item), np.uint8), data.draw(st.integers(0, 9), "shift"))
    array = memory.reshape(*shape, item)
    row, lists, places = [0, 0, memory.ctypes.data], 0, [NOT_READ]
    chosen: list[list[int]] = []
    for axis, size in enumerate(shape):
        step = array.strides[axis]
        if data.draw(st.booleans(), "listed"):
            some = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=6), "places")
            lists |= 1 << axis
            row += [len(some), len(places), NOT_READ]
            places += [place * step for place in some]
        else:
            start, stop = data.draw(st.tuples(*[st.integers(0, size - 1)] * 2), "ends")
            some = list(range(start, stop + 1) if start <= stop else range(start, stop - 1, -1))
            row[2] += start * step
            row += [len(some), NOT_READ, step if start <= stop else -step]
        chosen.append(some)
    run_fill([row], [int(np.prod([len(some) for some in chosen]))], item, lists, places)
    expected = np.zeros_like(array)
    for place in product(*chosen):
        expected[place] = value_of(item)
    np.testing.assert_array_equal(array, expected)
