"""Walks over frames for the GPU: what they promise, and that the host's decoders agree.

The first two bytes of an input are the size that the chunk must decode to, the others the chunk.
It is walked alone, with nothing before or behind it, and between others, which must not matter.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any

import numcodecs
import numcodecs.blosc
import numpy as np
import zstandard

from gpuzarr.engines.cuda.frames.snappy import MOST_PREFIX, snappy_sizes
from gpuzarr.engines.cuda.frames.streams import UNCHECKED, EncodedChunks
from gpuzarr.engines.cuda.frames.walk import walk_frames
from tests.engines.cuda.frames.rebuild import (
    check_promises,
    host_decodes,
    rebuild,
    streams_of,
    walk,
)
from tests.engines.cuda.frames.test_walks import odd_zstd_inside, snappy_frame, starts_in_header
from tests.hostile.fuzz.target import Outcome, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cuda.frames.streams import Frames

SIZE_NBYTES = 2
INNER_SNAPPY = 2
GZIP_HEADER, GZIP_TRAILER = 10, 8
FLAGS = 2
"""Place of a Blosc frame's flags."""


def checker(name: str) -> Callable[[bytes], Outcome]:
    """The check of a format's walk."""

    def check(data: bytes) -> Outcome:
        size = int.from_bytes(data[:SIZE_NBYTES].ljust(SIZE_NBYTES, b"\0"), "little")
        encoded = data[SIZE_NBYTES:]
        chunks = EncodedChunks(
            np.frombuffer(encoded, np.uint8), *(np.array([n]) for n in (0, len(encoded), size))
        )
        frames = walk_frames(name, chunks)
        check_promises(chunks, frames)
        _check_beside_others(name, encoded, size, chunks, frames)
        return _judge(name, encoded, size, chunks, frames)

    return check


def _check_beside_others(
    name: str, encoded: bytes, size: int, chunks: EncodedChunks, frames: Frames
) -> None:
    """What is found of a chunk depends on no other, and nothing on it."""
    good = _good(name)
    together, found = walk(name, [good, encoded, good], [len(PLAIN), size, len(PLAIN)])
    assert found.failures.get(1) == frames.failures.get(0)
    assert found.host.get(1) == frames.host.get(0)
    assert {*found.failures, *found.host} <= {1}
    for row in (0, 2):
        assert rebuild(together, found, row) == PLAIN
    assert set(frames.streams) <= set(found.streams)
    for kind, table in frames.streams.items():
        mine = streams_of(together, found.streams[kind], 1)
        assert mine == streams_of(chunks, table, 0)


def _judge(name: str, encoded: bytes, size: int, chunks: EncodedChunks, frames: Frames) -> Outcome:
    """The host decides; what would come out on a GPU with sound checksums is what it says."""
    decoded = host_decodes(name, encoded, size)
    if frames.failures:
        assert decoded is None, f"the host reads it, but: {frames.failures[0]}"
        return "refused"
    if frames.host:
        return "refused" if decoded is None else "right"
    try:
        made = rebuild(chunks, frames, 0)
        sound = _checks_agree(chunks, frames)
    except Exception:  # noqa: BLE001  each library has errors of its own; a GPU would have a status
        return "refused" if decoded is None else "right"
    if sound and not _has_snappy(name, encoded):
        assert decoded is not None, "the GPU reads what the host refuses"
        assert decoded == made, "the GPU reads something else than the host"
    return "right"


def _checks_agree(chunks: EncodedChunks, frames: Frames) -> bool:
    """Whether the checksums in the streams are those of what comes out, as the device asks.

    False also where bytes lie between the end of a deflate stream and the checksum: the GPU does
    not see them, and what comes out is what the checksum is of; the host refuses it.
    """
    for kind, table in frames.streams.items():
        for row in np.flatnonzero(table.check != UNCHECKED).tolist():
            place, nbytes = int(table.source[row]), int(table.nbytes[row])
            stream = chunks.data[place : place + nbytes].tobytes()
            if kind == "zstd":
                zstandard.ZstdDecompressor().decompress(stream)  # verifies its own
                continue
            head, tail = (GZIP_HEADER, GZIP_TRAILER) if kind == "gzip" else (0, 0)
            inflater = zlib.decompressobj(-15)
            out = inflater.decompress(stream[head : len(stream) - tail])
            found = zlib.crc32(out) if kind == "gzip" else zlib.adler32(out)
            if inflater.unused_data or found != int(table.check[row]):
                return False
    return True


def _has_snappy(name: str, encoded: bytes) -> bool:
    """Whether it is Snappy inside Blosc, which numcodecs does not decode."""
    return name == "blosc" and len(encoded) > FLAGS and encoded[FLAGS] >> 5 == INNER_SNAPPY


def check_snappy(data: bytes) -> Outcome:
    """The sizes that Snappy streams say: one that begins at each byte."""
    array = np.frombuffer(data, np.uint8)
    places = np.arange(len(data))
    found = snappy_sizes(array, places, len(data) - places).tolist()
    assert found == [_varint(data[place:]) for place in range(len(data))]
    return "right" if data and min(found) >= 0 else "refused"


def _varint(data: bytes) -> int:
    size = 0
    for place, byte in enumerate(data[:MOST_PREFIX]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return size
    return -1


# ------------------------------------------------------------------------------------- seeds

PLAIN = bytes(range(200)) + b"plain text " * 9
SMOOTH = np.arange(0, 3000, 7, dtype="<i2").tobytes()


def _zstd(data: bytes, level: int = 3, **settings: Any) -> bytes:
    return zstandard.ZstdCompressor(level=level, **settings).compress(data)


def _blosc(data: bytes, cname: str, shuffle: int, typesize: int, block: int, level: int) -> bytes:
    values = np.frombuffer(data, np.uint8)
    return bytes(
        numcodecs.blosc.compress(values, cname.encode(), level, shuffle, block, typesize=typesize)
    )


def _numcodecs(codec: Any, data: bytes) -> bytes:
    return bytes(codec.encode(np.frombuffer(data, np.uint8)))


@cache
def _good(name: str) -> bytes:
    encoders: dict[str, Callable[[], bytes]] = {
        "zstd": lambda: _zstd(PLAIN),
        "gzip": lambda: gzip.compress(PLAIN, mtime=0),
        "zlib": lambda: zlib.compress(PLAIN),
        "lz4": lambda: _numcodecs(numcodecs.LZ4(), PLAIN),
        "blosc": lambda: _blosc(PLAIN, "lz4", 1, 1, 0, 5),
    }
    return encoders[name]()


def _sized(data: bytes, *encoded: bytes) -> list[bytes]:
    return [struct.pack("<H", len(data)) + one for one in encoded]


def _zstd_seeds() -> list[bytes]:
    skippable = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    return [
        *_sized(PLAIN, _zstd(PLAIN), _zstd(PLAIN, 19), _zstd(PLAIN, write_checksum=True)),
        *_sized(PLAIN, _zstd(PLAIN, write_content_size=False), _zstd(PLAIN) + skippable),
        *_sized(SMOOTH, _zstd(SMOOTH[:400]) + skippable + _zstd(SMOOTH[400:])),
        *_sized(bytes(60_000), _zstd(bytes(60_000), write_checksum=True)),
        *_sized(b"", _zstd(b""), b""),
        *_sized(PLAIN, _zstd(b"") + _zstd(PLAIN)),
    ]


def _gzip_seeds() -> list[bytes]:
    whole = gzip.compress(PLAIN, mtime=0)
    named = whole[:3] + b"\x08" + whole[4:10] + b"name\0" + whole[10:]
    two = gzip.compress(PLAIN[:99], mtime=0) + gzip.compress(PLAIN[99:], mtime=0)
    stored = gzip.compress(PLAIN, 0, mtime=0)
    padded = whole + bytes(9)
    return [*_sized(PLAIN, whole, named, two, stored, padded), *_sized(b"", gzip.compress(b""))]


def _zlib_seeds() -> list[bytes]:
    with_dictionary = zlib.compressobj(zdict=b"plain text")
    odd = with_dictionary.compress(PLAIN) + with_dictionary.flush()
    made = [zlib.compress(PLAIN), zlib.compress(PLAIN, 0), odd, zlib.compress(PLAIN) + b"behind"]
    return [*_sized(PLAIN, *made), *_sized(b"", zlib.compress(b""))]


def _lz4_seeds() -> list[bytes]:
    codec = numcodecs.LZ4()
    samples = (PLAIN, SMOOTH, bytes(3000), b"x", b"")
    return [_sized(data, _numcodecs(codec, data or b"x"))[0] for data in samples]


def _blosc_seeds() -> list[bytes]:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, 700, np.uint8).tobytes()
    made = [
        _sized(SMOOTH, _blosc(SMOOTH, cname, shuffle, typesize, block, 5))[0]
        for cname in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle, typesize, block in ((0, 1, 0), (1, 2, 0), (2, 2, 256), (1, 4, 300), (2, 17, 0))
    ]
    made += _sized(noise, _blosc(noise, "lz4", 1, 4, 0, 5), _blosc(noise, "zstd", 0, 1, 128, 0))
    made += _sized(noise, snappy_frame(noise))
    made += [struct.pack("<H", 500) + frame for frame in odd_zstd_inside().values()]
    return made + [struct.pack("<H", 64) + frame for frame in starts_in_header()[::4]]


TOKENS = (
    *(
        b"\x28\xb5\x2f\xfd",
        b"\x50\x2a\x4d\x18",
        b"\x1f\x8b\x08",
        b"\x78\x9c",
        b"\x78\xbb",
        b"\x01\0\0",
    ),
    *(b"\0\0\0\x80", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\2\1", b"\0\0", b"\xff\xff"),
)

TARGETS = (
    *(
        Target(f"frames-{name}", checker(name), seeds, inputs, TOKENS, longest=2_048)
        for name, seeds, inputs in (
            ("zstd", _zstd_seeds, 500),
            ("gzip", _gzip_seeds, 400),
            ("zlib", _zlib_seeds, 400),
            ("lz4", _lz4_seeds, 400),
            ("blosc", _blosc_seeds, 700),
        )
    ),
    Target("frames-snappy", check_snappy, lambda: [b"\xac\2\0", b"\x80" * 6], 1_000, longest=40),
)
