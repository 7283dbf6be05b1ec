"""The arrays and loaders of `loader.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batches import Case

import gpuzarr

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
CROP = 32
"""Elements of a crop along each dimension."""

CHUNKS = Case("chunks", "64^3 zstd chunks", 64, None, "zstd")
SHARDS = Case("shards", "32^3 zstd chunks in 128^3 shards", 32, 128, "zstd")


@dataclass(frozen=True)
class Order:
    """How windows follow each other, and what is kept of them."""

    name: str
    locality: int | None
    cache_nbytes: int

    def options(self, divisor: int) -> dict[str, Any]:
        """For a loader of an array whose lengths are divided."""
        return {"locality": self.locality, "cache_nbytes": self.cache_nbytes // divisor**3}


@dataclass(frozen=True)
class Windows:
    """Windows of an array."""

    name: str
    array: Case
    crop: tuple[int | None, ...]
    """None: all of a dimension."""
    batch_size: int
    batches: int
    random: bool = False
    """At random places; else a grid that is shuffled."""


SHUFFLED = Order("shuffled", None, 0)
KEPT = Order("locality=4, cache 32 MiB", 4, 32 * MIB)

SETTINGS = tuple(
    (Windows(f"crops, {array.name}", array, (CROP,) * 3, 1, 1, random=True), order)
    for array in (CHUNKS, SHARDS)
    for order in (SHUFFLED, KEPT)
)
"""Whose speed is measured; sizes and numbers of batches are chosen there."""

ORDERS = (
    SHUFFLED,
    Order("shuffled, cache 64 MiB", None, 64 * MIB),
    *(Order(f"locality={mixed}, cache 64 MiB", mixed, 64 * MIB) for mixed in (1, 4, 16)),
)
COMPARED = (
    Windows("planes", CHUNKS, (1, None, None), 8, 32),
    Windows("grid of crops", CHUNKS, (CROP,) * 3, 32, 64),
    Windows("random crops", SHARDS, (CROP,) * 3, 32, 64, random=True),
)
"""What locality saves is measured of these."""


def make_loader(  # noqa: PLR0913  what a loader is made of
    path: Path,
    windows: Windows,
    order: Order,
    divisor: int,
    *,
    batch_size: int,
    batches: int,
    prefetch: int | None,
) -> gpuzarr.Loader:
    """A loader of windows, with nothing read.

    Args:
        path: the array.
        windows: which.
        order: in which order they come.
        divisor: of the lengths of crops and of what is kept.
        batch_size: windows in a batch.
        batches: of an epoch, at least, where windows are random.
        prefetch: batches that are read ahead; None: the loader's default.
    """
    crop = tuple(c if c in {None, 1} else c // divisor for c in windows.crop)
    random: dict[str, Any] = {"shuffle": True}
    if windows.random:
        random = {"windows": "random", "samples_per_epoch": batch_size * batches}
    return gpuzarr.Loader(
        gpuzarr.open_array(path),
        crop=crop,
        batch_size=batch_size,
        prefetch=prefetch,
        **random,
        **order.options(divisor),
    )
