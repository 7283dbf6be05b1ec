"""xarray's engine "gpuzarr": stores that xarray did not write, hierarchies, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from xarray.backends.plugins import guess_engine

import gpuzarr
from gpuzarr.integrations.xarray import GpuzarrBackendEntrypoint
from tests.arrays import encoded, plain_store, v3_metadata
from tests.integrations.data_sets import write

if TYPE_CHECKING:
    from pathlib import Path

GROUP = {"zarr_format": 3, "node_type": "group"}
MASK = "use_zarr_fill_value_as_mask"


def open_stored(store: Any, **choices: Any) -> xr.Dataset:
    return xr.open_dataset(store, engine="gpuzarr", **choices)


def stored_as(folder: Path, attributes: dict[str, Any] | None = None, **members: Any) -> Path:
    """A v2 group with the array v (4,) of int32, of which no chunk is stored, filled with 7."""
    array = {
        "zarr_format": 2,
        "shape": [4],
        "chunks": [2],
        "dtype": "<i4",
        "compressor": None,
        "filters": None,
        "fill_value": 7,
        "order": "C",
    }
    (folder / "v").mkdir(parents=True)
    (folder / ".zgroup").write_bytes(encoded({"zarr_format": 2}))
    (folder / "v" / ".zarray").write_bytes(encoded(array | members))
    (folder / "v" / ".zattrs").write_bytes(encoded(attributes or {}))
    return folder


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """Data sets in /, /a and /a/b, and the group /c without any."""
    for number, path in enumerate(["/", "/a", "/a/b"]):
        dataset = xr.Dataset({"v": ("x", np.arange(3.0) + number)}, attrs={"number": number})
        dataset.to_zarr(tmp_path / "tree", group=path, mode="a", zarr_format=2)
    xr.Dataset().to_zarr(tmp_path / "tree", group="/c", mode="a", zarr_format=2)
    return tmp_path / "tree"


@pytest.mark.parametrize("group", [None, "a", "/a/b"])
def test_trees_are_those_of_the_engine_zarr(nested: Path, group: str | None) -> None:
    choices: dict[str, Any] = {"group": group, "consolidated": False}
    expected = xr.open_groups(nested, engine="zarr", **choices)
    found = xr.open_groups(nested, engine="gpuzarr", **choices)
    assert found.keys() == expected.keys()
    for path, dataset in expected.items():
        xr.testing.assert_identical(found[path], dataset)
    xr.testing.assert_identical(
        xr.open_datatree(nested, engine="gpuzarr", **choices),
        xr.open_datatree(nested, engine="zarr", **choices),
    )


@pytest.mark.parametrize("seed", [1, 3, 7, 9, 13])
def test_what_is_written_again_is_stored_alike(tmp_path: Path, seed: int) -> None:
    written = write(tmp_path / "first", seed)
    documents = []
    for engine in ("zarr", "gpuzarr"):
        data = xr.open_dataset(
            written.path, engine=engine, group=written.group, consolidated=False
        ).drop_vars(["text", "bytes"], errors="ignore")
        data.to_zarr(tmp_path / engine, zarr_format=3, consolidated=False)
        found = sorted((tmp_path / engine).glob("*/zarr.json"))
        documents.append({file.parent.name: json.loads(file.read_bytes()) for file in found})
    assert documents[0]
    assert documents[1] == documents[0]


@pytest.mark.parametrize("choice", [{}, {MASK: True}, {MASK: False}], ids=str)
def test_a_fill_value_of_v2_masks_unless_told_otherwise(
    tmp_path: Path, choice: dict[str, bool]
) -> None:
    path = stored_as(tmp_path / "data", {"_ARRAY_DIMENSIONS": ["x"]})
    expected = np.nan if choice.get(MASK, True) else 7
    np.testing.assert_array_equal(open_stored(path, **choice).v, np.full(4, expected))


@pytest.mark.parametrize("choice", [{}, {MASK: True}, {MASK: False}], ids=str)
def test_a_fill_value_of_v3_does_not_mask_unless_told(choice: dict[str, bool]) -> None:
    document = v3_metadata((4,), (2,), fill_value=7, dimension_names=["x"])
    store = {"zarr.json": encoded(GROUP), "v/zarr.json": encoded(document)}
    expected = np.nan if choice.get(MASK, False) else 7
    np.testing.assert_array_equal(open_stored(store, **choice).v, np.full(4, expected))


def test_dimensions_of_netcdf_are_found_by_their_last_name(tmp_path: Path) -> None:
    path = stored_as(
        tmp_path / "data",
        {"_nczarr_attrs": {}, "units": "m"},
        _NCZARR_ARRAY={"dimrefs": ["/some/x"]},
    )
    data = open_stored(path)
    assert data.v.dims == ("x",)
    assert data.v.attrs == {"units": "m"}


def test_codecs_of_others_are_kept_as_they_are(tmp_path: Path) -> None:
    unknown = {"id": "unheard-of", "level": 3}
    path = stored_as(tmp_path / "data", {"_ARRAY_DIMENSIONS": ["x"]}, filters=[unknown])
    assert open_stored(path).v.encoding["filters"] == (unknown,)
    document = v3_metadata((4,), (2,), codecs=[{"name": "unheard-of"}], dimension_names=["x"])
    store = {"zarr.json": encoded(GROUP), "v/zarr.json": encoded(document)}
    assert "serializer" not in open_stored(store).v.encoding


def test_arrays_without_names_of_dimensions_are_refused_unless_dropped(tmp_path: Path) -> None:
    unnamed = {
        **plain_store(np.arange(4), (2,), path="v"),
        **plain_store(np.arange(4), (2,), path="w", dimension_names=["x"]),
        "zarr.json": encoded(GROUP),
    }
    for store in (unnamed, stored_as(tmp_path / "data")):
        with pytest.raises(gpuzarr.MetadataError, match=r"drop_variables=.*'/v'"):
            open_stored(store)
    assert set(open_stored(unnamed, drop_variables="v").variables) == {"w"}


def test_a_member_that_cannot_be_opened_can_be_dropped() -> None:
    document = v3_metadata((4,), (2,), data_type="unheard-of", dimension_names=["x"])
    store = {
        "zarr.json": encoded(GROUP),
        "v/zarr.json": encoded(document),
        **plain_store(np.arange(4), (2,), path="w", dimension_names=["x"]),
    }
    with pytest.raises(gpuzarr.UnsupportedError, match="unheard-of"):
        open_stored(store)
    assert set(open_stored(store, drop_variables=["v"]).variables) == {"w"}


def test_what_is_missing_is_said_with_what_is_there(nested: Path) -> None:
    with pytest.raises(FileNotFoundError, match="did you mean 'tree'"):
        open_stored(nested.with_name("trees"))
    with pytest.raises(FileNotFoundError, match="have no such member"):
        open_stored(nested, group="d")
    with pytest.raises(FileNotFoundError, match="there is no group here"):
        open_stored(nested, group="d", consolidated=False)
    with pytest.raises(FileNotFoundError, match="an array here, not a group"):
        open_stored(nested, group="a/v")
    with pytest.raises(gpuzarr.MetadataError, match="no consolidated metadata"):
        open_stored({"zarr.json": encoded(GROUP)}, consolidated=True)


def test_only_zarr_that_no_other_engine_takes_is_guessed(
    nested: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = nested.rename(nested.with_suffix(".zarr"))
    assert guess_engine(named) == "zarr"
    other = named.rename(named.with_suffix(".data"))
    assert guess_engine(other) == guess_engine(str(other)) == "gpuzarr"
    assert xr.open_dataset(other).v.shape == (3,)
    entrypoint = GpuzarrBackendEntrypoint()
    (other.parent / "file.nc").write_bytes(b"CDF\x01")
    for path in (other.parent, other.parent / "file.nc", "https://host/a", b"CDF\x01", object()):
        assert not entrypoint.guess_can_open(path)
    monkeypatch.setattr("gpuzarr.integrations.xarray.list_engines", dict)
    assert entrypoint.guess_can_open(other.rename(other.with_suffix(".zarr")))


@pytest.mark.parametrize(
    ("attributes", "members"),
    [
        ({"_ARRAY_DIMENSIONS": 5}, {}),
        ({"_ARRAY_DIMENSIONS": "x"}, {}),
        ({}, {"_NCZARR_ARRAY": [1]}),
        ({}, {"_NCZARR_ARRAY": {"dimrefs": [1, 2]}}),
    ],
)
def test_names_of_dimensions_that_are_none_are_refused(
    attributes: dict[str, Any], members: dict[str, Any]
) -> None:
    zarray = {"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "<i4", "fill_value": 0}
    zarray |= {"order": "C", "filters": None, "compressor": None, **members}
    store: Any = {
        ".zgroup": encoded({"zarr_format": 2}),
        "a/.zarray": encoded(zarray),
        "a/.zattrs": encoded(attributes),
    }
    with pytest.raises(gpuzarr.MetadataError, match="names of all 1 dimensions"):
        xr.open_dataset(store, engine="gpuzarr", device="cpu")
