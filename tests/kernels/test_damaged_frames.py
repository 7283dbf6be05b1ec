"""Damaged Blosc frames through the kernels that look into them and decode them, by the hundred.

Each frame, and each stream of it, lies in memory of its own that is just as long, so that
AddressSanitizer sees the first byte too many. What the kernels find is what the host's walk and
c-blosc find.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import numcodecs.blosc
import numpy as np
import pytest

from gpuzarr.engines.cuda.frames.blosc_on_device import Probe, walk_blosc_on_device
from gpuzarr.engines.cuda.frames.walk import walk_frames
from gpuzarr.engines.cuda.slabs import SlabPool
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.frames.rebuild import batch, host_decodes, unshuffled
from tests.kernels.arguments import addresses, integers
from tests.kernels.test_blosclz import decode as run_blosclz

if TYPE_CHECKING:
    from gpuzarr.engines.cuda.frames.streams import EncodedChunks, Frames, StreamTable

SIZE = 2400
FRAMES_A_ROUND, ROUNDS = 120, 8
NUMBERS = (0, 1, 2, 3, 4, 15, 16, 17, 20, 255, 256, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4)
COLUMNS = ("nbytes", "target", "decoded", "blocks", "check")


def samples() -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    ramp = np.cumsum(rng.integers(0, 5, SIZE // 4)).astype("<u4").view(np.uint8)
    noise = rng.integers(0, 256, SIZE, np.uint8)
    mixed = np.where(np.arange(SIZE) % 400 < 200, noise, 7).astype(np.uint8)
    return [ramp, noise, mixed, np.zeros(SIZE, np.uint8)]


def whole_frames(codec: str) -> list[bytes]:
    return [
        bytes(numcodecs.blosc.compress(data, codec.encode(), 9, shuffle, block, typesize=typesize))
        for data in samples()
        for shuffle in (0, 1, 2)
        for block in (0, 256, 1000)
        for typesize in (1, 4, 8)
    ]


def damaged(chance: random.Random, frame: bytes) -> bytes:
    """One or two of: bits flipped, a number replaced, cut, bytes added, a part moved."""
    out = bytearray(frame)
    for _ in range(chance.choice([1, 1, 2])):
        at = chance.randrange(len(out)) if out else 0
        match chance.randrange(8):
            case 0:
                out = out[:at]
            case 6 | 7 if at > 20:  # cut, and the header says so
                out = out[:at]
                out[12:16] = struct.pack("<I", at)
            case 1:
                out += chance.randbytes(chance.choice([1, 4, 30]))
            case 2 if out:
                out[at] ^= 1 << chance.randrange(8)
            case 3 if len(out) > 64:  # the header, the table of starts, the first sizes
                place = 4 * chance.randrange(1, 16)
                out[place : place + 4] = struct.pack("<I", chance.choice([*NUMBERS, len(frame)]))
            case 4 if out:
                out[min(at, 15)] = chance.randrange(256)
            case _:
                other = chance.randrange(len(out) + 1)
                part = out[min(at, other) : max(at, other)]
                out[at : at + len(part)] = part[::-1]
    return bytes(out)


def walk(encoded: list[bytes], sizes: list[int]) -> tuple[Frames, np.ndarray]:
    """What the kernels find in frames in memories of their own, and where those begin."""
    device = FakeDevice()
    stream = device.current_stream()
    memory = [np.frombuffer(frame, np.uint8).copy() for frame in encoded]
    place = addresses(memory)
    probe = Probe(device, SlabPool(device), stream)
    nbytes = integers([len(frame) for frame in encoded])
    found = walk_blosc_on_device(probe, 0, place, nbytes, integers(sizes))
    return found, place


def assert_same(
    host: StreamTable, begins: np.ndarray, found: StreamTable, place: np.ndarray
) -> None:
    """Two tables with the same rows, whose sources count from other places."""
    order = [np.lexsort((table.target, table.chunk)) for table in (host, found)]
    first = [host.source - begins[host.chunk], found.source - place[found.chunk]]
    assert first[0][order[0]].tolist() == first[1][order[1]].tolist()
    assert host.chunk[order[0]].tolist() == found.chunk[order[1]].tolist()
    for name in COLUMNS:
        values = [getattr(t, name)[o].tolist() for t, o in zip((host, found), order, strict=True)]
        assert values[0] == values[1], name


def assert_same_frames(chunks: EncodedChunks, encoded: list[bytes], sizes: list[int]) -> Frames:
    """The walk of the kernels and that of the host agree; gives the host's."""
    expected = walk_frames("blosc", chunks)
    found, place = walk(encoded, sizes)
    assert found.failures.keys() == expected.failures.keys()
    assert found.host == expected.host
    assert found.streams.keys() == expected.streams.keys()
    for name, table in expected.streams.items():
        assert_same(table, chunks.offset, found.streams[name], place)
    assert_same(expected.copies, chunks.offset, found.copies, place)
    return expected


@pytest.mark.parametrize("codec", ["blosclz", "lz4", "zlib", "zstd"])
def test_damaged_frames_are_seen_through(codec: str) -> None:
    chance = random.Random(codec)  # noqa: S311  the same in every run
    frames = whole_frames(codec)
    taken = refused = 0
    for _ in range(ROUNDS):
        encoded = [damaged(chance, chance.choice(frames)) for _ in range(FRAMES_A_ROUND)]
        sizes = [
            SIZE if chance.random() < 0.9 else chance.choice([1, 256, SIZE + 1]) for _ in encoded
        ]
        found = assert_same_frames(batch(encoded, sizes), encoded, sizes)
        refused += len(found.failures) + len(found.host)
        taken += len(encoded) - len(found.failures) - len(found.host)
    assert taken > 20
    assert refused > 20


def test_what_the_kernels_decode_c_blosc_decodes_alike() -> None:
    """blosclz's own streams, and those that are stored: all of a damaged frame on the device."""
    chance = random.Random(3)  # noqa: S311  the same in every run
    frames = whole_frames("blosclz")
    encoded = [damaged(chance, chance.choice(frames)) for _ in range(ROUNDS * FRAMES_A_ROUND)]
    chunks = batch(encoded, [SIZE] * len(encoded))
    found = walk_frames("blosc", chunks)
    right = wrong = 0
    for row, frame in enumerate(encoded):
        expected = host_decodes("blosc", frame, SIZE)
        if row in found.failures or row in found.host:
            assert expected is None or row in found.host
            continue
        if any((t.chunk == row).any() for name, t in found.streams.items() if name != "blosclz"):
            continue  # its flags say another compressor now
        image = decode_row(chunks, found, row)
        right, wrong = right + (image is not None), wrong + (image is None)
        assert image == expected
    assert right > 20
    assert wrong > 5


def decode_row(chunks: EncodedChunks, frames: Frames, row: int) -> bytes | None:
    """A chunk by the kernels; None where a stream is refused or has another size."""
    image = np.zeros(SIZE, np.uint8)
    for name, table in [*frames.streams.items(), ("copies", frames.copies)]:
        rows = np.flatnonzero(table.chunk == row).tolist()
        streams = [
            chunks.data[table.source[i] : table.source[i] + table.nbytes[i]].tobytes() for i in rows
        ]
        sizes = [int(table.decoded[i]) for i in rows]
        parts = [np.frombuffer(stream, np.uint8) for stream in streams]
        if name == "blosclz" and streams:
            parts, actual, outcome = run_blosclz(streams, sizes)
            if outcome.any() or actual.tolist() != sizes:
                return None
        for i, part in zip(rows, parts, strict=True):
            image[table.target[i] : table.target[i] + len(part)] = part
    return unshuffled(image, frames, row).tobytes()
