"""Time reads of your own array: on each engine, beside zarr-python, and the stored bytes alone.

Everything, or the part given with --select, is read; then small windows at random places, one by
one and in one call. All ways take turns, and the median of each is shown. The first round is not
counted, so what is timed is a warm cache. The ways must agree on the values. --trace records one
read more: what each thread did when, and the GPU.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr import api
from gpuzarr.cli.demo import leading_part
from gpuzarr.cli.explain import add_selection_argument
from gpuzarr.cli.node import add_node_arguments, open_array
from gpuzarr.cli.read import to_host
from gpuzarr.cli.recorded import RecordedStore, fetch_again
from gpuzarr.cli.screen import format_nbytes
from gpuzarr.cli.selection import parse_selection
from gpuzarr.cli.traced import SUFFIXES, write_trace
from gpuzarr.engines.pool import cpu_count
from gpuzarr.errors import DeviceError, GpuzarrError, UnsupportedError
from gpuzarr.many import read_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.array import Array
    from gpuzarr.cli.screen import Screen

HELP = "time reads of your own array"

PROBLEMS = 1
ROUNDS = 5
WINDOWS = 64
WINDOW = 64
"""Positions of a window along each of the last axes whose chunks have more than one..."""
WINDOW_NDIM = 3
"""... so many axes at most; one along the others."""
SEED = 7
REFERENCE = "gpuzarr cpu"
"""Whose time the others' are divided by."""


@dataclass(slots=True)
class Way:
    """One way to read, and how long each round took."""

    name: str
    read: Callable[[], Sequence[Any]]
    """Reads all selections of an operation, and gives the results."""
    checked: bool = True
    """Whether what it gives are the values."""
    seconds: list[float] = field(default_factory=list)
    right: bool = True
    failed: str | None = None
    """Why it gave nothing."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What is read, and every way to do that."""

    name: str
    nbytes: int
    """Of the results."""
    ways: list[Way]
    key: Any = ...
    """The selection, where it is one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An array, a part of it, how often."""
    add_node_arguments(parser)
    add_selection_argument(parser)
    parser.add_argument(
        "--rounds", type=_count, default=ROUNDS, help=f"timed rounds, 1 or more ({ROUNDS})"
    )
    parser.add_argument(
        "--windows", type=_count, default=WINDOWS, help=f"random windows ({WINDOWS})"
    )
    parser.add_argument(
        "--trace",
        metavar="FILE",
        type=_trace_file,
        help="record one read more; FILE.svg: a picture of it, FILE.json: for Perfetto",
    )


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Time all ways in turn; exit status 1 when they do not agree."""
    array = open_array(args)
    devices, skipped = find_devices(args, array)
    operations = [everything(args, array, devices, screen)]
    windows = random_windows(array, args.windows)
    if windows is not None and args.select == "...":
        operations += window_operations(args, devices, windows)
    with screen.progress("reading", len(operations) * (args.rounds + 1)) as advance:
        for operation in operations:
            measure(operation, args.rounds, advance)
    if args.trace is not None:
        first = operations[0]
        write_trace(args.trace, list(devices.values())[-1], first.key, first.name)
    return report(operations, skipped, screen, args.trace)


def find_devices(args: argparse.Namespace, array: Array) -> tuple[dict[str, Array], list[str]]:
    """The array, opened for each device that it can be read into here; and why not the others."""
    wanted = ("cpu", "cuda") if args.device == "auto" else ("cpu", args.device)
    found: dict[str, Array] = {}
    skipped: list[str] = []
    for device in dict.fromkeys(wanted):
        try:
            opened = array.with_options(device=device)
            _ = opened.engine  # chosen when it is first asked for
        except (UnsupportedError, DeviceError) as error:
            if device == args.device:
                raise
            skipped.append(f"not read into {device}: {' '.join(error.message.split())}")
        else:
            found[f"gpuzarr {device}"] = opened
    if not found:
        raise UnsupportedError("this array can be read into no device here", reasons=tuple(skipped))
    return found, skipped


def everything(
    args: argparse.Namespace, array: Array, devices: dict[str, Array], screen: Screen
) -> Operation:
    """The whole array, its beginning where it is very large, or what --select says."""
    key: Any = parse_selection(args.select)
    name = "everything" if args.select == "..." else f"[{args.select}]"
    if args.select == "...":
        key = leading_part(array)
        if prod(part.stop for part in key) < array.size:
            shown = ", ".join(f"0:{part.stop}" for part in key)
            name = f"[{shown}]"
            screen.text(f"the array is large: {name} of it is read; --select takes other parts")
    first = devices[next(iter(devices))]
    nbytes = int(first.read(key).nbytes)
    ways = [
        Way("bytes alone", fetch_again(record(args, [key]), cpu_count()), checked=False),
        *(Way(name, _reads(opened, [key])) for name, opened in devices.items()),
        *peers(args, [key]),
    ]
    return Operation(name, nbytes, ways, key)


def window_operations(
    args: argparse.Namespace, devices: dict[str, Array], windows: Sequence[tuple[slice, ...]]
) -> list[Operation]:
    """Random windows, one by one and in one call."""
    shape = [part.stop - part.start for part in windows[0]]
    first = devices[next(iter(devices))]
    nbytes = len(windows) * prod(shape) * first.dtype.itemsize
    text = f"{len(windows)} windows of {' x '.join(map(str, shape))}"
    one_by_one = [Way(name, _reads(opened, windows)) for name, opened in devices.items()]
    in_one_call = [Way(name, _batch(opened, windows)) for name, opened in devices.items()]
    return [
        Operation(text, nbytes, [*one_by_one, *peers(args, windows)]),
        Operation(f"{text}, in one call", nbytes, in_one_call),
    ]


def random_windows(array: Array, count: int) -> list[tuple[slice, ...]] | None:
    """Windows at random places, the same every time; None where the array has no room for any."""
    shape = array.shape
    if not shape or not all(shape):
        return None
    size = [1] * len(shape)
    left = WINDOW_NDIM
    for axis in reversed(range(len(shape))):
        if left and array.chunks[axis] != 1:
            size[axis] = min(shape[axis], WINDOW)
            left -= 1
    if size == list(shape):
        return None  # each would be everything
    rng = np.random.default_rng(SEED)
    most = [length - own for length, own in zip(shape, size, strict=True)]
    starts = [[int(rng.integers(room + 1)) for room in most] for _ in range(count)]
    return [
        tuple(slice(begin, begin + own) for begin, own in zip(start, size, strict=True))
        for start in starts
    ]


def record(args: argparse.Namespace, keys: Sequence[Any]) -> RecordedStore:
    """The requests that reads of these selections make, done once."""
    store = RecordedStore.of(
        args.store, follow_symlinks=args.follow_symlinks, storage_options=args.storage_options
    )
    array = api.open_array(
        store, path=args.path, zarr_format=args.zarr_format, device="cpu", consolidated=False
    )
    store.requests.clear()
    for key in keys:
        array.read(key)
    return store


def peers(args: argparse.Namespace, keys: Sequence[Any]) -> list[Way]:
    """zarr-python, where it is installed."""
    try:
        name = f"zarr-python {version('zarr')}"
        import zarr  # noqa: PLC0415  slow, and not everybody has it
    except (ImportError, PackageNotFoundError):
        return []
    opened: list[Any] = []

    def read() -> list[Any]:
        if not opened:
            options: dict[str, Any] = {"path": args.path} if args.path else {}
            opened.append(zarr.open_array(args.store, mode="r", **options))
        return [opened[0][key] for key in keys]

    return [Way(name, read)]


def measure(operation: Operation, rounds: int, advance: Callable[[int], None]) -> None:
    """Time all ways in turn, the first of a round another each time; round 0 is not counted."""
    truth: list[np.ndarray] | None = None
    for number in range(rounds + 1):
        turn = number % len(operation.ways)
        for way in operation.ways if not number else _rotated(operation.ways, turn):
            if way.failed is not None:
                continue
            try:
                began = perf_counter()
                found = way.read()
                seconds = perf_counter() - began
            except GpuzarrError:
                raise
            except Exception as error:  # noqa: BLE001  of another library: shown in its row
                way.failed = f"{type(error).__name__}: {' '.join(str(error).split())}"
                continue
            if number:
                way.seconds.append(seconds)
            elif way.checked:
                values = [np.asarray(to_host(each)) for each in found]
                truth = truth or values
                way.right = len(values) == len(truth) and all(map(_agree, values, truth))
            del found
        advance(1)


def report(
    operations: Sequence[Operation],
    skipped: Sequence[str],
    screen: Screen,
    trace: Path | None = None,
) -> int:
    """The table and the verdict."""
    columns = ["read", "size", "way", "time", "speed", "time over gpuzarr's", "values"]
    rows = [_row(operation, way) for operation in operations for way in operation.ways]
    screen.table(columns, rows, numbers=columns[1:2] + columns[3:6])
    screen.text(
        "median times; speed counts the bytes that a read gives (for bytes alone: decoded ones);"
        " bytes alone: the same requests, nothing decoded",
        "dim",
    )
    if trace is not None:
        screen.text(f"wrote {trace}", "dim")
    for text in skipped:
        screen.text(text, "yellow")
    ways = [way for operation in operations for way in operation.ways]
    for text in dict.fromkeys(f"{way.name} failed: {way.failed}" for way in ways if way.failed):
        screen.text(text, "yellow")
    wrong = [way.name for way in ways if not way.right]
    if wrong:
        screen.text(f"not the same values: {', '.join(dict.fromkeys(wrong))}", "bold red")
    screen.document(
        {
            "ok": not wrong,
            "skipped": skipped,
            "trace": trace,
            "reads": [
                {
                    "read": operation.name,
                    "nbytes": operation.nbytes,
                    "way": way.name,
                    "seconds": way.seconds,
                    "failed": way.failed,
                    "ok": way.right,
                }
                for operation in operations
                for way in operation.ways
            ],
        }
    )
    return PROBLEMS if wrong else 0


def _row(operation: Operation, way: Way) -> list[str]:
    if not way.seconds:
        return [operation.name, format_nbytes(operation.nbytes), way.name, "", "", "", "failed"]
    median = statistics.median(way.seconds)
    reference = next((one.seconds for one in operation.ways if one.name == REFERENCE), [])
    ratio = ""
    if reference and way.checked:
        ratios = [one / own for one, own in zip(way.seconds, reference, strict=True)]
        ratio = f"{statistics.median(ratios):.2f}"
    values = ("ok" if way.right else "bad") if way.checked else ""
    return [
        operation.name,
        format_nbytes(operation.nbytes),
        way.name,
        f"{median * 1e3:.1f} ms",
        f"{format_nbytes(operation.nbytes / max(median, 1e-9))}/s",
        ratio,
        values,
    ]


def _reads(array: Array, keys: Sequence[Any]) -> Callable[[], list[Any]]:
    return lambda: [_finished(array.read(key)) for key in keys]


def _batch(array: Array, keys: Sequence[Any]) -> Callable[[], list[Any]]:
    return lambda: list(_finished(read_batch([(array, key) for key in keys])))


def _finished(result: Any) -> Any:
    """A result whose work on a device is done."""
    if not isinstance(result, np.ndarray) and hasattr(result, "device"):
        result.device.synchronize()
    return result


def _agree(found: np.ndarray, truth: np.ndarray) -> bool:
    """Whether two arrays hold the same values, whatever their byte order; NaN is NaN."""
    if found.shape != truth.shape:
        return False
    with suppress(TypeError):  # of types that know no NaN
        return bool(np.array_equal(found, truth, equal_nan=True))
    return bool(np.array_equal(found, truth))


def _rotated(ways: list[Way], turn: int) -> list[Way]:
    return ways[turn:] + ways[:turn]


def _trace_file(text: str) -> Path:
    path = Path(text)
    if path.suffix not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"{text!r} must end in {' or '.join(SUFFIXES)}")
    return path


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
