"""What an array is, as a table that prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuzarr.plan.grid import grid_text

if TYPE_CHECKING:
    from gpuzarr.array import Array

LONGEST_VALUE = 200
"""Characters of a fill value that are shown."""


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """What an array is, as a table."""

    array: Array

    def rows(self) -> dict[str, str]:
        """Labels and values."""
        array = self.array
        outer = grid_text(array.metadata.chunk_grid)
        sharded = array.shards is not None
        rows = {
            "Path": array.name,
            "Store": array.store.name,
            "Zarr format": str(array.zarr_format),
            "Shape": str(array.shape),
            "Data type": f"{array.metadata.data_type.name} ({array.dtype})",
            "Chunks": str(array.chunks) if sharded else outer,
            "Number of chunks": f"{array.nchunks:,}",
            "Size": f"{array.nbytes:,} bytes",
            "Codecs": ", ".join(codec.name for codec in array.metadata.codecs),
            "Fill value": repr(array.fill_value)[:LONGEST_VALUE],
        }
        if sharded:
            rows["Shards"] = outer
        if array.dimension_names is not None:
            rows["Dimension names"] = ", ".join(str(name) for name in array.dimension_names)
        return rows

    def to_dict(self) -> dict[str, str]:
        """The same, for machines."""
        return self.rows()

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(map(len, rows))
        return "\n".join(f"{label:<{width}} : {value}" for label, value in rows.items())
