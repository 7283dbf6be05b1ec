"""v2's `dtype`: NumPy type strings and lists of fields, to v3's data types and a byte order.

    "<f4"                                    float32, little
    "|S8", ">U8", "|V8"                      null_terminated_bytes, fixed_length_utf32, raw_bytes
    "<M8[10ns]"                              numpy.datetime64
    "bfloat16", "int4", "float8_e5m2"...     TensorStore's names, little
    [["a", "<i4"], ["b", ">f8", [2, 3]]]     struct, with its exact dtype kept beside it

"|O" needs the array's filters to tell what its objects are: see `v2`.
Source: zarr-specs v2.0, "Data type encoding".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata.data_types import (
    MAX_ITEM_NBYTES,
    NUMPY_TYPES,
    SMALL_FLOATS,
    SMALL_INTS,
    as_fields,
    build_struct_dtype,
    parse_data_type,
)
from gpuzarr.metadata.document import as_int, as_list, as_shape, shorten, wrong
from gpuzarr.metadata.model import DataType

if TYPE_CHECKING:
    from gpuzarr.metadata.model import JSON

    Endian = Literal["little", "big"]

_TYPE: Final = re.compile(r"([<>|]?)([a-zA-Z])([0-9]{0,12})(?:\[([0-9]{0,12})([a-zA-Z\u03bc]+)\])?")

_ENDIANS: Final[dict[str, Endian]] = {"<": "little", ">": "big"}

_SIMPLE: Final = {np.dtype(name).str[1:]: name for name in NUMPY_TYPES}
"""Such as "f4": "float32"."""

_LENGTHS: Final = {
    "S": ("null_terminated_bytes", 1),
    "U": ("fixed_length_utf32", 4),
    "V": ("raw_bytes", 1),
}

_TIMES: Final = {"M": "numpy.datetime64", "m": "numpy.timedelta64"}

_LONG_DOUBLES: Final = ("f12", "f16", "c24", "c32")


def parse_v2_data_type(value: JSON, where: str = "dtype") -> tuple[DataType, Endian | None]:
    """Read v2's `dtype`, other than "|O".

    Returns:
        The data type, and the byte order of its elements where that matters and is one.

    Raises:
        MetadataError: not a dtype that v2 allows.
        UnsupportedError: objects inside fields, or floats that differ from machine to machine.
    """
    if isinstance(value, str):
        return _parse_simple(value, where)
    if isinstance(value, list):
        stored = _parse_fields(value, where)
        return DataType("struct", stored.newbyteorder("="), stored=stored), None
    raise wrong(where, value, 'a type string as in "<f4", or an array of fields')


def _parse_simple(value: str, where: str) -> tuple[DataType, Endian | None]:
    if value in SMALL_INTS or value in SMALL_FLOATS:
        data_type = parse_data_type(value, where)
        return data_type, None if data_type.dtype.itemsize == 1 else "little"
    match = _TYPE.fullmatch(value)
    if match is None:
        raise wrong(where, value, 'a type string as in "<f4"')
    order, letter, size, factor, unit = match.groups()
    if letter + size in _LONG_DOUBLES:
        raise UnsupportedError(
            f"{where} is {shorten(value)}: long doubles differ from machine to machine"
        )
    data_type = _find_type(letter, size, factor, unit, where, value)
    if letter in "SV" or data_type.dtype.itemsize == 1:
        return data_type, None
    if order not in _ENDIANS:
        raise wrong(where, value, 'a type string that begins with "<" or ">", the byte order')
    return data_type, _ENDIANS[order]


def _find_type(  # noqa: PLR0913, PLR0917  the parts of a type string
    letter: str, size: str, factor: str | None, unit: str | None, where: str, value: str
) -> DataType:
    if unit is None and letter + size in _SIMPLE:
        return parse_data_type(_SIMPLE[letter + size], where)
    if unit is None and letter in _LENGTHS and size:
        name, width = _LENGTHS[letter]
        length = as_int(int(size), f"the length in {where}", 1, MAX_ITEM_NBYTES // width)
        return parse_data_type(
            {"name": name, "configuration": {"length_bytes": length * width}}, where
        )
    if letter in _TIMES and size == "8":
        configuration = {"unit": unit or "generic", "scale_factor": int(factor or 1)}
        return parse_data_type({"name": _TIMES[letter], "configuration": configuration}, where)
    if letter == "O":
        raise UnsupportedError(f"{where} is {shorten(value)}: objects inside fields are not read")
    raise wrong(where, value, f"one of {', '.join(_SIMPLE)}, S, U, V, M8 and m8")


def _parse_fields(value: list[JSON], where: str) -> np.dtype:
    """Read a list of [name, type] or [name, type, shape] into an exact dtype."""
    fields: list[tuple[str | tuple[str, str], np.dtype, tuple[int, ...]]] = []
    for i, entry in enumerate(as_fields(value, where)):
        at = f"{where}[{i}]"
        parts = as_list(entry, at)
        if len(parts) not in {2, 3}:
            raise wrong(at, entry, "[name, type] or [name, type, shape]")
        shape = _parse_sub_shape(parts[2], f"{at}[2]") if len(parts) > 2 else ()  # noqa: PLR2004
        fields.append((_parse_name(parts[0], f"{at}[0]"), _field_dtype(parts[1], at), shape))
    return build_struct_dtype(fields, where)


def _field_dtype(value: JSON, where: str) -> np.dtype:
    data_type, endian = parse_v2_data_type(value, f"{where}[1]")
    if data_type.stored is not None:
        return data_type.stored
    return data_type.dtype if endian is None else data_type.dtype.newbyteorder(endian)


def _parse_sub_shape(value: JSON, where: str) -> tuple[int, ...]:
    shape = as_shape([value] if isinstance(value, int) else value, where)
    if 0 in shape:
        raise MetadataError(f"{where} has a dimension of length 0")
    return shape


def _parse_name(value: JSON, where: str) -> str | tuple[str, str]:
    """Read a field's name: text, or NumPy's pair of a title and a name."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 2:  # noqa: PLR2004  a pair
        title, name = value
        if isinstance(title, str) and isinstance(name, str):
            return title, name
    raise wrong(where, value, "a field name, or [title, name]")
