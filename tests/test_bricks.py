"""Bricks of small chunks: planned along axes, decoded by several threads, written together."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr import few
from gpuzarr.engines import pool
from gpuzarr.engines.cpu import bricks
from gpuzarr.engines.cpu.copying import put
from gpuzarr.engines.cpu.decoder import ChunkDecoder
from tests.arrays import plain_store, sharded_store
from tests.effort import examples
from tests.engines.cpu.test_crew import full_pool
from tests.few_ways import MEDIUM, SMALL, read_few
from tests.pool_threads import in_pool
from tests.stored import assert_result
from tests.test_few import watched

if TYPE_CHECKING:
    from pathlib import Path

ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
ARRAY = np.random.default_rng(0).integers(0, 50, (12, 400), np.int32)
CUBE = np.random.default_rng(1).integers(0, 9, (20, 24, 28), np.int16)


def zstd(data: bytes) -> bytes:
    return zstandard.compress(data)


def lines(kind: str, **options: Any) -> gpuzarr.Array:
    """4 x 4 chunks: a hundred in a row of the array."""
    if kind == "shards":
        store = sharded_store(ARRAY, (12, 100), (4, 4))
    elif kind == "zstd":
        store = plain_store(ARRAY, (4, 4), encode=zstd, codecs=("bytes", ZSTD))
    else:
        store = plain_store(ARRAY, (4, 4))
    return gpuzarr.open_array(store, **options)


@pytest.fixture(autouse=True, params=[SMALL, MEDIUM, "as they are"])
def way(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """How they are read: as it is, too, where threads are for more chunks than these."""
    monkeypatch.setattr(few, "MOST_CHUNKS", 128)
    found: str = request.param
    if found in {SMALL, MEDIUM}:
        read_few(monkeypatch, found)
    return found


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
        np.s_[3, 4:48],
        np.s_[3, 3:53],
    ],
)
def test_lines_are_what_is_stored(kind: str, threads: int, key: Any) -> None:
    array = lines(kind, threads=threads)
    assert_result(array[key], ARRAY[key])
    assert_result(array.read(key, dtype="f8", scale=0.5), ARRAY[key] * 0.5)
    out = np.zeros((2, *ARRAY[key].shape[::-1]), "i4")[1].T
    array.read(key, out=out)
    assert (out == ARRAY[key]).all()
    masked = np.ma.array(np.zeros_like(ARRAY[key]), mask=True)
    array.read(key, out=masked)
    assert not np.ma.getmaskarray(masked).any()
    assert (masked.data == ARRAY[key]).all()


@examples(60)
@given(
    st.tuples(*(st.tuples(st.integers(0, 27), st.integers(0, 27)) for _ in range(3))),
    st.sets(st.integers(0, 209), max_size=40),
    st.sampled_from(["plain", "shards"]),
    st.sampled_from(["C", "F"]),
    st.sampled_from([1, 3]),
    st.data(),
)
def test_any_box_of_chunks_some_of_which_are_not_stored(
    ends: tuple[tuple[int, int], ...],
    skipped: set[int],
    kind: str,
    order: str,
    threads: int,
    data: st.DataObject,
) -> None:
    """Into memory of any form, and what is not stored is the fill value."""
    shape, chunks, shards = CUBE.shape, (4, 4, 4), (20, 12, 28)
    fill = 0 if kind == "shards" else -7
    # In shards the same chunks of each are not stored.
    unit = shards if kind == "shards" else shape
    counts = tuple(size // chunk for size, chunk in zip(unit, chunks, strict=True))
    missing = {at for n, at in enumerate(product(*map(range, counts))) if n in skipped}
    expected = CUBE.copy()
    for at in product(*(range(size // chunk) for size, chunk in zip(shape, chunks, strict=True))):
        if tuple(i % count for i, count in zip(at, counts, strict=True)) in missing:
            expected[tuple(slice(4 * i, 4 * i + 4) for i in at)] = fill
    codecs: tuple[Any, ...] = ("bytes", ZSTD)
    if order == "F":
        codecs = ({"name": "transpose", "configuration": {"order": [2, 0, 1]}}, *codecs)

    def encode(part: bytes) -> bytes:
        values = np.frombuffer(part, "i2").reshape(chunks)
        return zstd(values.transpose(2, 0, 1).tobytes() if order == "F" else part)

    options: dict[str, Any] = {"encode": encode, "skip": missing.__contains__}
    if kind == "shards":
        store = sharded_store(CUBE, shards, chunks, inner_codecs=codecs, **options)
    else:
        store = plain_store(CUBE, chunks, codecs=codecs, fill_value=fill, **options)
    array = gpuzarr.open_array(store, threads=threads)
    key = tuple(
        slice(min(low, high, size - 1), max(low, high) + 1)
        for (low, high), size in zip(ends, shape, strict=True)
    )
    found = [part.indices(size) for part, size in zip(key, shape, strict=True)]
    steps = [data.draw(st.sampled_from([1, 2, -1])) for _ in range(3)]
    memory = np.full([(b - a) * abs(s) for (a, b, _), s in zip(found, steps, strict=True)], 5, "i2")
    out = memory[tuple(slice(None, None, step) for step in steps)]
    with watched() as said:
        array.read(key, out=out)
    assert (out == expected[key]).all()
    large = (
        prod(b // 4 - a // 4 + 1 for a, b in ((f[0], f[1] - 1) for f in found)) > few.MOST_CHUNKS
    )
    assert said == [not large]
    out[...] = 5
    assert (memory == 5).all(), "something was written beside it"


def test_a_brick_is_written_in_few_assignments(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = lines("zstd", threads=1)
    made: list[tuple[int, ...]] = []

    def counted(target: np.ndarray[Any, Any], part: np.ndarray[Any, Any]) -> None:
        made.append(target.shape)
        put(target, part)

    monkeypatch.setattr(bricks, "put", counted)
    assert_result(array[5, 2:398], ARRAY[5, 2:398])
    expected = [(1, 1, 1, 2), (1, 1, 98, 4), (1, 1, 1, 2)]
    assert made == ([] if way == MEDIUM else expected)  # with one thread those are read one by one


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """For each part of a brick that is decoded, its chunks, and whether the caller did it."""
    found: list[tuple[int, bool]] = []
    decode, caller = bricks._Part._decode, threading.get_ident()  # noqa: SLF001

    def noted(self: Any) -> None:
        found.append((len(self.rows), threading.get_ident() == caller))
        decode(self)

    monkeypatch.setattr(bricks._Part, "_decode", noted)  # noqa: SLF001
    return found


def test_parts_are_decoded_by_other_threads(
    way: str, parts: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = lines("zstd", threads=3)
    assert_result(array[5], ARRAY[5])
    few_bytes = way == "as they are"
    assert sorted(count for count, _ in parts) == ([100] if few_bytes else [33, 33, 34])
    assert any(by_caller for _, by_caller in parts)
    # A thread of the pool decodes all itself, as waiting for the pool could be for ever.
    del parts[:]
    in_pool(lambda: assert_result(array[6], ARRAY[6])).result()
    assert [count for count, _ in parts] == [100]
    # So does the caller where the system has no threads.
    del parts[:]
    monkeypatch.setattr(pool.Pool, "start", lambda _, task: not task.cancel())
    assert_result(array[7], ARRAY[7])
    assert all(by_caller for _, by_caller in parts)
    assert sum(count for count, _ in parts) == 100


def test_chunks_of_one_kind_that_cannot_be_decoded_at_once(way: str) -> None:
    """Without a size in their heads: those of medium size are left to other reads from then on."""
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    store = plain_store(ARRAY, (4, 4), encode=compressor.compress, codecs=("bytes", ZSTD))
    array = gpuzarr.open_array(store, threads=3)
    with watched() as said:
        for row in (1, 2, 3):
            assert_result(array[row], ARRAY[row])
    assert said == ([False, True, True] if way == MEDIUM else [True] * 3)


class Stopped(BaseException):
    """As if by Ctrl-C."""


@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupt_waits_for_those_who_decode(
    way: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads the memory any more when it is given back."""
    array = lines("zstd", threads=threads)
    assert_result(array[5], ARRAY[5])
    running: list[int] = []
    decode, caller = bricks._Part._decode, threading.get_ident()  # noqa: SLF001

    def slow(self: Any) -> None:
        if threading.get_ident() == caller:
            raise Stopped
        running.append(1)
        time.sleep(0.2)
        decode(self)
        running.pop()

    monkeypatch.setattr(bricks._Part, "_decode", slow)  # noqa: SLF001
    if way == MEDIUM and threads == 1:  # there is no brick, so that nothing interrupts it
        assert_result(array[6], ARRAY[6])
    else:
        with pytest.raises(Stopped):
            array[6]
    assert running == []
    monkeypatch.undo()
    assert_result(array[7], ARRAY[7])


def test_medium_chunks_are_written_out_of_their_own_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the size that they have in practice, into memory where each has a place of its own."""
    volume = np.random.default_rng(2).integers(0, 300, (64, 96, 96)).astype("u2")
    store = sharded_store(
        volume, (64, 96, 96), (32, 32, 32), encode=zstd, inner_codecs=("bytes", ZSTD)
    )
    array = gpuzarr.open_array(store, threads=2)
    gathered: list[int] = []
    gather = ChunkDecoder.gather

    def noted(self: ChunkDecoder, count: int, *others: Any) -> Any:
        gathered.append(count)
        return gather(self, count, *others)

    monkeypatch.setattr(ChunkDecoder, "gather", noted)
    with watched() as said:
        for key in (np.s_[...], np.s_[3:50, 7:90, 1:95], np.s_[31:33, 95, :]):
            assert_result(array[key], volume[key])
    assert said == [True] * 3
    assert not gathered


def test_one_sparse_read_says_nothing_of_others() -> None:
    values = np.arange(64 * 64, dtype="i4").reshape(64, 64)
    store = plain_store(
        values,
        (4, 4),
        encode=zstd,
        codecs=("bytes", ZSTD),
        skip=lambda at: at[0] < 4 and at != (0, 1),
    )
    array = gpuzarr.open_array(store, threads=3)
    with watched() as said:
        found = array[:16, :16]
        assert_result(array[16:, 8:40], values[16:, 8:40].copy())
    assert said == [True, True]
    assert (found[:4, 4:8] == values[:4, 4:8]).all()
    assert not found[4:].any()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("absent", [0, 33, 34, 66, 99])  # threads begin at 33 and 66
def test_what_is_missing_moves_nothing(
    tmp_path: Path, absent: int, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    """Behind what other threads decode, in stores that read several chunks with one call.

    Once a store that found nothing for a thread's first chunk began anew at the beginning of the
    memory, over what the thread before was decoding.
    """
    noise = np.random.default_rng(5).integers(0, 2**31, (4, 400), "i4")
    store = plain_store(noise, (4, 4), encode=zstd, codecs=("bytes", ZSTD))
    references: dict[str, Any] = {"zarr.json": store.pop("zarr.json").decode()}
    data = tmp_path / "data"
    place = 0
    for key, value in store.items():
        references[key] = [str(data), place, len(value)]
        place += len(value)
    data.write_bytes(b"".join(store.values()))
    expected = noise.copy()
    del references[f"c/0/{absent}"]
    expected[:, 4 * absent : 4 * absent + 4] = 0
    (tmp_path / "references.json").write_text(json.dumps({"version": 1, "refs": references}))
    for key, value in store.items():
        (tmp_path / "array" / key).parent.mkdir(parents=True, exist_ok=True)
        if key in references:
            (tmp_path / "array" / key).write_bytes(value)
    (tmp_path / "array" / "zarr.json").write_text(references["zarr.json"])
    if full:  # the caller decodes all, but not before all is fetched
        monkeypatch.setattr(pool.Pool, "start", lambda *_: True)
    for path in ("references.json", "array"):
        array = gpuzarr.open_array(tmp_path / path, threads=3)
        with watched() as said:
            for _ in range(3):
                assert_result(array[...], expected)
        assert said == [True] * 3


def test_nothing_is_kept_of_a_brick() -> None:
    """Nor before the garbage collector comes, nor in the queue of a pool that is busy."""
    array = lines("zstd", threads=3)
    assert_result(array[5], ARRAY[5])
    made: list[weakref.ref[Any]] = []
    start = bricks._Part.__init__  # noqa: SLF001

    def noted(self: Any, *arguments: Any) -> None:
        made.append(weakref.ref(self))
        start(self, *arguments)

    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bricks._Part, "__init__", noted)  # noqa: SLF001
            assert_result(array[6], ARRAY[6])
            with full_pool():
                assert_result(array[7], ARRAY[7])
                assert [part for part in made if part() is not None] == []
    finally:
        gc.enable()
    assert made
