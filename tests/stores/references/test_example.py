"""The example of a NetCDF4 file runs from end to end; it checks its own values."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROW = r"^\| (\w+, [\w ]+?) +\| +[\d.]+ \| +[\d.]+ \|$"
"""Variable and selection, milliseconds, ratio."""


def test_the_example_reads_a_netcdf4_file(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    pytest.importorskip("kerchunk.hdf")
    kept = tmp_path / "kept.json"
    script = str(ROOT / "benchmarks" / "netcdf_references.py")
    done = subprocess.run(
        [sys.executable, script, "--quick", "--rounds", "1", "--json", str(kept)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "every value is what was written" in done.stdout
    rows = re.findall(ROW, done.stdout, re.MULTILINE)
    assert len(rows) == len(set(rows)) == 16
    assert len(json.loads(kept.read_text())["results"]) == 16
