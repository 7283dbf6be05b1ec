"""The GPU's benchmark runs from end to end, on the fake device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.benchmark_scripts import run_benchmark

if TYPE_CHECKING:
    from pathlib import Path

ROWS = {"ceilings": 3, "decompression": 9, "checksums": 4, "reads": 7}


def run(target: Path, *arguments: str) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """What is kept, and what is printed."""
    printed = run_benchmark("gpu.py", "--fake", "--json", str(target), *arguments)
    return json.loads(target.read_text()), printed


def test_every_row_has_its_numbers(tmp_path: Path) -> None:
    found, printed = run(tmp_path / "bench.json")
    assert {section: len(rows) for section, rows in found.items() if section != "machine"} == ROWS
    for section in ROWS:
        for row in found[section]:
            assert "error" not in row
            assert row["GB/s"] > 0
            assert f"| {row['name']} " in printed
    for row in found["reads"]:
        assert row["launches"] > 0
        assert row["copies"] == 3, "bytes and table go up, statuses come down"
        assert row["beyond the result, MiB"] > row["stored / decoded"]
        assert row["engine"] == "cuda"


def test_rows_that_time_does_not_allow_are_left_out(tmp_path: Path) -> None:
    found, printed = run(tmp_path / "bench.json", "--seconds", "0")
    assert {row["error"] for section in ROWS for row in found[section]} == {"left out: no time"}
    assert printed.count("left out: no time") == sum(ROWS.values())
