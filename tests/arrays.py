"""Small stores in memory, written without any Zarr library, and a store that counts."""

from __future__ import annotations

import json
import threading
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.store import WHOLE, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuzarr.stores.store import Blob

EMPTY = 2**64 - 1

Reads = list[tuple[str, int, int]]
"""Key, offset and number of bytes of every read."""


def v3_metadata(
    shape: Sequence[int],
    chunks: Sequence[int],
    *,
    data_type: str = "int32",
    codecs: Sequence[Any] = ("bytes",),
    fill_value: Any = 0,
    **members: Any,
) -> dict[str, Any]:
    """A `zarr.json` of an array with a regular grid; `bytes` is little-endian."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}} if codec == "bytes" else codec
            for codec in codecs
        ],
        "fill_value": fill_value,
        **members,
    }


def encoded(document: dict[str, Any]) -> bytes:
    """A metadata document as it is stored."""
    return json.dumps(document).encode()


def cut_chunks(
    array: np.ndarray[Any, Any], chunks: Sequence[int], fill: Any = 0
) -> Iterator[tuple[tuple[int, ...], np.ndarray[Any, Any]]]:
    """Chunk coordinates and chunks of an array, edge chunks padded with `fill`."""
    counts = [-(-n // c) for n, c in zip(array.shape, chunks, strict=True)]
    for coords in product(*map(range, counts)):
        box = tuple(slice(i * c, (i + 1) * c) for i, c in zip(coords, chunks, strict=True))
        chunk = np.full(chunks, fill, array.dtype)
        part = array[box]
        chunk[tuple(map(slice, part.shape))] = part
        yield coords, chunk


def plain_store(
    array: np.ndarray[Any, Any],
    chunks: Sequence[int],
    *,
    path: str = "",
    encode: Callable[[bytes], bytes] = bytes,
    codecs: Sequence[Any] = ("bytes",),
    skip: Callable[[tuple[int, ...]], bool] = lambda _: False,
    **members: Any,
) -> dict[str, bytes]:
    """An unsharded v3 array; `encode` undoes nothing: it is what `codecs` after bytes say."""
    prefix = path + "/" if path else ""
    document = v3_metadata(
        array.shape, chunks, data_type=array.dtype.name, codecs=codecs, **members
    )
    store = {prefix + "zarr.json": encoded(document)}
    for coords, chunk in cut_chunks(array, chunks, members.get("fill_value", 0)):
        if not skip(coords):
            key = "/".join(["c", *map(str, coords)])
            store[prefix + key] = encode(chunk.astype(chunk.dtype.newbyteorder("<")).tobytes())
    return store


def shard_bytes(
    shard: np.ndarray[Any, Any],
    chunks: Sequence[int],
    encode: Callable[[bytes], bytes] = bytes,
    skip: Callable[[tuple[int, ...]], bool] = lambda _: False,
) -> bytes:
    """A shard: chunks in order, then the index without a checksum."""
    body = b""
    index = []
    for coords, chunk in cut_chunks(shard, chunks):
        if skip(coords):
            index.append((EMPTY, EMPTY))
            continue
        data = encode(chunk.tobytes())
        index.append((len(body), len(data)))
        body += data
    return body + np.array(index, "<u8").tobytes()


def sharded_store(
    array: np.ndarray[Any, Any],
    shards: Sequence[int],
    chunks: Sequence[int],
    *,
    encode: Callable[[bytes], bytes] = bytes,
    inner_codecs: Sequence[Any] = ("bytes",),
    skip: Callable[[tuple[int, ...]], bool] = lambda _: False,
) -> dict[str, bytes]:
    """A sharded v3 array; `skip` says which chunks of every shard are not stored."""
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(chunks),
            "codecs": v3_metadata((), (), codecs=inner_codecs)["codecs"],
            "index_codecs": v3_metadata((), ())["codecs"],
        },
    }
    document = v3_metadata(array.shape, shards, data_type=array.dtype.name, codecs=[sharding])
    store = {"zarr.json": encoded(document)}
    for coords, shard in cut_chunks(array, shards):
        store["/".join(["c", *map(str, coords)])] = shard_bytes(shard, chunks, encode, skip)
    return store


class CountingStore(Store):
    """A store in memory that remembers every read: (key, offset, nbytes)."""

    def __init__(self, values: dict[str, bytes]) -> None:
        """Wrap a mapping, which tests may change afterwards."""
        self.name = "counting"
        self.values = values
        self.reads: Reads = []
        self._store = MappingStore(values)
        self._lock = threading.Lock()

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        """Count, and read."""
        with self._lock:
            self.reads.append((key, offset, nbytes))
        return self._store.read(key, offset, nbytes, allocate)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Children of a key."""
        return self._store.list(prefix)

    def size(self, key: str) -> int | None:
        """Not counted."""
        return self._store.size(key)

    def taken(self) -> Reads:
        """The reads so far, which are then forgotten."""
        with self._lock:
            reads, self.reads = self.reads, []
        return reads
