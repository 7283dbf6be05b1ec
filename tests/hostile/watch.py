"""The processes that read inputs, watched: what hangs, dies or grows is a finding, too."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.hostile.inputs import numbered, rounds
from tests.hostile.worker import MEMORY_STATUS, NAMES, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 10.0
"""That an input may take."""
STARTING_SECONDS = 120.0
"""That a process may take until its first input: it may have to compile the kernels."""
POLL_SECONDS = 0.1

Finding = dict[str, Any]


@dataclass
class Share:
    """A process, or several one after another, that read some of the inputs."""

    number: int
    job: dict[str, Any]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    confirms: bool = True
    """Whether a hang is looked at once more, alone, before it counts: machines are shared."""

    @property
    def state_file(self) -> Path:
        return self.folder / f"state-{self.number}"

    @property
    def findings_file(self) -> Path:
        return self.folder / f"findings-{self.number}"

    @property
    def errors_file(self) -> Path:
        return self.folder / f"errors-{self.number}"

    def start(self) -> None:
        """Start a process for what is left of the job."""
        if not self.state_file.exists():
            State.at(self.state_file, new=True).numbers.flush()
            self.findings_file.touch()
        State.at(self.state_file).numbers[:2] = (-1, 0)
        job_file = self.state_file.with_name(f"job-{self.number}")
        job_file.write_text(json.dumps(self.job), encoding="utf-8")
        arguments = [str(self.state_file), str(self.findings_file), str(job_file)]
        with self.errors_file.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.hostile.worker", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self.began = time.monotonic()

    def look(self) -> bool:
        """See how the process is, and start another where it has died; whether it is done."""
        assert self.process is not None
        status = self.process.poll()
        numbers = State.at(self.state_file).numbers
        index, since = int(numbers[0]), int(numbers[1]) / 1e9
        if status == 0:
            return True
        if status is None:
            now = time.monotonic()
            if index == -1:
                if now - self.began > STARTING_SECONDS:
                    raise RuntimeError(f"a worker does not start: {self._errors()}")
                return False
            if since == 0 or now - since <= MOST_SECONDS:
                return False
            self.process.send_signal(signal.SIGABRT)  # faulthandler says where it is
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self._note(index, f"a hang of more than {MOST_SECONDS:g} s", again=self.confirms)
        elif status == MEMORY_STATUS:
            pass  # the worker has said so
        elif index == -1:
            raise RuntimeError(f"a worker does not start: {self._errors()}")
        else:
            name = signal.Signals(-status).name if status < 0 else f"status {status}"
            self._note(index, f"the process died: {name}", again=False)
        return self._go_on(index)

    def _go_on(self, index: int) -> bool:
        """Start behind an input; whether none is left."""
        if "these" in self.job:
            self.job = {"these": self.job["these"][index + 1 :]}
            left = bool(self.job["these"])
        else:
            self.job = {**self.job, "start": index + self.job["step"]}
            left = self.job["start"] < self.job["stop"]
        if left:
            self.start()
        return not left

    def _note(self, index: int, what: str, *, again: bool) -> None:
        name, number = (
            self.job["these"][index] if "these" in self.job else numbered(index, rounds())
        )
        if again and not _fails_alone(name, number, self.folder):
            return
        where = self._errors()
        self.findings.append(
            {"index": index, "kind": name, "number": number, "found": [what], "where": where}
        )
        counts = State.at(self.state_file).counts
        counts[NAMES.index(name)][0] += 1

    def _errors(self) -> str:
        return self.errors_file.read_text(errors="replace")[-3000:]

    def all_findings(self) -> list[Finding]:
        """Those of the workers, and those of the watch."""
        told = [json.loads(line) for line in self.findings_file.read_text().splitlines()]
        return sorted(told + self.findings, key=lambda finding: int(finding["index"]))

    def stop(self) -> None:
        """End the process."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _fails_alone(name: str, number: int, folder: Path) -> bool:
    """Whether an input hangs in a process of its own, too."""
    below = folder / f"alone-{name.replace(' ', '-')}-{number}"
    below.mkdir(exist_ok=True)
    share = Share(0, {"these": [[name, number]]}, below, confirms=False)
    for _ in watch([share]):
        pass
    return bool(share.findings)


def watch(shares: Sequence[Share]) -> Iterator[int]:
    """Run shares to their end; gives now and then how many inputs are done."""
    try:
        for share in shares:
            share.start()
        running = list(shares)
        while running:
            time.sleep(POLL_SECONDS)
            running = [share for share in running if not share.look()]
            yield done(shares)
    finally:
        for share in shares:
            share.stop()


def done(shares: Sequence[Share]) -> int:
    """Inputs that were read."""
    return int(counts(shares)[:, 0].sum())


def counts(shares: Sequence[Share]) -> Any:
    """(kinds, 4) inputs, refused, right and untold of all shares."""
    return np.sum([State.at(share.state_file).counts for share in shares], axis=0)


def on_cuda(shares: Sequence[Share]) -> int:
    """Inputs that went to the CUDA engine as well."""
    return sum(int(State.at(share.state_file).numbers[2]) for share in shares)


def split(start: int, stop: int, processes: int, folder: Path) -> list[Share]:
    """Inputs shared out among processes."""
    return [
        Share(n, {"start": start + n, "stop": stop, "step": processes}, folder)
        for n in range(processes)
    ]


def describe(finding: Finding) -> str:
    """A finding, with what reproduces it."""
    lines = [f"{finding['kind']} {finding['number']}: {finding.get('what', '')}"]
    lines += [f"    {each}" for each in finding["found"]]
    lines += [f"    {line}" for line in finding.get("where", "").splitlines()[:12]]
    lines.append(f"    python -m tests.hostile --this {finding['kind']!r} {finding['number']}")
    return "\n".join(lines)
