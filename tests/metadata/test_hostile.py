"""Documents from anyone: whatever they hold, nothing but gpuzarr's errors comes out."""

from __future__ import annotations

import json
import time
import tracemalloc
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.errors import GpuzarrError
from gpuzarr.metadata import v2, v3
from gpuzarr.metadata.consolidated import ConsolidatedMetadata, parse_zmetadata
from gpuzarr.metadata.document import parse_json
from gpuzarr.metadata.model import GroupMetadata

from .documents import ZARRAY, group_json, zarr_json, zarray

if TYPE_CHECKING:
    from collections.abc import Iterator

STRUCT = {
    "name": "struct",
    "configuration": {"fields": [{"name": "a", "data_type": "int32"}, ["b", "complex64"]]},
}
SHARDS = {
    "name": "sharding_indexed",
    "configuration": {"chunk_shape": [2, 3], "codecs": ["bytes"], "index_codecs": ["bytes"]},
}
RECTILINEAR = {
    "name": "rectilinear",
    "configuration": {"kind": "inline", "chunk_shapes": [[1, [2, 3]], 3]},
}
ARRAYS_V3 = [
    zarr_json(attributes={"a": [1, {"b": None}]}, dimension_names=["y", None]),
    zarr_json(data_type="string", fill_value="", codecs=["vlen-utf8"], chunk_grid=RECTILINEAR),
    zarr_json(data_type=STRUCT, fill_value={"a": 1, "b": ["NaN", "0x7fc00000"]}, codecs=[SHARDS]),
    zarr_json(
        data_type={"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}},
        fill_value="NaT",
        storage_transformers=[],
    ),
    zarr_json(data_type="r24", fill_value=[1, 2, 3]),
    zarr_json(data_type="float8_e4m3", fill_value="0x7c"),
    zarr_json(
        data_type={"name": "fixed_length_utf32", "configuration": {"length_bytes": 8}},
        fill_value="ab",
    ),
]
ARRAYS_V2 = [
    ZARRAY,
    zarray(dtype="|O", filters=[{"id": "vlen-utf8"}], fill_value="", order="F"),
    zarray(dtype=[["a", "<i4"], ["b", [["x", ">f4", [2]]]]], fill_value="AAAAAAAAAAAAAAAA"),
    zarray(dtype="<M8[10ns]", fill_value=0, dimension_separator="/"),
    zarray(dtype="|S3", fill_value="YWJj", filters=[{"id": "delta", "dtype": "<i4"}]),
    zarray(dtype="<c16", fill_value=[1, "Infinity"]),
]

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 2, 3, 64, 70, 2**31, 2**40, 2**62, 2**63, 2**64, 10**4000),
        *(
            0.0,
            -0.0,
            0.5,
            1.0,
            float("nan"),
            float("inf"),
            1e308,
            "",
            "a",
            "NaN",
            "0x7fc00000",
            "0xzz",
        ),
        *(
            "Infinity",
            "NaT",
            "AAAA",
            "=",
            "\ud800",
            "\0",
            "..",
            "/",
            "\u00e9",
            "1",
            "-1",
            "x" * 1000,
        ),
        *(
            "int32",
            "bfloat16",
            "complex_float8_e4m3",
            "string",
            "bytes",
            "struct",
            "r8",
            "r4294967296",
        ),
        *(
            "float4_e2m1fn",
            "numpy.datetime64",
            "|O",
            "<f16",
            "|S99999999999",
            "<U0",
            "<M8[0s]",
            "|V2",
        ),
        *(
            [],
            {},
            [[]],
            [{}],
            {"": {}},
            [1] * 70,
            [0, 0],
            [-1, -1],
            [[2**62, 2**62]],
            {"name": "x"},
        ),
        {"name": "x", "must_understand": False},
        {"name": "raw_bytes", "configuration": {"length_bytes": 2**40}},
        {"kind": "inline", "metadata": {"a": {}}},
    ]
)
VALUES = st.recursive(
    ODD | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(found for key, child in items for found in places(child, (*path, key)))]


@st.composite
def mutations(draw: st.DrawFn, documents: list[dict[str, Any]]) -> Any:
    """A document in which one to three places are replaced, removed or added to."""
    document: Any = deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([place for place in places(document) if place]))
        container = document
        for key in path[:-1]:
            container = container[key]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                container[path[-1]] = deepcopy(draw(VALUES))
            case "remove":
                del container[path[-1]]
            case _ if isinstance(container, dict):
                container[draw(st.text(max_size=3))] = deepcopy(draw(VALUES))
            case _:
                container.append(deepcopy(draw(VALUES)))
        if not places(document)[1:]:
            break
    return document


@contextmanager
def only_our_errors() -> Iterator[None]:
    """What is inside may fail, but only with an error of ours that people can read."""
    try:
        yield
    except GpuzarrError as error:
        if len(str(error)) > 5000:
            raise AssertionError("this error is too long to read") from error


def all_nodes(group: GroupMetadata) -> None:
    assert group.consolidated is None or isinstance(group.consolidated, ConsolidatedMetadata)
    for path in group.consolidated or ():
        with only_our_errors():
            assert group.consolidated is not None
            group.consolidated[path]


@given(mutations(ARRAYS_V3))
def test_v3_arrays(document: Any) -> None:
    with only_our_errors():
        v3.parse_node(document)


@given(mutations(ARRAYS_V2))
def test_v2_arrays(document: Any) -> None:
    with only_our_errors():
        v2.parse_array(document)


CONSOLIDATED = {
    "kind": "inline",
    "must_understand": False,
    "metadata": {"a": group_json(), "a/b": zarr_json()},
}
ZMETADATA = {
    "zarr_consolidated_format": 1,
    "metadata": {".zgroup": {"zarr_format": 2}, "a/.zarray": ZARRAY, "a/.zattrs": {"x": 1}},
}


@given(mutations([group_json(consolidated_metadata=CONSOLIDATED, attributes={})]))
def test_v3_groups(document: Any) -> None:
    with only_our_errors():
        all_nodes(v3.parse_group(document))


@given(mutations([ZMETADATA]))
def test_zmetadata(document: Any) -> None:
    with only_our_errors():
        root = parse_zmetadata(document)
        if isinstance(root, GroupMetadata):
            all_nodes(root)


@given(st.binary(max_size=40), st.sampled_from(ARRAYS_V3 + ARRAYS_V2), st.data())
def test_damaged_bytes(noise: bytes, document: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(document).encode()
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 3))
    with only_our_errors():
        parse = v3.parse_node if document["zarr_format"] == 3 else v2.parse_array
        parse(parse_json(text[:at] + noise + text[at + cut :], "zarr.json"))


def nested_struct(depth: int) -> Any:
    data_type: Any = "int8"
    for _ in range(depth):
        data_type = {"name": "struct", "configuration": {"fields": [["a", data_type]]}}
    return data_type


@pytest.mark.parametrize(
    "document",
    [
        zarr_json(data_type=nested_struct(200)),
        zarr_json(data_type=nested_struct(40)),
        zarr_json(shape=[2**62, 4]),
        zarr_json(
            shape=[2**62, 2**62],
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2**62, 2**62]}},
        ),
        zarr_json(data_type={"name": "raw_bytes", "configuration": {"length_bytes": 2**40}}),
        zarr_json(
            chunk_grid={
                "name": "rectilinear",
                "configuration": {"kind": "inline", "chunk_shapes": [[[1, 2**50], 2], 3]},
            }
        ),
        zarr_json(
            chunk_grid={
                "name": "rectilinear",
                "configuration": {"kind": "inline", "chunk_shapes": [[1] * 200_000, 3]},
            }
        ),
        zarr_json(fill_value=10**4200),
        zarr_json(codecs=["bytes"] * 100_000),
        zarr_json(codecs=[{"name": "sharding_indexed", "configuration": {"codecs": "x"}}]),
        zarr_json(data_type=STRUCT, fill_value="A" * 10**6),
        zarr_json(
            data_type={
                "name": "struct",
                "configuration": {"fields": [[f"f{i}", "int8"] for i in range(10**4)]},
            }
        ),
    ],
)
def test_absurd_documents_cost_little(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()
    start = time.process_time()
    with only_our_errors():
        v3.parse_array(parse_json(data, "zarr.json"))
    assert time.process_time() - start < 10
    tracemalloc.start()
    try:
        with only_our_errors():
            v3.parse_array(parse_json(data, "zarr.json"))
        assert tracemalloc.get_traced_memory()[1] < 256 * 2**20
    finally:
        tracemalloc.stop()


def test_types_nested_as_deeply_as_documents_may_be() -> None:
    document = zarr_json(data_type=nested_struct(31), fill_value=0)
    found = v3.parse_array(parse_json(json.dumps(document).encode(), "zarr.json"))
    assert found.data_type.dtype.itemsize == 1
