"""The example of a region of a pyramid runs from end to end; it checks its own pixels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = (
    r"^\| overview \| +2 µm \| +3 \| +\(2, 64, 64\) \| +2 of 2 \|$",
    r"^\| region   \| +0\.25 µm \| +0 \| +\(2, 77, 77\) \| +8 of 32 \|$",
)


def test_the_example_reads_each_from_the_level_that_is_fine_enough(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "ome_region.py"), "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for row in ROWS:
        assert re.search(row, done.stdout, re.MULTILINE), done.stdout
