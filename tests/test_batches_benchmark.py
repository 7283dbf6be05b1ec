"""The benchmark of batches of crops runs from end to end, on a small array."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.benchmark_scripts import run_benchmark

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.long
def test_every_reader_has_its_numbers(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="it writes the arrays")
    target = tmp_path / "batches.json"
    options = ["--quick", "--rounds", str(ROUNDS), "--cases", *CASES, "--json", str(target)]
    printed = run_benchmark("batches.py", *options)
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
            for line in printed.splitlines()
        )
    assert {row["ratio"] for row in found["results"] if row["reader"] == OURS[0]} == {1.0}
    assert found["peers"].keys() >= {"zarr"}
    assert found["conditions"]["commit"]
