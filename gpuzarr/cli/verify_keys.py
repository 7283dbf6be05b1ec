"""What lies in the folder of an array or a group: chunks, metadata, and what belongs to neither.

Nothing is read here, only listed, folder by folder, and what is found is given on at once: there
may be more keys than fit into memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product, starmap
from typing import TYPE_CHECKING, Literal, NamedTuple

from gpuzarr.metadata.model import ChunkKeyEncoding
from gpuzarr.node import join

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from gpuzarr.stores.store import Store

Coords = tuple[int, ...]

ARRAY_DOCUMENTS = {2: (".zarray", ".zattrs", ".zmetadata"), 3: ("zarr.json",)}
GROUP_DOCUMENTS = {2: (".zgroup", ".zattrs", ".zmetadata"), 3: ("zarr.json",)}
NODE_DOCUMENTS = {"array": {2: ".zarray", 3: "zarr.json"}, "group": {2: ".zgroup", 3: "zarr.json"}}
"""The document that makes a folder a node."""

_ALL_DOCUMENTS = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})
_TEMPORARY = re.compile(r"\.(tmp|temp|part|partial|swp|lock|__lock|nfs\w+)\b|^\.~|~$|__tmp|^\.nfs")
_LONGEST_NUMBER = 19
"""Digits of 2^63, beyond which no grid reaches."""

BEYOND = "beyond the chunk grid"
OTHER_FORMAT = "metadata of Zarr v{}, in a node of v{}"
TEMPORARY = "a temporary file that a writer left"
UNKNOWN = "no key of this {}"
NOT_LISTED = "a node that the consolidated metadata do not list"
NO_NODE = "a folder that is no node"
NO_DOCUMENT = "not there: this node stands in consolidated metadata alone"


class Stray(NamedTuple):
    """A key that belongs to nothing, or one that should be there and is not."""

    key: str
    """With a "/" behind it where it is a folder, which was not looked into."""
    reason: str


@dataclass(frozen=True, slots=True)
class ChunkKeys:
    """The keys that the objects of an array may have."""

    encoding: ChunkKeyEncoding
    counts: Coords
    """Stored objects (chunks or shards) along each dimension."""

    def find(self, key: str) -> Coords | None:
        """The object of a key relative to the array, inside of the grid or not; None: of none.

        >>> ChunkKeys(ChunkKeyEncoding("default", "/"), (2, 3)).find("c/0/7")
        (0, 7)
        """
        encoding = self.encoding
        if not key.endswith(encoding.suffix):
            return None
        text = key[: len(key) - len(encoding.suffix)]
        if not self.counts:
            return () if text == ("c" if encoding.name == "default" else "0") else None
        if encoding.name == "default":
            start = f"c{encoding.separator}"
            if not text.startswith(start):
                return None
            text = text[len(start) :]
        numbers = [_number(part) for part in text.split(encoding.separator)]
        coords = tuple(number for number in numbers if number is not None)
        return coords if len(coords) == len(numbers) == len(self.counts) else None

    def holds(self, coords: Sequence[int]) -> bool:
        """Whether there are such chunks in the grid."""
        return all(place < count for place, count in zip(coords, self.counts, strict=False))

    def leads(self, folder: str) -> bool | None:
        """Whether keys of chunks begin with a folder's: None where only those beyond the grid do.

        >>> ChunkKeys(ChunkKeyEncoding("v2", "/"), (2, 3)).leads("9")
        """
        parts = folder.split("/")
        if self.encoding.separator != "/" or not self.counts:
            return False
        if self.encoding.name == "default" and parts.pop(0) != "c":
            return False
        coords = [_number(part) for part in parts]
        if len(coords) >= len(self.counts) or None in coords:
            return False
        return True if self.holds([place for place in coords if place is not None]) else None


def list_array(
    store: Store,
    path: str,
    keys: ChunkKeys,
    zarr_format: int,
    stray: Callable[[Stray], None],
) -> Iterator[Coords]:
    """The objects of an array that are stored, in the order in which the store lists them.

    Args:
        store: where.
        path: of the array.
        keys: that its objects may have.
        zarr_format: of the array.
        stray: is told what does not belong there.

    Raises:
        UnsupportedError: the store cannot list.
        StoreError: the storage failed.
    """
    documents = set()
    others = _others(keys)
    folders = [("", store.list(path))]
    while folders:
        folder, entries = folders[-1]
        for name, is_folder in entries:
            key = join(folder, name)
            if is_folder:
                leads = keys.leads(key)
                if leads:
                    folders.append((key, store.list(join(path, key))))
                    break  # and come back to these entries
                reason = BEYOND if leads is None else _folder_reason(key, keys, others)
                stray(Stray(f"{join(path, key)}/", reason))
                continue
            coords = keys.find(key)
            if coords is not None and keys.holds(coords):
                yield coords
            elif key in ARRAY_DOCUMENTS[zarr_format]:
                documents.add(key)
            else:
                reason = (
                    BEYOND if coords is not None else _object_reason(key, keys, others, zarr_format)
                )
                stray(Stray(join(path, key), reason))
        else:
            folders.pop()
    _expect_document(documents, path, "array", zarr_format, stray)


def list_group(  # noqa: PLR0913  what a folder is judged by
    store: Store,
    path: str,
    members: Collection[str],
    zarr_format: int,
    stray: Callable[[Stray], None],
    *,
    consolidated: bool,
) -> None:
    """Look for what does not belong into a group's own folder.

    Args:
        store: where.
        path: of the group.
        members: names of the nodes that it is known to have.
        zarr_format: of the group.
        stray: is told what does not belong there.
        consolidated: whether `members` come from consolidated metadata.

    Raises:
        UnsupportedError: the store cannot list.
        StoreError: the storage failed.
    """
    documents = set()
    for name, is_folder in store.list(path):
        key = join(path, name)
        if is_folder:
            if name not in members:
                is_node = consolidated and _is_node(store, key)
                stray(Stray(f"{key}/", NOT_LISTED if is_node else NO_NODE))
        elif name in GROUP_DOCUMENTS[zarr_format]:
            documents.add(name)
        else:
            stray(Stray(key, _plain_reason(name, "group", zarr_format)))
    _expect_document(documents, path, "group", zarr_format, stray)


def _expect_document(
    found: Collection[str],
    path: str,
    kind: str,
    zarr_format: int,
    stray: Callable[[Stray], None],
) -> None:
    document = NODE_DOCUMENTS[kind][zarr_format]
    if document not in found:
        stray(Stray(join(path, document), NO_DOCUMENT))


def _is_node(store: Store, path: str) -> bool:
    documents = {"zarr.json", ".zarray", ".zgroup"}
    return any(name in documents for name, is_folder in store.list(path) if not is_folder)


def _folder_reason(key: str, keys: ChunkKeys, others: Sequence[ChunkKeys]) -> str:
    for other in others:
        if other.leads(key):
            return _other_encoding(other.encoding, keys.encoding)
    return _plain_reason(key.rpartition("/")[2], "array", None)


def _object_reason(key: str, keys: ChunkKeys, others: Sequence[ChunkKeys], zarr_format: int) -> str:
    for other in others:
        coords = other.find(key)
        if coords is not None and keys.holds(coords):
            return _other_encoding(other.encoding, keys.encoding)
    return _plain_reason(key, "array", zarr_format)


def _plain_reason(key: str, kind: str, zarr_format: int | None) -> str:
    name = key.rpartition("/")[2]
    if key in _ALL_DOCUMENTS and zarr_format is not None:
        other = 3 if key == "zarr.json" else 2
        if other != zarr_format:
            return OTHER_FORMAT.format(other, zarr_format)
    if _TEMPORARY.search(name):
        return TEMPORARY
    return UNKNOWN.format(kind)


def _others(keys: ChunkKeys) -> list[ChunkKeys]:
    """The same grid under other chunk key encodings."""
    mine = keys.encoding
    names: tuple[Literal["default", "v2"], ...] = ("default", "v2")
    separators: tuple[Literal["/", "."], ...] = ("/", ".")
    encodings = starmap(
        ChunkKeyEncoding, product(names, separators, dict.fromkeys((mine.suffix, "")))
    )
    return [ChunkKeys(other, keys.counts) for other in encodings if other != mine]


def _other_encoding(found: ChunkKeyEncoding, mine: ChunkKeyEncoding) -> str:
    """What to say of a chunk's key that is spelled as another array would."""
    return (
        f"a chunk under another key encoding: {_describe(found)}; the metadata say"
        f" {_describe(mine)}"
    )


def _describe(encoding: ChunkKeyEncoding) -> str:
    suffix = f" and suffix {encoding.suffix!r}" if encoding.suffix else ""
    return f'"{encoding.name}" with separator "{encoding.separator}"{suffix}'


def _number(text: str) -> int | None:
    """A number as keys have it; None for other text. Beyond 2^63 all are the same."""
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and len(text) > 1):
        return None
    return int(text) if len(text) <= _LONGEST_NUMBER else 1 << 64
