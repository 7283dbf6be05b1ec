"""Filters on elements against the CPU engine, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpuzarr.engines.cpu import filters
from gpuzarr.engines.cuda.capability import reason_against, scaling_type
from gpuzarr.engines.cuda.filters import _as_signed
from gpuzarr.engines.cuda.kernels import SCATTER_TILE, STATUS, THREADS, TYPES
from gpuzarr.engines.cuda.pieces import first_blocks
from gpuzarr.engines.step_error import DamageError
from gpuzarr.program import Cast, CumulativeSum, ScaleOffset
from tests.engines.cuda.fake_nvcomp import FakeNvcomp
from tests.kernels.arguments import addresses, code, integers, launch, swap, unaligned
from tests.kernels.test_scatter_converted import special

INTEGERS = ("|i1", "|u1", "<i2", ">u2", "<i4", ">u4", "<i8", ">u8")
FLOATS = ("<f2", "<f4", ">f4", "<f8", ">f8")


def run(
    kernel: str, parts: list[np.ndarray], decoded: Any, *more: Any, blocks: str = "tiles"
) -> Any:
    """Launch over several chunks; gives their results and statuses."""
    dtype = np.dtype(decoded)
    sources = [unaligned(part, i) for i, part in enumerate(parts)]
    targets = [unaligned(np.zeros(len(part), dtype), 2 * i) for i, part in enumerate(parts)]
    counts = integers([len(part) for part in parts])
    edges = first_blocks(counts, SCATTER_TILE)
    n = len(parts)
    columns = [addresses(sources), addresses(targets), counts]
    if blocks == "tiles":
        launch(kernel, max(1, int(edges[-1])), *columns, edges, n, *more)
    else:
        launch(kernel, n if blocks == "chunks" else -(-n // (THREADS // 32)), *columns, n, *more)
    return [target.copy().view(dtype) for target in targets]


def types(encoded: Any, decoded: Any) -> tuple[int, ...]:
    return code(encoded), swap(encoded), code(decoded), swap(decoded)


def assert_same(expected: np.ndarray, got: np.ndarray) -> None:
    np.testing.assert_array_equal(got, expected)
    if expected.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


def undone(make: Any, step: Any, stored: np.ndarray, decoded: Any) -> np.ndarray:
    out = make(step)(np.ascontiguousarray(stored).view(np.uint8).data, None)
    return np.frombuffer(bytes(out), np.dtype(decoded))


def chunks(dtype: Any, sizes: tuple[int, ...] = (1, 5, 300, SCATTER_TILE + 9)) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return [
            rng.integers(info.min, info.max, n, dtype.newbyteorder("="), endpoint=True).astype(
                dtype
            )
            for n in sizes
        ]
    scale = 100 if dtype.itemsize == 2 else 1e6
    return [(rng.normal(size=n) * scale).astype(dtype) for n in sizes]


@pytest.mark.parametrize("decoded", [*INTEGERS, *FLOATS, "|b1"])
@pytest.mark.parametrize("encoded", [*INTEGERS, *FLOATS, "|b1"])
def test_cast(encoded: str, decoded: str) -> None:
    """Floats that no integer holds are left out: what C makes of them is not defined."""
    values = special(np.dtype(encoded)).astype(encoded)
    if np.dtype(encoded).kind == "f" and np.dtype(decoded).kind in "iu":
        info = np.iinfo(decoded)
        wide = values.astype("f8")
        values = values[(wide > max(info.min, -(2**62)) - 1) & (wide < min(info.max, 2**62))]
    expected = undone(filters.cast, Cast(encoded, decoded), values, decoded)
    assert_same(expected, run("cast_elements", [values], decoded, *types(encoded, decoded))[0])


@pytest.mark.parametrize("decoded", ["<f8", "<f4", "<f2", "<i4", ">i2", "|u1"])
@pytest.mark.parametrize("encoded", [*INTEGERS, *FLOATS])
@pytest.mark.parametrize(("scale", "offset"), [(10, 0), (0.1, -3.5), (3, 100), (1e-3, 1e4)])
def test_fixedscaleoffset(encoded: str, decoded: str, scale: float, offset: float) -> None:
    step = ScaleOffset(encoded, decoded, scale, offset, "fixedscaleoffset")
    arithmetic = scaling_type(step)
    assert arithmetic is not None
    parts = chunks(encoded)
    if np.dtype(decoded).kind in "iu":  # what fits
        small = 20 if np.dtype(encoded).kind != "u" else 10
        parts = [(part.astype("f8") % small).astype(encoded) for part in parts]
        if abs(20 / scale) + abs(offset) > 120:
            return
        if np.dtype(decoded).kind == "u" and offset < 0:
            return
    got = run(
        "undo_fixedscaleoffset",
        parts,
        decoded,
        *types(encoded, decoded),
        TYPES[arithmetic],
        float(scale),
        float(offset),
    )
    for part, found in zip(parts, got, strict=True):
        assert_same(undone(filters.scale_offset, step, part, decoded), found)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (2, 5), (3, 100), (1, 127), (7, 1)])
def test_scale_offset_of_integers(dtype: str, scale: int, offset: int) -> None:
    step = ScaleOffset(dtype, dtype, scale, offset, "scale_offset")
    info = np.iinfo(dtype)
    edges = [
        info.min,
        info.min + 1,
        -scale,
        0,
        1,
        scale,
        2 * scale,
        info.max // scale * scale,
        info.max,
    ]
    values = [np.array([v], dtype) for v in edges if info.min <= v <= info.max]
    status = np.zeros(len(values), np.int32)
    got = run(
        "undo_scale_offset",
        values,
        dtype,
        *(code(dtype), swap(dtype), swap(dtype), _as_signed(scale), _as_signed(offset)),
        *(
            _as_signed(int(info.min)),
            _as_signed(int(info.max)),
            integers(range(len(values))),
            status,
        ),
    )
    for value, found, noted in zip(values, got, status, strict=True):
        try:
            expected = undone(filters.scale_offset, step, value, dtype)
        except DamageError as error:
            due = "RANGE" if "range" in str(error) else "INEXACT"
            assert noted in (STATUS[due], STATUS["INEXACT"], STATUS["RANGE"])
            continue
        assert noted == 0
        assert_same(expected, found)


@pytest.mark.parametrize("dtype", ["<i4", "<i8"])
def test_negative_scales(dtype: str) -> None:
    step = ScaleOffset(dtype, dtype, -3, 10, "scale_offset")
    values = np.array([-9, 0, 3, 300], dtype)
    info = np.iinfo(dtype)
    status = np.zeros(1, np.int32)
    more = (code(dtype), 0, 0, -3, 10, int(info.min), int(info.max), integers(0), status)
    got = run("undo_scale_offset", [values], dtype, *more)
    assert_same(undone(filters.scale_offset, step, values, dtype), got[0])
    assert not status.any()


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
def test_scale_offset_of_floats(dtype: str) -> None:
    step = ScaleOffset(dtype, dtype, 0.3, 1e-3, "scale_offset")
    values = special(np.dtype(dtype).newbyteorder("=")).astype(dtype)
    status = np.zeros(1, np.int32)
    more = (code(dtype), swap(dtype), swap(dtype), 0.3, 1e-3, 0, 0, integers(0), status)
    got = run("undo_scale_offset", [values], dtype, *more)
    assert_same(undone(filters.scale_offset, step, values, dtype), got[0])


def test_what_has_no_kernel_is_the_hosts() -> None:
    for step in (
        CumulativeSum("|b1", "|b1"),
        ScaleOffset("<c8", "<c8", 2.0, 1.0, "fixedscaleoffset"),
        ScaleOffset("<f2", "<f2", 2.0, 1.0, "scale_offset"),
        Cast("<c8", "<c16"),
        Cast("<f8", "<i2", '{"rounding":"nearest-even"}'),
    ):
        assert reason_against(step, FakeNvcomp()) is not None
