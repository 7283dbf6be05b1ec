"""A read of an array with a damaged chunk, in this process, which may not survive it.

    python -m tests.gpu.hostile FORMAT DAMAGE

The answer says what each read gave, and whether the process can read a good array afterwards.
"""

from __future__ import annotations

import gzip
import struct
import sys
import zlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import google_crc32c
import numcodecs
import numpy as np
import zstandard

import gpuzarr
from tests.arrays import plain_store, sharded_store
from tests.cuda_devices import DEVICE_WINS, to_numpy, with_rates
from tests.gpu.own_process import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    Encode = Callable[[bytes], bytes]

SHAPE, CHUNKS, SHARDS = (350, 512), (100, 128), (200, 256)
ARRAY = np.cumsum(np.random.default_rng(0).integers(-9, 9, np.prod(SHAPE), np.int32))
ARRAY = ARRAY.astype(np.int32).reshape(SHAPE)
KEY = "c/1/1"
"""The chunk or shard that is damaged."""
HEADER = 48
"""Bytes at its beginning that stay: headers are the business of tests that need no GPU."""
RIGHT, WRONG = "right data", "wrong data"
FOREIGN = "an error that is not gpuzarr's"
ZSTD = zstandard.ZstdCompressor(level=3).compress


@dataclass(frozen=True)
class Format:
    """How chunks are encoded."""

    codecs: tuple[Any, ...]
    encode: Encode
    checked: bool = False
    """A checksum covers all that is decoded."""
    sharded: bool = False

    def store(self) -> dict[str, bytes]:
        """The array, undamaged."""
        if self.sharded:
            return sharded_store(
                ARRAY, SHARDS, CHUNKS, encode=self.encode, inner_codecs=self.codecs
            )
        return plain_store(ARRAY, CHUNKS, encode=self.encode, codecs=self.codecs)


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    """A codec as the metadata have it."""
    return {"name": name, "configuration": configuration}


def with_crc32c(encode: Encode) -> Encode:
    """The codec crc32c behind another."""

    def both(data: bytes) -> bytes:
        inner = encode(data)
        return inner + struct.pack("<I", google_crc32c.value(inner))

    return both


def by_numcodecs(configuration: dict[str, Any]) -> Encode:
    """A codec of numcodecs, given elements."""
    encoder = numcodecs.get_codec(configuration)
    return lambda data: bytes(encoder.encode(np.frombuffer(data, "<i4")))


def blosc(cname: str, shuffle: str, *, checked: bool = False) -> Format:
    """Blosc around a codec."""
    number = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[shuffle]
    encode = by_numcodecs({"id": "blosc", "cname": cname, "shuffle": number})
    members = {"cname": cname, "clevel": 5, "shuffle": shuffle, "typesize": 4, "blocksize": 0}
    return Format(("bytes", codec("blosc", **members)), encode, checked=checked)


def also_crc32c(inner: Format) -> Format:
    """The same with a checksum over what is stored."""
    codecs = (*inner.codecs, codec("crc32c"))
    return Format(codecs, with_crc32c(inner.encode), checked=True)


def inside(checksum: str) -> Format:
    """A checksum over what zstd decodes to."""
    first = by_numcodecs({"id": checksum})
    codecs = ("bytes", codec(f"numcodecs.{checksum}"), codec("zstd", level=3, checksum=False))
    return Format(codecs, lambda data: ZSTD(first(data)), checked=True)


PLAIN = Format(("bytes",), bytes)
PLAIN_ZSTD = Format(("bytes", codec("zstd", level=3, checksum=False)), ZSTD)
ZSTD_WITH_CHECKSUM = Format(
    ("bytes", codec("zstd", level=3, checksum=True)),
    zstandard.ZstdCompressor(level=3, write_checksum=True).compress,
    checked=True,
)
FORMATS: dict[str, Format] = {
    "uncompressed": PLAIN,
    "uncompressed, crc32c": also_crc32c(PLAIN),
    "zstd": PLAIN_ZSTD,
    "zstd with its checksum": ZSTD_WITH_CHECKSUM,
    "zstd, crc32c": also_crc32c(PLAIN_ZSTD),
    "zstd in shards": Format(PLAIN_ZSTD.codecs, ZSTD, sharded=True),
    "fletcher32 in zstd": inside("fletcher32"),
    "crc32 in zstd": inside("crc32"),
    "gzip": Format(
        ("bytes", codec("gzip", level=5)), partial(gzip.compress, compresslevel=5), checked=True
    ),
    "zlib": Format(("bytes", codec("numcodecs.zlib", level=5)), zlib.compress, checked=True),
    "lz4": Format(("bytes", codec("numcodecs.lz4", acceleration=1)), by_numcodecs({"id": "lz4"})),
    "blosc lz4 shuffle": blosc("lz4", "shuffle"),
    "blosc lz4 shuffle, crc32c": also_crc32c(blosc("lz4", "shuffle")),
    "blosc lz4hc bitshuffle": blosc("lz4hc", "bitshuffle"),
    "blosc zstd shuffle": blosc("zstd", "shuffle"),
    "blosc zlib noshuffle": blosc("zlib", "noshuffle", checked=True),
    "blosc blosclz shuffle": blosc("blosclz", "shuffle"),
}


def change(value: bytes, seed: int, mask: int) -> bytes:
    """One byte becomes another."""
    out = bytearray(value)
    out[int(np.random.default_rng(seed).integers(HEADER, len(out)))] ^= mask
    return bytes(out)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "one bit, 0": partial(change, seed=0, mask=0x10),
    "one bit, 1": partial(change, seed=1, mask=0x01),
    "one byte": partial(change, seed=2, mask=0xFF),
    "ones in the middle": lambda value: (
        value[: len(value) // 2] + b"\xff" * 32 + value[len(value) // 2 + 32 :]
    ),
    "second half is noise": lambda value: (
        value[: len(value) // 2] + np.random.default_rng(0).bytes(len(value) - len(value) // 2)
    ),
    "cut to a half": lambda value: value[: len(value) // 2],
}


def outcome(store: dict[str, bytes], device: str, decode: Any = "auto") -> str:
    """What a read gives: the data, or the name of an error."""
    try:
        with with_rates(DEVICE_WINS):
            result = to_numpy(gpuzarr.open_array(store, device=device, decode=decode)[...])
    except gpuzarr.GpuzarrError as error:
        return type(error).__name__
    except Exception as error:  # noqa: BLE001  the very thing that is looked for
        return f"{FOREIGN}: {type(error).__name__}: {error}"[:300]
    return RIGHT if np.array_equal(result, ARRAY) else WRONG


def read_damaged(name: str, damage: str) -> dict[str, Any]:
    """Read a damaged array, and a good one, each by the engine's choice and on the GPU alone."""
    good = FORMATS[name].store()
    bad = {**good, KEY: DAMAGE[damage](good[KEY])}
    return {
        "cpu": outcome(bad, "cpu"),
        "gpu": outcome(bad, "cuda"),
        "good after": outcome(good, "cuda"),
        "gpu alone": outcome(bad, "cuda", "device"),
        "good at last": outcome(good, "cuda"),
    }


if __name__ == "__main__":
    answer(read_damaged(*sys.argv[1:]))
