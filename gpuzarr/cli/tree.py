"""The hierarchy below a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr.array import Array
from gpuzarr.cli.node import add_node_arguments, open_node

if TYPE_CHECKING:
    import argparse

    from gpuzarr.cli.screen import Screen

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
        members = sorted(node.members(max_depth=None), key=lambda member: member[0])
        screen.document([_line(path, member) for path, member in members])
    return 0


def _line(path: str, node: object) -> dict[str, object]:
    """One node as JSON values."""
    if isinstance(node, Array):
        return {"path": path, "kind": "array", "shape": node.shape, "dtype": node.dtype}
    return {"path": path, "kind": "group"}
