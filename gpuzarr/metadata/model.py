"""One frozen model of a node, in the words of Zarr v3; after the parsers, v2 is gone.

    v2 `.zarray`                      ->  here
    order "F"                             a `transpose` codec in front
    filters, compressor                   codecs "numcodecs.<id>" behind `bytes`, in encode order
    dtype ">f4"                           data type float32 and `bytes` with endian "big"
    dtype "|O" with filter vlen-utf8      data type string and `vlen-utf8` in place of `bytes`
    dimension_separator                   chunk key encoding "v2"

Sources: zarr-specs v3 core 3.1 (2026-07), v2.0; zarr-extensions (2026-07).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from gpuzarr.metadata.consolidated import ConsolidatedMetadata


JSON = Any
"""A value as the json module gives it."""


@dataclass(frozen=True, slots=True)
class DataType:
    """The type of an array's elements."""

    name: str
    """Name in v3 words: "float32", "string", "numpy.datetime64", "struct", "r24", ..."""
    dtype: np.dtype
    """dtype of results: native byte order; object or StringDType for variable-length types."""
    stored: np.dtype | None = None
    """Exact dtype of stored elements where the bytes codec does not decide their byte order (v2
    structured types, whose fields each have their own); else None."""
    bits: int | None = None
    """Significant bits of an element component, for bool and types narrower than a byte."""
    configuration: Mapping[str, JSON] = field(default_factory=dict)
    """The data type's own configuration (unit, scale_factor, length_bytes, fields...)."""
    fields: tuple[tuple[str, DataType], ...] = ()
    """Names and types of the fields of a v3 struct."""

    @property
    def variable(self) -> bool:
        """Whether elements have no fixed size (strings, bytes, objects)."""
        return self.dtype.hasobject or self.dtype.kind == "T"


@dataclass(frozen=True, slots=True)
class CodecMetadata:
    """One entry of the codec chain, in encode order in `ArrayMetadata.codecs`."""

    name: str
    """Registered v3 name, or "numcodecs.<id>" for every numcodecs codec that has none."""
    configuration: Mapping[str, JSON] = field(default_factory=dict)
    must_understand: bool = True


@dataclass(frozen=True, slots=True)
class RegularGrid:
    """Chunks of one shape."""

    chunk_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RectilinearGrid:
    """Chunks whose sizes differ along an axis (ZEP 3)."""

    chunk_sizes: tuple[tuple[int, ...] | int, ...]
    """For each axis the sizes of its chunks in order, or one int where all are equal. Tuples are
    expanded from run-length form; they cover the shape and may reach past it."""


ChunkGrid = RegularGrid | RectilinearGrid


@dataclass(frozen=True, slots=True)
class ChunkKeyEncoding:
    """How chunk coordinates become keys: "default" gives c/1/2, "v2" gives 1.2."""

    name: Literal["default", "v2"]
    separator: Literal["/", "."]
    suffix: str = ""
    """Appended to every key (zarrs.default_suffix)."""


@dataclass(frozen=True, slots=True)
class ArrayMetadata:
    """Everything that a metadata document says about an array."""

    shape: tuple[int, ...]
    data_type: DataType
    chunk_grid: ChunkGrid
    chunk_key_encoding: ChunkKeyEncoding
    fill_value: Any
    """What missing chunks hold: a NumPy scalar of `data_type.dtype` (bit-exact: -0.0 and NaN
    payloads kept), a str or bytes or any JSON value for variable-length types; None where v2 says
    null."""
    codecs: tuple[CodecMetadata, ...]
    """The codec chain in encode order."""
    dimension_names: tuple[str | None, ...] | None
    attributes: Mapping[str, JSON] | None
    """User attributes; None while they are not read yet (v2's `.zattrs`)."""
    zarr_format: Literal[2, 3]
    document: Mapping[str, JSON]
    """The document as it was read."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class GroupMetadata:
    """Everything that a metadata document says about a group."""

    attributes: Mapping[str, JSON] | None
    """User attributes; None while they are not read yet (v2's `.zattrs`)."""
    zarr_format: Literal[2, 3]
    document: Mapping[str, JSON]
    consolidated: ConsolidatedMetadata | None = None
    """Metadata of every node below, by path relative to this group, when the document carries
    them; each is parsed when asked for."""
