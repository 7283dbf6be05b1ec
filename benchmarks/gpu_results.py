"""Rows of results that are on disk as soon as they are known; what fails is a row too."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Row = dict[str, Any]


@dataclass
class Results:
    """What is known so far: on disk after each row."""

    path: str | None
    seconds: float
    """After so many nothing new is begun."""
    kept: dict[str, Any] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    failed: bool = False

    def add(self, section: str, name: str, measure: Callable[[], Row]) -> None:
        """Measure a row and keep it, or why there is none."""
        row: Row = {"name": name}
        if time.monotonic() - self.begun > self.seconds:
            row["error"] = "left out: no time"
        else:
            try:
                row |= measure()
            except Exception as error:  # noqa: BLE001  the rows behind it are still worth having
                row["error"] = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
                self.failed = True
        self.kept.setdefault(section, []).append(row)
        self._keep()

    def show(self, section: str, heads: Sequence[str]) -> None:
        """Print a section's table; errors stand below it."""
        rows = self.kept.get(section, [])
        print(f"\n### {section}\n")
        texts = [
            [row["name"], *(_text(row[head]) for head in heads)]
            for row in rows
            if "error" not in row
        ]
        if texts:
            print_table([section, *heads], texts)
        for row in rows:
            if "error" in row:
                print(f"\n{row['name']}: {row['error']}")

    def _keep(self) -> None:
        if self.path is not None:
            part = Path(f"{self.path}.part")
            part.write_text(json.dumps(self.kept, indent=1) + "\n", encoding="utf-8")
            part.replace(self.path)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 10 else f"{value:.1f}"  # noqa: PLR2004  two digits or more
    return f"{value:,}" if isinstance(value, int) else str(value)
