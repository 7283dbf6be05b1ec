"""The fake nvCOMP: it decodes as CPU libraries do, and fails tests that break nvCOMP's rules."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zstandard

from gpuzarr.engines.cuda.device import Streams
from tests.engines.cuda.fake_nvcomp import CHECKSUMS, FORMATS, FakeNvcomp, decode_snappy, memory

if TYPE_CHECKING:
    from collections.abc import Sequence

PATTERN = 0xA5
DATA = np.repeat(np.arange(999, dtype="<u4"), 3).tobytes() + bytes(5000)


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def varint(size: int) -> bytes:
    return (bytes([size & 127 | 128]) + varint(size >> 7)) if size > 127 else bytes([size])


def snappy(data: bytes) -> bytes:
    return varint(len(data)) + b"".join(
        b"\xf4" + struct.pack("<H", len(part) - 1) + part
        for part in (data[at : at + 60000] for at in range(0, len(data), 60000))
    )


ENCODERS = {
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "lz4": lambda data: bytes(numcodecs.LZ4().encode(data))[4:],
    "deflate": deflated,
    "gzip": gzip.compress,
    "snappy": snappy,
}


class Call:
    """A call whose memory is ours, laid out by nvCOMP's rules unless told otherwise."""

    def __init__(self, encoded: Sequence[bytes], capacity: Sequence[int]) -> None:
        n = len(encoded)
        self.fake = FakeNvcomp()
        self.nbytes = np.array([len(stream) for stream in encoded], np.int64)
        self.capacity = np.array(capacity, np.int64)
        # 4096 bytes for each thing, so that tests can move it.
        self.memory = np.full(sum(map(len, encoded)) + int(sum(capacity)) + 8192 * n, PATTERN, "u1")
        at = self.memory.ctypes.data
        self.source, self.target = np.zeros((2, n), np.int64)
        for i, stream in enumerate(encoded):
            self.source[i] = at = -(-at // 64) * 64
            memory(at, len(stream))[:] = np.frombuffer(stream, np.uint8)
            at += len(stream) + 64
        for i, room in enumerate(capacity):
            self.target[i] = at
            at += room + 64
        self.actual, self.status = np.full(n, 77, np.int64), np.full(n, 77, np.int32)
        self.most, self.total = int(self.capacity.max()), int(self.capacity.sum())
        self.temp_memory = np.zeros(4 * self.total + 8000 * n + 800_000, np.uint8)
        self.temp = -(-self.temp_memory.ctypes.data // 64) * 64
        self.temp_nbytes: int | None = None

    def run(self, name: str) -> list[bytes | None]:
        """What came out of each stream; None where it could not be decoded."""
        columns = (self.source, self.nbytes, self.target, self.capacity, self.actual, self.status)
        addresses = [column.ctypes.data for column in columns]
        blocks = 100 if name == "zstd" else len(self.source)
        needed = self.fake.temp_nbytes(name, blocks, self.most, self.total)
        self.fake.decompress(
            name,
            Streams(len(self.source), *addresses),
            most=self.most,
            temp=self.temp,
            temp_nbytes=needed if self.temp_nbytes is None else self.temp_nbytes,
            stream=None,
        )
        for target, room in zip(self.target, self.capacity, strict=True):
            assert (memory(target + room, 64) == PATTERN).all(), "nothing is written behind outputs"
        return [
            None if status else memory(target, int(actual)).tobytes()
            for target, actual, status in zip(self.target, self.actual, self.status, strict=True)
        ]


@pytest.mark.parametrize("name", FORMATS)
def test_streams_are_decoded(name: str) -> None:
    parts = [DATA, b"x", DATA[:777], bytes(100_000)]
    call = Call([ENCODERS[name](part) for part in parts], list(map(len, parts)))
    assert call.run(name) == parts
    assert call.actual.tolist() == list(map(len, parts))
    assert (call.fake.calls[name], call.fake.streams[name]) == (1, 4)


@pytest.mark.parametrize("name", FORMATS)
def test_outputs_that_are_too_large_say_what_came(name: str) -> None:
    call = Call([ENCODERS[name](DATA)] * 2, [len(DATA) + 1, len(DATA) + 5000])
    assert call.run(name) == [DATA] * 2


@pytest.mark.parametrize("name", FORMATS)
def test_outputs_that_are_too_small_fail(name: str) -> None:
    call = Call([ENCODERS[name](DATA)] * 3, [len(DATA) - 1, len(DATA), 0])
    assert call.run(name) == [None, DATA, None]
    assert call.status.tolist() == [12, 0, 12]


@pytest.mark.parametrize("name", FORMATS)
def test_streams_that_are_cut_or_of_something_else_fail(name: str) -> None:
    encoded = ENCODERS[name](DATA)
    cut = encoded[: len(encoded) // 2]
    call = Call([cut, b"\xff\x00\xff\xff" * 9, b"", encoded], [len(DATA)] * 4)
    assert call.run(name) == [None, None, None, DATA]


def test_checksums_inside_streams_are_not_verified() -> None:
    frame, member = ENCODERS["zstd"](DATA), gzip.compress(DATA)
    wrong_frame = frame[:-4] + bytes(4)
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().decompress(wrong_frame)
    assert Call([wrong_frame], [len(DATA)]).run("zstd") == [DATA]
    assert Call([member[:-8] + bytes(8)], [len(DATA)]).run("gzip") == [DATA]
    assert Call([deflated(DATA) + b"abcd"], [len(DATA)]).run("deflate") == [DATA]


def test_the_first_of_several_members_is_decoded() -> None:
    call = Call([gzip.compress(DATA[:99]) + gzip.compress(DATA[99:])], [len(DATA)])
    assert call.run("gzip") == [DATA[:99]]


def test_gzip_headers_with_all_that_they_may_hold() -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile("named", "wb", fileobj=buffer, mtime=0) as file:
        file.write(DATA)
    assert Call([buffer.getvalue()], [len(DATA)]).run("gzip") == [DATA]
    header = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\3\0abc" + b"name\0" + b"comment\0" + b"hc"
    assert Call([header + deflated(DATA) + bytes(8)], [len(DATA)]).run("gzip") == [DATA]


def test_snappy_tags() -> None:
    long = bytes(range(256)) * 300
    for stream, expected in (
        (b"\x03\x08abc", b"abc"),
        (b"\x0b\x08abc\x11\x03", b"abcabcabcab"[:11]),  # 8 bytes at distance 3, one byte
        (b"\x09\x00a\x1e\x01\x00", b"a" * 9),  # 8 bytes at distance 1, two bytes
        (b"\x06\x08abc\x0b\x03\x00\x00\x00", b"abcabc"),  # 3 bytes at distance 3, four bytes
        (b"\x3d\xf0\x3c" + long[:61], long[:61]),
        (varint(len(long)) + b"\xf8" + struct.pack("<I", len(long) - 1)[:3] + long, long),
    ):
        assert decode_snappy(stream) == expected
    for wrong in (b"\x04\x08abc", b"\x03\x08ab", b"\x08\x08abc\x05\x04", b"\x08\x08abc\x05\x00"):
        with pytest.raises(Exception):  # noqa: B017, PT011  whichever: it is a status then
            decode_snappy(wrong)


def broken_calls() -> dict[str, tuple[str, Any, str]]:
    """Calls that break a rule: the format, what breaks it, and what is said of it."""

    def too_little(call: Call) -> None:
        call.temp_nbytes = call.fake.temp_nbytes("zstd", 2, call.most, call.total) - 1

    def over_outputs(call: Call) -> None:
        call.temp = int(call.target[0]) // 8 * 8

    def over_streams(call: Call) -> None:
        call.temp = int(call.source[1]) // 8 * 8 - 8
        call.target += 10_000_000

    return {
        "input": ("deflate", lambda call: call.source.__iadd__(2), "input is not aligned"),
        "temp": (
            "zstd",
            lambda call: setattr(call, "temp", call.temp + 4),
            "memory is not aligned",
        ),
        "little temp": ("zstd", too_little, "too little"),
        "temp over outputs": ("zstd", over_outputs, "outputs lie over what is used"),
        "temp over streams": ("zstd", over_streams, "lies over streams"),
        "outputs": ("lz4", lambda c: c.target.put(1, c.target[0] + 9), "lie over one another"),
        "in place": ("lz4", lambda c: c.target.put(0, c.source[0] - 5), "over what is used"),
        "most": ("lz4", lambda call: setattr(call, "most", call.most - 1), "`most`"),
    }


@pytest.mark.parametrize("rule", broken_calls())
def test_broken_rules_fail_the_test(rule: str) -> None:
    name, break_rule, told = broken_calls()[rule]
    call = Call([ENCODERS[name](DATA)] * 2, [len(DATA)] * 2)
    break_rule(call)
    with pytest.raises(AssertionError, match=told):
        call.run(name)


def test_memory_for_many_blocks_is_needed() -> None:
    """Frames of high levels have more blocks than their size tells."""
    data = np.random.default_rng(0).integers(0, 30, 1 << 20).astype("u1").tobytes()
    frame = zstandard.ZstdCompressor(level=19).compress(data)
    call = Call([frame], [len(data)])
    call.temp_nbytes = call.fake.temp_nbytes("zstd", 8, call.most, call.total) - 1
    with pytest.raises(AssertionError, match="too little temporary memory"):
        call.run("zstd")


def test_checksums_of_ranges() -> None:
    ranges = [b"123456789", b"", DATA]
    arrays = [np.frombuffer(data + b" ", np.uint8) for data in ranges]
    source = np.array([array.ctypes.data for array in arrays], np.int64)
    nbytes = np.array(list(map(len, ranges)), np.int64)
    value = np.zeros(3, np.uint32)
    fake = FakeNvcomp()
    for name, compute in (("crc32", zlib.crc32), ("crc32c", google_crc32c.value)):
        assert fake.unsupported(name) is None
        fake.checksum(
            name,
            source=source.ctypes.data,
            nbytes=nbytes.ctypes.data,
            count=3,
            most=len(DATA),
            value=value.ctypes.data,
            stream=None,
        )
        assert value.tolist() == [compute(data) for data in ranges]
    assert value[0] == 0xE3069283, "CRC-32C's check value"
    assert [fake.calls[name] for name in CHECKSUMS] == [1, 1]
    assert fake.unsupported("brotli") is not None
