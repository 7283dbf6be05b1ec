"""cast_value and scale_offset of Zarr v3: rounding, ranges, scalar maps, exactness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.step_error import StepError
from gpuzarr.program import Cast, ScaleOffset, canonical_json, resolve_dtype
from tests.engines.cpu.programs import decode

F4_MAX = float(np.finfo("f4").max)
NEAR_F4_MAX = F4_MAX * (1 + 2**-26)
INF = math.inf


def cast(
    numbers: list[Any],
    encoded: str,
    decoded: str,
    rounding: str = "nearest-even",
    out_of_range: str | None = None,
    scalar_map: list[list[Any]] | None = None,
) -> list[Any]:
    rules: dict[str, Any] = {"rounding": rounding}
    if out_of_range is not None:
        rules["out_of_range"] = out_of_range
    if scalar_map is not None:
        rules["scalar_map"] = scalar_map
    stored = np.array(numbers, resolve_dtype(encoded))
    step = Cast(encoded, decoded, canonical_json(rules))
    found = decode(stored.tobytes(), resolve_dtype(decoded), stored.shape, step)
    return list(found.tolist())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # What cast-value-rs 0.5.1, which zarr-python 3.4 uses, gives.
        (([1e39, -1e39], "<f8", "<f4", "nearest-even", "clamp"), [INF, -INF]),
        (([1e39, -1e39], "<f8", "<f4", "towards-zero", "clamp"), [INF, -INF]),
        (([NEAR_F4_MAX], "<f8", "<f4"), [F4_MAX]),
        (([NEAR_F4_MAX], "<f8", "<f4", "towards-zero"), [F4_MAX]),
        (([NEAR_F4_MAX], "<f8", "<f4", "towards-positive", "clamp"), [INF]),
        (([INF, -INF], "<f8", "<f4"), [INF, -INF]),
        (([1e20, -1e20, 300.5], "<f8", "|u1", "nearest-even", "wrap"), [0, 0, 44]),
        (([127.4, -128.4], "<f8", "|i1"), [127, -128]),
        (([2.5, 3.5, -2.5, 0.4999999999999999], "<f8", "|i1"), [2, 4, -2, 0]),
        (([2.5, -2.5, 0.49999999999999994], "<f8", "|i1", "nearest-away"), [3, -3, 0]),
        (([2.5, -2.5], "<f8", "|i1", "towards-zero"), [2, -2]),
        (([2.5, -2.5], "<f8", "|i1", "towards-positive"), [3, -2]),
        (([2.5, -2.5], "<f8", "|i1", "towards-negative"), [2, -3]),
        (([2**53 + 1], "<i8", "<f8"), [2.0**53]),
        (([2**53 + 1], "<i8", "<f8", "towards-positive"), [2.0**53 + 2]),
        (([2**24 + 1, -(2**24) - 1], "<i4", "<f4"), [2.0**24, -(2.0**24)]),
        (
            ([2**24 + 1, -(2**24) - 1], "<i4", "<f4", "nearest-away"),
            [2.0**24 + 2, -(2.0**24) - 2],
        ),
        (([70000], "<i4", "<f2", "nearest-even", "clamp"), [INF]),
        (([2**63 - 1], "<i8", "<f4", "towards-zero"), [9.223371487098962e18]),
        (([0.0, -0.0, 1.0], "<f8", "<i4", "nearest-even", None, [[0.0, 7]]), [7, 7, 1]),
        (([5e-324], "<f8", "<f4", "towards-positive"), [1.401298464324817e-45]),
        (([2**63], "<u8", "<i8", "nearest-even", "wrap"), [-(2**63)]),
        (([300, -5], "<i2", "|u1", "nearest-even", "clamp"), [255, 0]),
        (([300, -5], "<i2", "|u1", "nearest-even", "wrap"), [44, 251]),
        (([1e300, -1e300, 7.0], "<f8", "<i8", "nearest-even", "clamp"), [2**63 - 1, -(2**63), 7]),
        (([2.0**64, 5.0], "<f8", "<u8", "nearest-even", "clamp"), [2**64 - 1, 5]),
        (([math.nan, 1.0], "<f4", "|u1", "nearest-even", None, [["NaN", 9]]), [9, 1]),
        (([INF], "<f4", "|u1", "nearest-even", None, [["Infinity", 1]]), [1]),
        (([-INF], "<f4", "|u1", "nearest-even", None, [["-Infinity", 2]]), [2]),
        (([0, 1], "|u1", "<f8", "nearest-even", None, [[0, "Infinity"], [0, 5.0]]), [INF, 1.0]),
        (([7, -9], "|i1", "int4", "nearest-even", "clamp"), [7, -8]),
        (([9, -9], "|i1", "int4", "nearest-even", "wrap"), [-7, 7]),
        (([1.0, 1e9], "<f4", "float8_e4m3fn", "nearest-even", "clamp"), [1.0, 448.0]),
        (([2**100], "<f8", "bfloat16"), [2.0**100]),
        (([], "<f8", "|i1"), []),
    ],
)  # fmt: skip
def test_values(arguments: tuple[Any, ...], expected: list[Any]) -> None:
    assert cast(*arguments) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ([1e39], "<f8", "<f4"),
        ([1e39], "<f8", "<f4", "towards-zero"),
        ([NEAR_F4_MAX], "<f8", "<f4", "towards-positive"),
        ([math.nan], "<f8", "<i4", "nearest-even", "clamp"),
        ([INF], "<f8", "<i4", "nearest-even", "clamp"),
        ([INF], "<f8", "<i4", "nearest-even", "wrap"),
        ([127.5], "<f8", "|i1"),
        ([-128.5000001], "<f8", "|i1"),
        ([300], "<i2", "|u1"),
        ([-1], "<i8", "<u8"),
        ([2**63], "<u8", "<i8"),
        ([2.0**63], "<f8", "<i8"),
        ([70000], "<i4", "<f2"),
        ([8], "|i1", "int4"),
        ([1e9], "<f4", "float8_e4m3fn"),
        ([math.nan], "<f4", "float4_e2m1fn"),
    ],
)
def test_what_a_type_cannot_hold(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(StepError, match="not a value of"):
        cast(*arguments)


def test_nan_stays_and_zero_keeps_its_sign() -> None:
    found = cast([math.nan, -0.0, -1e-60], "<f8", "<f4", "towards-zero")
    assert math.isnan(found[0])
    assert [math.copysign(1, each) for each in found[1:]] == [-1, -1]


@given(
    st.lists(st.floats(-(2.0**31), 2.0**31 - 1, width=64), max_size=20),
    st.sampled_from(["<f8", ">f8"]),
)
def test_nearest_even_is_numpys(numbers: list[float], encoded: str) -> None:
    assert cast(numbers, encoded, "<f4") == np.array(numbers, "f4").tolist()
    assert cast(numbers, encoded, "<i4") == np.rint(numbers).astype("i4").tolist()


@given(st.floats(-1e30, 1e30, width=64))
def test_directed_rounding_brackets_the_value(number: float) -> None:
    (down,) = cast([number], "<f8", "<f4", "towards-negative")
    (up,) = cast([number], "<f8", "<f4", "towards-positive")
    (zero,) = cast([number], "<f8", "<f4", "towards-zero")
    assert down <= number <= up
    assert up == down or np.nextafter(np.float32(down), np.float32(np.inf)) == up
    assert zero == (down if number > 0 else up)


def scaled(numbers: list[Any], dtype: str, scale: Any, offset: Any, encoded: str = "") -> list[Any]:
    encoded = encoded or dtype
    step = ScaleOffset(encoded, dtype, scale, offset, "scale_offset")
    stored = np.array(numbers, resolve_dtype(encoded))
    return list(decode(stored.tobytes(), resolve_dtype(dtype), stored.shape, step).tolist())


def test_scale_offset_of_integers() -> None:
    assert scaled([10, -20, 0], "<i4", 5, 7) == [9, 3, 7]
    assert scaled([10, -20, 0], "<i4", 5, 7, ">i4") == [9, 3, 7]
    assert scaled([250], "|u1", 1, 5) == [255]
    assert scaled([2**64 - 2], "<u8", 2, 2**63) == [2**64 - 1]
    assert scaled([-(2**63)], "<i8", -1, -5) == [2**63 - 5]
    assert scaled([], "<i8", 3, 1) == []
    assert scaled([6, -8], "int4", 2, 1) == [4, -3]


@pytest.mark.parametrize(
    ("numbers", "dtype", "scale", "offset"),
    [
        ([3], "<i4", 2, 0),
        ([2**64 - 1], "<u8", 2, 0),
        ([251], "|u1", 1, 5),
        ([-128], "|i1", -1, 0),
        ([2**63 - 1], "<i8", 1, 1),
        ([0], "|u1", 1, -1),
        ([7], "int4", 1, 1),
    ],
)
def test_scale_offset_that_is_not_exact(
    numbers: list[int], dtype: str, scale: int, offset: int
) -> None:
    with pytest.raises(StepError):
        scaled(numbers, dtype, scale, offset)


def test_scale_offset_of_floats_stays_in_the_type() -> None:
    stored = np.array([1, 3, 1e38, np.inf, np.nan], "<f4")
    scale, offset = np.float32(0.1), np.float32(5)
    with np.errstate(all="ignore"):
        expected = stored / scale + offset
    found = scaled(list(stored), "<f4", float(scale), 5.0)
    np.testing.assert_array_equal(np.array(found, "f4"), expected)
    assert scaled([1.5, 2], "bfloat16", 2.0, 1.0) == [1.75, 2.0]
    assert scaled([1.0], "<f8", "Infinity", 2.0) == [2.0]


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint64", "float16", "float32"])
def test_zarr_pythons_scale_offset(dtype: str) -> None:
    zarr = pytest.importorskip("zarr", minversion="3.4")
    from gpuzarr.codecs.lower import lower  # noqa: PLC0415
    from gpuzarr.engines.cpu.decoder import ChunkDecoder  # noqa: PLC0415
    from gpuzarr.metadata.v3 import parse_array  # noqa: PLC0415

    store: dict[str, Any] = {}
    codec = zarr.codecs.ScaleOffset(offset=3, scale=2)
    data = np.arange(3, 60).astype(dtype)
    array = zarr.create_array(
        store, shape=data.shape, dtype=dtype, filters=[codec], compressors=None, fill_value=3
    )
    array[:] = data
    import json  # noqa: PLC0415

    metadata = parse_array(json.loads(store["zarr.json"].to_bytes()))
    decoder = ChunkDecoder(lower(metadata).program, data.shape)
    np.testing.assert_array_equal(decoder.decode(memoryview(store["c/0"].to_bytes())), data)
