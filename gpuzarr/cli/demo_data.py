"""A small realistic data set, written by a small Zarr writer: just enough for the demo.

    weather-v2.zarr   float32 temperature over time and place   v2, Blosc (LZ4, shuffle)
    weather-v3.zarr   float32 wind over the same axes           v3, Zstandard
    cells-v3.zarr     uint16 microscopy-like volume             v3, shards of Zstandard chunks

gpuzarr is a reader and zarr-python no dependency, so this writes the JSON and the chunks itself.
Array shapes are whole multiples of the chunks', which spares it the padding of edge chunks.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Encode = Callable[[np.ndarray], bytes]

WEATHER_SHAPE = (36, 360, 720)
WEATHER_CHUNKS = (1, 360, 720)
CELLS_SHAPE = (96, 512, 512)
CELLS_SHARDS = (48, 256, 256)
CELLS_CHUNKS = (48, 64, 64)


@dataclass(frozen=True, slots=True)
class DemoArray:
    """One array of the data set."""

    title: str
    path: Path
    """Its directory."""
    values: np.ndarray
    """The truth: what was written."""


def write_demo(folder: Path) -> tuple[DemoArray, ...]:
    """Make the whole data set below `folder`."""
    rng = np.random.default_rng(2024)
    arrays = (
        DemoArray("weather v2 Blosc", folder / "weather-v2.zarr", make_weather(rng, 288.0)),
        DemoArray("weather v3 zstd", folder / "weather-v3.zarr", make_weather(rng, 12.0)),
        DemoArray("cells v3 sharded", folder / "cells-v3.zarr", make_cells(rng)),
    )
    write_v2(arrays[0])
    write_v3(arrays[1])
    write_v3_sharded(arrays[2])
    return arrays


def make_weather(rng: np.random.Generator, mean: float) -> np.ndarray:
    """Smooth waves that travel with time, a gradient from pole to pole, and instrument noise."""
    times, latitudes, longitudes = WEATHER_SHAPE
    latitude = np.linspace(-np.pi / 2, np.pi / 2, latitudes, dtype=np.float32)[:, None]
    longitude = np.linspace(0, 2 * np.pi, longitudes, endpoint=False, dtype=np.float32)
    field = np.empty(WEATHER_SHAPE, np.float32)
    for time in range(times):
        waves = np.sin(3 * longitude + 0.2 * time) + 0.5 * np.sin(7 * longitude - 0.3 * time)
        field[time] = mean + 20 * np.cos(latitude) + 4 * np.cos(latitude) * waves
    field += rng.standard_normal(WEATHER_SHAPE, np.float32) * np.float32(0.3)
    # Instruments report hundredths; it is also what makes such fields compress.
    return np.round(field * np.float32(100)) / np.float32(100)


def make_cells(rng: np.random.Generator) -> np.ndarray:
    """Bright blobs on a dark background, with the noise of a camera."""
    volume = rng.standard_normal(CELLS_SHAPE, np.float32) * np.float32(6) + np.float32(110)
    radius = 20
    offsets = np.linspace(-2, 2, 2 * radius, dtype=np.float32)
    squares = offsets**2
    blob = np.exp(-(squares[:, None, None] + squares[:, None] + squares)).astype(np.float32)
    room = np.subtract(CELLS_SHAPE, 2 * radius)
    for _ in range(150):
        box = tuple(slice(at, at + 2 * radius) for at in rng.integers(0, room))
        volume[box] += np.float32(rng.uniform(500, 4000)) * blob
    return volume.astype("<u2")


def write_v2(array: DemoArray) -> None:
    """One array in the second version: `.zarray`, `.zattrs`, and chunks named 0.1.2."""
    from numcodecs import Blosc  # noqa: PLC0415  only the demo writes

    codec = Blosc("lz4", clevel=5, shuffle=Blosc.SHUFFLE)
    document = {
        "zarr_format": 2,
        "shape": array.values.shape,
        "chunks": WEATHER_CHUNKS,
        "dtype": array.values.dtype.str,
        "compressor": codec.get_config(),
        "filters": None,
        "fill_value": "NaN",
        "order": "C",
    }
    write_json(array.path / ".zarray", document)
    write_json(array.path / ".zattrs", {"long_name": "air temperature", "units": "K"})
    write_chunks(array, WEATHER_CHUNKS, ".", codec.encode)


def write_v3(array: DemoArray) -> None:
    """One array in the third version, each chunk an object."""
    document = document_v3(
        array,
        WEATHER_CHUNKS,
        [{"name": "bytes", "configuration": {"endian": "little"}}, zstd_document()],
    )
    document |= {
        "fill_value": "NaN",
        "dimension_names": ["time", "latitude", "longitude"],
        "attributes": {"long_name": "wind speed", "units": "m s-1"},
    }
    write_json(array.path / "zarr.json", document)
    write_chunks(array, WEATHER_CHUNKS, "/", zstd_encoder())


def write_v3_sharded(array: DemoArray) -> None:
    """One array in the third version, many chunks an object."""
    endian: dict[str, object] = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding: dict[str, object] = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": CELLS_CHUNKS,
            "codecs": [endian, zstd_document()],
            "index_codecs": [endian, {"name": "crc32c"}],
            "index_location": "end",
        },
    }
    document = document_v3(array, CELLS_SHARDS, [sharding])
    document |= {"dimension_names": ["z", "y", "x"], "attributes": {"voxel_size_um": [2, 0.4, 0.4]}}
    write_json(array.path / "zarr.json", document)
    encode = zstd_encoder()
    write_chunks(array, CELLS_SHARDS, "/", lambda shard: encode_shard(shard, encode))


def encode_shard(shard: np.ndarray, encode: Encode) -> bytes:
    """The chunks one after another, then the index of their places with its checksum."""
    import google_crc32c  # noqa: PLC0415  as above

    chunks = [encode(shard[box]) for _, box in boxes(shard.shape, CELLS_CHUNKS)]
    nbytes = np.array([len(chunk) for chunk in chunks], "<u8")
    offsets = np.cumsum(nbytes) - nbytes
    index = np.stack([offsets, nbytes], axis=-1).astype("<u8").tobytes()
    checksum = google_crc32c.value(index).to_bytes(4, "little")
    return b"".join([*chunks, index, checksum])


def zstd_document() -> dict[str, object]:
    """The zstd codec in v3's words."""
    return {"name": "zstd", "configuration": {"level": 3, "checksum": False}}


def zstd_encoder() -> Encode:
    """Zstandard, as `zstd_document` says."""
    from numcodecs import Zstd  # noqa: PLC0415  as above

    codec = Zstd(level=3)
    return lambda chunk: bytes(codec.encode(np.ascontiguousarray(chunk)))


def document_v3(
    array: DemoArray, chunk_shape: tuple[int, ...], codecs: list[dict[str, object]]
) -> dict[str, object]:
    """The metadata document of an array, with what all of them have."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": array.values.shape,
        "data_type": array.values.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": codecs,
    }


def write_json(path: Path, document: dict[str, object]) -> None:
    """A metadata document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def write_chunks(
    array: DemoArray, chunk_shape: tuple[int, ...], separator: str, encode: Encode
) -> None:
    """Every chunk into a file of its own; the compressors release the GIL, so threads help."""
    prefix = "c/" if separator == "/" else ""

    def write(coords: tuple[int, ...], box: tuple[slice, ...]) -> None:
        path = array.path / (prefix + separator.join(map(str, coords)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(np.ascontiguousarray(array.values[box])))

    with ThreadPoolExecutor() as pool:
        writes = [
            pool.submit(write, coords, box)
            for coords, box in boxes(array.values.shape, chunk_shape)
        ]
        for each in writes:
            each.result()


def boxes(
    shape: tuple[int, ...], chunk_shape: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """The coordinates of every chunk and the part of the array that it holds, in C order."""
    counts = [length // size for length, size in zip(shape, chunk_shape, strict=True)]
    for coords in product(*map(range, counts)):
        yield (
            coords,
            tuple(
                slice(at * size, (at + 1) * size)
                for at, size in zip(coords, chunk_shape, strict=True)
            ),
        )
