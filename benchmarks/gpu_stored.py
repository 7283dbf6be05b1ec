"""How the arrays of `gpu.py` are stored: codecs, chunks, shards, metadata, written without Zarr."""

from __future__ import annotations

import gzip
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import google_crc32c
import numcodecs
import numpy as np
import zstandard

from gpuzarr.engines.pool import cpu_count
from tests.arrays import encoded, v3_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gpu_workloads import Workload
    from numpy.typing import NDArray

    Shape = tuple[int, ...]
    Key = tuple[slice, ...]
    Encode = Callable[[bytes], bytes]
    Values = NDArray[Any]

V2 = 2

# ------------------------------------------------------------------------------------- codecs


@dataclass(frozen=True)
class Codec:
    """How chunks are compressed."""

    frames: str | None
    """The format as `walk_frames` knows it; None: not compressed."""
    encoder: Callable[[np.dtype[Any]], Encode]
    v3: Callable[[np.dtype[Any]], list[dict[str, Any]]]
    """Behind `bytes`."""
    v2: dict[str, Any] | None = None


def _zstd(dtype: np.dtype[Any]) -> Encode:
    del dtype
    return lambda data: zstandard.ZstdCompressor(level=3).compress(data)  # one is for one thread


def _lz4(dtype: np.dtype[Any]) -> Encode:
    del dtype
    return lambda data: bytes(numcodecs.LZ4().encode(np.frombuffer(data, np.uint8)))


def _gzip(dtype: np.dtype[Any]) -> Encode:
    del dtype
    return lambda data: gzip.compress(data, 5, mtime=0)


def _blosc(cname: str, shuffle: int) -> Callable[[np.dtype[Any]], Encode]:
    codec = numcodecs.Blosc(cname=cname, clevel=5, shuffle=shuffle)
    return lambda dtype: lambda data: bytes(codec.encode(np.frombuffer(data, dtype)))


def _blosc_v3(cname: str, shuffle: str) -> Callable[[np.dtype[Any]], list[dict[str, Any]]]:
    fixed = {"cname": cname, "clevel": 5, "shuffle": shuffle, "blocksize": 0}
    return lambda dtype: [{"name": "blosc", "configuration": {**fixed, "typesize": dtype.itemsize}}]


def _named(name: str, **configuration: Any) -> Callable[[np.dtype[Any]], list[dict[str, Any]]]:
    return lambda _: [{"name": name, "configuration": configuration}]


CODECS: Mapping[str, Codec] = {
    "uncompressed": Codec(None, lambda _: bytes, lambda _: []),
    "zstd": Codec("zstd", _zstd, _named("zstd", level=3, checksum=False)),
    "lz4": Codec("lz4", _lz4, _named("numcodecs.lz4", acceleration=1)),
    "gzip": Codec("gzip", _gzip, _named("gzip", level=5)),
    "blosc-zstd-bits": Codec("blosc", _blosc("zstd", 2), _blosc_v3("zstd", "bitshuffle")),
    "blosc-lz4": Codec(
        "blosc",
        _blosc("lz4", 1),
        _blosc_v3("lz4", "shuffle"),
        {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    ),
}

# ------------------------------------------------------------------------------------- writing


def write(workload: Workload, folder: Path, arrays: Sequence[Values]) -> list[Path]:
    """Write a workload's arrays with all cores; where each lies."""
    places = [folder / str(number) for number in range(len(arrays))]
    encode = CODECS[workload.codec].encoder(workload.stored)
    with ThreadPoolExecutor(cpu_count()) as threads:
        made = []
        for place, array in zip(places, arrays, strict=True):
            place.mkdir(parents=True)
            name = ".zarray" if workload.zarr_format == V2 else "zarr.json"
            (place / name).write_bytes(encoded(document(workload)))
            made += [
                threads.submit(_write_object, workload, place, array, coords, encode)
                for coords in grid(workload.shape, workload.shards or workload.chunks)
            ]
        for each in made:
            each.result()
    return places


def _write_object(
    workload: Workload, place: Path, array: Values, coords: Shape, encode: Encode
) -> None:
    outer = workload.shards or workload.chunks
    part = cut(array, coords, outer)
    if workload.shards is None:
        value = encode(part.tobytes())
    else:
        chunks = [
            encode(cut(part, at, workload.chunks).tobytes()) for at in grid(outer, workload.chunks)
        ]
        value = shard_of(chunks)
    if workload.zarr_format == V2:
        file = place / ".".join(map(str, coords))
    else:
        file = place / "/".join(["c", *map(str, coords)])
        file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(value)


def document(workload: Workload) -> dict[str, Any]:
    """An array's metadata."""
    codec = CODECS[workload.codec]
    if workload.zarr_format == V2:
        return {
            "zarr_format": V2,
            "shape": list(workload.shape),
            "chunks": list(workload.chunks),
            "dtype": workload.dtype,
            "compressor": codec.v2,
            "fill_value": 0,
            "order": "C",
            "filters": None,
            "dimension_separator": ".",
        }
    codecs: list[Any] = ["bytes", *codec.v3(workload.stored)]
    outer = workload.chunks
    if workload.shards is not None:
        outer = workload.shards
        inner = {
            "chunk_shape": list(workload.chunks),
            "codecs": v3_metadata((), (), codecs=codecs)["codecs"],
            "index_codecs": v3_metadata((), (), codecs=["bytes", {"name": "crc32c"}])["codecs"],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    return v3_metadata(
        workload.shape, outer, data_type=workload.stored.name, codecs=codecs, attributes={}
    )


def box(begin: Sequence[int], shape: Sequence[int]) -> Key:
    """A selection of contiguous places."""
    return tuple(slice(b, b + n) for b, n in zip(begin, shape, strict=True))


def grid(shape: Shape, chunks: Shape) -> Iterator[Shape]:
    """The coordinates of all chunks."""
    return product(*(range(-(-n // c)) for n, c in zip(shape, chunks, strict=True)))


def cut(array: Values, coords: Shape, chunks: Shape) -> Values:
    """A chunk; all of them are whole in these workloads."""
    part = array[box([at * n for at, n in zip(coords, chunks, strict=True)], chunks)]
    if part.shape != chunks:
        raise ValueError(f"chunk {coords} of {array.shape} is not whole")
    return part


def shard_of(chunks: Sequence[bytes]) -> bytes:
    """A shard of chunks in order, the index at its end with a checksum."""
    ends = np.cumsum([len(chunk) for chunk in chunks])
    sizes = np.array([len(chunk) for chunk in chunks])
    index = np.stack([ends - sizes, sizes], axis=1).astype("<u8").tobytes()
    return b"".join([*chunks, index, struct.pack("<I", google_crc32c.value(index))])


def total_nbytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
