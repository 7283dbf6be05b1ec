"""What a GPU machine is given to test: all that is marked for it, and what it can import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.gpu import FILES, MARKED

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_check.sh"

WITHOUT = "import sys; sys.modules.update(dict.fromkeys({}))"
"""A plugin that hides packages."""

ABSENT = {
    *("dask", "distributed", "xarray", "pandas", "rich", "tensorstore", "pyarrow", "h5py"),
    *("kerchunk", "icechunk", "virtualizarr", "aiohttp", "matplotlib", "PIL", "torch"),
}
"""Of what tests use, what `gpu_check.sh wheels` does not bring along."""


def test_it_is_given_every_test_that_is_marked_for_it(request: pytest.FixtureRequest) -> None:
    assert request.config.stash[MARKED] <= set(FILES)
    assert all((ROOT / file).exists() for file in FILES)


def test_it_can_import_them(tmp_path: Path) -> None:
    brought = SCRIPT.read_text().split("more_packages=(")[0].split("packages=(")[1]
    assert not ABSENT & set(brought.split())
    (tmp_path / "without.py").write_text(WITHOUT.format(ABSENT))
    choices = [
        "-q",
        "-n0",
        "-m",
        "gpu",
        "--collect-only",
        "-p",
        "without",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *choices, *FILES],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            "GPUZARR_REQUIRE_GPU": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for file in FILES:
        assert file in done.stdout
