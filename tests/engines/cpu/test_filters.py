"""Filters against numcodecs, bit for bit."""

from __future__ import annotations

from typing import Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.step_error import StepError
from gpuzarr.program import (
    Cast,
    CumulativeSum,
    Reorder,
    ScaleOffset,
    UnpackBits,
    Unshuffle,
    resolve_dtype,
)
from tests.engines.cpu.programs import decode

DTYPES = ["<i1", "<u1", "<i2", ">i2", "<u4", ">i8", "<f2", "<f4", ">f4", "<f8", ">f8"]


def same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal bytes, so that NaN equals itself and -0.0 does not equal 0.0."""
    assert found.tobytes() == np.asarray(expected).tobytes()


def values(dtype: str, count: int = 1001) -> np.ndarray:
    rng = np.random.default_rng(3)
    raw = rng.integers(0, 256, count * np.dtype(dtype).itemsize, np.uint8)
    return raw.view(dtype)


@pytest.mark.parametrize("itemsize", [1, 2, 3, 4, 6, 8, 12, 16])
@pytest.mark.parametrize("count", [0, 1, 7, 100, 40_000])
def test_byte_shuffle(itemsize: int, count: int) -> None:
    data = values("u1", count * itemsize)
    encoded = numcodecs.Shuffle(itemsize).encode(data)
    same_bits(decode(encoded, "u1", (count * itemsize,), Unshuffle(itemsize)), data)


def test_bytes_behind_the_last_element_stay() -> None:
    data = values("u1", 42)
    shuffled = np.concatenate([numcodecs.Shuffle(4).encode(data[:40]), data[40:]])
    same_bits(decode(shuffled, "u1", (42,), Unshuffle(4)), data)


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_bit_shuffle(itemsize: int) -> None:
    data = values("u1", 640 * itemsize)
    bits = np.unpackbits(data.reshape(640, itemsize), axis=1, bitorder="little")
    encoded = np.packbits(bits.T, axis=1, bitorder="little")
    step = Unshuffle(itemsize, "bit")
    same_bits(decode(encoded.tobytes(), "u1", (640 * itemsize,), step), data)


@pytest.mark.parametrize("decoded", DTYPES)
@pytest.mark.parametrize("encoded", DTYPES)
def test_delta(decoded: str, encoded: str) -> None:
    codec = numcodecs.Delta(decoded, encoded)
    stored = values(encoded)
    with np.errstate(all="ignore"):
        expected = codec.decode(stored.tobytes())
    step = CumulativeSum(encoded, decoded)
    same_bits(decode(stored.tobytes(), decoded, (1001,), step), expected)


@pytest.mark.parametrize("decoded", ["<f4", ">f8", "<i4", "<u2"])
@pytest.mark.parametrize("encoded", DTYPES)
@pytest.mark.parametrize(("scale", "offset"), [(10, 1000), (0.1, -3.7), (1, 0), (2.5, 7)])
def test_fixed_scale_offset(decoded: str, encoded: str, scale: float, offset: float) -> None:
    codec = numcodecs.FixedScaleOffset(offset, scale, decoded, encoded)
    stored = values(encoded)
    with np.errstate(all="ignore"):
        expected = codec.decode(stored.tobytes())
    step = ScaleOffset(encoded, decoded, scale, offset, "fixedscaleoffset")
    same_bits(decode(stored.tobytes(), decoded, (1001,), step), expected)


@pytest.mark.parametrize("decoded", DTYPES)
@pytest.mark.parametrize("encoded", DTYPES)
def test_casts(decoded: str, encoded: str) -> None:
    stored = values(encoded)
    with np.errstate(all="ignore"):
        expected = numcodecs.AsType(encoded, decoded).decode(stored.tobytes())
    found = decode(stored.tobytes(), decoded, (1001,), Cast(encoded, decoded))
    same_bits(found, expected)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_packed_booleans_of_numcodecs(count: int) -> None:
    data = np.random.default_rng(1).integers(0, 2, count).astype(bool)
    encoded = numcodecs.PackBits().encode(data)
    step = UnpackBits("|b1", 1, "first_byte", order="big")
    same_bits(decode(encoded, "|b1", (count,), step), data)


def pack(fields: list[int], bits: int) -> bytes:
    """The bit stream of v3's packbits, as a number."""
    stream = sum((field & ((1 << bits) - 1)) << (i * bits) for i, field in enumerate(fields))
    return stream.to_bytes(-(-len(fields) * bits // 8), "little")


@given(
    st.sampled_from(["i1", "u1", "<i2", "<u2", ">i4", "<u4", "<i8", "<u8"]),
    st.data(),
)
def test_bit_streams_of_integers(name: str, data: st.DataObject) -> None:
    dtype = np.dtype(name)
    width = 8 * dtype.itemsize
    first = data.draw(st.integers(0, width - 1))
    bits = data.draw(st.integers(1, width - first))
    fields = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=20))
    padding = data.draw(st.sampled_from(["none", "first_byte", "last_byte"]))
    native = dtype.newbyteorder("<").str
    expected = []
    for field in fields:
        number = field << first
        if dtype.kind == "i":
            signed = field - (1 << bits) if field >> (bits - 1) else field
            number = signed << first
        expected.append(number)
    stream = pack(fields, bits)
    rest = bytes([8 * len(stream) - len(fields) * bits])
    stream = {"none": stream, "first_byte": rest + stream, "last_byte": stream + rest}[padding]
    step = UnpackBits(native, bits, padding, first, sign_extend=dtype.kind == "i")  # type: ignore[arg-type]
    found = decode(stream, native, (len(fields),), step)
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        *(("int2", 2), ("uint2", 2), ("int4", 4), ("uint4", 4)),
        *(("float4_e2m1fn", 4), ("float6_e2m3fn", 6), ("float6_e3m2fn", 6)),
    ],
)
def test_types_narrower_than_a_byte(name: str, bits: int) -> None:
    dtype = resolve_dtype(name)
    fields = list(range(1 << bits))
    expected = np.array(fields, np.uint8).view(dtype).astype("f8")
    signed = name.startswith("int")
    packed = UnpackBits(name, bits, sign_extend=signed)
    found = decode(pack(fields, bits), dtype, (len(fields),), packed)
    np.testing.assert_array_equal(found.astype("f8"), expected)
    # In whole bytes the upper bits may be anything.
    dirty = bytes(field | 0xFF << bits & 0xFF for field in fields)
    whole = UnpackBits(name, 8, sign_extend=signed)
    found = decode(dirty, dtype, (len(fields),), whole)
    np.testing.assert_array_equal(found.astype("f8"), expected)


def test_complex_bit_streams() -> None:
    data = np.array([1 + 2j, -3.5j], "<c8")
    step = UnpackBits("<c8", 32)
    np.testing.assert_array_equal(decode(data.tobytes(), "<c8", (2,), step), data)


@pytest.mark.parametrize("encoded", [b"", b"\x00", b"\x03\xff", b"\x00\xff\xff", b"\x07\xff"])
def test_bit_streams_of_wrong_length(encoded: bytes) -> None:
    step = UnpackBits("|b1", 1, "first_byte", order="big")
    with pytest.raises(StepError):
        decode(encoded, "|b1", (6,), step)


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f4", "<f8", "<c16", "S3"])
def test_reorder(dtype: str) -> None:
    array = values("u1", 24 * np.dtype(dtype).itemsize).view(dtype).reshape(2, 3, 4)
    stored = array.transpose(2, 0, 1).tobytes()
    step = Reorder(array.itemsize, (2, 0, 1))
    same_bits(decode(stored, dtype, (2, 3, 4), step), array)
    same_bits(decode(stored, dtype, (24,), Reorder(array.itemsize, (2, 0, 1), (2, 3, 4))), array)


STEPS: list[tuple[Any, str]] = [
    (Unshuffle(4), "<f4"),
    (CumulativeSum("<i2", "<i4"), "<i4"),
    (ScaleOffset("|u1", "<f4", 2, 3, "fixedscaleoffset"), "<f4"),
    (ScaleOffset("<i4", "<i4", 2, 3, "scale_offset"), "<i4"),
    (Cast("<f8", "<f4"), "<f4"),
    (UnpackBits("<i4", 12), "<i4"),
    (Reorder(4, (0,)), "<i4"),
]


@pytest.mark.parametrize(("step", "dtype"), STEPS)
@pytest.mark.parametrize("length", [0, 1, 3, 11, 81])
def test_wrong_lengths(step: Any, dtype: str, length: int) -> None:
    with pytest.raises(StepError):
        decode(bytes(length), dtype, (10,), step)
