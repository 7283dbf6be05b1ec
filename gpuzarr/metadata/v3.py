"""Zarr v3 documents (`zarr.json`) to the model.

Source: zarr-specs v3 core 3.1 (2026-07): extension points may be written by name alone, and what is
not known is an error unless it says `"must_understand": false` at a point that allows it:

    unknown member of the document      ignored, when it is an object that says so
    unknown storage transformer         ignored, when it says so
    codec                               kept in the model with what it says; `codecs.lower` decides
    data type, grid, chunk keys         never: it must not say so
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata.chunk_grids import check_chunk_nbytes, parse_chunk_grid
from gpuzarr.metadata.consolidated import parse_inline
from gpuzarr.metadata.data_types import parse_data_type
from gpuzarr.metadata.document import (
    as_choice,
    as_int,
    as_list,
    as_object,
    as_shape,
    member,
    shorten,
    wrong,
)
from gpuzarr.metadata.extension import parse_essential, parse_extension
from gpuzarr.metadata.fill_values import parse_fill_value
from gpuzarr.metadata.model import ArrayMetadata, ChunkKeyEncoding, CodecMetadata, GroupMetadata

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Literal

    from gpuzarr.metadata.model import JSON

_ARRAY_MEMBERS: Final = (
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding"),
    *("fill_value", "codecs", "attributes", "storage_transformers", "dimension_names"),
)
_GROUP_MEMBERS: Final = ("zarr_format", "node_type", "attributes", "consolidated_metadata")

MAX_CODECS: Final = 256
"""The longest codec chain that is read."""

_CODEC_ALIASES: Final = {"endian": "bytes"}
"""Names of codecs before they had their present one."""

_KEY_ENCODINGS: Final[dict[str, tuple[Literal["default", "v2"], str, tuple[str, ...]]]] = {
    "default": ("default", "/", ("separator",)),
    "v2": ("v2", ".", ("separator",)),
    "zarrs.default_suffix": ("default", "/", ("separator", "suffix")),
}
"""Name in the model, default separator, and members of the configuration."""


def node_type(document: Mapping[str, JSON]) -> Literal["array", "group"]:
    """Whether a `zarr.json` is an array's or a group's.

    Raises:
        MetadataError: neither, or not of Zarr format 3.
    """
    as_int(member(document, "zarr_format"), "zarr_format", 3, 3)
    choice = as_choice(member(document, "node_type"), "node_type", ("array", "group"))
    return cast("Literal['array', 'group']", choice)


def parse_node(document: Mapping[str, JSON]) -> ArrayMetadata | GroupMetadata:
    """Read the `zarr.json` of an array or a group, whichever it is."""
    return parse_array(document) if node_type(document) == "array" else parse_group(document)


def parse_array(document: Mapping[str, JSON]) -> ArrayMetadata:
    """Read an array's `zarr.json`.

    Raises:
        MetadataError: a member is missing or wrong, or unknown and not to be ignored.
        UnsupportedError: an extension that must be understood and is not.
    """
    _check_node(document, "array", _ARRAY_MEMBERS)
    _check_storage_transformers(document.get("storage_transformers"))
    shape = as_shape(member(document, "shape"), "shape")
    data_type = parse_data_type(member(document, "data_type"))
    codecs = parse_codecs(member(document, "codecs"))
    chunk_grid = parse_chunk_grid(
        member(document, "chunk_grid"), shape, _unit_shape(codecs, len(shape))
    )
    check_chunk_nbytes(chunk_grid, data_type.dtype.itemsize)
    return ArrayMetadata(
        shape=shape,
        data_type=data_type,
        chunk_grid=chunk_grid,
        chunk_key_encoding=_parse_key_encoding(member(document, "chunk_key_encoding")),
        fill_value=parse_fill_value(data_type, member(document, "fill_value")),
        codecs=codecs,
        dimension_names=_parse_dimension_names(document.get("dimension_names"), len(shape)),
        attributes=_parse_attributes(document),
        zarr_format=3,
        document=document,
    )


def parse_group(document: Mapping[str, JSON]) -> GroupMetadata:
    """Read a group's `zarr.json`, with the metadata of nodes below that it may carry.

    Raises:
        MetadataError: a member is missing or wrong, or unknown and not to be ignored.
    """
    _check_node(document, "group", _GROUP_MEMBERS)
    return GroupMetadata(
        attributes=_parse_attributes(document),
        zarr_format=3,
        document=document,
        consolidated=parse_inline(document.get("consolidated_metadata"), parse_node),
    )


def parse_codecs(value: JSON, where: str = "codecs") -> tuple[CodecMetadata, ...]:
    """Read a codec chain, of an array or inside a sharding codec's configuration.

    Raises:
        MetadataError: empty or absurdly long, or an entry is not a codec.
    """
    entries = as_list(value, where)
    if not 0 < len(entries) <= MAX_CODECS:
        raise MetadataError(
            f"{where} has {len(entries)} entries; there is at least an array -> bytes codec, and "
            f"at most {MAX_CODECS} are read"
        )
    extensions = [parse_extension(entry, f"{where}[{i}]") for i, entry in enumerate(entries)]
    return tuple(
        CodecMetadata(
            _CODEC_ALIASES.get(extension.name, extension.name),
            extension.configuration,
            extension.must_understand,
        )
        for extension in extensions
    )


def _check_node(document: Mapping[str, JSON], kind: str, known: Collection[str]) -> None:
    if node_type(document) != kind:
        raise wrong("node_type", document["node_type"], f'"{kind}"')
    for name, value in document.items():
        if name not in known and not (
            isinstance(value, dict) and value.get("must_understand") is False
        ):
            raise MetadataError(
                f"the member {shorten(name)} is not known, and is not an object that says "
                '"must_understand": false'
            )


def _check_storage_transformers(value: JSON) -> None:
    for i, entry in enumerate([] if value is None else as_list(value, "storage_transformers")):
        extension = parse_extension(entry, f"storage_transformers[{i}]")
        if extension.must_understand:
            raise UnsupportedError(
                f"the storage transformer {shorten(extension.name)} is not known; none are"
            )


def _parse_attributes(document: Mapping[str, JSON]) -> dict[str, JSON]:
    attributes = document.get("attributes")
    return {} if attributes is None else as_object(attributes, "attributes")


def _parse_dimension_names(value: JSON, ndim: int) -> tuple[str | None, ...] | None:
    if value is None:
        return None
    names = as_list(value, "dimension_names")
    if len(names) != ndim:
        raise MetadataError(
            f"dimension_names has {len(names)} entries, but the shape has {ndim} dimensions"
        )
    for axis, name in enumerate(names):
        if name is not None and not isinstance(name, str):
            raise wrong(f"dimension_names[{axis}]", name, "a string or null")
    return tuple(names)


def _parse_key_encoding(value: JSON) -> ChunkKeyEncoding:
    extension = parse_essential(value, "chunk_key_encoding")
    if extension.name not in _KEY_ENCODINGS:
        raise UnsupportedError(
            f"the chunk key encoding {shorten(extension.name)} is not known; these are: "
            f"{', '.join(_KEY_ENCODINGS)}"
        )
    name, separator, members = _KEY_ENCODINGS[extension.name]
    extension.check_configuration(*members)
    where = f"{extension.where}.configuration"
    choice = as_choice(
        extension.configuration.get("separator", separator), f"{where}.separator", ("/", ".")
    )
    suffix = extension.member("suffix") if "suffix" in members else ""
    if not isinstance(suffix, str) or any(bad in suffix for bad in "/\\\0"):
        # A key must stay inside the array, whatever comes behind the coordinates.
        raise wrong(f"{where}.suffix", suffix, "a string without slashes, backslashes and NUL")
    return ChunkKeyEncoding(name, cast("Literal['/', '.']", choice), suffix)


def _unit_shape(codecs: Sequence[CodecMetadata], ndim: int) -> tuple[int, ...]:
    """Chunk shape inside the shards where it can be told at a glance, else nothing."""
    for codec in codecs:
        inner = codec.configuration.get("chunk_shape")
        if codec.name == "sharding_indexed" and isinstance(inner, list) and len(inner) == ndim:
            return as_shape(inner, "codecs: chunk_shape of sharding_indexed")
    return ()
