"""Clocks for `loader.py`, and the work of its consumers."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Work = Callable[[], object]

WORK_S = 0.005
UNTIMED = 10
"""Batches before the clock starts: more than are read ahead."""


@dataclass(frozen=True)
class Took:
    """Seconds a batch."""

    wall: float
    cpu: float
    """Of all threads."""
    each: tuple[float, ...]
    """Wall time of one after another."""


def time_batches(batches: Iterable[object], work: Work) -> Took:
    """Go through batches and work on each."""
    iterator = iter(batches)
    for _ in islice(iterator, UNTIMED):
        work()
    cpu, begin = time.process_time(), time.perf_counter()
    each = []
    for _ in iterator:
        work()
        each.append(time.perf_counter())
    cpu, count = time.process_time() - cpu, len(each)
    taken = tuple(after - before for before, after in pairwise((begin, *each)))
    return Took((each[-1] - begin) / count, cpu / count, taken)


def pipeline_seconds(making: Sequence[float], working: float, ahead: int) -> float:
    """What a batch takes where nothing is lost but by waiting.

    A consumer waits for a batch that takes long to make, and whoever makes them waits where as
    many as it may are ahead: even if both need the same time on average, both wait at times.

    Args:
        making: seconds that each batch takes to be made.
        working: seconds that the consumer takes for each.
        ahead: as `prefetch`.
    """
    made = done = first = 0.0
    taken: list[float] = []
    for number, seconds in enumerate(making):
        made = max(made, taken[number - ahead] if number >= ahead else 0.0) + seconds
        taken.append(max(made, done))
        done = taken[-1] + working
        first = first or done
    return (done - first) / max(1, len(making) - 1)


class OtherProcesses:
    """How busy other processes keep the CPUs, from now on."""

    def __init__(self) -> None:
        self._began = self._now()

    def share(self) -> float:
        """Their share of the CPUs; 0 where the system does not tell."""
        (total, busy), (total_before, busy_before) = self._now(), self._began
        return max(0.0, (busy - busy_before) / max(1.0, total - total_before))

    @staticmethod
    def _now() -> tuple[float, float]:
        """Seconds of all CPUs, and those in which others ran on them."""
        try:
            line = Path("/proc/stat").read_text(encoding="utf-8").partition("\n")[0]
        except OSError:
            return 0.0, 0.0
        ticks = [int(entry) / os.sysconf("SC_CLK_TCK") for entry in line.split()[1:9]]
        total, idle = sum(ticks), ticks[3] + ticks[4]
        return total, total - idle - time.process_time()


def nothing() -> None:
    """The work of a reader alone."""


def works() -> dict[str, Work]:
    """What consumers do, for the same time."""
    values = np.linspace(0, 1, 1 << 16)
    result = np.empty_like(values)
    took = []
    for _ in range(100):
        begin = time.perf_counter()
        np.sin(values, out=result)
        took.append(time.perf_counter() - begin)
    values = np.linspace(0, 1, round(len(values) * WORK_S / min(took)))
    return {
        "sleeps": partial(time.sleep, WORK_S),
        "busy": partial(np.sin, values, out=np.empty_like(values)),
    }
