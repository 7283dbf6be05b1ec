"""Zarr arrays as dask arrays on a cluster of processes."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from tests.integrations.steps import write_steps
from tests.loader.programs import run_program

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = """
import json
import dask
from pathlib import Path
from distributed import Client, LocalCluster
from gpuzarr.integrations.dask import from_gpuzarr
from tests.integrations.steps import LoggedStore
folder = Path(FOLDER)
lazy = from_gpuzarr(LoggedStore(folder / "array", folder / "log"))
cluster = LocalCluster(
    n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
    local_directory=str(folder),
)
with cluster, Client(cluster) as client:
    total, mean = dask.compute(lazy.sum(dtype="f8"), lazy.mean(dtype="f8"))
    workers = list(client.run(os.getpid).values())
print(json.dumps({"nbytes": lazy.nbytes, "sum": total, "mean": mean, "workers": workers}))
"""


def test_a_cluster_reduces_two_gigabytes_and_reads_no_chunk_twice(tmp_path: Path) -> None:
    (tmp_path / "array").mkdir()
    total = write_steps(tmp_path / "array", 64)
    done = run_program(CLUSTER.replace("FOLDER", repr(str(tmp_path))))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["nbytes"] == 2 << 30
    assert (found["sum"], found["mean"]) == (total, total / (found["nbytes"] // 4))
    log = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    readers = {int(process) for process, what in log if what.startswith("c/")}
    assert readers == set(found["workers"])
    assert len(readers) == 2
    reads = sorted(what for _, what in log if what.startswith("c/"))
    assert reads == sorted(f"c/{number}/0" for number in range(64))
    opened = Counter(int(process) for process, what in log if what == "unpickled")
    # Not for each of 64 tasks; twice where dask moves a task to another worker.
    assert all(1 <= opened[process] <= 2 for process in readers)
