"""The delta filter undone against the CPU engine, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gpuzarr.engines.cpu import filters
from gpuzarr.engines.cuda.capability import reason_against
from gpuzarr.engines.cuda.kernels import THREADS
from gpuzarr.program import CumulativeSum
from tests.engines.cuda.fake_nvcomp import FakeNvcomp
from tests.kernels.test_elementwise import (
    FLOATS,
    INTEGERS,
    assert_same,
    chunks,
    run,
    types,
    undone,
)


@pytest.mark.parametrize("decoded", INTEGERS)
@pytest.mark.parametrize("encoded", INTEGERS)
def test_sums_of_integers(encoded: str, decoded: str) -> None:
    step = CumulativeSum(encoded, decoded)
    if reason_against(step, FakeNvcomp()) is not None:  # NumPy does not sum in the decoded type
        assert np.promote_types(encoded, decoded) != np.dtype(decoded).newbyteorder("=")
        return
    parts = chunks(encoded, (1, 31, 33, THREADS, 2 * THREADS + 5))
    got = run("sum_integers", parts, decoded, *types(encoded, decoded), blocks="chunks")
    for part, found in zip(parts, got, strict=True):
        assert_same(undone(filters.cumulative_sum, step, part, decoded), found)


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        *((f, f) for f in FLOATS),
        ("<f4", "<f8"),
        ("<i2", "<f4"),
        ("|u1", "<f2"),
        ("<f2", ">f4"),
    ],
)
def test_sums_of_floats(encoded: str, decoded: str) -> None:
    parts = [*chunks(encoded, (1, 31, 33, 500)), np.array([-0.0, -0.0]).astype(encoded)]
    parts += chunks(encoded, (40,) * 9)
    got = run("sum_floats", parts, decoded, *types(encoded, decoded), blocks="warps")
    step = CumulativeSum(encoded, decoded)
    for part, found in zip(parts, got, strict=True):
        with np.errstate(all="ignore"):
            assert_same(undone(filters.cumulative_sum, step, part, decoded), found)


@pytest.mark.parametrize("dtype", ["<c8", "<c16", ">c8"])
def test_sums_of_complex_numbers(dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=77) + 1j * rng.normal(size=77)).astype(dtype)
    got = run("sum_floats", [values], dtype, *types(dtype, dtype), blocks="warps")
    np.testing.assert_array_equal(
        got[0], undone(filters.cumulative_sum, CumulativeSum(dtype, dtype), values, dtype)
    )


@given(npst.arrays(np.dtype("<f4"), st.integers(1, 70)))
def test_sums_of_any_floats(values: np.ndarray) -> None:
    got = run("sum_floats", [values], "<f4", *types("<f4", "<f4"), blocks="warps")
    with np.errstate(all="ignore"):
        expected = undone(filters.cumulative_sum, CumulativeSum("<f4", "<f4"), values, "<f4")
    np.testing.assert_array_equal(got[0], expected)


@given(
    dtypes=st.sampled_from([("<i4", "<i8"), ("|i1", ">i4"), (">u2", "<u8"), ("<i8", "<i8")]),
    sizes=st.lists(st.integers(0, 3 * THREADS), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_sums_of_chunks_of_any_length(dtypes: tuple[str, str], sizes: list[int], seed: int) -> None:
    """Empty ones among them: a chunk has a thread block whatever its length."""
    encoded, decoded = map(np.dtype, dtypes)
    rng = np.random.default_rng(seed)
    parts = [rng.integers(0, 256, n * encoded.itemsize, np.uint8).view(encoded) for n in sizes]
    got = run("sum_integers", parts, decoded, *types(encoded, decoded), blocks="chunks")
    for part, found in zip(parts, got, strict=True):
        np.testing.assert_array_equal(found, np.cumsum(part, dtype=decoded))


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
def test_sums_that_are_small_large_or_none(dtype: str) -> None:
    """Denormals are added, not flushed; infinities and what they make stay to the end."""
    info = np.finfo(dtype)
    least, most = float(info.smallest_subnormal), float(info.max)
    parts = [
        np.array([least] * 5 + [-3 * least] * 2, dtype),
        np.array([float(info.tiny), -least, -least, least], dtype),
        np.array([most, most / 4, 1.0, -most], dtype),
        np.array([most, most, -np.inf, 1.0], dtype),
        np.array([1.0, float(info.eps) / 2, float(info.eps) / 2, float(info.eps)], dtype),
        np.array([-0.0, -0.0, 0.0, -0.0], dtype),
    ]
    got = run("sum_floats", parts, dtype, *types(dtype, dtype), blocks="warps")
    for part, found in zip(parts, got, strict=True):
        with np.errstate(all="ignore"):
            assert_same(np.cumsum(part, dtype=dtype), found)


def test_the_last_warps_of_a_block_may_have_no_chunk() -> None:
    parts = chunks("<f4", (3,) * (THREADS // 32 + 1))
    got = run("sum_floats", parts, "<f4", *types("<f4", "<f4"), blocks="warps")
    for part, found in zip(parts, got, strict=True):
        assert_same(np.cumsum(part, dtype="<f4"), found)
