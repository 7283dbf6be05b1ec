"""Documents as other libraries write them: the same dtype and the same fill value, bit for bit."""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gpuzarr.metadata import v2, v3
from gpuzarr.metadata.document import parse_json

if TYPE_CHECKING:
    from gpuzarr.metadata.model import ArrayMetadata

zarr = pytest.importorskip("zarr", minversion="3")

RECORD = np.dtype([("a", "<i4"), ("b", [("x", "<f4"), ("y", "S3")])])
ELEMENT = np.array((7, (1.5, b"ab")), RECORD)[()]


def written_by_zarr(zarr_format: int, **arguments: Any) -> tuple[ArrayMetadata, Any]:
    """Metadata of an array that zarr-python made, and the array."""
    store = zarr.storage.MemoryStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # data types without a stable specification
        array = zarr.create_array(
            store, shape=(4, 3), chunks=(2, 2), zarr_format=zarr_format, **arguments
        )
    key = "zarr.json" if zarr_format == 3 else ".zarray"
    prototype = zarr.core.buffer.default_buffer_prototype()
    blob = asyncio.run(store.get(key, prototype=prototype))
    document = parse_json(blob.to_bytes(), key)
    return v3.parse_array(document) if zarr_format == 3 else v2.parse_array(document), array


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        *(("bool", True), ("int8", -128), ("uint64", 2**64 - 1), ("int64", -(2**63))),
        *(
            ("float16", np.float16(0.1)),
            ("float32", np.nan),
            ("float64", -np.inf),
            ("float32", -0.0),
        ),
        *((">f4", 1.5), (">i2", -2), ("complex64", complex(np.nan, -np.inf)), (">c16", 1j)),
        *(
            ("S5", b"ab\xff"),
            ("S5", b""),
            ("<U5", "\u00e9\U0001f600"),
            (">U2", "ab"),
            ("V3", b"abc"),
        ),
        *(("M8[ns]", np.datetime64("NaT", "ns")), ("M8[25s]", np.datetime64(50, "s"))),
        *(("m8[D]", np.timedelta64(3, "D")), (">m8[10us]", np.timedelta64("NaT", "us"))),
        (RECORD, ELEMENT),
    ],
    ids=str,
)
def test_fixed_size_types_of_zarr_python(zarr_format: int, dtype: Any, fill: Any) -> None:
    fill = np.void(fill) if isinstance(fill, bytes) and str(dtype).startswith("V") else fill
    found, array = written_by_zarr(zarr_format, dtype=dtype, fill_value=fill)
    assert found.data_type.dtype == np.dtype(dtype).newbyteorder("=")
    right = np.array(array.fill_value).astype(found.data_type.dtype)
    assert np.array(found.fill_value, found.data_type.dtype).tobytes() == right.tobytes()
    assert isinstance(found.fill_value, np.generic)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "fill", "name", "codec"),
    [
        ("string", "\u00e9", "string", "vlen-utf8"),
        ("string", "", "string", "vlen-utf8"),
    ],
)
def test_types_of_variable_size_of_zarr_python(
    zarr_format: int, dtype: str, fill: Any, name: str, codec: str
) -> None:
    found, _ = written_by_zarr(zarr_format, dtype=dtype, fill_value=fill)
    assert (found.data_type.name, found.fill_value) == (name, fill)
    assert found.codecs[0].name == codec


def test_bytes_of_zarr_python() -> None:
    # v2 has no name by which zarr-python 3.1 could be asked for them.
    found, _ = written_by_zarr(3, dtype="variable_length_bytes", fill_value=b"a\xff")
    assert (found.data_type.name, found.fill_value) == ("bytes", b"a\xff")
    assert found.codecs[0].name == "vlen-bytes"


def test_order_filters_and_separator_of_zarr_python() -> None:
    from numcodecs import Delta  # noqa: PLC0415  only this test needs it

    found, _ = written_by_zarr(
        2,
        dtype=">i4",
        order="F",
        filters=[Delta(dtype=">i4")],
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )
    assert [codec.name for codec in found.codecs[:3]] == ["transpose", "bytes", "numcodecs.delta"]
    assert found.codecs[1].configuration == {"endian": "big"}
    assert found.chunk_key_encoding.separator == "/"


SMALL = [
    *(
        ("bfloat16", "0x7fc1"),
        ("bfloat16", 1.5),
        ("float8_e4m3fn", "NaN"),
        ("float8_e5m2", "-Infinity"),
    ),
    *(
        ("float8_e3m4", -0.0),
        ("float8_e4m3b11fnuz", 1.5),
        ("float4_e2m1fn", -6.0),
        ("float32", "0x7fa00001"),
    ),
    *(
        ("float8_e8m0fnu", 0.0),
        ("int2", -2),
        ("int4", 7),
        ("complex64", ["0x7fc00001", "-Infinity"]),
    ),
]


@pytest.mark.parametrize(("name", "fill"), SMALL, ids=str)
def test_fill_values_of_tensorstore(name: str, fill: Any) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    context = tensorstore.Context()
    spec = {
        "driver": "zarr3",
        "kvstore": "memory://",
        "metadata": {"shape": [2], "data_type": name, "fill_value": fill},
    }
    array = tensorstore.open(spec, create=True, context=context).result()
    kvstore = tensorstore.KvStore.open("memory://", context=context).result()
    document = parse_json(kvstore["zarr.json"], "zarr.json")
    found = v3.parse_array(document)
    right = array.read().result()
    assert found.data_type.dtype.name == right.dtype.name
    cells = np.array([found.fill_value] * 2, found.data_type.dtype)
    if name.startswith("int"):
        assert cells.tolist() == right.tolist()  # the bits above an int4 are nobody's
    else:
        assert cells.tobytes() == right.tobytes()


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4", "<f4", ">c16", "|S3", "|V4"])
def test_v2_documents_of_tensorstore(name: str) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    context = tensorstore.Context()
    spec = {
        "driver": "zarr",
        "kvstore": "memory://",
        "metadata": {"shape": [2], "chunks": [2], "dtype": name},
    }
    tensorstore.open(spec, create=True, context=context).result()
    kvstore = tensorstore.KvStore.open("memory://", context=context).result()
    found = v2.parse_array(parse_json(kvstore[".zarray"], ".zarray"))
    assert found.fill_value is None
    assert json.loads(kvstore[".zarray"])["dtype"] == name
    assert found.codecs[-1].name == "numcodecs.blosc"
