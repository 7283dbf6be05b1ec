"""Consolidated metadata: the documents of many nodes in one, parsed when they are asked for.

Both formats list documents by path, relative to the group that carries them:

    .zmetadata (v2)    {"zarr_consolidated_format": 1, "metadata": {"a/.zarray": {...}, ...}}
    zarr.json (v3)     "consolidated_metadata": {"kind": "inline", "metadata": {"a": {...}, ...}}

A hierarchy may have very many nodes, of which a user opens few. So only the paths are looked at
first: one that leaves the root spoils the document, whichever node is opened.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from gpuzarr.errors import MetadataError
from gpuzarr.metadata import v2
from gpuzarr.metadata.document import as_int, as_object, member, shorten, wrong
from gpuzarr.metadata.model import GroupMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuzarr.metadata.model import JSON, ArrayMetadata

    Node = ArrayMetadata | GroupMetadata
    Parse = Callable[[Mapping[str, JSON]], Node]
    Documents = Mapping[str, Mapping[str, JSON]]

MOST_PREFIXES: Final = 1 << 26
"""Characters of the paths of groups, written out before each node that such a group lists."""

_AFTER_SLASH: Final = chr(ord("/") + 1)
_V2_DOCUMENTS: Final = (".zarray", ".zgroup", ".zattrs")


class ConsolidatedMetadata(Mapping[str, "ArrayMetadata | GroupMetadata"]):
    """Metadata of nodes by path, below the group that carries them.

    Looking a path up parses its document, once, and may raise `MetadataError` or
    `UnsupportedError`; a group comes with the part of this mapping that lies below it.
    """

    __slots__ = ("_documents", "_nodes", "_parse", "_paths", "_prefix")

    def __init__(
        self, documents: Documents, parse: Parse, prefix: str = "", paths: _Paths | None = None
    ) -> None:
        """Make a mapping of the paths in `documents` that begin with `prefix`."""
        self._documents = documents
        self._parse = parse
        self._prefix = prefix
        self._nodes: dict[str, Node] = {}
        self._paths = _Paths(documents) if paths is None else paths

    def __getitem__(self, path: str) -> Node:
        node = self._nodes.get(path)
        if node is None:
            at = self._prefix + path
            node = self._parse(self._documents[at])
            if isinstance(node, GroupMetadata):
                below = ConsolidatedMetadata(self._documents, self._parse, at + "/", self._paths)
                node = replace(node, consolidated=below)
            self._nodes[path] = node
        return node

    def __iter__(self) -> Iterator[str]:
        if not self._prefix:
            return iter(self._documents)
        start = len(self._prefix)
        return (path[start:] for path in self._paths.below(self._prefix))

    def __len__(self) -> int:
        return len(self._paths.below(self._prefix)) if self._prefix else len(self._documents)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._prefix + path in self._documents

    def __repr__(self) -> str:
        return f"ConsolidatedMetadata({len(self)} nodes)"

    def node(self, path: str) -> Node | None:
        """The metadata of one node; None where there is none."""
        return self.get(path)

    def children(self, path: str = "") -> list[str]:
        """Names of the nodes directly below a path, sorted."""
        return list(self._paths.children.get((self._prefix + path).removesuffix("/"), ()))


class _Paths:
    """All paths of a document, put in order once for all groups: there may be as many groups."""

    def __init__(self, documents: Documents) -> None:
        """Do nothing yet."""
        self._documents = documents

    @cached_property
    def ordered(self) -> list[str]:
        """Sorted."""
        return sorted(self._documents)

    @cached_property
    def place(self) -> dict[str, int]:
        """Where each stands in the document."""
        return {path: number for number, path in enumerate(self._documents)}

    @cached_property
    def children(self) -> dict[str, list[str]]:
        """Names directly below each path, sorted."""
        children: dict[str, list[str]] = {}
        for path in self.ordered:
            parent, _, name = path.rpartition("/")
            children.setdefault(parent, []).append(name)
        return children

    def below(self, prefix: str) -> list[str]:
        """Those that begin with `prefix`, "a/b/", as they stand in the document."""
        first = bisect_left(self.ordered, prefix)
        end = bisect_left(self.ordered, prefix[:-1] + _AFTER_SLASH)
        return sorted(self.ordered[first:end], key=self.place.__getitem__)


def parse_inline(value: JSON, parse: Parse) -> ConsolidatedMetadata | None:
    """Read `consolidated_metadata` of a v3 group; null, as zarr-python 3.0 wrote, is nothing.

    Args:
        value: the member.
        parse: reads one `zarr.json`.

    Raises:
        MetadataError: not of the form that the specification gives, or a path leaves the root.
    """
    if value is None:
        return None
    where = "consolidated_metadata"
    inline = as_object(value, where)
    if inline.get("kind") != "inline":
        if inline.get("must_understand") is False:
            return None
        raise wrong(f"{where}.kind", inline.get("kind"), '"inline"')
    documents: dict[str, dict[str, JSON]] = {}
    waiting = [("", inline)]
    prefixes = 0
    while waiting:
        prefix, carrier = waiting.pop()
        metadata = as_object(member(carrier, "metadata", where), f"{where}.metadata")
        prefixes += len(prefix) * len(metadata)
        if prefixes > MOST_PREFIXES:
            raise MetadataError(f"{where} has groups in groups with names that are too long")
        for path, value_below in metadata.items():
            _check_path(path, where)
            document = as_object(value_below, f"{where}.metadata[{shorten(path)}]")
            documents.setdefault(prefix + path, document)
            # zarr-python lists all nodes at the top, and writes an empty mapping into each group;
            # a group's own mapping adds to the top's, and never hides it.
            nested = document.get(where)
            if isinstance(nested, dict) and nested.get("kind") == "inline":
                waiting.append((f"{prefix}{path}/", nested))
    return ConsolidatedMetadata(documents, parse)


def parse_zmetadata(document: Mapping[str, JSON]) -> ArrayMetadata | GroupMetadata:
    """Read v2's `.zmetadata`: the group that it lies in, with the metadata of all nodes below.

    Raises:
        MetadataError: not of format 1, a path leaves the root, or there is no node at the root.
    """
    as_int(member(document, "zarr_consolidated_format"), "zarr_consolidated_format", 1, 1)
    nodes: dict[str, dict[str, JSON]] = {}
    for key, value in as_object(member(document, "metadata"), "metadata").items():
        _check_path(key, "metadata")
        path, _, name = key.rpartition("/")
        if name in _V2_DOCUMENTS:
            nodes.setdefault(path, {})[name] = as_object(value, f"metadata[{shorten(key)}]")
    found = {path: node for path, node in nodes.items() if len(node.keys() - {".zattrs"})}
    if "" not in found:
        raise MetadataError("metadata has neither .zgroup nor .zarray: there is no node here")
    root = _parse_v2(found.pop(""))
    if isinstance(root, GroupMetadata):
        root = replace(root, consolidated=ConsolidatedMetadata(found, _parse_v2))
    return root


def _check_path(path: str, where: str) -> None:
    """Refuse paths that are not made of node names."""
    bad = {"", ".", ".."}
    if "\\" in path or "\0" in path or any(part in bad for part in path.split("/")):
        raise MetadataError(
            f"{where} has the path {shorten(path)}; paths are relative and must not leave the root"
        )


def _parse_v2(documents: Mapping[str, JSON]) -> Node:
    attributes = documents.get(".zattrs", {})
    if ".zarray" in documents:
        return v2.parse_array(documents[".zarray"], attributes)
    return v2.parse_group(documents[".zgroup"], attributes)
