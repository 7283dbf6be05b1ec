"""Read Zarr arrays, v2 and v3, into GPU memory, or into NumPy where there is no GPU.

    import gpuzarr

    array = gpuzarr.open_array("data.zarr", path="temperature")
    part = array[0, 100:200, ::2]

`gpuzarr.open` tells all there is to choose; `DESIGN.md` beside this file tells how it works.
"""

from typing import TYPE_CHECKING

from gpuzarr.api import open, open_array, open_group  # noqa: A004  as zarr.open
from gpuzarr.array import Array
from gpuzarr.errors import (
    ChecksumError,
    ChunkError,
    ChunkFailure,
    DecodeError,
    DeviceError,
    GpuzarrError,
    MemoryLimitError,
    MetadataError,
    NotFoundError,
    SelectionError,
    StoreError,
    UnsupportedError,
)
from gpuzarr.group import Group
from gpuzarr.many import read_batch
from gpuzarr.pending import PendingRead
from gpuzarr.stores.store import Blob, Store

if TYPE_CHECKING:
    from gpuzarr.loader import Loader

__version__ = "0.1.0"

__all__ = [
    "Array",
    "Blob",
    "ChecksumError",
    "ChunkError",
    "ChunkFailure",
    "DecodeError",
    "DeviceError",
    "GpuzarrError",
    "Group",
    "Loader",
    "MemoryLimitError",
    "MetadataError",
    "NotFoundError",
    "PendingRead",
    "SelectionError",
    "Store",
    "StoreError",
    "UnsupportedError",
    "open",
    "open_array",
    "open_group",
    "read_batch",
]


def __getattr__(name: str) -> object:
    """`Loader`, which is imported when it is first asked for: most programs do without it."""
    if name != "Loader":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gpuzarr.loader import Loader  # noqa: PLC0415  see above

    globals()[name] = Loader
    return Loader


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
