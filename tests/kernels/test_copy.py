"""`copy_ranges` against the bytes themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cuda.kernels import COPY_TILE, VECTOR
from gpuzarr.engines.cuda.pieces import first_blocks
from tests.kernels.arguments import addresses, integers, launch, unaligned

RNG = np.random.default_rng(7)
BEHIND = 8
"""Bytes behind each target, which must stay as they are."""


def copy_and_compare(sizes: list[int], source_shift: int, target_shift: int) -> None:
    sources = [unaligned(RNG.integers(1, 256, size, np.uint8), source_shift) for size in sizes]
    targets = [unaligned(np.zeros(size + BEHIND, np.uint8), target_shift) for size in sizes]
    edges = first_blocks(integers(sizes), COPY_TILE)
    columns = (addresses(sources), addresses(targets), integers(sizes), edges, len(sizes))
    launch("copy_ranges", int(edges[-1]), *columns)
    for source, target in zip(sources, targets, strict=True):
        np.testing.assert_array_equal(target[: len(source)], source)
        assert not target[len(source) :].any()


@given(
    sizes=st.lists(st.integers(0, 3 * COPY_TILE), min_size=1, max_size=4),
    shifts=st.tuples(st.integers(0, 16), st.integers(0, 16)),
)
def test_any_ranges(sizes: list[int], shifts: tuple[int, int]) -> None:
    copy_and_compare(sizes, *shifts)


@pytest.mark.parametrize("shift", range(VECTOR))
@pytest.mark.parametrize("apart", [0, 1, 4, 8])
def test_heads_and_tails(shift: int, apart: int) -> None:
    """Every alignment, with and without whole vectors between head and tail, at tiles' ends."""
    around = [*range(2 * VECTOR + 2), *range(COPY_TILE - 2, COPY_TILE + VECTOR + 2)]
    copy_and_compare(around, shift, shift + apart)


def test_ranges_without_bytes_are_passed_over() -> None:
    copy_and_compare([0, 0, 5, 0, 0, 0, COPY_TILE, 0, 1, 0], 3, 3)
    copy_and_compare([0, 0], 0, 0)
