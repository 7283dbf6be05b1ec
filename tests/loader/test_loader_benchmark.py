"""The loader's benchmark runs from end to end, on small arrays."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.benchmark_scripts import run_benchmark

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROUNDS, SIZE = 1, 2
OPTIONS = ("--rounds", str(ROUNDS), "--batches", "5", "--sizes", str(SIZE), "--work", "sleeps")


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="it asks Linux for peaks of memory")
def test_every_question_has_its_numbers(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="it writes the arrays")
    target = tmp_path / "loader.json"
    printed = run_benchmark("loader.py", "--quick", "--json", str(target), *OPTIONS)
    found = json.loads(target.read_text())
    assert found["conditions"]["commit"]
    check_speed(found["speed"])
    check_memory(found["memory"], found["limit"])
    check_locality(found["locality"])
    names = [f"{row['windows']}, {row['order']}" for row in found["speed"] + found["locality"]]
    names += [f"{row['array']}, {row['order']}" for row in found["memory"]]
    for name in names:
        assert f"| {name} " in printed


def check_speed(rows: Sequence[dict[str, Any]]) -> None:
    assert {row["windows"] for row in rows} == {"crops, chunks", "crops, shards"}
    assert len({(row["windows"], row["order"]) for row in rows}) == len(rows) == 4
    for row in rows:
        assert row["batch size"] == SIZE
        assert row["ms"]["reader"] > 0
        assert row["ms"]["loader"] > 5 < row["ms"]["consumer"]
        assert 0 < row["least"] <= row["efficiency"] <= row["most"]
        assert 0 < row["perfect"] <= 1


def check_memory(rows: Sequence[dict[str, Any]], limit: int) -> None:
    assert len({(row["array"], row["order"], row["kind"]) for row in rows}) == len(rows) == 8
    for row in rows:
        assert 0 < row["first"] <= row["last"] <= row["first"] + limit
        assert row["many"] == 10 * row["few"]


def check_locality(rows: Sequence[dict[str, Any]]) -> None:
    assert len({(row["windows"], row["order"]) for row in rows}) == len(rows) == 15
    for row in rows:
        assert row["MB/s"] > 0
        assert 0 < row["least"] <= row["gain"] <= row["most"]
    for number in range(0, len(rows), 5):
        shuffled, _, local, *_ = rows[number : number + 5]
        assert shuffled["gain"] == 1
        assert local["waste"] < shuffled["waste"]
