"""Chunks of a few that stand in a line: what is taken of them is written in one assignment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.engines.engine import FewChunk

LEAST_COUNT = 8
"""Chunks of a line that is worth it."""


def find_lines(chunks: Sequence[FewChunk]) -> list[slice]:
    """Runs of chunks that stand side by side along the last axis, with equal parts taken of each.

    Args:
        chunks: in any order; lines are found where theirs is that of the array.
    """
    found: list[slice] = []
    first, count = 0, len(chunks)
    while first + LEAST_COUNT <= count:
        *others, at = chunks[first].put
        take, stop, end = chunks[first].take, at.stop, first + 1
        while end < count:
            chunk = chunks[end]
            *mine, here = chunk.put
            if here.start != stop or mine != others or chunk.take != take:
                break
            stop, end = here.stop, end + 1
        if end - first >= LEAST_COUNT:
            found.append(slice(first, end))
        first = end
    return found
