"""No file over 400 lines without a reason: a comment "Over 400 lines because ..." near its top."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 400
REASON_WITHIN = 15
"""Lines from the top in which the reason must stand."""
SUFFIXES = {".py", ".cu", ".cuh", ".h", ".md", ".sh", ".toml", ".yml"}
FOLDERS = ("gpuzarr", "kernels", "tests", "benchmarks", ".ci", ".github")


def too_long(root: Path) -> list[str]:
    """Every file over the limit that gives no reason, with its length."""
    files = [path for folder in FOLDERS for path in (root / folder).rglob("*")]
    files += [path for path in root.iterdir() if path.is_file()]
    found = []
    for path in sorted(files):
        if path.suffix not in SUFFIXES or not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        stated = any("Over 400 lines because" in line for line in lines[:REASON_WITHIN])
        if len(lines) > LIMIT and not stated:
            found.append(f"{path.relative_to(root)}: {len(lines)} lines")
    return found


if __name__ == "__main__":
    problems = too_long(Path(__file__).resolve().parent.parent)
    for problem in problems:
        print(problem)
    sys.exit(f"over {LIMIT} lines, and no reason given at the top" if problems else 0)
