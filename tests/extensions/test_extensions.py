"""The example packages of this folder, each installed as its own pyproject.toml says."""

from __future__ import annotations

import importlib
import mmap
import pickle
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zstandard

import gpuzarr
from gpuzarr import ChunkError, MetadataError, NotFoundError, StoreError, UnsupportedError
from gpuzarr.engines.choose import forget_engines
from tests.arrays import encoded, plain_store, sharded_store, v3_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Install = Callable[[str], None]

HERE = Path(__file__).parent
ARRAY = np.arange(40 * 30, dtype=np.int32).reshape(40, 30) // 7


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Forget what earlier tests installed."""
    modules = set(sys.modules)
    forget_engines()
    yield
    for name in set(sys.modules) - modules:
        if name.partition(".")[0].startswith(("gpuzarr_", "broken_")):
            del sys.modules[name]
    forget_engines()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make a project importable and its entry points known, as pip does."""

    def install_project(folder: str) -> None:
        source = HERE / folder
        install_metadata(tmp_path, (source / "pyproject.toml").read_text(encoding="utf-8"))
        monkeypatch.syspath_prepend(source)
        monkeypatch.syspath_prepend(tmp_path)

    return install_project


def install_metadata(site: Path, text: str) -> None:
    """Write a project's .dist-info folder."""
    project = tomllib.loads(text)["project"]
    name, version = project["name"], project["version"]
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / "METADATA").write_text(metadata, encoding="utf-8")


def break_project(site: Path, group: str, point: str, code: str) -> None:
    """Install a package whose module is `code` and whose entry point is its `thing`."""
    (site / "broken_package.py").write_text(code, encoding="utf-8")
    install_metadata(
        site,
        f"""
        [project]
        name = "broken-package"
        version = "2.0"
        [project.entry-points."{group}"]
        "{point}" = "broken_package:thing"
        """,
    )
    importlib.invalidate_caches()


# ------------------------------------------------------------------------------------ codecs


def run_lengths(data: bytes) -> bytes:
    """What example.run_length's writer stores."""
    found = bytearray()
    for byte in data:
        if found and found[-1] == byte and found[-2] < 255:
            found[-2] += 1
        else:
            found += bytes([1, byte])
    return bytes(found)


def run_length_store() -> dict[str, bytes]:
    codec = {"name": "example.run_length", "configuration": {}}
    return plain_store(ARRAY, (16, 16), encode=run_lengths, codecs=("bytes", codec))


def test_a_codec_that_decodes(install: Install) -> None:
    install("codec")
    array = gpuzarr.open_array(run_length_store())
    np.testing.assert_array_equal(array[...], ARRAY)
    np.testing.assert_array_equal(array[3, ::-4], ARRAY[3, ::-4])
    codec = {"name": "example.run_length", "configuration": {}}
    values = sharded_store(
        ARRAY, (20, 30), (10, 10), encode=run_lengths, inner_codecs=("bytes", codec)
    )
    np.testing.assert_array_equal(gpuzarr.open_array(values)[5:], ARRAY[5:])


def test_damage_in_a_codec_that_decodes_names_the_chunk(install: Install) -> None:
    install("codec")
    values = run_length_store()
    values["c/1/0"] = values["c/1/0"][:-2]
    with pytest.raises(ChunkError, match=r"c/1/0.*example\.run_length.*not 1024 bytes") as raised:
        gpuzarr.open_array(values)[...]
    assert [failure.key for failure in raised.value.failures] == ["c/1/0"]


def test_a_codec_that_is_lowered(install: Install) -> None:
    install("codec")

    def encode(data: bytes) -> bytes:
        shuffled = np.frombuffer(data, np.uint8).reshape(-1, 4).T.tobytes()
        return zstandard.ZstdCompressor().compress(shuffled)

    codec = {"name": "example.shuffled_zstd", "configuration": {"elementsize": 4}}
    array = gpuzarr.open_array(plain_store(ARRAY, (16, 16), encode=encode, codecs=("bytes", codec)))
    np.testing.assert_array_equal(array[...], ARRAY)
    assert "zstd" in str(array.explain())


def test_without_the_package_the_codec_is_not_known() -> None:
    array = gpuzarr.open_array(run_length_store())  # a hierarchy can be browsed all the same
    with pytest.raises(UnsupportedError, match=r"'example\.run_length'.*'gpuzarr\.codecs'"):
        array[...]


# -------------------------------------------------------------------------------- data types


def date_store(**members: Any) -> dict[str, bytes]:
    document = v3_metadata((6,), (3,), data_type="example.date", fill_value=31, **members)
    return {"zarr.json": encoded(document), "c/1": np.array([-1, 0, 20_000], "<i8").tobytes()}


def test_a_data_type(install: Install) -> None:
    install("data_type")
    array = gpuzarr.open_array(date_store())
    dates = ["1970-02-01"] * 3 + ["1969-12-31", "1970-01-01", "2024-10-04"]
    assert array.dtype == np.dtype("datetime64[D]")
    np.testing.assert_array_equal(array[...], np.array(dates, "datetime64[D]"))


def test_a_data_type_refuses_a_wrong_configuration(install: Install) -> None:
    install("data_type")
    values = date_store()
    text = values["zarr.json"].replace(
        b'"example.date"', b'{"name": "example.date", "configuration": {"unit": "h"}}'
    )
    with pytest.raises(MetadataError, match="takes no configuration"):
        gpuzarr.open_array({**values, "zarr.json": text})


def test_without_the_package_the_data_type_is_not_known() -> None:
    with pytest.raises(UnsupportedError, match=r"example\.date.*gpuzarr\.data_types"):
        gpuzarr.open_array(date_store())


# ------------------------------------------------------------------------------------ stores


@pytest.fixture
def archive(tmp_path: Path) -> str:
    folder = tmp_path / "group"
    for key, value in sharded_store(ARRAY, (20, 30), (10, 10)).items():
        file = folder / "a" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value)
    (folder / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    path = tmp_path / "group.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder, ".")
    return f"tar://{path}"


def test_a_store(install: Install, archive: str) -> None:
    install("store")
    group = gpuzarr.open_group(archive)
    assert list(group) == ["a"]
    array = gpuzarr.open_array(archive, path="a")
    np.testing.assert_array_equal(array[7:33, ::2], ARRAY[7:33, ::2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[...], ARRAY)  # noqa: S301  our own
    with pytest.raises(NotFoundError, match="no archive"):
        gpuzarr.open(archive + "x")


def test_without_the_package_the_url_scheme_is_not_known(archive: str) -> None:
    with pytest.raises(UnsupportedError, match=r"tar://.*gpuzarr\.stores"):
        gpuzarr.open_group(archive)


# ----------------------------------------------------------------------------------- engines


def test_an_engine(install: Install) -> None:
    install("engine")
    values = sharded_store(ARRAY, (20, 30), (10, 10), skip=lambda coords: coords == (1, 1))
    array = gpuzarr.open_array(values, device="shared")
    result = array[2:, ::-1]
    assert (array.device, array.engine) == ("shared", "shared")
    assert isinstance(result.base, mmap.mmap)
    np.testing.assert_array_equal(result, gpuzarr.open_array(values, device="cpu")[2:, ::-1])
    np.testing.assert_array_equal(
        array.read((..., [3, 1]), scale=2.0), (gpuzarr.open_array(values)[..., [3, 1]] * 2)
    )
    values["c/0/0"] = values["c/0/0"][-96:]
    with pytest.raises((ChunkError, StoreError)):
        gpuzarr.open_array(values, device="shared")[...]


def test_without_the_package_the_device_is_not_known() -> None:
    array = gpuzarr.open_array(plain_store(ARRAY, (16, 16)), device="shared:1")
    with pytest.raises(UnsupportedError, match=r"'shared:1'.*'gpuzarr\.engines'"):
        array[...]


# -------------------------------------------------------------------------- broken packages


def open_codec() -> None:
    gpuzarr.open_array(run_length_store())[...]


def open_data_type() -> None:
    gpuzarr.open_array(date_store())


def open_url() -> None:
    gpuzarr.open("tar:///somewhere")


def open_device() -> None:
    gpuzarr.open_array(plain_store(ARRAY, (16, 16)), device="shared")[...]


KINDS = {
    "gpuzarr.codecs": ("example.run_length", open_codec),
    "gpuzarr.data_types": ("example.date", open_data_type),
    "gpuzarr.stores": ("tar", open_url),
    "gpuzarr.engines": ("shared", open_device),
}
BREAKAGES = {
    "import": "import no_such_module",
    "syntax": "thing = (",
    "crash": "raise RuntimeError('no license')",
    "attribute": "",
    "wrong object": "thing = lambda *args: object()",
    "not callable": "thing = 42",
}


@pytest.mark.parametrize("code", BREAKAGES.values(), ids=BREAKAGES)
@pytest.mark.parametrize("group", KINDS)
def test_a_broken_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, code: str
) -> None:
    point, work = KINDS[group]
    monkeypatch.syspath_prepend(tmp_path)
    break_project(tmp_path, group, point, code)
    with pytest.raises(UnsupportedError, match=r"broken-package 2\.0") as raised:
        work()
    assert group in str(raised.value)
    assert "broken_package:thing" in str(raised.value)
