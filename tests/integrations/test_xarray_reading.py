"""xarray's engine "gpuzarr": what is read when, to which device, by whom."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

import gpuzarr
from tests.arrays import CountingStore, encoded, plain_store, v3_metadata
from tests.cuda_devices import fake  # noqa: F401  a fixture

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engines.cuda.fake_device import FakeDevice

GROUP = {"zarr_format": 3, "node_type": "group"}
VALUES = np.arange(24, dtype="f4").reshape(4, 6)


def stored_set() -> dict[str, bytes]:
    """v (y: 4, x: 6) in chunks of (2, 3), the index x in chunks of 3, and the text `note`."""
    x = np.arange(6, dtype="i4") * 10
    note = v3_metadata((), (), data_type="string", codecs=["vlen-utf8"], fill_value="kept")
    return {
        "zarr.json": encoded(GROUP),
        "note/zarr.json": encoded(note | {"dimension_names": []}),
        **plain_store(VALUES, (2, 3), path="v", dimension_names=["y", "x"]),
        **plain_store(x, (3,), path="x", dimension_names=["x"]),
    }


def chunks_read(store: CountingStore) -> list[str]:
    return sorted(key for key, _, _ in store.taken() if "/c" in key)


def test_data_are_read_when_asked_for() -> None:
    store = CountingStore(stored_set())
    data = xr.open_dataset(store, engine="gpuzarr", device="cpu")  # type: ignore[arg-type]
    assert chunks_read(store) == ["x/c/0", "x/c/1"]
    part = data.v.isel(y=[3, 2], x=slice(None, 2))
    assert chunks_read(store) == []
    np.testing.assert_array_equal(part, VALUES[[3, 2], :2])
    assert chunks_read(store) == ["v/c/1/0"]
    places = {"y": xr.DataArray([0, 3], dims="p"), "x": xr.DataArray([0, 5], dims="p")}
    np.testing.assert_array_equal(data.v.isel(places), VALUES[[0, 3], [0, 5]])
    assert chunks_read(store) == ["v/c/0/0", "v/c/1/1"]
    assert data.note.item() == "kept"


def test_consolidated_metadata_are_one_request() -> None:
    values = stored_set()
    below = {name: values[f"{name}/zarr.json"] for name in ("v", "x", "note")}
    metadata = ", ".join(f'"deep/{name}": {text.decode()}' for name, text in below.items())
    document = encoded(GROUP)[:-1].decode() + (
        ', "consolidated_metadata": {"kind": "inline", "must_understand": false, "metadata":'
        f' {{"deep": {encoded(GROUP).decode()}, {metadata}}}}}}}'
    )
    store = CountingStore({f"deep/{key}": value for key, value in values.items()})
    store.values["zarr.json"] = document.encode()
    data = xr.open_dataset(store, engine="gpuzarr", group="deep", drop_variables="x")  # type: ignore[arg-type]
    assert [key for key, _, _ in store.taken()] == ["zarr.json"]
    assert set(data.variables) == {"v", "note"}


def test_tasks_of_dask_are_chunks() -> None:
    store = CountingStore(stored_set())
    data = xr.open_dataset(store, engine="gpuzarr", device="cpu", chunks={})  # type: ignore[arg-type]
    assert data.v.chunks == ((2, 2), (3, 3))
    store.taken()
    np.testing.assert_array_equal(data.v.sum("y").compute(), VALUES.sum(0))
    assert chunks_read(store) == ["v/c/0/0", "v/c/0/1", "v/c/1/0", "v/c/1/1"]


def test_tasks_of_dask_follow_a_rectilinear_grid() -> None:
    grid = {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": [[4, 6], 3]}}
    document = v3_metadata((7, 6), (1, 1)) | {"chunk_grid": grid, "dimension_names": ["y", "x"]}
    store = {"zarr.json": encoded(GROUP), "v/zarr.json": encoded(document)}
    data = xr.open_dataset(store, engine="gpuzarr", chunks={})  # type: ignore[arg-type]
    assert data.v.encoding["chunks"] == (4, 3)
    assert data.v.chunks == ((4, 3), (3, 3))
    assert (data.v.compute() == 0).all()


def test_a_data_set_pickles_and_is_read_by_threads(tmp_path: Path) -> None:
    dataset = xr.Dataset({"v": (("y", "x"), VALUES)})
    dataset.to_zarr(tmp_path / "data", zarr_format=2)
    data = xr.open_dataset(tmp_path / "data", engine="gpuzarr", device="cpu")
    again = pickle.loads(pickle.dumps(data))  # noqa: S301  our own
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda row: again.v[row % 4].values, range(40)))
    np.testing.assert_array_equal(rows, np.tile(VALUES, (10, 1)))


def test_a_data_set_is_loaded_by_a_coroutine() -> None:
    data = xr.open_dataset(stored_set(), engine="gpuzarr", device="cpu")  # type: ignore[arg-type]
    loaded = asyncio.run(data.isel(x=[5, 0], y=1).load_async())
    np.testing.assert_array_equal(loaded.v, VALUES[1, [5, 0]])


def dated_set(folder: Path) -> Path:
    """Numbers, packed numbers, masks and times; text, an index and a coordinate of two axes."""
    times = np.arange("2001-01-01", "2001-01-05", dtype="M8[D]").astype("M8[ns]")
    dataset = xr.Dataset(
        {
            "v": (("t", "x"), VALUES),
            "packed": (("x", "t"), VALUES.T * 2.0 + 1.0),
            "flags": ("t", np.array([True, False, True, True])),
            "t_bounds": (("t", "end"), np.stack([times, times], axis=1)),
            "names": ("t", np.array(["a", "b", "c", "d"], object)),
        },
        {"t": ("t", times, {"bounds": "t_bounds"}), "area": (("t", "x"), VALUES + 1)},
    )
    packed = {"dtype": "i2", "scale_factor": 2.0, "add_offset": 1.0, "_FillValue": 3}
    dataset.to_zarr(folder, zarr_format=2, encoding={"packed": packed})
    return folder


def test_numbers_are_read_to_the_device(
    tmp_path: Path,
    fake: FakeDevice,  # noqa: F811  the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = dated_set(tmp_path / "data")
    made: list[tuple[int, ...]] = []
    empty = fake.empty

    def remember(shape: Any, dtype: np.dtype[Any], stream: Any) -> Any:
        made.append((*shape, dtype.itemsize))
        return empty(shape, dtype, stream)

    monkeypatch.setattr(fake, "empty", remember)
    found = xr.open_dataset(path, engine="gpuzarr", device="cuda")
    assert made == []
    found.load()
    assert sorted(made) == [(4, 1), (4, 6, 4), (6, 4, 2)]  # flags, v, packed
    xr.testing.assert_identical(found, xr.open_dataset(path, engine="zarr"))
    assert np.isnan(found.packed.values[3, 0])


def test_arguments_of_open_reach_it(tmp_path: Path) -> None:
    path = dated_set(tmp_path / "data")
    data = xr.open_dataset(path, engine="gpuzarr", device="cpu", threads=1, memory_limit=1 << 16)
    np.testing.assert_array_equal(data.v, VALUES)
    with pytest.raises(TypeError, match="did you mean 'memory_limit'"):
        xr.open_dataset(path, engine="gpuzarr", memory_limits=1)
    with pytest.raises(gpuzarr.UnsupportedError, match="there is no device 'tpu'"):
        xr.open_dataset(path, engine="gpuzarr", device="tpu").v.load()
