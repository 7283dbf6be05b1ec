"""Random crops of one array in one call of `read_batch`, against every other way to read them.

256 crops of 64^3, as a training loop takes them, of an array of 512^3 uint16 that looks like
microscopy, are read into one array of shape (256, 64, 64, 64). They overlap, and cut chunks: what
one call saves is to decode a chunk once for each crop that needs it. The readers are in
`batches_readers.py`. Each has a process of its own that stays; in each round every one reads once,
in an order that moves on from round to round. The page cache is warm, and memory for the result is
there before. Each reader's first read is not timed; its result is compared with the data.

The ratio is a reader's time over that of `read_batch`: the median of the ratios of each round.
Above 1, `read_batch` is faster. It shall be 2 or more against the loop of single reads, and above 1
against zarrs. The CPU ratio is the same for the CPU time of all threads of a reader's process,
which others on the machine disturb less. Needs zarr-python, which writes the arrays; peers that are
not installed do not take part.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from batches_readers import READERS, ReaderProcess, digest_of
from report import conditions, print_table, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batches_readers import Key
    from numpy.typing import NDArray

SIDE, CROP, COUNT = 512, 64, 256
"""The array's and a crop's elements along each dimension, and the crops."""
QUICK = 4
"""`--quick` divides all lengths, and the crops, by this."""
BLOBS = 32
"""Blobs along each dimension of the array."""
SEED = 20261126


@dataclass(frozen=True)
class Case:
    """How the array is stored; lengths are along each dimension."""

    name: str
    what: str
    chunk: int
    shard: int | None
    codec: str


CASES = (
    Case("sharded-32", "32^3 zstd chunks in 256^3 shards", 32, 256, "zstd"),
    Case("sharded-64", "64^3 zstd chunks in 256^3 shards", 64, 256, "zstd"),
    Case("blosc-32", "32^3 chunks, Blosc lz4 shuffle", 32, None, "blosc"),
    Case("blosc-64", "64^3 chunks, Blosc lz4 shuffle", 64, None, "blosc"),
)


def make_volume(side: int) -> NDArray[np.uint16]:
    """Smooth structure, and a camera's noise."""
    rng = np.random.default_rng(SEED)
    smooth = rng.normal(1500, 200, (BLOBS + 1,) * 3).astype(np.float32)
    place = np.arange(side) * BLOBS / side
    low = place.astype(np.int64)
    part = (place - low).astype(np.float32)[:, None, None]
    for axis in range(3):
        along = np.moveaxis(smooth, axis, 0)
        smooth = np.moveaxis(along[low] * (1 - part) + along[low + 1] * part, 0, axis)
    volume = np.empty((side,) * 3, np.uint16)
    for plane, values in zip(volume, smooth, strict=True):
        plane[...] = values + rng.normal(scale=6, size=plane.shape)
    return volume


def make_keys(side: int, crop: int, count: int) -> list[Key]:
    """Crops anywhere in the array."""
    rng = np.random.default_rng(SEED)
    begins = rng.integers(0, side - crop, (count, 3), endpoint=True)
    return [tuple(slice(begin, begin + crop) for begin in row) for row in begins.tolist()]


def write(case: Case, volume: NDArray[np.uint16], path: str, divisor: int) -> None:
    """Write the array."""
    import zarr  # noqa: PLC0415  only the writer needs it
    from zarr.codecs import BloscCodec, ZstdCodec  # noqa: PLC0415

    codec = {
        "zstd": ZstdCodec(level=3),
        "blosc": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=volume.itemsize),
    }
    array = zarr.create_array(
        path,
        shape=volume.shape,
        dtype=volume.dtype,
        chunks=(case.chunk // divisor,) * 3,
        shards=None if case.shard is None else (case.shard // divisor,) * 3,
        compressors=codec[case.codec],
    )
    array[...] = volume


def measure(
    case: Case, volume: NDArray[np.uint16], keys: Sequence[Key], divisor: int, rounds: int
) -> list[dict[str, Any]]:
    """Write the array, and let every reader read it in turn."""
    readers = [reader for reader in READERS if reader.here]
    truth = digest_of(np.stack([volume[key] for key in keys]))
    times: list[list[tuple[float, float]]] = [[] for _ in readers]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = str(Path(folder) / "array.zarr")
        write(case, volume, path, divisor)
        stored = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
        processes = [
            stack.enter_context(ReaderProcess(reader, path, keys, volume.dtype.str))
            for reader in readers
        ]
        for reader, process in zip(readers, processes, strict=True):
            if process.digest() != truth:
                raise AssertionError(f"{reader.name} read something else: {case.what}")
        for number in range(rounds):
            for turn in range(len(readers)):
                place = (number + turn) % len(readers)
                times[place].append(processes[place].seconds())
    results = []
    for reader, mine in zip(readers, times, strict=True):
        seconds, cpu_seconds = map(list, zip(*mine, strict=True))
        ratios, cpu_ratios = np.divide(mine, times[0]).T.tolist()
        results.append(
            {
                "case": case.name,
                "what": case.what,
                "stored / decoded": stored / volume.nbytes,
                "reader": reader.name,
                "seconds": seconds,
                "cpu seconds": cpu_seconds,
                "median": statistics.median(seconds),
                "ratio": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
                "cpu ratio": statistics.median(cpu_ratios),
            }
        )
    return results


def main() -> None:
    """Measure, print, and keep."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds")
    parser.add_argument("--cases", nargs="+", choices=names, default=names, help="arrays to read")
    parser.add_argument("--quick", action="store_true", help="a small array: to see that it runs")
    parser.add_argument("--json", help="also write the result to this file")
    arguments = parser.parse_args()
    divisor = QUICK if arguments.quick else 1
    side, crop, count = SIDE // divisor, CROP // divisor, COUNT // divisor
    volume, keys = make_volume(side), make_keys(side, crop, count)
    results: list[dict[str, Any]] = []
    for case in CASES:
        if case.name in arguments.cases:
            results += measure(case, volume, keys, divisor, arguments.rounds)
    print_table(
        ("array", "reader", "ms", "ratio", "least", "most", "CPU ratio"),
        [
            (
                result["case"],
                result["reader"],
                f"{1e3 * result['median']:.0f}",
                f"{result['ratio']:.2f}",
                f"{result['least']:.2f}",
                f"{result['most']:.2f}",
                f"{result['cpu ratio']:.2f}",
            )
            for result in results
        ],
    )
    packages = sorted({name for reader in READERS if reader.here for name in reader.needs})
    peers = {name: version(name) for name in packages}
    print(f"{', '.join(f'{name} {number}' for name, number in peers.items())};")
    print(f"{count} crops of {crop}^3 of {side}^3, {arguments.rounds} rounds, warm page cache;")
    for result in results[:: sum(reader.here for reader in READERS)]:
        share = result["stored / decoded"]
        lengths = f", lengths divided by {divisor}" if divisor > 1 else ""
        print(f"{result['case']}: {result['what']}{lengths}, stored / decoded {share:.2f}")
    kept = {"conditions": conditions(), "peers": peers, "rounds": arguments.rounds}
    sizes = {"side": side, "crop": crop, "count": count}
    write_json(arguments.json, {**kept, **sizes, "results": results})


if __name__ == "__main__":
    main()
