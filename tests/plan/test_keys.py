"""Chunk keys are the same however many are made at once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from gpuzarr.metadata.model import ChunkKeyEncoding
from gpuzarr.plan.keys import chunk_key, chunk_keys, product_keys

ENCODINGS = [
    ChunkKeyEncoding("default", "/"),
    ChunkKeyEncoding("default", "."),
    ChunkKeyEncoding("v2", "."),
    ChunkKeyEncoding("v2", "/"),
    ChunkKeyEncoding("default", "/", ".bin"),
]


@pytest.mark.parametrize("prefix", ["", "a/b"])
@pytest.mark.parametrize("encoding", ENCODINGS, ids=repr)
@pytest.mark.parametrize("axes", [[], [[7]], [[0, 10], [3]], [range(9, 12), [2, 1], [0, 100]]])
def test_one_many_and_products(
    axes: list[list[int]], encoding: ChunkKeyEncoding, prefix: str
) -> None:
    coords = list(product(*axes))
    one_by_one = [chunk_key(some, encoding, prefix) for some in coords]
    together = chunk_keys(
        np.array(coords, np.int64).reshape(len(coords), len(axes)), encoding, prefix
    )
    assert product_keys(axes, encoding, prefix) == one_by_one == together
    assert all(key.startswith(prefix) and key.endswith(encoding.suffix) for key in one_by_one)
