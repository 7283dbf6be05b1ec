"""The ten workloads of `cpu.py`: arrays as science stores them, and the reads that people do.

Data come from a fixed seed: weather is smooth fields of few significant digits, microscopy is
smooth structure under a camera's noise. zarr-python writes them, once; a folder that holds them is
used again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Key = tuple[slice | int, ...]

SEED = 20261126
FULL, SLAB, CROPS, CROPS_BATCH = "full", "slab", "crops", "crops_batch"
ROWS, POINTS, OPEN, OPEN_ONE = "rows", "points", "open", "open_one"
OPERATIONS = (FULL, SLAB, CROPS, CROPS_BATCH, ROWS, POINTS, OPEN, OPEN_ONE)
MANY = (CROPS, CROPS_BATCH, ROWS, POINTS)
"""Operations of many selections."""
THIN = 100
"""Rows and points."""
VERSION = 1
"""Of what this module writes; folders of another are written again."""
BLOBS = 32


@dataclass(frozen=True)
class Workload:
    """An array, and how crops are cut from it."""

    name: str
    what: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    crop: tuple[int, ...]
    ncrops: int
    make: Callable[[tuple[int, ...], str], NDArray[Any]]
    options: Callable[[str], dict[str, Any]]
    """Arguments of `zarr.create_array`."""
    shards: tuple[int, ...] | None = None
    zarr_format: int = 3

    def shrunk(self, divisor: int) -> Workload:
        """The same with fewer chunks, to see that everything runs."""
        step = self.shards or self.chunks
        shape = tuple(
            max(unit, size // divisor // unit * unit)
            for size, unit in zip(self.shape, step, strict=True)
        )
        changed = {"shape": shape, "ncrops": max(2, self.ncrops // divisor)}
        return Workload(**{**self.__dict__, **changed})

    def data(self) -> NDArray[Any]:
        """What the array holds."""
        return self.make(self.shape, self.dtype)

    def write(self, folder: Path) -> None:
        """Write the array, and its data for comparing, unless they are there."""
        import zarr  # noqa: PLC0415  only the writer needs it

        done = folder / "version"
        said = f"{VERSION} {self.shape} {self.chunks} {self.shards}"
        if done.exists() and done.read_text() == said:
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        data = self.data()
        array = zarr.create_array(
            str(folder / "array.zarr"),
            shape=self.shape,
            dtype=self.dtype,
            chunks=self.chunks,
            shards=self.shards,
            zarr_format=self.zarr_format,  # type: ignore[arg-type]  2 or 3
            **self.options(self.dtype),
        )
        array[...] = data
        np.save(folder / "truth.npy", data.astype(data.dtype.newbyteorder("=")))
        done.write_text(said)

    def keys(self, operation: str) -> list[Key]:
        """The selections of an operation; one for those that read once."""
        rng = np.random.default_rng(SEED)
        if operation in (CROPS, CROPS_BATCH):
            room = np.subtract(self.shape, self.crop)
            begins = rng.integers(0, room, (self.ncrops, len(self.shape)), endpoint=True)
            return [
                tuple(slice(b, b + n) for b, n in zip(row, self.crop, strict=True))
                for row in begins.tolist()
            ]
        places = rng.integers(0, self.shape, (THIN, len(self.shape))).tolist()
        if operation == ROWS:  # along the last axis
            return [(*row[:-1], slice(None)) for row in places]
        if operation == POINTS:
            return [tuple(row) for row in places]
        if operation == SLAB:  # half of the first axis, cutting chunks where they are thicker
            size = self.shape[0]
            return [
                (slice(size // 4, size // 4 + size // 2), *[slice(None)] * (len(self.shape) - 1))
            ]
        if operation == OPEN_ONE:
            return [(0,) * len(self.shape)]
        return [(slice(None),) * len(self.shape)]


def weather(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Fields of smooth waves that drift from field to field, to a hundredth of a unit."""
    rng = np.random.default_rng(SEED)
    times, rows, columns = shape
    waves = rng.integers(1, 24, (12, 2))
    phases = rng.uniform(0, 2 * np.pi, 12)
    speeds = rng.normal(0, 0.1, 12)
    y = np.linspace(0, np.pi, rows)[:, None]
    x = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None, :]
    fields = np.empty(shape, dtype)
    for time in range(times):
        field = 280 + 30 * np.sin(y)
        for (ky, kx), phase, speed in zip(waves.tolist(), phases, speeds, strict=True):
            field = field + 3 * np.sin(ky * y + phase) * np.cos(kx * x + phase + speed * time)
        field += rng.normal(scale=0.05, size=field.shape)
        if np.dtype(dtype).kind == "i":
            fields[time] = np.round((field - 280) * 100)
        else:
            fields[time] = np.round(field * 64) / 64
    return fields


def microscopy(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Smooth structure, and a camera's noise."""
    rng = np.random.default_rng(SEED)
    smooth = rng.normal(1500, 200, (BLOBS + 1,) * len(shape)).astype(np.float32)
    for axis, size in enumerate(shape):
        place = np.arange(size) * BLOBS / size
        low = place.astype(np.int64)
        part = (place - low).astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
        along = np.moveaxis(smooth, axis, 0)
        smooth = np.moveaxis(along[low] * (1 - part) + along[low + 1] * part, 0, axis)
    volume = np.empty(shape, dtype)
    for plane, values in zip(volume, smooth, strict=True):
        plane[...] = np.round(values + rng.normal(scale=6, size=plane.shape))
    return volume


def _zstd(dtype: str) -> dict[str, Any]:
    from zarr.codecs import ZstdCodec  # noqa: PLC0415

    del dtype
    return {"compressors": ZstdCodec(level=3)}


def _blosc_v2(dtype: str) -> dict[str, Any]:
    from numcodecs import Blosc  # noqa: PLC0415

    del dtype
    return {"compressors": Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE)}


def _blosc_f_order(dtype: str) -> dict[str, Any]:
    return {**_blosc_v2(dtype), "order": "F"}


def _bitshuffle(dtype: str) -> dict[str, Any]:
    from zarr.codecs import BloscCodec  # noqa: PLC0415

    itemsize = np.dtype(dtype).itemsize
    codec = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=itemsize)
    return {"compressors": codec}


def _gzip(dtype: str) -> dict[str, Any]:
    from zarr.codecs import GzipCodec  # noqa: PLC0415

    del dtype
    return {"compressors": GzipCodec(level=5)}


def _plain(dtype: str) -> dict[str, Any]:
    del dtype
    return {"compressors": None}


def _shuffle_zlib_v2(dtype: str) -> dict[str, Any]:
    from numcodecs import Shuffle, Zlib  # noqa: PLC0415

    return {"filters": [Shuffle(np.dtype(dtype).itemsize)], "compressors": Zlib(5)}


def _transposed(dtype: str) -> dict[str, Any]:
    from zarr.codecs import TransposeCodec  # noqa: PLC0415

    return {**_zstd(dtype), "filters": TransposeCodec(order=(2, 1, 0))}


FIELD = (1, 721, 1440)
CUBE = (64, 64, 64)

WORKLOADS = (
    Workload(
        "W1",
        "weather float32, a field a chunk, zstd",
        (48, *FIELD[1:]),
        "<f4",
        FIELD,
        (1, 64, 64),
        48,
        weather,
        _zstd,
    ),
    Workload(
        "W2",
        "the same, v2, Blosc lz4 shuffle",
        (48, *FIELD[1:]),
        "<f4",
        FIELD,
        (1, 64, 64),
        48,
        weather,
        _blosc_v2,
        zarr_format=2,
    ),
    Workload(
        "W3",
        "microscopy uint16, 64^3 chunks, Blosc zstd bitshuffle",
        (512,) * 3,
        "<u2",
        CUBE,
        CUBE,
        256,
        microscopy,
        _bitshuffle,
    ),
    Workload(
        "W4",
        "the same, 32^3 zstd chunks in 256^3 shards",
        (512,) * 3,
        "<u2",
        (32,) * 3,
        CUBE,
        256,
        microscopy,
        _zstd,
        shards=(256,) * 3,
    ),
    Workload(
        "W5",
        "weather float32, a field a chunk, gzip 5",
        (24, *FIELD[1:]),
        "<f4",
        FIELD,
        (1, 64, 64),
        24,
        weather,
        _gzip,
    ),
    Workload(
        "W6",
        "float32, 64^3 chunks, uncompressed",
        (384,) * 3,
        "<f4",
        CUBE,
        CUBE,
        256,
        microscopy,
        _plain,
    ),
    Workload(
        "W7",
        "float32, 10,000 chunks of 4 KiB, zstd",
        (3200, 3200),
        "<f4",
        (32, 32),
        (64, 64),
        256,
        microscopy,
        _zstd,
    ),
    Workload(
        "W8",
        "big-endian int16, v2, shuffle filter and zlib",
        (48, *FIELD[1:]),
        ">i2",
        FIELD,
        (1, 64, 64),
        48,
        weather,
        _shuffle_zlib_v2,
        zarr_format=2,
    ),
    Workload(
        "W9a",
        "float32, F order, v2, 64^3 chunks, Blosc lz4",
        (256,) * 3,
        "<f4",
        CUBE,
        CUBE,
        256,
        microscopy,
        _blosc_f_order,
        zarr_format=2,
    ),
    Workload(
        "W9b",
        "float32, transpose codec, 64^3 chunks, zstd",
        (256,) * 3,
        "<f4",
        CUBE,
        CUBE,
        256,
        microscopy,
        _transposed,
    ),
    Workload(
        "W10",
        "uint16, 16^3 zstd chunks of 8 KiB in 128^3 shards",
        (256, 512, 512),
        "<u2",
        (16,) * 3,
        CUBE,
        256,
        microscopy,
        _zstd,
        shards=(128,) * 3,
    ),
)
