"""The benchmark of every reader on the CPU runs from end to end, on small arrays."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.benchmark_scripts import run_benchmark

if TYPE_CHECKING:
    from pathlib import Path

WORKLOADS = ["W4", "W8"]
OPERATIONS = ["full", "crops_batch", "open_one"]


@pytest.mark.long
def test_every_reader_has_its_numbers(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="it writes the arrays")
    readme, target = tmp_path / "CPU.md", tmp_path / "cpu.json"
    readme.write_text("# Here\n\n<!-- cpu.py: begin -->\n<!-- cpu.py: end -->\n\nThe end\n")
    (tmp_path / "results").mkdir()
    arguments = ["--quick", "--rounds", "2", "--folder", str(tmp_path / "data")]
    arguments += ["--workloads", *WORKLOADS, "--operations", *OPERATIONS]
    arguments += ["--json", str(target), "--update", "--readme", str(readme)]
    printed = run_benchmark("cpu.py", *arguments)
    text = target.read_text()
    assert json.loads(text)["conditions"]["commit"]
    for name in ('"gpuzarr"', '"zarr"', '"limit"'):
        assert name in text
    if find_spec("tensorstore") is not None:
        assert "refuses" in printed, "tensorstore cannot read W8"
    table = readme.read_text()
    assert table.startswith("# Here\n")
    assert table.endswith("\n\nThe end\n")
    for name in WORKLOADS:
        assert name in table
    ET.fromstring((tmp_path / "results" / "cpu.svg").read_text())  # noqa: S314  our own
