"""The long run: processes that fuzz targets, one after another, and what they found."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hostile.fuzz.watch import Finding
from tests.hostile.fuzz.worker import Desk, Job, Report, work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

STUCK_SECONDS = 60.0
"""Without a new input, after which a process is taken for stuck; it stops by itself far earlier,
where the interpreter gets to it."""
START_SECONDS = 120.0
"""The same for the first input, before which everything is imported."""
MOST_DEATHS = 20
"""Processes of a target that may die, before it is left alone."""
POLL_SECONDS = 0.2
SHOW_SECONDS = 5.0


@dataclass
class Tally:
    """What is known of a target."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reached: int = 0
    seconds: float = 0.0
    deaths: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        """Inputs that were checked."""
        return sum(self.outcomes.values())


@dataclass
class Running:
    """A process at work."""

    name: str
    """Of the target."""
    process: BaseProcess
    pipe: Connection
    desk: Desk
    begun: float
    end: float
    count: int = 0
    moved: float = 0.0
    """When the last input was begun."""


class Campaign:
    """Fuzzes targets, each for a share of the time, in some processes at once."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        seconds: float,
        processes: int,
        seed: int,
        out: Path,
        module: str = "tests.hostile.fuzz.targets",
    ) -> None:
        """Start nothing yet.

        Args:
            names: of the targets that are fuzzed.
            seconds: for all of it.
            processes: at once.
            seed: of the inputs.
            out: folder for findings and for inputs that reached something new, which later runs
                begin with.
            module: where the targets are.
        """
        self.tallies = {name: Tally() for name in names}
        self._share = seconds * min(processes, len(names)) / len(names)
        self._module = module
        self._processes = processes
        self._seed = seed
        self._out = out
        self._waiting = [(name, self._share) for name in names]
        self._running: list[Running] = []
        self._context = multiprocessing.get_context("spawn")
        self._starts = 0
        self._shown = 0.0

    def run(self) -> bool:
        """Do it all, or what there is time for until an interrupt; says whether all is well."""
        self._out.mkdir(parents=True, exist_ok=True)
        (self._out / ".gitignore").write_text("*\n")
        with tempfile.TemporaryDirectory(prefix="gpuzarr-fuzz-") as desks:
            try:
                while self._waiting or self._running:
                    while self._waiting and len(self._running) < self._processes:
                        self._start(*self._waiting.pop(0), Path(desks))
                    time.sleep(POLL_SECONDS)
                    for running in list(self._running):
                        self._look_at(running)
                    self._show()
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)  # noqa: T201
            finally:
                for running in self._running:
                    running.process.kill()
                    running.process.join()
        return not any(tally.findings for tally in self.tallies.values())

    def _start(self, name: str, seconds: float, desks: Path) -> None:
        self._starts += 1
        path = desks / str(self._starts)
        desk = Desk(path, create=True)
        ours, theirs = self._context.Pipe(duplex=False)
        seed = self._seed + self._starts
        job = Job(self._module, name, seed, seconds, self._out / "corpus", path)
        process = self._context.Process(target=work, args=(job, theirs))
        process.start()
        theirs.close()
        now = time.monotonic()
        self._running.append(Running(name, process, ours, desk, now, now + seconds, moved=now))

    def _look_at(self, running: Running) -> None:
        """Take reports; see whether the process lives, and moves."""
        alive = running.process.is_alive()
        self._take_reports(running)
        now = time.monotonic()
        count = running.desk.count()
        if count != running.count:
            running.count, running.moved = count, now
        tally = self.tallies[running.name]
        what = ""
        if not alive and running.process.exitcode:
            what = f"the process died: {running.process.exitcode}"
        elif alive and now - running.moved > (STUCK_SECONDS if count else START_SECONDS):
            running.process.kill()
            what = "the process is stuck"
        if what:
            data = running.desk.latest()
            self._keep_finding(Finding(running.name, data, what, what))
            tally.deaths += 1
            if now < running.end and tally.deaths < MOST_DEATHS:
                self._waiting.append((running.name, running.end - now))
        if what or not alive:
            running.process.join()
            self._running.remove(running)
            tally.seconds += now - running.begun

    def _take_reports(self, running: Running) -> None:
        tally = self.tallies[running.name]
        with suppress(EOFError, OSError):
            while running.pipe.poll():
                report: Report = running.pipe.recv()
                tally.outcomes.update(report.outcomes)
                tally.reached = max(tally.reached, report.reached)
                for finding in report.findings:
                    self._keep_finding(finding)
                for data in report.new:
                    self._write("corpus", running.name, _digest(data), data)

    def _keep_finding(self, finding: Finding) -> None:
        tally = self.tallies[finding.target]
        if finding.what in tally.findings:
            return
        tally.findings[finding.what] = finding
        self._write("findings", finding.target, finding.name, finding.data)
        text = f"{finding.what}\n\n{finding.text}\n"
        self._write(
            "findings",
            finding.target,
            finding.name + ".txt",
            text.encode(errors="backslashreplace"),
        )
        print(f"FINDING {finding.target}: {finding.what}", file=sys.stderr)  # noqa: T201

    def _write(self, kind: str, target: str, name: str, data: bytes) -> None:
        folder = self._out / kind / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    # What people see

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown < SHOW_SECONDS:
            return
        self._shown = now
        names = []
        for running in self._running:
            rate = running.count / max(now - running.begun, 1e-3)
            names.append(f"{running.name} {running.count:,} ({rate:,.0f}/s)")
        left = len(self._waiting) * self._share / self._processes
        left += max((running.end - now for running in self._running), default=0)
        total = sum(tally.inputs for tally in self.tallies.values())
        found = sum(len(tally.findings) for tally in self.tallies.values())
        print(  # noqa: T201
            f"{total:,} inputs, {found} findings, {max(left, 0):.0f} s left: {', '.join(names)}",
            file=sys.stderr,
        )

    def table(self) -> str:
        """All counts, in Markdown."""
        lines = [
            "| target | inputs | right | refused | unusable | lines reached | findings |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for name, tally in self.tallies.items():
            counts = [tally.outcomes[kind] for kind in ("right", "refused", "unusable")]
            numbers = [tally.inputs, *counts, tally.reached, len(tally.findings)]
            lines.append(f"| `{name}` | " + " | ".join(f"{n:,}" for n in numbers) + " |")
        return "\n".join(lines)

    def record(self) -> str:
        """The same as JSON, with how long it took."""
        return json.dumps(
            {
                name: {
                    "inputs": tally.inputs,
                    "outcomes": dict(tally.outcomes),
                    "reached": tally.reached,
                    "seconds": round(tally.seconds, 1),
                    "findings": sorted(tally.findings),
                }
                for name, tally in self.tallies.items()
            },
            indent=1,
        )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
