"""Stores put together byte by byte: metadata as JSON, chunks from an encoder, shards with every freedom the format leaves."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built
from ...samples import chunk_slices, leave_out

if TYPE_CHECKING:
    from pathlib import Path

Encoder = Callable[[np.ndarray[Any, Any]], bytes]
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
PLAIN = {"name": "bytes"}
CRC = {"name": "crc32c"}
GZIP = {"name": "gzip", "configuration": {"level": 1}}
ABSENT: Any = ...
"""In place of a metadata value: leave the key out."""


def put(store: Path, key: str, content: bytes | str | dict[str, Any]) -> None:
    """One object of the store; a dict is written as JSON."""
    path = store / key
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        content = json.dumps(
            {name: item for name, item in content.items() if item is not ABSENT}, indent=2
        )
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def little(block: np.ndarray[Any, Any]) -> bytes:
    """C order, little endian."""
    return block.astype(block.dtype.newbyteorder("<")).tobytes()


def big(block: np.ndarray[Any, Any]) -> bytes:
    """C order, big endian; the small types of ml_dtypes have no byte order of their own and are swapped as integers."""
    if block.dtype.isbuiltin == 2 and block.dtype.itemsize == 2:
        return block.view(np.uint16).astype(">u2").tobytes()
    if block.dtype.kind in "mM":
        return block.view("i8").astype(">i8").tobytes()
    return block.astype(block.dtype.newbyteorder(">")).tobytes()


def default_key(place: tuple[int, ...], separator: str = "/") -> str:
    """The default chunk key encoding."""
    return separator.join(["c", *map(str, place)])


def v2_key(place: tuple[int, ...], separator: str = ".") -> str:
    """The v2 chunk key encoding."""
    return separator.join(map(str, place)) if place else "0"


def places(shape: tuple[int, ...], chunks: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The position of every chunk of a regular grid, in C order."""
    return list(
        itertools.product(
            *(range(-(-extent // step)) for extent, step in zip(shape, chunks, strict=True))
        )
    )


def blocks_of(
    values: np.ndarray[Any, Any], chunks: tuple[int, ...], fill: Any
) -> Iterable[tuple[tuple[int, ...], np.ndarray[Any, Any]]]:
    """Every chunk of a regular grid, whole: what lies outside the array is the fill value."""
    for place, region in zip(
        places(values.shape, chunks), chunk_slices(values.shape, chunks), strict=True
    ):
        block = np.full(chunks, fill, dtype=values.dtype) if chunks else np.empty((), values.dtype)
        block[tuple(slice(0, part.stop - part.start) for part in region)] = values[region]
        yield place, block


def write_v3(
    store: Path,
    values: np.ndarray[Any, Any],
    chunks: tuple[int, ...],
    *,
    data_type: Any = None,
    codecs: list[Any] | None = None,
    encode: Encoder = little,
    fill: Any = 0,
    numpy_fill: Any = None,
    skip: bool = True,
    path: str = "",
    key: Callable[[tuple[int, ...]], str] = default_key,
    **extra: Any,
) -> Built:
    """A v3 array of a regular grid; `fill` is the JSON form, `numpy_fill` its meaning. Every fourth chunk is left out."""
    meaning = fill if numpy_fill is None else numpy_fill
    left_out = places(values.shape, chunks)[2::4] if skip else []
    if skip:
        leave_out(values, chunks, meaning)
    prefix = f"{path}/" if path else ""
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(values.shape),
        "data_type": values.dtype.name if data_type is None else data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": [LITTLE] if codecs is None else codecs,
    }
    put(store, f"{prefix}zarr.json", document | extra)
    for place, block in blocks_of(values, chunks, meaning):
        if place not in left_out:
            put(store, prefix + key(place), encode(block))
    return Built(values, path=path)


def write_v2(
    store: Path,
    values: np.ndarray[Any, Any],
    chunks: tuple[int, ...],
    *,
    dtype: Any = None,
    encode: Encoder = little,
    fill: Any = 0,
    numpy_fill: Any = None,
    skip: bool = True,
    order: str = "C",
    separator: str = ".",
    path: str = "",
    **extra: Any,
) -> Built:
    """A v2 array, in the same way; with order F the encoder gets the block transposed."""
    meaning = fill if numpy_fill is None else numpy_fill
    left_out = places(values.shape, chunks)[2::4] if skip else []
    if skip:
        leave_out(values, chunks, meaning)
    prefix = f"{path}/" if path else ""
    document = {
        "zarr_format": 2,
        "shape": list(values.shape),
        "chunks": list(chunks),
        "dtype": values.dtype.newbyteorder("<").str if dtype is None else dtype,
        "compressor": None,
        "fill_value": fill,
        "order": order,
        "filters": None,
    }
    put(store, f"{prefix}.zarray", document | extra)
    for place, block in blocks_of(values, chunks, meaning):
        if place not in left_out:
            put(
                store, prefix + v2_key(place, separator), encode(block if order == "C" else block.T)
            )
    return Built(values, path=path)


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def crc32c(content: bytes) -> bytes:
    """The checksum's four bytes, little endian."""
    value = 0xFFFFFFFF
    for byte in content:
        value = (value >> 8) ^ CRC_TABLE[(value ^ byte) & 0xFF]
    return struct.pack("<I", value ^ 0xFFFFFFFF)


def with_crc(content: bytes) -> bytes:
    """The content and its checksum."""
    return content + crc32c(content)


def shard(
    chunks: list[bytes | None],
    *,
    location: str = "end",
    order: Iterable[int] | None = None,
    gap: bytes = b"",
    share: bool = False,
    checksum: bool = True,
    index_order: str = "<",
) -> bytes:
    """A shard of encoded chunks in C order; None is an absent one.

    `order` is the order in which they are laid out, `gap` goes before each, `share` lays equal ones out once.
    """
    index_nbytes = 16 * len(chunks) + (4 if checksum else 0)
    at = index_nbytes if location == "start" else 0
    body = b""
    index = [(2**64 - 1, 2**64 - 1)] * len(chunks)
    seen: dict[bytes, tuple[int, int]] = {}
    for number in range(len(chunks)) if order is None else order:
        content = chunks[number]
        if content is None:
            continue
        if share and content in seen:
            index[number] = seen[content]
            continue
        body += gap
        index[number] = seen[content] = (at + len(body), len(content))
        body += content
    encoded = np.array(index, dtype="u8").reshape(-1).astype(f"{index_order}u8").tobytes()
    if checksum:
        encoded = with_crc(encoded)
    return encoded + body if location == "start" else body + gap + encoded


def sharding(
    chunk: tuple[int, ...],
    codecs: list[Any],
    *,
    index: list[Any] | None = None,
    location: str | None = "end",
) -> dict[str, Any]:
    """The sharding codec's metadata; location None leaves the key out (end is the default)."""
    settings = {
        "chunk_shape": list(chunk),
        "codecs": codecs,
        "index_codecs": [LITTLE, CRC] if index is None else index,
    }
    return {
        "name": "sharding_indexed",
        "configuration": settings | ({} if location is None else {"index_location": location}),
    }


def inner_chunks(
    block: np.ndarray[Any, Any],
    chunk: tuple[int, ...],
    encode: Encoder,
    fill: Any,
    *,
    drop: bool = True,
) -> list[bytes | None]:
    """The encoded inner chunks of a shard, C order; those that are all fill are absent."""
    out: list[bytes | None] = []
    for _, part in blocks_of(block, chunk, fill):
        empty = drop and bool((part.astype(object) == fill).all())
        out.append(None if empty else encode(part))
    return out


def variable(items: Iterable[bytes]) -> bytes:
    """The encoding of vlen-utf8 and vlen-bytes: a count, then each item after its length."""
    listed = list(items)
    return struct.pack("<I", len(listed)) + b"".join(
        struct.pack("<I", len(item)) + item for item in listed
    )
