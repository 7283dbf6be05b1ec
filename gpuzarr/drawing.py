"""A picture of a chunk grid in SVG, for notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Chunks = Sequence[int | tuple[int, ...]]
    """Along each dimension the size of all chunks, or the sizes of each."""

LONGEST = 200
"""Length of the drawing's longest side, in pixels."""
SHORTEST = 24
MOST_LINES = 64
"""Chunk boundaries drawn along a side; of more, only the outline is drawn."""


def draw_chunk_grid(
    rows: Mapping[str, str], shape: Sequence[int], chunks: Chunks, shards: Chunks | None
) -> str:
    """A table of `rows` beside the last two dimensions of the grid: chunks thin, shards bold."""
    table = "".join(
        f"<tr><th style='text-align:left'>{escape(label)}</th><td style='text-align:left'>"
        f"{escape(value)}</td></tr>"
        for label, value in rows.items()
    )
    return (
        "<div style='display:flex;gap:2em;align-items:center'>"
        f"<table>{table}</table>{_svg(shape, chunks, shards)}</div>"
    )


def _svg(shape: Sequence[int], chunks: Chunks, shards: Chunks | None) -> str:
    if not shape or 0 in shape:
        return ""
    rows, columns = (1, shape[0]) if len(shape) == 1 else (shape[-2], shape[-1])
    scale = LONGEST / max(rows, columns)
    height, width = max(SHORTEST, rows * scale), max(SHORTEST, columns * scale)
    lines = []
    for grid, stroke in ((chunks, 0.5), (shards, 1.8)):
        if grid is None:
            continue
        sides = (1, grid[0]) if len(shape) == 1 else (grid[-2], grid[-1])
        for place in _boundaries(sides[0], rows):
            y = place / rows * height
            lines.append(_line(0, y, width, y, stroke))
        for place in _boundaries(sides[1], columns):
            x = place / columns * width
            lines.append(_line(x, 0, x, height, stroke))
    label = f"{' x '.join(map(str, shape))}: the last {min(2, len(shape))} dimensions"
    return (
        f"<svg width='{width + 4:.0f}' height='{height + 24:.0f}' role='img'>"
        f"<title>{escape(label)}</title><g transform='translate(2,2)'>"
        f"<rect width='{width:.1f}' height='{height:.1f}' fill='#ecb172' fill-opacity='0.4'"
        f" stroke='currentColor'/>{''.join(lines)}"
        f"<text x='{width / 2:.1f}' y='{height + 16:.1f}' text-anchor='middle' font-size='11'"
        f" fill='currentColor'>{rows} x {columns}</text></g></svg>"
    )


def _boundaries(sizes: int | tuple[int, ...], length: int) -> list[int]:
    """Where chunks meet along a side; none when there are too many to draw."""
    if isinstance(sizes, int):
        return list(range(sizes, length, sizes)) if length / sizes <= MOST_LINES else []
    if len(sizes) > MOST_LINES:
        return []
    ends = []
    end = 0
    for size in sizes:
        end += size
        if end < length:
            ends.append(end)
    return ends


def _line(x1: float, y1: float, x2: float, y2: float, stroke: float) -> str:
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='currentColor'"
        f" stroke-width='{stroke}'/>"
    )
