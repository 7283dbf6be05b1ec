"""From a path in a store to the metadata of the node there, in as few requests as possible.

v3 has one document a node. v2 has `.zarray` or `.zgroup`, and user attributes apart in `.zattrs`,
which are read when asked for; `.zmetadata` may hold the documents of a whole hierarchy. A node of
unknown format is looked for
in at most two rounds of requests: `zarr.json` first, which wins, then the v2 documents together.
"""

from __future__ import annotations

import difflib
import logging
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

from gpuzarr.errors import GpuzarrError, NotFoundError
from gpuzarr.metadata import consolidated, model, v2, v3
from gpuzarr.metadata.data_types import NUMPY_TYPES
from gpuzarr.metadata.document import CONSOLIDATED_NBYTES, parse_json
from gpuzarr.stores.store import WHOLE, at_most, check_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from gpuzarr.metadata.model import ArrayMetadata, GroupMetadata
    from gpuzarr.stores.store import Blob, Pending, Store

    Node = ArrayMetadata | GroupMetadata

log = logging.getLogger("gpuzarr.group")

Kind = Literal["array", "group"]

REMEMBERED_NBYTES = 1 << 14
"""Documents up to this size are parsed once, however many nodes have them..."""
MOST_REMEMBERED = 256
"""... while there are no more of them than this."""


TOGETHER = 256
"""Nodes whose documents are asked for at the same time."""


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """The arguments of `gpuzarr.open` that nodes hand on to the nodes below them."""

    device: str = "auto"
    decode: Literal["auto", "device", "host"] = "auto"
    io: Literal["auto", "kvikio", "pinned"] = "auto"
    memory_limit: int | None = None
    consolidated: bool | Literal["auto"] = "auto"
    zarr_format: Literal[2, 3] | None = None
    threads: int | None = None
    cache_nbytes: int | None = None


_CHOICES = {
    "decode": ("auto", "device", "host"),
    "io": ("auto", "kvikio", "pinned"),
    "consolidated": ("auto", True, False),
    "zarr_format": (None, 2, 3),
}
_LEAST = {"threads": 1, "memory_limit": 1, "cache_nbytes": 0}


def check_names(function: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse arguments that a function does not have.

    Raises:
        TypeError: there is one; the message names one that is spelled alike.
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TypeError(f"{function}() got an unexpected keyword argument {unknown[0]!r}{hint}")


def check_options(given: Mapping[str, Any]) -> None:
    """Refuse values that members of `OpenOptions` cannot have.

    Raises:
        TypeError: of the wrong type.
        ValueError: not allowed.
    """
    device = given.get("device", "")
    if not isinstance(device, str):
        raise TypeError(f"device={device!r}: must be a str")
    for name, value in given.items():
        if (allowed := _CHOICES.get(name)) and value not in allowed:
            raise ValueError(f"{name}={value!r}: choose from {', '.join(map(repr, allowed))}")
        if (least := _LEAST.get(name)) is None or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name}={value!r}: an integer from {least}, or None for the default")


def changed_options(options: OpenOptions, changes: Mapping[str, Any]) -> OpenOptions:
    """The same options but for some.

    Raises:
        TypeError: an option that there is not, or of the wrong type.
        ValueError: a value that is not allowed.
    """
    check_names("with_options", changes, OpenOptions.__annotations__)
    check_options(changes)
    numbers = {name: as_int(changes[name]) for name in _LEAST if name in changes}
    return replace(options, **{**changes, **numbers})


def as_int(number: int | None) -> int | None:
    """NumPy's integers are as wide as they are; Python's never overflow."""
    return None if number is None else int(number)


def load_node(
    store: Store,
    path: str,
    *,
    kind: Kind | None = None,
    zarr_format: Literal[2, 3] | None = None,
    consolidated_too: bool = False,
) -> ArrayMetadata | GroupMetadata:
    """Read and parse the metadata of the node at `path`.

    Args:
        store: where.
        path: "" for the root, else a key without slashes around it.
        kind: what is wanted; keeps requests for the other kind from being made. None: either.
        zarr_format: look for this format only.
        consolidated_too: with a v2 group, its `.zmetadata` as well.

    Raises:
        NotFoundError: no node, or a node of the other kind.
        MetadataError: its documents are wrong.
        UnsupportedError: a data type that is not known.
    """
    try:
        node = None
        if zarr_format in {None, 3}:
            node = _load_v3(store, path)
        if node is None and zarr_format in {None, 2}:
            node = _load_v2(store, path, kind, consolidated_too=consolidated_too)
        if node is None:
            raise NotFoundError(_what_is_there(store, path, kind, zarr_format))
        found: Kind = "array" if isinstance(node, model.ArrayMetadata) else "group"
        if kind is not None and found != kind:
            raise NotFoundError(f"there is {_a(found)} here, not {_a(kind)}; use open_{found}()")
    except GpuzarrError as error:
        error.at(store=store.name, path=path)
        raise
    log.debug("parse: %s, a v%d %s", path or "/", node.zarr_format, found)
    return node


def load_nodes(
    store: Store, paths: Sequence[str], zarr_format: Literal[2, 3]
) -> Iterator[Node | GpuzarrError | None]:
    """What is at several paths, asked for together; None: no node, an error: a node that is wrong.

    Args:
        store: where.
        paths: as in `load_node`.
        zarr_format: look for this format only.
    """
    names = ("zarr.json",) if zarr_format == 3 else (".zarray", ".zgroup")  # noqa: PLR2004
    told = log.isEnabledFor(logging.DEBUG)
    for begin in range(0, len(paths), TOGETHER):
        some = paths[begin : begin + TOGETHER]
        keys = [join(path, name) for path in some for name in names]
        pending = store.start_reads(keys, [0] * len(keys), [WHOLE] * len(keys))
        row = 0
        for path in some:
            node: Node | None = None
            stop = row + len(names)
            try:
                for one in range(row, stop):
                    node = _node_in(pending, one, keys[one])
                    if node is not None:
                        break
            except GpuzarrError as error:
                yield error.at(store=store.name, path=path)
            else:
                if node is not None and told:
                    kind = "array" if isinstance(node, model.ArrayMetadata) else "group"
                    log.debug("parse: %s, a v%d %s", path, node.zarr_format, kind)
                yield node
            row = stop


def _node_in(pending: Pending, row: int, key: str) -> Node | None:
    """The node that a document describes; None: there is no such document."""
    blob = pending.result(row, at_most(CONSOLIDATED_NBYTES, key))
    if blob is None:
        return None
    if key.endswith(".zgroup"):
        return v2.parse_group(parse_json(blob.data, key), None)
    return _parse(v3.parse_node if key.endswith(".json") else v2.parse_array, blob.data, key)


def load_array(store: Store, path: str, zarr_format: Literal[2, 3] | None) -> ArrayMetadata:
    """The metadata of the array at `path`; see `load_node`."""
    node = load_node(store, path, kind="array", zarr_format=zarr_format)
    if isinstance(node, model.GroupMetadata):  # load_node has refused it
        raise NotFoundError("there is a group here, not an array", store=store.name, path=path)
    return node


def load_attributes(
    store: Store, path: str, metadata: ArrayMetadata | GroupMetadata
) -> Mapping[str, Any]:
    """User attributes: those in the metadata, or those of v2's `.zattrs`."""
    if metadata.attributes is not None:
        return deepcopy(metadata.attributes)  # nodes with equal documents share what was parsed
    document = _document(store, join(path, ".zattrs"))
    return {} if document is None else document


def join(path: str, name: str) -> str:
    """A key or node path below another.

    >>> join("", "a"), join("a", "b")
    ('a', 'a/b')
    """
    return f"{path}/{name}" if path else name


def normalize_path(path: str) -> str:
    """A node's path without slashes around it.

    Raises:
        StoreError: a path that could leave the store.

    >>> normalize_path("/a/b/")
    'a/b'
    """
    path = path.strip("/")
    return check_key(path) if path else ""


def child_names(store: Store, path: str) -> list[str]:
    """Names of the folders below a group, sorted; each may be a node."""
    return sorted(name for name, is_folder in store.list(path) if is_folder)


def _load_v3(store: Store, path: str) -> ArrayMetadata | GroupMetadata | None:
    key = join(path, "zarr.json")
    blob = store.read(key, allocate=at_most(CONSOLIDATED_NBYTES, key))
    return None if blob is None else _parse(v3.parse_node, blob.data, key)


def _parse(
    parse: Callable[[dict[str, Any]], Node], data: bytes | bytearray | memoryview, key: str
) -> Node | ArrayMetadata:
    """A document as `parse` understands it, or as it did before."""
    document = bytes(data)
    known = _remembered.get((parse, document))
    if known is not None:
        return known
    node = parse(parse_json(document, key))
    # Not where another package says what the data type is: it may say something else later.
    if (
        isinstance(node, model.ArrayMetadata)
        and len(document) <= REMEMBERED_NBYTES
        and node.data_type.name in NUMPY_TYPES
    ):
        if len(_remembered) >= MOST_REMEMBERED:
            _remembered.clear()
        _remembered[parse, document] = node
    return node


_remembered: dict[tuple[Callable[[dict[str, Any]], Any], bytes], ArrayMetadata] = {}
"""Arrays are opened again and again, and many have the same metadata."""


def _load_v2(
    store: Store, path: str, kind: Kind | None, *, consolidated_too: bool
) -> ArrayMetadata | GroupMetadata | None:
    """What v2 documents say, of those that could be wanted.

    All are asked for in one round, but `.zgroup` only where there is no `.zmetadata`, which holds
    it: most hierarchies far away are consolidated.
    """
    names = [".zarray"] if kind != "group" else []
    if kind != "array":
        names.append(".zmetadata" if consolidated_too else ".zgroup")
    keys = [join(path, name) for name in names]
    for name, key, blob in zip(names, keys, _read_all(store, keys), strict=True):
        if blob is None:
            continue
        if name == ".zarray":
            return _parse(v2.parse_array, blob.data, key)
        document = parse_json(blob.data, key)
        if name == ".zmetadata":
            return consolidated.parse_zmetadata(document)
        return v2.parse_group(document, None)
    if kind != "array" and consolidated_too:
        found = _document(store, join(path, ".zgroup"))
        return None if found is None else v2.parse_group(found, None)
    return None


def _read_all(store: Store, keys: Sequence[str]) -> Iterator[Blob | None]:
    """Documents, asked for together."""
    if len(keys) == 1:
        yield store.read(keys[0], allocate=at_most(CONSOLIDATED_NBYTES, keys[0]))
        return
    pending = store.start_reads(keys, [0] * len(keys), [WHOLE] * len(keys))
    for row, key in enumerate(keys):
        yield pending.result(row, at_most(CONSOLIDATED_NBYTES, key))


def _document(store: Store, key: str) -> dict[str, Any] | None:
    blob = store.read(key, allocate=at_most(CONSOLIDATED_NBYTES, key))
    return None if blob is None else parse_json(blob.data, key)


def _a(kind: Kind | None) -> str:
    return {"array": "an array", "group": "a group", None: "an array or a group"}[kind]


def _what_is_there(
    store: Store, path: str, kind: Kind | None, zarr_format: Literal[2, 3] | None
) -> str:
    """What to say when there is no node: what was looked for, and what is there instead."""
    wanted = {3: "zarr.json", 2: ".zarray or .zgroup"}.get(
        zarr_format or 0, "zarr.json, .zarray or .zgroup"
    )
    text = f"there is no {(kind or 'array or group')} here: no {wanted}"
    try:
        here = sorted(islice((name for name, _ in store.list(path)), 200))
        if here:
            return f"{text}; what is here: {', '.join(here[:8])}{', ...' if len(here) > 8 else ''}"  # noqa: PLR2004
        parent, _, name = path.rpartition("/")
        close = difflib.get_close_matches(name, [n for n, _ in islice(store.list(parent), 1000)])
        return f"{text}; did you mean {' or '.join(map(repr, close))}?" if close else text
    except GpuzarrError:
        return text
