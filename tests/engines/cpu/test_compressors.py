"""Every format against what its writers make."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numcodecs
import numpy as np
import pytest
import zstandard

from gpuzarr.engines.cpu import blosc
from gpuzarr.engines.cpu.decoder import decode_object, unsupported
from gpuzarr.engines.step_error import StepError
from gpuzarr.program import (
    CumulativeSum,
    DecodeProgram,
    Decompress,
    HostOnly,
    Layout,
    Unshuffle,
    VerifyChecksum,
)
from tests.engines.cpu.programs import FORMATS, decode, decoder_of, lzma_step

SKIPPABLE = struct.pack("<II", 0x184D2A53, 5) + b"hello"


def sample(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth values, with noise in the low bits."""
    rng = np.random.default_rng(0)
    count = int(np.prod(shape))
    values = np.cumsum(rng.integers(-3, 4, count)) + rng.integers(0, 2, count)
    return np.asarray(values).astype(dtype).reshape(shape)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("<i4", ()),
        ("<f4", (1,)),
        (">u2", (6, 2)),
        ("<i4", (100, 33)),
        ("<f8", (64, 64, 9)),
        ("<u4", (300, 300)),
    ],
)
def test_formats(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    array = sample(dtype, shape)
    encoded = FORMATS[name].encode(array.tobytes())
    np.testing.assert_array_equal(decode(encoded, dtype, shape, FORMATS[name].step), array)


@pytest.mark.parametrize("name", FORMATS)
def test_empty_chunks(name: str) -> None:
    if name.startswith("blosc"):
        encoded = struct.pack("<BBBBiii", 2, 1, 0x21, 4, 0, 0, 16)
    elif name == "lz4":
        encoded = bytes(5)
    else:
        encoded = FORMATS[name].encode(b"")
    assert decode(encoded, "<i4", (0, 3), FORMATS[name].step).shape == (0, 3)


@pytest.mark.parametrize("itemsize", [1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 255])
@pytest.mark.parametrize("shuffle", [0, 1, 2])
def test_blosc_item_sizes_and_tails(itemsize: int, shuffle: int) -> None:
    rng = np.random.default_rng(itemsize)
    for nbytes in (1, itemsize, 129, 5000, 70001):
        data = rng.integers(0, 5, nbytes, np.uint8)
        for cname in ("lz4", "zstd", "blosclz"):
            codec = numcodecs.Blosc(cname, 5, shuffle, blocksize=4096, typesize=itemsize)
            encoded = codec.encode(data)
            found = decode(encoded, "u1", (nbytes,), Decompress("blosc"))
            np.testing.assert_array_equal(found, data)


def test_blosc_starts_no_threads_of_its_own() -> None:
    data = sample("<u4", (1 << 20,))
    encoded = numcodecs.Blosc("lz4", blocksize=1 << 16).encode(data)
    assert blosc.check_frame(memoryview(encoded))[1] > 1
    used: list[str] = []
    original = numcodecs.blosc.decompress

    def watch(source: Any, dest: Any) -> Any:
        used.append(threading.current_thread().name)
        return original(source, dest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numcodecs.blosc, "decompress", watch)
        decode(encoded, "<u4", data.shape, Decompress("blosc"))
        with ThreadPoolExecutor(1, "worker") as pool:
            pool.submit(decode, encoded, "<u4", data.shape, Decompress("blosc")).result()
    assert used[0] != threading.main_thread().name
    assert not used[0].startswith("worker")
    assert used[-1].startswith("worker")


@pytest.mark.parametrize(
    ("step", "encode"),
    [
        (Decompress("gzip"), gzip.compress),
        (Decompress("bz2"), bz2.compress),
        (lzma_step(format=1), lzma.compress),
        (Decompress("zstd"), zstandard.ZstdCompressor().compress),
        (Decompress("zstd"), zstandard.ZstdCompressor(write_content_size=False).compress),
    ],
)
@pytest.mark.parametrize("cuts", [(500, 501), (0, 300), (2, 2, 2), (1999, 2000)])
def test_several_members(step: Decompress, encode: Any, cuts: tuple[int, ...]) -> None:
    data = sample("u1", (2000,)).tobytes()
    ends = (*cuts, len(data))
    starts = (0, *cuts)
    encoded = b"".join(encode(data[start:end]) for start, end in zip(starts, ends, strict=True))
    assert decode(encoded, "u1", (2000,), step).tobytes() == data


def test_members_in_great_number() -> None:
    data = sample("u1", (1 << 20,)).tobytes()
    encoded = b"".join(gzip.compress(data[i : i + 4096], 1) for i in range(0, 1 << 20, 4096))
    assert decode(encoded, "u1", (1 << 20,), Decompress("gzip")).tobytes() == data


def test_padding_behind_gzip_and_rubbish_behind_bz2() -> None:
    data = bytes(range(100))
    assert (
        decode(gzip.compress(data) + bytes(9), "u1", (100,), Decompress("gzip")).tobytes() == data
    )
    assert decode(bz2.compress(data) + b"xyz", "u1", (100,), Decompress("bz2")).tobytes() == data
    with pytest.raises(StepError):
        decode(gzip.compress(data) + b"rubbish", "u1", (100,), Decompress("gzip"))


@pytest.mark.parametrize(
    "arrange",
    [
        lambda frame: SKIPPABLE + frame,
        lambda frame: frame + SKIPPABLE,
        lambda frame: SKIPPABLE + SKIPPABLE + frame + SKIPPABLE,
        lambda frame: zstandard.compress(b"") + frame,
        lambda frame: frame + zstandard.compress(b""),
    ],
)
@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("count", [1000, 500_000])
def test_zstd_frames_between_others(arrange: Any, sized: bool, count: int) -> None:  # noqa: FBT001
    data = sample("u1", (count,)).tobytes()
    frame = zstandard.ZstdCompressor(write_content_size=sized).compress(data)
    assert decode(arrange(frame), "u1", (count,), Decompress("zstd")).tobytes() == data


def test_zstd_blocks_of_every_kind() -> None:
    raw = struct.pack("<IBB", 0xFD2FB528, 0x20, 9)
    rle = (1 | 1 << 1 | 4 << 3).to_bytes(3, "little") + b"z"
    plain = (0 | 0 << 1 | 5 << 3).to_bytes(3, "little") + b"hello"
    found = decode(raw + plain + rle, "u1", (9,), Decompress("zstd"))
    assert found.tobytes() == b"hellozzzz"


def test_chains_with_sizes_that_nobody_knows() -> None:
    array = sample("<i2", (50, 40))
    steps = (
        VerifyChecksum("crc32c"),
        Decompress("zstd"),
        Decompress("gzip"),
        HostOnly("numcodecs.base64"),
        Decompress("lz4"),
        Unshuffle(2),
    )
    encoded: Any = array
    for codec in (
        numcodecs.Shuffle(2),
        numcodecs.LZ4(),
        numcodecs.Base64(),
        numcodecs.GZip(),
        numcodecs.Zstd(),
        numcodecs.CRC32C(),
    ):
        encoded = codec.encode(encoded)
    np.testing.assert_array_equal(decode(encoded, "<i2", (50, 40), *steps), array)
    for name in ("blosc", "bz2", "zlib", "lzma"):
        codec = numcodecs.get_codec({"id": name})
        step = lzma_step(format=1) if name == "lzma" else Decompress(name)
        twice = codec.encode(codec.encode(array))
        np.testing.assert_array_equal(decode(twice, "<i2", (50, 40), step, step), array)


def test_a_checksum_between_steps_that_write() -> None:
    array = sample("<i4", (3000,))
    checked = numcodecs.CRC32().encode(numcodecs.Shuffle(4).encode(array))
    steps = Decompress("blosc"), VerifyChecksum("crc32", "start"), Unshuffle(4)
    encoded = numcodecs.Blosc().encode(checked)
    np.testing.assert_array_equal(decode(encoded, "<i4", (3000,), *steps), array)
    deltas = numcodecs.Delta("<i4").encode(array)
    encoded = numcodecs.LZ4().encode(
        numcodecs.Fletcher32().encode(numcodecs.Shuffle().encode(deltas))
    )
    more = (
        Decompress("lz4"),
        VerifyChecksum("fletcher32"),
        Unshuffle(4),
        CumulativeSum("<i4", "<i4"),
    )
    np.testing.assert_array_equal(decode(encoded, "<i4", (3000,), *more), array)


def test_fletcher32() -> None:
    for shape in ((1,), (7,), (5000,)):
        array = sample("u1", shape)
        encoded = numcodecs.Fletcher32().encode(array)
        step = VerifyChecksum("fletcher32")
        np.testing.assert_array_equal(decode(encoded, "u1", shape, step), array)
        with pytest.raises(StepError) as caught:
            decode(bytes([encoded[0] ^ 4]) + encoded[1:], "u1", shape, step)
        assert caught.value.checksum
    assert decode(bytes(4), "u1", (0,), VerifyChecksum("fletcher32")).size == 0


def test_chunks_without_steps_are_not_copied() -> None:
    stored = bytes(range(24))
    found = decoder_of("<i4", (2, 3)).decode(memoryview(stored))
    assert found.base is not None
    assert found.__array_interface__["data"][0] == np.frombuffer(stored, "u1").ctypes.data


def test_a_result_lasts_until_the_next_in_the_same_thread() -> None:
    arrays = [sample("<i4", (1000,)) + 7 * i for i in range(64)]
    codec = numcodecs.Blosc("lz4")
    decoder = decoder_of("<i4", (1000,), Decompress("blosc"))
    encoded = [memoryview(codec.encode(array)) for array in arrays]

    def check(number: int) -> bool:
        return bool((decoder.decode(encoded[number]) == arrays[number]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, list(range(64)) * 20))


def test_whole_objects() -> None:
    data = sample("u1", (100_000,)).tobytes()
    encoded = numcodecs.CRC32C().encode(numcodecs.GZip().encode(data)).tobytes()
    steps = (VerifyChecksum("crc32c"), Decompress("gzip"))
    assert decode_object(steps, memoryview(encoded), 1 << 20).tobytes() == data
    assert decode_object((), memoryview(data), 1 << 20).tobytes() == data
    with pytest.raises(StepError):
        decode_object(steps, memoryview(encoded), len(data) - 1)
    with pytest.raises(StepError):
        decode_object(steps, memoryview(encoded[:-1]), 1 << 20)


def test_snappy_is_told_beforehand() -> None:
    layout = Layout(np.dtype("u1"), (0,))
    program = DecodeProgram((Decompress("blosc", '{"cname":"snappy"}'),), layout)
    assert "snappy" in unsupported(program)[0]
    assert unsupported(DecodeProgram((Decompress("blosc"),), layout)) == ()
    missing = DecodeProgram((HostOnly("numcodecs.nobody_has_this"),), layout)
    assert "nobody_has_this" in unsupported(missing)[0]
