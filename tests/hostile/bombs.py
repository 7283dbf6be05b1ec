"""Streams of a few KiB that would decode to gigabytes, and headers that promise them."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from typing import TYPE_CHECKING, Any

from tests.hostile.inputs import Hostile, Tools, changed, kind
from tests.hostile.payloads import pick

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.hostile.bases import Base

FORMATS = ("gzip", "zlib", "zstd", "bz2", "lzma", "lz4", "blosc")
MIB = 1 << 20


def gzip_of(data: bytes) -> bytes:
    stream = zlib.compressobj(9, wbits=31)
    return stream.compress(data) + stream.flush()


def zstd_frame(blocks: int, size: int | None, *, checksum: bool = False) -> bytes:
    """A frame of blocks that each repeat one byte 128 KiB long, and what it says of its size."""
    if size is None:
        head = struct.pack("<IBB", 0xFD2FB528, 0x04 * checksum, 0x68)
    else:
        head = struct.pack("<IBBQ", 0xFD2FB528, 0xC0 | 0x04 * checksum, 0x68, size)
    block = (1 << 17) << 3 | 1 << 1
    body = [
        (block | (number == blocks - 1)).to_bytes(3, "little") + b"z" for number in range(blocks)
    ]
    return head + b"".join(body) + b"\0\0\0\0" * checksum


def lz4_block(size: int, length: int) -> bytes:
    """numcodecs' size, and a block whose one match is as long."""
    more, rest = divmod(length - 4 - 15, 255)
    block = b"\x1fa\x01\x00" + b"\xff" * more + bytes([rest]) + b"\x50zzzzz"
    return struct.pack("<I", size & 0xFFFFFFFF) + block


def blosc_frame(nbytes: int, block: int, typesize: int, flags: int, inner: bytes) -> bytes:
    blocks = min(-(-nbytes // max(block, 1)), 1000)
    starts = b"".join(struct.pack("<i", 16 + 4 * blocks) for _ in range(blocks))
    body = starts + struct.pack("<i", len(inner)) + inner
    return struct.pack("<BBBBiii", 2, 1, flags, typesize, nbytes, block, 16 + len(body)) + body


def bombs(name: str) -> list[bytes]:
    """Streams of a format."""
    zeros = bytes(4 * MIB)
    match name:
        case "gzip":
            one = gzip_of(zeros)
            return [gzip_of(bytes(16 * MIB)), one * 200, gzip_of(one * 300), one[:-8] + one[:8] * 9]
        case "zlib":
            return [zlib.compress(bytes(16 * MIB), 9), zlib.compress(zlib.compress(zeros) * 200)]
        case "zstd":
            frame = zstd_frame(4000, None)
            lies = [1 << 20, 1 << 31, 1 << 40, (1 << 64) - 1]
            return [frame, frame * 4, *(zstd_frame(40, size, checksum=True) for size in lies)]
        case "bz2":
            return [bz2.compress(zeros) * 200, bz2.compress(bz2.compress(zeros) * 500)]
        case "lzma":
            alone = b"\x5d" + struct.pack("<Iq", 0xFFFFFFFF, -1) + bytes(40)
            return [lzma.compress(zeros) * 200, alone, lzma.compress(zeros, lzma.FORMAT_ALONE)]
        case "lz4":
            return [lz4_block(size, 16 * MIB) for size in (16 * MIB, 1 << 30, (1 << 31) - 1, 0)]
        case _:
            inner = lz4_block(0, 16 * MIB)[4:]
            sizes = [16 * MIB, 1 << 30, (1 << 31) - 1]
            frames = [blosc_frame(n, n, 1, 0x30, inner) for n in sizes]
            return [*frames, *(blosc_frame(n, 256, 1, 0x30, inner) for n in sizes)]


@kind("decompression bombs", 3, "refused, in little memory")
def bomb(chance: Random, tools: Tools) -> Hostile:
    """In the place of a chunk that is compressed in this way."""
    name = chance.choice(FORMATS)
    stream = chance.choice(tools.once(("bombs", name), lambda: bombs(name)))
    base, key, data = pick(chance, tools, tools.bases_where(f"{name} outside", _outermost(name)))
    how = "in its place"
    if chance.random() < 0.3:
        how, stream = "behind it", data + stream
    elif chance.random() < 0.2:
        how, stream = "cut", stream[: chance.randrange(len(stream))]
    what = f"{base.name}, {key}: {len(stream)} bytes of {name} {how}, that would be very many"
    store = changed(base, {key: stream})
    promise: Any = "refuse" if how == "in its place" else "any"
    return Hostile(what, store, base, frozenset([key]), promise=promise)


def _outermost(name: str) -> Callable[[Base], bool]:
    """Whether the last codec of a chain is this compressor."""
    return lambda base: (
        base.codecs[-1]["name"] in (name, f"numcodecs.{name}")
        and any(map(base.values.get, base.objects))
    )


@kind("bombs in text", 1, "refused, in little memory")
def bomb_of_text(chance: Random, tools: Tools) -> Hostile:
    """Compressed text and objects, whose decoded size nobody knows beforehand."""
    objects = {"vlen-utf8", "vlen-bytes", "numcodecs.json2", "numcodecs.msgpack2"}
    objects |= {f"numcodecs.{name}" for name in ("vlen-utf8", "vlen-bytes", "vlen-array")}
    places = [
        (name, base)
        for name in FORMATS
        for base in tools.bases_where(f"{name} outside", _outermost(name))
        if base.names & objects
    ]
    name, base = chance.choice(places)
    stream = chance.choice(tools.once(("bombs", name), lambda: bombs(name)))
    key = chance.choice([key for key in base.objects if base.values[key]])
    what = f"{base.name}, {key}: {len(stream)} bytes of {name} that would be very many"
    return Hostile(what, changed(base, {key: stream}), base, frozenset([key]), promise="refuse")
