"""Where chunks are decoded: in the caller's thread, or in others too."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cpu import crew, engine, session, task
from gpuzarr.engines.cpu.crew import Crew
from gpuzarr.engines.pool import shared_pool
from tests.arrays import plain_store
from tests.stored import compress

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

LIMIT_S = 30.0
LEAST_NBYTES = 1 << 19
PLAIN_FACTOR = session.PLAIN_FACTOR


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each time that the pool was asked for."""
    times: list[None] = []

    def count() -> ThreadPoolExecutor:
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
    taken: list[None],
    nbytes: int,
    threads: int,
    *,
    gzip: bool,
    pooled: bool,
) -> None:
    monkeypatch.setattr(session, "LEAST_NBYTES", LEAST_NBYTES)
    monkeypatch.setattr(engine, "BATCH_NBYTES", 32 << 20)
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


@pytest.mark.parametrize("caller_works", [True, False])
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_crew_does_everything_once(at_once: int, *, caller_works: bool) -> None:
    crew = Crew()
    done: list[int] = []
    for batch in range(50):
        works = [lambda number=10 * batch + i: done.append(number) for i in range(10)]
        crew.add(works, at_once, caller_works=caller_works)
    crew.finish()
    assert sorted(done) == list(range(500))
    if at_once == 1:
        assert done == list(range(500))


def test_no_more_batches_wait_than_one() -> None:
    crew = Crew()
    running = threading.Event()
    done: list[int] = []
    for batch in range(20):
        crew.add([lambda number=batch: done.append(number)], 1)
        assert len(done) >= batch
    crew.finish()
    assert not running.is_set()
    assert len(done) == 20


@pytest.mark.parametrize("caller_works", [True, False])
def test_an_error_in_a_thread_of_a_crew_is_raised(*, caller_works: bool) -> None:
    crew = Crew()

    def fail() -> None:
        raise LookupError

    def run() -> None:
        crew.add([fail] * 4, 2, caller_works=caller_works)
        crew.finish()

    with pytest.raises(LookupError):
        run()
    crew.abort()


def test_a_crew_that_is_given_up_drops_what_waits() -> None:
    crew = Crew()
    begun, go = threading.Event(), threading.Event()
    done: list[None] = []

    def wait() -> None:
        begun.set()
        assert go.wait(LIMIT_S)

    crew.add([wait, *[lambda: done.append(None)] * 9], 2, caller_works=False)
    assert begun.wait(LIMIT_S)
    stopper = threading.Thread(target=crew.abort)
    crew._queue.clear()  # noqa: SLF001  so that the second helper has nothing left either
    go.set()
    stopper.start()
    stopper.join(LIMIT_S)
    assert not stopper.is_alive()


def test_a_crew_in_a_thread_of_the_pool_waits_for_nobody() -> None:
    def read() -> int:
        crew = Crew()
        done: list[None] = []
        for _ in range(5):
            crew.add([lambda: done.append(None)] * 3, 8, caller_works=False)
        crew.finish()
        return len(done)

    assert list(shared_pool().map(lambda _: read(), range(16), timeout=LIMIT_S)) == [15] * 16


def test_work_is_cut_where_requests_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "WORK_NBYTES", 1 << 12)
    values = np.arange(1 << 14, dtype=np.int32)
    array = gpuzarr.open_array(plain_store(values, (1 << 8,)), threads=2)
    np.testing.assert_array_equal(array[...], values)
