"""The walk on the device finds what the walk on the host finds, of good and of damaged frames."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numcodecs
import numpy as np
import pytest

from gpuzarr.engines.cuda.frames.blosc_on_device import Probe, walk_blosc_on_device
from gpuzarr.engines.cuda.frames.walk import walk_frames
from gpuzarr.engines.cuda.slabs import SlabPool
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.frames.rebuild import batch, check_promises
from tests.engines.cuda.frames.test_walks import (
    RNG,
    blosc,
    odd_zstd_inside,
    sample,
    snappy_frame,
    starts_in_header,
)

if TYPE_CHECKING:
    from gpuzarr.engines.cuda.frames.streams import Frames, StreamTable


def on_device(encoded: list[bytes], sizes: list[int]) -> tuple[Frames, Frames]:
    """What both walks find."""
    device = FakeDevice()
    chunks = batch(encoded, sizes)
    stream = device.current_stream()
    memory = device.allocate(len(chunks.data) + 8, stream)
    memory.bytes[: len(chunks.data)] = chunks.data
    probe = Probe(device, SlabPool(device), stream)
    columns = (chunks.offset, chunks.nbytes, chunks.decoded)
    found = walk_blosc_on_device(probe, memory.address, *columns)
    check_promises(chunks, found)
    return walk_frames("blosc", chunks), found


def assert_same_tables(expected: StreamTable, found: StreamTable) -> None:
    for name in ("chunk", "source", "nbytes", "target", "decoded", "blocks", "check"):
        key = [np.lexsort((table.target, table.chunk)) for table in (expected, found)]
        assert getattr(expected, name)[key[0]].tolist() == getattr(found, name)[key[1]].tolist(), (
            name
        )


def assert_same(expected: Frames, found: Frames) -> None:
    assert found.failures.keys() == expected.failures.keys()
    assert found.host == expected.host
    assert found.streams.keys() == expected.streams.keys()
    for name, table in expected.streams.items():
        assert_same_tables(table, found.streams[name])
    assert_same_tables(expected.copies, found.copies)
    good = [row for row in range(len(expected.shuffle)) if row not in expected.failures]  # type: ignore[arg-type]
    for column in ("shuffle", "typesize", "block"):
        assert getattr(expected, column)[good].tolist() == getattr(found, column)[good].tolist()


@pytest.mark.parametrize("damaged", [False, True])
def test_both_walks_find_the_same(damaged: bool) -> None:  # noqa: FBT001
    for _ in range(6):
        encoded, sizes = [], []
        for _ in range(40):
            data = sample(int(2 ** RNG.uniform(3, 15)), int(RNG.integers(0, 4)))
            frame = bytearray(blosc(data))
            if damaged:
                for _ in range(int(RNG.integers(0, 3))):
                    frame[int(RNG.integers(0, min(len(frame), 60)))] = int(RNG.integers(0, 256))
                frame = frame[: int(RNG.integers(0, 3 * len(frame)))]
            encoded.append(bytes(frame))
            sizes.append(len(data))
        assert_same(*on_device(encoded, sizes))


def test_snappy_and_what_is_too_short() -> None:
    data = sample(1000, 1)
    wrong = bytearray(snappy_frame(data))
    wrong[24] ^= 1
    encoded = [snappy_frame(data), bytes(wrong), b"", b"abc", blosc(b"x" * 20)]
    assert_same(*on_device(encoded, [1000, 1000, 10, 10, 20]))


@pytest.mark.parametrize("codec", ["blosclz", "lz4", "zlib", "zstd"])
def test_truncation_anywhere(codec: str) -> None:
    data = sample(3000, 0)
    frame = numcodecs.Blosc(codec, blocksize=1000).encode(np.frombuffer(data, "<f4"))
    encoded = [bytes(frame[:end]) for end in range(len(frame) + 1)]
    assert_same(*on_device(encoded, [len(data)] * len(encoded)))


def test_noise_in_any_word() -> None:
    """Numbers of the header, of the table of starts, and of streams are replaced by odd ones."""
    odd = (0, -1, 1, 4, 8, 12, 16, 20, 2**31 - 1, -(2**31))
    for _ in range(10):
        encoded, sizes = [], []
        for _ in range(60):
            data = sample(int(2 ** RNG.uniform(6, 12)), int(RNG.integers(0, 4)))
            frame = bytearray(blosc(data))
            choices = (*odd, len(data), len(frame), len(frame) - 4)
            place = 4 * int(RNG.integers(1, max(min(len(frame) // 4, 12), 2)))
            frame[place : place + 4] = struct.pack("<i", int(RNG.choice(choices)))
            encoded.append(bytes(frame))
            sizes.append(len(data))
        assert_same(*on_device(encoded, sizes))


def test_what_no_writer_makes() -> None:
    odd = list(odd_zstd_inside().values())
    assert_same(*on_device(odd, [500] * len(odd)))
    starts = starts_in_header()
    assert_same(*on_device(starts, [64] * len(starts)))
