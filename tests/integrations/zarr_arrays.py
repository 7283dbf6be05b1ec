"""Arrays of zarr-python's of every kind, as opened for gpuzarr and for zarr-python to read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numcodecs import Blosc, Delta, Zlib
from zarr.codecs import BloscCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.storage import MemoryStore

from gpuzarr.integrations.zarr import GpuzarrCodecPipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

PIPELINES = {
    kind: f"{kind.__module__}.{kind.__qualname__}"
    for kind in (GpuzarrCodecPipeline, BatchedCodecPipeline)
}

RECORD = np.dtype([("a", ">i2"), ("b", "<f8"), ("c", "S3")])

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"dtype": "i4", "compressors": None},
    "edges": {"dtype": "f8", "shape": (17, 23), "chunks": (5, 4), "compressors": ZstdCodec()},
    "one chunk": {"dtype": "u2", "chunks": (40, 30), "compressors": GzipCodec()},
    "tiny chunks": {"dtype": "u1", "chunks": (1, 2)},
    "sharded": {"dtype": "f4", "chunks": (3, 4), "shards": (12, 8), "fill_value": 3},
    "index at the start": {
        "dtype": "i2",
        "chunks": (3, 4),
        "fill_value": -1,
        "shards": {"shape": (6, 8), "index_location": "start"},
    },
    "transposed": {"dtype": "i8", "filters": TransposeCodec(order=(1, 0))},
    "blosc": {"dtype": "c8", "compressors": BloscCodec(shuffle="bitshuffle", typesize=8)},
    "order F": {"dtype": "i4", "config": {"order": "F"}},
    "keys of v2": {
        "dtype": "bool",
        "fill_value": True,
        "chunk_key_encoding": {"name": "v2", "separator": "."},
    },
    "text": {"dtype": "string", "fill_value": "-"},
    "vector": {"dtype": "i4", "shape": (50,), "chunks": (7,)},
    "cube": {"dtype": "i2", "shape": (9, 8, 7), "chunks": (2, 3, 4), "shards": (4, 3, 8)},
    "v2": {"zarr_format": 2, "dtype": ">i4", "compressors": Zlib(), "filters": [Delta(">i4")]},
    "v2 order F": {"zarr_format": 2, "dtype": "f4", "order": "F", "compressors": Blosc()},
    "v2 without a fill value": {"zarr_format": 2, "dtype": "<f8", "fill_value": None},
    "v2 in folders": {
        "zarr_format": 2,
        "dtype": "<M8[s]",
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    },
    "v2 records": {"zarr_format": 2, "dtype": RECORD, "fill_value": None},
    "v2 bytes": {"zarr_format": 2, "dtype": "S5"},
    "v2 unicode": {"zarr_format": 2, "dtype": ">U3"},
}
"""Arguments of `zarr.create_array`; shape and chunks are those of `create` where there are none."""


@contextmanager
def read_by(pipeline: type[Any], **settings: Any) -> Iterator[None]:
    """What is opened here is read by a pipeline; gpuzarr refuses what it does not read."""
    path = {"codec_pipeline.path": PIPELINES[pipeline]}
    with zarr.config.set({**path, "codec_pipeline.strict": True, **settings}):
        yield


def create(kind: str, store: Any = None, **more: Any) -> tuple[Any, Any]:
    """A new array for gpuzarr to read, and the same one for zarr-python to read."""
    store = MemoryStore() if store is None else store
    arguments = {"shape": (17, 12), "chunks": (5, 4), **KINDS[kind], **more}
    with read_by(GpuzarrCodecPipeline):
        array = zarr.create_array(store, **arguments)
    with read_by(BatchedCodecPipeline):
        config = array.async_array.config
        return array, zarr.Array(zarr.AsyncArray(array.metadata, array.store_path, config))


def numbers(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Values of any dtype, no two the same while it has as many."""
    count = np.arange(int(np.prod(shape))).reshape(shape)
    if dtype.names is None:
        return count.astype("i8" if dtype.kind == "M" else "i4").astype(dtype)
    values = np.zeros(shape, dtype)
    for name in dtype.names:
        values[name] = count.astype(dtype[name])
    return values


def filled(kind: str, store: Any = None, **more: Any) -> tuple[Any, Any]:
    """As `create`, with values in most chunks; the others are not stored."""
    array, own = create(kind, store, **more)
    values = numbers(array.shape, array.dtype)
    place = tuple(slice(length // 4, None) for length in array.shape)
    own[place] = values[place]
    return array, own


def assert_same(actual: Any, expected: Any) -> None:
    """The same values, of the same type, lying in memory in the same order."""
    assert type(actual) is type(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)
    if isinstance(actual, np.ndarray):
        assert actual.strides == expected.strides
