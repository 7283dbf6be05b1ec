"""The GPU's benchmark runs from end to end, on the fake device, where its times mean nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from gpuzarr.engines.cuda.kernels import KERNELS
from tests.benchmark_scripts import ROOT, run_benchmark

if TYPE_CHECKING:
    from pathlib import Path

Result = dict[str, Any]

ROWS = ["a", "b, 8 MiB", "b, 64 MiB", "b, 256 MiB", "c", "d", "e"]
ROWS += [f"f, {kib} KiB {codec}" for kib in (64, 16) for codec in ("zstd", "lz4")] + ["g", "h"]
SMALL = [f"s, {read}" for read in ("64^3 crop, 8 chunks", "1 chunk", "16 chunks", "256 chunks")]
OURS = ["gpuzarr", *(f"gpuzarr, decode on the {side}" for side in ("device", "host"))]
OURS += ["gpuzarr on the CPU + upload"]
PEERS = {
    "zarr-python + upload": "zarr",
    "zarr-python fused + upload": "zarr",
    "zarrs + upload": "zarrs",
    "tensorstore + upload": "tensorstore",
    "zarr-python, GPU buffers": "zarr",
    "kvikio GDSStore": "kvikio",
    "czarr": "czarr",
}
"""And the modules that they are not without."""
BEGIN, END = "<!-- gpu.py: begin -->", "<!-- gpu.py: end -->"


def run(target: Path, *arguments: str) -> tuple[Result, str]:
    """What is kept, and what is printed."""
    printed = run_benchmark("gpu.py", "--fake", "--json", str(target), *arguments)
    return json.loads(target.read_text()), printed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, str]:
    """A run of everything: its file, what that holds, and what it printed."""
    target = tmp_path_factory.mktemp("gpu") / "bench.json"
    return target, *run(target)


def test_every_row_has_its_numbers(whole: tuple[Path, Result, str]) -> None:
    _, found, printed = whole
    assert [row["name"] for row in found["rows"]] == ROWS
    assert [row["name"] for row in found["small"]] == SMALL
    for row in (*found["rows"], *found["small"]):
        assert list(row["readers"]) == [*OURS, *PEERS]
        for reader, about in row["readers"].items():
            assert set(about) & {"GB/s", "missing", "refuses"}, "data that are wrong are not this"
            if reader in OURS:
                assert about["GB/s"] > 0
            elif find_spec(PEERS[reader]) is None:
                assert "missing" in about
        # Bytes and a table go up, statuses come down; of what the host decodes, the result goes up.
        assert row["copies"] == (3 if row["launches"] else 1)
        assert (row["peak device memory, MB"] > row["result, MB"]) == (row["launches"] > 0)
        limits = row["limit, ms"]
        assert row["limited by"] == max(limits, key=limits.get)
        assert (limits["decompress"] == 0) == (row["name"] == "h")
    assert any(row["launches"] for row in found["rows"])
    assert [row["launches"] > 0 for row in found["small"]] == [False, False, False, True]
    for name in (*ROWS, *SMALL):
        assert f"| {name.removeprefix('s, ')} " in printed
    assert "nothing left out" in printed
    for section, count in {"ceilings": 5, "decompression": 9, "checksums": 4}.items():
        assert len(found[section]) == count
        assert all(row["GB/s"] > 0 for row in found[section])


def test_peers_that_are_here_read_what_they_can(whole: tuple[Path, Result, str]) -> None:
    pytest.importorskip("zarr")
    _, found, _ = whole
    rows = {row["name"]: row["readers"] for row in (*found["rows"], *found["small"])}
    for readers in rows.values():
        for reader in ("zarr-python + upload", "zarr-python, GPU buffers"):
            assert readers[reader]["ratio"] > 0
    for reader in ("zarrs", "tensorstore"):
        if find_spec(reader) is not None:
            refused = {name for name in rows if "refuses" in rows[name][f"{reader} + upload"]}
            assert refused <= {"f, 64 KiB lz4", "f, 16 KiB lz4"}


def test_every_kernel_is_measured_alone(whole: tuple[Path, Result, str]) -> None:
    _, found, _ = whole
    assert {row["kernel"] for row in found["kernels"]} == set(KERNELS)
    assert all(row["GB/s"] > 0 for row in found["kernels"])


def test_documents_are_written_by_one_command(
    whole: tuple[Path, Result, str], tmp_path: Path
) -> None:
    for name in ("benchmarks/GPU.md", "kernels/README.md", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nAfter\n")
    run_benchmark("gpu_report.py", str(whole[0]), "--root", str(tmp_path))
    texts = [
        (tmp_path / name).read_text()
        for name in ("benchmarks/GPU.md", "kernels/README.md", "README.md")
    ]
    for text in texts:
        assert text.startswith("# Before\n")
        assert text.endswith("\n\nAfter\n")
        assert "old" not in text
        assert "A rehearsal on a fake device" in text
        assert "no GPU; " in text, "the machine is named"
    every, kernels, readme = texts
    assert "### Small requests" in every
    assert f"| {'scatter_items, byte planes of 2':55} |" in kernels
    assert "(results/gpu.svg)" in every
    assert "(benchmarks/results/gpu.svg)" in readme
    assert readme.count("\n| (") == len(ROWS)
    picture = ET.fromstring((tmp_path / "benchmarks/results/gpu.svg").read_text())  # noqa: S314  our own
    titles = [title.text or "" for title in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert sum(title.startswith("limit ") and " GB/s: " in title for title in titles) == len(ROWS)
    assert sum(title.startswith("gpuzarr: ") for title in titles) == len(ROWS)


def test_documents_without_the_marks_are_left_alone(
    whole: tuple[Path, Result, str], tmp_path: Path
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/GPU.md").write_text("# No marks\n")
    with pytest.raises(AssertionError, match=r"has no <!-- gpu\.py: begin -->"):
        run_benchmark("gpu_report.py", str(whole[0]), "--root", str(tmp_path))
    assert (tmp_path / "benchmarks/GPU.md").read_text() == "# No marks\n"


def test_documents_of_this_checkout_have_the_marks() -> None:
    for name in ("benchmarks/GPU.md", "kernels/README.md"):
        text = (ROOT / name).read_text()
        places = [0, text.index(BEGIN), text.index(END), len(text)]
        assert all(first < second for first, second in pairwise(places))


def test_a_run_goes_on_where_another_ended(tmp_path: Path) -> None:
    first, printed = run(tmp_path / "first.json", "g", "h", "--seconds", "0")
    left = [*first["ceilings"], *first["rows"]]
    assert {row["error"] for row in left} == {"left out: no time"}
    assert f"{len(left)} rows left out: run it again" in printed
    # As if a reader had taken the process with it.
    first["trying"] = ["h", "gpuzarr on the CPU + upload"]
    first["rows"][0] = {"name": "g", "error": "known already"}
    (tmp_path / "first.json").write_text(json.dumps(first))
    second, printed = run(
        tmp_path / "second.json", "g", "h", "--before", str(tmp_path / "first.json")
    )
    assert "nothing left out" in printed
    rows = {row["name"]: row for row in second["rows"]}
    assert rows["g"]["error"] == "known already"
    readers = rows["h"]["readers"]
    assert readers["gpuzarr on the CPU + upload"] == {
        "missing": "ended the process, or did not come to an end"
    }
    assert readers["gpuzarr"]["GB/s"] > 0
    second["machine"]["commit"] = "another"
    (tmp_path / "third.json").write_text(json.dumps(second))
    third, _ = run(
        tmp_path / "fourth.json", "h", "--before", str(tmp_path / "third.json"), "--seconds", "0"
    )
    assert [row["name"] for row in third["rows"]] == ["h"], "nothing of another commit is kept"


SPOILT = """
from dataclasses import replace
from pathlib import Path
import json, sys
import gpu_rows
from gpu_bench import LostDeviceError, open_bench
from gpu_limit import Ceilings
from gpu_results import Results
from gpu_workloads import ROWS
from gpuzarr.errors import DeviceError

which, how, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])

def lost():
    raise DeviceError("an illegal memory access")

def spoilt(reader):
    def prepare(bench, task):
        run = reader.prepare(bench, task)
        def spoil():
            result = run()
            if how == "lose":
                bench.settle = lost
                raise ValueError("something else")
            result.reshape(-1)[-1] += 1
            return result
        return spoil
    return replace(reader, prepare=prepare)

ours = [reader for reader in gpu_rows.READERS if reader.name.startswith("gpuzarr")]
gpu_rows.READERS = [spoilt(reader) if reader.name == which else reader for reader in ours]
bench = open_bench(fake=True)
work = ROWS[-1].shrunk()
results = Results(None, 60)
rows = gpu_rows.rows_of(bench, work, work.names(), Ceilings(1, 1, 1), folder, results)
try:
    print(json.dumps([{name: row["readers"] for name, row in rows}, results.failed]))
except LostDeviceError as error:
    print(json.dumps([results.kept["trying"], str(error)]))
"""


def spoil(which: str, how: str, folder: Path) -> tuple[Any, Any, str]:
    """What a row is where a reader gives wrong data or loses the device, and what is said."""
    (folder / "spoilt.py").write_text(SPOILT)
    done = subprocess.run(
        [sys.executable, str(folder / "spoilt.py"), which, how, str(folder / "data")],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return (*(json.loads(done.stdout) if done.stdout else (None, None)), done.stderr)


def test_wrong_data_are_seen(tmp_path: Path) -> None:
    which = "gpuzarr on the CPU + upload"
    found, failed, _ = spoil(which, "change", tmp_path)
    assert failed
    assert found["h"][which]["wrong"]
    assert "GB/s" not in found["h"][which]
    assert found["h"]["gpuzarr"]["GB/s"] > 0


def test_wrong_data_of_gpuzarr_itself_end_the_row(tmp_path: Path) -> None:
    found, _, said = spoil("gpuzarr", "change", tmp_path)
    assert found is None
    assert "WrongDataError: gpuzarr: {'first, ms'" in said


def test_a_lost_device_is_noticed_at_once(tmp_path: Path) -> None:
    which = "gpuzarr on the CPU + upload"
    trying, said, _ = spoil(which, "lose", tmp_path)
    assert trying == ["h", which], "so the next process leaves it out"
    assert said == "an illegal memory access"


def test_every_stage_of_the_script_is_explained(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "gpu_check.sh"
    stages = re.findall(r"^  ([a-z-]+)\) ", script.read_text(), re.MULTILINE)
    assert {"wheels", "setup", "test", "sanitize", "bench"} <= set(stages)
    done = subprocess.run(
        ["bash", str(script)],  # noqa: S607  whichever it is
        env={**os.environ, "OUT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    explained = re.findall(r"gpu_check\.sh ([a-z-]+) ", done.stderr)
    assert explained == stages


@pytest.mark.parametrize("name", ["gpu_limit.py", "gpu_tables.py"])
def test_examples_in_docstrings(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doctest", "-v", str(ROOT / "benchmarks" / name)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout or "Test passed." in done.stdout
