"""Hypothesis strategies shared by the tests: shapes, chunk grids, and keys as users write them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gpuzarr.metadata.model import ChunkGrid, RectilinearGrid, RegularGrid

Key = Any


def shapes(max_dims: int = 4, max_side: int = 9) -> st.SearchStrategy[tuple[int, ...]]:
    """Array shapes, with 0-d ones and empty dimensions among them."""
    return st.lists(st.integers(0, max_side), max_size=max_dims).map(tuple)


@st.composite
def grids(draw: st.DrawFn, shape: tuple[int, ...]) -> ChunkGrid:
    """Chunk grids for a shape: chunks smaller and larger than the array, regular or not."""
    if bool(shape) and draw(st.booleans()):
        sizes: list[tuple[int, ...] | int] = []
        for length in shape:
            if draw(st.booleans()):
                sizes.append(draw(st.integers(1, 12)))
                continue
            parts = draw(st.lists(st.integers(1, 5), max_size=6))
            while sum(parts) < length:
                parts.append(draw(st.integers(1, 5)))
            sizes.append(tuple(parts or [1]))
        return RectilinearGrid(tuple(sizes))
    return RegularGrid(tuple(draw(st.integers(1, 12)) for _ in shape))


def basic_keys(shape: tuple[int, ...]) -> st.SearchStrategy[Key]:
    """Integers, slices of any step, `...` and None, for a shape."""
    return npst.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)


@st.composite
def advanced_keys(draw: st.DrawFn, shape: tuple[int, ...]) -> Key:
    """Keys with lists that broadcast together, masks, and everything basic between them."""
    group = draw(npst.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=4))
    parts: list[Any] = []
    dim = 0
    ellipsis = False
    while dim < len(shape):
        length = shape[dim]
        kind = draw(st.sampled_from(["int", "slice", "list", "mask", "none", "ellipsis", "stop"]))
        if kind == "int" and length:
            parts.append(draw(st.integers(-length, length - 1)))
        elif kind == "slice":
            parts.append(draw(st.slices(length)))
        elif kind == "list" and length:
            sub = draw(st.sampled_from([group, group[-1:], tuple(1 for _ in group)]))
            parts.append(
                draw(npst.arrays(np.int64, sub, elements=st.integers(-length, length - 1)))
            )
        elif kind == "mask" and (not group or group[-1] == 1):
            parts.append(draw(npst.arrays(bool, (length,))))
        elif kind == "none":
            parts.append(None)
            continue
        elif kind == "ellipsis" and not ellipsis:
            ellipsis = True
            rest = draw(st.integers(0, len(shape) - dim))
            parts.append(Ellipsis)
            dim += rest
            # What comes after an ellipsis must cover the dimensions that are left.
            parts.extend(draw(st.slices(shape[left])) for left in range(dim, len(shape)))
            break
        elif kind == "stop":
            break
        else:
            continue
        dim += 1
    return tuple(parts)


def any_keys(shape: tuple[int, ...]) -> st.SearchStrategy[Key]:
    """Basic or advanced keys."""
    return st.one_of(basic_keys(shape), advanced_keys(shape))


@st.composite
def orthogonal_keys(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """For each dimension an integer, a slice, a list or a mask."""
    parts: list[Any] = []
    for length in shape:
        choices: list[st.SearchStrategy[Any]] = [st.slices(length), npst.arrays(bool, (length,))]
        if length:
            inside = st.integers(-length, length - 1)
            choices += [inside, st.lists(inside, max_size=6)]
        parts.append(draw(st.one_of(choices)))
    return tuple(parts)
