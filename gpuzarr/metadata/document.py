"""JSON in, with bounds, and accessors whose errors say which member is wrong.

A metadata document is the first thing that is read from a store, and may come from anyone. So size
and depth are bounded here, once, and whatever is wrong with a member comes out as a
`MetadataError` that names the member, what was found and what is right.

`where` is the path of a member, as in "chunk_grid.configuration.chunk_shape[0]".
"""

from __future__ import annotations

import json
import reprlib
from typing import TYPE_CHECKING, Final

from gpuzarr.errors import MetadataError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gpuzarr.metadata.model import JSON

NODE_NBYTES: Final = 16 * 2**20
"""The longest document of one node."""
CONSOLIDATED_NBYTES: Final = 256 * 2**20
"""The longest document that carries the metadata of other nodes too."""
MAX_DEPTH: Final = 128
"""How deeply objects and arrays may be nested; keeps every later walk free of RecursionError."""
MAX_DIMENSIONS: Final = 64
"""NumPy's own limit."""
MAX_LENGTH: Final = 2**63 - 1
"""The longest dimension: indices are signed 64-bit numbers."""

_CONSOLIDATED_MARKS: Final = (b'"consolidated_metadata"', b'"zarr_consolidated_format"')

_shortener = reprlib.Repr()
_shortener.maxlevel = 3
_shortener.maxstring = 60
_shortener.maxother = 60


def parse_json(data: bytes | bytearray | memoryview, what: str) -> dict[str, JSON]:
    """Parse a metadata document: one JSON object in UTF-8, with the literals NaN and Infinity.

    Args:
        data: the whole document.
        what: what errors call it, such as its key: "a/zarr.json".

    Raises:
        MetadataError: not JSON, not an object, too long or too deeply nested.
    """
    text = bytes(data)
    if len(text) > NODE_NBYTES:
        carries_more = any(mark in text for mark in _CONSOLIDATED_MARKS)
        limit = CONSOLIDATED_NBYTES if carries_more else NODE_NBYTES
        if len(text) > limit:
            raise MetadataError(f"{what} has {len(text)} bytes; at most {limit} are read")
    try:
        document = json.loads(text.decode("utf-8-sig"))
    except RecursionError:
        raise _too_deep(what) from None
    except ValueError as error:
        # Besides bad syntax: bytes that are not UTF-8, integers beyond Python's digit limit.
        raise MetadataError(f"{what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise MetadataError(f"{what} is {shorten(document)}; it must be a JSON object")
    _check_depth(document, what)
    return document


def _check_depth(document: dict[str, JSON], what: str) -> None:
    """Walk level by level, so that the depth is found without recursion."""
    level: list[JSON] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise _too_deep(what)


def _too_deep(what: str) -> MetadataError:
    return MetadataError(f"{what} is nested too deeply; at most {MAX_DEPTH} levels are read")


def shorten(value: object) -> str:
    """A value as errors show it: never long, whatever the document holds.

    >>> shorten(list(range(100)))
    '[0, 1, 2, 3, 4, 5, ...]'
    """
    return _shortener.repr(value)


def wrong(where: str, found: object, right: str) -> MetadataError:
    """The error for a member that holds something else than it must."""
    return MetadataError(f"{where} is {shorten(found)}; it must be {right}")


def member(document: Mapping[str, JSON], name: str, where: str = "") -> JSON:
    """A member that must be there."""
    try:
        return document[name]
    except KeyError:
        raise MetadataError(f"{f'{where}.' if where else ''}{name} is missing") from None


def as_object(value: JSON, where: str) -> dict[str, JSON]:
    """The value, which must be a JSON object."""
    if not isinstance(value, dict):
        raise wrong(where, value, "an object")
    return value


def as_list(value: JSON, where: str) -> list[JSON]:
    """The value, which must be a JSON array."""
    if not isinstance(value, list):
        raise wrong(where, value, "an array")
    return value


def as_text(value: JSON, where: str) -> str:
    """The value, which must be a string that is not empty."""
    if not isinstance(value, str) or not value:
        raise wrong(where, value, "a string that is not empty")
    return value


def as_choice(value: JSON, where: str, choices: Collection[str]) -> str:
    """The value, which must be one of a few strings."""
    if not isinstance(value, str) or value not in choices:
        raise wrong(where, value, " or ".join(f'"{choice}"' for choice in choices))
    return value


def as_bool(value: JSON, where: str) -> bool:
    """The value, which must be true or false."""
    if not isinstance(value, bool):
        raise wrong(where, value, "true or false")
    return value


def as_int(value: JSON, where: str, low: int = 0, high: int = MAX_LENGTH) -> int:
    """The value, which must be an integer in a range; true, false and 1.0 are no integers."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(where, value, f"an integer from {low} to {high}")
    return value


def as_shape(value: JSON, where: str) -> tuple[int, ...]:
    """The value, which must be the lengths of at most 64 dimensions."""
    lengths = as_list(value, where)
    if len(lengths) > MAX_DIMENSIONS:
        raise MetadataError(
            f"{where} has {len(lengths)} dimensions; at most {MAX_DIMENSIONS} are possible"
        )
    return tuple(as_int(length, f"{where}[{axis}]") for axis, length in enumerate(lengths))


def check_members(
    document: Mapping[str, JSON], where: str, known: Collection[str], owner: str
) -> None:
    """Refuse members that nobody defined: they could change what the others mean."""
    for name in document:
        if name not in known:
            allowed = ", ".join(f'"{one}"' for one in known) or "no members"
            raise MetadataError(
                f"{where} has the unknown member {shorten(name)}; {owner} has {allowed}"
            )
