"""Shards that are decoded whole, and N5 blocks."""

from __future__ import annotations

import gzip
import struct
from itertools import product
from typing import Any

import google_crc32c
import numpy as np
import pytest

from gpuzarr.codecs.lower import lower
from gpuzarr.engines.cpu.decoder import ChunkDecoder
from gpuzarr.engines.step_error import StepError
from tests.codecs.chains import (
    BIG,
    LITTLE,
    CodecLike,
    as_json,
    lower_chain_of,
    make_metadata,
    sharding,
)

MISSING = 2**64 - 1


def write_shard(
    array: np.ndarray, chunk_shape: tuple[int, ...], *, skip: tuple[int, ...] | None = None
) -> bytes:
    """A shard of gzip-compressed little-endian chunks, the index at the end."""
    counts = [size // chunk for size, chunk in zip(array.shape, chunk_shape, strict=True)]
    body = b""
    index: list[int] = []
    for place in product(*map(range, counts)):
        if place == skip:
            index += [MISSING, MISSING]
            continue
        part = array[
            tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, chunk_shape, strict=True))
        ]
        encoded = gzip.compress(part.tobytes())
        index += [len(body), len(encoded)]
        body += encoded
    stored = struct.pack(f"<{len(index)}Q", *index)
    return body + stored + struct.pack("<I", google_crc32c.value(stored))


def decode(shard: bytes, shape: tuple[int, ...], *codecs: CodecLike, fill: Any = 0) -> np.ndarray:
    metadata = make_metadata("int32", shape, *codecs, fill_value=np.int32(fill))
    lowered = lower(metadata)
    assert lowered.shard is None
    return ChunkDecoder(lowered.program, shape).decode(memoryview(shard)).copy()


def test_delta_in_front() -> None:
    array = np.arange(24, dtype="<i4").reshape(4, 6) ** 2
    differences = np.diff(array.reshape(-1), prepend=np.int32(0)).reshape(4, 6)
    shard = write_shard(differences, (2, 3))
    delta = ("numcodecs.delta", {"dtype": "<i4"})
    found = decode(shard, (4, 6), delta, sharding((2, 3), LITTLE, "gzip"))
    np.testing.assert_array_equal(found, array)


def test_reshape_in_front_and_a_codec_behind() -> None:
    array = np.arange(24, dtype="<i4").reshape(2, 3, 4)
    shard = write_shard(array.reshape(6, 4), (3, 2))
    reshape = ("reshape", {"shape": [[0, 1], 4]})
    codec = sharding((3, 2), LITTLE, "gzip")
    found = decode(gzip.compress(shard), (2, 3, 4), reshape, codec, "gzip")
    np.testing.assert_array_equal(found, array)


def test_missing_chunks_hold_the_fill_value() -> None:
    array = np.arange(24, dtype="<i4").reshape(4, 6)
    shard = write_shard(array, (2, 3), skip=(1, 0))
    codecs = ("reshape", {"shape": [4, 6]}), sharding((2, 3), LITTLE, "gzip")
    found = decode(shard, (4, 6), *codecs, fill=-7)
    expected = array.copy()
    expected[2:, :3] = -7
    np.testing.assert_array_equal(found, expected)


def test_a_compressed_shard_in_a_shard() -> None:
    array = np.arange(32, dtype="<i4").reshape(8, 4)
    inner = gzip.compress(write_shard(array, (2, 4)))
    lowered = lower_chain_of(
        "int32", (8, 4), sharding((8, 4), sharding((2, 4), LITTLE, "gzip"), "gzip")
    )
    found = ChunkDecoder(lowered.program, (8, 4)).decode(memoryview(inner))
    np.testing.assert_array_equal(found, array)


def test_shards_in_a_whole_shard() -> None:
    array = np.arange(32, dtype="<i4").reshape(8, 4)
    parts = [write_shard(array[i : i + 4], (2, 2)) for i in (0, 4)]
    index = struct.pack("<4Q", 0, len(parts[0]), len(parts[0]), len(parts[1]))
    shard = b"".join(parts) + index + struct.pack("<I", google_crc32c.value(index))
    codecs = ("reshape", {"shape": [8, 4]}), sharding((4, 4), sharding((2, 2), LITTLE, "gzip"))
    np.testing.assert_array_equal(decode(shard, (8, 4), *codecs), array)


def test_damage() -> None:
    array = np.arange(24, dtype="<i4").reshape(4, 6)
    shard = write_shard(array, (2, 3))
    codecs = ("reshape", {"shape": [4, 6]}), sharding((2, 3), LITTLE, "gzip")
    for length in range(len(shard)):
        with pytest.raises(StepError):
            decode(shard[:length], (4, 6), *codecs)
    plain = sharding((2, 3), LITTLE, "gzip", index_codecs=as_json(LITTLE))
    for entry in ((0, 2**63), (2**64 - 1, 5), (5, 2**64 - 1), (len(shard), 1), (2**63, 2**63)):
        index = struct.pack("<2Q", *entry) + shard[-52:-4]
        with pytest.raises(StepError):
            decode(shard[:-68] + index, (4, 6), codecs[0], plain)


N5 = ("n5_default", {"codecs": as_json(("transpose", {"order": [1, 0]}), BIG, "gzip")})


def block(array: np.ndarray) -> bytes:
    header = struct.pack(f">HH{array.ndim}I", 0, array.ndim, *array.shape)
    return header + gzip.compress(np.ascontiguousarray(array.T).astype(">i4").tobytes())


def test_n5_blocks() -> None:
    array = np.arange(24, dtype="i4").reshape(4, 6)
    np.testing.assert_array_equal(decode(block(array), (4, 6), N5), array)
    cropped = decode(block(array[:3, :5]), (4, 6), N5)
    np.testing.assert_array_equal(cropped[:3, :5], array[:3, :5])
    assert not cropped[3:].any()
    assert not cropped[:, 5:].any()


def test_damaged_n5_blocks() -> None:
    encoded = block(np.arange(24, dtype="i4").reshape(4, 6))
    for length in range(len(encoded)):
        with pytest.raises(StepError):
            decode(encoded[:length], (4, 6), N5)
    for place, value in ((1, 1), (3, 3), (7, 5), (7, 0), (4, 255), (11, 7)):
        damaged = bytearray(encoded)
        damaged[place] = value
        with pytest.raises(StepError):
            decode(bytes(damaged), (4, 6), N5)
