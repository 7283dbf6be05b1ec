from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata import v3
from gpuzarr.metadata.model import (
    ArrayMetadata,
    ChunkKeyEncoding,
    CodecMetadata,
    GroupMetadata,
    RectilinearGrid,
    RegularGrid,
)

from .documents import ZARR_JSON, each, group_json, without, zarr_json


def test_all_of_a_document() -> None:
    document = zarr_json(
        attributes={"unit": "m"}, dimension_names=["y", None], storage_transformers=[]
    )
    found = v3.parse_array(document)
    assert (found.shape, found.ndim, found.zarr_format) == ((6, 4), 2, 3)
    assert found.data_type.name == "float32"
    assert found.chunk_grid == RegularGrid((4, 3))
    assert found.chunk_key_encoding == ChunkKeyEncoding("default", "/")
    assert found.fill_value == 0
    assert isinstance(found.fill_value, np.float32)
    assert found.codecs == (CodecMetadata("bytes", {"endian": "little"}),)
    assert found.dimension_names == ("y", None)
    assert found.attributes == {"unit": "m"}
    assert found.document == document


def test_optional_members_may_be_missing_or_null() -> None:
    for document in (
        zarr_json(),
        zarr_json(attributes=None, dimension_names=None, storage_transformers=None),
    ):
        found = v3.parse_array(document)
        assert (found.attributes, found.dimension_names) == ({}, None)


def test_zero_dimensions() -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": []}}
    found = v3.parse_array(zarr_json(shape=[], chunk_grid=grid, dimension_names=[]))
    assert (found.shape, found.chunk_grid, found.dimension_names) == ((), RegularGrid(()), ())


def test_short_hand_names() -> None:
    found = v3.parse_array(
        zarr_json(
            data_type={"name": "float32"},
            chunk_key_encoding="default",
            codecs=["bytes", "zstd", {"name": "crc32c"}],
        )
    )
    assert found.codecs == tuple(CodecMetadata(name) for name in ("bytes", "zstd", "crc32c"))
    assert found.chunk_key_encoding == ChunkKeyEncoding("default", "/")


def test_endian_is_an_older_name_of_bytes() -> None:
    codecs = [{"name": "endian", "configuration": {"endian": "big"}}]
    assert v3.parse_array(zarr_json(codecs=codecs)).codecs == (
        CodecMetadata("bytes", {"endian": "big"}),
    )


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("default", ChunkKeyEncoding("default", "/")),
        ("v2", ChunkKeyEncoding("v2", ".")),
        ({"name": "v2"}, ChunkKeyEncoding("v2", ".")),
        ({"name": "v2", "configuration": {}}, ChunkKeyEncoding("v2", ".")),
        ({"name": "v2", "configuration": {"separator": "/"}}, ChunkKeyEncoding("v2", "/")),
        (
            {"name": "default", "configuration": {"separator": "."}},
            ChunkKeyEncoding("default", "."),
        ),
        (
            {"name": "zarrs.default_suffix", "configuration": {"suffix": ".tiff"}},
            ChunkKeyEncoding("default", "/", ".tiff"),
        ),
    ],
)
def test_chunk_key_encodings(value: Any, right: ChunkKeyEncoding) -> None:
    assert v3.parse_array(zarr_json(chunk_key_encoding=value)).chunk_key_encoding == right


@pytest.mark.parametrize(
    "value",
    [
        *(None, 5, "", [], {}, {"name": "default", "must_understand": False}),
        *(
            {"name": "default", "configuration": {"separator": separator}}
            for separator in each(("", "-", "//", None, 5, []))
        ),
        {"name": "default", "configuration": {"suffix": "x"}},
        {"name": "default", "separator": "/"},
        {"name": "zarrs.default_suffix"},
        *(
            {"name": "zarrs.default_suffix", "configuration": {"suffix": suffix}}
            for suffix in each(("/../x", "\\x", "\0", None, 5))
        ),
    ],
)
def test_chunk_key_encodings_refused(value: Any) -> None:
    with pytest.raises(MetadataError):
        v3.parse_array(zarr_json(chunk_key_encoding=value))


@pytest.mark.parametrize(
    "changes",
    [
        {"chunk_key_encoding": "fanout"},
        {"chunk_grid": {"name": "irregular", "configuration": {}}},
        {"data_type": "float80"},
        {"storage_transformers": ["sharding"]},
        {"storage_transformers": [{"name": "x", "must_understand": True}]},
    ],
)
def test_unknown_extensions(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="not known"):
        v3.parse_array(zarr_json(**changes))


def test_ignorable_storage_transformers_are_ignored() -> None:
    ignorable = [{"name": "x", "must_understand": False}]
    v3.parse_array(zarr_json(storage_transformers=ignorable))


def test_codecs_keep_whether_they_must_be_understood() -> None:
    codecs = [{"name": "bytes", "must_understand": True}, {"name": "x", "must_understand": False}]
    assert v3.parse_array(zarr_json(codecs=codecs)).codecs == (
        CodecMetadata("bytes", {}),
        CodecMetadata("x", {}, must_understand=False),
    )


@pytest.mark.parametrize("name", ["data_type", "chunk_grid", "chunk_key_encoding"])
def test_what_cannot_be_ignored(name: str) -> None:
    value = ZARR_JSON[name]
    extension = {"name": value} if isinstance(value, str) else dict(value)
    v3.parse_array(zarr_json(**{name: extension | {"must_understand": True}}))
    with pytest.raises(MetadataError, match=f"{name}.must_understand"):
        v3.parse_array(zarr_json(**{name: extension | {"must_understand": False}}))


@pytest.mark.parametrize("value", [{"must_understand": False}, {"must_understand": False, "a": 1}])
def test_ignorable_members(value: Any) -> None:
    v3.parse_array(zarr_json(extra=value))
    v3.parse_group(group_json(extra=value))


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "x",
        [],
        {},
        {"must_understand": True},
        {"must_understand": 0},
        [{"must_understand": False}],
    ],
)
def test_unknown_members(value: Any) -> None:
    with pytest.raises(MetadataError, match="'extra' is not known"):
        v3.parse_array(zarr_json(extra=value))
    with pytest.raises(MetadataError, match="'extra' is not known"):
        v3.parse_group(group_json(extra=value))


def test_rectilinear_grid() -> None:
    configuration = {"kind": "inline", "chunk_shapes": [[1, [2, 3]], 3]}
    grid = {"name": "rectilinear", "configuration": configuration}
    assert v3.parse_array(zarr_json(chunk_grid=grid)).chunk_grid == RectilinearGrid(
        ((1, 2, 2, 2), 3)
    )


def test_zero_chunks_inside_shards_follow_the_inner_chunks() -> None:
    shard = {
        "name": "sharding_indexed",
        "configuration": {"chunk_shape": [2, 3], "codecs": ["bytes"], "index_codecs": ["bytes"]},
    }
    grid = {"name": "regular", "configuration": {"chunk_shape": [0, 6]}}
    found = v3.parse_array(zarr_json(shape=[0, 6], chunk_grid=grid, codecs=[shard]))
    assert found.chunk_grid == RegularGrid((2, 6))


def test_base64_of_structs_is_little_endian_whatever_the_bytes_codec() -> None:
    """As zarr-python 3.1.6 and 3.4.2 read it."""
    data_type = {"name": "structured", "configuration": {"fields": [["a", "int32"]]}}
    fill = base64.b64encode((7).to_bytes(4, "little")).decode()
    for endian in ("little", "big"):
        codecs = [{"name": "bytes", "configuration": {"endian": endian}}]
        found = v3.parse_array(zarr_json(data_type=data_type, fill_value=fill, codecs=codecs))
        assert found.fill_value["a"] == 7


def test_node_types() -> None:
    assert v3.node_type(ZARR_JSON) == "array"
    assert v3.node_type(group_json()) == "group"
    assert isinstance(v3.parse_node(ZARR_JSON), ArrayMetadata)
    assert isinstance(v3.parse_node(group_json()), GroupMetadata)
    with pytest.raises(MetadataError, match="node_type"):
        v3.parse_array(group_json())
    with pytest.raises(MetadataError, match="node_type"):
        v3.parse_group(ZARR_JSON)


@pytest.mark.parametrize(
    "changes",
    [
        *({"zarr_format": value} for value in each((2, 4, "3", 3.0, True, None))),
        *({"node_type": value} for value in each(("group ", "Array", None, 5, []))),
    ],
)
def test_node_type_refuses(changes: dict[str, Any]) -> None:
    for parse in (v3.node_type, v3.parse_node, v3.parse_array, v3.parse_group):
        with pytest.raises(MetadataError):
            parse(zarr_json(**changes))


def test_groups() -> None:
    found = v3.parse_group(group_json(attributes={"a": 1}))
    assert (found.attributes, found.zarr_format, found.consolidated) == ({"a": 1}, 3, None)
    assert v3.parse_group(group_json(consolidated_metadata=None)).consolidated is None


@pytest.mark.parametrize("name", list(ZARR_JSON))
def test_missing_members(name: str) -> None:
    with pytest.raises(MetadataError, match=f"{name} is missing"):
        v3.parse_array(without(ZARR_JSON, name))


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"shape": value}
            for value in each((None, 6, "6", {}, [6], [6, 4, 1], [6, -1], [6.0, 4]))
        ),
        *({"shape": [length, 4]} for length in each((2**63, 2**64, True, None, "6", [6]))),
        *({"chunk_grid": value} for value in each((None, 5, [], {}, "regular", {"name": 5}))),
        *({"fill_value": value} for value in each((None, [], {}, "x", True))),
        *(
            {"codecs": value}
            for value in each((None, {}, "bytes", [], [None], [5], [{}], [[]], [""]))
        ),
        *({"attributes": value} for value in each(([], 5, "x", True))),
        *(
            {"dimension_names": value}
            for value in each(([], ["a"], ["a", 5], "ab", 5, {}, ["a"] * 3))
        ),
        *({"storage_transformers": value} for value in each(({}, 5, "x", [None], [5], [{}]))),
        {"codecs": ["bytes"] * 257},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**62, 2**62]}}},
    ],
)
def test_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(MetadataError):
        v3.parse_array(zarr_json(**changes))


def test_too_many_dimensions() -> None:
    for ndim in (65, 70, 10**5):
        grid = {"name": "regular", "configuration": {"chunk_shape": [1] * ndim}}
        with pytest.raises(MetadataError, match="at most 64"):
            v3.parse_array(zarr_json(shape=[1] * ndim, chunk_grid=grid))


def test_virtual_arrays_of_exabytes() -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [64] * 3}}
    found = v3.parse_array(zarr_json(shape=[2**63 - 1] * 3, chunk_grid=grid))
    assert found.shape == (2**63 - 1,) * 3
