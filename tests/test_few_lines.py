"""A few chunks that stand in a line: decoded together, and written in one assignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr import few
from gpuzarr.engines.cpu import few_writes
from gpuzarr.engines.cpu.copying import put
from gpuzarr.engines.cpu.few_writes import LEAST_COUNT, find_lines
from gpuzarr.engines.engine import FewChunk
from tests.arrays import plain_store, sharded_store
from tests.stored import assert_result

ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
ARRAY = np.random.default_rng(0).integers(0, 50, (12, 400), np.int32)


@pytest.fixture(autouse=True)
def _few_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few, "MOST_CHUNKS", 128)


def opened(kind: str, **options: Any) -> gpuzarr.Array:
    """4 x 4 chunks: a hundred in a row of the array."""
    if kind == "shards":
        store = sharded_store(ARRAY, (12, 100), (4, 4))
    else:
        codecs: tuple[Any, ...] = ("bytes", ZSTD) if kind == "zstd" else ("bytes",)
        encode = zstandard.compress if kind == "zstd" else bytes
        store = plain_store(ARRAY, (4, 4), encode=encode, codecs=codecs)
    return gpuzarr.open_array(store, **options)


@pytest.mark.parametrize("kind", ["zstd", "plain", "shards"])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    "key",
    [
        np.s_[5],
        np.s_[5, 3:398],
        np.s_[5:6, 1:37],
        np.s_[2:6, 7:250],
        np.s_[:, 0:40],
        np.s_[3, 4 : 4 * LEAST_COUNT],
        np.s_[3, 3 : 4 * LEAST_COUNT + 5],
    ],
)
def test_lines_are_what_is_stored(kind: str, threads: int, key: Any) -> None:
    array = opened(kind, threads=threads)
    assert_result(array[key], ARRAY[key])
    assert_result(array.read(key, dtype="f8", scale=0.5), ARRAY[key] * 0.5)
    out = np.zeros((2, *ARRAY[key].shape[::-1]), "i4")[1].T
    array.read(key, out=out)
    assert (out == ARRAY[key]).all()
    masked = np.ma.array(np.zeros_like(ARRAY[key]), mask=True)
    array.read(key, out=masked)
    assert not np.ma.getmaskarray(masked).any()
    assert (masked.data == ARRAY[key]).all()


@pytest.mark.parametrize("kind", ["zstd", "plain", "shards"])
def test_a_line_is_one_assignment(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = opened(kind, threads=1)
    made: list[tuple[int, ...]] = []

    def counted(target: np.ndarray[Any, Any], part: np.ndarray[Any, Any]) -> None:
        made.append(target.shape)
        put(target, part)

    monkeypatch.setattr(few_writes, "put", counted)
    monkeypatch.setattr(few_writes, "put_rows", counted)
    assert_result(array[5, 2:398], ARRAY[5, 2:398])
    assert made == [(1, 2), (1, 98, 4), (1, 2)]


def chunk(row: int, begin: int, end: int, take: slice) -> FewChunk:
    """A chunk whose part goes to places of a row."""
    return FewChunk(0, -1, (slice(0, 1), take), (slice(row, row + 1), slice(begin, end)))


@given(
    st.lists(
        st.tuples(st.integers(1, 24), st.booleans(), st.integers(0, 3)), min_size=1, max_size=6
    )
)
def test_lines_are_found(runs: list[tuple[int, bool, int]]) -> None:
    """Runs in rows of their own, or behind another with a gap, or of other parts."""
    chunks: list[FewChunk] = []
    expected: list[slice] = []
    for row, (count, gap, first) in enumerate(runs):
        take = slice(first, first + 4)
        start = 7 * gap
        if count >= LEAST_COUNT:
            expected.append(slice(len(chunks), len(chunks) + count))
        chunks += [
            chunk(
                row // 2,
                1000 * (row % 2) + start + 4 * i,
                1000 * (row % 2) + start + 4 * i + 4,
                take,
            )
            for i in range(count)
        ]
    assert find_lines(chunks) == expected
    assert all(line.stop - line.start >= LEAST_COUNT for line in find_lines(chunks[::-1]))
    assert find_lines(chunks[::-1]) == []
