"""zarr-python's codec pipelines on the workloads of `cpu.py`: gpuzarr's, its own, and zarrs'.

One process opens each array once for every pipeline. In each round every pipeline does the
operation once, in an order that moves on from round to round. The first round is not timed: its
results are compared with the data. What a pipeline refuses is marked so, and takes no part in the
geometric means. The ratio is a pipeline's time over that of gpuzarr's, the median of the rounds:
above 1, gpuzarr is faster. The page cache is warm. Needs zarr-python; with 3.4 its second pipeline
takes part, and zarrs where it is installed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from cpu_workloads import CROPS, FULL, POINTS, ROWS, WORKLOADS
from report import conditions, print_table, write_json

import gpuzarr.integrations.zarr  # noqa: F401  makes the pipeline known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpu_workloads import Workload

OURS = "gpuzarr"
PIPELINES = {
    OURS: "gpuzarr.integrations.zarr.GpuzarrCodecPipeline",
    "zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarr, fused": "zarr.core.codec_pipeline.FusedCodecPipeline",
    "zarrs": "zarrs.ZarrsCodecPipeline",
}
OPERATIONS = (FULL, CROPS, ROWS, POINTS)
QUICK = 8
"""`--quick` divides the arrays' lengths and the number of crops by this."""


def pipelines() -> dict[str, str]:
    """Those that there are here, by the name that tables give them."""
    found = dict(PIPELINES)
    if find_spec("zarrs") is None:
        del found["zarrs"]
    if not hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
        del found["zarr, fused"]
    return found


def read(array: Any, keys: Sequence[Any]) -> list[Any]:
    """All selections, one after another."""
    return [array[key] for key in keys]


def measure(workload: Workload, folder: Path, operation: str, rounds: int) -> dict[str, Any]:
    """Times of each pipeline in seconds, a list; or why it refuses, a text."""
    truth, keys = np.load(folder / "truth.npy", mmap_mode="r"), workload.keys(operation)
    arrays: dict[str, Any] = {}
    times: dict[str, Any] = {}
    for name, path in pipelines().items():
        # Strict: nobody is measured by what another reads for it.
        with zarr.config.set({"codec_pipeline.path": path, "codec_pipeline.strict": True}):
            try:
                array = zarr.open_array(folder / "array.zarr", mode="r")
                found = read(array, keys)
            except Exception as error:  # noqa: BLE001  every pipeline has errors of its own
                times[name] = f"{type(error).__name__}: {error}"
                continue
        for key, values in zip(keys, found, strict=True):
            if not np.array_equal(values, truth[key]):
                raise AssertionError(f"{name} reads {workload.name}{key} wrong")
        arrays[name], times[name] = array, []
    names = list(arrays)
    for number in range(rounds):
        for turn in range(len(names)):
            name = names[(number + turn) % len(names)]
            began = time.perf_counter()
            read(arrays[name], keys)
            times[name].append(time.perf_counter() - began)
    return times


def ratios(times: dict[str, Any]) -> dict[str, float]:
    """Of each pipeline that read: its time over gpuzarr's, the median of the rounds."""
    return {
        name: statistics.median(
            theirs / ours for theirs, ours in zip(seconds, times[OURS], strict=True)
        )
        for name, seconds in times.items()
        if not isinstance(seconds, str)
    }


def row(what: str, found: dict[str, float], milliseconds: str = "") -> list[str]:
    """A row of the table."""
    cells = [f"{found[name]:.2f}" if name in found else "refuses" for name in pipelines()]
    return [what, milliseconds, *cells[1:]]


def rows_of(
    operation: str, workloads: Sequence[Workload], folder: Path, rounds: int
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Measure an operation on all workloads; the rows of the table, and what is kept."""
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    all_ratios: list[dict[str, float]] = []
    for workload in workloads:
        workload.write(folder / workload.name)
        times = measure(workload, folder / workload.name, operation, rounds)
        results.append({"workload": workload.name, "operation": operation, "seconds": times})
        all_ratios.append(ratios(times))
        milliseconds = f"{1e3 * statistics.median(times[OURS]):.1f}"
        rows.append(row(f"{workload.name} {operation}", all_ratios[-1], milliseconds))
        print(*rows[-1], file=sys.stderr, flush=True)
    read = {name for found in all_ratios for name in found}
    means = {
        name: statistics.geometric_mean(found[name] for found in all_ratios if name in found)
        for name in read
    }
    return [*rows, row(f"geometric mean, {operation}", means)], results


def main() -> None:
    """Measure, and print."""
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="for the arrays; used again")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--workloads", nargs="+", choices=names, default=names, metavar="W")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=OPERATIONS[:2])
    parser.add_argument("--quick", action="store_true", help="small arrays: to see that it runs")
    parser.add_argument("--json", metavar="FILE", help="also write the result to this file")
    options = parser.parse_args()
    workloads = [workload for workload in WORKLOADS if workload.name in options.workloads]
    if options.quick:
        options.folder /= "quick"
        workloads = [workload.shrunk(QUICK) for workload in workloads]
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    for operation in options.operations:
        more, kept = rows_of(operation, workloads, options.folder, options.rounds)
        rows += more
        results += kept
    print_table(("", f"{OURS}, ms", *list(pipelines())[1:]), rows)
    versions = {name: version(name) for name in ("zarr", "zarrs") if find_spec(name) is not None}
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    found = {"conditions": conditions(), "versions": versions, "rounds": options.rounds}
    write_json(options.json, {**found, "results": results})


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # zarrs tells of each array that it does not read
    main()
