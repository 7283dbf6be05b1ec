"""The memory of a loader over many batches, for `loader.py`; run by itself, it measures one case.

python benchmarks/loader_memory.py ARRAY ORDER DIVISOR BATCHES resident|allocated
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loader_cases import KEPT, MIB, SHUFFLED, Windows, make_loader
from memory import status

if TYPE_CHECKING:
    from collections.abc import Callable

    from batches import Case

LIMIT = 4 * MIB
"""What later batches may add to a peak: some chunks that are decoded at the same moment."""
FEW, MANY = 100, 1000
"""Batches."""
BATCH_SIZE = 16
KINDS = ("resident", "allocated")
ORDERS = (SHUFFLED, KEPT)
CROP = (32,) * 3


def peak_of(kind: str) -> Callable[[], int]:
    """Begin a peak; the function tells it."""
    gc.collect()
    if kind == "resident":
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        return lambda: status("VmHWM")
    tracemalloc.start()
    return lambda: tracemalloc.get_traced_memory()[1]


def count(path: Path, order: int, divisor: int, batches: int, kind: str) -> dict[str, int]:
    """Read, and tell the peak behind a tenth of the batches, and behind all."""
    peak = peak_of(kind)
    loader = make_loader(
        path,
        Windows("", None, CROP, 0, 0, random=True),
        ORDERS[order],
        divisor,
        batch_size=BATCH_SIZE // divisor,
        batches=batches,
        prefetch=2,
    )
    few = batches * FEW // MANY
    iterator = iter(loader)
    nbytes = sum(batch.nbytes for batch in islice(iterator, few)) // few
    first = peak()
    last = sum(1 for _ in iterator)
    assert few + last == batches  # noqa: S101  a loader that is short would look flat
    return {"few": few, "many": batches, "batch": nbytes, "first": first, "last": peak()}


def measure_memory(case: Case, path: Path, divisor: int, batches: int) -> list[dict[str, Any]]:
    """A row for each order and each kind, each in a process of its own."""
    rows = []
    for number, order in enumerate(ORDERS):
        for kind in KINDS:
            arguments = [str(path), str(number), str(divisor), str(batches), kind]
            done = subprocess.run(  # noqa: S603  this script
                [sys.executable, __file__, *arguments],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout)
            rows.append({"array": case.name, "order": order.name, "kind": kind, **found})
    return rows


if __name__ == "__main__":
    place, number, by, many, which = sys.argv[1:]
    print(json.dumps(count(Path(place), int(number), int(by), int(many), which)))
