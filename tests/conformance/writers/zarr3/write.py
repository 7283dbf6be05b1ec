"""Writing one array with zarr-python 3 and reading it back."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built
from ...samples import leave_out
from ...values import assert_equal, is_text

if TYPE_CHECKING:
    from pathlib import Path

Options = Callable[[], dict[str, Any]]
"""Arguments of `zarr.create_array`, made when the case is written: codec objects need the import."""


def _no_options() -> dict[str, Any]:
    return {}


def write(
    store: Path,
    values: np.ndarray[Any, Any],
    chunks: tuple[int, ...],
    fill: Any = 0,
    *,
    path: str = "",
    options: Options = _no_options,
    zarr_format: int = 3,
    skip: bool = True,
    lossy: bool = False,
    dtype: Any = None,
) -> Built:
    """Create the array, write it in one go, read it back through a fresh handle.

    With `skip`, about every fourth chunk (or shard) is the fill value and therefore not stored. What is read back must be
    what was written, unless a codec is lossy: a bug of the writer must not become an expectation.
    """
    zarr: Any = importlib.import_module("zarr")
    arguments = options()
    if skip and fill is not None:
        leave_out(values, chunks, fill)
        if "shards" in arguments:
            leave_out(values, arguments["shards"], fill, every=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            str(store),
            name=path or None,
            shape=values.shape,
            chunks=chunks,
            dtype=values.dtype if dtype is None else dtype,
            fill_value=fill,
            zarr_format=zarr_format,
            **({"compressors": None} | arguments),
        )
        array[...] = values
        back = as_array(zarr.open_array(str(store), path=path, mode="r")[...], values)
    if not lossy:
        assert_equal(values, back)
    return Built(back, path=path)


def as_array(result: Any, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The writer's result as an array in native byte order: a 0-d read may come back as a bare scalar."""
    if isinstance(result, np.ndarray) and is_text(result.dtype):
        return result
    if is_text(like.dtype) and like.ndim == 0:
        out = np.empty((), dtype=object)
        out[()] = result.item() if isinstance(result, np.ndarray) else str(result)
        return out
    out = np.asarray(result, dtype=like.dtype) if like.ndim == 0 else np.asarray(result)
    return out.astype(out.dtype.newbyteorder("="), copy=False)
