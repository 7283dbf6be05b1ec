"""HDF5 files of every kind, scanned by kerchunk: the values, attributes and names of h5py."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import ChecksumError
from gpuzarr.stores.references.store import ReferenceStore
from tests.cuda_devices import assert_engines_agree, assert_same
from tests.cuda_devices import fake as fake  # noqa: PLC0414  a fixture
from tests.stores.references.scanning import scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

h5py = pytest.importorskip("h5py")
pytest.importorskip("kerchunk.hdf")

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.integers(-100, 100, (20, 30)).astype("i4")
CHUNKED = {"chunks": (7, 8)}
DEFLATE = {**CHUNKED, "compression": "gzip", "compression_opts": 4}

DATASETS: dict[str, dict[str, Any]] = {
    "contiguous": {"data": VALUES},
    "chunked": {"data": VALUES, **CHUNKED},
    "deflate": {"data": VALUES, **DEFLATE},
    "shuffle": {"data": VALUES.astype("f8"), **DEFLATE, "shuffle": True},
    "shuffle alone": {"data": VALUES.astype("u2"), **CHUNKED, "shuffle": True},
    "big-endian": {"data": VALUES.astype(">i2"), **DEFLATE, "shuffle": True},
    "big-endian contiguous": {"data": VALUES.astype(">f8")},
    "fill": {"shape": (20, 30), "dtype": "f4", **DEFLATE, "fillvalue": -9.5},
    "fill nan": {"shape": (20, 30), "dtype": "f4", **CHUNKED, "fillvalue": np.nan},
    "never written": {"shape": (20, 30), "dtype": "i2", "fillvalue": 3},
    "unlimited": {"data": VALUES, "maxshape": (None, 30), **CHUNKED},
    "empty": {"shape": (0, 5), "dtype": "f4", "maxshape": (None, 5)},
    "scalar": {"data": np.float32(5)},
    "half": {"data": VALUES.astype("f2"), **DEFLATE},
    "complex": {"data": VALUES * (1 + 2j), **DEFLATE},
    "bool": {"data": VALUES > 0, **CHUNKED},
    "bytes": {"data": np.array([b"abc", b"", b"de"])},
    "long": {"data": np.arange(3000, dtype="i8"), "chunks": (50,)},
    "group/deep/inside": {"data": np.arange(5.0)},
}
PARTLY = (slice(None, 7), slice(8, 16))
"""What is written where there is no data at once: one chunk of many."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all datasets."""
    path = tmp_path_factory.mktemp("hdf5") / "all.h5"
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "a file"
        for name, options in DATASETS.items():
            data = file.create_dataset(name, **options)
            if name.startswith("fill"):
                data[PARTLY] = 1.5
        file["chunked"].attrs["units"] = "m"
        file["chunked"].attrs["range"] = np.array([1.5, 2.5])
        file["chunked"].attrs["count"] = np.int64(7)
        file["group"].attrs["text"] = "\u00e4"
        for name, size in (("y", 20), ("x", 30)):
            file.create_dataset(name, data=np.arange(size)).make_scale(name)
        for axis, name in enumerate("yx"):
            file["deflate"].dims[axis].attach_scale(file[name])
    return path


@pytest.fixture(scope="module")
def document(path: Path) -> dict[str, Any]:
    """Every chunk a reference."""
    return scan(path)


@pytest.fixture(scope="module", params=["pointers", "inline"])
def group(request: pytest.FixtureRequest, path: Path) -> gpuzarr.Group:
    """The same as a group: every chunk a reference, or small ones in the references."""
    threshold = {"pointers": 0, "inline": 500}[request.param]
    document = json.loads(json.dumps(scan(path, inline_threshold=threshold)))
    inline = sum(
        isinstance(value, str) for key, value in document["refs"].items() if "/." not in key
    )
    assert (inline > 20) == bool(threshold)
    return gpuzarr.open_group(ReferenceStore.from_document(document), device="cpu")


@pytest.fixture
def file(path: Path) -> Iterator[Any]:
    with h5py.File(path) as file:
        yield file


def array_of(group: gpuzarr.Group, name: str) -> gpuzarr.Array:
    node = group[name]
    assert isinstance(node, gpuzarr.Array)
    return node


@pytest.mark.parametrize("name", DATASETS)
def test_values(group: gpuzarr.Group, file: Any, name: str) -> None:
    array, data = array_of(group, name), file[name]
    expected = data[()]
    assert array.shape == data.shape
    native = np.asarray(expected).dtype.newbyteorder("=")
    assert array.dtype == native
    np.testing.assert_array_equal(array[...], expected)
    if array.shape == (20, 30):
        for key in ((3, 4), (slice(5, 17, 3), slice(None, None, -1)), ([1, 19, 7], slice(2, 29))):
            np.testing.assert_array_equal(array[key], expected[key])
        assert array.chunks == (data.chunks or data.shape)
    if name in {"fill", "fill nan", "never written"}:
        np.testing.assert_array_equal(array.fill_value, data.fillvalue)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", [name for name in DATASETS if name != "bytes"])
def test_values_on_a_gpu(document: dict[str, Any], file: Any, name: str) -> None:
    array = gpuzarr.open_array(ReferenceStore.from_document(document), path=name, device="cuda")
    assert_same(np.asarray(file[name][()], array.dtype), array[...])
    explained = str(array.explain())
    assert "(host" not in explained
    assert ("zlib (cuda:0)" in explained) == ("compression" in DATASETS[name])
    assert ("unshuffle bytes (cuda:0)" in explained) == ("shuffle" in DATASETS[name])


def test_attributes_and_names(group: gpuzarr.Group) -> None:
    assert group.attrs["title"] == "a file"
    assert dict(array_of(group, "chunked").attrs) == {
        "units": "m",
        "range": [1.5, 2.5],
        "count": 7,
        "_ARRAY_DIMENSIONS": ["phony_dim_0", "phony_dim_1"],
    }
    assert array_of(group, "deflate").attrs["_ARRAY_DIMENSIONS"] == ["y", "x"]
    below = group["group"]
    assert isinstance(below, gpuzarr.Group)
    assert below.attrs["text"] == "\u00e4"
    assert sorted(below) == ["deep"]
    assert set(group) == {name.partition("/")[0] for name in DATASETS} | {"x", "y"}


def test_text_that_kerchunk_writes_out(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    texts = ["abc", "", "\u00e4\u03b2", "x" * 100]
    with h5py.File(path, "w") as file:
        file.create_dataset("text", data=texts, dtype=h5py.string_dtype())
    group = gpuzarr.open_group(ReferenceStore.from_document(scan(path)), device="cpu")
    assert array_of(group, "text")[...].tolist() == texts


def test_compound_types(tmp_path: Path) -> None:
    path = tmp_path / "compound.h5"
    dtype = np.dtype([("a", "<i4"), ("b", ">f8"), ("c", "S3")])
    values = np.array([(1, 2.5, b"x"), (-3, np.inf, b"abc")] * 5, dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("table", data=values, chunks=(3,), compression="gzip", shuffle=True)
    document = scan(path, vlen_encode="leave")  # "embed" writes lists as text, and may crash
    array = gpuzarr.open_array(ReferenceStore.from_document(document), path="table", device="cpu")
    for name in ("a", "b", "c"):
        np.testing.assert_array_equal(array[...][name], values[name])
        np.testing.assert_array_equal(array[name], values[name])


def test_files_joined_along_a_dimension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    combine = pytest.importorskip("kerchunk.combine")
    documents, expected = [], []
    for number in range(3):
        path = tmp_path / f"{number}.nc"
        values = VALUES[:4].astype("f4") + number
        expected.append(values)
        with h5py.File(path, "w") as file:
            for name, axis in (("time", 4 * number + np.arange(4)), ("x", np.arange(30))):
                file.create_dataset(name, data=axis.astype("f8")).make_scale(name)
            data = file.create_dataset("t", data=values, chunks=(2, 10), compression="gzip")
            for place, name in enumerate(("time", "x")):
                data.dims[place].attach_scale(file[name])
        documents.append(scan(path, path.name))
    monkeypatch.chdir(tmp_path)  # kerchunk reads the coordinates, and takes paths from here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document = combine.MultiZarrToZarr(
            documents, concat_dims=["time"], identical_dims=["x"], remote_protocol="file"
        ).translate()
    monkeypatch.chdir("/")
    refs = tmp_path / "all.json"
    refs.write_text(json.dumps(document))
    group = gpuzarr.open_group(ReferenceStore(refs), device="cpu")
    joined = np.concatenate(expected)
    np.testing.assert_array_equal(array_of(group, "t")[...], joined)
    np.testing.assert_array_equal(array_of(group, "time")[...], np.arange(12))
    np.testing.assert_array_equal(array_of(group, "t")[3:9:2, 5], joined[3:9:2, 5])


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">f4", "<f8"])
@pytest.mark.parametrize("filters", [("shuffle", "zlib"), ("zlib",), ("shuffle",), ()])
def test_fletcher32_is_that_of_hdf5(tmp_path: Path, dtype: str, filters: tuple[str, ...]) -> None:
    """kerchunk refuses it; VirtualiZarr writes it down as is done here."""
    path = tmp_path / "checked.h5"
    written = np.abs(VALUES).astype(dtype)
    compression = "gzip" if "zlib" in filters else None
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            *("d", written.shape, dtype, written),
            chunks=(7, 5),  # 35 bytes, an odd number of them
            compression=compression,
            shuffle="shuffle" in filters,
            fletcher32=True,
        )
        refs: dict[str, Any] = {}
        for number in range(data.id.get_num_chunks()):
            chunk = data.id.get_chunk_info(number)
            place = (chunk.chunk_offset[0] // 7, chunk.chunk_offset[1] // 5)
            refs[f"{place[0]}.{place[1]}"] = [path.name, chunk.byte_offset, chunk.size]
    ids: list[dict[str, Any]] = [{"id": name} for name in (*filters, "fletcher32")]
    for each in ids:
        each |= {"elementsize": written.itemsize} if each["id"] == "shuffle" else {}  # noqa: PLW2901
    zarray = {
        "zarr_format": 2,
        "shape": [20, 30],
        "chunks": [7, 5],
        "dtype": written.dtype.str,
        "order": "C",
        "fill_value": 0,
        "filters": ids,
        "compressor": None,
    }
    store = ReferenceStore.from_document({**refs, ".zarray": zarray}, base=tmp_path)
    array = gpuzarr.open_array(store, device="cpu")
    np.testing.assert_array_equal(array[...], written)
    assert_engines_agree(store)
    offset, nbytes = refs["1.2"][1:]
    with path.open("r+b") as stream:
        stream.seek(offset + nbytes // 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    for device in ("cpu", "cuda"):
        with pytest.raises(ChecksumError) as caught:
            gpuzarr.open_array(store, device=device)[...]
        assert [failure.key for failure in caught.value.failures] == ["1.2"]
