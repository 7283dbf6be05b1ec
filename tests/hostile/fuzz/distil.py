"""`python -m tests.hostile.fuzz.distil FOLDER`: the inputs of a long run that are worth keeping.

Of each target those that reach lines that its seeds, and smaller inputs, do not. They go to the
corpus, from where the short run begins.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hostile.fuzz.coverage import Coverage, make_coverage
from tests.hostile.fuzz.fuzzer import CORPUS, corpus_of
from tests.hostile.fuzz.targets import TARGETS
from tests.hostile.fuzz.watch import check_one

if TYPE_CHECKING:
    from tests.hostile.fuzz.target import Target


def distil(target: Target, folder: Path, coverage: Coverage, most: int) -> list[tuple[str, bytes]]:
    """Names and inputs, `most` at most, that reach something new; the smallest first."""
    found: list[tuple[str, bytes]] = []
    with target.around():
        for seed in (*target.seeds(), *(data for _, data in corpus_of(target.name))):
            _reach(target, seed, coverage)
        kept = sorted(corpus_of(target.name, folder), key=lambda entry: len(entry[1]))
        for name, data in kept:
            if len(found) < most and _reach(target, data, coverage):
                found.append((name, data))
    return found


def _reach(target: Target, data: bytes, coverage: Coverage) -> bool:
    """Check an input; whether it reaches lines that were not reached before."""
    before = len(coverage.seen)
    coverage.start()
    try:
        check_one(target, data)
    finally:
        coverage.stop()
    return len(coverage.seen) > before


def main(arguments: list[str] | None = None) -> int:
    """Copy what is worth keeping into the corpus."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz.distil")
    parser.add_argument("folder", type=Path, help="that a long run wrote, with its inputs")
    parser.add_argument("--most", type=int, default=8, help="inputs that are added for a target")
    chosen = parser.parse_args(arguments)
    coverage = make_coverage()
    for name, target in TARGETS.items():
        found = distil(target, chosen.folder / "corpus", coverage, chosen.most)
        for file, data in found:
            (CORPUS / name).mkdir(parents=True, exist_ok=True)
            (CORPUS / name / file).write_bytes(data)
        print(f"{name}: {len(found)} added")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
