"""The plot of `gpu.py`, in SVG: for each row the limit of the machine, and how near readers come.

A bar of each row goes up to the limit; gpuzarr fills it as far as it comes; peers are marks. It has
no background, and colours that can be read on white and on black; each reader has a shape as well.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from cpu_plot import COLOURS, FONT, GREY, MARKS, RADIUS, SHAPES
from gpu_readers import OWN
from gpu_tables import FAKE, good_rows, machine_name, peers_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    Result = dict[str, Any]

OWN_COLOUR = "#2f8fd0"
LABELS, PANEL, EDGE, MARGIN = 150, 620, 14, 40
"""Widths, in pixels: of the rows' names, of the panel, and of what is left and right of them."""
TOP, ROW, BOTTOM, LEGEND = 62, 34, 54, 22
BAR = 15


class Axis:
    """GB/s, logarithmic."""

    def __init__(self, speeds: Sequence[float]) -> None:
        """One that holds all of them, and some room."""
        self._low = min([1.0, *speeds]) / 1.25
        self._high = max([1.0, *speeds]) * 1.25

    def x(self, speed: float) -> float:
        """Where a speed is, from the panel's left edge."""
        return PANEL * math.log(speed / self._low) / math.log(self._high / self._low)

    def marks(self) -> list[float]:
        """The round speeds in it."""
        found = [mark * 10.0**power for power in range(-4, 5) for mark in MARKS]
        return [mark for mark in found if self._low <= mark <= self._high]


def plot(result: Result) -> str:
    """Draw rows (a) to (h)."""
    rows = good_rows(result)
    peers = peers_in(rows)
    axis = Axis(
        [
            speed
            for row in rows
            for speed in (
                row["limit, GB/s"],
                *(about["GB/s"] for about in row["readers"].values() if "GB/s" in about),
            )
        ]
    )
    left, lines = EDGE + LABELS, 1 + (len(peers) + 2) // 3
    top = TOP + LEGEND * lines
    bottom = top + ROW * len(rows)
    parts = [f"<text x='{EDGE}' y='24' font-weight='600'>{escape(machine_name(result))}</text>"]
    if result["machine"].get("fake"):
        parts.append(f"<text x='{EDGE}' y='42'>{escape(FAKE.strip('*'))}</text>")
    parts += _legend(peers, left)
    for mark in axis.marks():
        x = left + axis.x(mark)
        parts.append(_line(x, top - 4, x, bottom))
        parts.append(f"<text x='{x:.1f}' y='{bottom + 17}' text-anchor='middle'>{mark:g}</text>")
    parts.append(
        f"<text x='{left + PANEL / 2}' y='{bottom + 38}' text-anchor='middle'>"
        "GB/s of the result, in device memory</text>"
    )
    for number, row in enumerate(rows):
        y = top + ROW * (number + 0.5)
        parts.append(
            f"<text x='{EDGE}' y='{y + 4:.1f}'>{escape(row['name'])}"
            f"<title>{escape(row['what'])}</title></text>"
        )
        own = row["readers"][OWN]["GB/s"]
        about = f"limit {row['limit, GB/s']:.3g} GB/s: {row['limited by']}"
        parts.append(_bar(left, y, axis.x(row["limit, GB/s"]), GREY, 0.25, about))
        about = f"{OWN}: {own:.3g} GB/s, {row['of the limit']:.0%} of the limit"
        parts.append(_bar(left, y, axis.x(own), OWN_COLOUR, 0.85, about))
        for place, peer in enumerate(peers):
            speed = row["readers"].get(peer, {}).get("GB/s")
            if speed is not None:
                parts.append(_mark(place, left + axis.x(speed), y, f"{peer}: {speed:.3g} GB/s"))
    width, height = left + PANEL + MARGIN, bottom + BOTTOM
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'"
        f" viewBox='0 0 {width} {height}' role='img' {FONT} font-size='12.5' fill='{GREY}'>\n"
        "<title>Reads to a GPU: gpuzarr, its peers, and the limit of the machine</title>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _legend(peers: Sequence[str], left: float) -> list[str]:
    """What bars and marks mean, three in a line."""
    shown = [
        _bar(left, TOP - 4, 30, GREY, 0.25, "limit"),
        f"<text x='{left + 38}' y='{TOP}'>limit of the machine</text>",
        _bar(left + PANEL / 3, TOP - 4, 30, OWN_COLOUR, 0.85, OWN),
        f"<text x='{left + PANEL / 3 + 38:.1f}' y='{TOP}'>{OWN}</text>",
    ]
    for number, peer in enumerate(peers):
        x = left + PANEL / 3 * (number % 3)
        y = TOP + LEGEND * (1 + number // 3)
        shown.append(_mark(number, x + 15, y - 4, peer))
        shown.append(f"<text x='{x + 38:.1f}' y='{y}'>{escape(peer)}</text>")
    return shown


def _bar(  # noqa: PLR0913, PLR0917  what a bar is
    x: float, y: float, width: float, colour: str, opacity: float, about: str
) -> str:
    return (
        f"<rect x='{x:.1f}' y='{y - BAR / 2:.1f}' width='{max(width, 1):.1f}' height='{BAR}'"
        f" fill='{colour}' fill-opacity='{opacity}'><title>{escape(about)}</title></rect>"
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{GREY}'"
        " stroke-width='0.6' stroke-opacity='0.45'/>"
    )


def _mark(number: int, x: float, y: float, about: str) -> str:
    """A reader's mark in its colour and shape; the second round of colours has other shapes."""
    colours = [colour for colour in COLOURS if colour != OWN_COLOUR]
    colour, r = colours[number % len(colours)], RADIUS
    corners = {
        "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
        "triangle": [(0, -1.15), (1.1, 0.8), (-1.1, 0.8)],
        "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    }
    shape = SHAPES[number % len(SHAPES)]
    title = f"<title>{escape(about)}</title>"
    if shape in corners:
        points = " ".join(f"{x + r * dx:.1f},{y + r * dy:.1f}" for dx, dy in corners[shape])
        return f"<polygon points='{points}' fill='{colour}'>{title}</polygon>"
    inside = colour if shape == "circle" else "none"
    return (
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{r - 1:.1f}' fill='{inside}' stroke='{colour}'"
        f" stroke-width='2.2'>{title}</circle>"
    )
