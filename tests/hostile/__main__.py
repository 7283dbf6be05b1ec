"""Damaged and hostile inputs by the thousand.

    python -m tests.hostile --inputs 1000000 --update    the long run; writes the README's table
    python -m tests.hostile --inputs 24000 --only references --update
                                                         those of one kind once more
    python -m tests.hostile --this truncated 17          one input, in this process
    python -m tests.hostile --replay                     those that were findings once
    python -m tests.hostile --freeze                     after a change that makes other inputs

Interrupted or terminated, it prints the table so far, and with --update writes it. Exit status 1:
findings.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cuda_devices import installed
from tests.engines.cuda.fake_device import FakeDevice
from tests.hostile import record, watch
from tests.hostile.inputs import digest, empty, make, make_tools
from tests.hostile.judge import compare, judge
from tests.hostile.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

LINE_SECONDS = 10.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  the directory below has a name of its own
"""Where thousands of stores are made, where there is one."""


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(shares: Sequence[watch.Share], total: int) -> bool:
    """Read inputs, and say how it goes; whether all were read."""
    began = said = time.monotonic()
    told = {share.number: 0 for share in shares}
    try:
        for done in watch.watch(shares):
            now = time.monotonic()
            for share in shares:
                found = share.all_findings()
                for finding in found[told[share.number] :]:
                    say(watch.describe(finding))
                told[share.number] = len(found)
            if now - said >= LINE_SECONDS:
                said, rate = now, done / (now - began)
                left = (total - done) / rate if rate else 0.0
                speed = f"{rate:,.0f} a second, {left / 60:.1f} min left"
                say(f"{done:,} of {total:,}, {speed}, {sum(told.values())} findings")
    except KeyboardInterrupt:
        say("interrupted")
        return False
    return True


def interrupt(*_: object) -> None:
    """What SIGTERM does: as if somebody pressed Ctrl-C."""
    raise KeyboardInterrupt


def look_at(name: str, number: int) -> int:
    """Read one input here, and print all about it."""
    findings = []
    with tempfile.TemporaryDirectory() as folder, installed(FakeDevice()):
        tools = make_tools(Path(folder))
        hostile = make(name, number, tools)
        say(f"{hostile.what}\ndigest {digest(hostile)}, promise: {hostile.promise}")
        cpu = judge(hostile, number)
        empty(tools.folder)
        hostile = make(name, number, tools)
        cuda = judge(hostile, number, device="cuda")
        compare(hostile, cpu, cuda)
        for device, verdict in (("cpu", cpu), ("cuda", cuda)):
            said = (
                ""
                if verdict.error is None
                else f", {type(verdict.error).__name__}: {verdict.error}"
            )
            say(f"{device}: {verdict.outcome}{said}")
            findings += [f"finding on {device}: {each}" for each in verdict.findings]
    for finding in findings:
        say(finding)
    return 1 if findings else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the number of the first")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--update", action="store_true", help="write results.json and the README")
    parser.add_argument("--only", choices=sorted(KINDS), help="inputs of one kind")
    parser.add_argument("--this", nargs=2, metavar=("KIND", "NUMBER"), help="one input, here")
    parser.add_argument("--replay", action="store_true", help="what was a finding once")
    parser.add_argument("--freeze", action="store_true", help="write down what inputs are now")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, interrupt)
    if given.freeze:
        with tempfile.TemporaryDirectory() as folder:
            record.freeze(make_tools(Path(folder)))
        return 0
    if given.this:
        return look_at(given.this[0], int(given.this[1]))
    memory = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="gpuzarr-hostile-", dir=memory) as folder:
        stop = given.start + given.inputs
        shares = watch.split(given.start, stop, given.processes, Path(folder))
        these: list[list[Any]] = []
        if given.only:
            these = [[given.only, n] for n in range(given.start, stop)]
        if given.replay:
            these = [[each["kind"], each["number"]] for each in record.kept()]
        if these:
            parts = [these[n :: given.processes] for n in range(given.processes)]
            shares = [
                watch.Share(n, {"these": part}, Path(folder))
                for n, part in enumerate(parts)
                if part
            ]
        whole = run(shares, len(these) or given.inputs)
        results = record.results(shares)
        say(record.table(results))
        if given.update:
            if given.only:
                results = record.again(record.saved(), results, given.only)
            record.save(results)
            say(f"written: {record.RESULTS.name}, {record.README.name}")
        for share in shares:
            for finding in share.all_findings():
                sys.stderr.write(json.dumps(finding) + "\n")
        return 0 if whole and not results["findings"] else 1


if __name__ == "__main__":
    sys.exit(main())
