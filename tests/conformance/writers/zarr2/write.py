"""Writing one array with zarr-python 2 and reading it back."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built
from ...samples import leave_out
from ...values import assert_equal, is_text

if TYPE_CHECKING:
    from pathlib import Path


def write(
    store: Path,
    values: np.ndarray[Any, Any],
    chunks: tuple[int, ...],
    fill: Any = 0,
    *,
    path: str = "",
    dtype: Any = None,
    skip: bool = True,
    lossy: bool = False,
    compressor: dict[str, Any] | None = None,
    filters: list[dict[str, Any]] | None = None,
    **options: Any,
) -> Built:
    """Create the array, write it in one go, read it back through a fresh handle.

    Codecs are given as their configurations. With `skip`, about every fourth chunk is the fill value and not stored. What is
    read back must be what was written, unless a codec is lossy.
    """
    import numcodecs

    zarr: Any = importlib.import_module("zarr")
    if skip and fill is not None:
        leave_out(values, chunks, fill)
    separator = options.get("dimension_separator")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        directory = zarr.DirectoryStore(str(store), dimension_separator=separator)
        array = zarr.create(
            values.shape,
            store=directory,
            path=path or None,
            chunks=chunks or True,
            dtype=values.dtype if dtype is None else dtype,
            fill_value=fill,
            compressor=compressor and numcodecs.get_codec(dict(compressor)),
            filters=filters and [numcodecs.get_codec(dict(item)) for item in filters],
            write_empty_chunks=False,
            **options,
        )
        array[...] = values
        back = as_array(zarr.open_array(directory, path=path or None, mode="r")[...], values)
    if not lossy:
        assert_equal(values, back)
    return Built(back, path=path)


def as_array(result: Any, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The result as an array in native byte order: a 0-d read comes back as a bare scalar."""
    if is_text(like.dtype):
        if isinstance(result, np.ndarray):
            return result
        out = np.empty((), dtype=object)
        out[()] = result
        return out
    out = np.asarray(result, dtype=like.dtype) if like.ndim == 0 else np.asarray(result)
    return out.astype(out.dtype.newbyteorder("="), copy=False)
