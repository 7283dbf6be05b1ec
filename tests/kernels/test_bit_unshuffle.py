"""`bit_unshuffle` against the CPU engine, and against c-blosc."""

from __future__ import annotations

import numcodecs.blosc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cpu import filters
from gpuzarr.engines.cuda.kernels import BIT_TILE
from gpuzarr.engines.cuda.pieces import first_blocks
from tests.kernels.arguments import addresses, integers, launch, unaligned

RNG = np.random.default_rng(7)
SHUFFLED_BITS = 0x04
ONE_BLOCK = 0x10


def unshuffle(
    sources: list[np.ndarray], typesizes: list[int], *, round_down: bool, shift: int = 0
) -> list[np.ndarray]:
    targets = [unaligned(np.zeros(len(source), np.uint8), shift) for source in sources]
    sizes, column = integers([len(source) for source in sources]), integers(typesizes)
    edges = first_blocks(np.maximum(sizes // column, 1), BIT_TILE)
    columns = (addresses(sources), addresses(targets), sizes, column, edges, len(sources))
    launch("bit_unshuffle", int(edges[-1]), *columns, round_down)
    return targets


@given(
    items=st.lists(st.tuples(st.integers(0, 2100), st.integers(1, 17)), min_size=1, max_size=4),
    round_down=st.booleans(),
    shifts=st.tuples(st.integers(0, 7), st.integers(0, 7)),
)
def test_any_items(
    items: list[tuple[int, int]],
    round_down: bool,  # noqa: FBT001
    shifts: tuple[int, int],
) -> None:
    sources = [unaligned(RNG.integers(0, 256, n, np.uint8), shifts[0]) for n, _ in items]
    typesizes = [typesize for _, typesize in items]
    targets = unshuffle(sources, typesizes, round_down=round_down, shift=shifts[1])
    for source, target, typesize in zip(sources, targets, typesizes, strict=True):
        expected = source.copy()
        if round_down or len(source) // typesize % 8 == 0:
            filters.unshuffle_bits(source, expected, typesize)
        np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("typesize", [1, 2, 3, 4, 8, 16, 255])
@pytest.mark.parametrize("count", [0, 7, 8, BIT_TILE - 8, BIT_TILE, 3 * BIT_TILE + 8, 1003])
@pytest.mark.parametrize("behind", [0, 1])
def test_blocks_as_c_blosc_takes_them(typesize: int, count: int, behind: int) -> None:
    """A frame whose one block is stored in a single literal run says what c-blosc makes of it."""
    data = RNG.integers(0, 256, count * typesize + behind % typesize, np.uint8)
    if len(data) == 0:
        return
    (target,) = unshuffle([data], [typesize], round_down=False)
    assert target.tobytes() == decode_by_c_blosc(data, typesize)


def decode_by_c_blosc(shuffled: np.ndarray, typesize: int) -> bytes:
    """What c-blosc gives for one block of these shuffled bytes."""
    runs = [shuffled[start : start + 32].tobytes() for start in range(0, len(shuffled), 32)]
    stream = b"".join(bytes([len(run) - 1]) + run for run in runs)
    flags = SHUFFLED_BITS | ONE_BLOCK
    head = bytes([2, 1, flags, typesize])
    sizes = [len(shuffled), len(shuffled), 16 + 8 + len(stream), 20, len(stream)]
    frame = head + np.array(sizes, "<i4").tobytes() + stream
    return bytes(numcodecs.blosc.decompress(frame))
