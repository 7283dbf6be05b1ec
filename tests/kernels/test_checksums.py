"""Checksum kernels against zlib, numcodecs and the checksum in zstd's own frames."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from numcodecs.fletcher32 import Fletcher32

from gpuzarr.engines.cuda.kernels import THREADS
from tests.kernels.arguments import addresses, integers, launch, unaligned

if TYPE_CHECKING:
    from collections.abc import Callable


def adler32(data: bytes) -> int:
    return zlib.adler32(data)


def fletcher32(data: bytes) -> int:
    encoded = bytes(Fletcher32().encode(np.frombuffer(data, np.uint8))) if data else bytes(4)
    return int.from_bytes(encoded[-4:], "little")


def xxh64(data: bytes) -> int:
    """The low 32 bits, as a frame ends with them."""
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    return int.from_bytes(frame[-4:], "little")


ALGORITHMS = {"adler32": adler32, "fletcher32": fletcher32, "xxh64": xxh64}


def compute(algorithm: str, ranges: list[bytes], shift: int = 0) -> list[int]:
    sources = [unaligned(np.frombuffer(data, np.uint8), shift) for data in ranges]
    value = np.zeros(len(ranges), np.uint32)
    blocks = -(-len(ranges) // THREADS) if algorithm == "xxh64" else len(ranges)
    sizes = integers([len(data) for data in ranges])
    launch(algorithm, blocks, addresses(sources), sizes, value, len(ranges))
    return value.tolist()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(ranges=st.lists(st.binary(max_size=700), min_size=1, max_size=5), shift=st.integers(0, 7))
def test_random_ranges(algorithm: str, ranges: list[bytes], shift: int) -> None:
    expected: Callable[[bytes], int] = ALGORITHMS[algorithm]
    assert compute(algorithm, ranges, shift) == [expected(data) for data in ranges]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_short_length(algorithm: str) -> None:
    """Every way in which a range can end; more ranges than a block has threads."""
    data = np.random.default_rng(7).integers(0, 256, 600, np.uint8).tobytes()
    ranges = [data[size : 2 * size] for size in range(THREADS + 44)]
    assert compute(algorithm, ranges, 1) == [ALGORITHMS[algorithm](one) for one in ranges]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("fill", [0x00, 0xFF])
def test_long_ranges_of_extreme_bytes(algorithm: str, fill: int) -> None:
    """Sums overflow here first, where they can."""
    ranges = [bytes([fill]) * size for size in (1, 2, 3, 65521, 131070, 1_500_001)]
    assert compute(algorithm, ranges) == [ALGORITHMS[algorithm](data) for data in ranges]
