"""What the tests of the CUDA engine read: one array, and how its chunks are encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import zstandard

import gpuzarr
from gpuzarr.engines.cuda.engine import CudaEngine

if TYPE_CHECKING:
    from collections.abc import Callable

ARRAY = np.arange(60 * 50, dtype=np.int32).reshape(60, 50)
ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
GZIP = {"name": "gzip", "configuration": {"level": 5}}
CRC32C = {"name": "crc32c"}
BLOSC = {
    "name": "blosc",
    "configuration": {
        "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0,
    },
}  # fmt: skip


def blosc(cname: str = "lz4", shuffle: int = 1) -> Callable[[bytes], bytes]:
    codec = numcodecs.Blosc(cname=cname, shuffle=shuffle)
    return lambda data: bytes(codec.encode(np.frombuffer(data, "<i4")))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


def opened(store: Any, **choices: Any) -> gpuzarr.Array:
    return gpuzarr.open_array(store, device="cuda", **choices)


def engine_of(array: gpuzarr.Array) -> CudaEngine:
    """What reads an array."""
    source = array._prepare(array._snapshot)  # noqa: SLF001  what it does is not for users
    assert isinstance(source.engine, CudaEngine)
    return source.engine


def lent_nbytes(array: gpuzarr.Array) -> int:
    """Bytes of pinned memory that reads with an array's engine have."""
    return engine_of(array).pool.lent_nbytes
