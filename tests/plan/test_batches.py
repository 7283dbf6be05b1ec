"""Batches by their definition: each stored chunk once, its bytes where its request brings them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.metadata.model import ChunkKeyEncoding
from gpuzarr.plan.batches import Batch, BatchLimits, make_batches
from gpuzarr.plan.chunk_table import ChunkTable, PieceTable
from gpuzarr.plan.keys import chunk_keys
from gpuzarr.plan.ranges import BROKEN, MISSING, WHOLE, ByteRanges
from gpuzarr.plan.shard_index import rows_of_groups, unique_rows
from tests.arrays import CountingStore, sharded_store


@st.composite
def located(draw: st.DrawFn) -> tuple[ByteRanges, np.ndarray[Any, Any], list[int]]:
    """Ranges, the decoded size of each chunk, and how many pieces each chunk has."""
    n = draw(st.integers(1, 12))
    nkeys = draw(st.integers(1, n))
    key = draw(st.lists(st.integers(0, nkeys - 1), min_size=n, max_size=n))
    nbytes = draw(st.lists(st.sampled_from([MISSING, BROKEN, 0, 1, 7, 50]), min_size=n, max_size=n))
    if draw(st.booleans()):  # unsharded: an object for each chunk
        key = draw(st.permutations(range(n)))
        nbytes = [WHOLE if size >= 0 else size for size in nbytes]
        nkeys = n
    offset = draw(st.lists(st.integers(0, 200), min_size=n, max_size=n))
    if WHOLE in nbytes:
        offset = [0] * n
    decoded = draw(st.lists(st.integers(1, 100), min_size=n, max_size=n))
    pieces = draw(st.lists(st.integers(1, 3), min_size=n, max_size=n))
    ranges = ByteRanges(
        [f"k{i}" for i in range(nkeys)], np.array(key), np.array(offset), np.array(nbytes)
    )
    return ranges, np.array(decoded), pieces


LIMITS = st.builds(
    BatchLimits,
    nbytes=st.integers(1, 300),
    parallel=st.integers(1, 3),
    gap_nbytes=st.sampled_from([-(1 << 62), 0, 5, 100]),
    request_nbytes=st.sampled_from([1, 60, 1 << 20]),
    least_nbytes=st.integers(1, 100),
)


@given(located(), LIMITS)
def test_every_stored_chunk_is_in_one_batch_with_its_bytes(
    found: tuple[ByteRanges, np.ndarray[Any, Any], list[int]], limits: BatchLimits
) -> None:
    ranges, decoded, counts = found
    n = len(decoded)
    number = np.arange(n)
    chunks = ChunkTable(np.zeros(n, np.int32), number[:, None], np.ones((n, 1), int), decoded)
    chunk = np.repeat(number, counts)
    identity = np.arange(len(chunk))[:, None]
    pieces = PieceTable(chunk, np.zeros(len(chunk), np.int32), identity, identity, identity, ((),))
    batches = list(make_batches(chunks, pieces, ranges, limits))
    seen = [int(row) for batch in batches for row in batch.chunks.coords[:, 0]]
    assert sorted(seen) == np.flatnonzero(ranges.stored).tolist()
    for batch in batches:
        check_batch(batch, ranges, chunk, limits)


def check_batch(
    batch: Batch, ranges: ByteRanges, chunk: np.ndarray[Any, Any], limits: BatchLimits
) -> None:
    requests = batch.requests
    rows = batch.chunks.coords[:, 0].tolist()
    assert sorted(set(batch.request.tolist())) == list(range(len(requests)))
    for place, row in enumerate(rows):
        request = int(batch.request[place])
        assert requests.keys[request] == ranges.keys[ranges.key[row]]
        assert requests.offset[request] + batch.start[place] == ranges.offset[row]
        assert batch.nbytes[place] == ranges.nbytes[row]
        if ranges.nbytes[row] == WHOLE:
            assert requests.nbytes[request] == WHOLE
        else:
            assert batch.start[place] + ranges.nbytes[row] <= requests.nbytes[request]
    expected = [
        (place, piece)
        for place, row in enumerate(rows)
        for piece in np.flatnonzero(chunk == row).tolist()
    ]
    pieces = batch.pieces
    assert list(zip(pieces.chunk.tolist(), pieces.start[:, 0].tolist(), strict=True)) == expected
    work = batch.chunks.decoded_nbytes + np.maximum(batch.nbytes, 0)
    assert len(rows) == 1 or work.sum() <= limits.nbytes


@pytest.mark.parametrize("key", [slice(None, None, -1), [3, 0, 2], slice(None)], ids=str)
def test_shards_of_one_chunk_in_any_order(key: Any) -> None:
    array = np.arange(8, dtype=np.int32).reshape(4, 2)
    store = CountingStore(sharded_store(array, (1, 2), (1, 2)))
    np.testing.assert_array_equal(gpuzarr.open_array(store)[key], array[key])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 5, 2**40]), st.just(7)), max_size=30)
)
def test_unique_rows_are_numpys(rows: list[tuple[int, int, int]]) -> None:
    table = np.array(rows, np.int64).reshape(-1, 3)
    one, group = unique_rows(table)
    unique, inverse = np.unique(table, axis=0, return_inverse=True)
    np.testing.assert_array_equal(table[one], unique)
    np.testing.assert_array_equal(group, inverse.reshape(-1))
    members = rows_of_groups(group, len(one)) if len(one) else []
    assert [part.tolist() for part in members] == [
        np.flatnonzero(group == number).tolist() for number in range(len(one))
    ]


@given(
    st.lists(st.tuples(st.integers(0, 2**50), st.integers(0, 5)), max_size=20),
    st.sampled_from(["/", "."]),
    st.sampled_from(["", "a/b"]),
)
def test_keys_are_texts_of_coordinates(
    coords: list[tuple[int, int]], separator: Any, path: str
) -> None:
    table = np.array(coords, np.int64).reshape(-1, 2)
    start = f"{path}/" if path else ""
    default = chunk_keys(table, ChunkKeyEncoding("default", separator), path)
    assert default == [f"{start}c{separator}{i}{separator}{j}" for i, j in coords]
    v2 = chunk_keys(table[:, :1], ChunkKeyEncoding("v2", separator, ".nc"), path)
    assert v2 == [f"{start}{i}.nc" for i, _ in coords]
