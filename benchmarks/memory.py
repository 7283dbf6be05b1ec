"""Peak memory of a full read beyond its result, for arrays stored in different ways.

Each array is read in a process of its own, after a read of one element that loads the libraries and
starts the threads. What is shown is the growth of the resident set's peak over the size before the
read, less the result. It shall be at most 64 MiB, or where that is more, for each thread one chunk,
encoded and decoded, and 1 MiB. Needs Linux, and zarr-python to write the arrays.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from report import conditions, print_table, write_json

import gpuzarr
from gpuzarr.engines.pool import cpu_count

MIB = 1 << 20
LIMIT = 64 * MIB
SIDE = 512


@dataclass(frozen=True)
class Case:
    """An array of 512^3 elements."""

    name: str
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("uncompressed, 4 MiB chunks", "uint16", (128, 128, 128), None, {"compressors": None}),
    Case("zstd, 4 MiB chunks", "uint16", (128, 128, 128)),
    Case("zstd, 4 MiB chunks that are transposed", "uint16", (128, 128, 128), None, {"order": "F"}),
    Case(
        "uncompressed, 32^3 chunks in 256^3 shards",
        "uint16",
        (32,) * 3,
        (256,) * 3,
        {"compressors": None},
    ),
    Case("zstd, 32^3 chunks in 256^3 shards", "uint16", (32,) * 3, (256,) * 3),
    Case("zstd, 8^3 chunks in 256^3 shards", "uint8", (8,) * 3, (256,) * 3),
    Case("Blosc, 4 MiB chunks", "uint16", (128, 128, 128), None, {"compressors": "blosc"}),
    Case("Blosc, 16 KiB chunks", "uint16", (32, 32, 8), (512, 512, 64), {"compressors": "blosc"}),
    Case("zstd, 64 MiB chunks", "uint16", (256, 256, 512)),
)


def write(case: Case, path: Path) -> None:
    """Write a case's array."""
    import zarr  # noqa: PLC0415  only the writer needs it
    from zarr.codecs import (  # noqa: PLC0415
        BloscCodec,
        TransposeCodec,
    )

    options = dict(case.options)
    if options.get("compressors") == "blosc":
        options["compressors"] = BloscCodec(typesize=np.dtype(case.dtype).itemsize)
    if options.pop("order", None) == "F":
        options["filters"] = TransposeCodec(order=(2, 1, 0))
    array = zarr.create_array(
        path,
        shape=(SIDE,) * 3,
        dtype=case.dtype,
        chunks=case.chunks,
        shards=case.shards,
        **options,
    )
    rng = np.random.default_rng(0)
    step = (case.shards or case.chunks)[0]
    for start in range(0, SIDE, step):
        part = rng.integers(0, 40, (step, SIDE, SIDE), dtype=case.dtype)
        array[start : start + step] = part


def status(name: str) -> int:
    """A size from the kernel's account of this process, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def read(path: str) -> dict[str, int]:
    """Read a whole array and account for it."""
    array = gpuzarr.open_array(path)
    array[0, 0, 0]
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # begins the peak anew
    result = array[...]
    return {"growth": status("VmHWM") - before, "result": result.nbytes}


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Write an array here, and read it in another process."""
    path = folder / "array.zarr"
    write(case, path)
    command = [sys.executable, __file__, "--read", str(path)]
    growths = []
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  this script
        found = json.loads(done.stdout)
        growths.append(found["growth"] - found["result"])
    chunk = prod(case.chunks) * np.dtype(case.dtype).itemsize
    if case.shards is None:
        chunk += max(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {
        "case": case.name,
        "result": found["result"],
        "beyond": max(growths),
        "limit": max(LIMIT, (chunk + MIB) * cpu_count()),
    }


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", help="also write the result to this file")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read(arguments.read)))
        return
    results = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(case, Path(folder)))
    print_table(
        ("array", "result, MiB", "beyond it, MiB", "limit, MiB"),
        [
            (
                result["case"],
                f"{result['result'] / MIB:.0f}",
                f"{result['beyond'] / MIB:.1f}",
                f"{result['limit'] / MIB:.0f}",
            )
            for result in results
        ],
    )
    write_json(arguments.json, {"conditions": conditions(), "results": results})
    if any(result["beyond"] > result["limit"] for result in results):
        sys.exit("some reads take more memory than they may")


if __name__ == "__main__":
    main()
