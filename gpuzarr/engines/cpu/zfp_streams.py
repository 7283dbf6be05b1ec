"""zfp streams, made safe to decode: zfp reads on past the end of what it is given.

Streams are padded to the most that their blocks could take, so that damaged ones are read within
bounds. Whether a stream was cut short shows by decoding it with two paddings: a whole stream never
reaches them. `zfp` of Zarr v3 stores no header, so one is built (zfp 1.0, src/zfp.c).

    magic "zfp" and codec version 5     32 bits
    sizes - 1, axes - 1, type - 1       48, 2 and 2 bits
    mode                                12 bits, or 64 in the long form
"""

from __future__ import annotations

from math import frexp, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.step_error import DamageError, expect_nbytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cpu.prepared import Run

MAGIC = int.from_bytes(b"zfp\x05", "little")
HEADER_BITS = 96
LONG_MODE_BITS = 64
SHORT_MODE_BITS = 12
TYPES = {"int32": 1, "int64": 2, "float32": 3, "float64": 4}
SIZE_BITS = (48, 24, 16, 12)
"""Bits of each size in the header, for 1 to 4 axes."""
MAX_PRECISION = 64
MIN_EXPONENT = -1074
SIGN_AND_EXPONENT = {"float32": 9, "float64": 12}
"""Bits that each block of floats takes at the least."""


def with_header(dtype: np.dtype, nbytes: int) -> Run:
    """numcodecs' `zfpy`: streams that say their own type, shape and mode."""

    def decode_zfpy(encoded: memoryview, target: memoryview | None) -> memoryview:
        import zfpy  # noqa: PLC0415  an optional package

        del target
        if len(encoded) < HEADER_BITS // 8:
            raise DamageError(f"{len(encoded)} bytes are too few to hold a header")
        header = zfpy.header(bytes(encoded[:32]).ljust(32, b"\0"))
        sizes = [size for key in ("nw", "nz", "ny", "nx") if (size := int(header[key]))]
        own = np.dtype(header["type"])
        if own != dtype.newbyteorder("="):
            raise DamageError(f"elements of {own} where {dtype} is due")
        expect_nbytes(prod(sizes) * own.itemsize, nbytes)
        stream = bytes(encoded)
        return _decode(lambda room, byte: stream.ljust(len(stream) + room, byte), sizes, dtype)

    return decode_zfpy


def without_header(dtype: np.dtype, settings: dict[str, Any]) -> Run:
    """v3's `zfp`: the metadata hold what the header would."""
    sizes = settings["shape"] or [1]
    header, bits = build_header(dtype.name, sizes, settings)
    exact = _block_bits(dtype.name, len(sizes), settings) if "rate" in settings else None

    def decode_zfp(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        if exact is not None and 8 * len(encoded) < exact * _count_blocks(sizes):
            raise DamageError(f"{len(encoded)} bytes are too few for {sizes}")
        if 8 * len(encoded) < _count_blocks(sizes):  # each block takes a bit at the least
            raise DamageError(f"{len(encoded)} bytes are too few for {sizes}")
        whole = (header & ((1 << bits // 8 * 8) - 1)).to_bytes(bits // 8, "little")
        given = bytes(encoded)

        def padded(room: int, byte: bytes) -> bytes:
            stream = np.frombuffer(given.ljust(len(given) + room, byte), np.uint8)
            if bits % 8:
                # The header ends in the middle of a byte: shift everything by half a byte, the
                # padding too, which begins right behind the stream's last bit.
                shifted = np.zeros(len(stream) + 1, np.uint8)
                shifted[:-1] = stream << np.uint8(4)
                shifted[1:] |= stream >> np.uint8(4)
                shifted[0] |= np.uint8(header >> (bits - 4))
                stream = shifted
            return whole + stream.tobytes()

        return _decode(padded, sizes, dtype)

    return decode_zfp


def build_header(name: str, sizes: list[int], settings: dict[str, Any]) -> tuple[int, int]:
    """The header as one number, least significant bit first, and its number of bits."""
    axes = len(sizes)
    fields = 0
    for size in sizes:
        fields = fields << SIZE_BITS[axes - 1] | (size - 1)
    fields = (fields << 2 | (axes - 1)) << 2 | (TYPES[name] - 1)
    mode = _short_mode(name, axes, settings)
    mode_bits = SHORT_MODE_BITS
    if mode is None:
        mode, mode_bits = _long_mode(name, axes, settings), LONG_MODE_BITS
    return MAGIC | fields << 32 | mode << 84, 84 + mode_bits


def _short_mode(name: str, axes: int, settings: dict[str, Any]) -> int | None:
    match settings["mode"]:
        case "fixed_rate":
            bits = _block_bits(name, axes, settings)
            return bits - 1 if bits <= 1 << 11 else None
        case "fixed_precision":
            return _precision(settings) - 1 + (1 << 11)
        case "reversible":
            return (1 << 11) + (1 << 7)
        case "fixed_accuracy":
            exponent = _exponent(settings)
            return exponent - MIN_EXPONENT + (1 << 11) + (1 << 7) + 1
        case _:
            return None


def _long_mode(name: str, axes: int, settings: dict[str, Any]) -> int:
    if settings["mode"] == "fixed_rate":
        bits = _block_bits(name, axes, settings)
        settings = {"minbits": bits, "maxbits": bits, "maxprec": 64, "minexp": MIN_EXPONENT}
    mode = max(0, min(int(settings["minexp"]) + 16495, 0x7FFF))
    mode = mode << 7 | max(1, min(int(settings["maxprec"]), 1 << 7)) - 1
    mode = mode << 15 | max(1, min(int(settings["maxbits"]), 1 << 15)) - 1
    mode = mode << 15 | max(1, min(int(settings["minbits"]), 1 << 15)) - 1
    return mode << 12 | 0xFFF


def _block_bits(name: str, axes: int, settings: dict[str, Any]) -> int:
    """Bits of each block at a fixed rate."""
    bits = int((1 << 2 * axes) * float(settings["rate"]) + 0.5)
    return min(max(bits, SIGN_AND_EXPONENT.get(name, 1)), 1 << 15)


def _precision(settings: dict[str, Any]) -> int:
    return min(int(settings["precision"]) or MAX_PRECISION, MAX_PRECISION)


def _exponent(settings: dict[str, Any]) -> int:
    tolerance = settings["tolerance"]
    return max(frexp(tolerance)[1] - 1, MIN_EXPONENT) if tolerance > 0 else MIN_EXPONENT


def _count_blocks(sizes: list[int]) -> int:
    return prod(-(-size // 4) for size in sizes)


def _decode(padded: Callable[[int, bytes], bytes], sizes: list[int], dtype: np.dtype) -> memoryview:
    """Decode a stream with a header, which must be whole.

    Args:
        padded: gives the stream with so many bytes of padding behind it.
        sizes: of the array, as zfp has them.
        dtype: of the result.
    """
    import zfpy  # noqa: PLC0415  an optional package

    blocks, values = _count_blocks(sizes), 1 << 2 * len(sizes)
    least = int(zfpy.header(padded(32, b"\0"))["config"]["expert"]["minbits"])
    # The header is the data's own: what it asks for is held against what is there.
    if 8 * len(padded(0, b"\0")) < least * blocks:
        raise DamageError("the data end early")
    # No block takes more than its values' bit planes and the tests between them, unless a fixed
    # rate asks for more.
    room = blocks * max(66 * values + 128, least) // 8 + 64
    numbers = zfpy.decompress_numpy(padded(room, b"\0"))
    again = zfpy.decompress_numpy(padded(room, b"\xff"))
    if numbers.tobytes() != again.tobytes():
        raise DamageError("the data end early")
    flat = np.ascontiguousarray(numbers).reshape(-1).astype(dtype, copy=False)
    return flat.view(np.uint8).data
