"""The training example runs from end to end, and learns.

It is skipped only where PyTorch is missing, and with GPUZARR_REQUIRE_TORCH=1 not even there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EPOCH = r"^loss (\d\.\d+), epoch \d: 20 of 20 batches, .* waited (\d+)% of .* s$"


@pytest.mark.skipif(
    find_spec("torch") is None and os.environ.get("GPUZARR_REQUIRE_TORCH") != "1",
    reason="PyTorch is not installed",
)
def test_the_example_learns(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "train_crops.py"), "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    epochs = re.findall(EPOCH, done.stdout, re.MULTILINE)
    losses = [float(loss) for loss, _ in epochs]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
    assert f"learned: the loss went from {losses[0]:.3f} to {losses[-1]:.3f}" in done.stdout


def test_the_readme_shows_the_script() -> None:
    script = (ROOT / "benchmarks" / "train_crops.py").read_text()
    section = (ROOT / "README.md").read_text().partition("### A training loop")[2]
    block = section.partition("```python\n")[2].partition("```")[0]
    assert block
    shown = {line.strip() for line in block.splitlines()}
    assert shown - {line.strip() for line in script.splitlines()} == {"..."}
