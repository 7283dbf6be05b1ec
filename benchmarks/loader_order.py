"""At scale, by simulation: the order of a loader's epoch for 64 ranks over 10**9 windows.

The array is not there: its order is arithmetic (gpuzarr/loader), and that is all that is measured,
from nothing to the origins of a batch of 32 windows. Four questions:

    ranks       what a rank pays for its first, middle and last batch, and to resume anywhere
    sizes       whether that depends on the number of windows
    coverage    whether all ranks together pass every window once: a bit for each, all of them
                looked at; 10**7 windows, with --full 10**9
    pools       how many cells (stored objects) a pool of `locality` groups touches; over `locality`
                it is how often an epoch decodes each cell

Times are CPU times, but for the coverage, which is told in wall time. Memory is what Python and
NumPy allocate (tracemalloc), measured in a round of its own.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from report import conditions, print_table, write_json

from gpuzarr.loader.order import EpochOrder, Split
from gpuzarr.loader.windows import GridWindows, cell_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SEED, EPOCH, LOCALITY = 7, 3, 16
WORLD_SIZE, BATCH = 64, 32
BLOCK = 1 << 16
"""Positions that are looked at together: their columns stay in the cache."""


@dataclass(frozen=True)
class Case:
    """An array, and windows of it."""

    name: str
    shape: tuple[int, ...]
    crop: tuple[int, ...]
    stored: tuple[int, ...]
    """The shape of its stored objects."""

    @property
    def grid(self) -> GridWindows:
        """The windows, numbered by cells."""
        return GridWindows(self.shape, self.crop, self.crop, cell_of(self.stored, self.crop))

    def order(self, locality: int | None) -> EpochOrder:
        """A shuffled epoch."""
        grid = self.grid
        return EpochOrder(grid.count, SEED, EPOCH, True, grid.group, locality)  # noqa: FBT003


VOLUME = Case("volume, shards of 8 x 8 x 8", (64_000,) * 3, (64,) * 3, (512,) * 3)
POOL_CASES = (
    VOLUME,
    Case("volume, shards of 9 x 9 x 9", (64_000,) * 3, (64,) * 3, (576,) * 3),
    Case("days of maps, 100 a shard", (10**6, 721, 1440), (1, 721, 1440), (100, 721, 1440)),
    Case("days of maps, a chunk each", (10**6, 721, 1440), (1, 721, 1440), (1, 721, 1440)),
)
SIZES = {power: Case(f"10^{power}", (64 * 10**power,), (64,), (512,)) for power in (3, 6, 9, 12)}


class Rank:
    """What a loader keeps of an epoch."""

    def __init__(self, case: Case, locality: int | None, rank: int, world_size: int) -> None:
        self.grid = case.grid
        self.order = case.order(locality)
        self.split = Split(self.grid.count, rank, world_size, "keep")
        self.nbatches = -(-len(self.split) // BATCH)

    def batch(self, number: int) -> NDArray[np.int64]:
        """The origins of a batch."""
        stop = min((number + 1) * BATCH, len(self.split))
        return self.grid.origins(self.order.numbers(self.split.positions(number * BATCH, stop)))


def resume(make: Callable[[], Rank], number: int) -> NDArray[np.int64]:
    """A batch, from nothing."""
    return make().batch(number)


def microseconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    begin = time.process_time_ns()
    work()
    return (time.process_time_ns() - begin) / 1e3


def peak_nbytes(work: Callable[[], object]) -> int:
    """The most memory that a call holds."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


# ------------------------------------------------------------------------------- questions


def measure_ranks(locality: int | None, rounds: int) -> dict[str, Any]:
    """Every rank of a job: begin, draw batches here and there, and begin anew in the middle."""
    random = np.random.default_rng(0)
    work = ("make", "first", "middle", "last", "resume")
    times: dict[str, list[float]] = {name: [] for name in work}
    peaks = []
    for rank in range(WORLD_SIZE):
        make = partial(Rank, VOLUME, locality, rank, WORLD_SIZE)
        mine = make()
        anywhere = int(random.integers(mine.nbatches))
        calls: tuple[Callable[[], object], ...] = (
            make,
            partial(mine.batch, 0),
            partial(mine.batch, mine.nbatches // 2),
            partial(mine.batch, mine.nbatches - 1),
            partial(resume, make, anywhere),
        )
        for name, call in zip(work, calls, strict=True):
            times[name].append(statistics.median(microseconds(call) for _ in range(rounds)))
        peaks.append(peak_nbytes(calls[-1]))
    return {
        "locality": locality,
        "windows": VOLUME.grid.count,
        "ranks": WORLD_SIZE,
        "us": {name: statistics.median(found) for name, found in times.items()},
        "most_us": {name: max(found) for name, found in times.items()},
        "peak_nbytes": max(peaks),
    }


def measure_size(power: int, locality: int | None, rounds: int) -> dict[str, Any]:
    """Full batches anywhere in an epoch of 10**power windows, all of one rank."""
    mine = Rank(SIZES[power], locality, 0, 1)
    full = mine.grid.count // BATCH
    some = np.random.default_rng(power).integers(full, size=rounds * 16).tolist()
    mine.batch(0)
    return {
        "locality": locality,
        "windows": mine.grid.count,
        "us": statistics.median(microseconds(partial(mine.batch, at)) for at in some),
        "peak_nbytes": max(peak_nbytes(partial(mine.batch, at)) for at in some[:16]),
    }


def check_coverage(count: int, locality: int | None, group: int) -> dict[str, Any]:
    """Pass all positions of all ranks, and mark each window that comes.

    As many windows come as there are, so if none is left unmarked, none came twice.
    """
    order = EpochOrder(count, SEED, EPOCH, True, group, locality)  # noqa: FBT003
    marks = np.zeros(-(-count // 8), np.uint8)
    bits = (1 << np.arange(8)).astype(np.uint8)
    passed = 0
    begin = time.perf_counter()
    for rank in range(WORLD_SIZE):
        split = Split(count, rank, WORLD_SIZE, "keep")
        for start in range(0, len(split), BLOCK):
            numbers = order.numbers(split.positions(start, min(start + BLOCK, len(split))))
            if not 0 <= numbers.min() <= numbers.max() < count:
                raise AssertionError(f"rank {rank} has a window that there is not")
            np.bitwise_or.at(marks, numbers >> 3, bits[numbers & 7])
            passed += len(numbers)
    seconds = time.perf_counter() - begin
    marked = sum(
        int(np.unpackbits(marks[at : at + BLOCK]).sum(dtype=np.int64))
        for at in range(0, len(marks), BLOCK)
    )
    if not passed == marked == count:
        raise AssertionError(f"{count} windows: {passed} came, {marked} of them different")
    return {"locality": locality, "windows": count, "marked": marked, "seconds": seconds}


def measure_pools(case: Case, npools: int) -> dict[str, Any]:
    """The cells that pools touch, beside as many windows of an order without locality."""
    grid = case.grid
    cell = np.array(cell_of(case.stored, case.crop), np.int64)
    size = LOCALITY * grid.group
    found: dict[int | None, list[int]] = {LOCALITY: [], None: []}
    for pool in np.random.default_rng(1).integers(grid.count // size, size=npools).tolist():
        positions = np.arange(pool * size, (pool + 1) * size)
        for locality, counts in found.items():
            origins = grid.origins(case.order(locality).numbers(positions))
            counts.append(len(np.unique(origins // cell, axis=0)))
    return {
        "case": case.name,
        "group": grid.group,
        "pool": size,
        "cells": statistics.mean(found[LOCALITY]),
        "most_cells": max(found[LOCALITY]),
        "decoded": statistics.mean(found[LOCALITY]) / LOCALITY,
        "cells_shuffled": statistics.mean(found[None]),
    }


# ---------------------------------------------------------------------------------- tables


def print_results(results: dict[str, list[dict[str, Any]]]) -> None:
    """A table for each question."""
    print_table(
        ("64 ranks, us", "make", "first", "middle", "last", "resume", "most", "peak, KiB"),
        [
            (
                named(found),
                *(f"{taken:.0f}" for taken in found["us"].values()),
                f"{max(found['most_us'].values()):.0f}",
                f"{found['peak_nbytes'] / 1024:.1f}",
            )
            for found in results["ranks"]
        ],
    )
    print()
    print_table(
        ("order", "windows", "us a batch", "peak, KiB"),
        [
            (
                named(found),
                f"{found['windows']:,}",
                f"{found['us']:.0f}",
                f"{found['peak_nbytes'] / 1024:.1f}",
            )
            for found in results["sizes"]
        ],
    )
    print()
    print_table(
        ("order, all ranks", "windows", "came once", "s", "ns a window"),
        [
            (
                named(found),
                f"{found['windows']:,}",
                f"{found['marked']:,}",
                f"{found['seconds']:.1f}",
                f"{1e9 * found['seconds'] / found['windows']:.0f}",
            )
            for found in results["coverage"]
        ],
    )
    print()
    print_table(
        ("pools", "group", "windows", "cells", "most", "cells / locality", "if shuffled whole"),
        [
            (
                found["case"],
                f"{found['group']:,}",
                f"{found['pool']:,}",
                f"{found['cells']:.1f}",
                f"{found['most_cells']:,}",
                f"{found['decoded']:.2f}",
                f"{found['cells_shuffled']:,.0f}",
            )
            for found in results["pools"]
        ],
    )


def named(found: dict[str, Any]) -> str:
    """The order, for the first column."""
    return "shuffled" if found["locality"] is None else f"locality {found['locality']}"


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds of each batch")
    parser.add_argument("--pools", type=int, default=50, help="pools that are looked at")
    parser.add_argument("--full", action="store_true", help="look at all of 10**9 windows")
    parser.add_argument("--json", help="also write the result to this file")
    arguments = parser.parse_args()
    orders = (None, LOCALITY)
    count = 10**9 if arguments.full else 10**7
    results = {
        "ranks": [measure_ranks(locality, arguments.rounds) for locality in orders],
        "sizes": [
            measure_size(power, locality, arguments.rounds)
            for locality in orders
            for power in SIZES
        ],
        "coverage": [check_coverage(count, locality, VOLUME.grid.group) for locality in orders],
        "pools": [measure_pools(case, arguments.pools) for case in POOL_CASES],
    }
    print_results(results)
    write_json(arguments.json, {"conditions": conditions(), "results": results})


if __name__ == "__main__":
    main()
