"""The workloads of `gpu.py`: rows (a) to (h), and small requests. What is stored, what is read.

Data come from fixed seeds: microscopy is smooth structure under a camera's noise, weather smooth
fields of few significant digits, all else waves with noise. So that making them takes seconds,
large arrays repeat a part that is much longer than anything a decoder remembers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from cpu_workloads import SEED, microscopy, weather
from gpu_stored import box

from tests.gpu.nvcomp_batch import smooth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpu_stored import Key, Shape, Values

# --------------------------------------------------------------------------------------- data


def tiled(shape: Shape, tile: Values) -> Values:
    """An array that repeats a tile along every axis, cut at its end."""
    counts = [-(-n // t) for n, t in zip(shape, tile.shape, strict=True)]
    return np.ascontiguousarray(np.tile(tile, counts)[tuple(map(slice, shape))])


def waves(shape: Shape, dtype: str) -> Values:
    """Waves with noise, in whole numbers; repeated every 64 MiB along the first axis."""
    row = prod(shape[1:])
    rows = max(1, min(shape[0], (1 << 24) // row))
    numbers = np.frombuffer(smooth(4 * row * rows), "<f4").reshape(rows, *shape[1:])
    return tiled(shape, numbers.astype(dtype))


def activations(shape: Shape, dtype: str) -> Values:
    """A network's numbers, say: near zero, in steps of 1/64; repeated every 2^25 of them."""
    count = min(shape[0], 1 << 25)
    numbers = np.random.default_rng(SEED).standard_normal(count, np.float32)
    slow = np.sin(np.arange(count, dtype=np.float32) / 5000)
    return tiled(shape, ((numbers * 8 + slow * 64).round() / 64).astype(dtype))


@lru_cache(maxsize=1)
def fields(shape: Shape, dtype: str) -> Values:
    """Weather, 64 fields that repeat."""
    return tiled(shape, weather((min(shape[0], 64), *shape[1:]), dtype))


@lru_cache(maxsize=1)
def volume(shape: Shape, dtype: str) -> Values:
    """Microscopy."""
    return microscopy(shape, dtype)


# ---------------------------------------------------------------------------------- workloads


@dataclass(frozen=True)
class Workload:
    """Arrays that are alike, and the reads of them."""

    name: str
    what: str
    shape: Shape
    dtype: str
    chunks: Shape
    codec: str
    make: Callable[[Shape, str], Values]
    shards: Shape | None = None
    zarr_format: int = 3
    narrays: int = 1
    crop: Shape | None = None
    ncrops: int = 0
    """Random crops in one read, over all arrays."""
    result: str | None = None
    """The result's dtype, where it is another than the stored one."""
    boxes: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    """Single reads, by name: where they begin, and their shapes."""
    small: Mapping[str, Any] = field(default_factory=dict)
    """What else a small one has, to see that it runs."""

    def shrunk(self) -> Workload:
        """The small one."""
        return replace(self, **self.small)

    @property
    def stored(self) -> np.dtype[Any]:
        """The dtype of what is stored."""
        return np.dtype(self.dtype)

    def arrays(self) -> list[Values]:
        """What each array holds: the same, moved along the first axis by another length."""
        first = self.make(self.shape, self.dtype)
        return [
            np.roll(first, 37 * number, axis=0) if number else first
            for number in range(self.narrays)
        ]

    def requests(self) -> dict[str, list[tuple[int, Key]]]:
        """For each read by name, what it wants of which array."""
        if self.crop is not None:
            rng = np.random.default_rng(SEED)
            room = np.subtract(self.shape, self.crop)
            begins = rng.integers(0, room, (self.ncrops, len(room)), endpoint=True).tolist()
            arrays = rng.integers(0, self.narrays, self.ncrops).tolist()
            pairs = zip(arrays, begins, strict=True)
            return {"": [(number, box(begin, self.crop)) for number, begin in pairs]}
        if self.boxes:
            return {name: [(0, box(*place))] for name, place in self.boxes.items()}
        return {"": [(0, (slice(None),) * len(self.shape))]}

    def names(self) -> list[str]:
        """What the rows of its reads are called."""
        return [f"{self.name}, {read}" if read else self.name for read in self.requests()]


# ------------------------------------------------------------------------------------ the rows


def _few_large(mib: int) -> Workload:
    count = mib << 19
    return Workload(
        f"b, {mib} MiB",
        f"8 chunks of {mib} MiB float16, Blosc zstd bitshuffle",
        (8 * count,),
        "<f2",
        (count,),
        "blosc-zstd-bits",
        activations,
        small={"shape": (4096 * mib,), "chunks": (1024 * mib,)},
    )


def _small_chunks(kib: int, codec: str) -> Workload:
    side, rows = {16: (64, 4096), 64: (128, 8192)}[kib]
    return Workload(
        f"f, {kib} KiB {codec}",
        f"{rows * 8192 // side**2:,} chunks of {kib} KiB float32, {codec}, in shards of 4 MiB",
        (rows, 8192),
        "<f4",
        (side, side),
        codec,
        waves,
        (1024, 1024),
        small={"shape": (256, 512), "shards": (256, 256)},
    )


SMALL_FIELDS = {"shape": (2, 73, 144), "chunks": (1, 73, 144)}
CUBES = {
    "64^3 crop, 8 chunks": ((100, 200, 300), (64, 64, 64)),
    "1 chunk": ((64, 128, 192), (64, 64, 64)),
    "16 chunks": ((128, 0, 64), (128, 128, 256)),
    "256 chunks": ((128, 0, 0), (256, 512, 512)),
}
SMALL_CUBES = {
    "64^3 crop, 8 chunks": ((10, 20, 30), (16, 16, 16)),
    "1 chunk": ((16, 32, 48), (16, 16, 16)),
    "16 chunks": ((16, 0, 0), (32, 32, 64)),
    "256 chunks": ((0, 0, 0), (64, 64, 256)),
}

ROWS = (
    Workload(
        "a",
        "128 random crops of 128^3 a batch, uint16 to float32, from 16 arrays of 512^3,"
        " 32x64x64 zstd chunks in 256x256x512 shards",
        (512, 512, 512),
        "<u2",
        (32, 64, 64),
        "zstd",
        volume,
        (256, 256, 512),
        narrays=16,
        crop=(128, 128, 128),
        ncrops=128,
        result="float32",
        small={
            "shape": (64, 128, 128),
            "shards": (64, 64, 128),
            "narrays": 2,
            "crop": (30, 40, 50),
            "ncrops": 3,
        },
    ),
    *map(_few_large, (8, 64, 256)),
    Workload(
        "c",
        "8 shards of 400 zstd chunks of 1 MB float32",
        (80_000, 10_000),
        "<f4",
        (500, 500),
        "zstd",
        waves,
        (10_000, 10_000),
        small={"shape": (400, 200), "chunks": (50, 50), "shards": (200, 200)},
    ),
    Workload(
        "d",
        "256 weather fields of 721x1440 float32, v2, Blosc lz4 shuffle, one a chunk",
        (256, 721, 1440),
        "<f4",
        (1, 721, 1440),
        "blosc-lz4",
        fields,
        zarr_format=2,
        small=SMALL_FIELDS,
    ),
    Workload(
        "e",
        "the same, v3 zstd",
        (256, 721, 1440),
        "<f4",
        (1, 721, 1440),
        "zstd",
        fields,
        small=SMALL_FIELDS,
    ),
    *(_small_chunks(kib, codec) for kib in (64, 16) for codec in ("zstd", "lz4")),
    Workload(
        "g",
        "512 chunks of 1 MiB float32, gzip 5",
        (8192, 16384),
        "<f4",
        (512, 512),
        "gzip",
        waves,
        small={"shape": (128, 128), "chunks": (64, 64)},
    ),
    Workload(
        "h",
        "256 chunks of 4 MiB float32, uncompressed",
        (16384, 16384),
        "<f4",
        (1024, 1024),
        "uncompressed",
        waves,
        small={"shape": (256, 256), "chunks": (128, 128)},
    ),
)
SMALL = Workload(
    "s",
    "single reads of a uint16 array of 512^3, 64^3 zstd chunks",
    (512, 512, 512),
    "<u2",
    (64, 64, 64),
    "zstd",
    volume,
    boxes=CUBES,
    small={"shape": (64, 64, 256), "chunks": (16, 16, 16), "boxes": SMALL_CUBES},
)
