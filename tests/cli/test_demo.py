"""`gpuzarr demo`: its data set is right, and so is its verdict."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from gpuzarr.array import Array

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr.cli.demo_data import DemoArray

    Run = Callable[..., tuple[int, str, str]]
    RunJson = Callable[..., tuple[int, Any]]


def test_zarr_python_reads_the_data_set(arrays: dict[str, DemoArray]) -> None:
    for array in arrays.values():
        found = zarr.open_array(str(array.path), mode="r")
        np.testing.assert_array_equal(np.asarray(found[...]), array.values, strict=True)


def test_the_data_set_is_realistic(arrays: dict[str, DemoArray]) -> None:
    for array in arrays.values():
        stored = sum(path.stat().st_size for path in array.path.rglob("*") if path.is_file())
        assert 0.1 < stored / array.values.nbytes < 0.8


@pytest.mark.usefixtures("small_demo")
def test_demo(gpuzarr: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    status, out, err = gpuzarr("demo")
    assert (status, err) == (0, "")
    assert "all 81 reads gave the right values" in out
    assert "cells v3 sharded" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_demo")
def test_keeping_the_data_set(gpuzarr: Run, gpuzarr_json: RunJson, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    status, found = gpuzarr_json("demo", "--keep", kept)
    assert (status, found["ok"]) == (0, True)
    assert len({result["array"] for result in found["results"]}) == 3
    assert (kept / "cells-v3.zarr" / "zarr.json").exists()
    status, _, err = gpuzarr("demo", "--keep", kept)  # what lies there may be the user's own
    assert status == 2
    assert "kept" in err


def test_your_own(group: Path, gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    status, found = gpuzarr_json("demo", group / "cells")
    assert status == 0
    assert {result["way"] for result in found["results"]} == {
        "everything",
        "24 crops",
        "strided",
        "one chunk",
    }
    status, _, err = gpuzarr("demo", group)  # has a damaged array
    assert status == 2
    assert "c/1/0/0" in err


def test_nothing_to_read(group: Path, gpuzarr: Run) -> None:
    document = json.loads((group / "wind" / "zarr.json").read_text())
    document["codecs"].append({"name": "no.such.codec"})
    (group / "wind" / "zarr.json").write_text(json.dumps(document))
    status, _, err = gpuzarr("demo", group / "wind")
    assert status == 2
    assert "no.such.codec" in err
    shutil.rmtree(group / "inside" / "bad")
    status, _, err = gpuzarr("demo", group / "inside")
    assert status == 2
    assert "nothing here" in err
    # One array that cannot be read does not keep the others from it.
    status, out, _ = gpuzarr("demo", group)
    assert status == 0
    assert "not read into cpu (/wind)" in out


@pytest.mark.usefixtures("small_demo")
def test_wrong_values_are_noticed(gpuzarr: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Array.read

    def read(array: Array, key: Any = ..., **options: Any) -> Any:
        result = right(array, key, **options)
        if array.dtype == np.uint16:
            result[..., -1:] += 1
        return result

    monkeypatch.setattr(Array, "read", read)
    status, out, _ = gpuzarr("demo")
    assert status == 1
    assert "4 of 12 ways gave wrong values" in out
