"""array -> array codecs: they reorder elements, or change each one.

numcodecs' filters are here too. In Zarr v3 they stand in front of `bytes`; in Zarr v2 they follow
it and see raw bytes, so each carries its own dtype, byte order included.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.codecs.chain import Codec
from gpuzarr.codecs.configuration import (
    malformed,
    refuse_other_keys,
    take_choice,
    take_dtype,
    take_int,
    take_number,
)
from gpuzarr.codecs.scalars import DATA_TYPE_BITS, parse_scalar, resolve_number_type
from gpuzarr.errors import UnsupportedError
from gpuzarr.metadata.document import shorten
from gpuzarr.program import (
    Cast,
    CumulativeSum,
    ScaleOffset,
    UnpackBits,
    canonical_json,
    dtype_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuzarr.codecs.chain import Chain, Sizes

MOST_SCALARS = 1 << 12
"""Pairs of cast_value's scalar map; each is looked for in every chunk."""
ROUNDING = (
    "nearest-even",
    "towards-zero",
    "towards-positive",
    "towards-negative",
    "nearest-away",
)
"""cast_value's rounding modes."""


def transpose(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """v3 `transpose`: a list of axes, or the early "C" and "F"."""
    order = configuration.get("order")
    identity = tuple(range(chain.ndim))
    if order == "C":
        order = identity
    elif order == "F":
        order = identity[::-1]
    if (
        not isinstance(order, list | tuple)
        or not all(type(axis) is int for axis in order)
        or sorted(order) != list(identity)
    ):
        malformed(
            "transpose", f"'order' must permute the axes 0 to {chain.ndim - 1}, not {order!r}"
        )
    chain.transpose(tuple(order))


def reshape(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """v3 `reshape`: sizes, -1 once, or lists of input axes whose sizes multiply."""
    refuse_other_keys("reshape", configuration, ("shape",))
    wanted = configuration.get("shape")
    if not isinstance(wanted, list | tuple):
        malformed("reshape", f"'shape' must be a list, not {wanted!r}")
    if (shape := chain.shape) is None:
        chain.refuse("codec 'reshape' needs chunks of one shape, but the grid is rectilinear")
        return
    sizes = _reshaped_sizes(wanted, shape)
    for axis, each in enumerate(wanted):
        if (
            isinstance(each, list | tuple)
            and each
            and (
                prod(sizes[:axis]) != prod(shape[: each[0]])
                or prod(sizes[axis + 1 :]) != prod(shape[each[-1] + 1 :])
            )
        ):
            malformed("reshape", f"input axes {each!r} do not line up in {wanted!r}")
    chain.reshape(tuple((size,) for size in sizes))


def _reshaped_sizes(wanted: Sequence[Any], shape: tuple[int, ...]) -> list[int]:
    """The sizes of each axis behind a reshape codec."""
    inputs = [axis for each in wanted if isinstance(each, list | tuple) for axis in each]
    valid = all(type(axis) is int and 0 <= axis < len(shape) for axis in inputs)
    if not valid or inputs != sorted(set(inputs)):
        malformed("reshape", f"input axes must ascend within 0 to {len(shape) - 1}: {wanted!r}")
    sizes: list[int] = []
    for each in wanted:
        if isinstance(each, list | tuple):
            sizes.append(prod(shape[axis] for axis in each))
        elif type(each) is int and (each > 0 or each == -1):
            sizes.append(each)
        else:
            malformed("reshape", f"'shape' holds {each!r}")
    count = prod(shape)
    if sizes.count(-1) == 1:
        known = prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = count // known
    if -1 in sizes or prod(sizes) != count:
        malformed("reshape", f"{wanted!r} does not hold the {count} elements of {shape}")
    return sizes


def squeeze(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """`zarrs.squeeze`: drops axes of size 1."""
    refuse_other_keys("zarrs.squeeze", configuration, ())
    sizes: Sizes = tuple(each for each in chain.sizes if each != (1,))
    if len(sizes) < chain.ndim:
        chain.reshape(sizes)


def bitround(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """`bitround`: lossy when writing, nothing to undo."""
    take_int("bitround", configuration, "keepbits", at_least=0)
    if chain.stage == "array" and chain.dtype.kind not in "iufcmMV":
        malformed("bitround", f"only numbers can be rounded, not {chain.dtype}")


def scale_offset(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """v3 `scale_offset`: the arithmetic is that of the array's own data type."""
    refuse_other_keys("scale_offset", configuration, ("offset", "scale"))
    if not is_number(chain.dtype):
        malformed("scale_offset", f"the data type must be integers or floats, not {chain.dtype}")
    scale = parse_scalar("scale_offset", configuration.get("scale", 1), chain.dtype)
    offset = parse_scalar("scale_offset", configuration.get("offset", 0), chain.dtype)
    if scale == 0:
        malformed("scale_offset", "'scale' is zero")
    if scale == 1 and offset == 0:
        return
    name, bits = dtype_name(chain.dtype), chain.bits
    chain.push_typed(ScaleOffset(name, name, scale, offset, "scale_offset"), chain.dtype)
    chain.bits = bits


def cast_value(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """v3 `cast_value`: a cast with rounding, range and scalar rules; only decoding matters here."""
    codec = "cast_value"
    refuse_other_keys(codec, configuration, ("data_type", "rounding", "out_of_range", "scalar_map"))
    target, array = configuration.get("data_type"), chain.dtype
    if isinstance(target, dict):
        target = target.get("name")
    if not is_number(array):
        malformed(codec, f"the data type must be integers or floats, not {array}")
    encoded = resolve_number_type(codec, target)
    rules: dict[str, Any] = {
        "rounding": take_choice(codec, configuration, "rounding", ROUNDING, "nearest-even")
    }
    if configuration.get("out_of_range") is not None:
        rules["out_of_range"] = take_choice(codec, configuration, "out_of_range", ("clamp", "wrap"))
        if rules["out_of_range"] == "wrap" and not is_integer(encoded):
            malformed(codec, "'out_of_range' may only wrap for integer types")
    if (scalars := _decode_map(configuration.get("scalar_map"), encoded, array)) is not None:
        rules["scalar_map"] = scalars
    step = Cast(dtype_name(encoded), dtype_name(array), canonical_json(rules))
    chain.push_typed(step, encoded)
    chain.bits = DATA_TYPE_BITS.get(str(target))


def _decode_map(scalar_map: object, encoded: np.dtype, array: np.dtype) -> list[list[Any]] | None:
    """The decode half of a scalar map, as exact values; the first of equal keys counts."""
    if scalar_map is None:
        return None
    if not isinstance(scalar_map, dict):
        malformed("cast_value", f"'scalar_map' must be an object, not {scalar_map!r}")
    refuse_other_keys("cast_value", scalar_map, ("encode", "decode"))
    pairs = scalar_map.get("decode")
    if pairs is None:
        return None
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2  # noqa: PLR2004  a pair
        for pair in pairs
    ):
        malformed("cast_value", f"'decode' must be a list of pairs, not {shorten(pairs)}")
    if len(pairs) > MOST_SCALARS:
        raise UnsupportedError(
            f"codec 'cast_value' maps {len(pairs)} scalars; {MOST_SCALARS} are supported"
        )
    return [
        [parse_scalar("cast_value", key, encoded), parse_scalar("cast_value", value, array)]
        for key, value in pairs
    ]


def delta(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """numcodecs' `delta`."""
    decoded = take_dtype("delta", configuration, "dtype", _plain(chain))
    encoded = take_dtype("delta", configuration, "astype", decoded)
    step = CumulativeSum(dtype_name(encoded), dtype_name(decoded))
    chain.push_typed(step, encoded, order=True)


def fixedscaleoffset(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """numcodecs' `fixedscaleoffset`."""
    codec = "fixedscaleoffset"
    decoded = take_dtype(codec, configuration, "dtype", _plain(chain))
    encoded = take_dtype(codec, configuration, "astype", decoded)
    scale = take_number(codec, configuration, "scale")
    offset = take_number(codec, configuration, "offset")
    names = dtype_name(encoded), dtype_name(decoded)
    step = ScaleOffset(*names, scale, offset, "fixedscaleoffset")
    chain.push_typed(step, encoded)


def quantize(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """numcodecs' `quantize`: only its cast is left to undo."""
    decoded = take_dtype("quantize", configuration, "dtype", _plain(chain))
    encoded = take_dtype("quantize", configuration, "astype", decoded)
    if decoded != encoded:
        chain.push_typed(Cast(dtype_name(encoded), dtype_name(decoded)), encoded)


def astype(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """numcodecs' `astype`."""
    decoded = take_dtype("astype", configuration, "decode_dtype", _plain(chain))
    encoded = take_dtype("astype", configuration, "encode_dtype")
    if decoded != encoded:
        chain.push_typed(Cast(dtype_name(encoded), dtype_name(decoded)), encoded)


def packbits(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """numcodecs' `packbits`: booleans, the padding in the first byte."""
    del configuration
    if chain.stage == "array":
        if chain.dtype.itemsize != 1 or chain.dtype.hasobject:
            malformed("packbits", f"the data type must be bool, not {chain.dtype}")
        chain.layout_dtype = chain.layout_dtype or chain.dtype
        chain.ordered()
    chain.push(UnpackBits("|b1", 1, "first_byte", order="big"))
    chain.dtype, chain.bits = np.dtype("u1"), None
    if chain.stage == "array":
        shape = chain.shape
        # Chunks of several shapes have several packed sizes, which nothing needs to know.
        chain.sizes = ((),) if shape is None else ((1 + -(-prod(shape) // 8),),)
        chain.segment_sizes, chain.axes = chain.sizes, (0,)


def is_integer(dtype: np.dtype) -> bool:
    """Whether elements are integers, those of ml_dtypes included."""
    return dtype.kind in "iu" or (dtype.name in DATA_TYPE_BITS and "int" in dtype.name)


def is_number(dtype: np.dtype) -> bool:
    """Whether elements are integers or floats, those of ml_dtypes included."""
    return dtype.kind in "iuf" or (
        dtype.names is None and dtype.kind == "V" and dtype.type is not np.void
    )


def _plain(chain: Chain) -> np.dtype | None:
    """The dtype here as a default, where it is one of numbers."""
    return None if chain.dtype.hasobject or chain.dtype.names is not None else chain.dtype


ARRAY_CODECS = {
    "transpose": Codec("array -> array", transpose),
    "reshape": Codec("array -> array", reshape),
    "zarrs.squeeze": Codec("array -> array", squeeze),
    "bitround": Codec("array -> array", bitround),
    "scale_offset": Codec("array -> array", scale_offset),
    "cast_value": Codec("array -> array", cast_value),
    "numcodecs.delta": Codec("array -> array", delta, filter=True),
    "numcodecs.fixedscaleoffset": Codec("array -> array", fixedscaleoffset, filter=True),
    "numcodecs.quantize": Codec("array -> array", quantize, filter=True),
    "numcodecs.bitround": Codec("array -> array", bitround, filter=True),
    "numcodecs.astype": Codec("array -> array", astype, filter=True),
    "numcodecs.packbits": Codec("array -> array", packbits, filter=True),
}
