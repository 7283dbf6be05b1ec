"""NetCDF4, NetCDF3 and TIFF, as other libraries wrote and scanned them; see `fixtures/make.py`."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import ChunkError, GpuzarrError, StoreError
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.references.document import Pointer, parse_document
from gpuzarr.stores.references.parquet import ParquetReferences
from gpuzarr.stores.references.store import ReferenceStore
from tests.cuda_devices import assert_engines_agree
from tests.cuda_devices import fake as fake  # noqa: PLC0414  a fixture
from tests.stores.references.fixtures import values
from tests.stores.references.scanning import scan

HERE = Path(__file__).parent / "fixtures"
WEATHER = {
    "temperature": values.temperature(),
    "rain": values.rain(),
    "height": values.height(),
    "time": np.arange(6.0),
}


def read_all(store: ReferenceStore) -> dict[str, Any]:
    group = gpuzarr.open_group(store, device="cpu")
    return {name: array[...] for name, array in group.arrays()}


@pytest.mark.parametrize("name", ["weather.json", "weather.parquet", "classic.json"])
def test_values(name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow.parquet")
    found = read_all(ReferenceStore(HERE / name))
    assert found.keys() == WEATHER.keys()
    for variable, expected in WEATHER.items():
        assert found[variable].dtype == expected.dtype
        np.testing.assert_array_equal(found[variable], expected)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", ["weather.json", "classic.json"])
def test_engines_agree(name: str) -> None:
    store = ReferenceStore(HERE / name)
    for variable in WEATHER:
        for key in (..., (slice(1, 4), slice(None, None, -2))):
            if variable != "time" or key is ...:
                assert_engines_agree(store, key, variable)


@pytest.mark.usefixtures("fake")
def test_hdf5s_filters_are_decoded_on_a_gpu() -> None:
    store = ReferenceStore(HERE / "weather.json")
    array = gpuzarr.open_array(store, path="rain", device="cuda")
    steps = str(array.explain()).partition("steps")[2].partition("\n")[0]
    assert "fletcher32" in steps
    assert "zlib (cuda:0)" in steps
    assert "unshuffle bytes (cuda:0)" in steps


def test_a_netcdf4_file_scanned_by_kerchunk(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    pytest.importorskip("kerchunk.hdf")
    shutil.copy(HERE / "weather.nc", tmp_path)
    # kerchunk refuses fletcher32: it reads such variables itself, and writes them out.
    document = scan(tmp_path / "weather.nc", unsupported_inline_threshold=1 << 20)
    group = gpuzarr.open_group(ReferenceStore.from_document(document), device="cpu")
    for name, expected in WEATHER.items():
        node = group[name]
        assert isinstance(node, gpuzarr.Array)
        np.testing.assert_array_equal(node[...], expected)
        if name != "height":
            dimensions = ["time", "y", "x"] if expected.ndim > 1 else ["time"]
            assert node.attrs["_ARRAY_DIMENSIONS"] == dimensions
    text, below = group["name"], group["below/height"]
    assert isinstance(text, gpuzarr.Array)
    assert isinstance(below, gpuzarr.Array)
    assert text[...].tolist() == values.NAMES
    np.testing.assert_array_equal(below[...], values.height())


@pytest.mark.parametrize("name", ["tiles", "big"])
@pytest.mark.usefixtures("fake")
def test_tiff(name: str) -> None:
    store = ReferenceStore(HERE / f"{name}.json")
    array = gpuzarr.open_array(store, device="cpu")
    expected = values.image()
    assert (array.chunks, array.attrs["_ARRAY_DIMENSIONS"]) == ((32, 32), ["Y", "X"])
    np.testing.assert_array_equal(array[...], expected)
    np.testing.assert_array_equal(array[30:40, 60:], expected[30:40, 60:])
    assert_engines_agree(store)


@pytest.mark.parametrize("name", ["weather.json", "classic.json"])
def test_xarray(name: str) -> None:
    xarray = pytest.importorskip("xarray")
    store = ReferenceStore(HERE / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xarray.open_dataset(store, engine="gpuzarr", device="cpu")
    assert dataset.attrs == {"title": "weather"}
    assert dataset.rain.dims == ("time", "y", "x")
    expected = values.rain()
    np.testing.assert_array_equal(dataset.rain, np.where(expected == values.FILL, np.nan, expected))
    np.testing.assert_allclose(dataset.temperature, values.temperature() * 0.01 + 273.15)
    assert dataset.time.dtype.kind == "M"
    assert str(dataset.time.values[5])[:13] == "2024-01-01T05"
    assert dataset.temperature.attrs == {"units": "K"}


# Damage


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The references and the file of weather.json, to be damaged."""
    for name in ("weather.json", "weather.nc"):
        shutil.copy(HERE / name, tmp_path)
    return tmp_path


def pointer_of(store: ReferenceStore, key: str) -> Pointer:
    found = parse_document(Path(store.name).read_bytes()).find(key)
    assert isinstance(found, Pointer)
    return found


def test_a_changed_byte_is_told_of_its_chunk(copied: Path) -> None:
    store = ReferenceStore(copied / "weather.json")
    array = gpuzarr.open_array(store, path="rain", device="cpu")
    pointer = pointer_of(store, "rain/1.0.1")
    whole = (copied / "weather.nc").read_bytes()
    found = 0
    for place in range(pointer.nbytes):
        data = bytearray(whole)
        data[pointer.offset + place] ^= 0x10
        (copied / "weather.nc").write_bytes(data)
        failed: tuple[str, ...] = ()
        try:
            result = array[...]
        except ChunkError as error:
            failed = tuple(failure.key for failure in error.failures)
        if failed:
            found += 1
            assert failed == ("rain/1.0.1",)
        else:  # a bit that nothing depends on, such as those behind a stream's end
            np.testing.assert_array_equal(result, values.rain())
    assert found >= pointer.nbytes - 4
    np.testing.assert_array_equal(array[4:], values.rain()[4:])


def test_a_file_that_is_cut_off(copied: Path) -> None:
    store = ReferenceStore(copied / "weather.json")
    array = gpuzarr.open_array(store, path="rain", device="cpu")
    pointers = [pointer_of(store, f"rain/{i}.{j}.{k}") for i, j, k in np.ndindex(3, 2, 2)]
    end = max(pointer.offset + pointer.nbytes for pointer in pointers)
    path = copied / "weather.nc"
    data = path.read_bytes()
    for cut in [*range(0, end, 1499), end - 1]:
        path.write_bytes(data[:cut])
        with pytest.raises(StoreError, match=f"the object has {cut} "):
            array[...]
    path.write_bytes(data[:end])
    np.testing.assert_array_equal(array[...], values.rain())
    path.unlink()
    with pytest.raises(StoreError, match=r"there is no file .*weather\.nc"):
        gpuzarr.open_array(ReferenceStore(copied / "weather.json"), path="rain", device="cpu")[...]


def test_a_file_in_place_of_another(copied: Path) -> None:
    shutil.copy(HERE / "classic.nc", copied / "weather.nc")
    array = gpuzarr.open_array(ReferenceStore(copied / "weather.json"), path="rain", device="cpu")
    with pytest.raises((StoreError, ChunkError)):
        array[...]


@pytest.mark.parametrize("change", ["shorter", "longer", "moved"])
def test_lengths_and_offsets_that_are_wrong(copied: Path, change: str) -> None:
    path = copied / "weather.json"
    store = ReferenceStore(path)
    pointer = pointer_of(store, "rain/0.0.0")
    offset, nbytes = {
        "shorter": (pointer.offset, pointer.nbytes - 1),
        "longer": (pointer.offset, pointer.nbytes + 1),
        "moved": (pointer.offset + 1, pointer.nbytes),
    }[change]
    text = path.read_text()
    old = f'"weather.nc",\n{pointer.offset},\n{pointer.nbytes}\n'
    assert text.count(old) == 1
    path.write_text(text.replace(old, f'"weather.nc",\n{offset},\n{nbytes}\n'))
    array = gpuzarr.open_array(ReferenceStore(path), path="rain", device="cpu")
    if change == "longer":  # a zlib stream says where it ends
        np.testing.assert_array_equal(array[...], values.rain())
        return
    with pytest.raises(ChunkError) as caught:
        array[...]
    assert [failure.key for failure in caught.value.failures] == ["rain/0.0.0"]


def test_flipped_bits_in_parquet_are_refused_or_do_no_harm() -> None:
    """Indices and offsets inside of a file that its reader does not look at by itself, too."""
    pytest.importorskip("pyarrow.parquet")
    whole = (HERE / "weather.parquet" / "rain" / "refs.0.parq").read_bytes()
    refused = 0
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place * 5 % 8
        try:
            references = ParquetReferences(
                MappingStore({".zmetadata": METADATA, "rain/refs.0.parq": bytes(data)})
            )
            for i, j, k in np.ndindex(3, 2, 2):
                references.find(f"rain/{i}.{j}.{k}")
        except GpuzarrError:
            refused += 1
    assert refused > len(whole) // 10


METADATA = (HERE / "weather.parquet" / ".zmetadata").read_bytes()
