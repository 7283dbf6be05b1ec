"""Small chunks that are decoded together, and zstd frames that are looked at before they are."""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.engines.cpu import task, zstd
from gpuzarr.engines.cpu.decoder import ChunkDecoder
from gpuzarr.engines.cpu.prepared import Frames
from gpuzarr.engines.cpu.zstd import LARGE_NBYTES, LEAST_MANY, SMALL_NBYTES
from gpuzarr.engines.cpu.zstd_frames import are_alike
from gpuzarr.engines.step_error import StepError
from gpuzarr.program import DecodeProgram, Decompress, Layout, Unshuffle
from tests.arrays import CountingStore, plain_store, sharded_store
from tests.engines.cpu.programs import FORMATS, decode, decoder_of
from tests.stored import assert_result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SKIPPABLE = struct.pack("<II", 0x184D2A53, 5) + b"hello"
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}


def chunks(count: int, nbytes: int, seed: int = 0) -> list[bytes]:
    """Bytes that can be compressed, all different."""
    steps = np.random.default_rng(seed).integers(-2, 3, (count, nbytes))
    return [row.astype(np.uint8).tobytes() for row in steps.cumsum(axis=1)]


def joined(frames: Sequence[bytes]) -> Frames:
    """As they are fetched, one behind another."""
    ends = list(accumulate(map(len, frames)))
    return Frames.between(memoryview(b"".join(frames)), ends)


def reference(frame: bytes, nbytes: int) -> bytes | None:
    """What zstandard makes of exactly one frame of so many bytes; None: damage, or another."""
    try:
        found = zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=nbytes + 1, allow_extra_data=False
        )
    except (zstandard.ZstdError, MemoryError):  # it may say any size
        return None
    return found if len(found) == nbytes else None


# Several chunks at once


@pytest.mark.parametrize("count", [1, 2, LEAST_MANY - 1, LEAST_MANY, 40])
@pytest.mark.parametrize("name", FORMATS)
def test_many_are_what_each_is(name: str, count: int) -> None:
    for nbytes in (8, 96, 1000):
        data = chunks(count, nbytes)
        encoded = joined([FORMATS[name].encode(one) for one in data])
        decoder = decoder_of("<u4", (nbytes // 4,), FORMATS[name].step)
        assert decoder.takes_many
        assert decoder.decode_many(encoded).tobytes() == b"".join(data)
        place = memoryview(bytearray(count * nbytes))
        decoder.decode_many(encoded, place)
        assert bytes(place) == b"".join(data)
        ones = [decoder.decode(one).tobytes() for one in encoded]
        assert ones == data


def test_many_of_several_steps_and_of_none() -> None:
    data = chunks(30, 48)
    shuffled = [np.frombuffer(one, "u1").reshape(-1, 4).T.tobytes() for one in data]
    encoded = joined([zstandard.compress(one) for one in shuffled])
    decoder = decoder_of("<u4", (12,), Decompress("zstd"), Unshuffle(4))
    assert decoder.decode_many(encoded).tobytes() == b"".join(data)
    plain = decoder_of("<u4", (12,))
    assert plain.decode_many(joined(data)).tobytes() == b"".join(data)
    with pytest.raises(StepError, match="47 bytes are stored"):
        plain.decode_many(joined([*data, data[0][:-1]]))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_many_stand_in_the_order_of_the_array(axes: tuple[int, ...]) -> None:
    shape = (2, 3, 4)
    decoder = ChunkDecoder(DecodeProgram((), Layout(np.dtype("<i2"), axes)), shape)
    data = np.arange(5 * 24, dtype="<i2").reshape(5, *shape)
    encoded = joined([one.transpose(axes).tobytes() for one in data])
    np.testing.assert_array_equal(decoder.decode_many(encoded), data)


def test_objects_are_not_taken_together() -> None:
    assert not decoder_of(object, (3,)).takes_many
    assert not decoder_of("<i4", (0, 3)).takes_many


@pytest.mark.parametrize("kind", ["plain", "shards"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bad", [[0], [7], [29], [0, 1, 2, 29], [11, 12, 13], list(range(30))])
def test_of_a_run_only_damaged_chunks_fail(
    monkeypatch: pytest.MonkeyPatch, bad: list[int], threads: int, kind: str
) -> None:
    monkeypatch.setattr(task, "LEAST_RUN", 8)
    values = np.arange(30 * 16, dtype="<i4")

    def encode(chunk: bytes) -> bytes:
        frame = zstandard.ZstdCompressor(write_checksum=True).compress(chunk)
        first = int(np.frombuffer(chunk, "<i4")[0])
        return frame[:-1] + bytes([frame[-1] ^ 1]) if first // 16 in bad else frame

    if kind == "plain":
        stored = plain_store(values, (16,), encode=encode, codecs=("bytes", ZSTD))
    else:
        stored = sharded_store(values, (160,), (16,), encode=encode, inner_codecs=("bytes", ZSTD))
    store = CountingStore(stored)
    array = gpuzarr.open_array(store, threads=threads)
    store.taken()
    out = np.full(values.shape, -1, values.dtype)
    with pytest.raises(gpuzarr.DecodeError) as raised:
        array.read(..., out=out)
    assert sorted(failure.coords for failure in raised.value.failures) == [(i,) for i in bad]
    if kind == "plain":
        assert {failure.key for failure in raised.value.failures} == {f"c/{i}" for i in bad}
        assert sorted(store.taken()) == sorted((f"c/{i}", 0, -1) for i in range(30))
    good = np.isin(np.arange(30), bad, invert=True).repeat(16)
    np.testing.assert_array_equal(out[good], values[good])


def test_missing_chunks_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "LEAST_RUN", 8)
    values = np.arange(1, 1 + 60 * 4, dtype="<i4")
    encode = zstandard.ZstdCompressor().compress
    for skip in ({0}, {59}, {3, 4, 5, 20}, set(range(60)), set(range(0, 60, 2))):
        store = plain_store(values, (4,), encode=encode, codecs=("bytes", ZSTD))
        store = {key: data for key, data in store.items() if key not in {f"c/{i}" for i in skip}}
        expected = np.where(np.isin(np.arange(60), list(skip)).repeat(4), 0, values)
        for threads in (1, 4):
            assert_result(gpuzarr.open_array(store, threads=threads)[...], expected.astype("i4"))


# Looking at frames


def raw_block(data: bytes, *, last: bool) -> bytes:
    return (int(last) | len(data) << 3).to_bytes(3, "little") + data


def rle_block(byte: int, count: int, *, last: bool) -> bytes:
    return (int(last) | 1 << 1 | count << 3).to_bytes(3, "little") + bytes([byte])


def frame_of(*blocks: bytes, size: int | None, checksum: bytes = b"", more: int = 0) -> bytes:
    """A frame: a single segment of up to 255 bytes, or with a window where no size is said."""
    flags = (4 if checksum else 0) | more
    header = bytes([flags | 0x20, size]) if size is not None else bytes([flags, 0x58])
    return struct.pack("<I", 0xFD2FB528) + header + b"".join(blocks) + checksum


TEXT = bytes(range(60))
HALVES = raw_block(TEXT[:30], last=False), raw_block(TEXT[30:], last=True)
FRAMES: dict[str, bytes] = {
    "raw": frame_of(raw_block(TEXT, last=True), size=60),
    "rle": frame_of(rle_block(7, 60, last=True), size=60),
    "two blocks": frame_of(
        raw_block(TEXT[:30], last=False), raw_block(TEXT[30:], last=True), size=60
    ),
    "raw, then rle": frame_of(
        raw_block(TEXT[:9], last=False), rle_block(1, 51, last=True), size=60
    ),
    "empty last block": frame_of(raw_block(TEXT, last=False), raw_block(b"", last=True), size=60),
    "no size": frame_of(raw_block(TEXT, last=True), size=None),
    "says less": frame_of(raw_block(TEXT, last=True), size=59),
    "says more": frame_of(raw_block(TEXT, last=True), size=61),
    "holds less": frame_of(raw_block(TEXT[:59], last=True), size=60),
    "holds more": frame_of(raw_block(TEXT + b"x", last=True), size=60),
    "rle holds more": frame_of(rle_block(7, 61, last=True), size=60),
    "no last block": frame_of(raw_block(TEXT, last=False), size=60),
    "wrong checksum": frame_of(raw_block(TEXT, last=True), size=60, checksum=b"abcd"),
    "reserved block": frame_of((1 | 3 << 1 | 60 << 3).to_bytes(3, "little") + TEXT, size=60),
    "reserved bit": frame_of(raw_block(TEXT, last=True), size=60, more=8),
    "dictionary": struct.pack("<I", 0xFD2FB528) + b"\x21\x05\x3c" + raw_block(TEXT, last=True),
    "skippable": SKIPPABLE,
    "skippable first": SKIPPABLE + zstandard.compress(TEXT),
    "skippable last": zstandard.compress(TEXT) + SKIPPABLE,
    "two frames": zstandard.compress(TEXT[:30]) + zstandard.compress(TEXT[30:]),
    "empty frame first": zstandard.compress(b"") + zstandard.compress(TEXT),
    "garbage behind": zstandard.compress(TEXT) + b"x",
    "zeros behind": zstandard.compress(TEXT) + bytes(4),
    "checksum": zstandard.ZstdCompressor(write_checksum=True).compress(TEXT),
    "nothing": b"",
    "nonsense": b"nothing like zstd",
}


OF_ONE_BLOCK = {
    *("raw", "rle", "checksum", "wrong checksum", "reserved bit"),
    *("holds less", "holds more", "rle holds more"),
}
"""As far as one sees without decoding."""


def check_many(frames: list[bytes], nbytes: int) -> bool:
    """Frames that are decoded together are as the reference says; whether they were."""
    many = zstd._many(nbytes)  # noqa: SLF001  what `decode_many` calls
    assert many is not None
    if not many.takes(joined(frames)):
        return False
    found = many.decode(joined(frames))
    if found is not None:
        assert [bytes(one) for one in found] == [reference(frame, nbytes) for frame in frames]
    return found is not None


@pytest.mark.parametrize("name", FRAMES)
def test_frames_of_every_kind_in_every_place(name: str) -> None:
    frame = FRAMES[name]
    good = [zstandard.compress(one) for one in chunks(LEAST_MANY, 60)]
    assert are_alike(joined([frame] * LEAST_MANY), 60) == (name in OF_ONE_BLOCK)
    if name.startswith("says"):
        assert not are_alike(joined([*good, frame]), 60)
    alone = check_many([frame] * LEAST_MANY, 60)
    assert alone == (name in {"raw", "rle", "checksum"})
    for place in range(LEAST_MANY):
        check_many([*good[:place], frame, *good[place:]], 60)
    assert check_many(good, 60)
    # However it is decoded, one by one or together, the outcome is the same.
    decoder = decoder_of("u1", (60,), Decompress("zstd"))
    try:
        one = decoder.decode(memoryview(frame)).tobytes()
    except StepError:
        with pytest.raises(StepError):
            decoder.decode_many(joined([*good, frame]))
    else:
        found = decoder.decode_many(joined([*good, frame, *good]))
        assert found[LEAST_MANY].tobytes() == one
        assert found[-1].tobytes() == reference(good[-1], 60)


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("nbytes", [4, 60, 300, 3000, SMALL_NBYTES])
def test_truncation_by_every_number_of_bytes(nbytes: int, *, checksum: bool) -> None:
    compress = zstandard.ZstdCompressor(write_checksum=checksum).compress
    good = [compress(one) for one in chunks(LEAST_MANY, nbytes)]
    cuts = range(1, len(good[3]) + 1) if nbytes < 3000 else range(1, len(good[3]), 61)
    for cut in cuts:
        frames = [*good[:3], good[3][:-cut], *good[4:]]
        assert not check_many(frames, nbytes)
        assert not are_alike(joined([good[3][:-cut]] * LEAST_MANY), nbytes)
        assert not are_alike(joined(frames), nbytes)


@given(st.data(), st.booleans(), st.sampled_from([4, 60, 300]))
def test_any_damage_to_frames(data: st.DataObject, checksum: bool, nbytes: int) -> None:  # noqa: FBT001
    compress = zstandard.ZstdCompressor(write_checksum=checksum).compress
    frames = [compress(one) for one in chunks(LEAST_MANY, nbytes, data.draw(st.integers(0, 9)))]
    for _ in range(data.draw(st.integers(1, 3))):
        which = data.draw(st.integers(0, LEAST_MANY - 1))
        damaged = bytearray(frames[which])
        for _ in range(data.draw(st.integers(1, 3))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        frames[which] = bytes(damaged) + data.draw(st.binary(max_size=3))
    check_many(frames, nbytes)


# One frame, decoded into its place

MEDIUM, LARGE = (chunks(1, size)[0] for size in (3 * SMALL_NBYTES, LARGE_NBYTES + 50))


@pytest.fixture(params=[MEDIUM, LARGE], ids=["medium", "large"], scope="module")
def data(request: pytest.FixtureRequest) -> bytes:
    """A chunk, each for another library."""
    found: bytes = request.param
    return found


def with_flip(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


@pytest.mark.parametrize(
    "spoil",
    [
        *(lambda frame, n=n: frame[:-n] for n in (1, 2, 3, 4, 5, 100)),
        lambda frame: frame + b"x",
        lambda frame: frame + bytes(4),
        lambda frame: frame + zstandard.compress(b"more"),
        lambda frame: zstandard.compress(b"more") + frame,
        lambda frame: frame[: len(frame) // 2],
        lambda frame: with_flip(frame, 0),
        lambda frame: with_flip(frame, 5),  # its size
    ],
)
@pytest.mark.parametrize("checksum", [False, True])
def test_a_large_frame_that_is_not_sound(
    data: bytes, spoil: Callable[[bytes], bytes], *, checksum: bool
) -> None:
    frame = zstandard.ZstdCompressor(write_checksum=checksum).compress(data)
    assert decode(frame, "u1", (len(data),), Decompress("zstd")).tobytes() == data
    with pytest.raises(StepError):
        decode(spoil(frame), "u1", (len(data),), Decompress("zstd"))


@pytest.mark.parametrize("place", [-1, -2, -3, -4])
def test_a_large_frame_whose_checksum_is_wrong(data: bytes, place: int) -> None:
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    with pytest.raises(StepError):
        decode(with_flip(frame, place), "u1", (len(data),), Decompress("zstd"))


@pytest.mark.parametrize("settings", [{}, {"write_checksum": True}, {"write_content_size": False}])
@pytest.mark.parametrize("cut", [0, 1, SMALL_NBYTES, 3 * SMALL_NBYTES])
def test_large_chunks_of_two_frames(data: bytes, settings: dict[str, Any], cut: int) -> None:
    compress = zstandard.ZstdCompressor(**settings).compress
    frames = compress(data[:cut]) + SKIPPABLE + compress(data[cut:])
    found = decode(frames, "u1", (len(data),), Decompress("zstd"))
    assert found.tobytes() == data


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_large_frame_that_does_not_hold_what_it_says(more: int) -> None:
    size = len(MEDIUM)
    head = struct.pack("<IBI", 0xFD2FB528, 0xA0, size)
    frame = head + raw_block((MEDIUM + b"x")[: size + more], last=True)
    decoder = decoder_of("u1", (size,), Decompress("zstd"))
    if more:
        with pytest.raises(StepError):
            decoder.decode(memoryview(frame))
    else:
        assert decoder.decode(memoryview(frame)).tobytes() == MEDIUM


@given(st.sampled_from([MEDIUM, LARGE]), st.integers(0, 2**31), st.integers(0, 255), st.booleans())
def test_any_damage_to_a_large_frame(data: bytes, place: int, byte: int, checksum: bool) -> None:  # noqa: FBT001
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=checksum).compress(data))
    frame[place % len(frame)] = byte
    decoder = decoder_of("u1", (len(data),), Decompress("zstd"))
    try:
        found = decoder.decode(memoryview(bytes(frame))).tobytes()
    except StepError:
        assert reference(bytes(frame), len(data)) is None
    else:
        assert found == reference(bytes(frame), len(data))
