"""Encoded chunks of every format, and how they are decoded."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import zstandard

from gpuzarr.engines.cpu.decoder import ChunkDecoder
from gpuzarr.program import (
    DecodeProgram,
    Decompress,
    HostOnly,
    Layout,
    Step,
    VerifyChecksum,
    canonical_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def decoder_of(dtype: Any, shape: tuple[int, ...], *steps: Step) -> ChunkDecoder:
    """A decoder of C-ordered chunks."""
    axes = tuple(range(len(shape)))
    return ChunkDecoder(DecodeProgram(steps, Layout(np.dtype(dtype), axes)), shape)


def decode(encoded: Any, dtype: Any, shape: tuple[int, ...], *steps: Step) -> np.ndarray:
    """Decode one chunk, into new memory and into a given place; both must agree."""
    decoder = decoder_of(dtype, shape, *steps)
    stored = memoryview(bytes(encoded))
    first = decoder.decode(stored).copy()
    if not first.dtype.hasobject:
        place = memoryview(bytearray(first.nbytes))
        second = decoder.decode(stored, place)
        assert second.tobytes() == first.tobytes()
        assert bytes(place) == first.tobytes()
    return first


def lzma_step(**configuration: Any) -> Decompress:
    return Decompress("lzma", canonical_json(configuration))


RAW_FILTERS = [{"id": lzma.FILTER_DELTA, "dist": 4}, {"id": lzma.FILTER_LZMA2, "preset": 1}]


@dataclass(frozen=True)
class Format:
    """A way to encode bytes."""

    step: Step
    encode: Callable[[bytes], bytes]
    checksum: bool = False
    """Whether a checksum covers the data, so that any flipped bit must be found."""


def _blosc(**settings: Any) -> Callable[[bytes], bytes]:
    return lambda data: bytes(numcodecs.Blosc(**settings).encode(np.frombuffer(data, "<u4")))


def _zstd(**settings: Any) -> Callable[[bytes], bytes]:
    return zstandard.ZstdCompressor(**settings).compress


def _numcodecs(codec: Any) -> Callable[[bytes], bytes]:
    return lambda data: bytes(codec.encode(np.frombuffer(data, np.uint8)))


FORMATS = {
    "zstd": Format(Decompress("zstd"), _zstd(level=3)),
    "zstd checksum": Format(Decompress("zstd"), _zstd(write_checksum=True), checksum=True),
    "zstd no size": Format(Decompress("zstd"), _zstd(write_content_size=False)),
    "gzip": Format(Decompress("gzip"), lambda data: gzip.compress(data, mtime=0), checksum=True),
    "zlib": Format(Decompress("zlib"), zlib.compress, checksum=True),
    "lz4": Format(Decompress("lz4"), _numcodecs(numcodecs.LZ4())),
    "bz2": Format(Decompress("bz2"), bz2.compress, checksum=True),
    "lzma xz": Format(lzma_step(format=1), lzma.compress, checksum=True),
    "lzma alone": Format(lzma_step(format=2), lambda data: lzma.compress(data, lzma.FORMAT_ALONE)),
    "lzma auto": Format(lzma_step(format=0), lzma.compress),
    "lzma raw": Format(
        lzma_step(format=3, filters=RAW_FILTERS),
        lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=RAW_FILTERS),
    ),
    **{
        f"blosc {cname} {shuffle}": Format(
            Decompress("blosc"), _blosc(cname=cname, clevel=clevel, shuffle=shuffle)
        )
        for cname in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle, clevel in ((0, 1), (1, 5), (2, 9), (1, 0))
    },
    "crc32c": Format(
        VerifyChecksum("crc32c", "end"), _numcodecs(numcodecs.CRC32C()), checksum=True
    ),
    "crc32": Format(VerifyChecksum("crc32", "start"), _numcodecs(numcodecs.CRC32()), checksum=True),
    "adler32": Format(
        VerifyChecksum("adler32", "start"), _numcodecs(numcodecs.Adler32()), checksum=True
    ),
    "jenkins": Format(
        HostOnly("numcodecs.jenkins_lookup3", '{"initval":0}'),
        _numcodecs(numcodecs.JenkinsLookup3()),
        checksum=True,
    ),
    "base64": Format(HostOnly("numcodecs.base64"), _numcodecs(numcodecs.Base64())),
}
"""fletcher32 has tests of its own: it does not tell 0x0000 from 0xffff, and takes no empty data."""
