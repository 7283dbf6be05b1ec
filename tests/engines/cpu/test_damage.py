"""Damaged and hostile chunks: an error, never data, a crash or much memory."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import resource
import struct
import zlib
from typing import Any

import numcodecs
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.step_error import StepError
from gpuzarr.program import Decompress, HostOnly, VerifyChecksum
from tests.engines.cpu.programs import FORMATS, decoder_of, lzma_step

DATA = (np.arange(300, dtype="<u4") // 3 * 5).tobytes()
SHAPE = (300,)


def outcome(encoded: bytes, step: Any, shape: tuple[int, ...] = SHAPE) -> bytes | None:
    """What comes out, or None for an error; any other exception fails the test."""
    try:
        return decoder_of("<u4", shape, step).decode(memoryview(encoded)).tobytes()
    except StepError:
        return None


@pytest.mark.parametrize("name", FORMATS)
def test_truncation_at_every_point(name: str) -> None:
    form = FORMATS[name]
    encoded = form.encode(DATA)
    for length in range(len(encoded)):
        # What is cut off may not matter (the end mark of a raw LZMA stream), but data that come
        # out must be right.
        assert outcome(encoded[:length], form.step) in (None, DATA)
    if name not in ("lzma raw", "lzma alone"):
        assert outcome(encoded[:-1], form.step) is None
    assert outcome(encoded, form.step) == DATA


@pytest.mark.parametrize("name", FORMATS)
def test_flipped_bits(name: str) -> None:
    form = FORMATS[name]
    encoded = form.encode(DATA)
    for place in range(len(encoded)):
        for bit in (0, 3, 7):
            damaged = bytearray(encoded)
            damaged[place] ^= 1 << bit
            found = outcome(bytes(damaged), form.step)
            if form.checksum:
                # Some bits of the headers mean nothing (gzip's time stamp).
                assert found in (None, DATA)
            else:
                assert found is None or len(found) == len(DATA)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [0, 1, 299, 301, 10_000])
def test_wrong_sizes(name: str, count: int) -> None:
    form = FORMATS[name]
    assert outcome(form.encode(DATA), form.step, (count,)) is None


@pytest.mark.parametrize("name", FORMATS)
@given(rubbish=st.binary(max_size=64))
def test_rubbish(name: str, rubbish: bytes) -> None:
    form = FORMATS[name]
    found = outcome(rubbish, form.step)
    assert found is None or len(found) == len(DATA)


def test_checksums_are_told_apart_from_other_damage() -> None:
    for algorithm, codec in (("crc32c", numcodecs.CRC32C()), ("crc32", numcodecs.CRC32())):
        encoded = bytearray(codec.encode(np.frombuffer(DATA, "u1")))
        encoded[100] ^= 1
        step = VerifyChecksum(algorithm, codec.location)  # type: ignore[arg-type]
        with pytest.raises(StepError) as caught:
            decoder_of("<u4", SHAPE, step).decode(memoryview(encoded))
        assert caught.value.checksum
        assert caught.value.step == f"verify {algorithm}"
        with pytest.raises(StepError) as caught:
            decoder_of("<u4", SHAPE, step).decode(memoryview(encoded)[:50])
        assert not caught.value.checksum


BOMB = bytes(1 << 26)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("step", "encode"),
    [
        (Decompress("zstd"), zstandard.ZstdCompressor().compress),
        (Decompress("zstd"), zstandard.ZstdCompressor(write_content_size=False).compress),
        (Decompress("gzip"), gzip.compress),
        (Decompress("zlib"), zlib.compress),
        (Decompress("bz2"), bz2.compress),
        (lzma_step(format=1), lzma.compress),
        (Decompress("lz4"), numcodecs.LZ4().encode),
        (Decompress("blosc"), numcodecs.Blosc().encode),
    ],
)
def test_bombs_stop_early(step: Decompress, encode: Any, known: bool) -> None:  # noqa: FBT001
    encoded = memoryview(bytes(encode(BOMB)))
    steps = (step,) if known else (step, Decompress("zstd"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StepError):
        decoder_of("u1", (1000,), *steps).decode(encoded)
    # In KiB; what was decompressed before it stopped is the most that may stay.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10


def test_bombs_of_bombs_behind_objects() -> None:
    inner = gzip.compress(bytes(1 << 28), 9)
    decoder = decoder_of(object, (3,), Decompress("gzip"), HostOnly("vlen-utf8", decoded="|O"))
    with pytest.raises(StepError):
        decoder.decode(memoryview(inner))


def header(**fields: int) -> bytes:
    values = {
        "version": 2,
        "inner": 1,
        "flags": 0x31,
        "itemsize": 4,
        "nbytes": 1200,
        "block": 1200,
        "stored": 64,
    } | fields
    return struct.pack("<BBBBiii", *values.values())


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 3},
        {"flags": 0x39},
        {"flags": 0xE1},
        {"flags": 0x51},
        {"itemsize": 0},
        {"nbytes": -1},
        {"nbytes": 0},
        {"nbytes": 2**31 - 1},
        {"block": 0},
        {"block": -1},
        {"block": 1201},
        {"block": 1},
        {"stored": 0},
        {"stored": -1},
        {"stored": 15},
        {"stored": 65},
        {"stored": 2**31 - 1},
        {"flags": 0x33},
    ],
)
def test_lying_blosc_headers(fields: dict[str, int]) -> None:
    assert outcome(header(**fields) + bytes(48), Decompress("blosc")) is None


@pytest.mark.parametrize("start", [-(2**31), -4, 0, 15, 16, 19, 60, 61, 64, 2**31 - 1])
@pytest.mark.parametrize("length", [-(2**31), -1, 0, 1, 44, 1200, 2**31 - 1])
def test_lying_blosc_blocks(start: int, length: int) -> None:
    frame = header() + struct.pack("<ii", start, length) + bytes(40)
    assert outcome(frame, Decompress("blosc")) is None


def test_blosc_blocks_that_do_not_divide_leave_no_bytes_unwritten() -> None:
    codec = numcodecs.Blosc("lz4", shuffle=1, blocksize=1 << 12, typesize=8)
    encoded = bytearray(codec.encode(np.arange(2048, dtype="<f8")))
    struct.pack_into("<i", encoded, 8, (1 << 12) + 4)
    assert outcome(bytes(encoded), Decompress("blosc"), (4096,)) is None


@pytest.mark.parametrize("size", [0, 1, 1199, 1201, 2**31 - 1, 2**31, 2**32 - 1])
def test_lying_lz4_sizes(size: int) -> None:
    encoded = bytearray(numcodecs.LZ4().encode(DATA))
    struct.pack_into("<I", encoded, 0, size)
    assert outcome(bytes(encoded), Decompress("lz4")) is None


def test_zstd_sizes_and_windows_that_would_take_all_memory() -> None:
    huge = struct.pack("<IBQ", 0xFD2FB528, 0xE0, 2**60) + b"\x01\x00\x00"
    window = struct.pack("<IBB", 0xFD2FB528, 0x00, 0xFF) + b"\x01\x00\x00"
    for encoded in (huge, window):
        for steps in ((Decompress("zstd"),), (Decompress("zstd"), Decompress("gzip"))):
            with pytest.raises(StepError):
                decoder_of("<u4", SHAPE, *steps).decode(memoryview(encoded))


def vlen(count: int, *lengths: int, tail: bytes = b"") -> bytes:
    return struct.pack(f"<{1 + len(lengths)}I", count, *lengths) + tail


@pytest.mark.parametrize("codec", ["vlen-utf8", "vlen-bytes", "numcodecs.vlen-array"])
@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x02",
        vlen(0),
        vlen(2),
        vlen(2, 0),
        vlen(3, 0, 0, 0),
        vlen(2**32 - 1, 0, 0),
        vlen(2, 0, 1),
        vlen(2, 0, 2**32 - 1),
        vlen(2, 2**31, 0),
        vlen(2, 2**32 - 4, 0, tail=bytes(100)),
        vlen(2, 5, tail=b"abcd"),
    ],
)
def test_lying_counts_and_lengths(codec: str, encoded: bytes) -> None:
    step = HostOnly(codec, '{"dtype":"<i4"}', "|O")
    with pytest.raises(StepError):
        decoder_of(object, (2,), step).decode(memoryview(encoded))


def test_text_that_is_none() -> None:
    step = HostOnly("vlen-utf8", decoded="|O")
    with pytest.raises(StepError):
        decoder_of(object, (1,), step).decode(memoryview(vlen(1, 2, tail=b"\xff\xfe")))


JSON_CASES: list[Any] = [
    None,
    [],
    {},
    5,
    ["|O", [2]],
    ["a", "|O", [2]],
    ["a", "b", "c", "|O", [2]],
    ["a", "b", "|O", [2**62]],
    ["a", "b", "|O", [-1]],
    ["a", "b", "|O", 2],
    ["a", "b", 5, [2]],
    ["a", "b", "nonsense", [2]],
    ["a", "b", "|O", ["x"]],
    ["a", "b", "|O", [1, 2]],
    [["a", "b"], 7, "|O", [2, 1]],
]


@pytest.mark.parametrize("items", JSON_CASES)
def test_lying_json(items: Any) -> None:
    step = HostOnly("numcodecs.json2", decoded="|O")
    with pytest.raises(StepError):
        decoder_of(object, (2,), step).decode(memoryview(json.dumps(items).encode()))


@pytest.mark.parametrize("text", [b"", b"[", b"\xff", b"[" * 100_000, b"nan"])
def test_what_is_no_json(text: bytes) -> None:
    step = HostOnly("numcodecs.json2", decoded="|O")
    with pytest.raises(StepError):
        decoder_of(object, (2,), step).decode(memoryview(text))


@pytest.mark.parametrize("items", [*JSON_CASES, b"\x00"])
def test_lying_msgpack(items: Any) -> None:
    msgpack = pytest.importorskip("msgpack")
    step = HostOnly("numcodecs.msgpack2", decoded="|O")
    for encoded in (msgpack.packb(items), msgpack.packb(items)[:-1], b"\xdd\xff\xff\xff\xff"):
        with pytest.raises(StepError):
            decoder_of(object, (2,), step).decode(memoryview(encoded))
