"""How long a read takes at least on a machine: what it has to move, each at its measured ceiling.

A read fetches stored bytes into pinned memory, copies them to the device, decodes them there, and
writes the result. A reader that does all this at once, batch by batch, takes as long as the slowest
of the four. Where nothing is compressed, nothing is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

READ, UPLOAD, DECOMPRESS, SCATTER = "read", "copy", "decompress", "scatter"


@dataclass(frozen=True)
class Ceilings:
    """What the machine does at most, each alone, in bytes a second."""

    read: float
    """From files in the page cache into pinned memory, on all cores."""
    upload: float
    """From pinned memory to the device."""
    moved: float
    """Inside the device; a copy moves each byte twice."""


@dataclass(frozen=True)
class Needs:
    """What a read has to do, each chunk once."""

    stored: int
    """Bytes of the chunks that hold any of the result, as they are stored."""
    decoded: int
    """Bytes that these decode to."""
    decompress: float
    """Bytes a second that nvCOMP alone gives of such chunks; infinite: nothing is compressed."""
    taken: int
    """Bytes of the elements that the result takes from decoded chunks."""
    result: int
    """Bytes of the result."""


def parts(needs: Needs, ceilings: Ceilings) -> dict[str, float]:
    """Seconds of each part, at its ceiling.

    >>> machine = Ceilings(read=10.0, upload=50.0, moved=2000.0)
    >>> parts(Needs(stored=100, decoded=400, decompress=80.0, taken=400, result=800), machine)
    {'read': 10.0, 'copy': 2.0, 'decompress': 5.0, 'scatter': 0.6}
    >>> parts(Needs(100, 100, float("inf"), 100, 100), machine)["decompress"]
    0.0
    """
    return {
        READ: needs.stored / ceilings.read,
        UPLOAD: needs.stored / ceilings.upload,
        DECOMPRESS: needs.decoded / needs.decompress,
        SCATTER: (needs.taken + needs.result) / ceilings.moved,
    }


def limit(seconds: dict[str, float]) -> tuple[str, float]:
    """The part that takes longest, and its seconds.

    >>> limit({"read": 10.0, "copy": 2.0, "decompress": 12.0, "scatter": 0.6})
    ('decompress', 12.0)
    """
    name = max(seconds, key=seconds.__getitem__)
    return name, seconds[name]


def against_limit(needs: Needs, ceilings: Ceilings, taken: float) -> dict[str, Any]:
    """What a table says of a read that took so many seconds.

    >>> needs = Needs(stored=100, decoded=400, decompress=80.0, taken=400, result=800)
    >>> row = against_limit(needs, Ceilings(10.0, 50.0, 2000.0), taken=20.0)
    >>> row["limit, GB/s"], row["limited by"], row["of the limit"]
    (8e-08, 'read', 0.5)
    """
    seconds = parts(needs, ceilings)
    name, least = limit(seconds)
    return {
        "limit, GB/s": needs.result / least / 1e9,
        "limited by": name,
        "of the limit": least / taken,
        "limit, ms": {part: 1e3 * value for part, value in seconds.items()},
    }
