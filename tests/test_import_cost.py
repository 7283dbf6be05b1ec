"""`import gpuzarr` is cheap, and loads nothing that the user may not have."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

MOST_SECONDS = 0.25
"""Beyond what importing NumPy takes..."""
MOST_NUMPYS = 3
"""...or so many times that, on a machine that is slow at the moment."""

FORBIDDEN = {"cupy", "kvikio", "nvidia", "zarr", "xarray", "torch", "dask"}

PROGRAM = """
import json, sys, time
numpy_cpu = time.thread_time()
import numpy
cpu, wall = time.thread_time(), time.perf_counter()
numpy_cpu = cpu - numpy_cpu
import gpuzarr
cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
found = {"cpu": cpu, "wall": wall, "numpy_cpu": numpy_cpu, "modules": sorted(sys.modules)}
json.dump(found, sys.stdout)
"""


class Run(NamedTuple):
    """What one import took, in seconds, and what was loaded after it."""

    cpu: float
    wall: float
    numpy_cpu: float
    modules: list[str]


def import_gpuzarr(cache: Path) -> Run:
    """Import NumPy, then gpuzarr, in a new process."""
    # A bytecode cache of its own: the checkout may be read-only, or the user's environment may
    # forbid the cache, and then every process would compile every module.
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(cache), "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return Run(**json.loads(done.stdout))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    cache = tmp_path_factory.mktemp("bytecode")
    import_gpuzarr(cache)  # compiles, and brings the files into memory
    return [import_gpuzarr(cache) for _ in range(7)]


def test_time(runs: list[Run]) -> None:
    # The other tests run beside this one. The time that the importing thread itself worked does not
    # count their work; of the wall clock, the quietest run is the one that was disturbed least.
    cpu = statistics.median(run.cpu for run in runs)
    wall = min(run.wall for run in runs)
    most = max(MOST_SECONDS, MOST_NUMPYS * statistics.median(run.numpy_cpu for run in runs))
    assert cpu < most
    assert wall < most


def test_nothing_optional_is_loaded(runs: list[Run]) -> None:
    modules = runs[0].modules
    assert "gpuzarr" in modules
    assert not {name.partition(".")[0] for name in modules} & FORBIDDEN
