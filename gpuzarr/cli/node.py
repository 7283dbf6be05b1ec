"""The arguments that name a node, and opening it; the same for every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr import api
from gpuzarr.array import Array
from gpuzarr.cli.storage_options import add_storage_options
from gpuzarr.errors import GpuzarrError, SelectionError
from gpuzarr.group import Group

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def add_node_arguments(parser: argparse.ArgumentParser) -> None:
    """PATH and how to open it."""
    parser.add_argument(
        "store", metavar="PATH", help="the store, its URL, or a node inside a directory"
    )
    add_open_arguments(parser)


def add_open_arguments(parser: argparse.ArgumentParser) -> None:
    """How to open a store."""
    parser.add_argument(
        "--path", metavar="NODE", default="", help="the node inside the store, such as images/0"
    )
    parser.add_argument(
        "--device", default="auto", help="where results live: auto, cpu, cuda, cuda:1 (auto)"
    )
    parser.add_argument(
        "--no-consolidated",
        dest="consolidated",
        action="store_const",
        const=False,
        default="auto",
        help="read each node's own metadata, not the consolidated copy",
    )
    parser.add_argument(
        "--zarr-format", type=int, choices=(2, 3), help="insist on this version of the format"
    )
    parser.add_argument(
        "--follow-symlinks", action="store_true", help="follow links that leave the store"
    )
    add_storage_options(parser)


def open_node(args: argparse.Namespace) -> Array | Group:
    """Open what the arguments name."""
    return api.open(
        args.store,
        path=args.path,
        device=args.device,
        consolidated=args.consolidated,
        zarr_format=args.zarr_format,
        follow_symlinks=args.follow_symlinks,
        storage_options=args.storage_options,
    )


def open_array(args: argparse.Namespace) -> Array:
    """Open what the arguments name, which must be an array."""
    node = open_node(args)
    if isinstance(node, Array):
        return node
    names = sorted(node)
    shown = 10
    inside = ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
    raise SelectionError(
        f"this is a group; name an array inside it with --path (it has: {inside or 'nothing'})",
        store=args.store,
        path=args.path,
    )


def walk(node: Array | Group, path: str = "") -> Iterator[tuple[str, Array | Group | GpuzarrError]]:
    """The node and all below it by path, in order; an error stands for what cannot be opened."""
    waiting: list[tuple[str, Array | Group | GpuzarrError]] = [(path, node)]
    # A loop and not a recursion: hierarchies come from anyone, as deep as they like.
    while waiting:
        path, node_or_error = waiting.pop()
        yield path, node_or_error
        if isinstance(node_or_error, Group):
            waiting += reversed(children(path, node_or_error))


def children(path: str, group: Group) -> list[tuple[str, Array | Group | GpuzarrError]]:
    """What lies directly below a group, by path and in order."""
    try:
        found = dict(group._children())  # noqa: SLF001  with the errors
    except GpuzarrError as error:
        return [(path, error)]
    return [(f"{path}/{name}" if path else name, found[name]) for name in sorted(found)]
