from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata import v2
from gpuzarr.metadata.model import ChunkKeyEncoding, CodecMetadata, RegularGrid

from .documents import ZARRAY, each, without, zarray


def test_all_of_a_document() -> None:
    document = zarray(dtype=">f4", fill_value="NaN", dimension_separator="/", extra={"a": 1})
    found = v2.parse_array(document, {"unit": "m"})
    assert (found.shape, found.ndim, found.zarr_format) == ((6, 4), 2, 2)
    assert found.data_type.name == "float32"
    assert found.chunk_grid == RegularGrid((4, 3))
    assert found.chunk_key_encoding == ChunkKeyEncoding("v2", "/")
    assert np.isnan(found.fill_value)
    assert found.codecs == (
        CodecMetadata("bytes", {"endian": "big"}),
        CodecMetadata("numcodecs.zlib", {"level": 1}),
    )
    assert found.dimension_names is None
    assert found.attributes == {"unit": "m"}
    assert found.document == document


def test_attributes_may_come_later() -> None:
    assert v2.parse_array(ZARRAY).attributes is None
    assert v2.parse_group({"zarr_format": 2}).attributes is None
    assert v2.parse_group({"zarr_format": 2, "x": 1}, {"a": 1}).attributes == {"a": 1}


@pytest.mark.parametrize("separator", [None, "."])
def test_default_separator(separator: Any) -> None:
    document = zarray() if separator is None else zarray(dimension_separator=separator)
    assert v2.parse_array(document).chunk_key_encoding == ChunkKeyEncoding("v2", ".")
    assert v2.parse_array(zarray(dimension_separator=None)).chunk_key_encoding.separator == "."


@pytest.mark.parametrize(
    ("shape", "order"), [([], None), ([5], None), ([5, 6], [1, 0]), ([1, 2, 3], [2, 1, 0])]
)
def test_order_f_is_a_transpose(shape: list[int], order: list[int] | None) -> None:
    found = v2.parse_array(zarray(shape=shape, chunks=shape, order="F", compressor=None))
    transpose = () if order is None else (CodecMetadata("transpose", {"order": order}),)
    assert found.codecs == (*transpose, CodecMetadata("bytes", {"endian": "little"}))


def test_filters_then_compressor_stand_behind_bytes() -> None:
    delta = {"id": "delta", "dtype": "<i4", "astype": "<i2"}
    document = zarray(
        dtype="<i4",
        fill_value=0,
        filters=[delta, {"id": "shuffle", "elementsize": 2}],
        compressor={"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
        order="F",
    )
    assert [(codec.name, codec.configuration) for codec in v2.parse_array(document).codecs] == [
        ("transpose", {"order": [1, 0]}),
        ("bytes", {"endian": "little"}),
        ("numcodecs.delta", {"dtype": "<i4", "astype": "<i2"}),
        ("numcodecs.shuffle", {"elementsize": 2}),
        ("numcodecs.blosc", {"cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}),
    ]
    assert delta["id"] == "delta"


@pytest.mark.parametrize("filters", [None, []])
def test_no_filters(filters: Any) -> None:
    assert len(v2.parse_array(zarray(filters=filters)).codecs) == 2
    assert len(v2.parse_array(without(ZARRAY, "filters")).codecs) == 2


@pytest.mark.parametrize(
    ("filters", "compressor", "name", "codecs"),
    [
        ([{"id": "vlen-utf8"}], None, "string", ["vlen-utf8"]),
        ([{"id": "vlen-bytes"}], {"id": "zstd"}, "bytes", ["vlen-bytes", "numcodecs.zstd"]),
        (None, {"id": "vlen-utf8"}, "string", ["vlen-utf8"]),
        ([{"id": "json2", "encoding": "utf-8"}], None, "object", ["numcodecs.json2"]),
        ([{"id": "pickle", "protocol": 5}], None, "object", ["numcodecs.pickle"]),
        ([{"id": "vlen-array", "dtype": "<i4"}], None, "object", ["numcodecs.vlen-array"]),
        ([{"id": "msgpack2"}], {"id": "lz4"}, "object", ["numcodecs.msgpack2", "numcodecs.lz4"]),
        (
            [
                {"id": "categorize", "labels": ["a"], "dtype": "|O", "astype": "|u1"},
                {"id": "delta"},
            ],
            None,
            "object",
            ["numcodecs.categorize", "numcodecs.delta"],
        ),
    ],
)
def test_object_codecs_take_the_place_of_bytes(
    filters: Any, compressor: Any, name: str, codecs: list[str]
) -> None:
    found = v2.parse_array(zarray(dtype="|O", filters=filters, compressor=compressor, fill_value=0))
    assert found.data_type.name == name
    assert found.data_type.variable
    assert [codec.name for codec in found.codecs] == codecs
    assert "id" not in found.codecs[0].configuration
    assert found.fill_value == {"string": "", "bytes": b"", "object": 0}[name]


def test_objects_without_a_codec() -> None:
    with pytest.raises(MetadataError, match="no filter says how the objects are stored"):
        v2.parse_array(zarray(dtype="|O", compressor=None, fill_value=None))


def test_structured() -> None:
    dtype = [["a", "<i4"], ["b", [["x", ">f4"], ["y", "|S3", [2]]]]]
    stored = np.dtype([("a", "<i4"), ("b", [("x", ">f4"), ("y", "S3", (2,))])])
    element = np.array((7, (1.5, [b"ab", b"c"])), stored)
    fill = base64.b64encode(element.tobytes()).decode()
    found = v2.parse_array(zarray(dtype=dtype, fill_value=fill, compressor=None))
    assert found.data_type.stored == stored
    assert found.codecs == (CodecMetadata("bytes", {}),)
    assert found.fill_value.dtype == found.data_type.dtype
    assert found.fill_value["a"] == 7
    assert found.fill_value["b"]["x"] == 1.5
    assert found.fill_value["b"]["y"].tolist() == [b"ab", b"c"]


@pytest.mark.parametrize(
    ("dtype", "fill", "right"),
    [
        ("<f4", None, None),
        ("<f8", "-Infinity", -np.inf),
        ("<c8", [1.0, "Infinity"], complex(1, np.inf)),
        ("<u8", 2**64 - 1, 2**64 - 1),
        ("<U3", "\u00e9", "\u00e9"),
        ("|S3", "YWL/", b"ab\xff"),
        ("|V3", "YWJj", np.void(b"abc")),
        ("|b1", False, False),
        ("<M8[ns]", 0, np.datetime64(0, "ns")),
        ("<f4", 1, 1.0),
    ],
)
def test_fill_values(dtype: str, fill: Any, right: Any) -> None:
    found = v2.parse_array(zarray(dtype=dtype, fill_value=fill)).fill_value
    assert found == right
    assert (found is None) == (fill is None)


@pytest.mark.parametrize("fill", ["NaT", -(2**63)])
def test_not_a_time(fill: Any) -> None:
    assert np.isnat(v2.parse_array(zarray(dtype=">m8[D]", fill_value=fill)).fill_value)


def test_chunks_of_zero_length_dimensions() -> None:
    assert v2.parse_array(zarray(shape=[0, 4], chunks=[0, 4])).chunk_grid == RegularGrid((1, 4))


@pytest.mark.parametrize(
    "name", ["zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value"]
)
def test_missing_members(name: str) -> None:
    with pytest.raises(MetadataError, match=f"{name} is missing"):
        v2.parse_array(without(ZARRAY, name))


@pytest.mark.parametrize(
    "changes",
    [
        *({"zarr_format": value} for value in each((1, 3, "2", 2.0, True, None))),
        *(
            {"shape": value}
            for value in each((None, 6, "6", {}, [6], [6, 4, 1], [6, -1], [6.0, 4]))
        ),
        *({"shape": [length, 4]} for length in each((2**63, True, None, "6", [6]))),
        {"shape": [1] * 65, "chunks": [1] * 65},
        *(
            {"chunks": value}
            for value in each((None, 4, [4], [4, 0], [4, -3], [4, 3.0], [4, True]))
        ),
        {"chunks": [2**62, 2**62]},
        {"filters": [{"id": "delta"}] * 257},
        *({"order": value} for value in each(("A", "c", None, 0, []))),
        *(
            {"filters": value}
            for value in each(({}, "delta", 5, [None], ["delta"], [{}], [{"id": 5}]))
        ),
        *({"compressor": value} for value in each(([], "zlib", 5, {}, {"id": None}, {"id": ""}))),
        *({"dimension_separator": value} for value in each(("", "-", 0, [], False))),
        *({"fill_value": value} for value in each(([], {}, "x", True))),
    ],
)
def test_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(MetadataError):
        v2.parse_array(zarray(**changes))


def test_virtual_arrays_of_exabytes() -> None:
    shape = [2**40, 2**40, 2**40]
    assert v2.parse_array(zarray(shape=shape, chunks=[64] * 3)).shape == tuple(shape)


def test_long_doubles_are_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="long doubles"):
        v2.parse_array(zarray(dtype="<f16"))


@pytest.mark.parametrize("document", [{}, {"zarr_format": 3}, {"zarr_format": "2"}])
def test_groups_refuse(document: Any) -> None:
    with pytest.raises(MetadataError, match="zarr_format"):
        v2.parse_group(document)
