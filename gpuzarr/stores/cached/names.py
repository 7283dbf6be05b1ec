"""The names of the files in a cache's folder: `0_65536_200000_1f2e...`.

A name says where its range begins and ends, how large the object is (`x`: not known), and a hash of
its version.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gpuzarr.stores.cached.ranges import Span

NO_SIZE = "x"
NAME = re.compile(r"(-?\d{1,19})_(-?\d{1,19})_(x|\d{1,19})_([0-9a-f]{16})", re.ASCII)


class Listing(NamedTuple):
    """The ranges of an object, by the names of their files."""

    changed: int
    """When the folder changed, in nanoseconds."""
    size: int | None
    spans: list[Span]
    """Sorted."""
    names: list[str]


NOTHING = Listing(0, None, [], [])


def parse_names(changed: int, names: list[str]) -> Listing:
    """What file names say; nothing where they are of several versions of the object."""
    found: list[tuple[Span, str]] = []
    sizes: set[str] = set()
    versions: set[str] = set()
    for name in names:
        match = NAME.fullmatch(name)
        if match is None:
            continue  # not ours
        found.append((Span(int(match[1]), int(match[2])), name))
        sizes.add(match[3])
        versions.add(match[4])
    sizes.discard(NO_SIZE)
    if len(versions) != 1 or len(sizes) > 1:
        return Listing(changed, None, [], [])
    found.sort()
    return Listing(
        changed,
        int(sizes.pop()) if sizes else None,
        [span for span, _ in found],
        [name for _, name in found],
    )


def is_of_one_object(one: str, other: str) -> bool:
    """Whether two ranges, by their names, may be of the same version of the object."""
    *_, size, version = one.split("_")
    *_, other_size, other_version = other.split("_")
    return version == other_version and (size == other_size or NO_SIZE in {size, other_size})


def size_of(name: str) -> int | None:
    """The size of the object, as the name of a range says it."""
    size = name.split("_")[2]
    return None if size == NO_SIZE else int(size)
