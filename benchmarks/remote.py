"""Reads over a network of 20 ms and of limited speed, against zarr-python by obstore and fsspec.

    python benchmarks/remote.py [--quick] [--sweep] [--speed MB/S]

A server in a process of its own, on loopback, answers 20 ms late and sends at most so many bytes a
second, all connections together. An array of 256 zstd chunks is opened and read whole: its chunks
as objects of their own, in shards, and every other chunk of a shard. Readers take turns; each opens
its store anew for each read, so that all pay for metadata and shard indexes, and keeps its
connections only as long. Every result is compared with the data.

The share is the encoded bytes of what was read, over the time and the limit of the line: 1 is a
line that is never idle. It shall be 0.8 or more. The ratio is a reader's time over that of gpuzarr:
the median of the ratios of each round. `--sweep` shows what gpuzarr's defaults were chosen by: the
share by requests at a time, and time and requests by the gap that is read for nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.request import urlopen

import numpy as np
from report import print_table, write_json

import gpuzarr
from gpuzarr.stores.remote.objects import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[str, Any], np.ndarray]

SIDE, CHUNK, SHARD = 512, 64, 256
"""Elements along the two longer dimensions of the array, of a chunk, of a shard."""
DEPTH, CHUNK_DEPTH, SHARD_DEPTH = 128, 32, 64
"""Along the first dimension."""
QUICK = 4
"""`--quick` divides lengths by this, but not those of chunks along the first dimension."""
LATENCY_S = 0.02
SPEED = 60
"""Megabytes a second."""
"""Bytes a second: as much as a server in Python sends beside its clients on two cores."""
SEED = 20261126
EVERYTHING = (slice(None),) * 3


@dataclass(frozen=True)
class Case:
    """An array, and what is read of it."""

    name: str
    array: str
    key: Any = EVERYTHING


CASES = (
    Case("objects", "plain"),
    Case("shards", "sharded"),
    Case("every other chunk of shards", "sharded", (slice(0, None, 2 * CHUNK_DEPTH), ...)),
)


def read_ours(url: str, key: Any) -> np.ndarray:
    """By gpuzarr."""
    return np.asarray(gpuzarr.open_array(url)[key])


def read_obstore(url: str, key: Any) -> np.ndarray:
    """By zarr-python, over obstore."""
    import zarr  # noqa: PLC0415
    from obstore.store import HTTPStore  # noqa: PLC0415

    store = zarr.storage.ObjectStore(
        HTTPStore.from_url(url, client_options={"allow_http": True}), read_only=True
    )
    return np.asarray(zarr.open_array(store, mode="r")[key])


def read_fsspec(url: str, key: Any) -> np.ndarray:
    """By zarr-python, over fsspec."""
    import zarr  # noqa: PLC0415

    return np.asarray(zarr.open_array(url, mode="r")[key])


def with_concurrency(read: Read, concurrency: int) -> Read:
    """With more requests at a time than zarr-python's default."""

    def read_so(url: str, key: Any) -> np.ndarray:
        import zarr  # noqa: PLC0415

        with zarr.config.set({"async.concurrency": concurrency}):
            return read(url, key)

    return read_so


READERS: dict[str, tuple[Read, tuple[str, ...]]] = {
    "gpuzarr": (read_ours, ("obstore",)),
    "zarr-python, obstore": (read_obstore, ("zarr", "obstore")),
    "zarr-python, obstore, 64 at a time": (
        with_concurrency(read_obstore, 64),
        ("zarr", "obstore"),
    ),
    "zarr-python, fsspec": (read_fsspec, ("zarr", "fsspec", "aiohttp")),
    "zarr-python, fsspec, 64 at a time": (
        with_concurrency(read_fsspec, 64),
        ("zarr", "fsspec", "aiohttp"),
    ),
}
"""Readers, with the packages that they need."""


def make_arrays(folder: Path, divisor: int) -> np.ndarray:
    """Write the arrays by zarr-python; gives their values."""
    import zarr  # noqa: PLC0415

    shape = (DEPTH, SIDE // divisor, SIDE // divisor)
    rng = np.random.default_rng(SEED)
    values = (rng.normal(2000, 300, shape) // 4).astype("u2")
    chunks = (CHUNK_DEPTH, CHUNK, CHUNK)
    shards = (SHARD_DEPTH, min(SHARD, shape[1]), min(SHARD, shape[2]))
    for name, shard in (("plain", None), ("sharded", shards)):
        zarr.create_array(
            folder / name, data=values, chunks=chunks, shards=shard, compressors="auto"
        )
    return values


def serve(folder: str, latency_s: float, bandwidth: float) -> None:
    """Be the server: print where, and end with the standard input."""
    from tests.stores.remote.loopback import FileServer  # noqa: PLC0415

    root = Path(folder)
    objects = {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }

    class Counted(FileServer):
        async def answer(self, seen: Any) -> Any:
            if seen.key != "counts":
                return await super().answer(seen)
            asked = [one for one in self.seen if one.key != "counts"]
            self.objects = {**objects, "counts": json.dumps(len(asked)).encode()}
            self.seen.clear()
            return await super().answer(seen)

    with Counted(objects, latency_s=latency_s, bandwidth=bandwidth) as server:
        print(server.url, flush=True)
        sys.stdin.read()


@contextmanager
def server(folder: Path, speed: int) -> Iterator[str]:
    """A process that serves a folder; gives its URL."""
    command = [sys.executable, __file__, "--serve", str(folder), "--speed", str(speed)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, **pipes) as process:  # noqa: S603  this program
        assert process.stdout is not None  # noqa: S101  it is piped
        yield process.stdout.readline().strip()
        process.terminate()


def requests_since(url: str) -> int:
    """How many requests there were since this was asked last."""
    with urlopen(f"{url}/counts") as answer:  # noqa: S310  our own server
        return int(json.load(answer))


def stored_nbytes(folder: Path, case: Case) -> int:
    """Encoded bytes of the chunks that a case reads."""
    found = (folder / case.array / "c").rglob("*")
    total = sum(path.stat().st_size for path in found if path.is_file())
    return total if case.key is EVERYTHING else total // 2


def time_read(read: Read, url: str, case: Case, expected: np.ndarray) -> float:
    """Seconds of one read, whose result is checked."""
    begin = time.perf_counter()
    found = read(f"{url}/{case.array}", case.key)
    seconds = time.perf_counter() - begin
    if not np.array_equal(found, expected):
        raise SystemExit(f"{case.name}: wrong values")
    return seconds


@dataclass(frozen=True)
class Line:
    """A server, and how fast it sends."""

    url: str
    folder: Path
    """What it serves."""
    speed: int
    """MB/s."""

    def share(self, case: Case, seconds: list[float]) -> float:
        """How much of the line a reader used: 1 where it was never idle."""
        return stored_nbytes(self.folder, case) / (1e6 * self.speed) / statistics.median(seconds)


def measure(line: Line, case: Case, values: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    """All readers, in turns."""
    url = line.url
    readers = {
        name: read
        for name, (read, needs) in READERS.items()
        if all(find_spec(package) is not None for package in needs)
    }
    expected = values[case.key]
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    requests: dict[str, int] = {}
    for number in range(rounds + 1):
        names = list(readers)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            requests_since(url)
            took = time_read(readers[name], url, case, expected)
            requests[name] = requests_since(url)
            if number:  # the first is not counted: imports
                seconds[name].append(took)
    ours = seconds["gpuzarr"]
    return [
        {
            "case": case.name,
            "reader": name,
            "seconds": took,
            "median": statistics.median(took),
            "share": line.share(case, took),
            "ratio": statistics.median(a / b for a, b in zip(took, ours, strict=True)),
            "requests": requests[name],
        }
        for name, took in seconds.items()
    ]


def sweep(line: Line, values: np.ndarray, rounds: int) -> None:
    """What the defaults were chosen by; all choices take turns."""
    url = line.url
    choices = (4, 8, 16, 32, 64, 128)
    took: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for case in CASES[:2]:
            for concurrency in choices:

                def read(url: str, key: Any, concurrency: int = concurrency) -> np.ndarray:
                    options = {"concurrency": concurrency}
                    return np.asarray(gpuzarr.open_array(url, storage_options=options)[key])

                seconds = time_read(read, url, case, values[case.key])
                took.setdefault((case.name, concurrency), []).append(seconds)
    print_table(
        ("requests at a time", *(f"{case.name}: share" for case in CASES[:2])),
        [
            (
                str(concurrency),
                *(f"{line.share(case, took[case.name, concurrency]):.2f}" for case in CASES[:2]),
            )
            for concurrency in choices
        ],
    )
    case, gaps, asked = CASES[2], (0, 1 << 16, 1 << 18, 1 << 19, 1 << 20), {}
    for _ in range(rounds):
        for gap in gaps:
            with patch.object(ObjectStore, "gap_nbytes", gap):
                requests_since(url)
                seconds = time_read(read_ours, url, case, values[case.key])
                took.setdefault((case.name, gap), []).append(seconds)
                asked[gap] = requests_since(url)
    print_table(
        ("gap", f"{case.name}: ms", "requests"),
        [
            (
                f"{gap >> 10} KiB",
                f"{1e3 * statistics.median(took[case.name, gap]):.0f}",
                str(asked[gap]),
            )
            for gap in gaps
        ],
    )


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds")
    parser.add_argument("--quick", action="store_true", help="a small array: to see that it runs")
    parser.add_argument("--sweep", action="store_true", help="what the defaults were chosen by")
    parser.add_argument("--json", help="also write the result to this file")
    parser.add_argument("--speed", type=int, default=SPEED, help="of the line, MB/s; default 60")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, LATENCY_S, 1e6 * options.speed)
        return
    divisor = QUICK if options.quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = make_arrays(folder, divisor)
        with server(folder, options.speed) as url:
            line = Line(url, folder, options.speed)
            if options.sweep:
                sweep(line, values, options.rounds)
                return
            results = [
                result for case in CASES for result in measure(line, case, values, options.rounds)
            ]
    print_table(
        ("read", "reader", "ms", "share of the line", "ratio", "requests"),
        [
            (
                result["case"],
                result["reader"],
                f"{1e3 * result['median']:.0f}",
                f"{result['share']:.2f}",
                f"{result['ratio']:.2f}",
                str(result["requests"]),
            )
            for result in results
        ],
    )
    nbytes = values.nbytes / 1e6
    speed = f"{LATENCY_S * 1e3:.0f} ms, {options.speed} MB/s"
    print(f"{nbytes:.0f} MB in chunks of 256 KiB, {speed}")
    about = {"latency_s": LATENCY_S, "bandwidth": 1e6 * options.speed}
    write_json(options.json, {**about, "rounds": options.rounds, "results": results})


if __name__ == "__main__":
    main()
