"""Chunks of other sizes than the metadata say, and shard indexes that lie."""

from __future__ import annotations

import json
from copy import deepcopy
from math import prod
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from tests.hostile.inputs import Hostile, Promise, Tools, changed, kind
from tests.hostile.payloads import damaged, flip, pick

if TYPE_CHECKING:
    from random import Random

    from tests.hostile.bases import Base, ShardIndex

COUNTS_BITS = {"packbits", "numcodecs.packbits"}
"""Codecs whose streams may have the same bytes for other numbers of elements."""
SAYS_NOTHING = {"zfp", "n5_default", "reshape", *COUNTS_BITS}
"""Codecs for which another chunk shape may be as right: streams without a size, blocks that say
their own shape, bits."""
OWN_TYPES = {"cast_value", "numcodecs.astype", "numcodecs.fixedscaleoffset", "numcodecs.categorize"}
"""Codecs that make elements of any type from stored ones of another."""
WIDER = {"int8": "int16", "uint8": "uint16", "int16": "int32", "uint16": "uint32"}
WIDER |= {"int32": "int64", "uint32": "uint64", "float16": "float32", "float32": "float64"}
OTHER_WIDTH = {**{wide: narrow for narrow, wide in WIDER.items()}, **WIDER}
EMPTY = (1 << 64) - 1


def has_first(base: Base) -> bool:
    """Whether the first chunk or shard is stored, with something in it, on a regular grid."""
    return base.object_shape is not None and any(
        not any(coords) and len(base.values[key]) > 0 for key, coords in base.objects.items()
    )


@kind("another chunk shape", 25, "refused")
def another_chunk_shape(chance: Random, tools: Tools) -> Hostile:
    """The metadata say larger or smaller chunks than are stored."""
    base = chance.choice(
        tools.bases_where(
            "chunk shapes",
            lambda base: (
                has_first(base)
                and bool(base.object_shape)
                and not base.names & SAYS_NOTHING
                and "sharding_indexed" not in base.names
            ),
        )
    )
    document = deepcopy(base.document)
    sizes = _chunk_shape(document)
    axis = chance.randrange(len(sizes))
    before = sizes[axis]
    after = chance.choice([1, 2, 3, before - 1, before + 1, 2 * before, 3 * before, 1000])
    sizes[axis] = after if after > 0 and after != before else before + 1
    what = f"{base.name}: chunks of {sizes[axis]} instead of {before} along axis {axis}"
    return _with_document(base, document, what, "refuse")


@kind("another chunk shape in shards", 12, "never other values where the index has a checksum")
def another_inner_shape(chance: Random, tools: Tools) -> Hostile:
    base = chance.choice(
        tools.bases_where("shards", lambda base: base.index is not None and has_first(base))
    )
    document = deepcopy(base.document)
    sharding = next(each for each in document["codecs"] if not isinstance(each, str))
    sizes = sharding["configuration"]["chunk_shape"]
    if not sizes:
        sizes.append(1)
    else:
        axis = chance.randrange(len(sizes))
        whole = base.object_shape[axis] if base.object_shape else 1
        others = [n for n in range(1, whole + 1) if n != sizes[axis]]
        fitting = [n for n in others if whole % n == 0]
        sizes[axis] = chance.choice(
            fitting if fitting and chance.random() < 0.7 else [*others, 0, -1]
        )
    return _with_document(base, document, f"{base.name}: chunks {sizes} in shards", "any")


@kind("another type", 15, "refused")
def another_type(chance: Random, tools: Tools) -> Hostile:
    """The metadata say elements of another width."""
    base = chance.choice(
        tools.bases_where(
            "types",
            lambda base: (
                has_first(base)
                and not base.names & (SAYS_NOTHING | OWN_TYPES)
                and "sharding_indexed" not in base.names
                and _other_width(base.document) is not None
            ),
        )
    )
    document = deepcopy(base.document)
    name = _other_width(document)
    document["data_type" if document["zarr_format"] == 3 else "dtype"] = name
    document["fill_value"] = 0
    return _with_document(base, document, f"{base.name}: elements of {name}", "refuse")


def _chunk_shape(document: dict[str, Any]) -> list[int]:
    sizes: list[int] = (
        document["chunks"]
        if document["zarr_format"] == 2
        else document["chunk_grid"]["configuration"]["chunk_shape"]
    )
    return sizes


def _other_width(document: dict[str, Any]) -> str | None:
    if document["zarr_format"] == 3:
        name = document["data_type"]
        return OTHER_WIDTH.get(name) if isinstance(name, str) else None
    name = document["dtype"]
    if not isinstance(name, str) or name.lstrip("<>|") not in (
        "i1",
        "i2",
        "i4",
        "i8",
        "u1",
        "u2",
        "u4",
        "u8",
        "f2",
        "f4",
        "f8",
    ):
        return None
    return np.dtype(OTHER_WIDTH[np.dtype(name).name]).newbyteorder("<").str


def _with_document(base: Base, document: dict[str, Any], what: str, promise: Promise) -> Hostile:
    store = changed(base, {base.document_key: json.dumps(document).encode()})
    return Hostile(what, store, base, promise=promise)


# ------------------------------------------------------------------------------ shard indexes


def read_entries(base: Base, key: str) -> tuple[np.ndarray[Any, Any], int]:
    """The entries of a shard's index, (chunks, 2), and where it begins."""
    index, data = index_of(base), base.values[key]
    begin = 0 if index.at == "start" else len(data) - index.nbytes
    dtype = ">u8" if index.big else "<u8"
    count = 2 * prod(index.counts)
    return np.frombuffer(data, dtype, count, begin).reshape(-1, 2).astype(np.uint64), begin


def write_entries(base: Base, key: str, entries: np.ndarray[Any, Any]) -> bytes:
    """A shard with another index, whose checksum matches."""
    index, data = index_of(base), bytearray(base.values[key])
    _, begin = read_entries(base, key)
    encoded = entries.astype(">u8" if index.big else "<u8").tobytes()
    if index.checked:
        encoded += google_crc32c.value(encoded).to_bytes(4, "little")
    data[begin : begin + len(encoded)] = encoded
    return bytes(data)


def index_of(base: Base) -> ShardIndex:
    assert base.index is not None
    return base.index


def with_shards(tools: Tools) -> list[Base]:
    """Bases with an index that can be rewritten, and chunks in some shard."""
    return tools.bases_where(
        "indexes",
        lambda base: (
            base.index is not None
            and any((read_entries(base, key)[0] != EMPTY).any() for key in base.objects)
        ),
    )


@kind("entries of a shard index", 40, "refused where an entry cannot be; never neighbours")
def entries(chance: Random, tools: Tools) -> Hostile:
    """Ranges that are impossible, overlap, or belong to another chunk; the checksum matches."""
    base = chance.choice(with_shards(tools))
    key = chance.choice([k for k in base.objects if (read_entries(base, k)[0] != EMPTY).any()])
    table, begin = read_entries(base, key)
    row = chance.choice(np.flatnonzero(table[:, 0] != EMPTY).tolist())
    size = len(base.values[key])
    offset, nbytes = map(int, table[row])
    other = chance.randrange(len(table))
    far = chance.choice(
        [size, size + 1, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, EMPTY - 1]
    )
    impossible = {
        "begins behind the end": (far, nbytes or 1),
        "reaches behind the end": (offset, max(far, size - offset + 1)),
        "overflows": (far, EMPTY - far + chance.choice([0, 1, 16])),
        "half empty": chance.choice([(EMPTY, nbytes), (offset, EMPTY)]),
        "one byte too many": (size - nbytes, nbytes + 1),
    }
    possible = {
        "another chunk's": tuple(map(int, table[other])),
        "not stored": (EMPTY, EMPTY),
        "no bytes": (offset, 0),
        "the whole shard": (0, size),
        "the index itself": (begin, index_of(base).nbytes),
        "one byte on": (offset + 1, nbytes),
        "one byte shorter": (offset, nbytes - 1) if nbytes else (offset, 0),
        "one byte longer": (offset, nbytes + 1),
        "somewhere": (chance.randrange(size), chance.randrange(size)),
    }
    is_impossible = chance.random() < 0.5
    name = chance.choice(sorted(impossible if is_impossible else possible))
    table[row] = (impossible if is_impossible else possible)[name]
    chunk = base.chunks_of(key)[row]
    text = f"{base.name}, {key}: the entry of {chunk}, {(offset, nbytes)}"
    what = f"{text}: {name}: {table[row].tolist()}"
    coords = frozenset([chunk]) if "transpose" not in base.names else None
    promise: Promise = "refuse" if is_impossible and _is_inside(base, chunk) else "any"
    store = changed(base, {key: write_entries(base, key, table)})
    return Hostile(what, store, base, frozenset([key]), coords, promise)


def _is_inside(base: Base, chunk: tuple[int, ...]) -> bool:
    """Whether a chunk holds elements of the array: what lies outside is never looked at."""
    assert base.object_shape is not None
    sizes = [n // c for n, c in zip(base.object_shape, index_of(base).counts, strict=True)]
    shape = base.document["shape"]
    return all(i * size < n for i, size, n in zip(chunk, sizes, shape, strict=True))


@kind("all entries of a shard index", 12, "shape, type, other shards")
def many_entries(chance: Random, tools: Tools) -> Hostile:
    base = chance.choice(with_shards(tools))
    key = chance.choice(sorted(base.objects))
    table, _ = read_entries(base, key)
    rows = np.arange(len(table))
    how = chance.randrange(5)
    if how == 0:
        chance.shuffle(order := rows.tolist())
        table, what = table[order], "in another order"
    elif how == 1:
        table[:], what = table[chance.randrange(len(table))], "all the same"
    elif how == 2:
        table, what = table[:, ::-1].copy(), "offsets and sizes exchanged"
    elif how == 3:
        numbers = [chance.randrange(1 << 64) for _ in range(table.size)]
        table, what = np.array(numbers, np.uint64).reshape(table.shape), "random"
    else:
        table, what = table.byteswap(), "of the other byte order"
    store = changed(base, {key: write_entries(base, key, table)})
    return Hostile(f"{base.name}, {key}: entries {what}", store, base, frozenset([key]))


@kind("a shard index against its checksum", 20, "refused")
def index_checksum(chance: Random, tools: Tools) -> Hostile:
    bases = tools.bases_where(
        "checked index", lambda base: base.index is not None and base.index.checked
    )
    base, key, data = pick(chance, tools, bases)
    index = index_of(base)
    begin = 0 if index.at == "start" else len(data) - index.nbytes
    part, what = flip(chance, data[begin : begin + index.nbytes])
    out = data[:begin] + part + data[begin + index.nbytes :]
    return damaged(base, key, out, f"its index flipped: {what}", "refuse")
