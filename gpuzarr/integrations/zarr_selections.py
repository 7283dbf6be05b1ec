"""What zarr-python asks of each chunk, back to the one selection that the user made.

zarr-python cuts a selection into chunks before its codec pipeline is asked: for each chunk a key,
what is taken of it, and where that goes. Here the cuts are joined again, by one of three forms:

    basic        a[1, 2:9:3]            along each axis a number or a slice
    orthogonal   a.oindex[[5, 1], 2:9]  along each axis indices of its own
    points       a.vindex[[5, 1], [2, 9]], masks: indices that are walked together

Nothing is taken for granted: that the chunks are the product of their axes, that what is taken of
them is too, and that every place of the result is written once, is checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate, product
from operator import mul
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuzarr.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.metadata.model import ChunkKeyEncoding
    from gpuzarr.plan.grid import GridAxis

    Indices = range | NDArray[np.int64]
    Part = int | slice | NDArray[np.int64]

Coords = tuple[int, ...]
"""A chunk's position in the grid."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """What is taken of some chunks, and where it goes: one entry a chunk."""

    coords: Sequence[Coords]
    taken: Sequence[Any]
    """Keys of NumPy's for the chunks."""
    put: Sequence[Any]
    """Keys of NumPy's for the result."""
    drop_axes: tuple[int, ...]
    """Axes of one element that `taken` leaves, and the result has not."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A selection of the array."""

    form: Literal["basic", "oindex", "vindex"]
    key: tuple[Part, ...]


class ChunkKeys:
    """Finds the chunk coordinates in the keys of one array."""

    def __init__(self, encoding: ChunkKeyEncoding, ndim: int) -> None:
        """Prepare for keys of an encoding.

        Args:
            encoding: the array's.
            ndim: its number of dimensions.
        """
        separator = re.escape(encoding.separator)
        numbers = separator.join([r"(\d+)"] * ndim)
        if encoding.name == "default":
            self._name = f"c{separator}{numbers}" if ndim else "c"
        else:
            self._name = numbers or "0"
        self._name += re.escape(encoding.suffix)

    def path_in(self, key: str) -> str | None:
        """The path of the array that a key is of; None where it is no chunk's."""
        match = re.fullmatch(f"(?:(?P<path>.*)/)?{self._name}", key, re.DOTALL)
        return None if match is None else match["path"] or ""

    def coords(self, keys: Iterable[str], path: str) -> list[Coords]:
        """The coordinates of chunks of the array at `path`.

        Raises:
            UnsupportedError: a key of something else.
        """
        match = re.compile(re.escape(f"{path}/" if path else "") + self._name).fullmatch
        try:
            return [tuple(map(int, match(key).groups())) for key in keys]  # type: ignore[union-attr]
        except AttributeError:
            raise UnsupportedError("the chunks are not of one array") from None


def join_cuts(cuts: Cuts, grid: Sequence[GridAxis], shape: Sequence[int]) -> Joined:
    """The selection that was cut.

    Args:
        cuts: what is taken of each chunk; of one chunk at least.
        grid: the array's chunks.
        shape: of the result.

    Raises:
        UnsupportedError: the cuts are not of one of the three forms.
    """
    if not isinstance(cuts.put[0], tuple):
        return Joined("vindex", _join_points(cuts, grid, shape))
    parts = _join_axes(cuts, grid, shape)
    is_basic = not any(isinstance(part, np.ndarray) for part in parts)
    return Joined("basic" if is_basic else "oindex", parts)


def _join_points(
    cuts: Cuts, grid: Sequence[GridAxis], shape: Sequence[int]
) -> tuple[NDArray[np.int64], ...]:
    """Lists of coordinates, in the order of the result."""
    (length,) = shape
    places = [_places(put, length) for put in cuts.put]
    return tuple(
        _in_order(_within(axis, chunks, parts), places, length)
        for axis, chunks, parts in zip(
            grid, zip(*cuts.coords, strict=True), zip(*cuts.taken, strict=True), strict=True
        )
    )


def _join_axes(cuts: Cuts, grid: Sequence[GridAxis], shape: Sequence[int]) -> tuple[Part, ...]:
    """What is taken along each dimension."""
    axes = [sorted(set(column)) for column in zip(*cuts.coords, strict=True)]
    if list(product(*axes)) != cuts.coords:
        raise _strange("chunks that are not the product of their axes")
    # Going on by one along a dimension goes on by so many chunks.
    strides = [len(cuts.coords) // n for n in accumulate(map(len, axes), mul)]

    def along(rows: Sequence[Any], number: int, dim: int) -> list[Any]:
        """Part `number` of the rows in which only the chunk along `dim` is another."""
        return [row[number] for row in rows[:: strides[dim]][: len(axes[dim])]]

    taken = [along(cuts.taken, dim, dim) for dim in range(len(grid))]
    kept = [
        dim
        for dim, parts in enumerate(taken)
        if dim not in cuts.drop_axes and isinstance(parts[0], (slice, np.ndarray))
    ]
    if len(kept) != len(shape):
        raise _strange("a result of other dimensions")
    put = [along(cuts.put, number, dim) for number, dim in enumerate(kept)]
    if not (_is_product(taken, cuts.taken) and _is_product(put, cuts.put)):
        raise _strange("cuts that are not the product of their axes")
    places = {dim: (put[number], shape[number]) for number, dim in enumerate(kept)}
    return tuple(
        _join_axis(_within(axis, chunks, parts), *places.get(dim, (None, 1)))
        for dim, (axis, chunks, parts) in enumerate(zip(grid, axes, taken, strict=True))
    )


def _is_product(axes: Sequence[Sequence[Any]], rows: Sequence[Any]) -> bool:
    """Whether rows of parts are the product of the parts along each axis."""
    expected = list(product(*axes))
    if len(expected) != len(rows):
        return False
    if not any(isinstance(part, np.ndarray) for part in rows[0]):
        return expected == rows
    return all(
        _is_outer(row) and len(row) == len(parts) and all(map(np.array_equal, row, parts))
        for row, parts in zip(rows, expected, strict=True)
    )


def _is_outer(row: Sequence[Any]) -> bool:
    """Whether NumPy takes a key with lists apart along each axis: one list, or those of `ix_`."""
    lists = [part for part in row if isinstance(part, np.ndarray)]
    if len(lists) == 1 and lists[0].ndim == 1:
        return all(isinstance(part, (slice, np.ndarray)) for part in row)
    return len(lists) == len(row) and all(
        part.shape == tuple(part.size if axis == dim else 1 for axis in range(len(row)))
        for dim, part in enumerate(lists)
    )


def _join_axis(taken: Sequence[Indices], put: Sequence[Any] | None, length: int) -> Part:
    """What is taken along one dimension; `put` is None where the result has no axis for it."""
    if put is None:
        (index,) = _together(taken).tolist()
        return int(index)
    places = [_places(part, length) for part in put]
    if isinstance(taken[0], range) and sum(map(len, places)) == length:
        joined = _as_slice(taken, places, taken[0])
        if joined is not None:
            return joined
    return _in_order(taken, places, length)


def _within(axis: GridAxis, chunks: Sequence[int], parts: Sequence[Any]) -> list[Indices]:
    """The array's indices that are taken of some chunks along one dimension."""
    numbers = np.array(chunks, np.int64)
    starts, sizes = axis.start_of(numbers).tolist(), axis.size_of(numbers).tolist()
    return list(map(_indices, parts, starts, sizes))


def _indices(part: Any, start: int, size: int) -> Indices:
    """The array's indices that a part of a chunk's key means."""
    if isinstance(part, np.ndarray):
        within = _flat(part)
        if within.size and not 0 <= within.min() <= within.max() < size:
            raise _strange("indices outside of their chunks")
        return within + start
    return range(start, start + size)[part if isinstance(part, slice) else slice(part, part + 1)]


def _places(part: Any, length: int) -> Indices:
    """The places in the result that a part of its key means."""
    return range(length)[part] if isinstance(part, slice) else _flat(np.asarray(part))


def _flat(part: NDArray[Any]) -> NDArray[np.int64]:
    """The indices in a list, or those of the true places in a mask."""
    indices = part.nonzero()[0] if part.dtype == bool else part.reshape(-1)
    return indices.astype(np.int64, copy=False)


def _together(parts: Sequence[Indices]) -> NDArray[np.int64]:
    return np.concatenate([np.asarray(part, np.int64) for part in parts])


def _as_slice(taken: Sequence[Indices], places: Sequence[Indices], first: range) -> slice | None:
    """All of them as one slice, where they go on as the first does, and so do their places."""
    begin, step, done = first.start, first.step, 0
    for some, where in zip(taken, places, strict=True):
        reached = done + len(some)
        if some != range(begin + done * step, begin + reached * step, step):
            return None
        if where != range(done, reached):
            return None
        done = reached
    return slice(begin, begin + (done - 1) * step + 1, step)


def _in_order(
    taken: Sequence[Indices], places: Sequence[Indices], length: int
) -> NDArray[np.int64]:
    """Indices in the order of the places that they go to, each of which is there once."""
    if list(map(len, taken)) != list(map(len, places)):
        raise _strange("more, or fewer, elements than places for them")
    where = _together(places)
    ordered = np.full(length, -1, np.int64)
    if len(where) == length:
        ordered[where] = _together(taken)
    if (ordered < 0).any():
        raise _strange("places that nothing goes to, or several elements")
    return ordered


def _strange(what: str) -> UnsupportedError:
    return UnsupportedError(f"zarr-python asks for {what}, which none of its selections does")
