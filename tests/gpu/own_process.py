"""What may kill the CUDA context, or never end, is asked in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 90
DIED = "process"
"""The member of an answer that says how the process ended, where that was not well."""


def ask(module: str, *arguments: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Run a module, whose last line is its answer in JSON.

    A process that answers and then fails to end well, as one does whose CUDA context is lost, has
    answered.

    Args:
        module: of this checkout.
        arguments: what it gets.
        seconds: after so many it is ended.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", module, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode(errors="replace")  # bytes, whatever was asked for
        return {**(_last_answer(printed) or {}), DIED: f"had not ended after {seconds:g} s"}
    found = _last_answer(done.stdout)
    if found is None or done.returncode:
        last = "".join(done.stderr.strip().splitlines()[-1:])
        return {**(found or {}), DIED: f"exit status {done.returncode}: {last}".strip(": ")}
    return found


def _last_answer(printed: str) -> dict[str, Any] | None:
    for line in reversed(printed.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None


def answer(found: dict[str, Any]) -> None:
    """What the module does with its answer: before anything else can end the process."""
    print(json.dumps(found), flush=True)  # noqa: T201
