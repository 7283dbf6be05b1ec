"""Documents that are right, for tests to change in one place."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

ZARRAY: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [6, 4],
    "chunks": [4, 3],
    "dtype": "<f4",
    "compressor": {"id": "zlib", "level": 1},
    "filters": None,
    "fill_value": 0.0,
    "order": "C",
}

ZARR_JSON: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [6, 4],
    "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 3]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0.0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
}

GROUP_JSON: dict[str, Any] = {"zarr_format": 3, "node_type": "group"}


def zarray(**changes: Any) -> dict[str, Any]:
    """A `.zarray`, with members replaced."""
    return deepcopy(ZARRAY) | changes


def zarr_json(**changes: Any) -> dict[str, Any]:
    """An array's `zarr.json`, with members replaced."""
    return deepcopy(ZARR_JSON) | changes


def group_json(**changes: Any) -> dict[str, Any]:
    """A group's `zarr.json`, with members replaced."""
    return deepcopy(GROUP_JSON) | changes


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The document without one member."""
    return {key: value for key, value in document.items() if key != name}


def each(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, whose kinds a checker of types need not compare."""
    return values
