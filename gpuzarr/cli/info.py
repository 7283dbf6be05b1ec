"""Everything that the metadata say about an array or a group."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gpuzarr.array import Array
from gpuzarr.cli.node import add_node_arguments, children, open_node
from gpuzarr.cli.screen import format_nbytes, format_shape, jsonable
from gpuzarr.errors import UnsupportedError
from gpuzarr.group import Group

if TYPE_CHECKING:
    import argparse

    from gpuzarr.cli.screen import Screen

HELP = "show what an array or a group is"

LONGEST_VALUE = 400
"""Characters of an attribute's value that are shown to people; --json has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A node."""
    add_node_arguments(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Print the node's properties."""
    node = open_node(args)
    if isinstance(node, Array):
        screen.pairs(_array_lines(node))
        screen.document(array_document(node))
    else:
        screen.pairs(_group_lines(node))
        screen.document(_group_document(node))
    _print_attributes(node, screen)
    return 0


def array_document(array: Array) -> dict[str, object]:
    """The properties of an array as JSON values."""
    return {
        "kind": "array",
        "name": array.name,
        "path": array.path,
        "store": array.store.name,
        "zarr_format": array.zarr_format,
        "shape": array.shape,
        "dtype": array.dtype,
        "data_type": array.metadata.data_type.name,
        "ndim": array.ndim,
        "size": array.size,
        "nbytes": array.nbytes,
        "chunks": array.chunks,
        "shards": array.shards,
        "nchunks": array.nchunks,
        "fill_value": array.fill_value,
        "dimension_names": array.dimension_names,
        "codecs": [
            {"name": codec.name, "configuration": dict(codec.configuration)}
            for codec in array.metadata.codecs
        ],
        **decoded_by(array),
        "attributes": dict(array.attrs),
    }


def decoded_by(array: Array) -> dict[str, object]:
    """The device and the engine of an array, or why it cannot be read here."""
    try:
        return {"device": array.device, "engine": array.engine, "unreadable": None}
    except UnsupportedError as error:
        return {"device": None, "engine": None, "unreadable": error.reasons}


def _group_document(group: Group) -> dict[str, object]:
    """The properties of a group as JSON values."""
    members = children("", group)
    return {
        "kind": "group",
        "name": group.name,
        "path": group.path,
        "store": group.store.name,
        "zarr_format": group.zarr_format,
        "consolidated": group.metadata.consolidated is not None,
        "arrays": [name for name, member in members if isinstance(member, Array)],
        "groups": [name for name, member in members if isinstance(member, Group)],
        "bad": {name: str(member) for name, member in members if isinstance(member, Exception)},
        "attributes": dict(group.attrs),
    }


def _array_lines(array: Array) -> list[tuple[str, str]]:
    """An array's properties for people."""
    lines = [
        ("array", array.name),
        ("store", array.store.name),
        ("format", f"Zarr v{array.zarr_format}"),
        ("shape", format_shape(array.shape)),
    ]
    if array.dimension_names is not None:
        lines.append(("dimensions", ", ".join(name or "-" for name in array.dimension_names)))
    data_type = array.metadata.data_type.name
    same = data_type == str(array.dtype)
    lines += [
        ("data type", data_type if same else f"{data_type} (read as {array.dtype})"),
        ("size", f"{array.size} elements, {format_nbytes(array.nbytes)}"),
        ("chunks", f"{format_shape(array.chunks)}, {array.nchunks} in all"),
    ]
    if array.shards is not None:
        lines.append(("shards", format_shape(array.shards)))
    lines += [
        ("fill value", repr(jsonable(array.fill_value))),
        (
            "codecs",
            " > ".join(
                _codec_text(codec.name, dict(codec.configuration))
                for codec in array.metadata.codecs
            ),
        ),
    ]
    by = decoded_by(array)
    if by["unreadable"]:
        lines += [("cannot be read", str(reason)) for reason in _entries(by["unreadable"])]
    else:
        lines += [("device", str(by["device"])), ("engine", str(by["engine"]))]
    return lines


def _codec_text(name: str, configuration: dict[str, object]) -> str:
    """A codec with its configuration; codecs inside it by their names alone."""
    members = []
    for key, value in configuration.items():
        if key == "codecs" or key.endswith("_codecs"):
            inner = [
                entry["name"] if isinstance(entry, dict) else str(entry)
                for entry in _entries(value)
            ]
            members.append(f"{key}: {' > '.join(inner)}")
        else:
            members.append(f"{key}: {json.dumps(jsonable(value))}")
    return f"{name}({', '.join(members)})" if members else name


def _entries(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _group_lines(group: Group) -> list[tuple[str, str]]:
    """A group's properties for people."""
    document = _group_document(group)
    bad = document["bad"]
    problems = bad.values() if isinstance(bad, dict) else ()
    return [
        ("group", group.name),
        ("store", group.store.name),
        ("format", f"Zarr v{group.zarr_format}"),
        ("consolidated", "yes" if document["consolidated"] else "no"),
        ("arrays", _names(document["arrays"])),
        ("groups", _names(document["groups"])),
        *(("cannot be opened", " ".join(problem.split())) for problem in problems),
    ]


def _names(names: object) -> str:
    return ", ".join(map(str, _entries(names))) or "none"


def _print_attributes(node: Array | Group, screen: Screen) -> None:
    """Attributes, one a line, long values cut."""
    if not node.attrs:
        return
    screen.text("attributes", style="bold")
    lines = []
    for name, value in node.attrs.items():
        text = json.dumps(jsonable(value), ensure_ascii=False)
        cut = text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."
        lines.append((f"  {name}", cut))
    screen.pairs(lines)
