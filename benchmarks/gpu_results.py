"""Rows of results that are on disk as soon as they are known; what fails is a row too.

A later run goes on where an earlier one ended, if that was on the same machine and commit. A reader
that took the process with it is known then, and left out.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Row = dict[str, Any]

NO_TIME = "left out: no time"
TRYING, ENDED = "trying", "ended"
WHY_NOT = "ended the process, or did not come to an end"
OTHER = ("machine", TRYING, ENDED)
"""What is kept beside the sections of rows."""
SAME = ("commit", "processor", "cpus", "gpus", "libraries", "fake")
"""What must be the same of two machines for their rows to stand in one table."""


@dataclass
class Results:
    """What is known so far: on disk after each row."""

    path: str | None
    seconds: float
    """After so many nothing new is begun."""
    kept: dict[str, Any] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    failed: bool = False

    def go_on(self, path: Path) -> None:
        """Take over what an earlier run of the same machine and commit found."""
        if not path.exists():
            return
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if any(earlier["machine"].get(name) != self.kept["machine"].get(name) for name in SAME):
            return
        self.kept = {**earlier, "machine": self.kept["machine"]}
        trying = self.kept.pop(TRYING, None)
        if trying is not None:
            self.kept.setdefault(ENDED, []).append(trying)

    def known(self, section: str, name: str) -> bool:
        """Whether a row needs no second try."""
        return any(
            row["name"] == name and row.get("error") != NO_TIME
            for row in self.kept.get(section, [])
        )

    def left_out(self) -> int:
        """How many rows there was no time for."""
        sections = [rows for name, rows in self.kept.items() if name not in OTHER]
        return sum(row.get("error") == NO_TIME for rows in sections for row in rows)

    def in_time(self, more: float = 0) -> bool:
        """Whether there is time to begin something, with so many seconds more."""
        return time.monotonic() - self.begun <= self.seconds + more

    def add(self, section: str, name: str, measure: Callable[[], Row]) -> None:
        """Measure a row and keep it, or why there is none."""
        if self.known(section, name):
            return
        row: Row = {}
        if not self.in_time():
            row["error"] = NO_TIME
        else:
            begin = time.monotonic()
            try:
                row = measure()
            except Exception as error:  # noqa: BLE001  the rows behind it are still worth having
                row["error"] = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
                self.failed = True
            row["took, s"] = round(time.monotonic() - begin, 1)
        self.put(section, {"name": name, **row})

    def put(self, section: str, row: Row) -> None:
        """Keep a row, in place of an earlier one of its name."""
        rows = self.kept.setdefault(section, [])
        rows[:] = [*(other for other in rows if other["name"] != row["name"]), row]
        self.keep()

    # -------------------------------------------------------------------- what ends processes

    @contextmanager
    def trying(self, row: str, reader: str) -> Iterator[None]:
        """On disk, so that whoever looks afterwards knows what was tried when the process ended."""
        self.kept[TRYING] = [row, reader]
        self.keep()
        try:
            yield
        except Exception:
            self.kept.pop(TRYING)
            raise
        self.kept.pop(TRYING)  # an interrupt leaves it: the reader may hang

    def skipped(self, row: str, reader: str) -> str | None:
        """Why a reader is not tried again."""
        return WHY_NOT if [row, reader] in self.kept.get(ENDED, []) else None

    def keep(self) -> None:
        """Write all that is known."""
        if self.path is not None:
            part = Path(f"{self.path}.part")
            part.write_text(json.dumps(self.kept, indent=1) + "\n", encoding="utf-8")
            part.replace(self.path)
