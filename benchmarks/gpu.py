"""Reads on a GPU beside every peer, with the ceilings of the machine: rows (a) to (h), and more.

    ceilings        reads into pinned memory, copies to the device and inside it
    a ... h         what `gpu_workloads.py` says, by every reader of `gpu_readers.py`, in turn
    s               small requests: one crop of 64^3, and 1, 16 and 256 chunks
    kernels         each kernel of `kernels/` alone
    decompression   nvCOMP alone by the size of its streams
    checksums       CRC-32C on the host and on the device

Names of these as arguments choose some. Needs the checkout on PYTHONPATH, as `gpu_check.sh` has it.
Results are kept row by row; with `--before` a run goes on where an earlier one ended. `--describe`
writes only what the machine is; `--fake` rehearses in the host's memory, and its times mean
nothing. `gpu_report.py` makes the documents.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_bench import LostDeviceError, open_bench
from gpu_ceilings import ceilings, checksums, decompression, measured
from gpu_kernels import kernels
from gpu_machine import describe
from gpu_results import NO_TIME, Results
from gpu_rows import rows_of
from gpu_tables import markdown
from gpu_workloads import ROWS, SMALL
from report import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_bench import Bench
    from gpu_workloads import Workload

LETTERS = sorted({workload.name[0] for workload in ROWS})
LOST = 140
"""The exit status where the device was lost: a new process can go on."""
SECTIONS = ["ceilings", *LETTERS, "s", "kernels", "decompression", "checksums"]


def measure_rows(
    bench: Bench, section: str, workload: Workload, folder: Path, results: Results
) -> None:
    """All reads of a workload, into a section; what fails, fails for those that were not done."""
    left = [name for name in workload.names() if not results.known(section, name)]
    if not left:
        return
    problem = NO_TIME
    if results.in_time():
        begin = time.monotonic()
        try:
            limits = measured(results.kept["ceilings"])
            for name, row in rows_of(bench, workload, left, limits, folder, results):
                took = round(time.monotonic() - begin, 1)
                results.put(section, {"name": name, **row, "took, s": took})
        except Exception as error:  # noqa: BLE001  the rows behind it are still worth having
            problem = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
            results.failed = True
    for name in left:
        if not results.known(section, name):
            results.put(section, {"name": name, "what": workload.what, "error": problem})


def measure(bench: Bench, wanted: Sequence[str], folder: Path, results: Results) -> None:
    """Every section that is wanted, the most important first; ceilings are always known.

    Raises:
        LostDeviceError: nothing more can be measured in this process.
    """
    for name, run in ceilings(bench, folder):
        results.add("ceilings", name, run)
        if results.failed:
            bench.require_device()
    for section, workloads in (("rows", ROWS), ("small", (SMALL,))):
        for each in workloads:
            if each.name[0] in wanted:
                workload = each.shrunk() if bench.size.small else each
                measure_rows(bench, section, workload, folder, results)
    for section, measures in (
        ("kernels", kernels(bench)),
        ("decompression", decompression(bench)),
        ("checksums", checksums(bench)),
    ):
        if section in wanted:
            for name, run in measures:
                results.add(section, name, run)
                if results.failed:
                    bench.require_device()
            bench.give_back()


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], metavar="SECTION")
    parser.add_argument("--describe", action="store_true", help="say what the machine is, and end")
    parser.add_argument("--fake", action="store_true", help="small arrays, on the fake device")
    parser.add_argument("--seconds", type=float, default=400, help="begin nothing new after them")
    parser.add_argument("--folder", type=Path, help="for the arrays; default: a temporary one")
    parser.add_argument("--json", metavar="FILE", help="where results are kept")
    parser.add_argument("--before", type=Path, metavar="FILE", help="results to go on from")
    options = parser.parse_args()
    machine: dict[str, Any] = describe()
    if options.describe:
        write_json(options.json, machine)
        print("\n".join(f"{name}: {value}" for name, value in machine.items()))
        return
    results = Results(options.json, options.seconds, {"machine": {**machine, "fake": options.fake}})
    if options.before is not None:
        results.go_on(options.before)
    bench = open_bench(fake=options.fake)
    results.kept["machine"]["device"] = f"{bench.device.name}, {bench.device.decompressor.version}"
    results.keep()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    stopped: str | int = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        try:
            measure(bench, options.sections or SECTIONS, Path(folder), results)
        except KeyboardInterrupt:
            stopped = "interrupted"
        except LostDeviceError as error:
            print(f"the device is lost: {error}", file=sys.stderr)
            stopped = LOST
    print(markdown(results.kept))
    left = results.left_out()
    print(f"\n{f'{left} rows left out: run it again' if left else 'nothing left out'}")
    if stopped or results.failed:
        raise SystemExit(stopped or "some rows failed")


if __name__ == "__main__":
    main()
