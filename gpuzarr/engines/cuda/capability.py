"""What of a decode program the GPU can do, and where the host's part of it ends.

A program is cut in two: its first `k` steps run on the host, the others on the device.

    stored bytes -> [ host steps ] -> staging -> [ device steps ] -> scatter

`k` is 0 where the GPU can do everything. Where it cannot, `k` is the smallest number behind which
it can do the rest; all steps at most, for then only the scatter is left. A decompression is
planned by a walk over its frames, which the host does, so nothing that needs the GPU may stand
before it; checksums over stored bytes are verified on the host, while these are in its cache.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, assert_never

import numpy as np

from gpuzarr.engines.cuda.kernels import TYPES
from gpuzarr.program import (
    Cast,
    CumulativeSum,
    Decompress,
    HostOnly,
    Reorder,
    ScaleOffset,
    UnpackBits,
    Unshuffle,
    VerifyChecksum,
    describe_step,
    resolve_dtype,
)

if TYPE_CHECKING:
    from gpuzarr.engines.cuda.device import Decompressor
    from gpuzarr.engines.cuda.frames.streams import StreamFormat
    from gpuzarr.program import DecodeProgram, Step

STREAM_FORMATS: dict[str, tuple[StreamFormat, ...]] = {
    "zstd": ("zstd",),
    "gzip": ("gzip",),
    "zlib": ("deflate",),
    "lz4": ("lz4",),
    "blosc": ("zstd", "lz4", "deflate", "snappy"),
}
"""The formats that nvCOMP is asked for, for each format of a program. Blosc's own blosclz has a
kernel of ours."""

_ARITHMETIC_TYPES = ("f2", "f4", "f8")
_FLOATS = ("f4", "f8")
_INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
_CUDA_UNPACK_WIDTH = 64
"""Bits of the widest number that the unpacking kernel writes."""


def type_name(dtype: np.dtype) -> str | None:
    """The name in `kernels.TYPES` of a dtype, in any byte order; None where there is none.

    >>> type_name(np.dtype(">i4"))
    'i4'
    """
    if dtype.names is not None or dtype.hasobject:
        return None
    if np.dtype(dtype.type).isbuiltin == 2:  # noqa: PLR2004  NumPy's number for types of others
        if dtype.name == "bfloat16":
            return "bfloat16"
        if dtype.itemsize > 1:
            return None
        return "integer_table8" if "int" in dtype.name else "table8"
    name = f"{dtype.kind}{dtype.itemsize}"
    return name if name in TYPES else None


def swap_nbytes(dtype: np.dtype) -> int:
    """Bytes of the components of a dtype whose order is not the device's; 0 where it is.

    >>> swap_nbytes(np.dtype(">c8")), swap_nbytes(np.dtype("<f4"))
    (4, 0)
    """
    if dtype.itemsize == 1 or not dtype.str.startswith(">"):
        return 0
    return dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize


@lru_cache(maxsize=256)
def host_steps(program: DecodeProgram, decompressor: Decompressor) -> int:
    """How many steps run on the host: at least the checksums over the stored bytes.

    >>> from gpuzarr.program import DecodeProgram, Layout
    >>> layout = Layout(np.dtype("<f4"), (0,))
    >>> host_steps(DecodeProgram((Decompress("bz2"), Unshuffle(4)), layout), None)
    1
    """
    first = leading_checksums(program)
    planned = False
    for place in range(len(program.steps) - 1, first - 1, -1):
        step = program.steps[place]
        # Before a decompression only checksums may run on the device: the host must see its input.
        if reason_against(step, decompressor) is not None or (
            planned and not isinstance(step, VerifyChecksum)
        ):
            return place + 1
        planned = planned or isinstance(step, Decompress)
    return first


def leading_checksums(program: DecodeProgram) -> int:
    """How many checksums over the stored bytes a program begins with."""
    for place, step in enumerate(program.steps):
        if not isinstance(step, VerifyChecksum):
            return place
    return len(program.steps)


def reasons_against(program: DecodeProgram, decompressor: Decompressor) -> tuple[str, ...]:
    """Every reason why the GPU cannot do a program alone; () when it can."""
    first = leading_checksums(program)
    steps = program.steps[first:]
    reasons = [reason_against(step, decompressor) for step in steps]
    found = [reason for reason in reasons if reason is not None]
    if not found and host_steps(program, decompressor) > first:
        later = next(step for step in steps[1:] if isinstance(step, Decompress))
        found.append(f"{describe_step(later)}: only the host can see what other steps give it")
    return tuple(found)


def reason_against(  # noqa: C901  one case for each step
    step: Step, decompressor: Decompressor
) -> str | None:
    """Why the device cannot do a step, wherever it stands; None when it can."""
    name = describe_step(step)
    match step:
        case VerifyChecksum():
            if step.algorithm in {"crc32", "crc32c"}:
                return _lacking(decompressor, step.algorithm)
            return None
        case Decompress():
            formats = STREAM_FORMATS.get(step.format)
            if formats is None:
                return f"{name}: there is no decoder for it on the GPU"
            return next(filter(None, (_lacking(decompressor, each) for each in formats)), None)
        case Unshuffle() | Reorder():
            return None
        case CumulativeSum():
            return None if _can_sum(step) else f"{name}: not for these types on the GPU"
        case ScaleOffset():
            return None if _can_scale(step) else f"{name}: not for these types on the GPU"
        case Cast():
            if step.configuration != "{}":
                return f"{name}: rules of rounding and range are the host's"
            return None if _can_cast(step) else f"{name}: not for these types on the GPU"
        case UnpackBits():
            width = resolve_dtype(step.decoded).itemsize * 8
            return None if width <= 2 * _CUDA_UNPACK_WIDTH else f"{name}: elements of {width} bits"
        case HostOnly():
            return f"{name}: only the host has this codec"
        case _:
            assert_never(step)


def why_not_direct(program: DecodeProgram) -> str | None:
    """Why the host must see a program's bytes before the device can decode them; None: it need not.

    What has a checksum over stored bytes is decoded after that was verified, so only chunks that
    are not compressed may have one.
    """
    compressors = [step for step in program.steps if isinstance(step, Decompress)]
    if not compressors:
        odd = [step for step in program.steps if isinstance(step, HostOnly)]
        return describe_step(odd[0]) if odd else None
    if compressors != [Decompress("blosc")] or program.steps[0] != compressors[0]:
        return f"{describe_step(compressors[0])} needs the host to look into frames first"
    return None


def _lacking(decompressor: Decompressor, what: str) -> str | None:
    return decompressor.unsupported(what)


def _types(encoded: str, decoded: str) -> tuple[str | None, str | None]:
    return type_name(resolve_dtype(encoded)), type_name(resolve_dtype(decoded))


def _is_integer(name: str | None) -> bool:
    return name in _INTEGERS


def _can_sum(step: CumulativeSum) -> bool:
    encoded, decoded = _types(step.encoded, step.decoded)
    native = [resolve_dtype(name).newbyteorder("=") for name in (step.encoded, step.decoded)]
    if np.promote_types(*native) != native[1]:  # NumPy sums in the wider type then
        return False
    if _is_integer(decoded):
        return _is_integer(encoded)
    if decoded in {"c8", "c16"}:
        return encoded == decoded
    return decoded in _ARITHMETIC_TYPES and (_is_integer(encoded) or encoded in _ARITHMETIC_TYPES)


def _can_scale(step: ScaleOffset) -> bool:
    encoded, decoded = _types(step.encoded, step.decoded)
    if step.arithmetic == "scale_offset":
        return encoded == decoded and (_is_integer(encoded) or encoded in _FLOATS)
    real = _is_integer(encoded) or encoded in _ARITHMETIC_TYPES
    fits = _is_integer(decoded) or decoded in _ARITHMETIC_TYPES
    return real and fits and scaling_type(step) is not None


def scaling_type(step: ScaleOffset) -> str | None:
    """In which type NumPy computes a numcodecs `fixedscaleoffset`; None where it refuses to."""
    encoded = np.zeros(1, resolve_dtype(step.encoded).newbyteorder("="))
    scale, offset = number(step.scale), number(step.offset)
    try:
        with np.errstate(all="ignore"):
            quotient = encoded / scale
            total = quotient + offset
    except (OverflowError, TypeError, ZeroDivisionError):
        return None
    name = type_name(total.dtype)
    return name if quotient.dtype == total.dtype and name in _ARITHMETIC_TYPES else None


def number(value: float | str) -> float:
    """A number of a step, by its name where it has one.

    >>> number("-Infinity")
    -inf
    """
    return float(value.lower()) if isinstance(value, str) else value


def _can_cast(step: Cast) -> bool:
    plain = {"b1", *_ARITHMETIC_TYPES}
    encoded, decoded = _types(step.encoded, step.decoded)
    return (_is_integer(encoded) or encoded in plain) and (_is_integer(decoded) or decoded in plain)
