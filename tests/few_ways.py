"""The ways in which a few chunks are read, however small a test's arrays are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuzarr import few
from gpuzarr.engines.cpu import bricks

if TYPE_CHECKING:
    import pytest

NEVER = 1 << 30

CHUNKS, SMALL, MEDIUM = "chunks", "small", "medium"
WAYS: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    # One by one, in threads: for these `conftest.py` has any chunks be many.
    CHUNKS: ((bricks, "LEAST_COUNT", NEVER), (bricks, "LEAST_MEDIUM_COUNT", NEVER)),
    # Bricks of small chunks, which are written together; threads decode parts.
    SMALL: ((bricks, "LEAST_COUNT", 2), (bricks, "PART_NBYTES", 1)),
    # Bricks of those that are written one by one.
    MEDIUM: (
        (bricks, "SMALL_NBYTES", 0),
        (bricks, "LEAST_MEDIUM_COUNT", 2),
        (bricks, "PART_NBYTES", 1),
    ),
}


def read_few(patch: pytest.MonkeyPatch, way: str = CHUNKS, most: int = 128) -> None:
    """Have reads of up to `most` chunks go this way, of arrays that were not read yet."""
    patch.setattr(few, "MOST_CHUNKS", most)
    for module, name, value in WAYS[way]:
        patch.setattr(module, name, value)
