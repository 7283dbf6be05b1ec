from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.cli.regions import Edges, split_array, split_range

sizes = st.integers(1, 12) | st.lists(st.integers(1, 9), min_size=30, max_size=30)


@st.composite
def slices(draw: st.DrawFn, length: int) -> range:
    step = draw(st.integers(-4, 4).filter(bool))
    return range(length)[slice(draw(st.integers(0, length)), draw(st.integers(0, length)), step)]


@given(
    st.integers(0, 30).flatmap(lambda length: st.tuples(st.just(length), slices(length))),
    sizes,
    st.integers(1, 20),
)
def test_runs_cover_a_range_and_end_where_chunks_end(
    axis: tuple[int, range], chunk_sizes: int | list[int], most: int
) -> None:
    length, positions = axis
    edges = Edges(length, chunk_sizes)
    runs = list(split_range(positions, edges, most))
    assert [i for begin, end in runs for i in range(begin, end)] == list(range(len(positions)))
    for (_, end), (begin, _) in pairwise(runs):
        assert edges.chunk(positions[end - 1]) != edges.chunk(positions[begin])
    for begin, end in runs:
        one_chunk = edges.chunk(positions[begin]) == edges.chunk(positions[end - 1])
        assert end - begin <= most or one_chunk


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 15)), max_size=4), st.integers(1, 500))
def test_boxes_cover_an_array_once(axes: list[tuple[int, int]], most: int) -> None:
    shape = [length for length, _ in axes]
    chunks = [size for _, size in axes]
    seen = np.zeros(shape, int)
    one_chunk = int(np.prod(np.minimum(shape, chunks)))
    for box in split_array(shape, chunks, most):
        seen[box] += 1
        assert seen[box].size <= max(most, one_chunk)
        assert all(cut.start % size == 0 for cut, size in zip(box, chunks, strict=True))
    assert (seen == 1).all()


def test_huge_axes_cost_nothing() -> None:
    edges = Edges(10**15, 10)
    assert next(split_range(range(10**15), edges, 25)) == (0, 20)
    assert next(split_range(range(10**15 - 1, -1, -1), edges, 25)) == (0, 20)
