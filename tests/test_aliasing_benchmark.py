"""`benchmarks/aliasing.py` runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.benchmark_scripts import run_benchmark

if TYPE_CHECKING:
    from pathlib import Path


def test_every_place_has_its_number(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    printed = run_benchmark("aliasing.py", "--rounds", "1", "--json", str(target))
    results = json.loads(target.read_text())["results"]
    assert {row["way"] for row in results} == {"preadv", "stores"}
    assert {0, 16, 31, 32} < {row["place"] for row in results}
    assert all(f"{row['gb_per_s']:.1f}" in printed for row in results)
