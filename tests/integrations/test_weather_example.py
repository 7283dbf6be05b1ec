"""The example of a weather data set runs from end to end; it checks its own means."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = r"^\| (\d+) +\| +([\d.]+) \| +[\d.]+ \| +[\d.]+ \|$"
"""Month, temperature, wind, rain."""


def test_the_example_reduces_a_year_to_months(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "weather_reduction.py"), "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(ROW, done.stdout, re.MULTILINE)
    assert [int(month) for month, _ in rows] == [*range(1, 13)]
    temperatures = [float(kelvins) for _, kelvins in rows]
    assert temperatures.index(max(temperatures)) == 6  # of July, as the seasons are drawn
