"""Every door with arrays on a CUDA device: the fake one, and a real one where there is one.

What comes out has the values that the CPU engine gives, and lies in the device's memory. On a GPU
machine xarray and dask come with `gpu_check.sh more-setup`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import encoded, plain_store, sharded_store
from tests.cuda_devices import assert_same, cuda, to_numpy
from tests.engines.cuda.stores import BLOSC, ZSTD, blosc, zstd

if TYPE_CHECKING:
    from pathlib import Path

    from gpuzarr.engines.cuda.device import Device

__all__ = ["cuda"]  # a fixture

VALUES = np.random.default_rng(0).integers(-99, 99, (60, 96), np.int32)
SHARDED = sharded_store(VALUES, (32, 32), (8, 16), encode=blosc(), inner_codecs=("bytes", BLOSC))


def is_fake(device: Device) -> bool:
    return device.product == "no GPU"


def test_torch(cuda: Device) -> None:
    torch = pytest.importorskip("torch")
    from gpuzarr.integrations.torch import as_tensor  # noqa: PLC0415

    array = gpuzarr.open_array(SHARDED, device="cuda")
    values = array[3:40, 5:]
    tensor = as_tensor(values)
    assert tensor.is_cuda != is_fake(cuda)
    assert tensor.data_ptr() == cuda.address_of(values), "no copy"
    assert_same(VALUES[3:40, 5:], tensor.cpu().numpy())
    assert torch.equal(tensor.sum().cpu(), torch.tensor(VALUES[3:40, 5:].sum()))
    loader = gpuzarr.Loader(array, crop=(16, 24), batch_size=4, shuffle=True, seed=1)
    expected = list(
        gpuzarr.Loader(
            *(gpuzarr.open_array(SHARDED, device="cpu"),),
            crop=(16, 24), batch_size=4, shuffle=True, seed=1,
        )
    )  # fmt: skip
    batches = list(torch.utils.data.DataLoader(loader.torch(), batch_size=None))
    assert len(batches) == len(expected)
    for batch, numpy_batch in zip(batches, expected, strict=True):
        assert batch.is_cuda != is_fake(cuda)
        assert_same(numpy_batch, batch.cpu().numpy())


def test_dask(cuda: Device) -> None:
    dask = pytest.importorskip("dask")
    from gpuzarr.integrations.dask import from_gpuzarr  # noqa: PLC0415

    lazy: Any = from_gpuzarr(SHARDED, device="cuda")
    with dask.config.set(scheduler="synchronous"):
        for block in lazy.to_delayed().flat:
            assert cuda.owns(block.compute())
        assert_same(VALUES, lazy.compute())
        assert int(lazy.sum().compute()) == VALUES.sum()
    with dask.config.set(scheduler="threads"):
        assert_same(VALUES[::2, 7:] * 3, (lazy[::2, 7:] * 3).compute())


def test_xarray(cuda: Device) -> None:
    xr = pytest.importorskip("xarray")
    store = {
        "zarr.json": encoded({"zarr_format": 3, "node_type": "group"}),
        **plain_store(
            VALUES, (16, 32), path="v", encode=zstd, codecs=("bytes", ZSTD),
            dimension_names=["y", "x"], attributes={"scale_factor": 0.5, "add_offset": 3.0},
        ),
        **plain_store(np.arange(96, dtype="i4") * 10, (96,), path="x", dimension_names=["x"]),
    }  # fmt: skip
    found = xr.open_dataset(store, engine="gpuzarr", device="cuda")
    expected = xr.open_dataset(store, engine="gpuzarr", device="cpu")
    assert isinstance(found.x.data, np.ndarray), "coordinates are on the host"
    part = found.v.sel(x=slice(100, 700)).isel(y=[3, 40, 5]).load()
    assert cuda.owns(part.data)
    np.testing.assert_array_equal(
        to_numpy(part.data), expected.v.sel(x=slice(100, 700)).isel(y=[3, 40, 5]).values
    )
    mean = found.v.mean("y").data
    np.testing.assert_allclose(to_numpy(mean), expected.v.mean("y").values, rtol=1e-6, atol=1e-6)


@pytest.mark.gpu
def test_zarr_python(tmp_path: Path) -> None:
    """On the fake device `test_zarr_fallbacks.py` does this, with pretended buffers."""
    zarr = pytest.importorskip("zarr")
    import cupy  # noqa: PLC0415

    made: Any = zarr.create_array(
        tmp_path / "a", shape=VALUES.shape, chunks=(16, 32), shards=(32, 64), dtype="i4"
    )
    made[...] = VALUES
    settings = {"codec_pipeline.path": "gpuzarr.integrations.zarr.GpuzarrCodecPipeline"}
    with zarr.config.enable_gpu(), zarr.config.set(settings):
        found = zarr.open_array(tmp_path / "a", mode="r")[3:40, 5:]
    assert isinstance(found, cupy.ndarray)
    assert_same(VALUES[3:40, 5:], found)
