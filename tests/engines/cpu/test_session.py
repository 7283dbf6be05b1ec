"""Where chunks are decoded: in the caller's thread, or in others too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.choose import forget_engines
from gpuzarr.engines.cpu import crew, engine, session, task
from gpuzarr.engines.pool import shared_pool
from tests.arrays import CountingStore, plain_store, sharded_store
from tests.stored import compress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuzarr.engines.pool import Pool

LEAST_NBYTES = 1 << 19
PLAIN_FACTOR = session.PLAIN_FACTOR


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each time that the pool was asked for."""
    times: list[None] = []

    def count() -> Pool:
        times.append(None)
        return shared_pool()

    monkeypatch.setattr(crew, "shared_pool", count)
    return times


GZIP = {"name": "gzip", "configuration": {"level": 1}}


@pytest.mark.parametrize(
    ("nbytes", "gzip", "threads", "pooled"),
    [
        (LEAST_NBYTES // 2, True, 2, False),
        (LEAST_NBYTES * 2, True, 2, True),
        (LEAST_NBYTES * 2, True, 1, False),
        (LEAST_NBYTES * 2, False, 2, False),
        (LEAST_NBYTES * PLAIN_FACTOR * 2, False, 2, True),
    ],
)
def test_little_work_stays_in_the_callers_thread(
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    taken: list[None],
    nbytes: int,
    threads: int,
    *,
    gzip: bool,
    pooled: bool,
) -> None:
    monkeypatch.setattr(session, "LEAST_NBYTES", LEAST_NBYTES)
    monkeypatch.setattr(engine, "BATCH_NBYTES", 32 << 20)
    forget_engines()
    request.addfinalizer(forget_engines)
    values = np.arange(nbytes // 4, dtype=np.int32)
    more: dict[str, Any] = {"encode": compress, "codecs": ("bytes", GZIP)} if gzip else {}
    array = gpuzarr.open_array(plain_store(values, (1 << 13,), **more), threads=threads)
    np.testing.assert_array_equal(array[...], values)
    assert bool(taken) is pooled


def test_a_single_chunk_stays_in_the_callers_thread(taken: list[None]) -> None:
    values = np.arange(1 << 20, dtype=np.int32)
    array = gpuzarr.open_array(plain_store(values, values.shape), threads=2)
    np.testing.assert_array_equal(array[...], values)
    assert not taken


@pytest.fixture
def small_works(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pieces of work of about 4 KiB, all in one batch."""
    monkeypatch.setattr(task, "WORK_NBYTES", 1 << 12)
    monkeypatch.setattr(engine, "BATCH_NBYTES", 32 << 20)
    forget_engines()
    yield
    forget_engines()


@pytest.mark.usefixtures("small_works")
def test_work_is_cut_only_where_requests_end() -> None:
    values = np.arange(1 << 14, dtype=np.int32)
    store = CountingStore(sharded_store(values, (1 << 12,), (1 << 7,)))
    array = gpuzarr.open_array(store, threads=2)
    store.taken()
    np.testing.assert_array_equal(array[...], values)
    chunks = [key for key, offset, _ in store.taken() if offset >= 0]
    assert sorted(chunks) == [f"c/{shard}" for shard in range(4)], "each is read by one thread"


@pytest.mark.usefixtures("small_works")
def test_work_is_cut_between_requests_wherever_these_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 3 KiB each, for pieces of work of about 4 KiB: a request for each, or two."""
    queued: list[int] = []
    add = crew.Crew.add

    def noted(self: crew.Crew, works: Any, *arguments: Any, **options: Any) -> None:
        queued.append(len(works))
        add(self, works, *arguments, **options)

    monkeypatch.setattr(crew.Crew, "add", noted)
    values = np.arange(24 * 768, dtype=np.int32)
    store = sharded_store(values, (768,), (64,), encode=compress, inner_codecs=("bytes", GZIP))
    array = gpuzarr.open_array(store, threads=2)
    np.testing.assert_array_equal(array[...], values)
    assert queued == [18], "as many as there are 4 KiB that a request begins in"
