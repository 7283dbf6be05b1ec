"""The threads of one read: everything is done once, errors come out, and nobody waits for ever."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.engines.cpu.crew import READY, Crew
from gpuzarr.engines.pool import cpu_count
from tests.pool_threads import in_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuzarr.engines.cpu.crew import Work

LIMIT_S = 10.0


def in_time(run: Callable[[], Any]) -> Any:
    """What it gives or raises, in a thread of its own; fails where it takes too long."""
    result: list[Any] = []
    error: list[BaseException] = []

    def work() -> None:
        try:
            result.append(run())
        except BaseException as problem:  # noqa: BLE001  raised below
            error.append(problem)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "it waits for ever"
    if error:
        raise error[0]
    return result[0]


@contextlib.contextmanager
def full_pool() -> Iterator[None]:
    """Every thread of the pool is busy with something else."""
    go = threading.Event()
    begun = threading.Semaphore(0)

    def wait() -> None:
        begun.release()
        assert go.wait(LIMIT_S)

    busy = [in_pool(wait) for _ in range(cpu_count())]
    for _ in busy:
        assert begun.acquire(timeout=LIMIT_S)
    try:
        yield
    finally:
        go.set()
        for one in busy:
            one.result(LIMIT_S)


@pytest.mark.parametrize("caller_works", [True, False])
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_crew_does_everything_once(at_once: int, *, caller_works: bool) -> None:
    crew = Crew()
    done: list[int] = []
    for batch in range(50):
        works = [partial(done.append, 10 * batch + i) for i in range(10)]
        crew.add(works, at_once, caller_works=caller_works)
    crew.finish()
    assert sorted(done) == list(range(500))
    if at_once == 1:
        assert done == list(range(500))


def test_no_more_batches_wait_than_one() -> None:
    crew = Crew()
    done: list[int] = []
    for batch in range(20):
        crew.add([partial(done.append, batch)], 1)
        assert len(done) >= batch
    crew.finish()
    assert len(done) == 20


def test_a_crew_in_a_thread_of_the_pool_waits_for_nobody() -> None:
    def read() -> int:
        crew = Crew()
        done: list[None] = []
        for _ in range(5):
            crew.add([lambda: done.append(None)] * 3, 8, caller_works=False)
        crew.finish()
        return len(done)

    assert [future.result(LIMIT_S) for future in [in_pool(read) for _ in range(16)]] == [15] * 16


# Works in two parts


@pytest.mark.parametrize("caller_works", [True, False])
@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("sleeps", [False, True])
def test_both_parts_are_done_once(at_once: int, *, caller_works: bool, sleeps: bool) -> None:
    rng = random.Random(at_once)  # noqa: S311
    begun: list[int] = []
    done: list[int] = []

    def begin(number: int, first: float, second: float) -> Work | None:
        time.sleep(first)
        begun.append(number)
        if number % 7 == 3:  # nothing is left to do
            done.append(number)
            return None

        def finish() -> None:
            time.sleep(second)
            assert number in begun
            done.append(number)

        return finish

    def work(number: int) -> Work:
        first, second = (rng.choice([0, 0, 1e-4, 2e-3]) * sleeps for _ in range(2))
        return lambda: begin(number, first, second)

    def run() -> None:
        crew = Crew()
        for batch in range(12):
            count = rng.randrange(8)
            works = [work(10 * batch + i) for i in range(count)]
            numbers.extend(range(10 * batch, 10 * batch + count))
            crew.add(works, at_once, caller_works=caller_works, in_two=True)
        crew.finish()
        assert not crew.busy

    numbers: list[int] = []
    in_time(run)
    assert sorted(begun) == numbers
    assert sorted(done) == numbers


@pytest.mark.parametrize("at_once", [1, 2, 4, 6])
def test_little_is_begun_and_not_finished(at_once: int) -> None:
    lock = threading.Lock()
    most = waiting = 0

    def begin() -> Work:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        return finish

    def finish() -> None:
        nonlocal waiting
        with lock:
            waiting -= 1
        time.sleep(1e-3)

    def run() -> None:
        crew = Crew()
        for _ in range(5):
            crew.add([begin] * 20, at_once, in_two=True)
        crew.finish()

    in_time(run)
    assert waiting == 0
    # Those that wait, and those that each token may add after it looked.
    assert most <= READY + max(1, at_once // 2)


def test_no_more_run_at_once_than_may() -> None:
    lock = threading.Lock()
    running = 0
    most: dict[int, int] = {}

    def work(at_once: int) -> None:
        nonlocal running
        with lock:
            running += 1
            most[at_once] = max(most.get(at_once, 0), running)
        time.sleep(1e-3)
        with lock:
            running -= 1

    def run() -> None:
        crew = Crew()
        for at_once in [8, 4, 3, 2, 1]:
            crew.add([partial(work, at_once)] * 9, at_once)
        crew.finish()

    in_time(run)
    assert all(found <= at_once for at_once, found in most.items())


def test_ways_to_work_may_change_from_batch_to_batch() -> None:
    done: list[int] = []
    rng = random.Random(0)  # noqa: S311

    def two(number: int) -> Work:
        return lambda: partial(done.append, number)

    def one(number: int) -> Work:
        return partial(done.append, number)

    def run() -> None:
        for _ in range(30):
            crew = Crew()
            for batch in range(10):
                in_two = rng.random() < 0.5
                make = two if in_two else one
                works = [make(10 * batch + i) for i in range(rng.randrange(1, 10))]
                count.append(len(works))
                caller_works = rng.random() < 0.5
                crew.add(works, rng.choice([1, 2, 4]), caller_works=caller_works, in_two=in_two)
            crew.finish()

    count: list[int] = []
    in_time(run)
    assert len(done) == sum(count)
