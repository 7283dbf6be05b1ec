"""array -> bytes codecs: how elements become bytes, with or without compression of their own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from gpuzarr.codecs.array_codecs import is_integer
from gpuzarr.codecs.chain import Codec, element_count
from gpuzarr.codecs.configuration import (
    find_dtype,
    malformed,
    take_choice,
    take_dtype,
    take_int,
    take_number,
)
from gpuzarr.program import HostOnly, UnpackBits, canonical_json, count_components, dtype_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpuzarr.codecs.chain import Chain

MOST_LABELS_NBYTES = 1 << 26
"""Bytes of categorize's labels, each as long as its dtype says."""

ZFP_MODES = {
    "reversible": (),
    "expert": ("minbits", "maxbits", "maxprec", "minexp"),
    "fixed_accuracy": ("tolerance",),
    "fixed_rate": ("rate",),
    "fixed_precision": ("precision",),
}
"""zfp's modes and the parameters that each needs."""


def raw_bytes(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """v3 `bytes` (early name `endian`): elements as they lie in memory, in one byte order."""
    dtype = chain.dtype
    endian = configuration.get("endian")
    if endian is not None:
        take_choice("bytes", configuration, "endian", ("little", "big"))
    elif _has_byte_order(dtype) and chain.data_type.name not in ("struct", "structured"):
        malformed("bytes", f"'endian' is needed for {chain.data_type.name}")
    own = chain.data_type.stored
    if own is not None and chain.layout_dtype is None and chain.untouched:
        stored = own
    else:
        stored = dtype.newbyteorder(">" if endian == "big" else "<")
    chain.to_bytes(stored)
    if chain.bits is not None and dtype.kind != "b":
        # The upper bits of each byte mean nothing, and may be anything.
        chain.push(
            UnpackBits(dtype_name(dtype), 8, sign_extend=is_integer(dtype) and _signed(dtype))
        )


def _has_byte_order(dtype: np.dtype) -> bool:
    """Whether elements differ between byte orders.

    >>> _has_byte_order(np.dtype("S3")), _has_byte_order(np.dtype("i4"))
    (False, True)
    """
    if dtype.names is not None:
        return any(_has_byte_order(dtype[name]) for name in dtype.names)
    if dtype.subdtype is not None:
        return _has_byte_order(dtype.subdtype[0])
    return dtype.newbyteorder(">") != dtype.newbyteorder("<") and dtype.itemsize > 1


def _signed(dtype: np.dtype) -> bool:
    return not (dtype.kind == "u" or dtype.name.startswith("u"))


def packed_bits(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """v3 `packbits`: a stream of the low, or some other, bits of each element."""
    codec, dtype = "packbits", chain.dtype
    padding = take_choice(
        codec, configuration, "padding_encoding", ("none", "first_byte", "last_byte"), "none"
    )
    pair = dtype.names == ("re", "im")
    if dtype.hasobject or dtype.kind in "SUT" or (dtype.type is np.void and not pair):
        malformed(codec, f"the data type {chain.data_type.name} has no bits to pack")
    width = chain.bits or dtype.itemsize * 8 // count_components(dtype)
    first = take_int(codec, configuration, "first_bit", 0, at_least=0)
    last = take_int(codec, configuration, "last_bit", width - 1, at_least=first)
    if last >= width:
        malformed(codec, f"'last_bit' is {last}, but elements have {width} bits")
    chain.to_bytes(dtype)
    chain.push(
        UnpackBits(
            dtype_name(dtype),
            last - first + 1,
            cast("Literal['none', 'first_byte', 'last_byte']", padding),
            first,
            sign_extend=is_integer(dtype) and _signed(dtype),
        )
    )


def variable_length(name: str) -> Callable[[Chain, Mapping[str, Any]], None]:
    """A codec of variable-length elements that has no configuration: vlen-utf8, vlen-bytes."""

    def lower_variable_length(chain: Chain, configuration: Mapping[str, Any]) -> None:
        del configuration
        if not chain.data_type.variable:
            malformed(name, f"the data type {chain.data_type.name} has elements of fixed size")
        _objects(chain, name, {})

    return lower_variable_length


def vlen_array(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """numcodecs' `vlen-array`: each element is an array of numbers."""
    name = configuration.get("dtype")
    dtype = find_dtype(name) if isinstance(name, str) else None
    if dtype is None:
        malformed("vlen-array", f"'dtype' is not a NumPy dtype: {name!r}")
    if dtype.hasobject or dtype.itemsize == 0:
        malformed("vlen-array", f"'dtype' must be a type of fixed size, not {name!r}")
    _objects(chain, "numcodecs.vlen-array", {"dtype": dtype.str})


def object_text(name: str, *keys: str) -> Callable[[Chain, Mapping[str, Any]], None]:
    """A codec of Python objects as text: json2, msgpack2. It stores dtype and shape as well."""

    def lower_object_text(chain: Chain, configuration: Mapping[str, Any]) -> None:
        _objects(
            chain,
            f"numcodecs.{name}",
            {key: configuration[key] for key in keys if key in configuration},
        )

    return lower_object_text


def _objects(chain: Chain, name: str, settings: dict[str, Any]) -> None:
    """Push a codec that decodes to objects, or to plain elements where the array has those."""
    dtype = np.dtype(object) if chain.data_type.variable else chain.dtype
    if chain.stage == "array":
        chain.layout_dtype = dtype
        chain.to_bytes()
    decoded = "|O" if dtype.hasobject else None if dtype.names is not None else dtype_name(dtype)
    chain.push(HostOnly(name, canonical_json(settings), decoded))
    chain.dtype, chain.bits = np.dtype("u1"), None


def categorize(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """numcodecs' `categorize`: codes in place of strings."""
    codec = "categorize"
    labels = configuration.get("labels")
    if not isinstance(labels, list | tuple) or not all(isinstance(each, str) for each in labels):
        malformed(codec, "'labels' must be a list of strings")
    encoded = take_dtype(codec, configuration, "astype", np.dtype("u1"))
    name = configuration.get("dtype")
    decoded = find_dtype(str(name))
    if decoded is None:
        malformed(codec, f"'dtype' is not a NumPy dtype: {name!r}")
    if decoded.kind not in "UO":
        malformed(codec, f"'dtype' must be strings or objects, not {name!r}")
    if not decoded.itemsize:
        malformed(codec, f"'dtype' has no size: {name!r}")
    if (1 + len(labels)) * decoded.itemsize > MOST_LABELS_NBYTES:
        malformed(codec, f"{len(labels)} labels of type {name!r} take too much memory")
    if chain.stage == "array":
        chain.layout_dtype = chain.dtype
        chain.to_bytes()
    settings = {"labels": list(labels), "dtype": decoded.str, "astype": encoded.str}
    chain.push(HostOnly(f"numcodecs.{codec}", canonical_json(settings), decoded.str))
    chain.dtype, chain.bits = encoded, None


def number_compressor(name: str) -> Callable[[Chain, Mapping[str, Any]], None]:
    """A compressor that knows the type of its numbers: pcodec, zfpy."""

    def lower_number_compressor(chain: Chain, configuration: Mapping[str, Any]) -> None:
        del configuration
        dtype = chain.dtype
        if dtype.kind not in "iuf":
            malformed(name, f"only numbers can be compressed, not {dtype}")
        if chain.stage == "array":
            chain.to_bytes(dtype)
        chain.push(HostOnly(f"numcodecs.{name}", "{}", dtype_name(dtype), fixed_size=True))
        chain.dtype, chain.bits = np.dtype("u1"), None

    return lower_number_compressor


def _take_float(codec: str, configuration: Mapping[str, Any], key: str) -> float:
    """A finite number of a configuration."""
    try:
        value = float(take_number(codec, configuration, key))
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        malformed(codec, f"{key!r} must be a finite number, not {configuration.get(key)!r:.40}")
    return value


def zfp(chain: Chain, configuration: Mapping[str, Any]) -> None:
    """v3 `zfp`: a zfp stream without a header, so its parameters and the shape are needed."""
    codec, dtype = "zfp", chain.dtype
    mode = take_choice(codec, configuration, "mode", tuple(ZFP_MODES))
    settings: dict[str, Any] = {"mode": mode}
    for key in ZFP_MODES[mode]:
        if mode == "expert" or key == "precision":
            settings[key] = take_int(codec, configuration, key)
        else:
            settings[key] = _take_float(codec, configuration, key)
    if dtype.name not in ("int32", "int64", "float32", "float64"):
        # zfp has no unsigned types; how uint32 maps onto int32 is not the same in all writers.
        chain.refuse(f"codec 'zfp' is supported for int32, int64, float32, float64, not {dtype}")
    maximum = 4
    if chain.ndim > maximum:
        malformed(codec, f"zfp has at most {maximum} axes, not {chain.ndim}")
    if chain.shape is None:
        chain.refuse("codec 'zfp' needs chunks of one shape, but the grid is rectilinear")
    else:
        element_count(chain)
        settings["shape"] = list(chain.shape)
    chain.to_bytes(dtype)
    chain.push(HostOnly(codec, canonical_json(settings), dtype_name(dtype), fixed_size=True))


BYTES_CODECS = {
    "bytes": Codec("array -> bytes", raw_bytes),
    "endian": Codec("array -> bytes", raw_bytes),
    "packbits": Codec("array -> bytes", packed_bits),
    "vlen-utf8": Codec("array -> bytes", variable_length("vlen-utf8")),
    "vlen-bytes": Codec("array -> bytes", variable_length("vlen-bytes")),
    "zfp": Codec("array -> bytes", zfp),
    "numcodecs.vlen-utf8": Codec("array -> bytes", variable_length("vlen-utf8"), filter=True),
    "numcodecs.vlen-bytes": Codec("array -> bytes", variable_length("vlen-bytes"), filter=True),
    "numcodecs.vlen-array": Codec("array -> bytes", vlen_array, filter=True),
    "numcodecs.json2": Codec("array -> bytes", object_text("json2", "encoding"), filter=True),
    "numcodecs.msgpack2": Codec("array -> bytes", object_text("msgpack2", "raw"), filter=True),
    "numcodecs.categorize": Codec("array -> bytes", categorize, filter=True),
    "numcodecs.pcodec": Codec("array -> bytes", number_compressor("pcodec"), filter=True),
    "numcodecs.zfpy": Codec("array -> bytes", number_compressor("zfpy"), filter=True),
}
