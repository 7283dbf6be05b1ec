"""What every benchmark prints and keeps: a table, and the conditions that it holds under."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gpuzarr
from gpuzarr.engines.pool import cpu_count

if TYPE_CHECKING:
    from collections.abc import Sequence

LIBRARIES = ("numpy", "numcodecs", "zstandard", "deflate", "google-crc32c")


def conditions() -> dict[str, Any]:
    """The machine, the commit, and the versions of what takes part."""
    return {
        "gpuzarr": gpuzarr.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpus": cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown, so that it can be pasted, and what it holds under."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for number, row in enumerate((heads, *rows)):
        cells = [
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print(f"| {' | '.join(cells)} |")
        if number == 0:
            rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
            print(f"| {' | '.join(rules)} |")
    print()
    found = conditions()
    versions = ", ".join(f"{name} {number}" for name, number in found["libraries"].items())
    print(f"gpuzarr {found['commit']}, Python {found['python']}, {versions};")
    print(f"{found['processor']}, {found['cpus']} CPUs, {found['system']}, load {found['load']}")


def write_json(path: str | None, result: dict[str, Any]) -> None:
    """Keep a result, where a file for it is named."""
    if path is not None:
        Path(path).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"written to {path}", file=sys.stderr)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _commit() -> str:
    """The commit of the checkout, with a "+" where files differ from it."""
    root = Path(__file__).parent.parent
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603  no input from outside
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"
