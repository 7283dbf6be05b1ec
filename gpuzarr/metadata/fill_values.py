"""Fill values: every JSON encoding of v2 and v3 to one value, bit for bit.

    bool            true, false
    integers        1, -1, 18446744073709551615
    floats          0.5, -0.0, "NaN", "Infinity", "-Infinity", "0x7fc00000" (the bits)
    complex         [re, im], each as a float
    strings         "text"
    raw, bytes      base64 text, or [1, 2, 255]
    datetimes       "NaT", or the number of units
    structs         {"field": its fill value}, or base64 text of the packed bytes

Sources: zarr-specs v3 core 3.1 "Permitted fill values", v2.0 "Fill value encoding", and the data
types' own pages in zarr-extensions. As zarr-python does, numbers are also taken from 1.0 for
integers and from decimal text. What only v2 writers do is marked so.

A JSON number outside a float type's range rounds to Infinity, as IEEE 754 says; where the type has
no Infinity it is an error.
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata.data_types import (
    COMPLEX_PARTS,
    SMALL_FLOATS,
    SMALL_INTS,
    parse_data_type,
    struct_fields,
)
from gpuzarr.metadata.document import as_int, shorten, wrong

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.metadata.model import JSON, DataType

    Parser = Callable[["_Context", JSON], Any]

_HEX: Final = re.compile(r"0[xX]([0-9a-fA-F]{1,32})")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,40}")
# Without two runs of digits side by side, between which a long text could be cut anywhere.
_DECIMAL: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAT: Final = -(2**63)
_SPECIAL: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}


@dataclass(frozen=True, slots=True)
class _Context:
    """What a fill value is read for."""

    data_type: DataType
    where: str
    zarr_format: Literal[2, 3]

    @property
    def dtype(self) -> np.dtype:
        return self.data_type.dtype

    def wrong(self, found: JSON, right: str) -> MetadataError:
        return wrong(self.where, found, f"{right}, as the data type is {self.data_type.name}")

    def is_v2_zero(self, value: JSON) -> bool:
        """Whether this is v2's 0, which zarr-python 2 writes for every type where none is given."""
        return self.zarr_format == 2 and _is_number(value) and value == 0  # noqa: PLR2004

    def scalar(self, raw: bytes) -> Any:
        """The element with these bytes, in native byte order."""
        return np.frombuffer(raw, self.dtype)[0]


def parse_fill_value(
    data_type: DataType,
    value: JSON,
    *,
    zarr_format: Literal[2, 3] = 3,
    where: str = "fill_value",
) -> Any:
    """Read a fill value.

    Args:
        data_type: the array's data type.
        value: the member; v2's null has no meaning here.
        zarr_format: the format of the document; v2 has forms of its own.
        where: what errors call the member.

    Returns:
        A NumPy scalar of `data_type.dtype`; str, bytes or a JSON value for types of variable size.

    Raises:
        MetadataError: not an element of the data type.
        UnsupportedError: a data type whose fill values have no known encoding.
    """
    context = _Context(data_type, where, zarr_format)
    parser = _BY_NAME.get(data_type.name) or _BY_KIND.get(data_type.dtype.kind)
    if parser is None:
        raise UnsupportedError(
            f"{where} of the data type {shorten(data_type.name)} has no known encoding"
        )
    return parser(context, value)


def _is_number(value: JSON) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parse_bool(context: _Context, value: JSON) -> Any:
    if isinstance(value, bool):
        return np.bool_(value)
    if context.zarr_format == 2 and _is_number(value) and value in {0, 1}:  # noqa: PLR2004
        return np.bool_(value)
    raise context.wrong(value, "true or false")


def _parse_int(context: _Context, value: JSON) -> Any:
    integral = isinstance(value, float) and value.is_integer()
    written = isinstance(value, str) and _INTEGER.fullmatch(value)
    number = int(value) if integral or written else value
    signed = not (context.dtype.kind == "u" or context.data_type.name.startswith("u"))
    bits = context.data_type.bits or 8 * context.dtype.itemsize
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise context.wrong(value, f"an integer from {low} to {high}")
    return np.array(number, np.int64 if signed else np.uint64).astype(context.dtype)[()]


def _parse_float(context: _Context, value: JSON) -> Any:
    return context.scalar(_float_bytes(context, value))


def _float_bytes(context: _Context, value: JSON) -> bytes:
    """The native bytes of one float."""
    if isinstance(value, str):
        bits = _HEX.fullmatch(value)
        if bits:
            return _hex_bytes(context, value, bits[1])
        if value not in _SPECIAL and not _DECIMAL.fullmatch(value):
            raise context.wrong(value, _FLOATS)
        value = _SPECIAL.get(value, value)
    elif not _is_number(value):
        raise context.wrong(value, _FLOATS)
    try:
        number = float(value)
    except OverflowError:
        raise context.wrong(value, "a number within the range of 64-bit floats") from None
    raw: bytes = _round_float(context, number).tobytes()
    return raw


_FLOATS: Final = 'a number, "NaN", "Infinity", "-Infinity" or the bits as in "0x7fc00000"'


def _round_float(context: _Context, number: float) -> Any:
    """The nearest float of the type, as a 0-d array."""
    if context.data_type.name == "float8_e8m0fnu" and number == 0:
        # There is no zero. TensorStore writes it for "no fill value", and reads all bits 0.
        return np.zeros((), np.uint8)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = np.array(number, np.float64).astype(context.dtype)
        # Types without Infinity or NaN round to their largest, or lose the sign.
        back = float(rounded[()])
    lost = (number != number) != (back != back)  # noqa: PLR0124  NaN
    if isfinite(number) and isfinite(back):
        lost = abs(number) > _LARGEST.get(context.data_type.name, abs(number))
    elif number == number:  # noqa: PLR0124  NaN
        lost = lost or abs(back) != float("inf")
    if lost or (number < 0 < back):
        raise context.wrong(number, "a number that this type can hold")
    return rounded


_LARGEST: Final = {"float4_e2m1fn": 6.0, "float6_e2m3fn": 7.5, "float6_e3m2fn": 28.0}
"""The largest numbers of types that have neither Infinity nor NaN to round to."""


def _hex_bytes(context: _Context, value: str, digits: str) -> bytes:
    """The bytes of a float that is given by its bits."""
    nbytes = context.dtype.itemsize
    lengths = {2 * nbytes} if context.data_type.bits is None else {1, 2}
    bits = int(digits, 16)
    if len(digits) not in lengths or bits >> (context.data_type.bits or 8 * nbytes):
        raise context.wrong(value, f"0x and {2 * nbytes} hexadecimal digits")
    return bits.to_bytes(nbytes, sys.byteorder)


def _parse_complex(context: _Context, value: JSON) -> Any:
    if context.zarr_format == 2 and _is_number(value):  # noqa: PLR2004
        value = [value, 0]
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004  a pair
        raise context.wrong(value, "an array [re, im]")
    name = context.data_type.name
    part_name = COMPLEX_PARTS.get(name, "float32" if context.dtype.itemsize == 8 else "float64")  # noqa: PLR2004
    part = replace(context, data_type=parse_data_type(part_name))
    raw = [
        _float_bytes(replace(part, where=f"{context.where}[{i}]"), component)
        for i, component in enumerate(value)
    ]
    return context.scalar(b"".join(raw))


def _parse_time(context: _Context, value: JSON) -> Any:
    count = _NAT if value == "NaT" else as_int(value, context.where, _NAT, 2**63 - 1)
    return np.array(count, np.int64).view(context.dtype)[()]


def _as_utf8(context: _Context, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise context.wrong(value, "text without lone surrogates") from None
    return value


def _parse_text(context: _Context, value: JSON) -> str:
    if context.is_v2_zero(value):
        return ""
    if not isinstance(value, str):
        raise context.wrong(value, "a string")
    return _as_utf8(context, value)


def _parse_fixed_text(context: _Context, value: JSON) -> Any:
    text = _parse_text(context, value)
    length = context.dtype.itemsize // 4
    if len(text) > length:
        raise context.wrong(value, f"a string of at most {length} characters")
    return np.array(text, context.dtype)[()]


def _parse_fixed_bytes(context: _Context, value: JSON) -> Any:
    text = b"" if context.is_v2_zero(value) else _decode_bytes(context, value)
    if len(text) > context.dtype.itemsize:
        raise context.wrong(value, f"base64 text of at most {context.dtype.itemsize} bytes")
    return np.array(text, context.dtype)[()]


def _parse_bytes(context: _Context, value: JSON) -> bytes:
    return b"" if context.is_v2_zero(value) else _decode_bytes(context, value)


def _parse_raw(context: _Context, value: JSON) -> Any:
    nbytes = context.dtype.itemsize
    raw = bytes(nbytes) if context.is_v2_zero(value) else _decode_bytes(context, value)
    if len(raw) != nbytes:
        raise context.wrong(value, f"exactly {nbytes} bytes")
    return context.scalar(raw)


def _decode_bytes(context: _Context, value: JSON) -> bytes:
    """Bytes from base64 text or from an array of integers."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            if type(item) is not int or not 0 <= item <= 255:  # noqa: PLR2004  a byte
                raise wrong(f"{context.where}[{i}]", item, "an integer from 0 to 255")
        return bytes(value)
    if not isinstance(value, str):
        raise context.wrong(value, "base64 text or an array of integers from 0 to 255")
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        # v2 writers before base64 put the text itself there; zarr-python 2 reads it so.
        if context.zarr_format == 2 and context.dtype.kind == "S" and value.isascii():  # noqa: PLR2004
            return value.encode("ascii")
        raise context.wrong(value, "base64 text") from None


def _parse_struct(context: _Context, value: JSON) -> Any:
    if isinstance(value, dict) and context.data_type.stored is None:
        return _parse_fields(context, value)
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        # TensorStore writes 0 for "all fields are zero".
        return np.zeros((), context.dtype)[()]
    if not isinstance(value, str):
        raise context.wrong(value, "an object with a fill value for each field, or base64 text")
    raw = _decode_bytes(context, value)
    if len(raw) != context.dtype.itemsize:
        raise context.wrong(value, f"base64 text of exactly {context.dtype.itemsize} bytes")
    # v3's base64 is little-endian whatever the `bytes` codec says, as in zarr-python.
    stored = context.data_type.stored or context.dtype.newbyteorder("<")
    return np.frombuffer(raw, stored).astype(context.dtype)[0]


def _parse_fields(context: _Context, value: dict[str, JSON]) -> Any:
    fields = dict(struct_fields(context.data_type))
    if fields.keys() != value.keys():
        raise context.wrong(value, f"an object with the members {', '.join(fields)}")
    element = np.zeros((), context.dtype)
    for name, data_type in fields.items():
        at = f"{context.where}.{name}"
        # An array of one keeps the field's bits; assigning a scalar may go through Python floats.
        part = _BY_NAME.get(data_type.name) or _BY_KIND[data_type.dtype.kind]
        scalar = part(replace(context, data_type=data_type, where=at), value[name])
        element[name] = np.array(scalar, data_type.dtype)
    return element[()]


def _parse_object(context: _Context, value: JSON) -> JSON:
    """Objects of v2's object codecs: whatever JSON says."""
    del context
    return value


_BY_NAME: Final[dict[str, Parser]] = {
    **dict.fromkeys(SMALL_INTS, _parse_int),
    **dict.fromkeys(SMALL_FLOATS, _parse_float),
    **dict.fromkeys(COMPLEX_PARTS, _parse_complex),
    "struct": _parse_struct,
    "string": _parse_text,
    "bytes": _parse_bytes,
    "object": _parse_object,
}

_BY_KIND: Final[dict[str, Parser]] = {
    "b": _parse_bool,
    **dict.fromkeys("iu", _parse_int),
    "f": _parse_float,
    "c": _parse_complex,
    **dict.fromkeys("mM", _parse_time),
    "T": _parse_text,
    "U": _parse_fixed_text,
    "S": _parse_fixed_bytes,
    "V": _parse_raw,
}
"""For types of other packages, and those whose name says no more than their dtype."""
