"""What is taken of a few chunks, written: of those that stand in a line in one assignment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.conversion import convert
from gpuzarr.engines.cpu.copying import MOST_ROW, may_be_rows, put, put_rows, view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.engine import FewChunk, Output

LEAST_COUNT = 8
"""Chunks of a line that is worth it."""


class _Landed:
    """See `gpuzarr.engines.engine.Landing`."""

    def wait(self) -> None:
        """All is written already."""


LANDED = _Landed()


def put_part(output: Output, place: tuple[slice, ...], part: NDArray[Any]) -> None:
    """Convert and write what was taken of a chunk."""
    conversion = output.conversion
    put(view(output.array, place), part if conversion.identity else convert(part, conversion))


def put_each(output: Output, chunks: Sequence[FewChunk], values: NDArray[Any]) -> None:
    """Write what is taken of chunks; `values` are (n, ...) all of them."""
    array = output.array
    in_rows = output.conversion.identity and may_be_rows(array, values)
    for chunk, value in zip(chunks, values, strict=True):
        part = value[chunk.take]
        if in_rows and 1 < part.shape[-1] <= MOST_ROW:
            put_rows(array[chunk.put], part)
        else:
            put_part(output, chunk.put, part)


def put_line(output: Output, chunks: Sequence[FewChunk], values: NDArray[Any]) -> None:
    """The same of chunks that `find_lines` found; `values` are (n, ...) all of them."""
    *others, first = chunks[0].put
    target = output.array[(*others, slice(first.start, chunks[-1].put[-1].stop))]
    part = np.moveaxis(values[(slice(None), *chunks[0].take)], 0, -2)
    conversion = output.conversion
    put(target.reshape(part.shape), part if conversion.identity else convert(part, conversion))


def put_fill(output: Output, place: tuple[slice, ...]) -> None:
    """Write the fill value where a chunk is not stored."""
    conversion = output.conversion
    fill = output.fill if conversion.identity else convert(output.fill, conversion)
    output.array[(*place, ...)] = fill  # "..." since an object's place would take the array itself


def find_lines(chunks: Sequence[FewChunk]) -> list[slice]:
    """Runs of chunks that stand side by side along the last axis, with equal parts taken of each.

    Args:
        chunks: in any order; lines are found where theirs is that of the array.
    """
    found: list[slice] = []
    first, count = 0, len(chunks)
    while first + LEAST_COUNT <= count:
        *others, at = chunks[first].put
        take, stop, end = chunks[first].take, at.stop, first + 1
        while end < count:
            chunk = chunks[end]
            *mine, here = chunk.put
            if here.start != stop or mine != others or chunk.take != take:
                break
            stop, end = here.stop, end + 1
        if end - first >= LEAST_COUNT:
            found.append(slice(first, end))
        first = end
    return found
