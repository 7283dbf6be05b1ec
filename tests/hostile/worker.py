"""A process that reads inputs, which it may not survive: another one watches it.

    python -m tests.hostile.worker STATE FINDINGS JOB

STATE is a file of numbers that both processes see: which input is being read, since when, and what
came of those before. FINDINGS gets a line of JSON for each finding. JOB is a file of JSON:
{"start": 0, "stop": 1000, "step": 1} or {"these": [["truncated", 17], ...]}.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import re
import resource
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.cuda_devices import installed
from tests.engines.cuda.fake_device import FakeDevice
from tests.hostile.inputs import (
    Hostile,
    Tools,
    digest,
    empty,
    make,
    make_tools,
    numbered,
    rounds,
)
from tests.hostile.judge import CUDA_EVERY, Verdict, compare, judge
from tests.hostile.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_GROWTH = 256 << 20
"""Bytes that the peak of memory may grow by."""
LOOK_GROWTH = 64 << 20
"""Growth that is looked at more closely: whether memory was given back."""
ADDRESS_SPACE = 8 << 30
"""Bytes that a worker can ask for at all, so that the machine's size makes no difference."""
MEMORY_STATUS = 3
"""Exit status of a process whose memory grew too much."""
OUTCOMES = ("refused", "right", "untold")
NAMES = sorted(KINDS)


@dataclass
class State:
    """The numbers that worker and watch share."""

    numbers: Any
    """(3 + 4 kinds) int64: input, when it was begun in nanoseconds, inputs that went to the CUDA
    engine; then for each kind inputs and outcomes."""

    @classmethod
    def at(cls, path: Path, *, new: bool = False) -> State:
        """The numbers in a file."""
        shape = (3 + 4 * len(NAMES),)
        return cls(np.memmap(path, np.int64, "w+" if new else "r+", shape=shape))

    @property
    def counts(self) -> Any:
        """(kinds, 4) inputs, refused, right, untold."""
        return self.numbers[3:].reshape(-1, 4)


class Worker:
    """Reads inputs one after another."""

    def __init__(self, state: State, findings: Path, tools: Tools, device: FakeDevice) -> None:
        self.state = state
        self.findings = findings
        self.tools = tools
        self.device = device
        self.unseen: list[str] = []
        sys.unraisablehook = lambda event: self.unseen.append(f"unraisable: {event.exc_value!r}")
        for base in tools.bases:
            with suppress(Exception):
                _ = base.plain
        self.first = self.least = held()
        forget_peak()

    def read(self, index: int, name: str, number: int) -> None:
        """Make, read and judge one input."""
        numbers = self.state.numbers
        numbers[1] = time.monotonic_ns()
        numbers[0] = index
        hostile = make(name, number, self.tools)
        verdict = judge(hostile, number)
        found = list(verdict.findings)
        if number % CUDA_EVERY == 1:
            hostile = self._again(hostile, name, number)
            second = judge(hostile, number, device="cuda")
            compare(hostile, verdict, second)
            found += [f"cuda: {each}" for each in second.findings]
            numbers[2] += 1
            self.device.trace.clear()
            self.device.marks.clear()
        self._clean(hostile)
        found += self.unseen
        self.unseen.clear()
        grown = self._grown()
        if grown > MOST_GROWTH:
            found.append(f"memory grew by {grown >> 20} MiB")
        self._count(name, verdict)
        if found:
            self._tell(index, name, number, hostile, found)
        if grown > MOST_GROWTH:
            numbers[1] = 0
            sys.exit(MEMORY_STATUS)

    def _grown(self) -> int:
        """Bytes that the last input took at its peak, or that all inputs so far have kept."""
        grown = peak() - self.least
        if grown > LOOK_GROWTH:
            gc.collect()
            forget_peak()
            self.least = held()
        return max(grown, self.least - self.first)

    def _again(self, hostile: Hostile, name: str, number: int) -> Hostile:
        """The input once more, where reading may have changed it."""
        if type(hostile.store) is not dict:
            self._clean(hostile)
            return make(name, number, self.tools)
        return hostile

    def _clean(self, hostile: Hostile) -> None:
        if hostile.on_disk:
            empty(self.tools.folder)

    def _count(self, name: str, verdict: Verdict) -> None:
        row = self.state.counts[NAMES.index(name)]
        row[0] += 1
        row[1 + OUTCOMES.index(verdict.outcome)] += 1

    def _tell(self, index: int, name: str, number: int, hostile: Hostile, found: list[str]) -> None:
        document = {
            "index": index,
            "kind": name,
            "number": number,
            "what": hostile.what,
            "digest": digest(hostile),
            "found": found,
        }
        with self.findings.open("a") as file:
            file.write(json.dumps(document) + "\n")


def peak() -> int:
    """The most memory that the process has had, in bytes.

    Not `ru_maxrss`, in which a process begins with what its parent has.
    """
    found = re.search(rb"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_bytes())
    assert found is not None
    return int(found[1]) * 1024


def held() -> int:
    """The memory that the process has now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def forget_peak() -> None:
    """Let `peak` begin anew, where the system lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def inputs_of(job: dict[str, Any]) -> Iterator[tuple[int, str, int]]:
    """Index, kind and number of each input of a job."""
    if "these" in job:
        for index, (name, number) in enumerate(job["these"]):
            yield index, name, number
        return
    order = rounds()
    for index in range(job["start"], job["stop"], job["step"]):
        yield index, *numbered(index, order)


def run(state: Path, findings: Path, job: dict[str, Any]) -> None:
    """Do a job."""
    faulthandler.enable()
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    device = FakeDevice()
    # Below the watch's folder, which takes it away, however this process ends.
    folder = state.with_name(f"{state.name}-stores")
    folder.mkdir(exist_ok=True)
    empty(folder)
    with installed(device):
        worker = Worker(State.at(state), findings, make_tools(folder), device)
        for index, name, number in inputs_of(job):
            worker.read(index, name, number)
        worker.state.numbers[1] = 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        run(
            Path(sys.argv[1]),
            Path(sys.argv[2]),
            json.loads(Path(sys.argv[3]).read_text(encoding="utf-8")),
        )
