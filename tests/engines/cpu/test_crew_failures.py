"""Crews where the pool is busy, work fails, or the caller gives up: nobody waits for ever."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cpu import task
from gpuzarr.engines.cpu.crew import Crew
from gpuzarr.engines.pool import Bell
from tests.arrays import plain_store
from tests.few_ways import CHUNKS, WAYS, read_few
from tests.stored import assert_result

if TYPE_CHECKING:
    from gpuzarr.engines.cpu.crew import Work

from tests.engines.cpu.test_crew import LIMIT_S, full_pool, in_time

# A pool that is busy


@pytest.mark.parametrize("in_two", [False, True])
def test_a_full_pool_holds_nobody_up(*, in_two: bool) -> None:
    # Helpers that no thread has begun are cancelled, and must not be waited for:
    # `concurrent.futures.wait` takes a cancelled future for done only when a thread of the pool
    # has met it.
    done: list[None] = []

    def begin() -> Work | None:
        if not in_two:
            done.append(None)
            return None
        return lambda: done.append(None)

    def run() -> None:
        with full_pool():
            crew = Crew()
            for _ in range(5):
                crew.add([begin] * 9, 4, in_two=in_two)
            crew.finish()
            assert len(done) == 45

    in_time(run)


@pytest.mark.parametrize(("most", "way"), [(0, CHUNKS), *((128, way) for way in WAYS)])
def test_reads_go_on_where_the_pool_is_full(
    monkeypatch: pytest.MonkeyPatch, most: int, way: str
) -> None:
    read_few(monkeypatch, way, most)
    monkeypatch.setattr(task, "LEAST_RUN", 2)
    values = np.arange(40 * 40, dtype="i4").reshape(40, 40)
    array = gpuzarr.open_array(plain_store(values, (7, 8)), threads=4)

    def run() -> None:
        with full_pool():
            assert_result(array[...], values)

    in_time(run)


@pytest.mark.parametrize("in_two", [False, True])
def test_giving_up_does_not_wait_for_a_full_pool(*, in_two: bool) -> None:
    def fail() -> Work | None:
        raise LookupError

    def run() -> None:
        with full_pool():
            crew = Crew()
            try:
                crew.add([fail] * 9, 4, in_two=in_two)
                crew.finish()
            finally:
                crew.abort()

    with pytest.raises(LookupError):
        in_time(run)


def test_many_crews_share_the_pool() -> None:
    found: list[int] = []

    def read(number: int) -> None:
        crew = Crew()
        done: list[None] = []
        begin: Work = lambda: lambda: done.append(None)  # noqa: E731
        for batch in range(6):
            at_once = 1 + (number + batch) % 4
            crew.add([begin] * 7, at_once, caller_works=bool(number % 2), in_two=True)
        crew.finish()
        found.append(len(done))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert found == [42] * 12


# What goes wrong


@pytest.mark.parametrize("part", ["begin", "finish"])
@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("caller_works", [True, False])
@pytest.mark.parametrize("place", [0, 5, 29])
def test_an_error_in_either_part_is_raised(
    part: str, at_once: int, place: int, *, caller_works: bool
) -> None:
    def begin(number: int) -> Work:
        if number == place and part == "begin":
            raise LookupError
        return lambda: finish(number)

    def finish(number: int) -> None:
        if number == place and part == "finish":
            raise LookupError

    def run() -> None:
        crew = Crew()
        try:
            for batch in range(3):
                works = [partial(begin, 10 * batch + i) for i in range(10)]
                crew.add(works, at_once, caller_works=caller_works, in_two=True)
            crew.finish()
        finally:
            crew.abort()
            assert not crew._queue  # noqa: SLF001
            assert not crew._helpers  # noqa: SLF001

    with pytest.raises(LookupError):
        in_time(run)


class PreemptedBell(Bell):
    """Who rings it loses the processor just afterwards."""

    def ring(self) -> None:
        super().ring()
        time.sleep(0.02)


def test_errors_of_all_helpers_do_not_leave_the_caller_waiting() -> None:
    # In `_help` the bell is rung before the task is done. A caller in `add` that wakes in
    # between takes the helpers for alive, and forgets that it rang. It needs helpers
    # alone (Blosc in the main thread) that all raise (a store with a bug), and bad luck.
    def fail() -> None:
        time.sleep(0.01)
        raise LookupError

    def run() -> None:
        crew = Crew()
        crew._is_low = PreemptedBell()  # noqa: SLF001
        try:
            for _ in range(4):
                crew.add([fail] * 3, 2, caller_works=False)
            crew.finish()
        finally:
            crew.abort()

    with pytest.raises(LookupError):
        in_time(run)


@pytest.mark.parametrize("at_once", [2, 4])
@pytest.mark.parametrize("in_two", [False, True])
def test_after_abort_nothing_runs(at_once: int, *, in_two: bool) -> None:
    last: list[float] = []
    begun = threading.Event()

    def finish() -> None:
        time.sleep(2e-3)
        last.append(time.monotonic())

    def begin() -> Work | None:
        begun.set()
        time.sleep(2e-3)
        last.append(time.monotonic())
        return finish if in_two else None

    def run() -> float:
        crew = Crew()
        crew.add([begin] * 300, at_once, caller_works=False, in_two=in_two)
        assert begun.wait(LIMIT_S)
        crew.abort()
        return time.monotonic()

    ended = in_time(run)
    time.sleep(0.02)
    assert max(last) <= ended
    assert len(last) < 300


@pytest.mark.parametrize("in_two", [False, True])
@pytest.mark.parametrize("part", [0, 1])
def test_an_interrupt_in_the_callers_thread(part: int, *, in_two: bool) -> None:
    caller: list[int] = []
    done: list[None] = []

    def finish() -> None:
        time.sleep(1e-3)
        if part == 1 and threading.get_ident() == caller[0]:
            raise KeyboardInterrupt
        done.append(None)

    def begin() -> Work | None:
        time.sleep(1e-3)
        if (part == 0 or not in_two) and threading.get_ident() == caller[0]:
            raise KeyboardInterrupt
        return finish if in_two else None

    def run() -> int:
        caller.append(threading.get_ident())
        crew = Crew()
        try:
            for _ in range(50):
                crew.add([begin] * 8, 4, in_two=in_two)
            crew.finish()
        except KeyboardInterrupt:
            crew.abort()
            return len(done)
        raise AssertionError("the caller did nothing")

    assert in_time(run) == len(done)
    time.sleep(0.02)
    assert len(done) < 400


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
