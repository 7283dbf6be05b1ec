"""The plot of `cpu.py`, in SVG: a row for each workload, a dot for each reader.

It has no background, and colours that can be read on white and on black, and told apart by those
who are colour-blind; each reader has a shape as well.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from cpu_workloads import CROPS, FULL

if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = dict[str, Any]
    Result = dict[str, Any]

PANELS = {FULL: "the whole array", CROPS: "random crops, one after another"}
COLOURS = ("#d55e00", "#cc79a7", "#0f8f6f", "#e69f00", "#2f8fd0")
SHAPES = ("circle", "square", "triangle", "diamond", "ring")
GREY = "#707780"
"""Of text and lines: contrast above 4 on white and on black."""
LABELS, PANEL, GAP, EDGE = 380, 320, 32, 14
"""Widths, in pixels: of the workloads' names, a panel, the space between, the margin."""
TOP, ROW, BOTTOM = 74, 28, 52
RADIUS = 5.5
MARKS = (1, 2, 5)
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


class Axis:
    """A logarithmic axis that both panels have."""

    def __init__(self, ratios: Sequence[float]) -> None:
        """One that holds all of them, and some room."""
        self._low = min([0.7, *ratios]) / 1.1
        self._high = max([2.0, *ratios]) * 1.1

    def x(self, ratio: float) -> float:
        """Where a ratio is, from the panel's left edge."""
        return PANEL * math.log(ratio / self._low) / math.log(self._high / self._low)

    def marks(self) -> list[float]:
        """The round ratios in it."""
        powers = range(-2, 5)
        found = [mark * 10.0**power for power in powers for mark in MARKS]
        return [mark for mark in found if self._low <= mark <= self._high]


def plot(result: Result) -> str:
    """Draw the ratios of full reads and of crops with a warm page cache."""
    readers = [name for name in result["readers"] if name not in ("gpuzarr", "limit")]
    shown = [
        row
        for row in result["results"]
        if "ratio" in row
        and row["operation"] in PANELS
        and not row["cold"]
        and row["reader"] in readers
    ]
    readers = [name for name in readers if any(row["reader"] == name for row in shown)]
    axis = Axis([row["ratio"] for row in shown])
    workloads = list(result["workloads"])
    bottom = TOP + ROW * len(workloads)
    width = EDGE + LABELS + len(PANELS) * (PANEL + GAP)
    parts = _legend(readers)
    for number, name in enumerate(workloads):
        y = TOP + ROW * (number + 0.5)
        what = escape(result["workloads"][name]["what"]).replace("^3", "&#179;")
        parts.append(
            f"<text x='{EDGE}' y='{y + 4:.1f}'><tspan font-weight='600'>{escape(name)}</tspan>"
            f"<tspan x='{EDGE + 36}'>{what}</tspan></text>"
        )
    for place, (operation, title) in enumerate(PANELS.items()):
        left = EDGE + LABELS + place * (PANEL + GAP)
        parts += _panel(axis, left, bottom, title)
        for row in shown:
            if row["operation"] == operation:
                x = left + axis.x(row["ratio"])
                y = TOP + ROW * (workloads.index(row["workload"]) + 0.5)
                about = f"{row['workload']} {operation}, {row['reader']}: {row['ratio']:.2f}"
                parts.append(_dot(readers.index(row["reader"]), x, y, about))
    height = bottom + BOTTOM
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'"
        f" viewBox='0 0 {width} {height}' role='img' {FONT} font-size='12.5' fill='{GREY}'>\n"
        "<title>Each reader's time over gpuzarr's: to the right of 1, gpuzarr is faster</title>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _legend(readers: Sequence[str]) -> list[str]:
    parts = []
    x = EDGE + LABELS
    for number, reader in enumerate(readers):
        parts.append(_dot(number, x + RADIUS, 20, reader))
        parts.append(f"<text x='{x + 17:.1f}' y='24'>{escape(reader)}</text>")
        x += 40 + 7 * len(reader)
    return parts


def _panel(axis: Axis, left: float, bottom: float, title: str) -> list[str]:
    """A panel's frame: marks, the line at 1, what either side of it means."""
    one = left + axis.x(1)
    scale = "time / gpuzarr's time (right of 1: gpuzarr is faster)"
    parts = [
        f"<text x='{left}' y='{TOP - 22}' font-weight='600'>{title}</text>",
        f"<text x='{left + PANEL / 2}' y='{bottom + 38}' text-anchor='middle'>{scale}</text>",
    ]
    for mark in axis.marks():
        x = left + axis.x(mark)
        parts.append(_line((x, TOP - 6), (x, bottom), 0.6, 0.45))
        parts.append(f"<text x='{x:.1f}' y='{bottom + 17}' text-anchor='middle'>{mark:g}</text>")
    rows = round((bottom - TOP) / ROW)
    for number in range(rows):
        y = TOP + ROW * (number + 0.5)
        parts.append(_line((left, y), (left + PANEL, y), 0.6, 0.25))
    return [*parts, _line((one, TOP - 12), (one, bottom), 2)]


def _line(
    begin: tuple[float, float], end: tuple[float, float], stroke: float, opacity: float = 1
) -> str:
    (x1, y1), (x2, y2) = begin, end
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{GREY}'"
        f" stroke-width='{stroke}' stroke-opacity='{opacity}'/>"
    )


def _dot(number: int, x: float, y: float, about: str) -> str:
    """A reader's dot in its colour and shape; hovering tells what it is."""
    colour, r = COLOURS[number % len(COLOURS)], RADIUS
    corners = {
        "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
        "triangle": [(0, -1.15), (1.1, 0.8), (-1.1, 0.8)],
        "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    }
    shape = SHAPES[number % len(SHAPES)]
    title = f"<title>{escape(about)}</title>"
    if shape in corners:
        points = " ".join(f"{x + r * dx:.1f},{y + r * dy:.1f}" for dx, dy in corners[shape])
        return f"<polygon points='{points}' fill='{colour}' fill-opacity='0.9'>{title}</polygon>"
    inside = f"fill='{colour}' fill-opacity='0.9'" if shape == "circle" else "fill='none'"
    return (
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{r if shape == 'circle' else r - 1:.1f}' {inside}"
        f" stroke='{colour}' stroke-width='{0 if shape == 'circle' else 2.2}'>{title}</circle>"
    )
