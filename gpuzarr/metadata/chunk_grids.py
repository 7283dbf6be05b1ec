"""Chunk grids: how an array's shape is cut into chunks.

The kinds, and who defined them:

    regular                  zarr-specs v3, regular grid 1.0; v2's `chunks`
    rectilinear              zarr-extensions: edge lengths, run-length encoded or not
    rectangular              zarrs' draft of it (ZEP 3), without run lengths
    zarrs.regular_bounded    zarrs: regular, but chunks at the edge end with the array
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata.document import MAX_LENGTH, as_choice, as_int, as_list, shorten, wrong
from gpuzarr.metadata.extension import Extension, parse_essential
from gpuzarr.metadata.model import RectilinearGrid, RegularGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuzarr.metadata.model import JSON, ChunkGrid

MAX_EDGES: Final = 2**20
"""How many edge lengths one grid may have, over all axes, once run lengths are expanded."""

Shape = tuple[int, ...]


def parse_chunk_grid(value: JSON, shape: Shape, units: Sequence[int] = ()) -> ChunkGrid:
    """Read v3's `chunk_grid`.

    Args:
        value: the member.
        shape: the array's shape.
        units: chunk shape inside the shards, where there are shards; else empty.

    Raises:
        MetadataError: not a grid over this shape.
        UnsupportedError: a grid of another kind.
    """
    extension = parse_essential(value, "chunk_grid")
    parse = _GRIDS.get(extension.name)
    if parse is None:
        known = ", ".join(sorted(_GRIDS))
        raise UnsupportedError(
            f"the chunk grid {shorten(extension.name)} is not known; these are: {known}"
        )
    return parse(extension, shape, units)


def parse_chunk_shape(
    value: JSON, where: str, shape: Shape, units: Sequence[int] = ()
) -> RegularGrid:
    """Read the chunk shape of a regular grid."""
    sizes = _per_axis(value, where, shape)
    return RegularGrid(
        tuple(
            _chunk_size(size, f"{where}[{axis}]", shape[axis], units[axis] if units else 1)
            for axis, size in enumerate(sizes)
        )
    )


def check_chunk_nbytes(grid: ChunkGrid, itemsize: int) -> None:
    """Refuse chunks whose bytes cannot be counted in 64 bits."""
    match grid:
        case RegularGrid():
            largest = grid.chunk_shape
        case RectilinearGrid():
            largest = tuple(
                sizes if isinstance(sizes, int) else max(sizes, default=1)
                for sizes in grid.chunk_sizes
            )
    if prod(largest) * itemsize > MAX_LENGTH:
        raise MetadataError(
            f"a chunk of shape {shorten(list(largest))} has more than {MAX_LENGTH} bytes"
        )


def _per_axis(value: JSON, where: str, shape: Shape) -> list[JSON]:
    sizes = as_list(value, where)
    if len(sizes) != len(shape):
        raise MetadataError(
            f"{where} has {len(sizes)} entries, but the shape has {len(shape)} dimensions"
        )
    return sizes


def _chunk_size(value: JSON, where: str, length: int, unit: int) -> int:
    # zarr-python wrote 0 for chunks of zero-length dimensions; any size does there. In shards it
    # has to be a multiple of the chunks inside.
    if length == 0 and value == 0 and isinstance(value, int) and not isinstance(value, bool):
        return max(unit, 1)
    return as_int(value, where, low=1)


def _parse_regular(extension: Extension, shape: Shape, units: Sequence[int]) -> ChunkGrid:
    extension.check_configuration("chunk_shape")
    where = f"{extension.where}.configuration.chunk_shape"
    sizes = _per_axis(extension.member("chunk_shape"), where, shape)
    listed = sum(isinstance(size, list) for size in sizes)
    if 0 < listed < len(sizes):
        # zarr-python 3.2 wrote a rectilinear grid under this name when only some axes vary.
        return _edges_grid(sizes, where, shape)
    return parse_chunk_shape(sizes, where, shape, units)


def _parse_rectilinear(extension: Extension, shape: Shape, units: Sequence[int]) -> ChunkGrid:
    del units
    extension.check_configuration("kind", "chunk_shapes")
    as_choice(extension.member("kind"), f"{extension.where}.configuration.kind", ("inline",))
    where = f"{extension.where}.configuration.chunk_shapes"
    return _edges_grid(extension.member("chunk_shapes"), where, shape)


def _parse_rectangular(extension: Extension, shape: Shape, units: Sequence[int]) -> ChunkGrid:
    del units
    extension.check_configuration("chunk_shape")
    where = f"{extension.where}.configuration.chunk_shape"
    return _edges_grid(extension.member("chunk_shape"), where, shape)


def _parse_bounded(extension: Extension, shape: Shape, units: Sequence[int]) -> ChunkGrid:
    del units
    extension.check_configuration("chunk_shape")
    where = f"{extension.where}.configuration.chunk_shape"
    chunk_shape = parse_chunk_shape(extension.member("chunk_shape"), where, shape).chunk_shape
    axes: list[list[JSON] | int] = []
    for length, size in zip(shape, chunk_shape, strict=True):
        full, rest = divmod(length, size)
        runs: list[JSON] = [[size, full]] if full else []
        axes.append(size if rest == 0 else [*runs, rest])
    return _edges_grid(axes, where, shape)


_GRIDS: Final[dict[str, Callable[[Extension, Shape, Sequence[int]], ChunkGrid]]] = {
    "regular": _parse_regular,
    "rectilinear": _parse_rectilinear,
    "rectangular": _parse_rectangular,
    "zarrs.regular_bounded": _parse_bounded,
}


def _edges_grid(value: JSON, where: str, shape: Shape) -> RectilinearGrid:
    """Read for each axis one size, or edge lengths with or without run lengths."""
    budget = MAX_EDGES
    axes: list[Shape | int] = []
    for axis, entry in enumerate(_per_axis(value, where, shape)):
        at = f"{where}[{axis}]"
        if not isinstance(entry, list):
            axes.append(_chunk_size(entry, at, shape[axis], 1))
            continue
        sizes = _expand_runs(entry, shape[axis], at, budget)
        budget -= 0 if isinstance(sizes, int) else len(sizes)
        axes.append(sizes)
    return RectilinearGrid(tuple(axes))


def _parse_runs(entry: list[JSON], where: str) -> Iterator[tuple[int, int]]:
    """Read edge lengths and runs alike as runs."""
    for i, item in enumerate(entry):
        # There may be very many: where each stands is only worked out for those that look odd.
        if type(item) is int and 0 < item <= MAX_LENGTH:
            yield item, 1
        else:
            yield _parse_run(item, f"{where}[{i}]")


def _parse_run(value: JSON, where: str) -> tuple[int, int]:
    """Read an edge length, or a run `[edge length, how often]`."""
    if not isinstance(value, list):
        return as_int(value, where, low=1), 1
    if len(value) != 2:  # noqa: PLR2004  a pair
        raise wrong(where, value, "an edge length, or a pair [edge length, count]")
    return as_int(value[0], f"{where}[0]", low=1), as_int(value[1], f"{where}[1]", low=1)


def _expand_runs(entry: list[JSON], length: int, where: str, budget: int) -> Shape | int:
    """The edge lengths along an axis; one number where it says the same."""
    if len(entry) > budget:
        raise _too_many(where)
    covered = edges = 0
    distinct: set[int] = set()
    for size, count in _parse_runs(entry, where):
        covered += size * count
        edges += count
        distinct.add(size)
    if covered < length or not edges:
        raise MetadataError(
            f"{where} has edge lengths that sum to {covered}, but must cover {length}"
        )
    if covered > MAX_LENGTH:
        raise MetadataError(f"{where} has edge lengths that sum to more than {MAX_LENGTH}")
    if len(distinct) == 1 and edges == -(-length // size):
        return size
    if edges > budget:
        raise _too_many(where)
    sizes: list[int] = []
    for size, count in _parse_runs(entry, where):
        sizes.extend((size,) * count)
    return tuple(sizes)


def _too_many(where: str) -> MetadataError:
    return MetadataError(
        f"{where} brings the grid above {MAX_EDGES} edge lengths; that many are read at most"
    )
