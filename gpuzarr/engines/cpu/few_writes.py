"""What is taken of a few chunks, written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuzarr.engines.conversion import convert
from gpuzarr.engines.cpu.copying import put, view

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.engine import Output


class _Landed:
    """See `gpuzarr.engines.engine.Landing`."""

    def wait(self) -> None:
        """All is written already."""


LANDED = _Landed()


def put_part(output: Output, place: tuple[slice, ...], part: NDArray[Any]) -> None:
    """Convert and write what was taken of a chunk."""
    conversion = output.conversion
    put(view(output.array, place), part if conversion.identity else convert(part, conversion))


def put_fill(output: Output, place: tuple[slice, ...]) -> None:
    """Write the fill value where a chunk is not stored."""
    conversion = output.conversion
    fill = output.fill if conversion.identity else convert(output.fill, conversion)
    output.array[(*place, ...)] = fill  # "..." since an object's place would take the array itself
