"""Sound chunks of every codec of numbers, and other decoders of them where there are some."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import google_crc32c
import numcodecs
import numcodecs.lz4
import numpy as np
import zstandard

from tests.metadata.documents import zarr_json, zarray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Reference = Callable[[bytes], bytes | list[Any]]
    Values = np.ndarray[Any, Any]

SMALL, LARGE = 50, 20_000
"""Elements of chunks that are decoded in different ways."""


@dataclass(frozen=True)
class Case:
    """A codec chain, for chunks of one shape."""

    document: dict[str, Any]
    """An array's metadata, of one chunk."""
    sound: list[bytes] = field(default_factory=list)
    """Chunks that can be decoded."""
    reference: Reference | None = None
    """What another decoder makes of a chunk: the bytes of its elements, or a list of objects."""
    strict: bool = True
    """Whether what the reference reads must be read; else only what both read must be the same."""


def v2(
    dtype: Any,
    shape: Sequence[int],
    *,
    filters: Any = None,
    compressor: Any = None,
    fill_value: Any = 0,
) -> dict[str, Any]:
    """A `.zarray` of one chunk."""
    return zarray(
        shape=list(shape),
        chunks=list(shape),
        dtype=dtype,
        filters=filters,
        compressor=compressor,
        fill_value=fill_value,
    )


def v3(data_type: Any, shape: Sequence[int], codecs: Any, fill_value: Any = 0) -> dict[str, Any]:
    """A `zarr.json` of one chunk."""
    grid = {"name": "regular", "configuration": {"chunk_shape": list(shape)}}
    return zarr_json(
        shape=list(shape),
        data_type=data_type,
        codecs=codecs,
        chunk_grid=grid,
        fill_value=fill_value,
    )


def values(dtype: Any, count: int) -> Values:
    """Smooth values."""
    return (np.arange(count) // 3 % 100).astype(dtype)


def encode(codec: Any, data: Any) -> bytes:
    """What a codec of numcodecs makes of values."""
    return np.asarray(codec.encode(data)).tobytes()


def _by_numcodecs(codec: Any) -> Reference:
    return lambda chunk: np.asarray(codec.decode(chunk)).tobytes()


# ------------------------------------------------------------------------------- compressors


def zstd() -> list[Case]:
    """Small frames, which are decoded many at a time, and large ones, decoded into place."""

    def read(chunk: bytes) -> bytes:
        # It does not say that a frame is cut off.
        reader = zstandard.ZstdDecompressor().stream_reader(chunk, read_across_frames=True)
        return reader.read(1 << 20)

    def case(dtype: str, count: int) -> Case:
        data = values(dtype, count).tobytes()
        half = len(data) // 2
        made = [
            zstandard.ZstdCompressor(level=1).compress(data),
            zstandard.ZstdCompressor(level=9, write_checksum=True).compress(data),
            zstandard.ZstdCompressor(write_content_size=False).compress(data),
            zstandard.ZstdCompressor().compress(data[:half])
            + b"\x50\x2a\x4d\x18\2\0\0\0ab"
            + zstandard.ZstdCompressor().compress(data[half:]),
        ]
        return Case(v2(dtype, [count], compressor={"id": "zstd"}), made, read, strict=False)

    return [case("<u4", SMALL), case("<u2", LARGE)]


def gzip_and_zlib() -> list[Case]:
    """One member and several, and a stream with something behind it."""
    data = values("<i4", SMALL).tobytes()
    members = [
        gzip.compress(data, mtime=0),
        gzip.compress(data[:40], mtime=0) + gzip.compress(data[40:], mtime=0) + bytes(5),
    ]
    streams = [zlib.compress(data), zlib.compress(data, 0) + b"behind"]
    return [
        Case(v2("<i4", [SMALL], compressor={"id": "gzip"}), members, _members),
        Case(v2("<i4", [SMALL], compressor={"id": "zlib"}), streams, zlib.decompress),
        # Of unknown size: what it gives is undone by another codec.
        Case(
            v2("<i4", [SMALL], filters=[{"id": "zlib"}], compressor={"id": "gzip"}),
            [gzip.compress(zlib.compress(data), mtime=0)],
            lambda chunk: zlib.decompress(_members(chunk)),
        ),
    ]


def _members(chunk: bytes) -> bytes:
    """gzip members, with zeros behind them.

    Python's own module also takes zeros between them, and header flags that RFC 1952 reserves.
    """
    data = b""
    while chunk.strip(b"\0") or not data:
        member = zlib.decompressobj(31)
        data += member.decompress(chunk)
        if not member.eof:
            raise ValueError
        chunk = member.unused_data
    return data


def lz4() -> list[Case]:
    """numcodecs' blocks."""

    def case(count: int) -> Case:
        data = values("<i2", count)

        def read(chunk: bytes) -> bytes:
            if int.from_bytes(chunk[:4], "little") != data.nbytes:
                raise ValueError
            return bytes(numcodecs.lz4.decompress(chunk))

        sound = [encode(numcodecs.LZ4(), data)]
        return Case(v2("<i2", [count], compressor={"id": "lz4"}), sound, read)

    return [case(SMALL), case(LARGE)]


def blosc() -> list[Case]:
    """Frames of every inner codec and shuffle; of one block and of several."""
    made = []
    for count, block in ((SMALL, 0), (4 * LARGE, 4096)):
        data = values("<u4", count)
        sound = [
            encode(
                numcodecs.Blosc(cname, level, shuffle, blocksize=block),
                data,
            )
            for cname in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
            for shuffle, level in ((0, 5), (1, 5), (2, 1))
        ]
        sound.append(encode(numcodecs.Blosc("lz4", 0), data))
        # One chunk of those that are larger than inputs may be.
        small = [chunk for chunk in sound if len(chunk) < 4_000] or sound[:1]
        made.append(Case(v2("<u4", [count], compressor={"id": "blosc"}), small))
    return made


def bz2_and_lzma() -> list[Case]:
    """Members of Python's own compressors."""
    data = values("<i4", SMALL).tobytes()
    raw = [{"id": lzma.FILTER_DELTA, "dist": 4}, {"id": lzma.FILTER_LZMA2, "preset": 1}]
    settings: list[tuple[dict[str, Any], bytes, Reference]] = [
        ({"id": "bz2"}, bz2.compress(data) * 1, bz2.decompress),
        ({"id": "lzma", "format": 1}, lzma.compress(data), lzma.decompress),
        ({"id": "lzma", "format": 2}, lzma.compress(data, lzma.FORMAT_ALONE), lzma.decompress),
        (
            {"id": "lzma", "format": 3, "filters": raw},
            lzma.compress(data, lzma.FORMAT_RAW, filters=raw),
            lambda chunk: lzma.decompress(chunk, lzma.FORMAT_RAW, filters=raw),
        ),
    ]
    return [
        Case(v2("<i4", [SMALL], compressor=codec), [chunk], read, strict=codec["id"] != "lzma")
        for codec, chunk, read in settings
    ]


def checksums() -> list[Case]:
    """Every checksum, at either end."""
    codecs = [
        *(numcodecs.CRC32(location="start"), numcodecs.CRC32(location="end")),
        *(numcodecs.CRC32C(location="end"), numcodecs.Adler32(location="start")),
        *(numcodecs.Fletcher32(), numcodecs.JenkinsLookup3(initval=7)),
    ]
    data = values("|u1", SMALL)
    return [
        Case(
            v2("|u1", [SMALL], compressor=codec.get_config()),
            [encode(codec, data)],
            _by_numcodecs(codec),
        )
        for codec in codecs
    ]


# ----------------------------------------------------------------------------------- filters


def filters() -> list[Case]:
    """Codecs of elements; any bytes of the right number are sound."""
    made: list[Case] = []
    for codec, dtype in (
        (numcodecs.Delta("<i4", "<i2"), "<i4"),
        (numcodecs.Delta("<f4"), "<f4"),
        (numcodecs.FixedScaleOffset(2, 4, "<f8", "|u1"), "<f8"),
        (numcodecs.AsType("<f2", "<f8"), "<f8"),
        (numcodecs.PackBits(), "|b1"),
        (numcodecs.Shuffle(4), "<i4"),
        (numcodecs.Shuffle(5), "<i8"),
    ):
        data = values(dtype, SMALL)
        made.append(
            Case(
                v2(dtype, [SMALL], filters=[codec.get_config()]),
                [encode(codec, data)],
                _by_numcodecs(codec) if dtype != "|b1" else None,
            )
        )
    made.append(
        Case(
            v2("|u1", [SMALL], filters=[{"id": "base64"}]),
            [encode(numcodecs.Base64(), values("|u1", SMALL))],
            _by_numcodecs(numcodecs.Base64()),
            strict=False,
        )
    )
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    big = {"name": "bytes", "configuration": {"endian": "big"}}
    transpose = {"name": "transpose", "configuration": {"order": [1, 0]}}
    clamp = {"data_type": "uint8", "rounding": "nearest-even", "out_of_range": "clamp"}
    strict = {"data_type": "float32", "rounding": "towards-zero"}
    scale = {"name": "scale_offset", "configuration": {"scale": 3, "offset": 5}}
    shuffle = {"name": "numcodecs.shuffle", "configuration": {"elementsize": 4}}
    bits = {"name": "packbits", "configuration": {"padding_encoding": "first_byte"}}
    for data_type, shape, codecs, nbytes in (
        ("int16", [SMALL], [{"name": "cast_value", "configuration": clamp}, little], SMALL),
        ("int16", [SMALL], [{"name": "cast_value", "configuration": strict}, big], 4 * SMALL),
        ("int32", [SMALL], [scale, little], 4 * SMALL),
        ("uint8", [SMALL], [scale, "bytes"], SMALL),
        ("int4", [SMALL], ["packbits"], SMALL // 2),
        ("bool", [SMALL], [bits], -(-SMALL // 8) + 1),
        ("bool", [SMALL], ["bytes"], SMALL),
        ("int2", [SMALL], ["bytes"], SMALL),
        ("float32", [10, 5], [transpose, big, shuffle, "crc32c"], 4 * SMALL + 4),
        ("complex64", [10, 5], [transpose, big], 8 * SMALL),
    ):
        document = v3(
            data_type, shape, codecs, [0, 0] if data_type == "complex64" else data_type == "bool"
        )
        if data_type not in {"bool", "complex64"}:
            document["fill_value"] = 0
        zeros, numbers = bytes(nbytes), bytes(range(nbytes % 256)).ljust(nbytes, b"\1")
        if codecs == [bits]:  # the first byte says how many bits pad the last
            zeros = b"\6" + zeros[1:]
        if codecs[-1] == "crc32c":
            zeros = zeros[:-4] + google_crc32c.value(zeros[:-4]).to_bytes(4, "little")
        made.append(Case(document, [zeros, numbers]))
    return made
