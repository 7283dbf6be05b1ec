"""Pieces between any two views of arrays, made from the views' strides and not by the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from gpuzarr.engines.cuda.kernels import SCATTER_TILE
from gpuzarr.engines.cuda.pieces import first_blocks
from tests.kernels.arguments import addresses, integers, unaligned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

MOST_AXES = 5


@dataclass
class Pieces:
    """Pieces of as many chunks, each to an output of its own."""

    naxes: int
    lists: int
    rows: list[list[int]] = field(default_factory=list)
    list_source: list[int] = field(default_factory=list)
    list_target: list[int] = field(default_factory=list)
    chunks: list[NDArray[np.uint8]] = field(default_factory=list)
    sources: list[NDArray[Any]] = field(default_factory=list)
    """What is read of each chunk; lists applied."""
    memories: list[NDArray[np.uint8]] = field(default_factory=list)
    targets: list[NDArray[Any]] = field(default_factory=list)
    """Where it goes: views of `memories`; lists not applied."""
    places: list[tuple[Any, ...]] = field(default_factory=list)
    """How lists index each target."""

    def arguments(self) -> tuple[Any, ...]:
        """The first arguments of the kernels, and before them the number of thread blocks."""
        rows = integers(self.rows)
        counts = integers([source.size for source in self.sources])
        edges = first_blocks(counts, SCATTER_TILE)
        return (
            *(int(edges[-1]), rows, edges, len(self.rows), self.naxes, self.lists),
            *(integers(self.list_source), integers(self.list_target), addresses(self.chunks)),
        )

    def shuffle_columns(self, typesize: int, block: int) -> tuple[Any, ...]:
        """Shuffle all chunks; the columns that say so."""
        if typesize:
            for chunk in self.chunks:
                chunk[:] = shuffled(chunk, typesize, block)
        n = len(self.chunks)
        sizes = integers([len(chunk) for chunk in self.chunks])
        return sizes, integers([typesize] * n), integers([block] * n)

    def results(self) -> list[NDArray[Any]]:
        """What the outputs hold, in the order of `sources`."""
        return [target[place] for target, place in zip(self.targets, self.places, strict=True)]


def shuffled(data: NDArray[np.uint8], typesize: int, block: int) -> NDArray[np.uint8]:
    """Byte-shuffle blocks of bytes, each on its own."""
    out = data.copy()
    for start in range(0, len(data), block):
        part = data[start : start + block]
        count = len(part) // typesize
        planes = part[: count * typesize].reshape(count, typesize).T.reshape(-1)
        out[start : start + count * typesize] = planes
    return out


@st.composite
def any_pieces(draw: st.DrawFn, stored: np.dtype, name: str | None, result: np.dtype) -> Pieces:
    """One to three pieces of chunks of `stored`; field `name` goes to outputs of `result`."""
    naxes = draw(st.integers(0, MOST_AXES))
    lists = draw(st.integers(0, (1 << naxes) - 1)) if draw(st.booleans()) else 0
    pieces = Pieces(naxes, lists)
    for _ in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.lists(st.integers(1, 6), min_size=naxes, max_size=naxes)))
        rng = np.random.default_rng(draw(st.integers(0, 9)))
        nbytes = int(np.prod(shape)) * stored.itemsize
        chunk = unaligned(rng.integers(0, 256, nbytes, np.uint8), draw(st.integers(0, 15)))
        source = chunk.view(stored).reshape(shape).transpose(draw(st.permutations(range(naxes))))
        source = source[_view(draw(st.slices(side)) for side in source.shape)]
        source = source if source.size else chunk.view(stored).reshape(shape)
        pieces.chunks.append(chunk)
        values = _add_row(draw, pieces, source, result)
        # A copy, for chunks are shuffled afterwards.
        pieces.sources.append((values if name is None else values[name]).copy())
    return pieces


def _add_row(
    draw: st.DrawFn, pieces: Pieces, source: NDArray[Any], result: np.dtype
) -> NDArray[Any]:
    """Add the row of a piece of the last chunk; gives the source with lists applied."""
    naxes, pitch = pieces.naxes, source.itemsize
    chosen = [
        draw(st.lists(st.integers(0, side - 1), min_size=1, max_size=7))
        if pieces.lists >> a & 1
        else list(range(side))
        for a, side in enumerate(source.shape)
    ]
    memory, target = _target(draw, tuple(map(len, chosen)), result)
    first = (source.ctypes.data - pieces.chunks[-1].ctypes.data) // pitch
    row = [len(pieces.rows), first, target.ctypes.data]
    place = []
    for a, indices in enumerate(chosen):
        if pieces.lists >> a & 1:
            order = draw(st.permutations(range(len(indices))))
            row += [len(indices), len(pieces.list_source), 0]
            pieces.list_source += [i * source.strides[a] // pitch for i in indices]
            pieces.list_target += [i * target.strides[a] for i in order]
            place.append(order)
        else:
            row += [len(indices), source.strides[a] // pitch, target.strides[a]]
            place.append(list(range(len(indices))))
    pieces.rows.append(row)
    pieces.memories.append(memory)
    pieces.targets.append(target)
    pieces.places.append(np.ix_(*place) if naxes else (...,))
    return source[np.ix_(*chosen)] if naxes else source


def _view(slices: Iterable[slice]) -> Any:
    """A key that gives a view of an array of no axes, too."""
    return (*slices, ...)


def _target(
    draw: st.DrawFn, shape: tuple[int, ...], result: np.dtype
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Memory at any alignment, and a view of it: any axis order, gaps, steps of both signs."""
    order = draw(st.permutations(range(len(shape))))
    gap = draw(st.integers(1, 2))
    sides = tuple(shape[a] * gap for a in order)
    count = int(np.prod(sides))
    memory = unaligned(np.zeros(count * result.itemsize, np.uint8), draw(st.integers(0, 15)))
    view = memory.view(result).reshape(sides)
    sign = draw(st.sampled_from([1, -1]))
    view = view[_view(slice(None, None, sign * gap) for _ in shape)]
    return memory, view.transpose([order.index(a) for a in range(len(shape))])
