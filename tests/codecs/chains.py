"""Metadata made by hand: a data type, a chunk shape and a codec chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.codecs.lower import lower
from gpuzarr.metadata.data_types import parse_data_type
from gpuzarr.metadata.model import (
    ArrayMetadata,
    ChunkGrid,
    ChunkKeyEncoding,
    CodecMetadata,
    DataType,
    RegularGrid,
)

if TYPE_CHECKING:
    from gpuzarr.program import LoweredCodecs

LITTLE = ("bytes", {"endian": "little"})
BIG = ("bytes", {"endian": "big"})

CodecLike = str | tuple[str, dict[str, Any]]


def make_metadata(
    data_type: str | DataType,
    grid: tuple[int, ...] | ChunkGrid,
    *codecs: CodecLike,
    fill_value: Any = None,
) -> ArrayMetadata:
    """Metadata of an array that is one chunk large, or that has the given grid."""
    if isinstance(data_type, str):
        data_type = parse_data_type(data_type)
    chunk_grid = RegularGrid(grid) if isinstance(grid, tuple) else grid
    if fill_value is None and not data_type.variable:
        fill_value = np.zeros((), data_type.dtype)[()]
    shape = grid if isinstance(grid, tuple) else (1,) * len(grid.chunk_sizes)  # type: ignore[union-attr]
    return ArrayMetadata(
        shape=shape,
        data_type=data_type,
        chunk_grid=chunk_grid,
        chunk_key_encoding=ChunkKeyEncoding("default", "/"),
        fill_value=fill_value,
        codecs=tuple(
            CodecMetadata(codec) if isinstance(codec, str) else CodecMetadata(*codec)
            for codec in codecs
        ),
        dimension_names=None,
        attributes={},
        zarr_format=3,
        document={},
    )


def lower_chain_of(
    data_type: str | DataType, grid: tuple[int, ...] | ChunkGrid, *codecs: CodecLike
) -> LoweredCodecs:
    """Lower a chain for such an array."""
    return lower(make_metadata(data_type, grid, *codecs))


def as_json(*codecs: CodecLike) -> list[dict[str, Any]]:
    """Codecs as a configuration has them."""
    return [
        {"name": codec} if isinstance(codec, str) else {"name": codec[0], "configuration": codec[1]}
        for codec in codecs
    ]


def sharding(
    chunk_shape: tuple[int, ...], *codecs: CodecLike, **more: Any
) -> tuple[str, dict[str, Any]]:
    """A sharding codec with the usual index."""
    configuration = {
        "chunk_shape": list(chunk_shape),
        "codecs": as_json(*codecs),
        "index_codecs": as_json(LITTLE, "crc32c"),
        **more,
    }
    return "sharding_indexed", configuration
