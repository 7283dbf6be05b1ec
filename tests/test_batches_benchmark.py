"""The benchmark of batches of crops runs from end to end, on a small array."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ["gpuzarr read_batch", "gpuzarr loop", "gpuzarr loop, threads"]
PEERS = {
    "zarrs loop": "zarrs",
    "zarrs loop, threads": "zarrs",
    "zarr-python loop": "zarr",
    "tensorstore Batch": "tensorstore",
    "tensorstore stack": "tensorstore",
}
CASES = ["sharded-64", "blosc-64"]
ROUNDS = 2


def test_every_reader_has_its_numbers(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="it writes the arrays")
    target = tmp_path / "batches.json"
    script = str(ROOT / "benchmarks" / "batches.py")
    options = ["--quick", "--rounds", str(ROUNDS), "--cases", *CASES, "--json", str(target)]
    done = subprocess.run(
        [sys.executable, script, *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())
    readers = OURS + [reader for reader, package in PEERS.items() if find_spec(package) is not None]
    rows = [(row["case"], row["reader"]) for row in found["results"]]
    assert rows == [(case, reader) for case in CASES for reader in readers]
    for row in found["results"]:
        assert len(row["seconds"]) == ROUNDS
        assert 0 < row["least"] <= row["ratio"] <= row["most"]
        assert 0.1 < row["stored / decoded"] < 1
        assert any(
            line.startswith(f"| {row['case']} ") and f" {row['reader']} |" in line
            for line in done.stdout.splitlines()
        )
    assert {row["ratio"] for row in found["results"] if row["reader"] == OURS[0]} == {1.0}
    assert found["peers"].keys() >= {"zarr"}
    assert found["conditions"]["commit"]
