"""Beginnings of zstd chunks: no more is decoded than is needed, unless a checksum covers all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zstandard

import gpuzarr
from gpuzarr.engines.cpu.decoders import prepare
from gpuzarr.engines.cpu.prepared import Limit
from gpuzarr.program import Decompress
from tests.arrays import encoded as as_json
from tests.arrays import v3_metadata

SHAPE = (96, 80, 40)
NUMBERS = np.random.default_rng(4).integers(0, 50, SHAPE, np.int32)
DATA = NUMBERS.tobytes()
NBYTES = len(DATA)


def compress(data: bytes = DATA, *, checksum: bool = False, size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(3, write_checksum=checksum, write_content_size=size).compress(
        data
    )


def decode(frame: bytes, spans: list[tuple[int, int]], nbytes: int = NBYTES) -> bytes | None:
    """The place after a part was decoded; None where all must be."""
    prepared = prepare("zstd", Decompress("zstd"), nbytes, Limit(nbytes))
    assert prepared.run_spans is not None
    place = bytearray(b"\xa5" * nbytes)
    return bytes(place) if prepared.run_spans(memoryview(frame), memoryview(place), spans) else None


@pytest.mark.parametrize(
    "spans", [[(0, 1)], [(5, 9), (2, 3)], [(200_000, 300_000)], [(NBYTES // 2, NBYTES * 3 // 4)]]
)
def test_what_is_behind_is_left_out(spans: list[tuple[int, int]]) -> None:
    found = decode(compress(), spans)
    assert found is not None
    end = max(end for _, end in spans)
    assert found[:end] == DATA[:end]
    assert found[end:] == b"\xa5" * (NBYTES - end)


def test_most_of_a_chunk_is_all_of_it() -> None:
    assert decode(compress(), [(0, NBYTES * 4 // 5)]) is None
    assert decode(compress(), [(NBYTES - 1, NBYTES)]) is None


@pytest.mark.parametrize(
    "frame",
    [
        compress(checksum=True),
        compress(size=False),
        compress(DATA[:100]) + compress(DATA[100:]),
        compress() + compress(b""),
        compress() + b"more",
        compress()[:-1],
        compress()[:3],
        compress(DATA[:-4]),
        b"",
        compress()[:40] + b"\xff" * (len(compress()) - 40),
    ],
    ids=["checksum", "no size", "two", "empty", "more", "cut", "short", "size", "none", "damage"],
)
def test_what_is_left_to_the_whole(frame: bytes) -> None:
    assert decode(frame, [(0, 100_000)]) is None


def test_small_chunks_have_one_block() -> None:
    assert prepare("zstd", Decompress("zstd"), 1 << 17, Limit(1 << 17)).run_spans is None
    assert prepare("zstd", Decompress("zstd"), None, Limit(1 << 20)).run_spans is None


def opened(*, checksum: bool, damage: int | None = None) -> gpuzarr.Array:
    codecs: list[Any] = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 3, "checksum": checksum}},
    ]
    chunk = bytearray(compress(checksum=checksum))
    if damage is not None:
        chunk[damage] ^= 0x10
    document = v3_metadata(SHAPE, SHAPE, codecs=codecs)
    store = {"zarr.json": as_json(document), "c/0/0/0": bytes(chunk)}
    return gpuzarr.open_array(store, device="cpu")


KEYS: list[Any] = [
    3,
    (slice(5, 20), slice(None), 7),
    (slice(40, 2, -3), slice(3, 60, 9)),
    (0, 0, 0),
    (slice(None), 3, 4),
    ...,
]


@pytest.mark.parametrize("checksum", [False, True])
def test_reads(*, checksum: bool) -> None:
    array = opened(checksum=checksum)
    for key in KEYS:
        np.testing.assert_array_equal(array[key], NUMBERS[key])
    results = gpuzarr.read_batch([(array, key) for key in KEYS[:3]])
    for key, found in zip(KEYS, results, strict=False):
        np.testing.assert_array_equal(found, NUMBERS[key])


def test_a_checksum_is_compared_whatever_is_needed() -> None:
    with pytest.raises(gpuzarr.ChunkError):
        opened(checksum=True, damage=-1)[0]
    with pytest.raises(gpuzarr.ChunkError):
        gpuzarr.read_batch([(opened(checksum=True, damage=-1), 0)])
