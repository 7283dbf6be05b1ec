"""The example of a NetCDF4 file runs from end to end; it checks its own values."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.benchmark_scripts import run_benchmark

if TYPE_CHECKING:
    from pathlib import Path

ROW = r"^\| (\w+, [\w ]+?) +\| +[\d.]+ \| +[\d.]+ \|$"
"""Variable and selection, milliseconds, ratio."""


def test_the_example_reads_a_netcdf4_file(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    pytest.importorskip("kerchunk.hdf")
    kept = tmp_path / "kept.json"
    printed = run_benchmark(
        "netcdf_references.py", "--quick", "--rounds", "1", "--json", str(kept), cwd=tmp_path
    )
    assert "every value is what was written" in printed
    rows = re.findall(ROW, printed, re.MULTILINE)
    assert len(rows) == len(set(rows)) == 16
    assert len(json.loads(kept.read_text())["results"]) == 16
