"""The ways in which the CPU engine reads: as a few chunks, or by columns, in many small batches."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal
from unittest.mock import patch

from gpuzarr import few
from gpuzarr.engines.cpu import boxes, engine, session, task

if TYPE_CHECKING:
    from collections.abc import Iterator

Way = Literal["few", "columns"]
WAYS: tuple[Way, ...] = ("few", "columns")

_SETTINGS = {
    "few": ((few, "MOST_CHUNKS", 128),),
    "columns": (
        (few, "MOST_CHUNKS", 0),
        (engine, "BATCH_NBYTES", 1 << 15),
        (session, "LEAST_NBYTES", 0),
        (task, "WORK_NBYTES", 1 << 10),
        (boxes, "LEAST_PIECES", 3),
    ),
}


@contextmanager
def reading(way: Way) -> Iterator[None]:
    """Small arrays are read in this way."""
    with ExitStack() as stack:
        for module, name, value in _SETTINGS[way]:
            stack.enter_context(patch.object(module, name, value))
        yield
