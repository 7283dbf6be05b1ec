"""`blosclz` against c-blosc: what it compressed, and what damage it takes or refuses."""

from __future__ import annotations

from typing import Any

import numcodecs.blosc
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuzarr.engines.cuda.kernels import THREADS, WARPS
from tests.kernels.arguments import addresses, integers, launch, unaligned

RNG = np.random.default_rng(7)
DAMAGED = 12
UNTOUCHED = 0xEE
MEMCPYED = 0x02
ONE_STREAM = 0x10


def noise(nbytes: int) -> np.ndarray:
    return RNG.integers(0, 256, nbytes, np.uint8)


def compressed(data: np.ndarray, level: int) -> list[tuple[bytes, int, int]]:
    """The blosclz streams of some data, and where in it and how long what each decodes to is."""
    frame = numcodecs.blosc.compress(data, b"blosclz", level, 0, 0, typesize=1)
    block = int.from_bytes(frame[8:12], "little")
    streams = []
    for number, start in enumerate(range(0, len(data), block)):
        at = int.from_bytes(frame[16 + 4 * number :][:4], "little")
        size = int.from_bytes(frame[at : at + 4], "little")
        due = min(block, len(data) - start)
        if not frame[2] & MEMCPYED and size < due:
            streams.append((frame[at + 4 : at + 4 + size], start, due))
    return streams


def decode(streams: list[bytes], room: list[int]) -> tuple[list[np.ndarray], Any, Any]:
    """What the kernel gives: targets, bytes that came out, outcomes."""
    sources = [unaligned(np.frombuffer(s, np.uint8), i % 9) for i, s in enumerate(streams)]
    targets = [unaligned(np.full(n, UNTOUCHED, np.uint8), i % 5) for i, n in enumerate(room)]
    n = len(streams)
    actual, outcome = np.full(n, -1, np.int64), np.full(n, -1, np.int32)
    columns = (addresses(sources), integers([len(s) for s in streams]), addresses(targets))
    launch("blosclz", -(-n // WARPS), *columns, integers(room), actual, outcome, n)
    return targets, actual, outcome


def decode_by_c_blosc(stream: bytes, nbytes: int) -> bytes | None:
    """What c-blosc gives for a frame of one block of this one stream; None: an error."""
    head = bytes([2, 1, ONE_STREAM, 1])
    sizes = [nbytes, nbytes, 16 + 8 + len(stream), 20, len(stream)]
    frame = head + np.array(sizes, "<i4").tobytes() + stream
    try:
        return bytes(numcodecs.blosc.decompress(frame))
    except RuntimeError:
        return None


def compare_with_c_blosc(stream: bytes, nbytes: int) -> bool:
    """Whether both take the stream, which they must both do or not do, alike."""
    assert len(stream) != nbytes, "c-blosc takes that as stored bytes"
    expected = decode_by_c_blosc(stream, nbytes)
    (target,), (actual,), (outcome,) = decode([stream], [nbytes])
    assert outcome in (0, DAMAGED)
    assert 0 <= actual <= nbytes
    assert (target[actual:] == UNTOUCHED).all()
    taken = bool(outcome == 0 and actual == nbytes)
    assert taken == (expected is not None)
    assert not taken or target.tobytes() == expected
    return taken


def samples() -> dict[str, np.ndarray]:
    ramp = np.cumsum(RNG.integers(0, 3, 40_000)).astype("<u4").view(np.uint8)
    far = np.concatenate([noise(9000), np.zeros(100, np.uint8)] * 3)
    return {
        "ramp": ramp,
        "text": np.tile(noise(300), 100),
        "zeros": np.zeros(100_000, np.uint8),
        "far": np.tile(far, 3),
        "sorted": np.sort(noise(20_000)),
    }


@pytest.mark.parametrize("level", [1, 3, 5, 9])
def test_what_c_blosc_compressed(level: int) -> None:
    found = 0
    for data in samples().values():
        streams = compressed(np.ascontiguousarray(data), level)
        if not streams:
            continue
        found += len(streams)
        sizes = [size for _, _, size in streams]
        targets, actual, outcome = decode([stream for stream, _, _ in streams], sizes)
        assert not outcome.any()
        assert actual.tolist() == sizes
        for (_, start, _), target in zip(streams, targets, strict=True):
            np.testing.assert_array_equal(target, data[start : start + len(target)])
    assert found > 3


def test_more_streams_than_a_block_has_threads() -> None:
    streams = [bytes([0, i % 251, 0x20, 0, 0, 7]) for i in range(2 * THREADS + 3)]
    targets, actual, outcome = decode(streams, [5] * len(streams))
    assert not outcome.any()
    assert (actual == 5).all()
    assert [t.tolist() for t in targets] == [[s[1]] * 4 + [7] for s in streams]


def literals(data: bytes) -> bytes:
    """A stream's part that gives these bytes as they are."""
    runs = [data[start : start + 32] for start in range(0, len(data), 32)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def test_copies_of_every_kind() -> None:
    """Lengths and distances where their encodings change, and the first byte's upper bits."""
    for distance in (1, 2, 7, 8, 31, 255, 256, 8190, 8191, 8192, 8193, 9000, 20_000):
        start = noise(2000 if distance < 2000 else 9500 if distance < 9500 else 20_000).tobytes()
        ahead = bytes([literals(start)[0] | 0xE0]) + literals(start)[1:]
        for length in (3, 8, 9, 10, 263, 264, 265, 519, 520, 1000):
            code = length - 2
            more = b""
            if code >= 7:
                rest = code - 7
                more, code = b"\xff" * (rest // 255) + bytes([rest % 255]), 7
            if distance <= 8191:
                high, low = divmod(distance - 1, 256)
                stream = bytes([code << 5 | high]) + more + bytes([low])
            else:
                far = (distance - 8192).to_bytes(2, "big")
                stream = bytes([code << 5 | 31]) + more + b"\xff" + far
            whole = ahead + stream + literals(b"end")
            assert compare_with_c_blosc(whole, len(start) + length + 3), (distance, length)
            assert not compare_with_c_blosc(whole, len(start) + length + 2), "no room for the end"
            assert not compare_with_c_blosc(whole, len(start) + length - 1), "nor for the copy"
            assert not compare_with_c_blosc(whole[:-4], len(start) + length), "ends with a copy"


@pytest.mark.parametrize("before", [1, 5, 33, 8191, 8192, 8300])
@pytest.mark.parametrize("beyond", [0, 1, 2, 255])
def test_copies_from_before_the_beginning_are_damage(before: int, beyond: int) -> None:
    distance = before + beyond
    if distance <= 8191:
        high, low = divmod(distance - 1, 256)
        copy = bytes([5 << 5 | high, low])
    else:
        copy = bytes([5 << 5 | 31, 0xFF]) + (distance - 8192).to_bytes(2, "big")
    whole = literals(noise(before).tobytes()) + copy + literals(b"end")
    assert compare_with_c_blosc(whole, before + 7 + 3) == (beyond == 0)


def damage(stream: bytes, cut: int, flips: list[tuple[int, int]]) -> bytes:
    broken = bytearray(stream[: max(1, len(stream) - cut)])
    for place, bit in flips:
        broken[place % len(broken)] ^= 1 << bit
    return bytes(broken)


SMALL = [
    stream
    for data in (
        np.arange(600, dtype="<u2").view(np.uint8),
        np.tile(noise(40), 20),
        np.repeat(noise(30), 40),
        np.concatenate([noise(50), np.zeros(500, np.uint8), noise(9)]),
    )
    for stream in compressed(data, 9)
]


def test_small_streams_are_there_to_be_damaged() -> None:
    assert len(SMALL) >= 3
    assert all(compare_with_c_blosc(stream, size) for stream, _, size in SMALL)


@given(
    which=st.sampled_from(SMALL),
    cut=st.integers(0, 40),
    flips=st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 7)), max_size=3),
    less=st.integers(-2, 2),
)
def test_damage_is_taken_as_c_blosc_takes_it(
    which: tuple[bytes, int, int], cut: int, flips: list[tuple[int, int]], less: int
) -> None:
    stream, _, size = which
    broken = damage(stream, cut, flips)
    if len(broken) != size - less:
        compare_with_c_blosc(broken, size - less)


@pytest.mark.parametrize("which", range(3))
def test_every_truncation_is_taken_as_c_blosc_takes_it(which: int) -> None:
    stream, _, size = SMALL[which]
    for end in range(1, len(stream)):
        assert not compare_with_c_blosc(stream[:end], size)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 300))
@example(b"\x00\x01\x20\x00", 4)
@example(b"\x00\x01\xff\xff\xff\xff", 300)
@example(b"\x00\x01\x3f\xff\x00", 300)
@example(b"\x1f", 32)
def test_random_bytes_are_taken_as_c_blosc_takes_them(stream: bytes, nbytes: int) -> None:
    if len(stream) != nbytes:
        compare_with_c_blosc(stream, nbytes)


def test_nothing_and_no_room() -> None:
    _, actual, outcome = decode([b"", b"\x00a", b"\x00a"], [5, 0, 1])
    assert actual.tolist() == [0, 0, 1]
    assert outcome.tolist() == [DAMAGED, DAMAGED, 0]
