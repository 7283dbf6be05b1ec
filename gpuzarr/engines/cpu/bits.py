"""Bit streams to elements: the arithmetic behind `UnpackBits`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.program import UnpackBits

    Unpack = Callable[[np.ndarray, np.ndarray, int], None]

BYTE = 8
BLOCK = 1 << 15
"""Elements that are unpacked at a time; one bit takes a byte meanwhile. A multiple of 8."""


def unpacker(step: UnpackBits, width: int, kept: int) -> Unpack:
    """The function that fills bytes of `width`-bit numbers from a stream.

    Args:
        step: what the stream holds.
        width: bits of a number in memory.
        kept: bits that the type has; the others stay zero.
    """
    if step.bits == 1 and width == BYTE and step.first_bit == 0:
        return _unpack_single_bits(step)
    if step.bits == BYTE and width == BYTE:
        mask = (1 << kept) - 1
        return lambda stream, out, count: _mask(stream[:count], out, mask)
    return _unpack_any(step, width, kept)


def _unpack_single_bits(step: UnpackBits) -> Unpack:
    def unpack(stream: np.ndarray, out: np.ndarray, count: int) -> None:
        out[:] = np.unpackbits(stream, count=count, bitorder=step.order)
        if step.sign_extend:
            np.negative(out, out=out)

    return unpack


def _mask(stream: np.ndarray, out: np.ndarray, mask: int) -> None:
    np.bitwise_and(stream, np.uint8(mask), out=out)


def _unpack_any(step: UnpackBits, width: int, kept: int) -> Unpack:
    bits, first = step.bits, step.first_bit

    def unpack(stream: np.ndarray, out: np.ndarray, count: int) -> None:
        numbers = out.reshape(count, width // BYTE)
        for start in range(0, count, BLOCK):
            stop = min(start + BLOCK, count)
            piece = stream[start * bits // BYTE : -(-stop * bits // BYTE)]
            plain = np.unpackbits(piece, count=(stop - start) * bits, bitorder=step.order)
            spread = np.zeros((stop - start, width), np.uint8)
            spread[:, first : first + bits] = plain.reshape(-1, bits)
            if step.sign_extend:
                spread[:, first + bits : kept] = spread[:, first + bits - 1, None]
            numbers[start:stop] = np.packbits(spread, axis=1, bitorder="little")

    return unpack
