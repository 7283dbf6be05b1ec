"""The timeline of a recorded read, in SVG.

There is a row for each thread, and one for each kind of work on a GPU. It has no background, and
colours that can be read on white and on black, and told apart by those who are colour-blind.
Neighbouring batches are told apart by how strong a colour is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from gpuzarr.cli.screen import format_nbytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuzarr.engines.trace import Kind, Span


@dataclass(frozen=True)
class Look:
    """How a kind of operation is drawn."""

    words: str
    """In the legend."""
    colour: str
    row: str | None = None
    """Its row; None: that of its thread."""


GREY = "#707780"
"""Of text and lines: contrast above 4 on white and on black."""
LOOKS: dict[Kind, Look] = {
    "host": Look("planning, walking, writing", GREY),
    "read": Look("read", "#2f8fd0"),
    "decode": Look("decode", "#d55e00"),
    "wait": Look("wait for the GPU", "#a0a6ad"),
    "upload": Look("upload", "#e69f00", "upload"),
    "decompress": Look("decompress", "#d55e00", "decompress"),
    "kernel": Look("kernels", "#0f8f6f", "kernels"),
    "download": Look("download", "#cc79a7", "download"),
}
"""Those of threads come first; what is drawn later lies above."""
FAINT, EVEN, ODD = 0.25, 1.0, 0.6
"""How strong colours are: of what lies behind the rest, and of batches."""

LABELS, WIDTH, EDGE = 92, 760, 14
"""Widths, in pixels: of the rows' names, of the time axis, of the margin."""
TOP, ROW, BAR, BOTTOM, LEGEND = 58, 22, 16, 26, 24
"""Heights: above the rows, a row, what is drawn in it, the axis, the legend."""
LEAST, JOINED = 0.6, 0.4
"""Pixels that an operation has at least, and between two that are drawn as one."""
MARKS = 8
"""Marks on the axis, about."""
LETTER = 6.6
"""Width of a letter, about."""
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


@dataclass(slots=True)
class Bar:
    """Operations that are drawn as one."""

    begin: float
    """In pixels."""
    end: float
    first: Span
    count: int = 1
    nbytes: int = 0


def draw_timeline(spans: Sequence[Span], title: str, below: str) -> str:
    """Draw operations over time.

    Args:
        spans: at least one.
        title: what was read.
        below: a line under the title.
    """
    first = min(span.start for span in spans)
    seconds = max(max(span.stop for span in spans) - first, 1e-9)
    rows: dict[str, list[Span]] = {}
    for span in sorted(spans, key=_row_order):
        rows.setdefault(_row(span), []).append(span)
    bottom = TOP + ROW * len(rows)
    height = bottom + BOTTOM + LEGEND
    parts = [
        f"<text x='{EDGE}' y='20' font-size='14' font-weight='600'>{escape(title)}</text>",
        f"<text x='{EDGE}' y='38'>{escape(below)}</text>",
        *_axis(seconds, bottom),
    ]
    for number, (name, own) in enumerate(rows.items()):
        y = TOP + ROW * number
        parts.append(f"<text x='{EDGE}' y='{y + ROW / 2 + 4:.1f}'>{escape(name)}</text>")
        parts += _draw_row(own, y + (ROW - BAR) / 2, first, seconds)
    parts += _legend([kind for kind in LOOKS if any(s.kind == kind for s in spans)], height - 10)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{2 * EDGE + LABELS + WIDTH}'"
        f" height='{height}' viewBox='0 0 {2 * EDGE + LABELS + WIDTH} {height}' {FONT}"
        f" font-size='12' fill='{GREY}' role='img'><title>{escape(title)}</title>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _row(span: Span) -> str:
    return LOOKS[span.kind].row or span.lane


def _row_order(span: Span) -> tuple[bool, int, int, str]:
    """Threads by number, then the GPU's rows as they follow one another."""
    on_device = LOOKS[span.kind].row is not None
    kind = list(LOOKS).index(span.kind) if on_device else 0
    return on_device, kind, len(_row(span)) if span.lane[-1:].isdigit() else 0, _row(span)


def _draw_row(spans: Sequence[Span], y: float, first: float, seconds: float) -> Iterator[str]:
    left, scale = EDGE + LABELS, WIDTH / seconds
    for kind, look in LOOKS.items():
        for odd in (False, True):
            own = [
                span for span in spans if span.kind == kind and bool((span.batch or 0) % 2) is odd
            ]
            strength = FAINT if kind == "host" else ODD if odd else EVEN
            for bar in _bars(own, first, scale):
                yield (
                    f"<rect x='{left + bar.begin:.1f}' y='{y:.1f}' height='{BAR}'"
                    f" width='{bar.end - bar.begin:.1f}' fill='{look.colour}'"
                    f" fill-opacity='{strength}'><title>{escape(_text(bar))}</title></rect>"
                )


def _bars(spans: Sequence[Span], first: float, scale: float) -> list[Bar]:
    """What is drawn of operations of one kind."""
    bars: list[Bar] = []
    for span in sorted(spans, key=lambda span: span.start):
        begin, end = scale * (span.start - first), scale * (span.stop - first)
        end = max(end, begin + LEAST)
        if bars and begin - bars[-1].end <= JOINED:
            bars[-1].end = max(bars[-1].end, end)
            bars[-1].count += 1
        else:
            bars.append(Bar(begin, end, span))
        bars[-1].nbytes += span.nbytes or 0
    return bars


def _text(bar: Bar) -> str:
    """What is shown of a bar when it is pointed at."""
    span = bar.first
    parts = [f"{span.kind}: {span.name}" if bar.count == 1 else f"{bar.count} x {span.kind}"]
    if bar.count == 1:
        parts.append(format_seconds(span.stop - span.start))
    if span.batch is not None:
        parts.append(f"batch {span.batch}" if bar.count == 1 else f"from batch {span.batch} on")
    if bar.nbytes:
        parts.append(format_nbytes(bar.nbytes))
    return ", ".join(parts)


def _axis(seconds: float, bottom: float) -> Iterator[str]:
    """Marks at round times."""
    unit, name = _unit(seconds)
    step = round_step(seconds / MARKS)
    for number in range(math.floor(seconds / step * (1 + 1e-9)) + 1):
        x = EDGE + LABELS + WIDTH * number * step / seconds
        text = f"{number * step / unit:g}" + (f" {name}" if not number else "")
        yield (
            f"<line x1='{x:.1f}' y1='{TOP - 4}' x2='{x:.1f}' y2='{bottom + 4}' stroke='{GREY}'"
            " stroke-opacity='0.35'/>"
            f"<text x='{x:.1f}' y='{bottom + 18}' text-anchor='middle'>{text}</text>"
        )


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not less.

    >>> round_step(0.03), round_step(0.2), round_step(7)
    (0.05, 0.2, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(least))
    return next(
        float(f"{m * power:.12g}") for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9)
    )


def format_seconds(seconds: float) -> str:
    """A time in the unit that fits.

    >>> format_seconds(0.01234), format_seconds(2.5), format_seconds(3e-6)
    ('12.3 ms', '2.5 s', '3 us')
    """
    unit, name = _unit(seconds)
    return f"{seconds / unit:.3g} {name}"


def _unit(seconds: float) -> tuple[float, str]:
    return next((pair for pair in UNITS if seconds >= pair[0]), UNITS[-1])


def _legend(kinds: Sequence[Kind], y: float) -> Iterator[str]:
    x = float(EDGE + LABELS)
    for kind in kinds:
        look = LOOKS[kind]
        yield (
            f"<rect x='{x:.1f}' y='{y - 10:.1f}' width='12' height='12' fill='{look.colour}'"
            f" fill-opacity='{FAINT if kind == 'host' else EVEN}'/>"
            f"<text x='{x + 17:.1f}' y='{y:.1f}'>{look.words}</text>"
        )
        x += 17 + LETTER * len(look.words) + 18
