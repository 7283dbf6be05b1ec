"""HDF5 files, and what kerchunk writes down about them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def scan(path: Path, url: str | None = None, **choices: Any) -> dict[str, Any]:
    """kerchunk's references of an HDF5 file; `choices` are its own."""
    from kerchunk.hdf import SingleHdf5ToZarr  # noqa: PLC0415  not everybody has it

    choices = {"inline_threshold": 0, "error": "raise", **choices}
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python's about types that v3 does not have
        document: dict[str, Any] = SingleHdf5ToZarr(
            file, str(path) if url is None else url, **choices
        ).translate()
    return document
