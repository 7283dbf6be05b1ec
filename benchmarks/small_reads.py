"""Small reads for a GPU: in one copy, or by columns, tables and launches; on the fake device.

An array of zstd chunks of 2 KiB in a shard is read by the CPU engine, and by the CUDA engine in
three ways: as a few chunks that the host decodes, whose result is copied, and by columns with the
host or the device decoding. Kernels do not run, so what is timed is the host's own work, and
nvCOMP's double. Reads alternate; times are medians, ratios medians of those of each round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from report import conditions, print_table, write_json

import gpuzarr
from gpuzarr import few
from gpuzarr.engines.cuda.tuning import DEFAULTS
from tests.arrays import sharded_store
from tests.cuda_devices import installed
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.stores import ZSTD, zstd

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK, SIDE = 8, 64
"""Elements along each of three dimensions, of a chunk and of the array."""
COUNTS = (1, 8, 64)
"""Chunks of a read."""
BY_COUNT = few.MOST_CHUNKS


class Idle(FakeDevice):
    """A device whose kernels do nothing."""

    def launch(self, *_: Any, **__: Any) -> None:
        """Take no time."""


def make_store() -> dict[str, bytes]:
    """One shard of zstd chunks of int32."""
    steps = np.random.default_rng(0).integers(-2, 3, SIDE**3)
    values = np.cumsum(steps).astype("<i4").reshape((SIDE,) * 3)
    codecs = ("bytes", ZSTD)
    return sharded_store(values, (SIDE,) * 3, (CHUNK,) * 3, encode=zstd, inner_codecs=codecs)


def seconds(read: Callable[[], Any], most: int) -> float:
    """How long one read takes, if so many chunks are a few."""
    few.MOST_CHUNKS = most
    begin = time.perf_counter()
    read()
    return time.perf_counter() - begin


def measure(rounds: int) -> list[dict[str, Any]]:
    """Every way in turn, for each number of chunks."""
    store, results = make_store(), []
    with installed(Idle(), DEFAULTS):
        host = gpuzarr.open_array(store, device="cuda", decode="host")
        device = gpuzarr.open_array(store, device="cuda", decode="device")
        cpu = gpuzarr.open_array(store, device="cpu")
        ways = {
            "one copy": (host, BY_COUNT),
            "CPU engine": (cpu, BY_COUNT),
            "columns, host": (host, 0),
            "columns, device": (device, 0),
        }
        for count in COUNTS:
            key = (slice(0, CHUNK * round(count ** (1 / 3))),) * 3
            times: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(rounds + 3):
                names = list(ways) if number % 2 else list(ways)[::-1]
                for name in names:
                    array, most = ways[name]
                    taken = seconds(lambda array=array, key=key: array[key], most)  # type: ignore[misc]
                    if number >= 3:  # noqa: PLR2004  the first ones are not counted
                        times[name].append(taken)
            first = times["one copy"]
            results += [
                {
                    "chunks": count,
                    "way": name,
                    "ms": 1e3 * statistics.median(mine),
                    "ratio": statistics.median(a / b for a, b in zip(mine, first, strict=True)),
                }
                for name, mine in times.items()
            ]
    return results


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200, help="timed rounds")
    parser.add_argument("--json", help="also write the result to this file")
    arguments = parser.parse_args()
    results = measure(arguments.rounds)
    print_table(
        ("chunks", "way", "ms", "ratio"),
        [(str(r["chunks"]), r["way"], f"{r['ms']:.2f}", f"{r['ratio']:.2f}") for r in results],
    )
    write_json(arguments.json, {"conditions": conditions(), "results": results})


if __name__ == "__main__":
    main()
