"""The example of a weather data set runs from end to end; it checks its own means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.benchmark_scripts import run_benchmark

if TYPE_CHECKING:
    from pathlib import Path

ROW = r"^\| (\d+) +\| +([\d.]+) \| +[\d.]+ \| +[\d.]+ \|$"
"""Month, temperature, wind, rain."""


def test_the_example_reduces_a_year_to_months(tmp_path: Path) -> None:
    printed = run_benchmark("weather_reduction.py", "--quick", cwd=tmp_path)
    rows = re.findall(ROW, printed, re.MULTILINE)
    assert [int(month) for month, _ in rows] == [*range(1, 13)]
    temperatures = [float(kelvins) for _, kelvins in rows]
    assert temperatures.index(max(temperatures)) == 6  # of July, as the seasons are drawn
