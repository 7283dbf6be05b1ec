"""How a reduction with dask gets faster with a second worker: a cluster of one, a cluster of two.

The mean of a float32 array in chunks of 32 MiB (zstd, which decodes at about the speed of memory),
read by `gpuzarr.integrations.dask.from_gpuzarr` with a task for each chunk. Each worker is a
process with one thread. Both clusters run all the time and are asked in turn; what is measured is
the wall time of `compute`, the page cache warm. The speedup is the median of the ratios of each
round. It needs two CPUs that have nothing else to do, of which the scheduler takes some as well.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client, LocalCluster
from report import conditions, print_table, write_json

from gpuzarr.integrations.dask import from_gpuzarr
from tests.integrations.steps import write_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKERS = (1, 2)
LIBRARIES = ("dask", "distributed")


def start(nworkers: int, folder: str, stack: ExitStack) -> Client:
    """A cluster of processes with one thread each, until the stack is left."""
    cluster = LocalCluster(
        n_workers=nworkers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        local_directory=folder,
    )
    return stack.enter_context(Client(stack.enter_context(cluster), set_as_default=False))


def seconds(client: Client, lazy: Any, expected: float) -> float:
    """Wall time of one reduction, whose result is checked."""
    begin = time.perf_counter()
    found = client.compute(lazy.mean(dtype="f8")).result()
    taken = time.perf_counter() - begin
    if found != expected:
        raise AssertionError(f"the mean is {found}, not {expected}")
    return taken


def measure(clients: Sequence[Client], lazy: Any, expected: float, rounds: int) -> dict[str, Any]:
    """Time the clusters in turn."""
    times: list[list[float]] = [[] for _ in clients]
    for number in range(rounds + 1):
        order = range(len(clients)) if number % 2 else reversed(range(len(clients)))
        for way in order:
            taken = seconds(clients[way], lazy, expected)
            if number:  # the first round is not counted
                times[way].append(taken)
    ratios = [one / two for one, two in zip(*times, strict=True)]
    return {
        "nbytes": lazy.nbytes,
        "seconds": dict(zip(WORKERS, map(statistics.median, times), strict=True)),
        "speedup": statistics.median(ratios),
        "speedups": sorted(ratios),
    }


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--chunks", type=int, default=64, help="chunks of 32 MiB")
    parser.add_argument("--json", help="also write the result to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        array = Path(folder) / "array"
        array.mkdir()
        total = write_steps(array, arguments.chunks)
        lazy = from_gpuzarr(array, device="cpu")
        clients = [start(nworkers, folder, stack) for nworkers in WORKERS]
        result = measure(clients, lazy, total / lazy.size, arguments.rounds)
    print_table(
        ("workers", "seconds", "GB/s", "speedup", "least", "most"),
        [
            (
                f"{nworkers}",
                f"{taken:.2f}",
                f"{result['nbytes'] / taken / 1e9:.2f}",
                *(
                    ("1", "", "")
                    if nworkers == 1
                    else (
                        f"{result['speedup']:.2f}",
                        f"{result['speedups'][0]:.2f}",
                        f"{result['speedups'][-1]:.2f}",
                    )
                ),
            )
            for nworkers, taken in result["seconds"].items()
        ],
    )
    libraries = {name: version(name) for name in LIBRARIES}
    print(", ".join(f"{name} {number}" for name, number in libraries.items()))
    write_json(arguments.json, {"conditions": conditions(), "libraries": libraries, **result})


if __name__ == "__main__":
    main()
