"""The hierarchy below a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr.array import Array
from gpuzarr.cli.node import add_node_arguments, open_node, walk
from gpuzarr.cli.screen import error_document
from gpuzarr.errors import GpuzarrError

if TYPE_CHECKING:
    import argparse

    from gpuzarr.cli.screen import Screen
    from gpuzarr.group import Group

HELP = "show the hierarchy below a node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A node."""
    add_node_arguments(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Print the hierarchy."""
    node = open_node(args)
    if isinstance(node, Array):
        screen.text(f"{node.name} {node.shape} {node.dtype}")
        screen.document([_line(node.path, node)])
        return 0
    screen.text(str(node.tree()))
    if screen.json:
        screen.document([_line(path, member) for path, member in walk(node, node.path)][1:])
    return 0


def _line(path: str, node: Array | Group | GpuzarrError) -> dict[str, object]:
    """One node as JSON values."""
    if isinstance(node, Array):
        return {"path": path, "kind": "array", "shape": node.shape, "dtype": node.dtype}
    if isinstance(node, GpuzarrError):
        return {"path": path, "kind": "bad", "error": error_document(node)}
    return {"path": path, "kind": "group"}
