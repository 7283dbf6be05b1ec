"""Arrays as they are stored, in every layout: chunk grids, nested shards, v2, missing chunks.

Written from the specifications alone, chunk by chunk in plain Python, so that the reader is
compared with something that shares no code with it.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from itertools import accumulate, product
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.metadata.model import ChunkGrid, RectilinearGrid, RegularGrid
from tests.arrays import EMPTY, encoded, v3_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Values = np.ndarray[Any, Any]
Coords = tuple[int, ...]

CRC32C = {"name": "crc32c"}

BytesCodec = tuple[dict[str, Any], "Callable[[bytes], bytes]"]
"""A codec as the metadata have it, and what encodes."""


def nothing(coords: Coords) -> bool:
    """Skip no chunk."""
    del coords
    return False


def every(number: int) -> Callable[[Coords], bool]:
    """Skip chunks whose coordinates sum to a multiple of `number`; 0: none."""
    return (lambda coords: sum(coords) % number == 0) if number else nothing


@dataclass(frozen=True)
class Sharding:
    """One level of shards."""

    chunk_shape: tuple[int, ...]
    """Of the chunks inside, or of the shards inside."""
    index_at: str = "end"
    checksum: bool = False
    skip: Callable[[Coords], bool] = nothing
    """Chunks of each shard that are not stored."""


@dataclass
class Stored:
    """A store in memory, and what reading it must give."""

    values: dict[str, bytes]
    expected: Values
    shards: list[str] = field(default_factory=list)


def boxes(shape: Sequence[int], grid: ChunkGrid) -> Iterator[tuple[Coords, Coords, Coords]]:
    """Of every chunk that holds elements: coordinates, first element, stored shape."""
    sides = []
    sizes_of = grid.chunk_shape if isinstance(grid, RegularGrid) else grid.chunk_sizes
    for length, sizes in zip(shape, sizes_of, strict=True):
        listed = (sizes,) * -(-length // sizes) if isinstance(sizes, int) else sizes
        starts = [0, *accumulate(listed)]
        sides.append([(i, starts[i], size) for i, size in enumerate(listed) if starts[i] < length])
    for chunk in product(*sides):
        yield (
            tuple(i for i, _, _ in chunk),
            tuple(start for _, start, _ in chunk),
            tuple(size for _, _, size in chunk),
        )


def box_of(start: Sequence[int], size: Sequence[int]) -> tuple[Any, ...]:
    """The index of a box; it gives a view for 0-d arrays, too."""
    return (*(slice(s, s + n) for s, n in zip(start, size, strict=True)), ...)


def cut_out(array: Values, start: Coords, size: Coords, garbage: Any) -> Values:
    """A chunk; what lies outside the array is not the fill value, so that reading it shows."""
    chunk = np.full(size, garbage, array.dtype)
    inside = array[box_of(start, size)]
    chunk[tuple(map(slice, inside.shape))] = inside
    return chunk


def store_v3(
    array: Values,
    grid: ChunkGrid,
    *,
    fill: Any = 0,
    fill_json: Any = ...,
    garbage: Any = 1,
    data_type: str | None = None,
    endian: str = "little",
    order: Sequence[int] | None = None,
    sharding: Sequence[Sharding] = (),
    gzip: bool = False,
    bytes_codecs: Sequence[BytesCodec] = (),
    skip: Callable[[Coords], bool] = nothing,
    path: str = "",
    attributes: dict[str, Any] | None = None,
) -> Stored:
    """Store an array of a fixed-size type as v3.

    Args:
        array: the elements.
        grid: of chunks, or of the outermost shards.
        fill: the fill value.
        fill_json: the same as in the metadata, where that differs.
        garbage: lies in chunks where they reach past the array.
        data_type: v3's name; default the dtype's.
        endian: "big" or "little".
        order: a transpose of every chunk.
        sharding: levels of shards, outermost first.
        gzip: compress chunks.
        bytes_codecs: what is done with the bytes after that.
        skip: chunks (or outermost shards) that are not stored.
        path: of the array.
        attributes: of the user.
    """
    prefix = path + "/" if path else ""
    codecs: list[Any] = [{"name": "bytes", "configuration": {"endian": endian}}]
    if order is not None:
        codecs.insert(0, {"name": "transpose", "configuration": {"order": list(order)}})
    if gzip:
        codecs.append({"name": "gzip", "configuration": {"level": 1}})
    codecs += [codec for codec, _ in bytes_codecs]
    for level in reversed(sharding):
        index = [{"name": "bytes", "configuration": {"endian": "little"}}]
        configuration = {
            "chunk_shape": list(level.chunk_shape),
            "codecs": codecs,
            "index_codecs": [*index, *([CRC32C] if level.checksum else [])],
            "index_location": level.index_at,
        }
        codecs = [{"name": "sharding_indexed", "configuration": configuration}]
    document = v3_metadata(
        array.shape,
        (),
        data_type=data_type or array.dtype.name,
        codecs=codecs,
        fill_value=fill if fill_json is ... else fill_json,
        attributes=attributes or {},
    )
    document["chunk_grid"] = grid_document(grid)
    stored = Stored({prefix + "zarr.json": encoded(document)}, np.full_like(array, fill))

    def encode(chunk: Values) -> bytes:
        laid = chunk if order is None else chunk.transpose(order)
        ordered = laid.astype(laid.dtype.newbyteorder(endian)) if _swaps(laid.dtype) else laid
        data = compress(ordered.tobytes()) if gzip else ordered.tobytes()
        for _, encode_bytes in bytes_codecs:
            data = encode_bytes(data)
        return data

    for coords, start, size in boxes(array.shape, grid):
        if skip(coords):
            continue
        chunk = cut_out(array, start, size, garbage)
        seen = cut_out(array, start, size, garbage)
        key = prefix + "/".join(["c", *map(str, coords)])
        stored.values[key] = _encode_level(chunk, seen, sharding, encode, fill)
        if sharding:
            stored.shards.append(key)
        put_back(stored.expected, start, seen)
    return stored


def put_back(expected: Values, start: Coords, chunk: Values) -> None:
    """Write the part of a chunk that lies inside the array."""
    place = expected[box_of(start, chunk.shape)]
    place[...] = chunk[tuple(map(slice, place.shape))]


def _encode_level(
    chunk: Values,
    seen: Values,
    sharding: Sequence[Sharding],
    encode: Callable[[Values], bytes],
    fill: Any,
) -> bytes:
    """A chunk, or a shard of chunks; `seen` becomes what a reader sees of it."""
    if not sharding:
        return encode(chunk)
    level, *below = sharding
    parts: dict[Coords, bytes] = {}
    for coords, start, size in boxes(chunk.shape, RegularGrid(level.chunk_shape)):
        box = box_of(start, size)
        if level.skip(coords):
            seen[box] = fill
        else:
            parts[coords] = _encode_level(chunk[box], seen[box], below, encode, fill)
    counts = [n // c for n, c in zip(chunk.shape, level.chunk_shape, strict=True)]
    order = list(product(*map(range, counts)))
    at = 0
    if level.index_at == "start":
        at = 16 * len(order) + 4 * level.checksum
    entries = []
    # Not in the order of the index, and with a gap in front of each, as the specification allows.
    where = {}
    body = b""
    for coords in reversed(order):
        if coords in parts:
            body += b"\xa5"
            where[coords] = (at + len(body), len(parts[coords]))
            body += parts[coords]
    entries = [where.get(coords, (EMPTY, EMPTY)) for coords in order]
    index = np.array(entries, "<u8").tobytes()
    if level.checksum:
        index = with_crc32c(index)
    return body + index if level.index_at == "end" else index + body


def grid_document(grid: ChunkGrid) -> dict[str, Any]:
    """A chunk grid as in the metadata."""
    if isinstance(grid, RegularGrid):
        return {"name": "regular", "configuration": {"chunk_shape": list(grid.chunk_shape)}}
    sizes = [size if isinstance(size, int) else list(size) for size in grid.chunk_sizes]
    return {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": sizes}}


def store_v2(
    array: Values,
    chunks: Sequence[int],
    *,
    fill: Any = 0,
    fill_json: Any = ...,
    garbage: Any = 0,
    dtype: Any = None,
    order: str = "C",
    gzip: bool = False,
    skip: Callable[[Coords], bool] = nothing,
    path: str = "",
) -> Stored:
    """Store an array of a fixed-size type as v2; `dtype` is that of the metadata."""
    prefix = path + "/" if path else ""
    if dtype is None:
        dtype = array.dtype.str if array.dtype.names is None else array.dtype.descr
    document = {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(chunks),
        "dtype": dtype,
        "compressor": {"id": "gzip", "level": 1} if gzip else None,
        "fill_value": fill if fill_json is ... else fill_json,
        "order": order,
        "filters": None,
    }
    native = array.astype(array.dtype.newbyteorder("="))
    stored = Stored({prefix + ".zarray": json.dumps(document).encode()}, np.empty_like(native))
    stored.expected[...] = fill
    for coords, start, size in boxes(array.shape, RegularGrid(tuple(chunks))):
        if skip(coords):
            continue
        chunk = cut_out(array, start, size, garbage)
        data = chunk.tobytes(order="F" if order == "F" else "C")
        key = prefix + (".".join(map(str, coords)) or "0")
        stored.values[key] = compress(data) if gzip else data
        put_back(stored.expected, start, cut_out(native, start, size, garbage))
    return stored


def compress(data: bytes) -> bytes:
    """A gzip stream."""
    compressor = zlib.compressobj(1, wbits=31)
    return compressor.compress(data) + compressor.flush()


def with_crc32c(data: bytes) -> bytes:
    """What the codec crc32c makes of bytes."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return data + (register ^ 0xFFFFFFFF).to_bytes(4, "little")


def assert_result(found: Any, expected: Values) -> None:
    """`found` is what every read gives: a new array, C-contiguous and native, with these values."""
    assert type(found) is np.ndarray
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    owner = found if found.base is None else found.base  # of memory that was used before
    assert owner.nbytes == found.nbytes
    assert found.flags.writeable
    assert_same(found, expected)


def assert_same(found: Values, expected: Values) -> None:
    """The same elements bit for bit; NaN equals NaN, and 0.0 is not -0.0."""
    if found.dtype.hasobject or found.dtype.kind == "T":
        assert found.tolist() == expected.tolist()
    else:
        assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()


def index_of(array: Values, key: Any) -> Values:
    """`array[key]` as an array, 0-d ones included."""
    result = array[key]
    if isinstance(result, np.ndarray) and result.shape:
        return result
    whole = np.empty((), array.dtype)
    whole[()] = result
    return whole


def _swaps(dtype: np.dtype[Any]) -> bool:
    return dtype.itemsize > 1 and dtype.kind != "V"


__all__ = [
    "RectilinearGrid",
    "RegularGrid",
    "Sharding",
    "Stored",
    "assert_result",
    "assert_same",
    "box_of",
    "boxes",
    "compress",
    "every",
    "index_of",
    "store_v2",
    "store_v3",
    "with_crc32c",
]
