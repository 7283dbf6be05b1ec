"""Data types, fill values and chunk grids, each alone, held against NumPy and arithmetic."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from gpuzarr.errors import GpuzarrError
from gpuzarr.metadata.chunk_grids import parse_chunk_grid
from gpuzarr.metadata.data_types import parse_data_type
from gpuzarr.metadata.document import as_shape, parse_json
from gpuzarr.metadata.fill_values import parse_fill_value
from gpuzarr.metadata.model import ChunkGrid, DataType, RegularGrid
from gpuzarr.metadata.v2_types import parse_v2_data_type
from gpuzarr.plan.grid import grid_axes, grid_shape, grid_text
from tests.hostile.fuzz.target import Outcome, Target, refused

MOST_CHUNKS = 2_000
"""Chunks of an axis that are compared one by one."""


def check_type(data: bytes) -> Outcome:
    """A data type of either format, and a fill value of it."""
    try:
        document = parse_json(data, "document")
        if "dtype" in document:
            data_type, endian = parse_v2_data_type(document["dtype"])
            _check_v2_type(document["dtype"], data_type, endian)
            zarr_format = 2
        else:
            data_type, zarr_format = parse_data_type(document.get("data_type")), 3
        assert data_type.dtype.isnative or data_type.dtype.names
        fill = document.get("fill_value")
        value = parse_fill_value(data_type, fill, zarr_format=zarr_format)  # type: ignore[arg-type]
    except GpuzarrError as error:
        return refused(error)
    _check_fill(data_type, fill, value)
    return "right"


def _check_v2_type(value: Any, data_type: DataType, endian: Any) -> None:
    """What NumPy makes of a type string is the same type."""
    if not isinstance(value, str) or value[:1] not in "<>|" or not value:
        return
    due = np.dtype(value)
    stored = data_type.dtype if endian is None else data_type.dtype.newbyteorder(endian)
    assert stored == due, (stored, due)


def _check_fill(data_type: DataType, given: Any, value: Any) -> None:
    dtype = data_type.dtype
    if data_type.variable:
        assert isinstance(value, (str, bytes)) or data_type.name == "object"
        return
    if dtype.kind in "SU":  # scalars are as long as what is in them
        assert np.asarray(value).dtype.kind == dtype.kind
        assert np.asarray(value).dtype.itemsize <= dtype.itemsize
    else:
        assert np.asarray(value).dtype == dtype, (np.asarray(value).dtype, dtype)
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if dtype.kind in "iu" and is_number:
        assert int(value) == given
    if dtype.kind == "f" and dtype.isbuiltin == 1 and is_number:
        with np.errstate(all="ignore"):
            due = np.float64(given).astype(dtype)
        assert np.array(value).tobytes() == due.tobytes() or (np.isnan(due) and np.isnan(value))


def check_grid(data: bytes) -> Outcome:
    """A chunk grid over a shape."""
    try:
        document = parse_json(data, "document")
        shape = as_shape(document.get("shape"), "shape")
        units = as_shape(document.get("units", []), "units")
        grid = parse_chunk_grid(
            document.get("chunk_grid"), shape, units if len(units) == len(shape) else ()
        )
        assert len(grid_text(grid)) < 100
        if max((axis.nchunks for axis in grid_axes(grid, shape)), default=0) <= MOST_CHUNKS:
            assert grid_shape(grid, shape) is not None
    except GpuzarrError as error:
        return refused(error)
    _check_axes(grid, shape)
    return "right"


def _check_axes(grid: ChunkGrid, shape: tuple[int, ...]) -> None:
    """Chunks lie one behind another, from the first element to the last or beyond."""
    sizes_of = grid.chunk_shape if isinstance(grid, RegularGrid) else grid.chunk_sizes
    assert len(sizes_of) == len(shape)
    for axis, length, sizes in zip(grid_axes(grid, shape), shape, sizes_of, strict=True):
        count = axis.nchunks
        assert (count == 0) == (length == 0)
        if not count:
            continue
        last = np.array([count - 1])
        assert axis.chunk_of(np.array([length - 1])).tolist() == last.tolist()
        start, size = int(axis.start_of(last)[0]), int(axis.size_of(last)[0])
        assert start <= length - 1 < start + size
        if count > MOST_CHUNKS:
            continue
        listed = [sizes] * count if isinstance(sizes, int) else list(sizes[:count])
        starts = [sum(listed[:i]) for i in range(count)] if count < 100 else None
        chunks = np.arange(count)
        assert axis.size_of(chunks).tolist() == listed
        if starts is not None:
            assert axis.start_of(chunks).tolist() == starts
            assert axis.chunk_of(np.array(starts)).tolist() == chunks.tolist()


def _documents(rows: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows]


STRUCT = {
    "name": "struct",
    "configuration": {"fields": [{"name": "a", "data_type": "int32"}, ["b", "complex64"]]},
}


def _type_seeds() -> list[bytes]:
    pairs: list[tuple[Any, Any]] = [
        *(("bool", True), ("int8", -128), ("uint64", 2**64 - 1), ("float16", 65504.0)),
        *(("float32", "0x7fc00001"), ("float64", "-Infinity"), ("complex64", ["NaN", -0.0])),
        *(("int4", -8), ("uint2", 3), ("bfloat16", 1e38), ("float4_e2m1fn", 6)),
        *(("float8_e8m0fnu", 0), ("float8_e4m3fn", "0x7f"), ("complex_float8_e5m2", [1, "0x7c"])),
        *(("string", "a"), ("bytes", "AAEC"), ("bytes", [1, 2, 255]), ("r24", [1, 2, 3])),
        (STRUCT, {"a": 1, "b": [0, 1]}),
        (STRUCT, "AAAAAAAAAAAAAAAA"),
        ({"name": "fixed_length_utf32", "configuration": {"length_bytes": 8}}, "ab"),
        ({"name": "null_terminated_bytes", "configuration": {"length_bytes": 3}}, "YWI="),
        ({"name": "raw_bytes", "configuration": {"length_bytes": 3}}, "AAEC"),
        (
            {"name": "numpy.datetime64", "configuration": {"unit": "ns", "scale_factor": 25}},
            "NaT",
        ),
        (
            {"name": "numpy.timedelta64", "configuration": {"unit": "generic", "scale_factor": 1}},
            7,
        ),
    ]
    old: list[tuple[Any, Any]] = [
        *(("|b1", 1), (">i2", -3), ("<u8", 0), ("<f2", "NaN"), (">f8", 1e300), ("<c16", [1, 2])),
        *(("|S3", "YWJj"), ("<U2", "ab"), ("|V2", "AAA="), ("<M8[10ns]", 0), (">m8[D]", "NaT")),
        *(("bfloat16", 1), ("int4", 1), ("<M8", "NaT")),
        ([["a", "<i4"], ["b", [["x", ">f4", [2]]]]], "AAAAAAAAAAAAAAAA"),
        ([[["title", "a"], "<i4"]], 0),
    ]
    return _documents(
        [{"data_type": a, "fill_value": b} for a, b in pairs]
        + [{"dtype": a, "fill_value": b} for a, b in old]
    )


def _grid_seeds() -> list[bytes]:
    def regular(*chunks: int) -> dict[str, Any]:
        return {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}

    def edges(*chunks: Any) -> dict[str, Any]:
        return {
            "name": "rectilinear",
            "configuration": {"kind": "inline", "chunk_shapes": list(chunks)},
        }

    rows: list[tuple[list[int], dict[str, Any]]] = [
        ([], regular()),
        ([10], regular(4)),
        ([0, 5], regular(0, 3)),
        ([2**62, 3], regular(2**61, 7)),
        ([7, 9], edges([3, 4], 2)),
        ([20], edges([[3, 5], [1, 2], 8])),
        ([9], {"name": "rectangular", "configuration": {"chunk_shape": [[4, 5]]}}),
        ([11], {"name": "zarrs.regular_bounded", "configuration": {"chunk_shape": [4]}}),
        ([5, 6], {"name": "regular", "configuration": {"chunk_shape": [[2, 3], 4]}}),
    ]
    made = [{"shape": shape, "chunk_grid": grid} for shape, grid in rows]
    return _documents([*made, {"shape": [0], "chunk_grid": regular(0), "units": [3]}])


TARGETS = (
    Target("types", check_type, _type_seeds, 2_000, is_json=True),
    Target("grids", check_grid, _grid_seeds, 2_000, is_json=True),
)
