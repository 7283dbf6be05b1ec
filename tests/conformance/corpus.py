"""All cases of all writers: listed at collection, written (or unpacked) on first use.

    corpus = Corpus(directory)
    for case_id in case_ids():
        if unavailable(case_id) is None:
            case = corpus.case(case_id)

The committed cases of zarr-python 2 and 3.4 have ids of their own: "zarr2-...", "zarr34-...".

`python -m tests.conformance.corpus FOLDER` writes all that can be written here. On a machine where
some writers are not installed, the variable GPUZARR_CORPUS names such a folder.
"""

from __future__ import annotations

import functools
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from . import pack
from .case import Case, Recipe, load_case, write_case
from .writers import handmade, tensorstore_, zarr3, zarrs_

OPTIONAL = ("zfpy", "pcodec")
"""Modules of codecs that a reader needs only where they are installed."""


@functools.cache
def recipes() -> dict[str, Recipe]:
    """The live cases."""
    out: dict[str, Recipe] = {}
    for module in (zarr3, tensorstore_, zarrs_, handmade):
        for case_id, recipe in module.cases().items():
            assert case_id not in out, f"two cases named {case_id}"
            out[case_id] = recipe
    return out


@functools.cache
def packed() -> dict[str, tuple[str, Case]]:
    """The committed cases, with the name of their archive."""
    return {
        case_id: (name, case)
        for name in pack.ARCHIVES
        for case_id, case in pack.packed_cases(name).items()
    }


def case_ids() -> list[str]:
    """Every case's id."""
    return [*recipes(), *packed()]


def describe(case_id: str) -> Recipe | Case:
    """What is known of a case without writing it."""
    return recipes()[case_id] if case_id in recipes() else packed()[case_id][1]


def unavailable(case_id: str) -> str | None:
    """Why a case cannot be written or read here; None if it can."""
    if written_before(case_id) is not None:
        return None
    if case_id in recipes():
        missing = recipes()[case_id].missing()
    else:
        tags = packed()[case_id][1].tags
        missing = [name for name in OPTIONAL if f"codec:{name}" in tags and find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def written_before(case_id: str) -> Path | None:
    """Where a case lies that was written on another machine."""
    folder = os.environ.get("GPUZARR_CORPUS")
    place = Path(folder) / case_id if folder else None
    return place if place is not None and place.is_dir() else None


def must_not_skip() -> bool:
    """In CI every writer must be there."""
    return os.environ.get("CI", "").lower() in ("1", "true")


class Corpus:
    """The cases that were used so far, in one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cases: dict[str, Case] = {}
        self._unpacked: set[str] = set()

    def case(self, case_id: str) -> Case:
        """A case on disk, written on first use."""
        if case_id not in self._cases:
            self._cases[case_id] = self._make(case_id)
        return self._cases[case_id]

    def _make(self, case_id: str) -> Case:
        before = written_before(case_id)
        if before is not None:
            return load_case(before)
        if case_id in recipes():
            return write_case(self._root, recipes()[case_id])
        name, _ = packed()[case_id]
        if name not in self._unpacked:
            pack.unpack(name, self._root)
            self._unpacked.add(name)
        return load_case(self._root / case_id)


def write_all(folder: Path) -> tuple[int, list[str]]:
    """Write every case that can be written here; gives how many, and which could not."""
    corpus = Corpus(folder)
    lacking = [case_id for case_id in case_ids() if unavailable(case_id) is not None]
    for case_id in case_ids():
        if case_id not in lacking:
            corpus.case(case_id)
    return len(case_ids()) - len(lacking), lacking


if __name__ == "__main__":
    count, lacking = write_all(Path(sys.argv[1]))
    print(f"{count} cases written, {len(lacking)} not: {lacking[:5]}")  # noqa: T201
    sys.exit(bool(lacking))
