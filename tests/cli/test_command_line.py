"""The commands that look: info, tree, explain; and what all commands have in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gpuzarr import cli
from gpuzarr.cli import command_line
from gpuzarr.cli.screen import jsonable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr.cli.demo_data import DemoArray

    Run = Callable[..., tuple[int, str, str]]
    RunJson = Callable[..., tuple[int, Any]]


def test_info_of_an_array(
    arrays: dict[str, DemoArray], gpuzarr: Run, gpuzarr_json: RunJson
) -> None:
    path = arrays["cells-v3"].path
    status, out, err = gpuzarr("info", path)
    assert (status, err) == (0, "")
    assert not any(line.endswith(" ") for line in out.splitlines())
    for part in ("48 x 128 x 128", "uint16", "z, y, x", "48 x 64 x 64", "zstd", "voxel_size_um"):
        assert part in out
    status, found = gpuzarr_json("info", path)
    assert status == 0
    assert found["shape"] == [48, 128, 128]
    assert found["chunks"] == [48, 32, 32]
    assert found["shards"] == [48, 64, 64]
    assert found["nchunks"] == 16
    assert found["dtype"] == "uint16"
    assert found["zarr_format"] == 3
    assert found["attributes"] == {"voxel_size_um": [2, 0.4, 0.4]}
    assert found["codecs"][0]["name"] == "sharding_indexed"


def test_info_of_v2(arrays: dict[str, DemoArray], gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    path = arrays["weather-v2"].path
    _, out, _ = gpuzarr("info", path)
    assert "Zarr v2" in out
    assert "air temperature" in out
    _, found = gpuzarr_json("info", path)
    assert found["fill_value"] == "NaN"
    assert found["shards"] is None


def test_info_of_a_group(group: Path, gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    status, out, _ = gpuzarr("info", group)
    assert status == 0
    assert "cells, wind" in out
    _, found = gpuzarr_json("info", group)
    assert found["arrays"] == ["cells", "wind"]
    assert found["groups"] == ["inside"]
    assert found["attributes"] == {"made": "by a test"}


def test_nodes_that_cannot_be_read(group: Path, gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    document = json.loads((group / "wind" / "zarr.json").read_text())
    document["codecs"].append({"name": "no.such.codec"})
    (group / "wind" / "zarr.json").write_text(json.dumps(document))
    (group / "cells" / "zarr.json").write_text("{")
    status, out, _ = gpuzarr("info", group / "wind")
    assert status == 0
    assert "cannot be read" in out
    assert "no.such.codec" in out
    _, found = gpuzarr_json("info", group / "wind")
    assert "no.such.codec" in found["unreadable"][0]
    status, out, _ = gpuzarr("info", group)
    assert status == 0
    assert "cannot be opened" in out
    _, found = gpuzarr_json("info", group)
    assert list(found["bad"]) == ["cells"]
    assert found["arrays"] == ["wind"]


def test_a_node_inside(group: Path, gpuzarr_json: RunJson) -> None:
    _, by_path = gpuzarr_json("info", group, "--path", "inside/bad")
    _, by_directory = gpuzarr_json("info", group / "inside" / "bad")
    assert by_path["shape"] == by_directory["shape"] == [6, 36, 72]
    assert by_path["path"] == "inside/bad"


def test_tree(group: Path, gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    status, out, _ = gpuzarr("tree", group)
    assert status == 0
    assert all(name in out for name in ("wind", "cells", "inside", "bad", "float32"))
    _, found = gpuzarr_json("tree", group)
    assert [node["path"] for node in found] == ["cells", "inside", "inside/bad", "wind"]
    assert [node["kind"] for node in found] == ["array", "group", "array", "array"]
    status, out, _ = gpuzarr("tree", group, "--path", "wind")
    assert status == 0
    assert "float32" in out


def test_explain(arrays: dict[str, DemoArray], gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    path = arrays["weather-v3"].path
    status, out, _ = gpuzarr("explain", path, "--select", "0:2, ..., 3")
    assert status == 0
    assert "chunk" in out
    status, found = gpuzarr_json("explain", path, "--select", "0:2, ..., 3")
    assert status == 0
    assert found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "nowhere.zarr"], "nowhere.zarr"),
        (["explain", "{wind}", "--select", "7 apples"], "7 apples"),
        (["explain", "{wind}", "--select", "99"], "99"),
        (["read", "{group}"], "name an array inside it with --path (it has: cells, inside, wind)"),
        (["info", "{group}", "--path", "wimd"], "wimd"),
    ],
)
def test_errors_are_one_line(arguments: list[str], words: str, group: Path, gpuzarr: Run) -> None:
    places = {"group": group, "wind": group / "wind"}
    status, out, err = gpuzarr(*(argument.format(**places) for argument in arguments))
    assert status == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_errors_under_json(gpuzarr_json: RunJson) -> None:
    status, found = gpuzarr_json("info", "nowhere.zarr")
    assert status == 2
    assert found["error"]["type"] == "NotFoundError"


def test_debug_shows_the_traceback(gpuzarr: Run) -> None:
    _, _, err = gpuzarr("info", "nowhere.zarr", "--debug")
    assert "Traceback" in err


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["frobnicate"])
    assert stopped.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize("command", command_line.COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_without_rich(monkeypatch: pytest.MonkeyPatch, gpuzarr: Run) -> None:
    without = lambda name: None if name == "rich" else find_spec(name)  # noqa: E731
    monkeypatch.setattr(command_line, "find_spec", without)
    status, _, err = gpuzarr("doctor")
    assert status == 2
    assert 'pip install "gpuzarr[cli]"' in err


def test_interrupted(monkeypatch: pytest.MonkeyPatch, gpuzarr: Run) -> None:
    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("gpuzarr.cli.info.run", stop)
    status, _, err = gpuzarr("info", "x")
    assert (status, err) == (130, "interrupted\n")


def run_process(arguments: list[object], **environment: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from gpuzarr.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_colours_only_where_they_are_wanted() -> None:
    plain = run_process(["info", "nowhere.zarr"])
    assert plain.returncode == 2
    assert "\x1b" not in plain.stderr
    coloured = run_process(["info", "nowhere.zarr"], FORCE_COLOR="1", TERM="xterm")
    assert "\x1b[31m" in coloured.stderr
    refused = run_process(["info", "nowhere.zarr"], FORCE_COLOR="1", TERM="xterm", NO_COLOR="1")
    assert "\x1b[31m" not in refused.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes")
def test_a_reader_that_goes_away(group: Path) -> None:
    program = "import sys; from gpuzarr.cli import main; sys.exit(main())"
    command = f'"{sys.executable}" -c "{program}" tree "{group}" | true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command],  # noqa: S607
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_json_has_only_what_json_has() -> None:
    value = {
        "inf": np.float64("-inf"),
        "half": np.float64(0.5),
        "complex": np.complex64(1 + 2j),
        "bytes": np.bytes_(b"a"),
        "date": np.datetime64("2020-01-01"),
        "array": np.array([np.nan, 1.0]),
        "large": 2**64 - 1,
        3: (True, None),
    }
    assert jsonable(value) == {
        "inf": "-Infinity",
        "half": 0.5,
        "complex": [1.0, 2.0],
        "bytes": "b'a'",
        "date": "2020-01-01",
        "array": ["NaN", 1.0],
        "large": 2**64 - 1,
        "3": [True, None],
    }
