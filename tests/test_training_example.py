"""The training example runs from end to end, and learns.

It is skipped only where PyTorch is missing, and with GPUZARR_REQUIRE_TORCH=1 not even there.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.benchmark_scripts import run_benchmark

ROOT = Path(__file__).parents[1]
EPOCH = r"^loss (\d\.\d+), epoch \d: 20 of 20 batches, .* waited (\d+)% of .* s$"


@pytest.mark.skipif(
    find_spec("torch") is None and os.environ.get("GPUZARR_REQUIRE_TORCH") != "1",
    reason="PyTorch is not installed",
)
def test_the_example_learns(tmp_path: Path) -> None:
    printed = run_benchmark("train_crops.py", "--quick", cwd=tmp_path)
    epochs = re.findall(EPOCH, printed, re.MULTILINE)
    losses = [float(loss) for loss, _ in epochs]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
    assert f"learned: the loss went from {losses[0]:.3f} to {losses[-1]:.3f}" in printed


def test_the_readme_shows_the_script() -> None:
    script = (ROOT / "benchmarks" / "train_crops.py").read_text()
    section = (ROOT / "README.md").read_text().partition("### A training loop")[2]
    block = section.partition("```python\n")[2].partition("```")[0]
    assert block
    shown = {line.strip() for line in block.splitlines()}
    assert shown - {line.strip() for line in script.splitlines()} == {"..."}
