"""The kernel that looks into Blosc streams reads no byte behind a frame, and says what is there.

Every frame lies in memory of its own, just as long as it is, so that AddressSanitizer sees the
first byte too many. What it finds is held against the walk on the host where that walk is tested.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cuda.kernels import THREADS
from tests.kernels.arguments import addresses, integers, launch

BLOSCLZ, LZ4, SNAPPY, ZLIB, ZSTD = range(5)
HEADER = 16
DATA = bytes(range(256)) * 4
NOTHING = [0, -1, 0, -1, 0]
"""A stream that is not there."""

INNER = {
    LZ4: b"\x10any block",
    SNAPPY: b"\x80\x08" + b"any block",
    ZLIB: zlib.compress(DATA),
    ZSTD: zstandard.ZstdCompressor(write_checksum=True).compress(DATA),
}


def find(
    frames: list[bytes], starts: list[int], parts: list[int], inner: list[int], splits: int = 1
) -> list[list[int]]:
    """Rows of the kernel; each frame has one block."""
    memory = [np.frombuffer(frame, np.uint8).copy() for frame in frames]
    n = len(frames)
    out = np.full((n * splits, 6), 77, np.int64)
    columns = (
        addresses(memory),
        integers([len(frame) for frame in frames]),
        integers(starts),
        integers([splits] * n),
        integers(parts),
        integers(inner),
        integers(splits * np.arange(n)),
    )
    launch("blosc_streams", -(-n // THREADS), *columns, n, out)
    assert not (out == 77).all(axis=1).any(), "a row was not written"
    return out.tolist()


def framed(*streams: bytes) -> bytes:
    """A header that nobody looks at, and streams behind their sizes."""
    return bytes(HEADER) + b"".join(struct.pack("<i", len(one)) + one for one in streams)


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (LZ4, [len(DATA), 1, -1, 1]),
        (SNAPPY, [len(DATA), 1, -1, 1]),
        (ZLIB, [len(DATA), 1, zlib.adler32(DATA), 1]),
        (ZSTD, [len(DATA), 1, int.from_bytes(INNER[ZSTD][-4:], "little"), 1]),
    ],
)
def test_what_streams_say(inner: int, expected: list[int]) -> None:
    stream = INNER[inner]
    (row,) = find([framed(stream)], [HEADER], [len(DATA)], [inner])
    assert row == [HEADER + 4, len(stream), *expected]


def test_more_blocks_than_threads() -> None:
    frames = [framed(bytes(1 + i % 7)) for i in range(THREADS + 9)]
    rows = find(frames, [HEADER] * len(frames), [9] * len(frames), [LZ4] * len(frames))
    assert [row[1] for row in rows] == [1 + i % 7 for i in range(len(frames))]


def test_splits_behind_one_that_is_not_there() -> None:
    frame = framed(b"abc", b"de") + struct.pack("<i", 100) + b"f"
    rows = find([frame], [HEADER], [2], [LZ4], splits=4)
    assert [row[:2] for row in rows[:2]] == [[20, 3], [27, 2]]
    assert rows[1][5] == 0, "it is stored: nobody looks into it"
    assert [row[1:] for row in rows[2:]] == [NOTHING] * 2


def test_starts_anywhere() -> None:
    """Where a size stands only in part behind the header there is no stream."""
    frame = framed(b"abc")
    starts = [-(2**31), *range(-2, len(frame) + 3), 2**31 - 1]
    n = len(starts)
    rows = find([frame] * n, starts, [9] * n, [LZ4] * n)
    for start, row in zip(starts, rows, strict=True):
        assert (row[1:] == NOTHING) == (start != HEADER), start


@pytest.mark.parametrize("inner", INNER)
def test_streams_cut_anywhere(inner: int) -> None:
    """The frame ends where the stream was cut; only the size says whether it is whole."""
    stream = INNER[inner]
    cut = [stream[:end] for end in range(1, len(stream))]
    frames = [framed(one) for one in cut]
    n = len(frames)
    rows = find(frames, [HEADER] * n, [len(DATA)] * n, [inner] * n)
    assert [row[1] for row in rows] == [len(one) for one in cut]
    if inner == ZSTD:
        assert not any(row[5] for row in rows)
    sizes = [len(frame) for frame in frames]
    short = find([framed(stream)[:size] for size in sizes], [HEADER] * n, [9] * n, [inner] * n)
    assert [row[1:] for row in short] == [NOTHING] * n


@given(
    frame=st.binary(min_size=HEADER, max_size=80),
    head=st.sampled_from([b"", INNER[ZSTD][:6], INNER[ZLIB][:2], b"\xff\xff"]),
    start=st.integers(-3, 90) | st.sampled_from([-(2**31), 2**31 - 1]),
    part=st.integers(1, 1 << 20),
    inner=st.integers(0, 7),
    splits=st.integers(1, 16),
)
def test_noise_stays_inside(
    frame: bytes, head: bytes, start: int, part: int, inner: int, splits: int
) -> None:
    rest = frame[HEADER:]
    whole = frame[:HEADER] + struct.pack("<i", len(head + rest)) + head + rest
    for one in (whole, frame):
        for row in find([one], [start], [part], [inner], splits):
            assert row[1:] == NOTHING or HEADER + 4 <= row[0] <= row[0] + row[1] <= len(one)
