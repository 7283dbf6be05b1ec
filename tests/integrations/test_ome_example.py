"""The example of a region of a pyramid runs from end to end; it checks its own pixels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.benchmark_scripts import run_benchmark

if TYPE_CHECKING:
    from pathlib import Path

ROWS = (
    r"^\| overview \| +2 µm \| +3 \| +\(2, 64, 64\) \| +2 of 2 \|$",
    r"^\| region   \| +0\.25 µm \| +0 \| +\(2, 77, 77\) \| +8 of 32 \|$",
)


def test_the_example_reads_each_from_the_level_that_is_fine_enough(tmp_path: Path) -> None:
    printed = run_benchmark("ome_region.py", "--quick", cwd=tmp_path)
    for row in ROWS:
        assert re.search(row, printed, re.MULTILINE), printed
