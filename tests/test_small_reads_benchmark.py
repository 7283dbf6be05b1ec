"""`benchmarks/small_reads.py` runs, and compares what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.benchmark_scripts import run_benchmark

if TYPE_CHECKING:
    from pathlib import Path


def test_every_way_has_its_numbers(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    printed = run_benchmark("small_reads.py", "--rounds", "2", "--json", str(target))
    results = json.loads(target.read_text())["results"]
    assert [(row["chunks"], row["way"]) for row in results] == [
        (count, way)
        for count in (1, 8, 64)
        for way in ("one copy", "CPU engine", "columns, host", "columns, device")
    ]
    for row in results:
        assert row["ms"] > 0
        assert (row["ratio"] == 1.0) == (row["way"] == "one copy")
        assert f"{row['ms']:.2f}" in printed
