"""The arrays that `gpu.py` reads: one field of numbers in several layouts, written without Zarr."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np

from tests.arrays import cut_chunks, plain_store, sharded_store
from tests.gpu.nvcomp_batch import ENCODERS, smooth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Values = dict[str, bytes]

SIDE = 512
"""Elements along a side of a chunk: with 4 bytes each, 1 MiB a chunk."""
SMALL_SIDE = 64
"""Of the chunks in shards: 16 KiB a chunk, 64 of them a shard."""
ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
GZIP = {"name": "gzip", "configuration": {"level": 5}}
CRC32C = {"name": "crc32c"}
BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}


def field(chunks: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """A square field of so many chunks along a side; some differ, and they repeat."""
    different = min(chunks * chunks, 64)
    data = smooth(4 * different * SIDE * SIDE)
    tile = np.frombuffer(data, "<i4").reshape(different, SIDE, SIDE)
    numbers = np.arange(chunks * chunks) % different
    grid = tile[numbers].reshape(chunks, chunks, SIDE, SIDE)
    return np.ascontiguousarray(grid.transpose(0, 2, 1, 3)).reshape(chunks * SIDE, chunks * SIDE)


def by_blosc(cname: str, shuffle: int) -> Callable[[bytes], bytes]:
    """Blosc, told the elements' size."""
    codec = numcodecs.Blosc(cname=cname, shuffle=shuffle)
    return lambda data: bytes(codec.encode(np.frombuffer(data, "<i4")))


def remembered(encode: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The same, once for the same chunk."""
    known: dict[bytes, bytes] = {}

    def look(data: bytes) -> bytes:
        if data not in known:
            known[data] = encode(data)
        return known[data]

    return look


def with_crc(data: bytes) -> bytes:
    """A zstd frame, and its checksum."""
    return bytes(numcodecs.CRC32C().encode(np.frombuffer(ENCODERS["zstd"](data), np.uint8)))


def store_v2(numbers: np.ndarray[Any, Any], chunks: tuple[int, int]) -> Values:
    """Blosc in the layout that xarray wrote for years."""
    compressor = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}
    document = {
        "zarr_format": 2,
        "shape": list(numbers.shape),
        "chunks": list(chunks),
        "dtype": "<i4",
        "compressor": compressor,
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    encode = remembered(by_blosc("lz4", 1))
    values = {".zarray": json.dumps(document).encode()}
    for coords, chunk in cut_chunks(numbers, chunks):
        values[".".join(map(str, coords))] = encode(chunk.tobytes())
    return values


def layouts(numbers: np.ndarray[Any, Any]) -> dict[str, Callable[[], Values]]:
    """Each layout by its name, made when it is asked for."""
    chunk, small = (SIDE, SIDE), (SMALL_SIDE, SMALL_SIDE)

    def plain(encode: Callable[[bytes], bytes], *codecs: Any) -> Callable[[], Values]:
        return lambda: plain_store(
            numbers, chunk, encode=remembered(encode), codecs=("bytes", *codecs)
        )

    bits = {**BLOSC, "cname": "zstd", "shuffle": "bitshuffle"}
    return {
        "uncompressed": plain(bytes),
        "zstd": plain(ENCODERS["zstd"], ZSTD),
        "zstd, crc32c": plain(with_crc, ZSTD, CRC32C),
        "v2, Blosc lz4 shuffle": lambda: store_v2(numbers, chunk),
        "Blosc zstd bitshuffle": plain(
            by_blosc("zstd", 2), {"name": "blosc", "configuration": bits}
        ),
        "gzip": plain(lambda data: gzip.compress(data, 5), GZIP),
        "shards of 16 KiB chunks, zstd": lambda: sharded_store(
            numbers,
            chunk,
            small,
            encode=remembered(ENCODERS["zstd"]),
            inner_codecs=("bytes", ZSTD),
        ),
    }


def written(
    numbers: np.ndarray[Any, Any], folder: Path
) -> Iterator[tuple[str, Path, Callable[[], int]]]:
    """Each layout: its name, where it will lie, and what writes it and gives its stored bytes."""
    for name, make in layouts(numbers).items():
        place = folder / "".join(c if c.isalnum() else "-" for c in name)

        def write(make: Callable[[], Values] = make, place: Path = place) -> int:
            values = make()
            for key, value in values.items():
                (place / key).parent.mkdir(parents=True, exist_ok=True)
                (place / key).write_bytes(value)
            return sum(map(len, values.values()))

        yield name, place, write
