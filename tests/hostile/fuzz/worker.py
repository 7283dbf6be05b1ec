"""A process that fuzzes one target, and says what it is about to do before it does it."""

from __future__ import annotations

import importlib
import mmap
import signal
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.hostile.fuzz.coverage import make_coverage
from tests.hostile.fuzz.fuzzer import Fuzzer, corpus_of

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from tests.hostile.fuzz.target import Target
    from tests.hostile.fuzz.watch import Finding

HEADER = struct.Struct("<QQ")
"""How many inputs were begun, and bytes of the latest, which follow."""
ROOM = 1 << 20
REPORT_SECONDS = 0.5


class Desk:
    """A file in which the latest input lies: it is still there when the process is not."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open it; the process that watches creates it."""
        if create:
            path.write_bytes(bytes(HEADER.size + ROOM))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), HEADER.size + ROOM)
        self._count = 0

    def put(self, data: bytes) -> None:
        """An input is begun."""
        self._count += 1
        self._map[HEADER.size : HEADER.size + len(data)] = data
        HEADER.pack_into(self._map, 0, self._count, len(data))

    def count(self) -> int:
        """Inputs that were begun."""
        return int(HEADER.unpack_from(self._map)[0])

    def latest(self) -> bytes:
        """The input that was begun last."""
        _, nbytes = HEADER.unpack_from(self._map)
        return self._map[HEADER.size : HEADER.size + nbytes]


@dataclass(frozen=True)
class Job:
    """What a worker does."""

    module: str
    """Where the target is."""
    name: str
    seed: int
    seconds: float
    kept: Path
    """Folder with inputs of earlier runs."""
    desk: Path


@dataclass
class Report:
    """What a worker did since the report before."""

    outcomes: dict[str, int]
    reached: int
    """Lines of gpuzarr that ran, in all."""
    findings: list[Finding] = field(default_factory=list)
    new: list[bytes] = field(default_factory=list)
    """Inputs that reached something new."""


def find_target(module: str, name: str) -> Target:
    """A target by its name in a module's `TARGETS`."""
    found: Target = importlib.import_module(module).TARGETS[name]
    return found


def work(job: Job, pipe: Connection) -> None:
    """Fuzz a target for some time; what the parent must know goes through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's business
    target = find_target(job.module, job.name)
    desk = Desk(job.desk, create=False)
    coverage = make_coverage()
    inputs = [data for _, data in (*corpus_of(target.name), *corpus_of(target.name, job.kept))]
    fuzzer = Fuzzer(target, job.seed, inputs, coverage, desk.put)
    reported: dict[str, int] = {}
    findings: list[Finding] = []
    now = time.monotonic()
    end, due = now + job.seconds, now
    with target.around():
        while now < end:
            finding = fuzzer.step()
            if finding is not None:
                findings.append(finding)
            now = time.monotonic()
            if now < due and finding is None:
                continue
            due = now + REPORT_SECONDS
            counts = dict(fuzzer.outcomes)
            more = {name: counts[name] - reported.get(name, 0) for name in counts}
            pipe.send(Report(more, len(coverage.seen), findings, fuzzer.new))
            reported, findings, fuzzer.new = counts, [], []
    counts = dict(fuzzer.outcomes)
    more = {name: counts[name] - reported.get(name, 0) for name in counts}
    pipe.send(Report(more, len(coverage.seen), findings, fuzzer.new))
