"""Walks over frames: what they find decodes to the chunk, and damage stays harmless."""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import TYPE_CHECKING

import numcodecs
import numcodecs.blosc
import numpy as np
import pytest
import zstandard

from gpuzarr.engines.cuda.frames.snappy import snappy_sizes
from gpuzarr.engines.cuda.frames.streams import EncodedChunks
from gpuzarr.engines.cuda.frames.walk import walk_frames
from tests.engines.cuda.frames.rebuild import check_promises, host_decodes, rebuild, walk

if TYPE_CHECKING:
    from collections.abc import Callable

RNG = np.random.default_rng(11)


def sample(nbytes: int, kind: int) -> bytes:
    """Smooth numbers, noise, zeros, or text-like bytes."""
    if kind == 0:
        return np.cumsum(RNG.normal(size=nbytes // 4 + 1)).astype("<f4").tobytes()[:nbytes]
    if kind == 1:
        return RNG.bytes(nbytes)
    if kind == 2:
        return bytes(nbytes)
    return bytes(RNG.integers(97, 105, nbytes, np.uint8))


def zstd(data: bytes, **settings: object) -> bytes:
    level = int(RNG.choice([1, 3, 9, 19]))
    return zstandard.ZstdCompressor(level=level, **settings).compress(data)  # type: ignore[arg-type]


def lz4(data: bytes) -> bytes:
    return bytes(numcodecs.LZ4().encode(np.frombuffer(data, np.uint8)))


def blosc(data: bytes) -> bytes:
    """Any frame that c-blosc makes."""
    codec = RNG.choice(["blosclz", "lz4", "lz4hc", "zlib", "zstd"])
    typesize = int(RNG.choice([1, 2, 3, 4, 8, 12, 16, 17, 255]))
    block = int(RNG.choice([0, 0, 0, 256, 1000, 4096, 40_000]))
    level, shuffle = int(RNG.integers(0, 10)), int(RNG.integers(0, 3))
    values = np.frombuffer(data, np.uint8)
    return bytes(
        numcodecs.blosc.compress(values, codec.encode(), level, shuffle, block, typesize=typesize)
    )


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zlib": zlib.compress,
    "lz4": lz4,
    "blosc": blosc,
}


@pytest.mark.parametrize("name", ENCODERS)
def test_streams_decode_to_the_chunk(name: str) -> None:
    for _ in range(6):
        sizes = [int(2 ** RNG.uniform(3, 17)) for _ in range(40)]
        originals = [sample(size, int(RNG.integers(0, 4))) for size in sizes]
        chunks, frames = walk(name, [ENCODERS[name](data) for data in originals], sizes)
        assert not frames.failures
        for row, data in enumerate(originals):
            if row not in frames.host:
                assert rebuild(chunks, frames, row) == data
        assert len(frames.host) < len(sizes) // 4, frames.host


@pytest.mark.parametrize("name", ENCODERS)
def test_damage_is_found_or_harmless(name: str) -> None:
    """What a walk calls damaged the host finds damaged, too; the rest keeps the promises."""
    encoded, sizes = [], []
    for _ in range(600):
        data = sample(int(2 ** RNG.uniform(3, 12)), int(RNG.integers(0, 4)))
        frame = bytearray(ENCODERS[name](data))
        kind = int(RNG.integers(0, 4))
        if kind == 0:
            frame = frame[: int(RNG.integers(0, len(frame)))]
        elif kind == 1:
            frame[int(RNG.integers(0, min(len(frame), 40)))] ^= 1 << int(RNG.integers(0, 8))
        elif kind == 2:
            frame[int(RNG.integers(0, len(frame)))] = int(RNG.integers(0, 256))
        encoded.append(bytes(frame))
        sizes.append(len(data) + (int(RNG.integers(-2, 3)) if kind == 3 else 0))
    _, frames = walk(name, encoded, sizes)
    for row in frames.failures:
        assert host_decodes(name, encoded[row], sizes[row]) is None, frames.failures[row]


@pytest.mark.parametrize("name", ENCODERS)
def test_truncation_anywhere(name: str) -> None:
    data = sample(3000, 0)
    frame = ENCODERS[name](data)
    encoded = [frame[:end] for end in range(len(frame))]
    _, frames = walk(name, encoded, [len(data)] * len(encoded))
    for row in frames.failures:
        assert host_decodes(name, encoded[row], len(data)) is None
    if name in {"zstd", "blosc"}:  # these say how long they are
        assert len(frames.failures) == len(encoded)


@pytest.mark.parametrize("name", ENCODERS)
def test_noise_is_no_frame(name: str) -> None:
    encoded = [RNG.bytes(int(RNG.integers(0, 200))) for _ in range(300)]
    encoded += [ENCODERS[name](b"x" * 100)[:20] + RNG.bytes(100) for _ in range(100)]
    _, frames = walk(name, encoded, [100] * len(encoded))
    for row in frames.failures:
        assert host_decodes(name, encoded[row], 100) is None


@pytest.mark.parametrize("name", ENCODERS)
def test_another_size_than_the_metadata_promise(name: str) -> None:
    frame = ENCODERS[name](bytes(range(200)))
    _, frames = walk(name, [frame, frame], [200, 201])
    assert not frames.failures.get(0)
    if name in {"zstd", "lz4", "blosc"}:
        assert frames.failures[1] == "200 bytes instead of 201"
    elif name == "gzip":
        assert 1 in frames.host


def test_zstd_frames_of_every_kind() -> None:
    data = sample(5000, 0)
    skippable = struct.pack("<II", 0x184D2A55, 5) + b"hello"
    dictionary = zstandard.ZstdCompressionDict(sample(3000, 3))
    with_dictionary = zstd(data, dict_data=dictionary)
    kinds = {
        "plain": zstd(data),
        "checksum": zstd(data, write_checksum=True),
        "two": zstd(data[:1000]) + zstd(data[1000:]),
        "skippable": skippable + zstd(data) + skippable,
        "no size": zstd(data, write_content_size=False),
        "empty and full": zstd(b"") + zstd(data),
        "dictionary": with_dictionary,
        "only skippable": skippable,
        "garbage behind": zstd(data) + b"abc",
    }
    chunks, frames = walk("zstd", list(kinds.values()), [len(data)] * len(kinds))
    names = list(kinds)
    assert {names[row] for row in frames.failures} == {"only skippable", "garbage behind"}
    hosted = {names[row] for row in frames.host}
    assert {"no size", "empty and full"} <= hosted
    assert hosted <= {"no size", "empty and full", "dictionary"}
    for row, name in enumerate(names):
        if name in {"plain", "checksum", "two", "skippable"}:
            assert rebuild(chunks, frames, row) == data
    table = frames.streams["zstd"]
    assert (table.chunk == names.index("two")).sum() == 2
    checked = table.check[table.chunk == names.index("checksum")]
    assert checked.tolist() == [int.from_bytes(kinds["checksum"][-4:], "little")]


def with_dictionary_zero(frame: bytes) -> bytes:
    """A frame of a single segment that names dictionary 0, which is none."""
    assert frame[4] & 0x23 == 0x20
    return frame[:4] + bytes([frame[4] | 1, 0]) + frame[5:]


def test_zstd_that_names_dictionary_zero_is_the_hosts() -> None:
    data = sample(500, 3)
    frame = with_dictionary_zero(zstd(data))
    _, frames = walk("zstd", [frame], [len(data)])
    assert frames.host == {0: "it names a dictionary"}
    assert host_decodes("zstd", frame, len(data)) == data


@pytest.mark.parametrize("name", ENCODERS)
def test_chunks_that_are_all_there_is(name: str) -> None:
    """No byte before or behind the chunk to read by mistake."""
    frame = ENCODERS[name](b"x" * 100)
    one = np.zeros(1, np.int64)
    for end in range(len(frame) + 1):
        data = np.frombuffer(frame[:end], np.uint8)
        chunks = EncodedChunks(data, one, one + end, one + 100)
        frames = walk_frames(name, chunks)
        check_promises(chunks, frames)
        if end < 5:
            assert 0 in frames.failures
    assert rebuild(chunks, frames, 0) == b"x" * 100


def test_zstd_blocks_are_counted() -> None:
    data = sample(1 << 20, 0)
    for level in (1, 19):
        frame = zstandard.ZstdCompressor(level=level).compress(data)
        _, frames = walk("zstd", [frame], [len(data)])
        assert frames.streams["zstd"].blocks[0] >= 8


def test_a_frame_of_endless_blocks_goes_to_the_host_soon() -> None:
    frame = zstandard.ZstdCompressor().compress(b"x" * 100)
    parameters = zstandard.get_frame_parameters(frame)
    assert parameters.content_size == 100
    head = frame[: 4 + 1 + 1]
    empty = (0).to_bytes(3, "little")
    _, frames = walk("zstd", [head + empty * 300_000 + b"\x01\0\0"], [100])
    assert "blocks" in frames.host[0]


def test_gzip_of_every_kind() -> None:
    data = sample(4000, 0)
    named = gzip.compress(data)
    named = named[:3] + b"\x08" + named[4:10] + b"name\0" + named[10:]
    kinds = {
        "plain": gzip.compress(data),
        "named": named,
        "two": gzip.compress(data[:9]) + gzip.compress(data[9:]),
        "empty first": gzip.compress(b"") + gzip.compress(data),
        "padded": gzip.compress(data) + bytes(100),
        "reserved": gzip.compress(data)[:3] + b"\x80" + gzip.compress(data)[4:],
    }
    chunks, frames = walk("gzip", list(kinds.values()), [len(data)] * len(kinds))
    names = list(kinds)
    assert {names[row] for row in frames.failures} == {"reserved"}
    assert {names[row] for row in frames.host} == {"named", "two", "empty first", "padded"}
    assert rebuild(chunks, frames, 0) == data
    assert frames.streams["gzip"].check.tolist() == [zlib.crc32(data)]


def test_zlib_carries_its_checksum() -> None:
    data = sample(4000, 0)
    with_dictionary = zlib.compressobj(zdict=b"abc")
    encoded = with_dictionary.compress(data) + with_dictionary.flush()
    _, frames = walk("zlib", [zlib.compress(data), encoded], [len(data)] * 2)
    assert frames.streams["deflate"].check.tolist() == [zlib.adler32(data)]
    assert "dictionary" in frames.host[1]


def snappy_frame(data: bytes) -> bytes:
    """A Blosc frame of one Snappy stream, which numcodecs cannot make: literals only."""
    varint = bytes([len(data) & 0x7F | 0x80, len(data) >> 7])
    literals = b"".join(
        bytes([(len(part) - 1) << 2]) + part
        for part in (data[i : i + 60] for i in range(0, len(data), 60))
    )
    stream = varint + literals
    frame = 16 + 4 + 4 + len(stream)
    head = struct.pack("<BBBBiii", 2, 1, 0x10 | 2 << 5, 1, len(data), len(data), frame)
    return head + struct.pack("<ii", 20, len(stream)) + stream


def test_snappy_inside_blosc() -> None:
    data = sample(1000, 1)
    wrong = bytearray(snappy_frame(data))
    wrong[24] ^= 1
    chunks, frames = walk("blosc", [snappy_frame(data), bytes(wrong)], [1000, 1000])
    assert rebuild(chunks, frames, 0) == data
    assert "Snappy" in frames.failures[1]
    short = np.array([0x80, 0x80], np.uint8)
    assert snappy_sizes(short, np.array([0]), np.array([2])).tolist() == [-1]


def one_stream_frame(stream: bytes, nbytes: int, inner: int) -> bytes:
    """A Blosc frame of one block, which is one stream."""
    head = struct.pack("<BBBBiii", 2, 1, 0x10 | inner << 5, 1, nbytes, nbytes, 24 + len(stream))
    return head + struct.pack("<ii", 20, len(stream)) + stream


def odd_zstd_inside() -> dict[str, bytes]:
    """What c-blosc decodes to 500 bytes, but a plain frame it is not."""
    data = bytes(range(250)) * 2
    skippable = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    plain = zstandard.ZstdCompressor().compress(data)
    streams = {
        "dictionary zero": with_dictionary_zero(plain),
        "skippable before": skippable + plain,
        "skippable behind": plain + skippable,
        "two": zstandard.ZstdCompressor().compress(data[:250]) * 2,
        "unused bit": plain[:4] + bytes([plain[4] | 0x10]) + plain[5:],
        "no size": zstandard.ZstdCompressor(write_content_size=False).compress(data),
    }
    return {name: one_stream_frame(stream, 500, 4) for name, stream in streams.items()}


def test_odd_zstd_inside_blosc_is_the_hosts() -> None:
    for name, frame in odd_zstd_inside().items():
        _, frames = walk("blosc", [frame], [500])
        assert 0 in frames.host, name
        assert host_decodes("blosc", frame, 500) == bytes(range(250)) * 2, name


def starts_in_header(inner: int = 1) -> list[bytes]:
    """Frames whose one block starts at any byte of the header or the table of starts, or before.

    From byte 4 or 8 what stands there is a size that means "stored".
    """
    head = struct.pack("<BBBBiii", 2, 1, 0x10 | inner << 5, 1, 64, 64, 200)
    return [head + struct.pack("<ii", start, 64) + bytes(176) for start in range(-2, 21)]


def test_blocks_that_lie_in_the_header_are_the_hosts() -> None:
    encoded = starts_in_header()
    _, frames = walk("blosc", encoded, [64] * len(encoded))
    decoded = [host_decodes("blosc", frame, 64) is not None for frame in encoded]
    assert sum(decoded) > 1, "c-blosc reads some"
    assert not any(decoded[row] for row in frames.failures)
    assert sorted(frames.host) == list(range(2, 22))


def test_mixed_inner_formats_share_a_batch() -> None:
    data = [sample(20_000, 0) for _ in range(10)]
    codecs = ["lz4", "zstd", "zlib", "blosclz", "lz4hc"] * 2
    encoded = [
        bytes(numcodecs.Blosc(cname=codec, shuffle=row % 3).encode(np.frombuffer(one, "<f4")))
        for row, (codec, one) in enumerate(zip(codecs, data, strict=True))
    ]
    chunks, frames = walk("blosc", encoded, [20_000] * 10)
    assert set(frames.streams) == {"lz4", "zstd", "deflate", "blosclz"}
    for row, one in enumerate(data):
        assert rebuild(chunks, frames, row) == one


def test_taking_and_moving_keep_what_was_found() -> None:
    data = [sample(9000, 0) for _ in range(6)]
    encoded = [blosc(one) for one in data]
    _, frames = walk("blosc", encoded, [9000] * 6)
    rows = np.array([row for row in (1, 2, 5) if row not in frames.host])
    some = frames.take(rows)
    for place, row in enumerate(rows.tolist()):
        for name, table in some.streams.items():
            mine = frames.streams[name]
            assert (
                table.source[table.chunk == place].tolist()
                == mine.source[mine.chunk == row].tolist()
            )
    moved = some.moved(np.full(len(rows), 7))
    for name, table in moved.streams.items():
        assert (table.source == some.streams[name].source + 7).all()
