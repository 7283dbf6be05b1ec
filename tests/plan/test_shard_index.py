"""From chunks to rows of shard indexes, the check of their entries, and the memory of indexes."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.metadata.model import RectilinearGrid, RegularGrid
from gpuzarr.plan.grid import grid_axes, grid_shape, grid_text
from gpuzarr.plan.shard_index import (
    ShardIndex,
    ShardIndexCache,
    check_entries,
    leaf_grid,
    shard_rows,
    unique_rows,
)
from gpuzarr.program import DecodeProgram, Layout, ShardLayout

EMPTY = 2**64 - 1


def layout(chunk_shape: tuple[int, ...], axes: tuple[int, ...] | None = None) -> ShardLayout:
    axes = tuple(range(len(chunk_shape))) if axes is None else axes
    index = DecodeProgram((), Layout(np.dtype("<u8"), tuple(range(len(axes) + 1))))
    return ShardLayout(chunk_shape, axes, index, "end")


# Rows of chunks


@st.composite
def sharded_places(draw: st.DrawFn) -> tuple[Any, ...]:
    ndim = draw(st.integers(1, 3))
    chunk = tuple(draw(st.integers(1, 4)) for _ in range(ndim))
    counts = tuple(draw(st.integers(1, 4)) for _ in range(ndim))
    axes = tuple(draw(st.permutations(range(ndim))))
    places = draw(st.lists(st.tuples(*(st.integers(0, 30) for _ in range(ndim))), max_size=20))
    return chunk, counts, axes, places


@given(sharded_places())
def test_each_chunk_is_found_in_its_shard(args: Any) -> None:
    chunk, counts, axes, places = args
    shape = tuple(31 * c for c in chunk)
    shard_shape = tuple(c * n for c, n in zip(chunk, counts, strict=True))
    starts = np.array(places, np.int64).reshape(-1, len(chunk)) * chunk
    rows = shard_rows(starts, grid_axes(RegularGrid(shard_shape), shape), layout(chunk, axes))
    for number, start in enumerate(starts.tolist()):
        shard = tuple(s // size for s, size in zip(start, shard_shape, strict=True))
        assert tuple(rows.shard[number].tolist()) == shard
        inside = [
            (s - i * size) // c
            for s, i, size, c in zip(start, shard, shard_shape, chunk, strict=True)
        ]
        index_shape = [counts[axis] for axis in axes]
        assert rows.counts[number].tolist() == index_shape
        expected = np.ravel_multi_index([inside[axis] for axis in axes], index_shape)
        assert rows.row[number] == expected


def test_shards_of_different_sizes() -> None:
    grid = grid_axes(RectilinearGrid(((4, 2, 6),)), (12,))
    rows = shard_rows(np.arange(0, 12, 2)[:, None], grid, layout((2,)))
    assert rows.shard[:, 0].tolist() == [0, 0, 1, 2, 2, 2]
    assert rows.row.tolist() == [0, 1, 0, 0, 1, 2]
    assert rows.counts[:, 0].tolist() == [2, 2, 1, 3, 3, 3]
    assert [axis.nchunks for axis in leaf_grid(layout((2,)), (11,))] == [6]


@given(
    st.integers(0, 3).flatmap(
        lambda ndim: st.lists(
            st.tuples(*(st.integers(-2, 3) for _ in range(ndim))), max_size=25
        ).map(lambda rows: np.array(rows, np.int64).reshape(len(rows), ndim))
    )
)
def test_unique_rows_are_the_distinct_ones_in_order(rows: np.ndarray[Any, Any]) -> None:
    first, group = unique_rows(rows)
    distinct = sorted(set(map(tuple, rows.tolist())))
    assert [tuple(rows[i].tolist()) for i in first.tolist()] == distinct
    assert [distinct[g] for g in group.tolist()] == list(map(tuple, rows.tolist()))


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(-(2**62), 2**62)), max_size=20))
def test_unique_rows_of_any_numbers(places: list[tuple[int, int]]) -> None:
    rows = np.array(places, np.int64).reshape(-1, 2)
    first, group = unique_rows(rows)
    assert rows[first][group].tolist() == rows.tolist()
    assert len(first) == len(set(places))


# Entries

ENTRY = st.integers(0, 2**64 - 1) | st.integers(0, 40) | st.sampled_from([EMPTY, 2**63, 2**63 - 1])


@given(
    st.lists(st.tuples(ENTRY, ENTRY), max_size=20), st.none() | st.integers(0, 40) | st.just(2**62)
)
def test_an_entry_is_empty_or_inside_or_broken(
    entries: list[tuple[int, int]], size: int | None
) -> None:
    empty, broken = check_entries(np.array(entries, np.uint64).reshape(-1, 2), size)
    limit = 2**63 - 1 if size is None else size
    assert empty.tolist() == [entry == (EMPTY, EMPTY) for entry in entries]
    assert broken.tolist() == [
        entry != (EMPTY, EMPTY) and entry[0] + entry[1] > limit for entry in entries
    ]


# Memory of indexes


def index(entries: int, validator: Any = None) -> ShardIndex:
    return ShardIndex(np.zeros((entries, 2), np.uint64), validator)


def test_indexes_are_remembered_by_object_and_range() -> None:
    cache = ShardIndexCache()
    outer, inner = index(4), index(2)
    cache.put("a", 0, -1, outer)
    cache.put("a", 0, 100, inner)
    assert cache.get("a", 0, -1) is outer
    assert cache.get("a", 0, 100) is inner
    assert cache.get("a", 8, 100) is None
    assert cache.get("b", 0, -1) is None
    cache.put("a", 0, -1, index(4))
    assert cache.get("a", 0, -1) is outer


def test_the_memory_is_bounded_and_the_least_used_goes_first() -> None:
    cache = ShardIndexCache(limit_nbytes=16 * 10)
    for name in "abc":
        cache.put(name, 0, -1, index(3))
    assert cache.get("a", 0, -1) is not None
    cache.put("d", 0, -1, index(3))
    assert cache.get("b", 0, -1) is None
    assert [name for name in "acd" if cache.get(name, 0, -1)] == ["a", "c", "d"]
    cache.put("e", 0, -1, index(11))
    assert cache.get("e", 0, -1) is None
    assert cache.get("d", 0, -1) is not None
    cache.put("f", 0, -1, index(10))
    assert [name for name in "acdf" if cache.get(name, 0, -1)] == ["f"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 6), st.booleans())))
def test_the_memory_never_holds_more_than_its_limit(steps: list[tuple[str, int, bool]]) -> None:
    cache = ShardIndexCache(limit_nbytes=16 * 8)
    for name, size, forget in steps:
        if forget:
            cache.forget({name})
            assert cache.get(name, 0, -1) is None
        else:
            cache.put(name, 0, -1, index(size))
        held = [cache.get(other, 0, -1) for other in "abcdef"]
        assert sum(one.entries.nbytes for one in held if one is not None) <= 16 * 8


def test_forgetting() -> None:
    cache = ShardIndexCache()
    cache.put("a", 0, -1, index(1))
    cache.put("a", 5, 9, index(1))
    cache.put("b", 0, -1, index(1))
    assert cache.forget({"a", "x"})
    assert not cache.forget({"a", "x"})
    assert cache.get("a", 5, 9) is None
    assert cache.get("b", 0, -1) is not None
    assert cache.forget(None)
    assert not cache.forget(None)
    for number in range(100):  # what was forgotten no longer counts
        cache.put(str(number), 0, -1, index(1))
    assert cache.get("0", 0, -1) is not None


def test_a_pickled_memory_is_empty() -> None:
    cache = ShardIndexCache(limit_nbytes=160)
    cache.put("a", 0, -1, index(1))
    again = pickle.loads(pickle.dumps(cache))  # noqa: S301  our own
    assert again.get("a", 0, -1) is None
    again.put("b", 0, -1, index(11))
    assert again.get("b", 0, -1) is None


# Grids for people


def test_a_rectilinear_grid_is_written_out_or_refused() -> None:
    grid = RectilinearGrid(((3, 4), 5))
    assert grid_shape(grid, (7, 12)) == ((3, 4), (5, 5, 5))
    assert grid_shape(RegularGrid((3, 4)), (7, 12)) == (3, 4)
    assert grid_text(grid) == "((3, 4), 5)"
    assert grid_text(RectilinearGrid((tuple(range(1, 100)),))) == "rectilinear"
    with pytest.raises(MemoryError, match="too many to list"):
        grid_shape(RectilinearGrid((1,)), (2**60,))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_holds_the_lock() -> None:
    cache = ShardIndexCache()
    cache.put("a", 0, -1, index(1))
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with cache._guard():  # noqa: SLF001  no other way to hold it for sure
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    context: Any = multiprocessing.get_context("fork")
    child = context.Process(target=_use, args=(cache,))
    child.start()
    child.join(60)
    exitcode = child.exitcode
    child.kill()
    release.set()
    thread.join()
    assert exitcode == 0


def _use(cache: ShardIndexCache) -> None:
    cache.put("b", 0, -1, index(1))
    assert cache.get("b", 0, -1) is not None
