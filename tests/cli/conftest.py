"""Stores for the command line: the demo's own data set in small, beside damaged copies of it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.cli import demo_data, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpuzarr.cli.demo_data import DemoArray

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def small_demo() -> Iterator[None]:
    """Make the demo's data set small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_data, "WEATHER_SHAPE", (6, 36, 72))
        patch.setattr(demo_data, "WEATHER_CHUNKS", (1, 36, 72))
        patch.setattr(demo_data, "CELLS_SHAPE", (48, 128, 128))
        patch.setattr(demo_data, "CELLS_SHARDS", (48, 64, 64))
        patch.setattr(demo_data, "CELLS_CHUNKS", (48, 32, 32))
        yield


@pytest.fixture(scope="session")
def arrays(small_demo: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, DemoArray]:
    """The data set, by the names of its directories."""
    del small_demo
    written = demo_data.write_demo(tmp_path_factory.mktemp("demo"))
    return {array.path.stem: array for array in written}


@pytest.fixture
def group(arrays: dict[str, DemoArray], tmp_path: Path) -> Path:
    """A v3 group: two good arrays, and a group with one that has two damaged chunks."""
    root = tmp_path / "group.zarr"
    for name in ("", "inside"):
        folder = root / name
        folder.mkdir()
        document = {"zarr_format": 3, "node_type": "group", "attributes": {"made": "by a test"}}
        (folder / "zarr.json").write_text(json.dumps(document))
    shutil.copytree(arrays["weather-v3"].path, root / "wind")
    shutil.copytree(arrays["cells-v3"].path, root / "cells")
    bad = shutil.copytree(arrays["weather-v3"].path, root / "inside" / "bad")
    for time in (1, 4):
        chunk = bad / "c" / str(time) / "0" / "0"
        chunk.write_bytes(chunk.read_bytes()[:-100])
    return root


@pytest.fixture
def gpuzarr(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command: its exit status, what it printed, and its errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def gpuzarr_json(gpuzarr: Run) -> Callable[..., tuple[int, Any]]:
    """Run a command under --json: its exit status and what it printed, parsed."""

    def run(*arguments: object) -> tuple[int, Any]:
        status, out, _ = gpuzarr(*arguments, "--json")
        return status, json.loads(out, parse_constant=pytest.fail)

    return run
