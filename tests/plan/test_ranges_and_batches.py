"""Joining ranges into requests, and cutting chunks into batches, against models in plain Python."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.plan.batches import DEVICE, Batch, BatchLimits, make_batches, missing_pieces
from gpuzarr.plan.chunk_table import ChunkTable, PieceTable
from gpuzarr.plan.ranges import BROKEN, MISSING, WHOLE, ByteRanges, coalesce

if TYPE_CHECKING:
    from numpy.typing import NDArray

Range = tuple[int, int, int]
"""Key, offset, number of bytes."""


def int64(values: Any) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def ranges(max_size: int = 30) -> st.SearchStrategy[list[Range]]:
    """Ranges of a few objects, some of them whole objects, that overlap, touch or lie apart."""
    nbytes = st.sampled_from([*range(26), 50, WHOLE])
    one = st.tuples(st.integers(0, 2), st.integers(0, 80), nbytes)
    return st.lists(one, max_size=max_size).map(
        lambda rows: sorted((k, 0 if n == WHOLE else o, n) for k, o, n in rows)
    )


def join_slowly(rows: list[Range], cuts: list[bool], gap: int) -> list[list[int]]:
    """The rows of each request."""
    requests: list[list[int]] = []
    reach = 0
    for i, ((key, offset, nbytes), cut) in enumerate(zip(rows, cuts, strict=True)):
        last_key, _, last_nbytes = rows[i - 1]
        if (
            i == 0
            or cut
            or key != last_key
            or WHOLE in (nbytes, last_nbytes)
            or offset > reach + gap
        ):
            requests.append([])
            reach = 0
        requests[-1].append(i)
        reach = max(reach, offset + max(nbytes, 0))
    return requests


@given(ranges(), st.data(), st.integers(0, 20))
def test_coalescing_is_a_walk_along_each_object(
    rows: list[Range], data: st.DataObject, gap: int
) -> None:
    cut_here = st.sampled_from([False] * 5 + [True])
    cuts = data.draw(st.lists(cut_here, min_size=len(rows), max_size=len(rows)))
    key, offset, nbytes = int64([list(row) for row in rows]).reshape(-1, 3).T
    found = coalesce(key, offset, nbytes, np.array(cuts, bool), gap)
    requests = join_slowly(rows, cuts, gap)
    assert found.first.tolist() == [members[0] for members in requests]
    assert found.request.tolist() == [
        number for number, members in enumerate(requests) for _ in members
    ]
    for number, members in enumerate(requests):
        begin = rows[members[0]][1]
        if rows[members[0]][2] == WHOLE:
            assert found.nbytes[number] == WHOLE
            continue
        assert found.nbytes[number] == max(rows[i][1] + rows[i][2] for i in members) - begin
        assert found.start[members].tolist() == [rows[i][1] - begin for i in members]


def test_a_range_inside_another_does_not_end_its_request() -> None:
    found = coalesce(
        int64([0, 0, 0]), int64([0, 5, 15]), int64([20, 1, 3]), np.zeros(3, bool), gap_nbytes=0
    )
    assert found.request.tolist() == [0, 0, 0]
    assert found.start.tolist() == [0, 5, 15]
    assert found.nbytes.tolist() == [20]


def test_ranges_at_the_end_of_the_largest_object() -> None:
    top = 2**63 - 1
    offset = int64([0, top - 10, top - 5])
    nbytes = int64([4, 5, 5])
    found = coalesce(int64([0, 0, 0]), offset, nbytes, np.zeros(3, bool), 1 << 14)
    assert found.request.tolist()[:2] == [0, 1]
    assert found.nbytes.tolist()[0] == 4
    assert sum(found.nbytes.tolist()) == 14


def never_joins() -> BatchLimits:
    return BatchLimits(1 << 30, 1, -(1 << 62))


def test_a_negative_gap_joins_nothing() -> None:
    batches = list(cut([(0, 0, 5), (0, 5, 5), (0, 5, 9)], [1, 1, 1], [1, 1, 1], never_joins()))
    assert [batch.requests.nbytes for batch in batches] == [[5, 5, 9]]


# Batches


def tables(decoded: list[int], pieces: list[int]) -> tuple[ChunkTable, PieceTable]:
    """Chunks of given sizes; `pieces` says how many pieces each has, at least one."""
    n = len(decoded)
    chunk = np.repeat(np.arange(n), pieces)
    ids = np.arange(len(chunk))
    columns = ids[:, None] + int64([[100, 200]])
    zeros = np.zeros(len(chunk), np.int32)
    chunks = ChunkTable(
        np.zeros(n, np.int32),
        np.stack([np.arange(n), np.arange(n) * 7], axis=-1),
        np.full((n, 2), 3),
        int64(decoded),
    )
    return chunks, PieceTable(chunk, zeros, columns, columns + 1000, columns + 2000, ((),))


def cut(
    rows: list[Range], decoded: list[int], pieces: list[int], limits: BatchLimits
) -> list[Batch]:
    names = sorted({key for key, _, _ in rows})
    key = int64([names.index(key) for key, _, _ in rows])
    where = ByteRanges(
        [f"object {name}" for name in names],
        key,
        int64([offset for _, offset, _ in rows]),
        int64([nbytes for _, _, nbytes in rows]),
        {"object 1": "validator"},
    )
    chunks, piece_table = tables(decoded, pieces)
    return list(make_batches(chunks, piece_table, where, limits))


@st.composite
def reads(draw: st.DrawFn) -> tuple[list[Range], list[int], list[int]]:
    """Chunks in any order in the store; some are missing, some broken."""
    rows = draw(st.permutations(draw(ranges())))
    rows = [
        (key, offset, draw(st.sampled_from([nbytes, nbytes, nbytes, MISSING, BROKEN])))
        for key, offset, nbytes in rows
    ]
    decoded = [draw(st.integers(0, 60)) for _ in rows]
    return rows, decoded, [draw(st.integers(1, 3)) for _ in rows]


@given(reads(), st.integers(1, 200), st.integers(1, 4), st.integers(0, 20), st.integers(0, 100))
def test_batches_hold_each_stored_chunk_once_and_within_the_limit(
    read: tuple[list[Range], list[int], list[int]],
    nbytes: int,
    parallel: int,
    gap: int,
    least: int,
) -> None:
    rows, decoded, pieces = read
    limits = BatchLimits(nbytes, parallel, gap, least_nbytes=least)
    batches = cut(rows, decoded, pieces, limits)
    taken: list[int] = []
    for batch in batches:
        chunk_ids = batch.chunks.coords[:, 0].tolist()
        taken += chunk_ids
        assert batch.chunks.coords[:, 1].tolist() == [7 * i for i in chunk_ids]
        assert batch.chunks.decoded_nbytes.tolist() == [decoded[i] for i in chunk_ids]
        assert batch.nbytes.tolist() == [rows[i][2] for i in chunk_ids]
        assert batch.place.tolist() == [DEVICE] * len(chunk_ids)
        work = [decoded[i] + max(rows[i][2], 0) for i in chunk_ids]
        assert len(work) == 1 or sum(work) <= nbytes
        check_requests(batch, [rows[i] for i in chunk_ids])
        check_pieces(batch, chunk_ids, pieces)
    stored = [i for i, (_, _, n) in enumerate(rows) if n >= 0 or n == WHOLE]
    assert sorted(taken) == stored
    places = [(rows[i][0], rows[i][1]) for i in taken]
    if len({key for key, _, _ in rows}) < len(rows):
        assert all(a <= b for a, b in pairwise(places))  # in the order of the store


def check_requests(batch: Batch, rows: list[Range]) -> None:
    """Every chunk lies where its request says, and every request is used."""
    requests = batch.requests
    assert len(requests) == len(requests.offset) == len(requests.nbytes) == len(requests.keys)
    assert sorted(set(batch.request.tolist())) == list(range(len(requests)))
    assert requests.validators == {"object 1": "validator"}
    for (key, offset, nbytes), number, start in zip(
        rows, batch.request.tolist(), batch.start.tolist(), strict=True
    ):
        assert requests.keys[number] == f"object {key}"
        assert requests.offset[number] + start == offset
        if nbytes == WHOLE:
            assert requests.nbytes[number] == WHOLE
        else:
            assert 0 <= start <= start + nbytes <= requests.nbytes[number]


def check_pieces(batch: Batch, chunk_ids: list[int], pieces: list[int]) -> None:
    """The batch has all pieces of its chunks, numbered by the batch's rows."""
    first = [0, *np.cumsum(pieces).tolist()]
    expected = [
        (row, piece)
        for row, chunk in enumerate(chunk_ids)
        for piece in range(first[chunk], first[chunk + 1])
    ]
    found = batch.pieces
    assert found.chunk.tolist() == [row for row, _ in expected]
    ids = int64([piece for _, piece in expected])
    for column, base in ((found.start, 0), (found.out_start, 1000), (found.extent, 2000)):
        assert column[:, 0].tolist() == (ids + 100 + base).tolist()
        assert column[:, 1].tolist() == (ids + 200 + base).tolist()


def test_nothing_stored_is_no_batch() -> None:
    rows = [(0, 0, MISSING), (1, 0, BROKEN)]
    assert cut(rows, [5, 5], [1, 1], BatchLimits(10, 1, 0)) == []
    assert cut([], [], [], BatchLimits(10, 1, 0)) == []


def test_a_chunk_above_the_limit_has_a_batch_alone() -> None:
    rows = [(0, 10 * i, 10) for i in range(5)]
    batches = cut(rows, [10, 10, 900, 10, 10], [1] * 5, BatchLimits(100, 1, 0))
    (alone,) = [batch for batch in batches if 900 in batch.chunks.decoded_nbytes]
    assert len(alone.chunks) == 1
    assert sum(len(batch.chunks) for batch in batches) == 5


@pytest.mark.parametrize("parallel", [2, 8])
def test_a_read_of_few_chunks_is_cut_for_all_threads(parallel: int) -> None:
    rows = [(i, 0, 1 << 20) for i in range(16)]
    batches = cut(rows, [1 << 20] * 16, [1] * 16, BatchLimits(1 << 30, parallel, 0))
    assert parallel <= len(batches) <= 16
    one = cut(
        rows, [1 << 10] * 16, [1] * 16, BatchLimits(1 << 30, parallel, 0, least_nbytes=1 << 26)
    )
    assert len(one) == 1


def test_the_pieces_of_missing_chunks() -> None:
    chunks, pieces = tables([1, 1, 1, 1], [2, 1, 1, 3])
    where = ByteRanges(["k"], int64([0] * 4), int64([0] * 4), int64([MISSING, MISSING, 5, MISSING]))
    found = missing_pieces(pieces, where)
    assert found is not None
    assert found.chunk.tolist() == [0, 0, 1, 2, 2, 2]
    assert found.start[:, 0].tolist() == [100, 101, 102, 104, 105, 106]
    present = ByteRanges(["k"], int64([0] * 4), int64([0] * 4), int64([WHOLE, 3, BROKEN, 0]))
    assert missing_pieces(pieces, present) is None
    assert present.stored.tolist() == [True, True, False, True]
    assert len(chunks) == 4


def test_requests_are_not_joined_beyond_a_size() -> None:
    rows = [(0, 10 * i, 10) for i in range(40)]
    limits = BatchLimits(1 << 30, 1, 0, request_nbytes=100)
    (batch,) = cut(rows, [1] * 40, [1] * 40, limits)
    assert batch.requests.nbytes == [100] * 4
    large = BatchLimits(1 << 30, 1, 0, request_nbytes=4)
    (batch,) = cut(rows, [1] * 40, [1] * 40, large)
    assert batch.requests.nbytes == [10] * 40
