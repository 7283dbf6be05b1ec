"""What a reader must read, as tags: one row for every line of the project's format survey.

A case names the rows it shows. The demand says what a reader owes: "must" and "peer" are read
right, "refuse" is a clean error, "optional" is right or a clean error, never a wrong value. The
coverage test asserts that no "must" or "refuse" row is left without a case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Demand = Literal["must", "peer", "optional", "refuse"]


@dataclass(frozen=True)
class Row:
    """One line of the survey."""

    demand: Demand
    """What a reader owes for this row, unless a case says otherwise."""
    title: str
    """The feature in words."""
    by_test: bool = False
    """True where `test_reading.py` shows it (store forms, indexing) rather than a case."""


ROWS: dict[str, Row] = {
    "v2-numbers": Row("must", "v2 bool, integers, floats, complex, both byte orders"),
    "v2-datetime": Row("must", "v2 datetimes and timedeltas, units and multiples"),
    "v2-fixed-strings": Row("must", "v2 S, U of both byte orders, V"),
    "v2-structured": Row("must", "v2 structured, flat"),
    "v2-structured-nested": Row("peer", "v2 structured, nested"),
    "v2-structured-subarray": Row("peer", "v2 structured, sub-array fields"),
    "v2-vlen-utf8": Row("must", "v2 objects through vlen-utf8"),
    "v2-objects": Row(
        "peer", "v2 objects through vlen-bytes, json2, vlen-array, categorize, msgpack2"
    ),
    "v2-pickle": Row("refuse", "v2 objects through pickle"),
    "v2-exotic": Row("peer", "v2 bfloat16, float8, int4"),
    "v2-fill": Row("must", "v2 fill values: NaN, infinities, base64, pairs, null, unicode, NaT"),
    "v2-layout": Row("must", "v2 order F, separators, 0-d key, filters [] or null, extra keys"),
    "v2-compressors": Row("must", "v2 compressors: none, zlib, gzip, bz2, lz4, lzma, zstd, blosc"),
    "v2-zfpy-pcodec": Row("must", "v2 zfpy and pcodec, where their modules are installed"),
    "v2-filters": Row("must", "v2 filters, chains, a compressor as a filter"),
    "v2-metadata": Row("must", ".zmetadata, .zattrs with NaN literals, groups"),
    "v3-numbers": Row("must", "v3 core types, both byte orders"),
    "v3-strings": Row("must", "v3 string, variable_length_bytes"),
    "v3-bytes-dtype": Row("must", "v3 bytes data type, fill as base64 or list"),
    "v3-fixed-strings": Row("must", "v3 fixed_length_utf32, null_terminated_bytes, raw_bytes"),
    "v3-datetime": Row("must", "v3 numpy.datetime64 and numpy.timedelta64, all units and factors"),
    "v3-structured": Row("must", "v3 structured: tuple fields, base64 fill, bytes without endian"),
    "v3-struct": Row("peer", "v3 struct: object fields, dict fill, nested"),
    "v3-raw-bits": Row("peer", "v3 r*"),
    "v3-exotic": Row("peer", "v3 bfloat16, float8, float4, int2, int4"),
    "v3-exotic-rare": Row("peer", "v3 uint2, uint4, float6, float8_e4m3, complex of small floats"),
    "v3-fill": Row(
        "must", "v3 fill values: Infinity, NaN, hex, -0.0, 2^64-1, list, base64, object"
    ),
    "v3-codecs": Row("must", "v3 bytes, transpose, gzip, blosc, zstd, crc32c, chains"),
    "v3-sharding": Row(
        "must", "v3 sharding: index places and codecs, nested, gaps, any order, shared ranges"
    ),
    "v3-after-shard": Row("must", "v3 codecs after the shard"),
    "v3-before-shard": Row(
        "peer", "v3 transpose or element-wise codecs before the shard, inner shape permuted"
    ),
    "v3-numcodecs": Row("must", "v3 numcodecs.* names"),
    "v3-reshape-packbits": Row("peer", "v3 reshape, packbits"),
    "v3-bitround-zfp": Row("peer", "v3 bitround, zfp under their registered names"),
    "v3-scale-cast": Row("peer", "v3 scale_offset, cast_value"),
    "v3-zarrs-codecs": Row("optional", "v3 codecs only zarrs knows"),
    "v3-rectilinear": Row("peer", "v3 rectilinear grids, of shards too"),
    "v3-chunk-keys": Row(
        "must", "v3 chunk keys default and v2, both separators, configuration absent"
    ),
    "v3-short-hand": Row(
        "peer", "v3.1 short-hand names, data_type object, ignorable codec, endian alias"
    ),
    "v3-unknown-key": Row(
        "must", "v3 unknown top-level key: ignorable is ignored, anything else refused"
    ),
    "v3-storage-transformer": Row("refuse", "v3 unknown storage transformer"),
    "v3-metadata": Row(
        "must", "v3 consolidated metadata or null, document only, dimension_names with nulls"
    ),
    "shapes": Row(
        "must",
        "missing chunks, zero-length dims, 0-d, chunk > array, edges, 5-8 dims, exabyte shapes",
    ),
    "frames": Row("must", "gzip, bz2, xz of several members; unusual zstd frames"),
    "stores": Row("must", "zip store, Path, trailing slash, nested node path", by_test=True),
    "stores-other": Row("peer", "dict store, file:// URL", by_test=True),
    "references": Row("optional", "reference JSON", by_test=True),
    "indexing": Row(
        "must",
        "integers, slices, steps, Ellipsis, clipping, oindex, vindex, blocks, fancy",
        by_test=True,
    ),
    "indexing-other": Row("optional", "negative steps, newaxis", by_test=True),
}
