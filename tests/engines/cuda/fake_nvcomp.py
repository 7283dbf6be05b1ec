"""nvCOMP's batched calls over host memory, with CPU libraries, and with nvCOMP's rules.

It decodes what nvCOMP decodes, refuses what it refuses, and checks as little: checksums inside
frames are not verified, and of several gzip members the first is decoded. A call that breaks a rule
(alignment, too little temporary memory, outputs over one another) fails the test.
"""

from __future__ import annotations

import ctypes
import struct
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import google_crc32c
import numcodecs.lz4
import numpy as np
import zstandard

from gpuzarr.engines.cuda.device import Alignment

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Streams

FORMATS = ("zstd", "lz4", "snappy", "deflate", "gzip")
CHECKSUMS = ("crc32", "crc32c")
ALIGNMENTS = {"deflate": Alignment(4, 1, 1), "zstd": Alignment(1, 1, 8)}
CANNOT_DECOMPRESS = 12
LEFTOVERS = 0x66
"""What outputs of streams that cannot be decoded are full of."""
BLOCK_NBYTES = 6936
"""Temporary memory of a zstd block, beside three times the output."""


Column = np.ndarray[Any, np.dtype[np.int64]]


class DecodeFailedError(Exception):
    """A stream that nvCOMP refuses."""


def memory(address: int, nbytes: int) -> NDArray[np.uint8]:
    """A view of host memory."""
    if not nbytes:
        return np.zeros(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * int(nbytes)).from_address(int(address)))


def decode_snappy(stream: bytes) -> bytes:  # noqa: C901  one branch for each kind of tag
    """A raw Snappy stream: a varint, then literals and copies."""
    size = shift = at = 0
    while True:
        size |= (stream[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if stream[at - 1] < 0x80:
            break
    out = bytearray()
    while at < len(stream):
        tag = stream[at]
        at += 1
        if tag & 3 == 0:
            length = (tag >> 2) + 1
            if length > 60:
                extra = length - 60
                length = int.from_bytes(stream[at : at + extra], "little") + 1
                at += extra
            if at + length > len(stream):
                raise DecodeFailedError
            out += stream[at : at + length]
            at += length
            continue
        if tag & 3 == 1:
            length, extra = (tag >> 2 & 7) + 4, 1
            distance = (tag >> 5 << 8) | stream[at]
        else:
            length, extra = (tag >> 2) + 1, 2 if tag & 3 == 2 else 4
            distance = int.from_bytes(stream[at : at + extra], "little")
        at += extra
        if not 0 < distance <= len(out):
            raise DecodeFailedError
        for _ in range(length):
            out.append(out[-distance])
    if len(out) != size:
        raise DecodeFailedError
    return bytes(out)


def _decode_zstd(stream: bytes, capacity: int) -> bytes:
    """One frame; the checksum at its end is not verified."""
    size = zstandard.frame_content_size(stream)
    if not 0 <= size <= capacity:
        raise DecodeFailedError
    if stream[4] & 4:
        stream = stream[:4] + bytes([stream[4] & ~4]) + stream[5:-4]
    return zstandard.ZstdDecompressor().decompress(stream, max_output_size=max(size, 1))


def _decode_lz4(stream: bytes, capacity: int) -> bytes:
    """A block; the library must know its size, which is most often all that there is room for."""

    def decompress(size: int) -> bytes:
        return bytes(numcodecs.lz4.decompress(struct.pack("<i", size) + stream))

    if stream == b"\0":  # the only one of nothing, which the library does not know
        return b""
    try:
        return decompress(capacity)
    except RuntimeError:
        size = lz4_nbytes(stream)
        if size >= capacity:
            raise
        return decompress(size)


def lz4_nbytes(block: bytes) -> int:
    """Bytes that come out of an LZ4 block, by its lengths."""
    size = at = 0

    def length(start: int) -> int:
        nonlocal at
        total = start
        while start == 15:
            total, at = total + block[at], at + 1
            if block[at - 1] < 255:
                break
        return total

    while True:
        token, at = block[at], at + 1
        literals = length(token >> 4)
        size, at = size + literals, at + literals
        if at >= len(block):
            return size
        at += 2
        size += length(token & 15) + 4


def _decode_deflate(stream: bytes, capacity: int) -> bytes:
    """A raw stream; what follows it does not matter."""
    decompressor = zlib.decompressobj(-15)
    out = decompressor.decompress(stream, capacity + 1)
    if not decompressor.eof:
        raise DecodeFailedError
    return out


def _decode_gzip(stream: bytes, capacity: int) -> bytes:
    """The first member, without its CRC."""
    if stream[:3] != b"\x1f\x8b\x08":
        raise DecodeFailedError
    flags, at = stream[3], 10
    if flags & 4:
        at += 2 + int.from_bytes(stream[at : at + 2], "little")
    for flag in (8, 16):  # the name, and the comment
        if flags & flag:
            at = stream.index(b"\0", at) + 1
    return _decode_deflate(stream[at + (flags & 2) :], capacity)


def decode(name: str, stream: bytes, capacity: int) -> bytes:
    """What comes out of a stream.

    Raises:
        Exception: whatever a library has to say of a damaged stream, or of one that is too long.
    """
    decoders: dict[str, Callable[[bytes, int], bytes]] = {
        "zstd": _decode_zstd,
        "lz4": _decode_lz4,
        "deflate": _decode_deflate,
        "gzip": _decode_gzip,
        "snappy": lambda stream, _: decode_snappy(stream),
    }
    out = decoders[name](stream, capacity)
    if len(out) > capacity:
        raise DecodeFailedError
    return out


def assert_apart(begin: Column, nbytes: Column, outputs: Column, room: Column) -> None:
    """Memory that is read or scratched lies beside all outputs, which lie beside one another."""
    used = room > 0
    order = np.argsort(outputs[used])
    starts = outputs[used][order]
    ends = starts + room[used][order]
    assert (starts[1:] >= ends[:-1]).all(), "outputs lie over one another"
    before = np.searchsorted(starts, begin + nbytes) - 1
    known = (before >= 0) & (nbytes > 0)
    assert (ends[before[known]] <= begin[known]).all(), "outputs lie over what is used beside them"


class FakeNvcomp:
    """See `gpuzarr.engines.cuda.device.Decompressor`."""

    version = "fake nvCOMP"

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.streams: Counter[str] = Counter()

    def unsupported(self, format: str) -> str | None:  # noqa: A002
        return None if format in FORMATS + CHECKSUMS else f"{format} is not known"

    def alignment(self, format: str) -> Alignment:  # noqa: A002
        return ALIGNMENTS.get(format, Alignment(1, 1, 1))

    def temp_nbytes(self, format: str, count: int, most: int, total: int) -> int:  # noqa: A002
        assert 0 <= most <= total
        return 3 * total + BLOCK_NBYTES * max(count, -(-total >> 17)) if format == "zstd" else 0

    def decompress(
        self,
        format: str,  # noqa: A002
        streams: Streams,
        *,
        most: int,
        temp: int,
        temp_nbytes: int,
        stream: Any,
    ) -> None:
        del stream
        self.calls[format] += 1
        self.streams[format] += streams.count
        source, nbytes, target, capacity = (
            memory(address, 8 * streams.count).view(np.int64)
            for address in (streams.source, streams.nbytes, streams.target, streams.capacity)
        )
        actual = memory(streams.actual, 8 * streams.count).view(np.int64)
        status = memory(streams.status, 4 * streams.count).view(np.int32)
        rules = self.alignment(format)
        assert not (source % rules.input).any(), f"{format} input is not aligned"
        assert not (target % rules.output).any(), f"{format} output is not aligned"
        total = int(capacity.sum())
        assert most == capacity.max(initial=0), "`most` is not the largest output"
        assert_apart(source, nbytes, target, capacity)
        assert_apart(np.array([temp]), np.array([temp_nbytes]), target, capacity)
        apart = (source + nbytes <= temp) | (source >= temp + temp_nbytes)
        assert apart.all(), "temporary memory lies over streams"
        if format == "zstd":
            blocks = sum(count_blocks(bytes(memory(*s))) for s in zip(source, nbytes, strict=True))
            assert temp % rules.temp == 0, "temporary memory is not aligned"
            needed = self.temp_nbytes(format, max(streams.count, blocks), most, total)
            assert temp_nbytes >= needed, "there is too little temporary memory"
            memory(temp, temp_nbytes)[:] = 0x77
        for i in range(streams.count):
            try:
                out = decode(format, bytes(memory(source[i], nbytes[i])), int(capacity[i]))
            except Exception:  # noqa: BLE001  each library has errors of its own
                status[i], actual[i] = CANNOT_DECOMPRESS, 0
                memory(target[i], capacity[i])[:] = LEFTOVERS
                continue
            memory(target[i], len(out))[:] = np.frombuffer(out, np.uint8)
            status[i], actual[i] = 0, len(out)

    def checksum(
        self,
        algorithm: str,
        *,
        source: int,
        nbytes: int,
        count: int,
        most: int,
        value: int,
        stream: Any,
    ) -> None:
        del stream
        self.calls[algorithm] += 1
        where = memory(source, 8 * count).view(np.int64)
        sizes = memory(nbytes, 8 * count).view(np.int64)
        assert most == sizes.max()
        values = memory(value, 4 * count).view(np.uint32)
        compute = zlib.crc32 if algorithm == "crc32" else google_crc32c.value
        for i in range(count):
            values[i] = compute(bytes(memory(where[i], sizes[i])))


def count_blocks(frame: bytes) -> int:
    """Blocks of a zstd frame, as far as it goes."""
    if frame[:4] != zstandard.FRAME_HEADER or len(frame) < 5:
        return 1
    single, sized = frame[4] >> 5 & 1, frame[4] >> 6
    at = 5 + (not single) + (0, 1, 2, 4)[frame[4] & 3] + (single, 2, 4, 8)[sized]
    blocks, last = 0, False
    while not last and at < len(frame):
        header = int.from_bytes(frame[at : at + 3], "little")
        last = bool(header & 1)
        at += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
        blocks += 1
    return blocks
