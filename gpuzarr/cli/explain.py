"""What a read would do, without doing it: chunks, stored objects, bytes, batches, engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr.cli.node import add_node_arguments, open_array
from gpuzarr.cli.selection import parse_selection

if TYPE_CHECKING:
    import argparse

    from gpuzarr.cli.screen import Screen

HELP = "show what a read would do"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An array and a selection."""
    add_node_arguments(parser)
    add_selection_argument(parser)


def add_selection_argument(parser: argparse.ArgumentParser) -> None:
    """What of the array."""
    parser.add_argument(
        "--select",
        metavar="TEXT",
        default="...",
        help='what stands between the brackets, as in NumPy: "0:10, ..., 3" (all); one that begins '
        "with a minus is written --select=-1,...",
    )


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Print the report."""
    report = open_array(args).explain(parse_selection(args.select))
    screen.text(str(report))
    screen.document(report.to_dict())
    return 0
