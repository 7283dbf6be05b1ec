"""Data types: v3 names, plain or with a configuration, to NumPy dtypes.

Everything that zarr-specs v3 and zarr-extensions (2026-07) define, and what zarr-python,
TensorStore and zarrs write beside it. Types that NumPy lacks are ml_dtypes' where it has them:

    complex_bfloat16, complex_float16    ml_dtypes >= 0.6; before it as the next line
    complex_float8_* and their like      a structured dtype with the fields "re" and "im"

Other packages add types by an entry point of the group "gpuzarr.data_types": its name is the data
type's, its object a callable from the configuration to a `DataType`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from gpuzarr.errors import GpuzarrError, MetadataError, UnsupportedError
from gpuzarr.metadata.document import (
    as_int,
    as_list,
    as_text,
    check_members,
    member,
    shorten,
    wrong,
)
from gpuzarr.metadata.extension import Extension, parse_essential
from gpuzarr.metadata.model import DataType
from gpuzarr.plugins import find_plugin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.metadata.model import JSON

    Builder = Callable[[str, Extension], DataType]

ENTRY_POINTS: Final = "gpuzarr.data_types"
"""The entry point group by which other packages add data types."""

MAX_ITEM_NBYTES: Final = 2**24
"""The largest element that is read; a fill value is one element in memory."""
MAX_FIELDS: Final = 2**16
"""The most fields that one level of a structured type has."""

DATETIME_UNITS: Final = (
    *("Y", "M", "W", "D", "h", "m", "s"),
    *("ms", "us", "\u03bcs", "ns", "ps", "fs", "as", "generic"),
)

NUMPY_TYPES: Final = (
    "bool",
    *("int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
"""Types that NumPy has under the same names."""

SMALL_INTS: Final = ("int2", "int4", "uint2", "uint4")
SMALL_FLOATS: Final = (
    "bfloat16",
    "float4_e2m1fn",
    *("float6_e2m3fn", "float6_e3m2fn"),
    *("float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz"),
    *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)
"""Types that ml_dtypes has under the same names."""

_BITS: Final = {
    "bool": 1,
    "int2": 2,
    "uint2": 2,
    "int4": 4,
    "uint4": 4,
    "float4_e2m1fn": 4,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
}

COMPLEX_PARTS: Final = {
    "complex64": "float32",
    "complex128": "float64",
    "complex_float16": "float16",
    **{f"complex_{name}": name for name in SMALL_FLOATS},
}
"""The type of the real and the imaginary part of each complex type."""

_COMPLEX_OF_ML_DTYPES: Final = {"complex_float16": "complex32", "complex_bfloat16": "bcomplex32"}

_ALIASES: Final = {
    "complex_float32": "complex64",
    "complex_float64": "complex128",
    "variable_length_bytes": "bytes",  # zarr-python since 3.1
    "binary": "bytes",  # zarrs, once
    "structured": "struct",  # zarr-python before 3.4
}

_LENGTHS: Final = {
    "fixed_length_utf32": ("U", 4),
    "null_terminated_bytes": ("S", 1),
    "raw_bytes": ("V", 1),
}
"""Types of `length_bytes`: NumPy's letter, and the bytes that its length counts."""

_RAW_BITS: Final = re.compile(r"r([1-9][0-9]{0,9})")


def parse_data_type(value: JSON, where: str = "data_type") -> DataType:
    """Read v3's `data_type`, or the type of a struct's field.

    Raises:
        MetadataError: not a data type, or a wrong configuration.
        UnsupportedError: a data type that neither gpuzarr nor an installed package knows.
    """
    extension = parse_essential(value, where)
    name = _ALIASES.get(extension.name, extension.name)
    builder = _BUILDERS.get(name)
    if builder is not None:
        return builder(name, extension)
    if _RAW_BITS.fullmatch(name):
        return _raw_bits(name, extension)
    return _registered(name, extension)


def ml_dtype(name: str) -> np.dtype:
    """A dtype of ml_dtypes, which only arrays of such types make Python load.

    Raises:
        UnsupportedError: ml_dtypes is missing, or too old for this type.
    """
    try:
        import ml_dtypes  # noqa: PLC0415  takes its time

        dtype: np.dtype = np.dtype(getattr(ml_dtypes, name))
    except (ImportError, AttributeError) as error:
        raise UnsupportedError(
            f'the data type {name} needs a newer ml_dtypes: pip install -U "ml_dtypes>=0.5"'
        ) from error
    return dtype


def struct_fields(data_type: DataType) -> list[tuple[str, DataType]]:
    """Names and types of a v3 struct's fields."""
    return list(data_type.fields)


def as_fields(value: JSON, where: str) -> list[JSON]:
    """The value, which must be an array of at least one field."""
    fields = as_list(value, where)
    if not 0 < len(fields) <= MAX_FIELDS:
        raise MetadataError(
            f"{where} has {len(fields)} fields; structured types have 1 to {MAX_FIELDS}"
        )
    return fields


def build_struct_dtype(
    fields: Sequence[tuple[str | tuple[str, str], np.dtype, tuple[int, ...]]], where: str
) -> np.dtype:
    """Pack fields of (name or (title, name), dtype, shape) into one structured dtype.

    Raises:
        MetadataError: equal or impossible names, or elements that are too large.
    """
    nbytes = 0
    for _, dtype, shape in fields:
        size = dtype.itemsize
        for length in shape:
            size *= length
        nbytes += size
    check_item_nbytes(nbytes, where)
    try:
        # NumPy's own rules for names apply: unique, and "" becomes f0, f1, ...
        return np.dtype([(name, dtype, shape) for name, dtype, shape in fields])
    except (ValueError, TypeError) as error:
        raise MetadataError(f"{where} has fields that NumPy refuses: {error}") from error


def check_item_nbytes(nbytes: int, where: str) -> int:
    """The element size itself, when elements of it are read."""
    return as_int(nbytes, f"the item size of {where}", 1, MAX_ITEM_NBYTES)


def _numpy_type(name: str, extension: Extension) -> DataType:
    extension.check_configuration()
    return DataType(name, np.dtype(name), bits=_BITS.get(name))


def _small_type(name: str, extension: Extension) -> DataType:
    extension.check_configuration()
    return DataType(name, ml_dtype(name), bits=_BITS.get(name))


def _small_complex(name: str, extension: Extension) -> DataType:
    extension.check_configuration()
    part = parse_data_type(COMPLEX_PARTS[name])
    try:
        dtype = ml_dtype(_COMPLEX_OF_ML_DTYPES[name])
    except (KeyError, UnsupportedError):
        dtype = np.dtype([("re", part.dtype), ("im", part.dtype)])
    return DataType(name, dtype, bits=part.bits)


def _string(name: str, extension: Extension) -> DataType:
    extension.check_configuration()
    string_dtype: Callable[[], np.dtype] | None = getattr(np.dtypes, "StringDType", None)
    # NumPy 1 has no strings of variable length.
    return DataType(name, np.dtype(object) if string_dtype is None else string_dtype())


def _bytes(name: str, extension: Extension) -> DataType:
    extension.check_configuration()
    return DataType(name, np.dtype(object))


def _fixed_length(name: str, extension: Extension) -> DataType:
    extension.check_configuration("length_bytes")
    kind, unit = _LENGTHS[name]
    where = f"{extension.where}.configuration.length_bytes"
    nbytes = as_int(extension.member("length_bytes"), where, 1, MAX_ITEM_NBYTES)
    if nbytes % unit:
        raise wrong(where, nbytes, f"a multiple of {unit}")
    return DataType(
        name, np.dtype(f"{kind}{nbytes // unit}"), configuration=extension.configuration
    )


def _time(name: str, extension: Extension) -> DataType:
    extension.check_configuration("unit", "scale_factor")
    where = f"{extension.where}.configuration"
    unit = extension.member("unit")
    if not isinstance(unit, str) or unit not in DATETIME_UNITS:
        raise wrong(f"{where}.unit", unit, "one of " + ", ".join(DATETIME_UNITS))
    factor = as_int(extension.member("scale_factor"), f"{where}.scale_factor", 1, 2**31 - 1)
    letter = "M" if name == "numpy.datetime64" else "m"
    span = "" if unit == "generic" else f"[{factor}{unit}]"
    return DataType(name, np.dtype(f"{letter}8{span}"), configuration=extension.configuration)


def _struct(name: str, extension: Extension) -> DataType:
    extension.check_configuration("fields")
    where = f"{extension.where}.configuration.fields"
    members = as_fields(extension.member("fields"), where)
    fields = [_parse_field(value, f"{where}[{i}]") for i, value in enumerate(members)]
    dtype = build_struct_dtype([(label, part.dtype, ()) for label, part in fields], where)
    return DataType(name, dtype, configuration=extension.configuration, fields=tuple(fields))


def _parse_field(value: JSON, where: str) -> tuple[str, DataType]:
    """Read a field: an object, or the pair that zarr-python wrote before 3.4."""
    if isinstance(value, list):
        if len(value) != 2:  # noqa: PLR2004  a pair
            raise wrong(where, value, "a pair of a name and a data type")
        label, part = value
    elif isinstance(value, dict):
        check_members(value, where, ("name", "data_type"), "a field")
        label, part = member(value, "name", where), member(value, "data_type", where)
    else:
        raise wrong(where, value, 'an object with a "name" and a "data_type"')
    data_type = parse_data_type(part, f"{where}.data_type")
    if data_type.variable:
        raise MetadataError(
            f"{where} has the data type {data_type.name}; fields must be of fixed size"
        )
    return as_text(label, f"{where}.name"), data_type


def _raw_bits(name: str, extension: Extension) -> DataType:
    extension.check_configuration()
    nbytes, rest = divmod(int(name[1:]), 8)
    if rest:
        raise wrong(extension.where, name, '"r" and a number of bits that is a multiple of 8')
    check_item_nbytes(nbytes, extension.where)
    return DataType(name, np.dtype(f"V{nbytes}"))


def _registered(name: str, extension: Extension) -> DataType:
    """Ask the installed packages for a type that gpuzarr does not know."""
    plugin = find_plugin(ENTRY_POINTS, name)
    if plugin is not None:
        try:
            data_type = plugin.value(dict(extension.configuration))
        except GpuzarrError:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"the data type {shorten(name)} is added by {plugin.origin}, "
                f"which failed: {type(error).__name__}: {error}"
            ) from error
        if isinstance(data_type, DataType):
            return data_type
        raise UnsupportedError(
            f"the data type {shorten(name)} is added by {plugin.origin}, "
            f"which gave {shorten(data_type)} and not a DataType"
        )
    raise UnsupportedError(
        f"the data type {shorten(name)} is not known; these are: "
        f"{', '.join([*_BUILDERS, *_ALIASES])}, r8, r16 and so on; "
        f'others can be added by an entry point of the group "{ENTRY_POINTS}"'
    )


_BUILDERS: Final[dict[str, Builder]] = {
    **dict.fromkeys(NUMPY_TYPES, _numpy_type),
    **dict.fromkeys((*SMALL_INTS, *SMALL_FLOATS), _small_type),
    **dict.fromkeys((name for name in COMPLEX_PARTS if "_" in name), _small_complex),
    "string": _string,
    "bytes": _bytes,
    **dict.fromkeys(_LENGTHS, _fixed_length),
    **dict.fromkeys(("numpy.datetime64", "numpy.timedelta64"), _time),
    "struct": _struct,
}
