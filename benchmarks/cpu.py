"""Every reader on ten workloads that science has, on the CPU: who is faster, and by how much.

The workloads are in `cpu_workloads.py`, the readers in `cpu_readers.py`. Each reader has a process
of its own that stays for a workload. In each round every one reads once, in an order that moves on
from round to round. Its first read is not timed: the result is compared with the data, and wrong
data stop the benchmark. Results are new arrays, as users get them.

The ratio is a reader's time over gpuzarr's: the median of the ratios of each round. Above 1,
gpuzarr is faster. `limit` is reading and decoding alone (`cpu_limit.py`). The page cache is warm;
`--cold` adds reads that find nothing in it. Memory is the peak of a full read beyond its result,
each in a process of its own. Needs Linux and zarr-python, which writes the arrays; peers that are
not installed do not take part.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cpu_plot import plot
from cpu_processes import (
    ReaderProcess,
    drop_cached,
    newer_zarr,
    share_cached,
    takes_part,
    versions_of,
)
from cpu_readers import BY_NAME, READERS
from cpu_results import MEMORY, markdown, summary, update
from cpu_workloads import CROPS, FULL, OPERATIONS, WORKLOADS
from report import conditions, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cpu_readers import Reader
    from cpu_workloads import Workload

    Row = dict[str, Any]
    Result = dict[str, Any]

COLD = (FULL, CROPS)
"""Operations that are also timed with an empty page cache."""
FEW_ROUNDS = 3
"""Of a reader whose first read took longer than `--most-seconds`."""
QUICK = 8
"""`--quick` divides the arrays' lengths and the number of crops by this."""
README = Path(__file__).with_name("README.md")


@dataclass(frozen=True)
class Peer:
    """A reader, and the interpreter that runs it."""

    reader: Reader
    python: str
    label: str


def peers_of(names: Sequence[str], zarr34: str | None) -> tuple[list[Peer], dict[str, Any]]:
    """The readers that can run, and the versions of everything in their environments."""
    here = versions_of(sys.executable)
    there = here if zarr34 is None else versions_of(zarr34)
    peers = []
    for reader in READERS:
        versions = there if reader.zarr34 else here
        twice = reader.name == "zarr34" and zarr34 is None and newer_zarr(here)
        if reader.name not in names or twice or not takes_part(reader.name, versions):
            continue
        zarr = ".".join(versions.get("zarr", "").split(".")[:2])
        python = zarr34 or sys.executable if reader.zarr34 else sys.executable
        peers.append(Peer(reader, python, reader.label.format(zarr=zarr)))
    return peers, {"readers": here, "zarr 3.4": there}


@dataclass(frozen=True)
class Measurement:
    """How a workload is measured."""

    workload: Workload
    folder: Path
    peers: Sequence[Peer]
    rounds: int
    most_seconds: float

    def times(self, operations: Sequence[str], cold: Sequence[str]) -> Iterator[list[Row]]:
        """Let every reader do each operation in turn; the rows of each operation."""
        with ExitStack() as stack:
            processes = [
                stack.enter_context(ReaderProcess(peer.reader, peer.python, self.folder))
                for peer in self.peers
            ]
            for operation in operations:
                yield self._operation(processes, operation, [])
            files = [path for path in (self.folder / "array.zarr").rglob("*") if path.is_file()]
            for operation in cold:
                os.sync()
                drop_cached(files)
                kept = share_cached(files)
                yield [
                    {**row, "cached": kept} for row in self._operation(processes, operation, files)
                ]

    def memory(self) -> list[Row]:
        """Let each reader that can read the array whole, in a new process."""
        key = self.workload.keys(FULL)[0]
        rows = []
        for peer in self.peers:
            if peer.reader.name == "limit" or FULL not in peer.reader.operations:
                continue
            with ReaderProcess(peer.reader, peer.python, self.folder) as process:
                rows.append({**self._row(peer, MEMORY), **process.memory(key)})
        return rows

    def _row(self, peer: Peer, operation: str) -> Row:
        return {"workload": self.workload.name, "operation": operation, "reader": peer.label}

    def _operation(
        self, processes: Sequence[ReaderProcess], operation: str, drop: Sequence[Path]
    ) -> list[Row]:
        """Rounds of an operation; files to drop from the page cache before each read, if any."""
        keys, cold = self.workload.keys(operation), bool(drop)
        rows, taking = [], []
        for peer, process in zip(self.peers, processes, strict=True):
            if operation not in peer.reader.operations:
                continue
            begun = process.begin(operation, keys, cold=cold)
            row: Row = {**self._row(peer, operation), "cold": cold, **begun}
            rows.append(row)
            if "refuses" not in row:
                row["seconds"] = []
                slow = row["warm-up"] > self.most_seconds
                taking.append((process, row, FEW_ROUNDS if slow else self.rounds))
        for number in range(self.rounds):
            for turn in range(len(taking)):
                process, row, rounds = taking[(number + turn) % len(taking)]
                if number < rounds:
                    drop_cached(drop)
                    row["seconds"].append(process.seconds())
        summarize(rows)
        return rows


def summarize(rows: Sequence[Row]) -> None:
    """Add medians and ratios to the rows of an operation, the first of which is gpuzarr's."""
    for row in rows:
        if "refuses" not in row:
            pairs = zip(row["seconds"], rows[0]["seconds"], strict=False)  # slow ones have fewer
            ratios = [mine / gpuzarrs for mine, gpuzarrs in pairs]
            row |= {
                "median": statistics.median(row["seconds"]),
                "ratio": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
        elif row is rows[0]:
            raise AssertionError(f"gpuzarr cannot read {row['workload']}: {row['refuses']}")


def measure(options: argparse.Namespace) -> Result:
    """Measure what is asked for; what is known is written after each workload."""
    peers, versions = peers_of(options.readers, options.zarr34)
    result: Result = {
        "conditions": conditions(),
        "versions": versions,
        "date": datetime.now(UTC).date().isoformat(),
        "rounds": options.rounds,
        "quick": options.quick,
        "readers": [peer.label for peer in peers],
        "workloads": {},
        "results": [],
    }
    rows: list[Row] = result["results"]
    for full_size in WORKLOADS:
        if full_size.name not in options.workloads:
            continue
        workload = full_size.shrunk(QUICK) if options.quick else full_size
        folder = options.folder / ("quick" if options.quick else "") / workload.name
        workload.write(folder)
        files = (folder / "array.zarr").rglob("*")
        stored = sum(path.stat().st_size for path in files if path.is_file())
        decoded = prod(workload.shape) * np.dtype(workload.dtype).itemsize
        about = {"what": workload.what, "decoded": decoded, "stored": stored}
        result["workloads"][workload.name] = about
        measurement = Measurement(workload, folder, peers, options.rounds, options.most_seconds)
        timed = [operation for operation in OPERATIONS if operation in options.operations]
        cold = [operation for operation in COLD if options.cold and operation in timed]
        for found in measurement.times(timed, cold):
            rows += found
            print(summary(found), file=sys.stderr, flush=True)
        if MEMORY in options.operations:
            rows += measurement.memory()
        write_json(options.json, result)
    return result


def main() -> None:
    """Measure, print, and keep."""
    names = [workload.name for workload in WORKLOADS]
    operations = [*OPERATIONS, MEMORY]
    readers = list(BY_NAME)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, metavar="DIR", help="for the arrays; used again")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--workloads", nargs="+", choices=names, default=names, metavar="W")
    parser.add_argument("--operations", nargs="+", choices=operations, default=operations)
    parser.add_argument("--readers", nargs="+", choices=readers, default=readers)
    parser.add_argument("--cold", action="store_true", help="also with an empty page cache")
    parser.add_argument(
        "--zarr34", metavar="PYTHON", help="an interpreter that has zarr-python >= 3.4"
    )
    parser.add_argument(
        "--most-seconds",
        type=float,
        default=20,
        metavar="S",
        help=f"readers whose first read takes longer have {FEW_ROUNDS} rounds",
    )
    parser.add_argument("--quick", action="store_true", help="small arrays: to see that it runs")
    parser.add_argument("--json", metavar="FILE", help="also write the result to this file")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="show an earlier result")
    parser.add_argument("--update", action="store_true", help="write tables and plot into README")
    parser.add_argument("--readme", type=Path, default=README, metavar="FILE", help="another")
    options = parser.parse_args()
    options.readers.append("gpuzarr")  # the others' times are relative to its
    if options.from_json is not None:
        result = json.loads(options.from_json.read_text(encoding="utf-8"))
    elif options.folder is None:
        parser.error("--folder is needed")
    else:
        result = measure(options)
    text = markdown(result)
    print(text)
    if options.update:
        update(options.readme, text, plot(result))


if __name__ == "__main__":
    main()
