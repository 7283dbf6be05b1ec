"""The scatter kernels against NumPy's indexing, through the tables that the engine makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cuda.kernels import ROWS_TILE, SCATTER_TILE, VECTOR
from gpuzarr.engines.cuda.pieces import (
    PieceRows,
    element_strides,
    first_blocks,
    merge_axes,
    piece_rows,
)
from gpuzarr.plan.chunk_table import plan_chunks
from gpuzarr.plan.grid import grid_axes
from gpuzarr.plan.selection import normalize_selection
from tests.kernels.any_pieces import Pieces, any_pieces, shuffled
from tests.kernels.arguments import addresses, integers, launch, swap, unaligned
from tests.strategies import any_keys, grids, shapes

DTYPES = ("|u1", "<i2", ">i2", "<f4", ">f4", "<f8", ">c8", "<c16", ">c16", "|V3", "|V24")


@st.composite
def chunked(draw: st.DrawFn) -> Any:
    """A shape, a grid, an axis order, a key and a dtype."""
    shape = draw(shapes(max_dims=5, max_side=6))
    grid = grid_axes(draw(grids(shape)), shape)
    axes = tuple(draw(st.permutations(range(len(shape)))))
    return shape, grid, axes, draw(any_keys(shape)), np.dtype(draw(st.sampled_from(DTYPES)))


@given(case=chunked(), data=st.data())
def test_items(case: Any, data: st.DataObject) -> None:
    shape, grid, axes, key, dtype = case
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype).reshape(shape)
    selection = normalize_selection(key, shape)
    native = dtype.newbyteorder("=")
    expected = array[key if isinstance(key, tuple) else (key,)].astype(native)
    shift = data.draw(st.integers(0, 8))
    typesize = data.draw(st.sampled_from([0, 0, dtype.itemsize, 1, 3, 8]))
    block = data.draw(st.sampled_from([dtype.itemsize * 4, 5, 16, 1 << 20]))
    memory = unaligned(np.zeros(selection.canonical_shape, native), shift)
    strides = np.zeros(selection.canonical_shape, native).strides
    merged = data.draw(st.booleans())
    for table, pieces in plan_chunks(selection, grid, dtype.itemsize).blocks():
        chunks = []
        for row in range(len(table)):
            begin = [int(grid[d].start_of(table.coords[row, d])) for d in range(len(shape))]
            chunk = np.zeros(table.shape[row].tolist(), dtype)
            part = array[tuple(slice(b, b + s) for b, s in zip(begin, chunk.shape, strict=True))]
            chunk[tuple(map(slice, part.shape))] = part
            flat = np.ascontiguousarray(chunk.transpose(axes)).reshape(-1).view(np.uint8)
            chunks.append(unaligned(shuffled(flat, typesize, block) if typesize else flat, shift))
        rows = piece_rows(
            pieces,
            np.arange(len(pieces)),
            pieces.axes[0],
            element_strides(table.shape, axes),
            memory.ctypes.data,
            strides,
        )
        rows = merge_axes(rows) if merged else rows
        edges = first_blocks(rows.counts(), SCATTER_TILE)
        n = len(chunks)
        launch(
            "scatter_items",
            max(1, int(edges[-1])),
            *(rows.rows, edges, len(rows.rows), rows.naxes, rows.lists),
            *(rows.list_source, rows.list_target, addresses(chunks)),
            *(integers([len(c) for c in chunks]), integers([typesize] * n), integers([block] * n)),
            *(dtype.itemsize, 0, dtype.itemsize, swap(dtype), int(typesize > 0)),
        )
    got = memory.copy().view(native).reshape(selection.shape)
    assert got.tobytes() == np.ascontiguousarray(expected).tobytes()


STRUCTURES = (
    (np.dtype("<i2"), None),
    (np.dtype(">u8"), None),
    (np.dtype(">c16"), None),
    (np.dtype("V3"), None),
    (np.dtype("V24"), None),
    (np.dtype([("a", "u1"), ("b", ">c8"), ("c", "<f8")]), "b"),
    (np.dtype([("a", "u1"), ("b", ">c8"), ("c", "<f8")]), "c"),
    (np.dtype([("a", ">i4"), ("b", "<u2"), ("c", "V2")]), "a"),
    (np.dtype([("a", "V16"), ("b", "V1"), ("c", "V16")]), "c"),
)
"""Stored types, and the field that is read."""


def scatter_items(
    pieces: Pieces, stored: np.dtype, name: str | None, typesize: int, block: int, **constants: int
) -> None:
    field, offset = (stored, 0) if name is None else stored.fields[name][:2]  # type: ignore[index]
    columns = pieces.shuffle_columns(typesize, block)
    launch(
        "scatter_items",
        *pieces.arguments(),
        *columns,
        *(stored.itemsize, offset, field.itemsize, swap(field), int(typesize > 0)),
        **constants,
    )


@given(
    data=st.data(),
    typed=st.sampled_from(STRUCTURES),
    typesize=st.sampled_from([0, -1, -1, -1, 1, 2, 3, 7, 8, 255]),
    block=st.sampled_from([0, 1, 2, 5, 1 << 16]),
    more=st.sampled_from([0, 0, 1, 3]),
)
def test_any_pieces_of_any_chunks(
    data: st.DataObject,
    typed: tuple[np.dtype, str | None],
    typesize: int,
    block: int,
    more: int,
) -> None:
    """Shuffles by the elements' own size (-1) are undone on a way of their own, where blocks
    have whole elements: `block` of them, and `more` bytes.
    """
    stored, name = typed
    field = stored if name is None else stored.fields[name][0]  # type: ignore[index]
    native = field.newbyteorder("=")
    pieces = data.draw(any_pieces(stored, name, native))
    typesize = stored.itemsize if typesize < 0 else typesize
    before = [memory.copy() for memory in pieces.memories]
    scatter_items(pieces, stored, name, typesize, max(1, block * stored.itemsize + more))
    for source, result in zip(pieces.sources, pieces.results(), strict=True):
        assert result.tobytes() == source.astype(native).tobytes()
    for target, memory, old in zip(pieces.targets, pieces.memories, before, strict=True):
        target[...] = np.zeros((), native)  # what lies between the elements was left alone
        assert memory.tobytes() == old.tobytes()


@pytest.mark.parametrize("typesize", [0, 48, 5])
@pytest.mark.parametrize("component", [1, 2, 3, 4, 6, 8, 12, 16, 24, 48])
def test_components_of_any_size_are_reversed(component: int, typesize: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, 20 * 48, np.uint8)
    chunk = unaligned(shuffled(data, typesize, 96) if typesize else data, 8)
    out = unaligned(np.zeros(len(data), np.uint8), 8)
    none = integers(0)
    launch(
        "scatter_items",
        1,
        *(integers(0, 0, out.ctypes.data, 20, 1, 48), integers(0, 1), 1, 1, 0, none, none),
        *(addresses([chunk]), integers(len(chunk)), integers(typesize), integers(96)),
        *(48, 0, 48, component, int(typesize > 0)),
    )
    np.testing.assert_array_equal(out, data.reshape(-1, component)[:, ::-1].reshape(-1))


@pytest.mark.parametrize("naxes", [0, 9, 33, 64])
def test_any_number_of_axes(naxes: int) -> None:
    """Axes of two places are the outermost, the innermost, and a list in the middle."""
    twice = {0, naxes // 2, naxes - 1} if naxes else set()
    shape = tuple(2 if a in twice else 1 for a in range(naxes))
    array = np.arange(2 ** len(twice), dtype="<u4")
    out = np.zeros(array.shape, "<u4")
    row, step = [0, 0, out.ctypes.data], len(array)
    listed = naxes // 2 if naxes else -1
    tables = integers(0)
    for a, extent in enumerate(shape):
        step //= extent
        row += [extent, 0 if a == listed else step, 4 * step]
        if a == listed:
            tables = integers(0, step)
    launch(
        "scatter_items",
        1,
        *(integers(row), integers(0, 1), 1, naxes, 1 << listed if naxes else 0),
        *(tables, 4 * tables, addresses([array])),
        *[integers(0)] * 3,
        *(4, 0, 4, 0, 0),
    )
    np.testing.assert_array_equal(out, array)


@pytest.mark.parametrize("typesize", [0, 4, 2])
@pytest.mark.parametrize("lists", [0, 2])
def test_kernels_for_constants_do_the_same(typesize: int, lists: int) -> None:
    stored = np.dtype([("a", ">i4")])
    rng = np.random.default_rng(1)
    chunk = unaligned(rng.integers(0, 256, 4 * 11 * 13 * 17, np.uint8), 4)
    array = chunk.view(">i4").reshape(11, 13, 17)
    chosen = [5, 1, 1, 12] if lists else list(range(0, 13, 3))
    source = array[:, chosen, ::-2].copy()
    memory = unaligned(np.zeros(source.nbytes, np.uint8), 4)
    out = memory.view("<i4").reshape(source.shape)
    row = [0, 16, out.ctypes.data, 11, 13 * 17, out.strides[0], len(chosen)]
    row += [0, 0] if lists else [3 * 17, out.strides[1]]
    pieces = Pieces(3, lists, [[*row, 9, -2, 4]], [17 * k for k in chosen])
    pieces.list_target = [out.strides[1] * k for k in range(len(chosen))]
    pieces.chunks, pieces.sources = [chunk], [source]
    constants = {"naxes": 3, "lists": lists, "pitch": 4, "field": 0, "item": 4, "swap": 4}
    shuffles = {"shuffled": int(typesize > 0)}
    scatter_items(pieces, stored, "a", typesize, 40, **constants, **shuffles)
    np.testing.assert_array_equal(out, source)


@pytest.mark.parametrize("field", [0, 2, 6])
def test_a_field_of_a_structure(field: int) -> None:
    array = np.arange(80, dtype=np.uint8)
    out = np.zeros(10, ">u2")
    rows = np.array([[0, 0, out.ctypes.data, 10, 1, 2]])
    none = integers(0)
    columns = (addresses([array]), none, none, none)
    launch(
        "scatter_items", 1, rows, integers(0, 1), 1, 1, 0, none, none, *columns, 8, field, 2, 2, 0
    )
    np.testing.assert_array_equal(
        out, array.reshape(10, 8)[:, field : field + 2].copy().view("<u2")[:, 0]
    )


@pytest.mark.parametrize(
    "constants",
    [{}, {"naxes": 2, "lists": 0, "pitch": 4, "field": 0, "item": 4, "swap": 0, "shuffled": 0}],
)
def test_a_kernel_for_known_constants_does_the_same(constants: dict[str, int]) -> None:
    array = np.arange(60 * 70, dtype=np.int32).reshape(60, 70)
    out = np.zeros((60, 35), np.int32)
    rows = np.array([[0, 0, out.ctypes.data, 60, 70, 140, 35, 2, 4]])
    none = integers(0)
    edges = first_blocks(integers(60 * 35), SCATTER_TILE)
    columns = (addresses([array]), none, none, none)
    launch(
        "scatter_items",
        int(edges[-1]),
        rows,
        edges,
        1,
        2,
        0,
        none,
        none,
        *columns,
        4,
        0,
        4,
        0,
        0,
        **constants,
    )
    np.testing.assert_array_equal(out, array[:, ::2])


@given(
    runs=st.lists(st.tuples(st.integers(1, 100), st.integers(1, 9)), min_size=1, max_size=5),
    source_shift=st.integers(0, 16),
    target_shift=st.integers(0, 16),
    gap=st.integers(0, 20),
)
def test_rows(runs: list[tuple[int, int]], source_shift: int, target_shift: int, gap: int) -> None:
    rng = np.random.default_rng(len(runs))
    sources, targets, rows = [], [], []
    for number, (run, count) in enumerate(runs):
        source = unaligned(rng.integers(0, 256, count * (run + 3), np.uint8), source_shift)
        target = unaligned(np.zeros(count * (run + gap), np.uint8), target_shift)
        rows.append([number, 0, target.ctypes.data, count, run + 3, run + gap, run, 1, 1])
        sources.append(source)
        targets.append(target)
    table = PieceRows(np.array(rows), 0, integers(0)[:0], integers(0)[:0])
    bytes_of = table.extents[:, -1]
    slots = (bytes_of + 2 * (VECTOR - 1)) // VECTOR
    edges = first_blocks(table.counts() // bytes_of * slots, ROWS_TILE)
    none = integers(0)
    launch(
        "scatter_rows",
        int(edges[-1]),
        table.rows,
        edges,
        len(rows),
        2,
        0,
        none,
        none,
        addresses(sources),
        integers([len(source) for source in sources]),
    )
    for (length, count), source, target in zip(runs, sources, targets, strict=True):
        got = target.reshape(count, length + gap)
        np.testing.assert_array_equal(got[:, :length], source.reshape(count, -1)[:, :length])
        assert not got[:, length:].any()


@pytest.mark.parametrize("run", [1, 15, 16, 17, 33, 64])
def test_rows_of_every_alignment(run: int) -> None:
    """A piece for every alignment of source and target, all of them in one launch."""
    data = np.arange(200, dtype=np.uint8)
    sources = [unaligned(data, shift) for shift in range(16)]
    targets, rows = [], []
    for number, shift in np.ndindex(16, 16):
        target = unaligned(np.zeros(2 * run + 5, np.uint8), shift)
        row = [number, 70, target.ctypes.data + run + 5]
        rows.append([*row, 2, -70, -(run + 5), run, 1, 1])  # both steps backwards
        targets.append(target)
    slots = (run + 2 * (VECTOR - 1)) // VECTOR
    edges = first_blocks(np.full(len(rows), 2 * slots), ROWS_TILE)
    none = integers(0)
    chunks = (addresses(sources), integers([len(data)] * len(sources)))
    tables = (integers(rows), edges, len(rows), 2, 0, none, none, *chunks)
    launch("scatter_rows", int(edges[-1]), *tables)
    expected = np.concatenate([data[:run], np.zeros(5, np.uint8), data[70 : 70 + run]])
    for target in targets:
        np.testing.assert_array_equal(target, expected)


@given(case=chunked(), item=st.sampled_from([1, 2, 3, 4, 8, 16]), shift=st.integers(0, 5))
def test_fill(case: Any, item: int, shift: int) -> None:
    shape, grid, _, key, _ = case
    selection = normalize_selection(key, shape)
    value = np.arange(1, item + 1, dtype=np.uint8)
    dtype = np.dtype(f"V{item}")
    memory = unaligned(np.zeros(selection.canonical_shape, dtype), shift)
    strides = np.zeros(selection.canonical_shape, dtype).strides
    for table, pieces in plan_chunks(selection, grid, item).blocks():
        zeros = np.zeros((len(table), len(shape)), np.int64)
        every = np.arange(len(pieces))
        rows = piece_rows(pieces, every, pieces.axes[0], zeros, memory.ctypes.data, strides)
        edges = first_blocks(rows.counts(), SCATTER_TILE)
        columns = (rows.rows, edges, len(rows.rows), rows.naxes, rows.lists, rows.list_target)
        launch("fill", max(1, int(edges[-1])), *columns, value, item)
    np.testing.assert_array_equal(memory.reshape(-1, item), np.tile(value, (selection.size, 1)))
