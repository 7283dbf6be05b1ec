"""What an attack on the public interface found once, each kept from coming back."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.cli.screen import Screen
from tests.arrays import encoded, plain_store, v3_metadata

if TYPE_CHECKING:
    from pathlib import Path

LINE = np.arange(12, dtype=np.int32)
PLANE = LINE.reshape(3, 4)


def opened(array: np.ndarray[Any, Any]) -> gpuzarr.Array:
    return gpuzarr.open_array(plain_store(array, tuple(max(1, n // 2) for n in array.shape)))


def test_a_link_that_leads_round_ends_a_walk(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_bytes(encoded({"zarr_format": 3, "node_type": "group"}))
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "again").symlink_to(tmp_path)
    group = gpuzarr.open_group(tmp_path)
    assert str(group.tree()).count("cannot be opened") == 2
    with pytest.raises(gpuzarr.StoreError, match="leads round"):
        list(group.members(None))


@pytest.mark.parametrize(
    ("way", "array", "key", "expected"),
    [
        ("oindex", LINE, (..., 0), LINE[0]),
        ("oindex", LINE, (..., [0]), LINE[[0]]),
        ("oindex", LINE, (0, ...), LINE[0]),
        ("oindex", PLANE, ([0], [1], ...), PLANE[[0]][:, [1]]),
        ("oindex", PLANE[0, 0], ..., PLANE[0, 0]),
        ("blocks", LINE, (..., 0), LINE[:6]),
        ("blocks", LINE, (0, ...), LINE[:6]),
        ("blocks", PLANE[0, 0], ..., PLANE[0, 0]),
    ],
    ids=str,
)
def test_an_ellipsis_may_stand_for_no_dimension(
    way: str, array: np.ndarray[Any, Any], key: Any, expected: np.ndarray[Any, Any]
) -> None:
    np.testing.assert_array_equal(getattr(opened(np.asarray(array)), way)[key], expected)


@pytest.mark.parametrize("step", [2**62, 2**63, -(2**64), 10**30])
def test_steps_beyond_64_bits(step: int) -> None:
    array = opened(LINE)
    np.testing.assert_array_equal(array[::step], LINE[:1] if step > 0 else LINE[-1:])
    assert array.explain(slice(None, None, step)).chunks == 1


def nested(depth: int) -> list[Any]:
    key: list[Any] = [0]
    for _ in range(depth):
        key = [key]
    return key


@pytest.mark.parametrize(
    "key", [nested(100_000), nested(40), (None,) * 70], ids=["deep", "40", "70"]
)
def test_keys_beyond_numpys_dimensions(key: Any) -> None:
    with pytest.raises(gpuzarr.SelectionError):
        opened(LINE)[key]


def test_vindex_beyond_64_bits() -> None:
    with pytest.raises(gpuzarr.SelectionError):
        opened(PLANE).vindex[2**63, [0]]


def test_lists_that_do_not_fit_into_memory() -> None:
    with pytest.raises(gpuzarr.MemoryLimitError):
        opened(LINE)[np.broadcast_to(np.int64(0), (2**46,))]


@pytest.mark.parametrize(
    "kind",
    [
        gpuzarr.NotFoundError,
        gpuzarr.MetadataError,
        gpuzarr.SelectionError,
        gpuzarr.UnsupportedError,
        gpuzarr.StoreError,
        gpuzarr.ChecksumError,
        gpuzarr.DecodeError,
        gpuzarr.DeviceError,
        gpuzarr.MemoryLimitError,
    ],
)
def test_every_error_travels_between_processes(kind: type[gpuzarr.GpuzarrError]) -> None:
    error = kind("what happened", store="s", path="a", key="c/0")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(other) is kind
        assert str(other) == str(error)
        assert (other.store, other.path, other.key) == ("s", "a", "c/0")


@pytest.mark.parametrize("rate", [10**400, float("nan"), float("inf"), "fast"])
def test_rates_that_are_no_numbers(rate: Any) -> None:
    codec = {"name": "zfp", "configuration": {"mode": "fixed_rate", "rate": rate}}
    document = v3_metadata((4,), (4,), data_type="float32", codecs=[codec])
    array = gpuzarr.open_array({"zarr.json": encoded(document), "c/0": b"1234"})
    with pytest.raises(gpuzarr.GpuzarrError):
        array[...]


def test_an_empty_zfp_chunk_is_damage() -> None:
    pytest.importorskip("zfpy")
    expert = {"mode": "expert", "minbits": 1, "maxbits": 16657, "maxprec": 64, "minexp": -1074}
    document = v3_metadata(
        (4,), (4,), data_type="float32", codecs=[{"name": "zfp", "configuration": expert}]
    )
    with pytest.raises(gpuzarr.DecodeError):
        gpuzarr.open_array({"zarr.json": encoded(document), "c/0": b""})[...]


@pytest.mark.parametrize("dtype", ["\ud800", {"name": "bytes"}, 3])
def test_categories_of_no_type(dtype: Any) -> None:
    filters = [{"id": "categorize", "labels": ["a"], "dtype": dtype, "astype": "|u1"}]
    document = {
        "zarr_format": 2,
        "shape": [2],
        "chunks": [2],
        "dtype": "|O",
        "compressor": None,
        "fill_value": None,
        "order": "C",
        "filters": filters,
    }
    array = gpuzarr.open_array({".zarray": encoded(document), "0": b"\1\1"})
    with pytest.raises(gpuzarr.GpuzarrError):
        array[...]


@pytest.mark.parametrize("name", ["scale", "offset"])
def test_factors_beyond_floats(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        opened(LINE).read(..., **{name: 10**400})


@pytest.mark.parametrize("threads", [np.uint8(3), np.int8(3), np.uint16(2)])
def test_threads_as_numpys_integers(threads: Any) -> None:
    array = gpuzarr.open_array(plain_store(LINE, (1,)), threads=threads)
    np.testing.assert_array_equal(array[...], LINE)


def test_names_that_are_no_utf_8_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(json=False).table(["name"], [["\udcff"]])
    assert "udcff" in capsys.readouterr().out
