"""The walk on the device finds what the walk on the host finds, of good and of damaged frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gpuzarr.engines.cuda.frames.blosc_on_device import Probe, walk_blosc_on_device
from gpuzarr.engines.cuda.frames.walk import walk_frames
from gpuzarr.engines.cuda.slabs import SlabPool
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.frames.rebuild import batch, check_promises
from tests.engines.cuda.frames.test_walks import RNG, blosc, sample, snappy_frame

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
