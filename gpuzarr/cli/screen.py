"""Where commands print: tables for people, JSON for programs, progress on a terminal only."""

from __future__ import annotations

import json
import math
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gpuzarr.errors import ChunkError, GpuzarrError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

UNBOUNDED = 10_000
"""Columns of what is no terminal."""

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class Screen:
    """Standard output and standard error, as the user asked for them.

    Colours and bars appear on terminals only; rich itself respects NO_COLOR.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        # Lines are never broken: what is piped into other programs stays one record a line. Tables
        # fold on a terminal; elsewhere there is no width that they would have to fit.
        self._out = _Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
        if not self._out.is_terminal:
            self._out.width = UNBOUNDED
        self._err = _Console(
            stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False
        )

    def text(self, text: str = "", style: str = "") -> None:
        """Print a line for people; nothing under --json."""
        if not self.json:
            self._out.print(Text(text, style=style))

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Print names and values in two columns; nothing under --json."""
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in pairs:
            table.add_row(Text(name), Text(value))
        self._print_table(table)

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
    ) -> None:
        """Print a table, the columns named in `numbers` right-aligned; nothing under --json."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            right = column in numbers
            table.add_column(
                column, justify="right" if right else "left", no_wrap=right, overflow="fold"
            )
        for row in rows:
            table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        self._print_table(table)

    def document(self, value: object) -> None:
        """Print `value` as JSON; nothing without --json."""
        if self.json:
            _write(json.dumps(jsonable(value), indent=2, allow_nan=False) + "\n")

    def error(self, text: str) -> None:
        """Print one red line on standard error."""
        self._err.print(Text(" ".join(text.split()), style="red"))

    def failure(self, error: Exception) -> None:
        """Say what kept the command from doing its work."""
        text = str(error) or type(error).__name__
        self.error(text if isinstance(error, GpuzarrError) else f"{type(error).__name__}: {text}")
        self.document({"error": error_document(error)})

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on standard error while the block runs, where that is a terminal.

        Gives a function that takes how much of `total` was done since it was last called.
        """
        shown = self._err.is_terminal and not self.json
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._err, transient=True, disable=not shown) as bar:
            task = bar.add_task(description, total=total)
            yield lambda done: bar.advance(task, done)

    def _print_table(self, table: Table) -> None:
        if self.json:
            return
        with self._out.capture() as captured:
            self._out.print(table, soft_wrap=False, crop=False)
        # rich fills each row up to the table's width; nobody wants those spaces in a file.
        text = captured.get().encode("utf-8", "backslashreplace").decode()  # odd file names
        lines = (line.rstrip() for line in text.splitlines())
        _write("".join(f"{line}\n" for line in lines))


def _write(text: str) -> None:
    if sys.stdout is not None:  # it may be closed
        sys.stdout.write(text)


class _Console(Console):
    """rich's console, without its own end of the program when the reader of a pipe goes away."""

    def on_broken_pipe(self) -> None:
        """Leave it to `main`."""
        raise BrokenPipeError


STYLES = {
    "ok": "green",
    "missing": "yellow",
    "not there": "dim",
    "problem": "red",
    "bad": "bold red",
}
"""Cells that say how something stands, and how they look."""


def error_document(error: Exception) -> dict[str, object]:
    """An error as JSON: its type, its text, and where it happened."""
    document: dict[str, object] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, GpuzarrError):
        document |= {
            "message": error.message,
            "store": error.store,
            "path": error.path,
            "key": error.key,
        }
    if isinstance(error, UnsupportedError):
        document["reasons"] = error.reasons
    if isinstance(error, ChunkError):
        document["failures"] = [
            {
                "key": failure.key,
                "coords": failure.coords,
                "step": failure.step,
                "cause": str(failure.cause),
            }
            for failure in error.failures
        ]
    return document


def jsonable(value: Any) -> Any:
    """`value` in what JSON has: numbers that it has not become text, as in Zarr's own documents.

    >>> jsonable({"fill": np.float32("nan"), "shape": (2, 3), "dtype": np.dtype("u1")})
    {'fill': 'NaN', 'shape': [2, 3], 'dtype': 'uint8'}
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return float(value) if math.isfinite(value) else float_text(value)
        case np.generic() if value.dtype.kind in "biufU":
            return jsonable(value.item())
        case complex() | np.complexfloating():
            return [jsonable(float(value.real)), jsonable(float(value.imag))]
        case np.ndarray():
            return jsonable(value.tolist())
        case dict():
            return {str(name): jsonable(member) for name, member in value.items()}
        case list() | tuple():
            return [jsonable(member) for member in value]
        case _:
            return str(value)


def float_text(value: float) -> str:
    """A float that JSON has not, by its name in Zarr's documents."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def format_nbytes(nbytes: float) -> str:
    """A number of bytes for people.

    >>> format_nbytes(1000), format_nbytes(3 * 2**20), format_nbytes(2**90)
    ('1000 B', '3.0 MiB', '1073741824.0 EiB')
    """
    unit = 0
    while nbytes >= 1024 and unit < len(UNITS) - 1:  # noqa: PLR2004  the step between units
        nbytes /= 1024
        unit += 1
    return f"{nbytes:.0f} B" if unit == 0 else f"{nbytes:.1f} {UNITS[unit]}"


def format_shape(shape: Sequence[int] | Sequence[Sequence[int]]) -> str:
    """A shape for people; chunk sizes of a rectilinear grid are cut after the first few.

    >>> format_shape((3, 4)), format_shape(()), format_shape(((1, 2, 3, 4, 5), (6,)))
    ('3 x 4', 'scalar', '(1, 2, 3, ... 5 in all) x (6)')
    """
    return " x ".join(_format_axis(axis) for axis in shape) or "scalar"


def _format_axis(axis: int | Sequence[int]) -> str:
    """One axis of a shape: its length, or the sizes of its chunks."""
    shown = 4
    if isinstance(axis, int | np.integer):
        return str(axis)
    if len(axis) <= shown:
        return f"({', '.join(map(str, axis))})"
    return f"({', '.join(map(str, axis[: shown - 1]))}, ... {len(axis)} in all)"
