"""Arrays whose chunks are objects together with arrays of the same program in shards."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import plain_store, sharded_store
from tests.batches import device
from tests.engines.cuda.stores import BLOSC, ZSTD, blosc, zstd

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["device"]  # a fixture

CODECS: dict[str, tuple[tuple[Any, ...], Callable[[bytes], bytes]]] = {
    "none": (("bytes",), bytes),
    "zlib": (
        ("bytes", {"name": "numcodecs.zlib", "configuration": {"level": 1}}),
        lambda data: zlib.compress(data, 1),
    ),
    "zstd": (("bytes", ZSTD), zstd),
    "blosc": (("bytes", BLOSC), blosc()),
}
SHAPE, CHUNK = (48, 36), (6, 9)


def arrays(codec: str, shard: tuple[int, int], **choices: Any) -> dict[str, tuple[Any, Any]]:
    """An array in chunks, one in shards of the same chunks; each with its values."""
    codecs, encode = CODECS[codec]
    values = np.arange(48 * 36, dtype=np.int32).reshape(SHAPE)
    stores = {
        "chunks": plain_store(values, CHUNK, encode=encode, codecs=codecs),
        "shards": sharded_store(values + 10_000, shard, CHUNK, encode=encode, inner_codecs=codecs),
    }
    return {
        "chunks": (gpuzarr.open_array(stores["chunks"], **choices), values),
        "shards": (gpuzarr.open_array(stores["shards"], **choices), values + 10_000),
    }


KEYS: dict[str, list[Any]] = {
    "whole": [...],
    "crops": [(slice(i, i + 13), slice(2 * i, 2 * i + 11)) for i in range(0, 12, 3)],
    "lists": [([i, 47, 5], slice(None, None, 2)) for i in range(4)],
}


@pytest.mark.parametrize("order", ["chunks, shards", "shards, chunks", "chunks, shards, chunks"])
@pytest.mark.parametrize("shard", [(6, 9), (12, 9), (48, 36)])
@pytest.mark.parametrize("codec", CODECS)
def test_each_is_read_as_alone(device: str, codec: str, shard: tuple[int, int], order: str) -> None:
    opened = arrays(codec, shard, device=device, threads=2)
    for keys in KEYS.values():
        wanted = [(opened[name], key) for name in order.split(", ") for key in keys]
        for pairs in (wanted, wanted[::2] + wanted[1::2]):
            found = gpuzarr.read_batch([(array, key) for (array, _), key in pairs])
            for one, ((_, values), key) in zip(found, pairs, strict=True):
                np.testing.assert_array_equal(np.asarray(one), values[key])


def test_a_loader_of_both(device: str) -> None:
    opened = arrays("blosc", (12, 9), device=device)
    loader = gpuzarr.Loader(
        {name: array for name, (array, _) in opened.items()}, crop=(10, 8), batch_size=3
    )
    for batch in loader:
        np.testing.assert_array_equal(
            np.asarray(batch["chunks"]) + 10_000, np.asarray(batch["shards"])
        )


def test_damage_is_told_of_the_chunk_that_has_it(device: str) -> None:
    codecs, encode = CODECS["zlib"]
    values = np.arange(48 * 36, dtype=np.int32).reshape(SHAPE)
    chunks = dict(plain_store(values, CHUNK, encode=encode, codecs=codecs))
    shards = sharded_store(values, (12, 9), CHUNK, encode=encode, inner_codecs=codecs)
    chunks["c/2/1"] = b"no data"
    pair = [(gpuzarr.open_array(store, device=device), ...) for store in (chunks, shards)]
    for requests in (pair, pair[::-1]):
        with pytest.raises(gpuzarr.ChunkError) as caught:
            gpuzarr.read_batch(requests)
        assert {failure.coords for failure in caught.value.failures} == {(2, 1)}
