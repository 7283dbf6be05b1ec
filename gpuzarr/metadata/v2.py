"""Zarr v2 documents to the model; behind this door there is no v2 any more.

    .zarray                                         model
    order "F"                                       transpose {"order": [n-1, ..., 0]} in front
    dtype ">f4"                                     float32, and bytes {"endian": "big"}
    dtype [["a", ">f4"], ...]                       struct with `stored`, and bytes {}
    filters [{"id": "delta", ...}], compressor      numcodecs.delta {...}, ... behind bytes
    dtype "|O", filters [{"id": "vlen-utf8"}]       string, and vlen-utf8 in place of bytes
    dtype "|O", filters [{"id": "json2", ...}]      object, and numcodecs.json2 in place of bytes

Source: zarr-specs v2.0, and what zarr-python 2, 3 and TensorStore write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import numpy as np

from gpuzarr.errors import MetadataError
from gpuzarr.metadata.chunk_grids import check_chunk_nbytes, parse_chunk_shape
from gpuzarr.metadata.data_types import parse_data_type
from gpuzarr.metadata.document import (
    as_choice,
    as_int,
    as_list,
    as_object,
    as_shape,
    as_text,
    member,
)
from gpuzarr.metadata.fill_values import parse_fill_value
from gpuzarr.metadata.model import (
    ArrayMetadata,
    ChunkKeyEncoding,
    CodecMetadata,
    DataType,
    GroupMetadata,
)
from gpuzarr.metadata.v2_types import parse_v2_data_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from gpuzarr.metadata.model import JSON

MAX_FILTERS: Final = 256
"""The most filters that are read."""

_OBJECT: Final = "|O"

_TEXT_CODECS: Final = {"vlen-utf8": "string", "vlen-bytes": "bytes"}
"""Object codecs that v3 has too, and the data type that each gives."""


def parse_array(
    zarray: Mapping[str, JSON], zattrs: Mapping[str, JSON] | None = None
) -> ArrayMetadata:
    """Read `.zarray`, and `.zattrs` where it was read; other members are ignored, as v2 says.

    Raises:
        MetadataError: a member is missing or wrong.
        UnsupportedError: a data type that is not read.
    """
    _check_format(zarray)
    shape = as_shape(member(zarray, "shape"), "shape")
    chunk_grid = parse_chunk_shape(member(zarray, "chunks"), "chunks", shape)
    order = as_choice(zarray.get("order", "C"), "order", ("C", "F"))
    filters = _parse_filters(zarray)
    data_type, first, rest = _split_filters(member(zarray, "dtype"), filters)
    check_chunk_nbytes(chunk_grid, data_type.dtype.itemsize)
    transpose = CodecMetadata("transpose", {"order": list(range(len(shape)))[::-1]})
    fill = member(zarray, "fill_value")
    separator = zarray.get("dimension_separator")
    if separator is None:
        separator = "."
    return ArrayMetadata(
        shape=shape,
        data_type=data_type,
        chunk_grid=chunk_grid,
        chunk_key_encoding=ChunkKeyEncoding(
            "v2",
            cast("Literal['/', '.']", as_choice(separator, "dimension_separator", (".", "/"))),
        ),
        fill_value=None if fill is None else parse_fill_value(data_type, fill, zarr_format=2),
        codecs=(
            *([transpose] if order == "F" and len(shape) > 1 else []),
            first,
            *(CodecMetadata(f"numcodecs.{name}", rest_of) for name, rest_of in rest),
        ),
        dimension_names=None,
        attributes=zattrs,
        zarr_format=2,
        document=zarray,
    )


def parse_group(
    zgroup: Mapping[str, JSON], zattrs: Mapping[str, JSON] | None = None
) -> GroupMetadata:
    """Read `.zgroup`, and `.zattrs` where it was read.

    Raises:
        MetadataError: zarr_format is missing or not 2.
    """
    _check_format(zgroup)
    return GroupMetadata(zattrs, 2, zgroup)


def _check_format(document: Mapping[str, JSON]) -> None:
    as_int(member(document, "zarr_format"), "zarr_format", 2, 2)


_Codec = tuple[str, dict[str, "JSON"]]


def _parse_filters(zarray: Mapping[str, JSON]) -> list[_Codec]:
    """The numcodecs chain in encode order: filters, then the compressor."""
    value = zarray.get("filters")
    filters = [] if value is None else as_list(value, "filters")
    if len(filters) > MAX_FILTERS:
        raise MetadataError(f"filters has {len(filters)} entries; at most {MAX_FILTERS} are read")
    chain = [_parse_codec(entry, f"filters[{i}]") for i, entry in enumerate(filters)]
    compressor = member(zarray, "compressor")
    if compressor is not None:
        chain.append(_parse_codec(compressor, "compressor"))
    return chain


def _parse_codec(value: JSON, where: str) -> _Codec:
    configuration = dict(as_object(value, where))
    return as_text(member(configuration, "id", where), f"{where}.id"), {
        name: setting for name, setting in configuration.items() if name != "id"
    }


def _split_filters(
    dtype: JSON, chain: Sequence[_Codec]
) -> tuple[DataType, CodecMetadata, Sequence[_Codec]]:
    """The data type, the codec that turns elements into bytes, and the codecs behind it."""
    if dtype != _OBJECT:
        data_type, endian = parse_v2_data_type(dtype)
        return data_type, CodecMetadata("bytes", {"endian": endian} if endian else {}), chain
    if not chain:
        raise MetadataError(
            'dtype is "|O", but no filter says how the objects are stored (vlen-utf8, json2...)'
        )
    (name, configuration), *rest = chain
    if name in _TEXT_CODECS:
        return parse_data_type(_TEXT_CODECS[name]), CodecMetadata(name, configuration), rest
    objects = DataType("object", np.dtype(object))
    return objects, CodecMetadata(f"numcodecs.{name}", configuration), rest
