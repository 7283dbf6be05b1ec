"""How near `gpuzarr.Loader` comes to the speed that its consumer and its reader allow.

Three questions, a table each:

    speed       batches are read ahead while a consumer works 5 ms on each. In each round come,
                in turn, the reader alone (batches as fast as they come, nothing read ahead), the
                consumer alone, and both: the loader. Its efficiency is the time of the slower one
                over its own; it shall be 0.95 or more. Batch sizes are chosen on the spot so that
                the reader takes about half, all of, and twice the consumer's time.
    memory      how much the peaks of the resident set and of what Python and NumPy allocate grow
                between the 100th and the 1,000th batch; each in a process of its own. More than
                the limit is an error.
    locality    what `locality=` and a cache save of decoding, by `Loader.explain`, and the speed
                of the reader alone, beside windows that are shuffled over all of the array

The consumer sleeps, as one does whose work is on a GPU, or is busy in one call of NumPy, which lets
other threads run. A busy one takes a CPU from the reader, which decodes in as many threads as there
are CPUs: there the loader cannot be faster than the CPU time of both, divided by the CPUs, and that
is a third time which may be the slowest.

The consumer alone is timed as well, since a sleep of 5 ms takes longer. Each measurement begins
behind some batches that are not timed. The page cache is warm. Memory needs Linux, and zarr-python
writes the arrays.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from functools import partial
from itertools import islice
from math import log
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batches import make_volume, write
from loader_cases import CHUNKS, COMPARED, MIB, ORDERS, SETTINGS, SHARDS, make_loader
from loader_memory import LIMIT, MANY, measure_memory
from loader_timing import (
    UNTIMED,
    WORK_S,
    OtherProcesses,
    Took,
    nothing,
    pipeline_seconds,
    time_batches,
    works,
)
from report import conditions, print_table, write_json

from gpuzarr.engines.pool import cpu_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from loader_cases import Order, Windows
    from loader_timing import Work

    import gpuzarr

    Paths = dict[str, Path]

SHARES = (0.5, 1.0, 2.0)
"""The reader's time over the consumer's, about."""
ENOUGH = 1.2
"""Times the largest share: no larger batches are tried."""
SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256)
"""Batch sizes that there are to choose from."""
TRIES = 4
"""Rounds for each that is wanted, at most, until so many were quiet."""
ALONE = 24
"""Batches that are timed to choose a size."""
SIDE = 512
"""The arrays' elements along each dimension."""
QUICK = 4
"""`--quick` divides all lengths by this."""
SECTIONS = ("speed", "memory", "locality")


# ---------------------------------------------------------------------------------------- speed


def choose_sizes(windows: Windows, order: Order, path: Path, divisor: int) -> list[int]:
    """For each share the batch size for which the reader takes about so long."""
    found: dict[int, float] = {}
    for size in SIZES:
        loader = make_loader(
            *(path, windows, order, divisor), batch_size=size, batches=UNTIMED + ALONE, prefetch=0
        )
        found[size] = time_batches(loader, nothing).wall / WORK_S
        if found[size] > ENOUGH * max(SHARES):
            break
    return [min(found, key=lambda size: abs(log(found[size] / share))) for share in SHARES]


def measure_speed(
    make: Callable[..., gpuzarr.Loader], kind: tuple[str, Work], options: argparse.Namespace
) -> dict[str, Any]:
    """The reader, the consumer and the loader in turn; both loaders read the same epochs."""
    reader, loader = make(prefetch=0), make(prefetch=options.prefetch)
    name, work = kind
    runs = (
        ("reader", partial(time_batches, reader, nothing)),
        ("consumer", partial(time_batches, range(len(loader)), work)),
        ("loader", partial(time_batches, loader, work)),
    )
    for both in (reader, loader):  # fills the caches
        time_batches(both, nothing)
    found: list[tuple[float, dict[str, Took]]] = []
    for number in range(options.rounds * TRIES):
        others = OtherProcesses()
        turns = [runs[(number + turn) % len(runs)] for turn in range(len(runs))]
        took = {part: run() for part, run in turns}
        found.append((others.share(), took))
        if sum(share <= options.quiet for share, _ in found) == options.rounds:
            break
    quietest = sorted(found, key=itemgetter(0))[: options.rounds]
    efficiencies, perfect = [], []
    for _, took in quietest:
        working = took["consumer"].wall
        bounds = [took["reader"].wall, working]
        if name == "busy":
            bounds.append((took["reader"].cpu + took["consumer"].cpu) / cpu_count())
        efficiencies.append(max(bounds) / took["loader"].wall)
        pipeline = pipeline_seconds(took["reader"].each, working, loader.prefetch)
        perfect.append(max(bounds) / max(pipeline, *bounds))

    def median_of(time: str, part: str) -> float:
        return 1e3 * statistics.median(getattr(took[part], time) for _, took in quietest)

    return {
        "consumer": name,
        "ms": {part: median_of("wall", part) for part, _ in runs},
        "CPU ms": {part: median_of("cpu", part) for part, _ in runs},
        "efficiency": statistics.median(efficiencies),
        "least": min(efficiencies),
        "most": max(efficiencies),
        "perfect": statistics.median(perfect),
        "ahead": loader.prefetch,
        "others": statistics.median(share for share, _ in quietest),
    }


def measure_speeds(paths: Paths, divisor: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All settings, sizes and consumers."""
    results = []
    kinds = works()
    for windows, order in SETTINGS:
        path = paths[windows.array.name]
        sizes = options.sizes or choose_sizes(windows, order, path, divisor)
        for name in options.work:
            for size in dict.fromkeys(sizes):
                make = partial(
                    *(make_loader, path, windows, order, divisor),
                    batch_size=size,
                    batches=UNTIMED + options.batches,
                )
                row = measure_speed(make, (name, kinds[name]), options)
                what = {"windows": windows.name, "order": order.name, "batch size": size}
                results.append({**what, **row})
    return results


# ------------------------------------------------------------------------------------- locality


def measure_locality(
    windows: Windows, path: Path, divisor: int, rounds: int
) -> list[dict[str, Any]]:
    """The same windows in all orders, in turn, each from an empty cache."""
    batches = windows.batches // divisor

    def loader_of(order: Order) -> Any:
        return make_loader(
            *(path, windows, order, divisor),
            batch_size=windows.batch_size,
            batches=batches,
            prefetch=0,
        )

    def seconds(order: Order) -> float:
        loader = loader_of(order)
        begin = time.perf_counter()
        for _ in islice(loader, batches):
            pass
        return time.perf_counter() - begin

    explained = [loader_of(order).explain(batches) for order in ORDERS]
    seconds(ORDERS[0])
    times: list[list[float]] = [[] for _ in ORDERS]
    for number in range(rounds):
        for turn in range(len(ORDERS)):
            place = (number + turn) % len(ORDERS)
            times[place].append(seconds(ORDERS[place]))
    results = []
    for order, report, mine in zip(ORDERS, explained, times, strict=True):
        gains = [first / one for first, one in zip(times[0], mine, strict=True)]
        results.append(
            {
                "windows": windows.name,
                "order": order.name,
                "waste": report.decode_waste,
                "chunks": report.chunks,
                "cached chunks": report.cached_chunks,
                "MB/s": report.needed_nbytes / statistics.median(mine) / 1e6,
                "gain": statistics.median(gains),
                "least": min(gains),
                "most": max(gains),
            }
        )
    return results


# --------------------------------------------------------------------------------------- tables


def print_results(results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """A table for each question that was asked."""
    heads = ("windows", "consumer", "batch", "reader, ms", "consumer, ms", "loader, ms")
    if "speed" in results:
        print_table(
            (*heads, "efficiency", "least", "most", "perfect", "ahead", "others"),
            [
                (
                    f"{row['windows']}, {row['order']}",
                    *(row["consumer"], str(row["batch size"])),
                    *(f"{taken:.2f}" for taken in row["ms"].values()),
                    *(f"{row[name]:.3f}" for name in ("efficiency", "least", "most", "perfect")),
                    str(row["ahead"]),
                    f"{row['others']:.0%}",
                )
                for row in results["speed"]
            ],
        )
        print(f"{options.batches} batches a round and part;")
        print(
            "perfect: the efficiency of a pipeline so deep that loses time by nothing but waiting;"
        )
        print("others: the share of the CPUs that other processes had\n")
    if "memory" in results:
        print_table(
            ("crops", "memory", "batch", "batches", "peak", "batches", "peak", "grew"),
            [
                (
                    f"{row['array']}, {row['order']}",
                    *(row["kind"], f"{row['batch'] / MIB:.1f}"),
                    *(str(row["few"]), f"{row['first'] / MIB:.1f}"),
                    *(str(row["many"]), f"{row['last'] / MIB:.1f}"),
                    f"{(row['last'] - row['first']) / MIB:.2f}",
                )
                for row in results["memory"]
            ],
        )
        print(f"in MiB; peaks may grow by {LIMIT / MIB:.0f}\n")
    if "locality" in results:
        print_table(
            ("windows", "decoded / needed", "MB/s", "gain", "least", "most"),
            [
                (
                    f"{row['windows']}, {row['order']}",
                    *(f"{row['waste']:.2f}", f"{row['MB/s']:.0f}"),
                    *(f"{row[name]:.2f}" for name in ("gain", "least", "most")),
                )
                for row in results["locality"]
            ],
        )


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds")
    parser.add_argument("--batches", type=int, default=100, help="batches of a timed run")
    parser.add_argument("--prefetch", type=int, help="batches read ahead; default: the loader's")
    parser.add_argument("--work", nargs="+", choices=("sleeps", "busy"), default=("sleeps", "busy"))
    parser.add_argument("--sizes", nargs="+", type=int, help="batch sizes; default: chosen")
    parser.add_argument(
        "--quiet",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="more rounds of speed while other processes have more of the CPUs; the quietest count",
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--quick", action="store_true", help="small arrays: to see that it runs")
    parser.add_argument("--json", help="also write the result to this file")
    options = parser.parse_args()
    divisor = QUICK if options.quick else 1
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {case.name: Path(folder) / case.name for case in (CHUNKS, SHARDS)}
        volume = make_volume(SIDE // divisor)
        for case in (CHUNKS, SHARDS):
            write(case, volume, str(paths[case.name]), divisor)
        del volume
        if "speed" in options.only:
            results["speed"] = measure_speeds(paths, divisor, options)
        if "memory" in options.only:
            results["memory"] = [
                row
                for case in (CHUNKS, SHARDS)
                for row in measure_memory(
                    case, paths[case.name], divisor, MANY // (20 if options.quick else 1)
                )
            ]
        if "locality" in options.only:
            results["locality"] = [
                row
                for windows in COMPARED
                for row in measure_locality(
                    windows, paths[windows.array.name], divisor, options.rounds
                )
            ]
    print_results(results, options)
    for case in (CHUNKS, SHARDS):
        print(f"{case.name}: {SIDE}^3 uint16, {case.what}; all lengths divided by {divisor}")
    print(f"{options.rounds} rounds")
    write_json(
        options.json,
        {"conditions": conditions(), "options": vars(options), "limit": LIMIT, **results},
    )
    if any(row["last"] - row["first"] > LIMIT for row in results.get("memory", ())):
        sys.exit("memory grows with the number of batches")


if __name__ == "__main__":
    main()
