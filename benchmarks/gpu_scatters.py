"""The kernels that write pieces of chunks to outputs, each on chunks that are all alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gpu_ground import Launch

from gpuzarr.engines.cuda.kernels import ROWS_TILE, SCATTER_TILE, TYPES, VECTOR
from gpuzarr.engines.cuda.pieces import first_blocks
from gpuzarr.engines.cuda.transfer import float_bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ground import Case, Ground, Values


def pieces(ground: Ground, axes: Sequence[tuple[int, int, int]], blocks: Values) -> list[int]:
    """The first arguments of kernels that go through pieces: one of each chunk, all alike."""
    rows = np.empty((ground.count, 3 + 3 * len(axes)), np.int64)
    rows[:, 0] = np.arange(ground.count)
    rows[:, 1], rows[:, 2] = 0, ground.targets
    rows[:, 3:] = np.reshape(axes, -1)
    at = ground.columns(rows.reshape(-1), blocks, 0)
    return [at[0], at[1], ground.count, len(axes), 0, at[2], at[2]]


def runs(ground: Ground, run: int, apart: bool) -> tuple[Values, int, int, dict[str, Any]]:  # noqa: FBT001
    """Rows of half of a chunk's bytes: the steps on both sides, and what is expected."""
    rows = ground.unit // (2 * run)
    data = ground.noise()
    if apart:
        expected = data[: rows * run].reshape(rows, run)

        def pick(found: Values) -> Values:
            return found.reshape(rows, 2 * run)[:, :run]

        how = {"expected": expected, "pick": pick, "nbytes": ground.unit}
        return data, run, 2 * run, {**how, "moved": 2 * expected.nbytes * ground.count}
    expected = data.reshape(rows, 2 * run)[:, :run]
    return data, 2 * run, run, {"expected": expected, "moved": 2 * expected.nbytes * ground.count}


def as_rows(run: int, apart: bool) -> Case:  # noqa: FBT001
    """Runs of bytes, copied as such."""

    def make(ground: Ground) -> Launch:
        data, source, target, how = runs(ground, run, apart)
        rows = ground.unit // (2 * run)
        slots = (run + 2 * (VECTOR - 1)) // VECTOR
        edges = first_blocks(ground.each(rows * slots), ROWS_TILE)
        first = pieces(ground, [(rows, source, target), (run, 1, 1)], edges)
        arguments = (*first, *ground.columns(ground.sources, ground.each(len(data))))
        return Launch(
            "scatter_rows", int(edges[-1]), arguments, place=int(ground.targets[0]), **how
        )

    return make


def items(  # noqa: PLR0913, PLR0917  what elements are
    ground: Ground,
    axes: Sequence[tuple[int, int, int]],
    item: int,
    swap: int = 0,
    typesize: int = 0,
    conversion: dict[str, int] | None = None,
) -> tuple[int, list[int], dict[str, int]]:
    """Blocks, arguments and constants of kernels that go element by element."""
    count = int(np.prod([extent for extent, _, _ in axes]))
    edges = first_blocks(ground.each(count), SCATTER_TILE)
    first = pieces(ground, axes, edges)
    columns = (ground.sources, ground.each(count * item), ground.each(typesize))
    at = ground.columns(*columns, ground.each(count * item))
    shuffled = int(typesize > 0)
    constants = {"naxes": len(axes), "lists": 0, "pitch": item, "field": 0, "item": item}
    constants |= {"swap": swap, "shuffled": shuffled, **(conversion or {})}
    return int(edges[-1]), [*first, *at, item, 0, item, swap, shuffled], constants


def as_items(run: int, apart: bool) -> Case:  # noqa: FBT001
    """Runs of four-byte elements, copied one by one."""

    def make(ground: Ground) -> Launch:
        _, source, target, how = runs(ground, run, apart)
        rows = ground.unit // (2 * run)
        axes = [(rows, source // 4, target), (run // 4, 1, 4)][: 1 if run == 4 else 2]  # noqa: PLR2004
        blocks, arguments, constants = items(ground, axes, 4)
        place = int(ground.targets[0])
        return Launch("scatter_items", blocks, arguments, place=place, constants=constants, **how)

    return make


def whole(item: int, *, swap: int = 0, typesize: int = 0) -> Case:
    """Whole chunks, whose bytes are swapped or shuffled."""

    def make(ground: Ground) -> Launch:
        data, count = ground.noise(), ground.unit // item
        expected = data.reshape(item, count).T if typesize else data.reshape(count, item)[:, ::-1]
        found = items(ground, [(count, 1, item)], item, swap, typesize)
        blocks, arguments, constants = found
        moved = 2 * ground.unit * ground.count
        place = int(ground.targets[0])
        return Launch("scatter_items", blocks, arguments, moved, expected, place, constants)

    return make


def planes(item: int, *, swap: int = 0, typesize: int = 0) -> Case:
    """The same, row by row."""

    def make(ground: Ground) -> Launch:
        data, count = ground.noise(), ground.unit // item
        expected = data.reshape(item, count).T if typesize else data.reshape(count, item)[:, ::-1]
        slots = (ground.unit + 2 * (VECTOR - 1)) // VECTOR
        edges = first_blocks(ground.each(slots), ROWS_TILE)
        first = pieces(ground, [(count, 1, item)], edges)
        sizes = ground.each(ground.unit)
        at = ground.columns(ground.sources, sizes, ground.each(typesize), sizes)
        moved, place = 2 * ground.unit * ground.count, int(ground.targets[0])
        arguments, constants = (*first, *at, item, swap), {"item": item, "swap": swap}
        blocks = int(edges[-1])
        return Launch("scatter_planes", blocks, arguments, moved, expected, place, constants)

    return make


def transposed(ground: Ground) -> Launch:
    """Chunks in F order, of rows of 512 elements."""
    columns = 512
    rows = ground.unit // (4 * columns)
    expected = ground.noise("<u4").reshape(columns, rows).T
    blocks, arguments, constants = items(ground, [(rows, 1, 4 * columns), (columns, rows, 4)], 4)
    moved, place = 2 * ground.unit * ground.count, int(ground.targets[0])
    return Launch("scatter_items", blocks, arguments, moved, expected, place, constants)


def converted(scale: float | None, offset: float | None) -> Case:
    """uint16 to float32."""

    def make(ground: Ground) -> Launch:
        data = ground.noise("<u2", ground.unit // 2)
        expected = data.astype("<f4")
        if scale is not None and offset is not None:
            expected = expected * np.float32(scale) + np.float32(offset)
        how = {
            "source_type": TYPES["u2"],
            "result_type": TYPES["f4"],
            "arithmetic": int(scale is not None),
            "has_scale": int(scale is not None),
            "has_offset": int(offset is not None),
        }
        blocks, arguments, constants = items(ground, [(len(data), 1, 4)], 2, conversion=how)
        status = ground.place(np.zeros(ground.count, np.int32))
        arguments += [how["source_type"], how["result_type"], how["arithmetic"]]
        arguments += [how["has_scale"], float_bits(scale or 0.0)]
        arguments += [how["has_offset"], float_bits(offset or 0.0), 0, status]
        moved = (data.nbytes + expected.nbytes) * ground.count
        place = int(ground.targets[0])
        return Launch("scatter_converted", blocks, arguments, moved, expected, place, constants)

    return make


def fill(ground: Ground) -> Launch:
    """A value of four bytes everywhere."""
    count = ground.unit // 4
    edges = first_blocks(ground.each(count), SCATTER_TILE)
    first = pieces(ground, [(count, 0, 4)], edges)
    value = np.array([1.5], "<f4")
    arguments = (*first[:6], ground.place(value), 4)
    place, moved = int(ground.targets[0]), ground.unit * ground.count
    return Launch("fill", int(edges[-1]), arguments, moved, np.repeat(value, count), place)
