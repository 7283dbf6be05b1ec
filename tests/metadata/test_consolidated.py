from __future__ import annotations

import pickle
from typing import Any

import pytest

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata import v3
from gpuzarr.metadata.consolidated import ConsolidatedMetadata, parse_zmetadata
from gpuzarr.metadata.model import ArrayMetadata, GroupMetadata

from .documents import ZARRAY, each, group_json, zarr_json

BAD_PATHS = ["", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", ".", "./a", "a/.", "a\\b", "a\0b"]

EMPTY = {"kind": "inline", "must_understand": False, "metadata": {}}


def inline(metadata: Any, **changes: Any) -> dict[str, Any]:
    return group_json(consolidated_metadata=EMPTY | {"metadata": metadata} | changes)


def zmetadata(metadata: Any, **changes: Any) -> dict[str, Any]:
    return {"zarr_consolidated_format": 1, "metadata": metadata} | changes


def tree(group: GroupMetadata | ArrayMetadata) -> ConsolidatedMetadata:
    assert isinstance(group, GroupMetadata)
    assert isinstance(group.consolidated, ConsolidatedMetadata)
    return group.consolidated


V3 = inline(
    {
        # As zarr-python writes it: all nodes at the top, an empty mapping in each group.
        "a": group_json(consolidated_metadata=EMPTY),
        "a/b": zarr_json(),
        "a/c": group_json(attributes={"x": 1}),
        "a/c/d": zarr_json(),
        "ab": zarr_json(),
    }
)

V2 = zmetadata(
    {
        ".zgroup": {"zarr_format": 2},
        ".zattrs": {"root": True},
        "a/.zgroup": {"zarr_format": 2, "consolidated_metadata": EMPTY},
        "a/.zattrs": {},
        "a/b/.zarray": ZARRAY,
        "a/b/.zattrs": {"unit": "m"},
        "a/c/.zgroup": {"zarr_format": 2},
        "a/c/d/.zarray": ZARRAY,
        "ab/.zarray": ZARRAY,
        "orphan/.zattrs": {"x": 1},
        "a/b/notes": {},
    }
)


@pytest.mark.parametrize("root", [v3.parse_group(V3), parse_zmetadata(V2)], ids=["v3", "v2"])
def test_nodes_children_and_what_lies_below(root: GroupMetadata) -> None:
    below = tree(root)
    assert sorted(below) == ["a", "a/b", "a/c", "a/c/d", "ab"]
    assert len(below) == 5
    assert below.children() == ["a", "ab"]
    assert below.children("a") == ["b", "c"]
    assert below.children("a/b") == []
    assert isinstance(below["a/b"], ArrayMetadata)
    assert below["a/b"] is below["a/b"]
    assert below.node("x") is None
    assert below.node("") is None
    assert "a" in below
    assert "x" not in below
    nested = tree(below["a"])
    assert sorted(nested) == ["b", "c", "c/d"]
    assert nested.children("c") == ["d"]
    assert sorted(tree(nested["c"])) == ["d"]
    assert "5 nodes" in repr(below)
    with pytest.raises(KeyError):
        below["x"]


def test_v2_attributes_come_along() -> None:
    root = parse_zmetadata(V2)
    assert root.attributes == {"root": True}
    below = tree(root)
    assert below["a/b"].attributes == {"unit": "m"}
    # Consolidated metadata are complete: no .zattrs means none.
    assert below["ab"].attributes == {}


def test_nodes_are_parsed_when_they_are_asked_for() -> None:
    below = tree(
        v3.parse_group(inline({"good": zarr_json(), "bad": {}, "odd": zarr_json(data_type="x")}))
    )
    assert isinstance(below["good"], ArrayMetadata)
    with pytest.raises(MetadataError, match="zarr_format is missing"):
        below["bad"]
    with pytest.raises(UnsupportedError, match="'x' is not known"):
        below.node("odd")


def test_mappings_inside_groups_add_to_the_top() -> None:
    nested = inline({"b": zarr_json(), "c": inline({"d": zarr_json()})})
    below = tree(v3.parse_group(inline({"a": nested, "a/b": group_json()})))
    assert sorted(below) == ["a", "a/b", "a/c", "a/c/d"]
    assert isinstance(below["a/b"], GroupMetadata)


def test_survives_pickling() -> None:
    below = tree(pickle.loads(pickle.dumps(v3.parse_group(V3))))  # noqa: S301  our own
    assert below.children("a") == ["b", "c"]
    assert isinstance(below["a/b"], ArrayMetadata)


def test_other_kinds_may_be_ignored_when_they_say_so() -> None:
    assert v3.parse_group(inline({}, kind="external")).consolidated is None
    for value in (
        inline({}, kind="external", must_understand=True),
        inline({}, kind=None, must_understand=1),
    ):
        with pytest.raises(MetadataError, match="kind"):
            v3.parse_group(value)


@pytest.mark.parametrize("value", [5, [], "inline", True, {}, {"kind": "inline"}])
def test_inline_of_another_form(value: Any) -> None:
    with pytest.raises(MetadataError, match="consolidated_metadata"):
        v3.parse_group(group_json(consolidated_metadata=value))


@pytest.mark.parametrize("metadata", [None, [], 5, {"a": None}, {"a": []}, {"a": "x"}])
def test_documents_are_objects(metadata: Any) -> None:
    with pytest.raises(MetadataError, match="metadata"):
        v3.parse_group(inline(metadata))


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_that_leave_the_root(path: str) -> None:
    with pytest.raises(MetadataError, match="must not leave the root"):
        v3.parse_group(inline({path: zarr_json()}))
    with pytest.raises(MetadataError, match="must not leave the root"):
        v3.parse_group(inline({"a": inline({path: zarr_json()})}))
    with pytest.raises(MetadataError, match="must not leave the root"):
        parse_zmetadata(zmetadata({".zgroup": {"zarr_format": 2}, f"{path}/.zarray": ZARRAY}))
    with pytest.raises(MetadataError, match="must not leave the root"):
        parse_zmetadata(zmetadata({".zgroup": {"zarr_format": 2}, f"{path}/unknown": {}}))


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"metadata": {".zgroup": {"zarr_format": 2}}},
        zmetadata({}),
        zmetadata({".zattrs": {}}),
        zmetadata({"a/.zgroup": {"zarr_format": 2}}),
        zmetadata({".zgroup": {"zarr_format": 3}}),
        *(zmetadata(value) for value in each((None, [], 5, {".zgroup": None}, {".zgroup": []}))),
        zmetadata({".zgroup": {"zarr_format": 2}}, zarr_consolidated_format=2),
        zmetadata({".zgroup": {"zarr_format": 2}}, zarr_consolidated_format="1"),
    ],
)
def test_zmetadata_refuses(document: Any) -> None:
    with pytest.raises(MetadataError):
        parse_zmetadata(document)


def test_zmetadata_of_an_array() -> None:
    assert isinstance(parse_zmetadata(zmetadata({".zarray": ZARRAY})), ArrayMetadata)
