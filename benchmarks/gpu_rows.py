"""A row of the table: a workload is written, read by every reader in turn, and held to the limit.

Readers alternate within one process, in an order that moves on from round to round; ratios are
medians of the ratios of each round. A reader's first read is not timed: its result is compared with
the data.
"""

from __future__ import annotations

import shutil
import statistics
import time
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from counted_device import counted
from cpu_limit import needed, pieces_of, stored
from gpu_bench import GB, MIB
from gpu_ceilings import Alone, WrongDataError
from gpu_limit import Needs, against_limit
from gpu_readers import OWN, READERS, Task
from gpu_stored import CODECS, total_nbytes, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpu_bench import Bench
    from gpu_limit import Ceilings
    from gpu_readers import Reader
    from gpu_results import Results
    from gpu_stored import Values
    from gpu_workloads import Workload
    from numpy.typing import NDArray

    Row = dict[str, Any]

ROUNDS_OF_SLOW = ((4.0, 1), (1.0, 3))
"""Seconds of a first read from which on a reader has so few rounds."""
SHORT = 32 * MIB
"""Bytes of results up to which a read is short."""
LATE = 60
"""Seconds beyond the time at which nothing new is begun, after which no round is."""
SAMPLE = 512 * MIB
"""Bytes of decoded chunks that nvCOMP alone is measured on, at most (but one chunk)."""


def rows_of(  # noqa: PLR0913, PLR0917  all that a row needs
    bench: Bench,
    workload: Workload,
    wanted: Sequence[str],
    ceilings: Ceilings,
    folder: Path,
    results: Results,
) -> Iterator[tuple[str, Row]]:
    """The rows of a workload that are wanted: the name, and what was found.

    Raises:
        WrongDataError: gpuzarr's result is not what the array holds.
    """
    arrays = workload.arrays()
    place = folder / "".join(c if c.isalnum() else "-" for c in workload.name)
    shutil.rmtree(place, ignore_errors=True)
    try:
        paths = write(workload, place, arrays)
        about = {
            "what": workload.what,
            "stored / decoded": total_nbytes(place) / sum(array.nbytes for array in arrays),
        }
        for name, requests in zip(workload.names(), workload.requests().values(), strict=True):
            if name not in wanted:
                continue
            bench.give_back()
            stacked = workload.crop is not None
            truth = expected(workload, arrays, requests)
            dtype = truth.dtype
            task = Task(paths, requests, stacked, workload.stored, dtype, truth.shape)
            needs, alone = find_needs(bench, workload, task)
            bench.give_back()
            row = {**about, "result, MB": truth.nbytes / 1e6, **alone}
            row |= compare(bench, task, truth, name, results)
            row |= counts(bench, task, truth.nbytes)
            row |= against_limit(needs, ceilings, row["readers"][OWN]["ms"] / 1e3)
            yield name, row
    finally:
        shutil.rmtree(place, ignore_errors=True)


def expected(
    workload: Workload, arrays: Sequence[Values], requests: Sequence[tuple[int, Any]]
) -> Values:
    """What a read must give."""
    dtype = np.dtype(workload.result or workload.dtype)
    if workload.crop is None:
        number, key = requests[0]
        return np.ascontiguousarray(arrays[number][key], dtype)
    return np.stack([arrays[number][key].astype(dtype) for number, key in requests])


def find_needs(bench: Bench, workload: Workload, task: Task) -> tuple[Needs, Row]:
    """What the read has to do, and how fast nvCOMP alone decodes such chunks."""
    nbytes = prod(workload.chunks) * workload.stored.itemsize
    most = max(1, SAMPLE // nbytes)
    sample: list[bytes] = []
    fetched = count = 0
    for number, path in enumerate(task.paths):
        keys = [key for which, key in task.requests if which == number]
        array = stored(path)
        for piece in pieces_of(array, needed(array, keys)):
            count += len(piece.parts)
            fetched += sum(stop - start for start, stop in piece.parts)
            if len(sample) < most:
                with Path(piece.path).open("rb") as file:
                    file.seek(piece.offset)
                    data = file.read(piece.nbytes)
                sample += [data[start:stop] for start, stop in piece.parts]
    speed = float("inf")
    found: Row = {"chunks": count, "streams": 0}
    form = CODECS[workload.codec].frames
    if form is not None:
        alone = Alone(bench, form, sample[:most], nbytes)
        found["streams"] = round(alone.streams * count / len(sample[:most]))
        if alone.streams:  # Blosc may have stored all of them as they are
            speed = nbytes * len(sample[:most]) / bench.seconds(alone.start)
            alone.check()
            found["nvCOMP alone, GB/s"] = speed / GB
    elements = prod(task.shape)
    return (
        Needs(
            fetched,
            count * nbytes,
            speed,
            elements * task.stored.itemsize,
            elements * task.dtype.itemsize,
        ),
        found,
    )


def compare(
    bench: Bench, task: Task, truth: NDArray[Any], name: str, results: Results
) -> dict[str, dict[str, Row]]:
    """The readers' times, and why others have none.

    Raises:
        WrongDataError: gpuzarr's result is not the truth.
    """
    rows: dict[str, Row] = {}
    taking: list[tuple[Row, Callable[[], Any], int]] = []
    every = bench.size.rounds if truth.nbytes > SHORT else bench.size.short_rounds
    for reader in READERS:
        row = rows[reader.name] = {}
        why = reader.missing() or results.skipped(name, reader.name)
        if why is not None:
            row["missing"] = why
            continue
        with results.trying(name, reader.name):
            run = attempt(bench, reader, task, truth, row)
        if run is not None:
            few = (rounds for slow, rounds in ROUNDS_OF_SLOW if row["first, ms"] > 1e3 * slow)
            taking.append((row, run, every if reader.name == OWN else next(few, every)))
    if "seconds" not in rows[OWN]:
        raise WrongDataError(f"{OWN}: {rows[OWN]}")
    results.failed |= any("wrong" in row for row in rows.values())
    for number in range(every):
        if number and not results.in_time(LATE):
            break
        for turn in range(len(taking)):
            row, run, rounds = taking[(number + turn) % len(taking)]
            if number < rounds:
                begin = time.perf_counter()
                result = run()
                row["seconds"].append(time.perf_counter() - begin)
                del result
    summarize(rows, truth.nbytes)
    return {"readers": rows}


def attempt(
    bench: Bench, reader: Reader, task: Task, truth: NDArray[Any], row: Row
) -> Callable[[], Any] | None:
    """Open, read and compare for the first time; what is timed later, or None, as the row says.

    Errors of gpuzarr's are errors of the row.

    Raises:
        LostDeviceError: the reader has lost the device.
    """
    try:
        run = reader.prepare(bench, task)
        begin = time.perf_counter()
        result = run()
        row["first, ms"] = 1e3 * (time.perf_counter() - begin)
    except Exception as error:
        bench.require_device()
        if reader.name == OWN:
            raise
        row["refuses"] = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        return None
    if not bench.same(result, truth):
        row["wrong"] = True
        return None
    row["seconds"] = []
    return run


def summarize(rows: dict[str, Row], nbytes: int) -> None:
    """Medians and rates, and the ratios to gpuzarr's times of the same rounds."""
    own = rows[OWN]["seconds"]
    for row in rows.values():
        if "seconds" not in row:
            continue
        seconds = row.pop("seconds")
        ratios = [theirs / ours for theirs, ours in zip(seconds, own, strict=False)]
        median = statistics.median(seconds)
        row |= {
            "ms": 1e3 * median,
            "GB/s": nbytes / median / GB,
            "ratio": statistics.median(ratios),
            "least": min(ratios),
            "most": max(ratios),
            "rounds": len(seconds),
        }


def counts(bench: Bench, task: Task, nbytes: int) -> Row:
    """What one read of gpuzarr's asks of the device."""
    own = next(reader for reader in READERS if reader.name == OWN)
    with counted() as device:
        own.prepare(bench, task)()
    return {
        "launches": device.counts["launches"],
        "nvCOMP calls": device.counts["nvCOMP calls"],
        "copies": device.counts["copies"],
        "MB up": device.counts["bytes up"] / 1e6,
        "peak device memory, MB": (nbytes + device.peak) / 1e6,
    }
