"""Read every way that this machine can, check the values, and print how fast it was.

Without a PATH, a small data set is made first, so that the values are known. With one, the user's
own arrays are read, and the ways to read must agree with each other.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuzarr import api
from gpuzarr.array import Array
from gpuzarr.cli.demo_data import write_demo
from gpuzarr.cli.node import add_open_arguments, open_node, walk
from gpuzarr.cli.read import to_host
from gpuzarr.cli.regions import Edges
from gpuzarr.cli.screen import format_nbytes
from gpuzarr.errors import DeviceError, UnsupportedError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from gpuzarr.cli.regions import Sizes
    from gpuzarr.cli.screen import Screen
    from gpuzarr.stores.store import Store

    Keys = list[tuple[slice, ...]]

HELP = "read a small data set, or your own, every way this machine can"

PROBLEMS = 1

DEVICES = ("cpu", "cuda")
ROUNDS = 3
"""Each way is timed this often; the fastest counts, after one round that nobody times."""
CROPS = 24
LARGEST_NBYTES = 64 * 2**20
"""Of a user's array at most this much is read."""
MOST_ARRAYS = 3
"""Of a user's group, this many arrays are read: the largest."""


@dataclass(frozen=True, slots=True)
class Source:
    """An array to read, and the part of it that is read, with its values."""

    title: str
    store: str | Store
    path: str
    part: tuple[slice, ...]
    truth: np.ndarray | None
    """Values of the part where they are known; else the first full read is what must be met."""


class Skipped(NamedTuple):
    """An array that cannot be read into a device here."""

    array: str
    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class Result:
    """One way to read one array."""

    array: str
    device: str
    way: str
    reads: int
    nbytes: int
    seconds: float
    right: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Perhaps a node, perhaps where to leave the data set."""
    parser.add_argument(
        "store", metavar="PATH", nargs="?", help="your own array or group (a small data set)"
    )
    parser.add_argument(
        "--keep",
        metavar="DIR",
        type=Path,
        help="make the data set in this new directory and leave it",
    )
    add_open_arguments(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Read, check, print; exit status 1 when a value was wrong."""
    with ExitStack() as stack:
        if args.store is not None:
            sources = list(user_sources(args))
        else:
            folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.mkdir(parents=True, exist_ok=args.keep is None)
            sources = demo_sources(folder, screen)
        jobs, skipped = find_jobs(sources)
        results: list[Result] = []
        with screen.progress("reading", len(jobs)) as advance:
            for source, devices in jobs:
                results += read_source(source, devices)
                advance(1)
    return report(results, skipped, screen, kept=args.keep)


def demo_sources(folder: Path, screen: Screen) -> list[Source]:
    """Make the data set."""
    started = perf_counter()
    arrays = write_demo(folder)
    nbytes = sum(array.values.nbytes for array in arrays)
    seconds = perf_counter() - started
    screen.text(f"made {len(arrays)} arrays, {format_nbytes(nbytes)}, in {seconds:.1f} s")
    return [
        Source(
            array.title,
            str(array.path),
            "",
            tuple(slice(0, length) for length in array.values.shape),
            array.values,
        )
        for array in arrays
    ]


def user_sources(args: argparse.Namespace) -> Iterator[Source]:
    """The user's array, or the largest arrays of the user's group."""
    node = open_node(args)
    found = [array for _, array in walk(node, node.path) if isinstance(array, Array)]
    for array in sorted(found, key=lambda array: -array.nbytes)[:MOST_ARRAYS]:
        yield Source(array.name, array.store, array.path, leading_part(array), None)


def leading_part(array: Array) -> tuple[slice, ...]:
    """The whole array, or where that is too large whole chunks at its start."""
    part = [slice(0, length) for length in array.shape]
    nbytes = array.nbytes
    for axis, length in enumerate(array.shape):
        if nbytes <= LARGEST_NBYTES:
            break
        most = max(int(length * (LARGEST_NBYTES / nbytes)), 1)
        _, stop = next(Edges(length, array.chunks[axis]).split(most))
        part[axis] = slice(0, stop)
        nbytes = nbytes * stop // length
    return tuple(part)


def find_jobs(sources: list[Source]) -> tuple[list[tuple[Source, list[str]]], list[Skipped]]:
    """Each array with the devices that it can be read into here, and why the others cannot."""
    jobs, skipped = [], []
    for source in sources:
        devices = []
        for device in DEVICES:
            try:
                # The engine is chosen when it is first asked for.
                _ = api.open_array(source.store, path=source.path, device=device).engine
            except (UnsupportedError, DeviceError) as error:
                skipped.append(Skipped(source.title, device, " ".join(error.message.split())))
            else:
                devices.append(device)
        if devices:
            jobs.append((source, devices))
    if not jobs:
        reasons = tuple(dict.fromkeys(each.reason for each in skipped))
        raise UnsupportedError("there is nothing here that can be read", reasons=reasons)
    return jobs, skipped


def read_source(source: Source, devices: list[str]) -> Iterator[Result]:
    """Read one array every way, into every device."""
    truth = source.truth
    for device in devices:
        array = api.open_array(source.store, path=source.path, device=device)
        if truth is None:
            truth = to_host(array.read(source.part))
        for way, keys in ways_to_read(array, source.part).items():
            yield measure(source, array, way, keys, truth)


def ways_to_read(array: Array, part: tuple[slice, ...]) -> dict[str, Keys]:
    """The selections of each way: everything, crops, with steps, one chunk in the middle."""
    rng = np.random.default_rng(7)
    crops = []
    for _ in range(CROPS):
        crop = []
        for cut in part:
            size = max(cut.stop // 4, min(cut.stop, 1))
            start = int(rng.integers(0, cut.stop - size + 1))
            crop.append(slice(start, start + size))
        crops.append(tuple(crop))
    chunk = []
    chunks: Sequence[Sizes] = array.chunks
    for length, sizes, cut in zip(array.shape, chunks, part, strict=True):
        middle = Edges(length, sizes).chunk(cut.stop // 2) if cut.stop else (0, 0)
        chunk.append(slice(middle[0], min(middle[1], cut.stop)))
    return {
        "everything": [part],
        f"{CROPS} crops": crops,
        "strided": [tuple(slice(0, cut.stop, 2 + axis) for axis, cut in enumerate(part))],
        "one chunk": [tuple(chunk)],
    }


def measure(source: Source, array: Array, way: str, keys: Keys, truth: np.ndarray) -> Result:
    """Read all `keys` a few times, and compare the last round with the truth."""
    fastest = float("inf")
    found = [array.read(key) for key in keys]
    for _ in range(ROUNDS):
        started = perf_counter()
        found = [array.read(key) for key in keys]
        fastest = min(fastest, perf_counter() - started)
    right = all(same(to_host(each), truth[key]) for each, key in zip(found, keys, strict=True))
    nbytes = sum(int(each.nbytes) for each in found)
    return Result(source.title, str(array.device), way, len(keys), nbytes, fastest, right)


def same(found: np.ndarray, truth: np.ndarray) -> bool:
    """Whether two arrays hold the same; NaN is NaN."""
    if found.shape != truth.shape or found.dtype != truth.dtype:
        return False
    if found.dtype.hasobject or found.dtype.kind == "T":
        return bool(np.array_equal(found, truth))
    return np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(truth).tobytes()


def report(
    results: list[Result], skipped: list[Skipped], screen: Screen, *, kept: Path | None
) -> int:
    """The table and the verdict."""
    columns = ["array", "device", "way", "size", "time", "speed", "values"]
    rows = [
        [
            result.array,
            result.device,
            result.way,
            format_nbytes(result.nbytes),
            f"{result.seconds * 1e3:.1f} ms",
            f"{format_nbytes(result.nbytes / max(result.seconds, 1e-9))}/s",
            "ok" if result.right else "bad",
        ]
        for result in results
    ]
    screen.table(columns, rows, numbers=["size", "time", "speed"])
    screen.text("speed counts the bytes that a read gives; crops decode whole chunks", "dim")
    sources = len({each.array for each in results} | {each.array for each in skipped})
    for device, reason in dict.fromkeys((each.device, each.reason) for each in skipped):
        arrays = [each.array for each in skipped if (each.device, each.reason) == (device, reason)]
        which = "" if len(arrays) == sources else f" ({', '.join(arrays)})"
        screen.text(f"not read into {device}{which}: {reason}", "yellow")
    if kept is not None:
        screen.text(f"the data set is in {kept}; try: gpuzarr info {kept / 'cells-v3.zarr'}")
    bad = sum(not result.right for result in results)
    reads = sum(result.reads for result in results)
    if bad:
        screen.text(f"{bad} of {len(results)} ways gave wrong values", "bold red")
    else:
        screen.text(f"all {reads} reads gave the right values", "green")
    screen.document(
        {
            "ok": not bad,
            "skipped": [each._asdict() for each in skipped],
            "results": [
                {
                    "array": result.array,
                    "device": result.device,
                    "way": result.way,
                    "reads": result.reads,
                    "nbytes": result.nbytes,
                    "seconds": result.seconds,
                    "ok": result.right,
                }
                for result in results
            ],
        }
    )
    return PROBLEMS if bad else 0
