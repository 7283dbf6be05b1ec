"""The benchmark of reads over a network runs from end to end, on a small array."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OBSTORE = ["gpuzarr", "zarr-python, obstore", "zarr-python, obstore, 64 at a time"]
FSSPEC = ["zarr-python, fsspec", "zarr-python, fsspec, 64 at a time"]
CASES = {"objects": 16 + 1, "shards": 2 + 1, "every other chunk of shards": 2 + 1}
"""With the least requests that each takes."""


def test_every_reader_has_its_numbers(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="it writes the arrays")
    pytest.importorskip("obstore")
    target = tmp_path / "remote.json"
    script = str(ROOT / "benchmarks" / "remote.py")
    done = subprocess.run(
        [sys.executable, script, "--quick", "--rounds", "1", "--json", str(target)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())
    readers = OBSTORE + (FSSPEC if find_spec("aiohttp") is not None else [])
    rows = [(row["case"], row["reader"]) for row in found["results"]]
    assert rows == [(case, reader) for case in CASES for reader in readers]
    for row in found["results"]:
        assert row["ratio"] > 0
        assert 0 < row["share"] < 1.5
        assert row["requests"] >= CASES[row["case"]]
        assert f"| {row['case']} " in done.stdout
