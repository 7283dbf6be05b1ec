"""What `dtype=`, `scale=` and `offset=` mean: `stored * scale + offset`, computed and rounded once.

The rules hold for every engine, so that they agree bit for bit: with a scale or an offset the
arithmetic is in the result's type, at least float32, without fused multiply-add; without them
values are cast as NumPy casts, except that floats to integers round toward zero and refuse what
does not fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.engine import Conversion
from gpuzarr.errors import SelectionError, UnsupportedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.engine import Engine

_SMALL_INTEGER_NBYTES = 2


def make_conversion(
    stored: np.dtype[Any],
    *,
    dtype: np.dtype[Any] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    field: str | None = None,
) -> Conversion:
    """Decide the result's dtype, and refuse conversions that have no meaning.

    Args:
        stored: dtype of the array's elements, in native byte order.
        dtype: the result's dtype; None: the stored one, or by `default_float` with a scale or
            offset.
        scale: factor of every value; None for 1.
        offset: added to every scaled value; None for 0.
        field: a field of a structured type.

    Raises:
        SelectionError: no such field.
        UnsupportedError: a conversion that this type does not have.
    """
    if field is not None:
        stored = _field_type(stored, field)
    scaled = scale is not None or offset is not None
    if dtype is None and not scaled:
        return Conversion(stored, stored, field=field)
    if dtype is None:
        dtype = default_float(stored) if scaled and is_number(stored) else stored
    dtype = np.dtype(dtype)
    if not dtype.isnative:
        dtype = dtype.newbyteorder("=")
    if dtype == stored and not scaled:
        return Conversion(stored, stored, field=field)
    if stored.kind in "mM" and dtype.kind in "iu" and dtype.itemsize == stored.itemsize:
        if not scaled:
            return Conversion(stored, dtype, field=field)
    elif is_number(stored) and is_number(dtype) and (dtype.kind == "c" or stored.kind != "c"):
        return Conversion(
            stored,
            dtype,
            _as_float("scale", scale),
            _as_float("offset", offset),
            field,
        )
    what = "scaled" if scaled else f"converted to {dtype}"
    raise UnsupportedError(
        f"values of type {stored} cannot be {what} while they are read; read them as they are"
    )


def _as_float(name: str, value: float | None) -> float | None:
    try:
        return None if value is None else float(value)
    except OverflowError:
        raise ValueError(f"{name}= does not fit into a float") from None


def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is a bool, integer, float or complex type, of NumPy or ml_dtypes."""
    return dtype.kind in "biufc" or (
        dtype.kind == "V" and dtype.names is None and dtype.type is not np.void
    )


def default_float(stored: np.dtype[Any]) -> np.dtype[Any]:
    """The float type of scaled values: float32 where it holds every stored one, else float64."""
    if stored.kind == "c":
        return stored
    small = stored.itemsize <= _SMALL_INTEGER_NBYTES or stored == np.float32
    return np.dtype(np.float32 if small else np.float64)


def arithmetic_dtype(conversion: Conversion) -> np.dtype[Any] | None:
    """The type in which scaled values are computed; None without scale and offset."""
    if conversion.scale is None and conversion.offset is None:
        return None
    result = conversion.result
    if result.kind in "biu":
        return default_float(conversion.stored)
    if result.kind == "c":
        return result
    return np.dtype(np.float64 if result == np.float64 else np.float32)


def convert(values: NDArray[Any], conversion: Conversion) -> NDArray[Any]:
    """Apply a conversion to NumPy values of the stored type in any byte order.

    Raises:
        ValueError: a float that is NaN or does not fit into the integer result.
    """
    if conversion.identity:
        return values
    result = conversion.result
    if conversion.stored.kind in "mM":
        return values.astype(conversion.stored).view(np.int64).astype(result)
    arithmetic = arithmetic_dtype(conversion)
    # Overflow to infinity and NaN are values like others here, not warnings.
    with np.errstate(all="ignore"):
        if arithmetic is not None:
            values = values.astype(arithmetic)
            if conversion.scale is not None:
                values = values * arithmetic.type(conversion.scale)
            if conversion.offset is not None:
                values = values + arithmetic.type(conversion.offset)
        if _is_integer(result):
            if not _is_integer(values.dtype) and values.dtype.kind != "b":
                values = _truncate(values, result)
        elif _is_user_defined(result) and values.dtype.newbyteorder("=") in _WIDER_THAN_FLOAT32:
            values = _round_to_odd(values)
        return values.astype(result)


_WIDER_THAN_FLOAT32 = tuple(map(np.dtype, ("f8", "i4", "u4", "i8", "u8")))
"""Types with values that float32 does not hold."""


def _is_user_defined(dtype: np.dtype[Any]) -> bool:
    """Whether it is a type of ml_dtypes, whose kind is V for most and f for some."""
    return dtype.isbuiltin == 2  # noqa: PLR2004  NumPy's number for them


def _is_integer(dtype: np.dtype[Any]) -> bool:
    """Whether elements are integers, of NumPy or ml_dtypes."""
    return dtype.kind in "iu" or (dtype.kind == "V" and dtype.name.startswith(("int", "uint")))


def _truncate(values: NDArray[Any], result: np.dtype[Any]) -> NDArray[Any]:
    """Floats rounded toward zero, all of which fit into the integer type."""
    # ml_dtypes' floats are exact in float32; and the bounds of integers are no float16.
    if _is_user_defined(values.dtype) or values.dtype.itemsize < np.dtype(np.float32).itemsize:
        values = values.astype(np.float32)
    whole: NDArray[Any] = np.trunc(values)
    bits = result.itemsize * 8
    if result.kind == "V":
        bits = int(result.name.partition("int")[2])
    low, high = (0, 1 << bits) if result.name[0] == "u" else (-(1 << bits - 1), 1 << bits - 1)
    fits = (whole >= low) & (whole < high)
    if not fits.all():
        wrong = values[~fits].flat[0]
        raise ValueError(f"{wrong} does not fit into {result}")
    return whole


def _round_to_odd(values: NDArray[Any]) -> NDArray[np.float32]:
    """float32 from which narrower floats are rounded as from the values themselves.

    ml_dtypes casts by way of float32, which would round twice. So what float32 cannot hold gets an
    odd last bit: that keeps it on its side of every narrower float, and of the middle of any two.
    """
    wide = values.astype(np.float64)
    rest: Any = 0.0
    if values.dtype.kind in "iu" and values.dtype.itemsize > wide.dtype.itemsize // 2:
        high, low = (values >> 32) * 2.0**32, (values & 0xFFFFFFFF).astype(np.float64)
        wide = high + low
        rest = low - (wide - high)  # what float64 does not hold, exactly
    near = np.asarray(wide.astype(np.float32))
    error = np.where(wide == near, rest, wide - near)
    away = np.copysign(1.0, near) * error < 0
    inexact = (error != 0) & np.isfinite(wide)
    bits = (near.view(np.uint32) - (away & inexact)) | inexact
    odd: NDArray[np.float32] = bits.astype(np.uint32).view(np.float32)
    return odd


def _place(array: Any) -> str:
    """Where an array says that it is."""
    device = getattr(array, "device", None)
    if device is None:
        return ""
    number = getattr(device, "id", None)
    return f" on {device if number is None else f'cuda:{number}'}"


def _field_type(stored: np.dtype[Any], field: str) -> np.dtype[Any]:
    """The type of a field, which can be read alone."""
    if not stored.names or field not in stored.names:
        known = ", ".join(stored.names or ()) or "none: the type is not structured"
        raise SelectionError(f"there is no field {field!r}; fields are {known}")
    found: np.dtype[Any] = stored.fields[field][0]  # type: ignore[index]
    if found.subdtype is not None:
        raise UnsupportedError(
            f"field {field!r} holds an array of shape {found.shape} in each element, which is not"
            f" read alone; read whole elements, and take it of them: array[...][{field!r}]"
        )
    return found


def check_out(out: Any, shape: tuple[int, ...], conversion: Conversion, engine: Engine) -> None:
    """Refuse an `out` that a result of this shape does not fit exactly.

    Raises:
        ValueError: not an array of the engine's device, wrong shape or dtype, read-only, or
            overlapping itself.
    """
    if not engine.owns(out):
        due = type(engine.empty((0,), np.dtype(np.uint8)))
        raise ValueError(
            f"out= must be a {due.__module__}.{due.__qualname__} on {engine.device}, not a"
            f" {type(out).__module__}.{type(out).__qualname__}{_place(out)}"
        )
    if out.shape != shape:
        raise ValueError(f"out= has shape {out.shape}, but the selection has {shape}")
    if out.dtype != conversion.result:
        raise ValueError(f"out= has dtype {out.dtype}, but the result has {conversion.result}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out= is read-only")
    if _overlaps_itself(out):
        raise ValueError("out= overlaps itself")


def _overlaps_itself(out: NDArray[Any]) -> bool:
    """Whether elements share memory.

    In views by slices, transposes and fields each axis steps over all that narrower ones reach. Of
    what else `as_strided` makes, interleaved axes are refused too, though they need not overlap.
    """
    reach = out.itemsize
    for stride, length in sorted(
        (abs(stride), length) for stride, length in zip(out.strides, out.shape, strict=True)
    ):
        if length > 1 and stride < reach:
            return out.size > 0
        reach += stride * (length - 1)
    return False
