"""Expected values: how they are stored without pickle, and what "equal" means.

Three files, by kind: `expected.npy` for what NumPy's own format holds, `expected.bin` for the small
number types of ml_dtypes (raw bytes, the type's name in case.json), `expected.json` for strings and
objects (bytes as base64). Equality is bit for bit: NaN equals NaN, the sign of zero counts, the
data type is compared by kind and size and must be in native byte order.
"""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

PAIR_TYPES = {
    "complex_float16": "float16",
    "complex_bfloat16": "bfloat16",
    "complex_float4_e2m1fn": "float4_e2m1fn",
    "complex_float6_e2m3fn": "float6_e2m3fn",
    "complex_float6_e3m2fn": "float6_e3m2fn",
    "complex_float8_e3m4": "float8_e3m4",
    "complex_float8_e4m3": "float8_e4m3",
    "complex_float8_e4m3b11fnuz": "float8_e4m3b11fnuz",
    "complex_float8_e4m3fnuz": "float8_e4m3fnuz",
    "complex_float8_e5m2": "float8_e5m2",
    "complex_float8_e5m2fnuz": "float8_e5m2fnuz",
    "complex_float8_e8m0fnu": "float8_e8m0fnu",
}
"""Complex types that NumPy lacks: an expected value is a structured array of `real` and `imag`."""


def small_dtype(name: str) -> np.dtype[Any]:
    """The dtype of a small number type, by its Zarr name; complex ones as pairs."""
    if name in PAIR_TYPES:
        part = small_dtype(PAIR_TYPES[name])
        return np.dtype([("real", part), ("imag", part)])
    if name == "float16":
        return np.dtype("float16")
    import ml_dtypes  # noqa: PLC0415 - not everywhere installed

    small: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return small


def is_small(dtype: np.dtype[Any]) -> bool:
    """True for ml_dtypes' types, and for pairs of such."""
    if dtype.names == ("real", "imag"):
        return True
    return getattr(dtype.type, "__module__", "").startswith("ml_dtypes")


def small_name(dtype: np.dtype[Any]) -> str:
    """The Zarr name of a small number type."""
    if dtype.names is None:
        return dtype.name
    parts = {part: name for name, part in PAIR_TYPES.items()}
    return parts[dtype["real"].name]


def is_text(dtype: np.dtype[Any]) -> bool:
    """True for object arrays and for NumPy's variable-width strings."""
    return dtype.kind in "OT"


def describe(dtype: np.dtype[Any]) -> str:
    """A dtype as text, the same on every machine."""
    if is_small(dtype):
        return small_name(dtype)
    if is_text(dtype):
        return "object"
    return str(dtype.descr) if dtype.names else dtype.newbyteorder("<").str


def save_expected(directory: Path, expected: np.ndarray[Any, Any]) -> None:
    """Write the expected values, in native byte order, C order."""
    dtype = expected.dtype
    if is_text(dtype):
        document = {
            "shape": list(expected.shape),
            "items": [_to_json(item) for item in expected.ravel().tolist()],
        }
        (directory / "expected.json").write_text(json.dumps(document))
    elif is_small(dtype):
        (directory / "expected.bin").write_bytes(np.ascontiguousarray(expected).tobytes())
    else:
        native = np.array(expected, dtype=dtype.newbyteorder("="), order="C", copy=True)
        np.save(directory / "expected.npy", native, allow_pickle=False)


def load_expected(directory: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Read what `save_expected` wrote."""
    if (directory / "expected.npy").exists():
        return np.asarray(np.load(directory / "expected.npy", allow_pickle=False))
    if (directory / "expected.bin").exists():
        raw = (directory / "expected.bin").read_bytes()
        return np.frombuffer(raw, small_dtype(dtype)).reshape(shape).copy()
    document = json.loads((directory / "expected.json").read_text())
    out = np.empty(len(document["items"]), dtype=object)
    for position, item in enumerate(document["items"]):
        out[position] = _from_json(item)
    return out.reshape(document["shape"])


def _to_json(item: Any) -> Any:
    if isinstance(item, bytes):
        return {"bytes": base64.b64encode(item).decode()}
    if isinstance(item, np.ndarray):
        raw = base64.b64encode(np.ascontiguousarray(item).tobytes()).decode()
        return {"array": raw, "dtype": item.dtype.str, "shape": list(item.shape)}
    return {"value": item}


def _from_json(item: dict[str, Any]) -> Any:
    if "bytes" in item:
        return base64.b64decode(item["bytes"])
    if "array" in item:
        return np.frombuffer(base64.b64decode(item["array"]), item["dtype"]).reshape(item["shape"])
    return item["value"]


def assert_equal(expected: np.ndarray[Any, Any], actual: object) -> None:
    """Assert that a reader's result is the expected array: type, shape, every bit."""
    assert isinstance(actual, np.ndarray), f"not an array but {type(actual).__name__}"
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    if expected.dtype.names == ("real", "imag") and is_small(expected.dtype):
        _assert_pairs(expected, actual)
        return
    _assert_dtype(expected.dtype, actual.dtype)
    if is_text(expected.dtype):
        pairs = zip(expected.ravel().tolist(), actual.ravel().tolist(), strict=True)
        for position, (want, got) in enumerate(pairs):
            assert _same_item(want, got), f"element {position}: {got!r}, expected {want!r}"
        return
    different = ~_same(expected, actual)
    if different.any():
        place = tuple(int(i) for i in np.argwhere(different)[0])
        count = int(different.sum())
        got, want = _show(actual[place]), _show(expected[place])
        raise AssertionError(
            f"{count} of {expected.size} differ, first at {place}: {got}, expected {want}"
        )


def _show(item: Any) -> str:
    try:
        return repr(item)
    except ValueError:  # times without a unit have no representation
        return str(item.view("i8"))


def _assert_dtype(expected: np.dtype[Any], actual: np.dtype[Any]) -> None:
    if is_text(expected):
        assert is_text(actual), f"dtype {actual}, expected strings or objects"
        return
    if expected.subdtype is not None:
        assert actual.subdtype is not None, f"dtype {actual}, expected {expected}"
        assert actual.shape == expected.shape, f"dtype {actual}, expected {expected}"
        _assert_dtype(expected.base, actual.base)
        return
    assert actual.names == expected.names, f"dtype {actual}, expected {expected}"
    for name in expected.names or ():
        _assert_dtype(expected[name], actual[name])
    if is_small(expected):
        assert actual == expected, f"dtype {actual}, expected {expected}"
    same = (actual.kind, actual.itemsize) == (expected.kind, expected.itemsize)
    assert same, f"dtype {actual}, expected {expected}"
    assert actual.isnative, f"dtype {actual} is not in native byte order"
    if expected.kind in "mM":
        assert np.datetime_data(actual) == np.datetime_data(expected), (
            f"dtype {actual}, expected {expected}"
        )


def _same(expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Element by element: equal by bits, or both NaN."""
    dtype = expected.dtype
    if dtype.names is not None:
        out = np.ones(expected.shape, dtype=bool)
        for name in dtype.names:
            part = _same(expected[name], actual[name])
            out &= part.all(axis=tuple(range(expected.ndim, part.ndim)))
        return out
    width = dtype.itemsize
    if width == 0:
        return np.ones(expected.shape, dtype=bool)
    if is_small(dtype) and "int" in dtype.name:  # the unused upper bits are nobody's business
        return np.asarray(expected.astype(np.int8) == actual.astype(np.int8))
    bits = [
        np.ascontiguousarray(part).reshape(-1).view(np.uint8).reshape(-1, width)
        for part in (expected, actual)
    ]
    out = np.asarray((bits[0] == bits[1]).all(axis=1).reshape(expected.shape))
    if dtype.kind == "f" or (is_small(dtype) and "float" in dtype.name):
        out |= np.isnan(expected) & np.isnan(actual)
    if dtype.kind == "c":
        out = _same(expected.real, actual.real) & _same(expected.imag, actual.imag)
    return out


def _same_item(want: Any, got: Any) -> bool:
    if isinstance(want, np.ndarray):
        same_type = isinstance(got, np.ndarray) and (got.dtype.kind, got.shape) == (
            want.dtype.kind,
            want.shape,
        )
        return (
            same_type
            and got.dtype.itemsize == want.dtype.itemsize
            and bool(np.all(_same(want, got)))
        )
    if isinstance(want, float) and isinstance(got, float):
        return (math.isnan(want) and math.isnan(got)) or (
            want == got and math.copysign(1, want) == math.copysign(1, got)
        )
    if isinstance(want, list):
        same_length = isinstance(got, (list, tuple)) and len(got) == len(want)
        return same_length and all(_same_item(a, b) for a, b in zip(want, got, strict=True))
    return type(want) is type(got) and bool(want == got)


def _assert_pairs(expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]) -> None:
    """Complex of small floats: two fields, a small complex type, or a complex64 that is exact."""
    if actual.dtype.names is not None:
        assert len(actual.dtype.names) == len(("real", "imag")), f"dtype {actual.dtype}"
        for want, got in zip(("real", "imag"), actual.dtype.names, strict=True):
            assert_equal(expected[want], np.asarray(actual[got]))
        return
    if actual.dtype.itemsize == expected.dtype.itemsize:
        assert np.ascontiguousarray(actual).tobytes() == np.ascontiguousarray(expected).tobytes(), (
            "bits differ"
        )
        return
    assert actual.dtype == np.complex64, f"dtype {actual.dtype} for complex numbers of small floats"
    wide = np.empty(expected.shape, np.complex64)
    wide.real, wide.imag = expected["real"].astype(np.float32), expected["imag"].astype(np.float32)
    assert _same(wide, actual).all(), "values differ"
