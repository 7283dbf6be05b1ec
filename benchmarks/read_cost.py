"""Whether a read's cost depends on its selection alone: one crop of arrays of 10^3 to 10^12 chunks.

The arrays differ in their shape and in nothing else: the crop touches the same 8 chunks, stored in
memory under the same keys. Reads alternate between the arrays. "warm" is `array[crop]` of an open
array; "cold" opens it first, so that it parses the metadata, lowers the codecs, and reads the
indexes of shards. Times are CPU times of the process; ratios are medians of the ratios of each
round to the array of 10^3 chunks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard
from report import conditions, print_table, write_json

import gpuzarr

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK, SHARD = 16, 80
"""Elements along each of the three dimensions."""
COUNTS = (10, 100, 10_000)
"""Chunks along each dimension: 10^3, 10^6 and 10^12 in all."""
CROP = (slice(8, 24),) * 3
READS = 50
"""Reads that are timed together."""


def encode(coords: tuple[int, ...]) -> bytes:
    """The stored bytes of a chunk."""
    seed = sum(place * 100**axis for axis, place in enumerate(coords))
    chunk = np.random.default_rng(seed).integers(0, 50, CHUNK**3, "<u2")
    return zstandard.ZstdCompressor().compress(chunk.tobytes())


def make_store(count: int, *, sharded: bool) -> dict[str, bytes]:
    """An array of `count`^3 chunks, of which those near its origin are stored."""
    codecs: list[Any] = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
    ]
    grid = CHUNK
    store = {}
    if sharded:
        grid = SHARD
        chunks = list(product(range(SHARD // CHUNK), repeat=3))
        encoded = [encode(coords) for coords in chunks]
        index = np.zeros((len(chunks), 2), "<u8")
        index[:, 1] = [len(data) for data in encoded]
        index[1:, 0] = np.cumsum(index[:-1, 1])
        store["c/0/0/0"] = b"".join(encoded) + index.tobytes()
        configuration = {
            "chunk_shape": [CHUNK] * 3,
            "codecs": codecs,
            "index_codecs": codecs[:1],
        }
        codecs = [{"name": "sharding_indexed", "configuration": configuration}]
    else:
        for coords in product(range(2), repeat=3):
            store["/".join(["c", *map(str, coords)])] = encode(coords)
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [count * CHUNK] * 3,
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [grid] * 3}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": codecs,
        "fill_value": 0,
    }
    return {"zarr.json": json.dumps(document).encode(), **store}


def warm_read(array: gpuzarr.Array) -> Callable[[], Any]:
    """Read the crop of an open array."""
    return lambda: array[CROP]


def cold_read(store: dict[str, bytes]) -> Callable[[], Any]:
    """Open an array, and read the crop."""
    return lambda: gpuzarr.open_array(store)[CROP]


def seconds(work: Callable[[], Any]) -> float:
    """CPU time of some calls."""
    begin = time.process_time()
    for _ in range(READS):
        work()
    return time.process_time() - begin


def measure(*, sharded: bool, cold: bool, rounds: int) -> list[dict[str, Any]]:
    """Read the crop from each array in turn."""
    stores = [make_store(count, sharded=sharded) for count in COUNTS]
    arrays = [gpuzarr.open_array(store) for store in stores]
    crops = [array[CROP] for array in arrays]
    if not all(np.array_equal(crop, crops[0]) for crop in crops):
        raise AssertionError("the arrays do not hold the same crop")
    ways = list(map(cold_read, stores)) if cold else list(map(warm_read, arrays))
    times: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 1):
        order = range(len(ways)) if number % 2 else reversed(range(len(ways)))
        for way in order:
            taken = seconds(ways[way]) / READS
            if number:  # the first round is not counted
                times[way].append(taken)
    results = []
    for count, mine in zip(COUNTS, times, strict=True):
        ratios = [one / first for one, first in zip(mine, times[0], strict=True)]
        results.append(
            {
                "sharded": sharded,
                "cold": cold,
                "chunks": count**3,
                "microseconds": 1e6 * statistics.median(mine),
                "ratio": statistics.median(ratios),
                "quartiles": statistics.quantiles(ratios),
            }
        )
    return results


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=41, help="timed rounds")
    parser.add_argument("--json", help="also write the result to this file")
    arguments = parser.parse_args()
    results = [
        result
        for sharded, cold in product((False, True), (False, True))
        for result in measure(sharded=sharded, cold=cold, rounds=arguments.rounds)
    ]
    print_table(
        ("array", "read", "chunks", "CPU time, us", "ratio", "quartiles"),
        [
            (
                "sharded" if result["sharded"] else "unsharded",
                "cold" if result["cold"] else "warm",
                f"10^{len(str(result['chunks'])) - 1}",
                f"{result['microseconds']:.0f}",
                f"{result['ratio']:.3f}",
                f"{result['quartiles'][0]:.3f} to {result['quartiles'][2]:.3f}",
            )
            for result in results
        ],
    )
    write_json(arguments.json, {"conditions": conditions(), "results": results})


if __name__ == "__main__":
    main()
