"""Steps that work on elements: shuffles, delta, scales, casts, bit streams, axis orders.

Each function makes the function of one step, which writes into the place it is given. The arithmetic
is NumPy's own, with the dtypes that numcodecs and zarr-python use, so results agree bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cpu import bits
from gpuzarr.engines.cpu.casts import cast_value
from gpuzarr.engines.cpu.configuration import load
from gpuzarr.engines.cpu.prepared import new_bytes
from gpuzarr.engines.cpu.scale_offset import undo_scale_offset
from gpuzarr.engines.cpu.step_error import DamageError
from gpuzarr.engines.cpu.types import BITS
from gpuzarr.program import count_components, resolve_dtype

if TYPE_CHECKING:
    from gpuzarr.engines.cpu.prepared import Run
    from gpuzarr.program import Cast, CumulativeSum, Reorder, ScaleOffset, UnpackBits, Unshuffle

SHUFFLE_ITEMS = 1 << 15
"""Elements that are unshuffled at a time, so that they stay in the cache."""
WORDS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def elements(data: memoryview, dtype: np.dtype) -> np.ndarray:
    """View bytes as elements."""
    if len(data) % dtype.itemsize:
        message = f"{len(data)} bytes do not divide into elements of {dtype.itemsize}"
        raise DamageError(message)
    return np.ndarray(len(data) // dtype.itemsize, dtype, data)


def unshuffle(step: Unshuffle) -> Run:
    """numcodecs' `shuffle` undone."""
    undo = unshuffle_bytes if step.unit == "byte" else unshuffle_bits
    itemsize = step.itemsize

    def run_unshuffle(encoded: memoryview, target: memoryview | None) -> memoryview:
        place = new_bytes(len(encoded)) if target is None else target
        if len(encoded) != len(place):
            message = f"{len(encoded)} bytes instead of {len(place)}"
            raise DamageError(message)
        undo(np.frombuffer(encoded, np.uint8), np.frombuffer(place, np.uint8), itemsize)
        return place

    return run_unshuffle


def unshuffle_bytes(source: np.ndarray, out: np.ndarray, itemsize: int) -> None:
    """Byte j of element i comes from plane j; bytes behind the last whole element stay."""
    count = len(source) // itemsize
    whole = count * itemsize
    planes = source[:whole].reshape(itemsize, count)
    word = WORDS.get(itemsize)
    if word is None or count == 0:
        out[:whole].reshape(count, itemsize)[:] = planes.T
    else:
        words = out[:whole].view(word)
        for start in range(0, count, SHUFFLE_ITEMS):
            _join_planes(planes[:, start : start + SHUFFLE_ITEMS], words[start:][:SHUFFLE_ITEMS])
    out[whole:] = source[whole:]


def _join_planes(planes: np.ndarray, words: np.ndarray) -> None:
    """Put bytes together by shifts, which run over whole vectors; strided copies do not."""
    little = words.view(words.dtype.newbyteorder("<"))
    np.copyto(words, planes[-1])
    for plane in planes[-2::-1]:
        np.left_shift(words, 8, out=words)
        np.bitwise_or(words, plane, out=words)
    if little.dtype != words.dtype:
        words.byteswap(inplace=True)


def unshuffle_bits(source: np.ndarray, out: np.ndarray, itemsize: int) -> None:
    """Bit k of byte j of element i comes from plane 8 j + k (least significant bits first)."""
    count = len(source) // itemsize // 8 * 8
    whole = count * itemsize
    planes = source[:whole].reshape(8 * itemsize, count // 8)
    bits = np.unpackbits(planes, axis=1, bitorder="little")
    out[:whole] = np.packbits(bits.T, axis=1, bitorder="little").reshape(-1)
    out[whole:] = source[whole:]


def cumulative_sum(step: CumulativeSum) -> Run:
    """numcodecs' `delta` undone."""
    encoded_dtype, decoded_dtype = resolve_dtype(step.encoded), resolve_dtype(step.decoded)

    def run_cumulative_sum(encoded: memoryview, target: memoryview | None) -> memoryview:
        differences = elements(encoded, encoded_dtype)
        place, sums = _place(target, len(differences), decoded_dtype)
        with np.errstate(all="ignore"):
            np.cumsum(differences, out=sums)
        return place

    return run_cumulative_sum


def scale_offset(step: ScaleOffset) -> Run:
    """`encoded / scale + offset`."""
    encoded_dtype, decoded_dtype = resolve_dtype(step.encoded), resolve_dtype(step.decoded)
    if step.arithmetic == "scale_offset":
        undo = undo_scale_offset(step.scale, step.offset, decoded_dtype)

        def run_exact(encoded: memoryview, target: memoryview | None) -> memoryview:
            stored = elements(encoded, encoded_dtype)
            place, values = _place(target, len(stored), decoded_dtype)
            undo(stored, values)
            return place

        return run_exact

    scale, offset = float_or_int(step.scale), float_or_int(step.offset)

    def run_numcodecs(encoded: memoryview, target: memoryview | None) -> memoryview:
        stored = elements(encoded, encoded_dtype)
        place, values = _place(target, len(stored), decoded_dtype)
        with np.errstate(all="ignore"):
            np.copyto(values, stored / scale + offset, casting="unsafe")
        return place

    return run_numcodecs


def float_or_int(number: float | str) -> float:
    """A number of a step, by its name where it has one."""
    return float(number.lower()) if isinstance(number, str) else number


def cast(step: Cast) -> Run:
    """NumPy's astype, or v3's cast_value where the step has rules."""
    encoded_dtype, decoded_dtype = resolve_dtype(step.encoded), resolve_dtype(step.decoded)
    rules = load(step.configuration)

    def run_cast(encoded: memoryview, target: memoryview | None) -> memoryview:
        stored = elements(encoded, encoded_dtype)
        place, values = _place(target, len(stored), decoded_dtype)
        with np.errstate(all="ignore"):
            if rules:
                cast_value(stored, values, rules)
            else:
                np.copyto(values, stored, casting="unsafe")
        return place

    return run_cast


def unpack_bits(step: UnpackBits, nbytes: int | None) -> Run:
    """A bit stream to elements."""
    dtype = resolve_dtype(step.decoded)
    components = count_components(dtype)
    width = 8 * dtype.itemsize // components
    kept = BITS.get(dtype.name, BITS.get(_component_name(dtype), width))
    unpack = bits.unpacker(step, width, kept)
    ahead, behind = step.padding == "first_byte", step.padding == "last_byte"

    def run_unpack_bits(encoded: memoryview, target: memoryview | None) -> memoryview:
        stream = encoded[ahead : len(encoded) - behind]
        pad = -1
        if ahead or behind:
            if len(encoded) == 0:
                raise DamageError("no byte that says the padding")
            pad = encoded[0 if ahead else -1]
        if nbytes is not None:
            count = nbytes // dtype.itemsize * components
        else:
            count = (8 * len(stream) - max(pad, 0)) // step.bits
        place = new_bytes(count * width // 8) if target is None else target
        total = count * step.bits
        if len(stream) != -(-total // 8) or pad not in (-1, 8 * len(stream) - total):
            message = f"{len(stream)} bytes with {pad} bits of padding for {count} elements"
            raise DamageError(message)
        unpack(np.frombuffer(stream, np.uint8), np.frombuffer(place, np.uint8), count)
        return place

    return run_unpack_bits


def _component_name(dtype: np.dtype) -> str:
    return dtype.name if dtype.names is None else dtype[0].name


def reorder(step: Reorder, chunk_shape: tuple[int, ...]) -> Run:
    """Stored axis order to C order."""
    shape = chunk_shape if step.shape is None else step.shape
    stored_shape = tuple(shape[axis] for axis in step.axes)
    inverse = tuple(map(int, np.argsort(step.axes)))
    item = np.dtype(WORDS.get(step.itemsize, f"V{step.itemsize}"))
    item = np.dtype(np.uint8) if step.itemsize == 1 else item

    def run_reorder(
        encoded: memoryview | np.ndarray, target: memoryview | None
    ) -> memoryview | np.ndarray:
        if isinstance(encoded, np.ndarray):
            return encoded.reshape(stored_shape).transpose(inverse).reshape(-1)
        stored = elements(encoded, item).reshape(stored_shape).transpose(inverse)
        place, values = _place(target, stored.size, item)
        np.copyto(values.reshape(shape), stored)
        return place

    return run_reorder


def _place(
    target: memoryview | None, count: int, dtype: np.dtype
) -> tuple[memoryview, np.ndarray]:
    """The place for `count` elements: the given one, which must fit, or a new one."""
    nbytes = count * dtype.itemsize
    place = new_bytes(nbytes) if target is None else target
    if len(place) != nbytes:
        message = f"{count} elements where {len(place) // dtype.itemsize} are due"
        raise DamageError(message)
    return place, np.ndarray(count, dtype, place)
