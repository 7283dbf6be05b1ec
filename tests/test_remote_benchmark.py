"""The benchmark of reads over a network runs from end to end, on a small array."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.benchmark_scripts import run_benchmark

if TYPE_CHECKING:
    from pathlib import Path

OBSTORE = ["gpuzarr", "zarr-python, obstore", "zarr-python, obstore, 64 at a time"]
FSSPEC = ["zarr-python, fsspec", "zarr-python, fsspec, 64 at a time"]
CASES = {"objects": 16 + 1, "shards": 2 + 1, "every other chunk of shards": 2 + 1}
"""With the least requests that each takes."""


def test_every_reader_has_its_numbers(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="it writes the arrays")
    pytest.importorskip("obstore")
    target = tmp_path / "remote.json"
    printed = run_benchmark("remote.py", "--quick", "--rounds", "1", "--json", str(target))
    found = json.loads(target.read_text())
    readers = OBSTORE + (FSSPEC if find_spec("aiohttp") is not None else [])
    rows = [(row["case"], row["reader"]) for row in found["results"]]
    assert rows == [(case, reader) for case in CASES for reader in readers]
    for row in found["results"]:
        assert row["ratio"] > 0
        assert 0 < row["share"] < 1.5
        assert row["requests"] >= CASES[row["case"]]
        assert f"| {row['case']} " in printed
