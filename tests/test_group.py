"""`Group`: a read-only mapping of a hierarchy, of either format, consolidated or not."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import CountingStore, encoded, plain_store, v3_metadata
from tests.stored import assert_result, store_v2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

INT = np.arange(12, dtype="i4").reshape(3, 4)
GROUP3 = {"zarr_format": 3, "node_type": "group"}
PATHS = ["a", "sub", "sub/b", "sub/deep", "sub/deep/c", "z"]
GROUPS = {"sub", "sub/deep", "z"}


def hierarchy_v3(*, consolidated: bool) -> dict[str, bytes]:
    """Arrays a, sub/b, sub/deep/c; groups sub, sub/deep, z (empty)."""
    values: dict[str, bytes] = {}
    documents: dict[str, Any] = {}
    for path in PATHS:
        if path in GROUPS:
            documents[path] = {**GROUP3, "attributes": {"of": path}}
            values[f"{path}/zarr.json"] = encoded(documents[path])
        else:
            values |= plain_store(INT, (2, 2), path=path, attributes={"of": path})
            documents[path] = json.loads(values[f"{path}/zarr.json"])
    root = {**GROUP3, "attributes": {"of": "root"}}
    if consolidated:
        root["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": documents,
        }
    return {**values, "zarr.json": encoded(root)}


def hierarchy_v2(*, consolidated: bool) -> dict[str, bytes]:
    """The same in v2."""
    values: dict[str, bytes] = {".zgroup": b'{"zarr_format": 2}', ".zattrs": b'{"of": "root"}'}
    for path in PATHS:
        values[f"{path}/.zattrs"] = json.dumps({"of": path}).encode()
        if path in GROUPS:
            values[f"{path}/.zgroup"] = b'{"zarr_format": 2}'
        else:
            values |= store_v2(INT, (2, 2), path=path).values
    if consolidated:
        names = [key for key in values if key.rpartition("/")[2].startswith(".z")]
        metadata = {key: json.loads(values[key]) for key in names}
        document = {"zarr_consolidated_format": 1, "metadata": metadata}
        values[".zmetadata"] = json.dumps(document).encode()
    return values


HIERARCHIES = {
    "v3": hierarchy_v3(consolidated=False),
    "v3 consolidated": hierarchy_v3(consolidated=True),
    "v2": hierarchy_v2(consolidated=False),
    "v2 consolidated": hierarchy_v2(consolidated=True),
}


@pytest.fixture(params=HIERARCHIES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def group(kind: str) -> gpuzarr.Group:
    return gpuzarr.open_group(dict(HIERARCHIES[kind]))


def test_it_is_a_mapping(group: gpuzarr.Group) -> None:
    assert list(group) == list(group.keys()) == ["a", "sub", "z"]
    assert len(group) == 3
    assert [type(node) for node in group.values()] == [gpuzarr.Array, gpuzarr.Group, gpuzarr.Group]
    assert [(name, node.path) for name, node in group.items()] == [
        ("a", "a"),
        ("sub", "sub"),
        ("z", "z"),
    ]
    assert [name for name, _ in group.arrays()] == ["a"]
    assert [name for name, _ in group.groups()] == ["sub", "z"]
    assert group.get("nothing") is None
    assert group.get("nothing", 5) == 5
    assert len(group["z"]) == 0
    assert "a" in group


def test_members_are_found_at_any_depth(group: gpuzarr.Group, kind: str) -> None:
    for path in PATHS:
        node: Any = group[path]
        assert (node.path, node.name) == (path, f"/{path}")
        assert node.zarr_format == int(kind[1])
        assert node.attrs == {"of": path}
        assert path in group
    assert group.attrs == {"of": "root"}
    sub: Any = group["sub"]
    leaf = sub["deep"]["c"]
    assert leaf.path == "sub/deep/c"
    assert_result(leaf[...], INT)
    assert "deep/c" in sub
    assert "a" not in sub


def test_members_come_parents_first(group: gpuzarr.Group) -> None:
    assert [path for path, _ in group.members(max_depth=None)] == PATHS
    assert [path for path, _ in group.members()] == ["a", "sub", "z"]
    assert [path for path, _ in group.members(max_depth=1)] == [
        "a",
        "sub",
        "sub/b",
        "sub/deep",
        "z",
    ]
    sub: Any = group["sub"]
    assert {path: node.path for path, node in sub.members(max_depth=None)} == {
        "b": "sub/b",
        "deep": "sub/deep",
        "deep/c": "sub/deep/c",
    }


def test_the_tree(group: gpuzarr.Group) -> None:
    assert str(group.tree()).splitlines() == [
        "/",
        "├── a (3, 4) int32",
        "├── sub",
        "│   ├── b (3, 4) int32",
        "│   └── deep",
        "│       └── c (3, 4) int32",
        "└── z",
    ]
    assert repr(group.tree(max_depth=0)).splitlines() == [
        "/",
        "├── a (3, 4) int32",
        "├── sub",
        "└── z",
    ]
    sub: Any = group["sub"]
    assert str(sub.tree()).startswith("/sub\n├── b")


def test_paths_are_normalized(group: gpuzarr.Group) -> None:
    for path in ("sub/deep/c", "/sub/deep/c", "sub/deep/c/", "//sub/deep/c//"):
        assert group[path].path == "sub/deep/c"
        assert path in group
    assert group[""] is group
    assert group["/"] is group
    assert "" in group


@pytest.mark.parametrize("path", ["..", "sub/..", "../a", "sub/../a", "./a", "sub//b", "a\\b"])
def test_paths_that_leave_the_group_are_refused(group: gpuzarr.Group, path: str) -> None:
    with pytest.raises(gpuzarr.StoreError, match="not allowed"):
        group[path]
    assert path not in group


def test_keys_that_are_no_text(group: gpuzarr.Group) -> None:
    keys: list[Any] = [0, None, ("a",), b"a", slice(None)]
    for key in keys:
        assert key not in group
        with pytest.raises(TypeError, match="named by text"):
            group[key]


def test_a_missing_member(group: gpuzarr.Group, kind: str) -> None:
    for path in ("nothing", "sub/nothing", "a/b", "zarr.json", "a/c", "sub/deep/c/x"):
        assert path not in group
        with pytest.raises(gpuzarr.NotFoundError) as raised:
            group[path]
        error = raised.value
        assert isinstance(error, KeyError)
        assert isinstance(error, FileNotFoundError)
        assert (error.store, error.path) == ("<dict in memory>", path)
        assert f"/{path}" in str(error)
        assert ("consolidated=False" in str(error)) == ("consolidated" in kind)
        again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
        assert (type(again), str(again)) == (type(error), str(error))


def test_a_misspelt_member_is_suggested() -> None:
    values = {
        "zarr.json": encoded(GROUP3),
        **plain_store(INT, (2, 2), path="temperature"),
        **plain_store(INT, (2, 2), path="pressure"),
    }
    group = gpuzarr.open_group(values)
    with pytest.raises(gpuzarr.NotFoundError, match="did you mean 'temperature'"):
        group["temprature"]


def test_it_is_read_only(group: gpuzarr.Group) -> None:
    changed: Any = group
    with pytest.raises(TypeError):
        changed["new"] = 1
    with pytest.raises(TypeError):
        del changed["a"]


def test_its_repr(group: gpuzarr.Group, kind: str) -> None:
    consolidated = ", consolidated" if "consolidated" in kind else ""
    assert repr(group) == f"<gpuzarr.Group / in <dict in memory>, zarr {kind[:2]}{consolidated}>"


def test_groups_compare_by_place(group: gpuzarr.Group, kind: str) -> None:
    assert group["sub"] == group["sub"]
    assert hash(group["sub"]) == hash(group["sub"])
    assert group["sub"] != group["z"]
    assert group != gpuzarr.open_group(dict(HIERARCHIES[kind]))
    assert group != 3
    assert len({group["sub"], group["sub"], group["z"]}) == 2


def test_groups_pickle(group: gpuzarr.Group) -> None:
    sub: Any = group["sub"]
    again = pickle.loads(pickle.dumps(sub))  # noqa: S301  our own
    assert repr(again) == repr(sub)
    assert [path for path, _ in again.members(None)] == ["b", "deep", "deep/c"]
    assert_result(again["deep/c"][...], INT)


class Unlisted(CountingStore):
    """A store that must not be listed."""

    def list(self, prefix: str = "") -> Any:
        raise gpuzarr.UnsupportedError(f"listed {prefix!r}")


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_consolidated_metadata_need_neither_lists_nor_requests(version: str) -> None:
    store = Unlisted(dict(HIERARCHIES[f"{version} consolidated"]))
    group = gpuzarr.open_group(store)
    store.taken()
    assert [path for path, _ in group.members(None)] == PATHS
    assert str(group.tree())
    assert all(node.attrs == {"of": path} for path, node in group.members(None))
    assert "sub/nothing" not in group
    assert store.taken() == []
    bare = gpuzarr.open_group(store, consolidated=False)
    with pytest.raises(gpuzarr.UnsupportedError, match="listed"):
        list(bare)
    assert bare["sub/b"].path == "sub/b"


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_consolidated_metadata_may_be_insisted_on_or_ignored(version: str) -> None:
    with_them, without = HIERARCHIES[f"{version} consolidated"], HIERARCHIES[version]
    assert len(gpuzarr.open_group(with_them, consolidated=True)) == 3
    with pytest.raises(gpuzarr.MetadataError, match="no consolidated metadata"):
        gpuzarr.open_group(without, consolidated=True)
    # A member that was added afterwards is seen by those who ignore them.
    later = {**with_them, **plain_store(INT, (2, 2), path="later")}
    if version == "v2":
        later = {**with_them, **store_v2(INT, (2, 2), path="later").values}
    assert "later" not in gpuzarr.open_group(later)
    assert list(gpuzarr.open_group(later, consolidated=False)) == ["a", "later", "sub", "z"]


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_group_below_the_root_is_opened_alone(version: str) -> None:
    group = gpuzarr.open_group(HIERARCHIES[version], path="sub")
    assert list(group) == ["b", "deep"]
    assert group.name == "/sub"


def test_what_lies_beside_members_is_none() -> None:
    values = {
        **HIERARCHIES["v3"],
        "notes.txt": b"text",
        "folder/file": b"",
        "sub/deep/c/extra/thing": b"",
    }
    group = gpuzarr.open_group(values)
    assert list(group) == ["a", "sub", "z"]
    assert list(group["sub/deep"]) == ["c"]


def test_a_member_that_cannot_be_opened_is_a_member() -> None:
    values = {
        **HIERARCHIES["v3"],
        "bad/zarr.json": b"{",
        "odd/zarr.json": encoded(v3_metadata((2,), (2,), data_type="quaternion")),
    }
    group = gpuzarr.open_group(values)
    assert list(group) == ["a", "bad", "odd", "sub", "z"]
    assert "bad" in group
    with pytest.raises(gpuzarr.MetadataError) as raised:
        group["bad"]
    assert raised.value.path == "bad"
    with pytest.raises(gpuzarr.UnsupportedError, match="quaternion"):
        group["odd"]
    assert group["a"].path == "a"
    bad, odd = str(group.tree(max_depth=0)).splitlines()[2:4]
    assert bad.startswith("├── bad cannot be opened: bad/zarr.json is not JSON")
    assert odd.startswith("├── odd cannot be opened: the data type 'quaternion' is not known")
    assert len(odd) < 100
    with pytest.raises(gpuzarr.MetadataError):
        list(group.members())


def test_each_member_is_looked_at_once() -> None:
    store = CountingStore(dict(HIERARCHIES["v3"]))
    group = gpuzarr.open_group(store)
    store.taken()
    assert [path for path, _ in group.members(None)] == PATHS
    assert sorted(key for key, _, _ in store.taken()) == sorted(
        f"{path}/zarr.json" for path in PATHS
    )
    assert len(dict(group.arrays())) == 1
    assert len(store.taken()) == 3


def test_options_go_down_to_members() -> None:
    group = gpuzarr.open_group(HIERARCHIES["v3"], device="cuda", threads=1)
    array: Any = group["sub/deep/c"]
    with pytest.raises(gpuzarr.UnsupportedError, match="cuda"):
        array[0]


def test_a_directory(tmp_path: Path) -> None:
    values: Mapping[str, bytes] = HIERARCHIES["v3"]
    for key, value in values.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(value)
    group = gpuzarr.open_group(tmp_path)
    assert [path for path, _ in group.members(None)] == PATHS
    again = pickle.loads(pickle.dumps(group))  # noqa: S301  our own
    assert_result(again["sub/deep/c"][...], INT)
    leaf: Any = gpuzarr.open(tmp_path / "sub" / "deep")
    assert list(leaf) == ["c"]
