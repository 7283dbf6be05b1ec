"""`Prefetch` alone: order, bound, errors, and the end of its thread in every way."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.loader import prefetch
from gpuzarr.loader.prefetch import Prefetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT_S = 30.0  # what takes longer hangs

both = pytest.mark.parametrize("ahead", [0, 1, 3])


class Result:
    """Something that can be referred to weakly."""

    def __init__(self, number: int) -> None:
        self.number = number


def number_itself(number: int, _: Callable[[], bool]) -> int:
    return number


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gpuzarr-loader"]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.002)


@contextmanager
def without_collections() -> Iterator[None]:
    """Only reference counts free anything."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    before = threading.active_count()
    yield
    gc.collect()
    assert not loader_threads()
    assert threading.active_count() == before


class Gate:
    """A `make` that waits for each result until it may go on; it looks at `stopped` or not."""

    def __init__(self, *, looks: bool) -> None:
        self.looks = looks
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)

    def __call__(self, number: int, stopped: Callable[[], bool]) -> int:
        self.entered.release()
        while not self.leave.acquire(timeout=0.005):
            if self.looks and stopped():
                raise RuntimeError("given up")
        return number


@both
def test_results_come_in_order(ahead: int) -> None:
    assert list(Prefetch(number_itself, 3, 500, ahead)) == list(range(3, 500))


@both
@pytest.mark.parametrize(("first", "stop"), [(0, 0), (7, 7), (9, 2)])
def test_without_results_there_is_no_thread(ahead: int, first: int, stop: int) -> None:
    results = Prefetch(number_itself, first, stop, ahead)
    assert not loader_threads()
    assert list(results) == list(results) == []


@both
def test_behind_the_last_result_nothing_comes_and_the_thread_is_gone(ahead: int) -> None:
    results = Prefetch(number_itself, 0, 2, ahead)
    assert (next(results), next(results)) == (0, 1)
    assert not loader_threads()
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(results)


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_no_more_results_are_made_ahead_than_asked_for(ahead: int) -> None:
    begun = []

    def make(number: int, _: Callable[[], bool]) -> int:
        begun.append(number)
        return number

    with Prefetch(make, 0, 20, ahead) as results:
        for taken in range(10):
            wait_until(lambda taken=taken: len(begun) >= taken + ahead)  # type: ignore[misc]
            time.sleep(0.01)
            assert len(begun) == taken + ahead
            assert next(results) == taken


def test_without_reading_ahead_each_is_made_when_it_is_asked_for_in_this_thread() -> None:
    made = []

    def make(number: int, _: Callable[[], bool]) -> int:
        made.append((number, threading.get_ident()))
        return number

    results = Prefetch(make, 5, 8, 0)
    assert not made
    for number in (5, 6, 7):
        assert next(results) == number
        assert made == [(n, threading.get_ident()) for n in range(5, number + 1)]


@both
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_error_comes_once_behind_the_results_before_it(
    ahead: int, kind: type[BaseException]
) -> None:
    def make(number: int, _: Callable[[], bool]) -> int:
        if number == 3:
            raise kind("number three")
        return number

    results = Prefetch(make, 0, 10, ahead)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(kind, match="number three"):
        next(results)
    assert not loader_threads()
    assert list(results) == []


@both
def test_an_error_that_was_dealt_with_keeps_nothing_alive(ahead: int) -> None:
    made: list[weakref.ref[Result]] = []

    def make(number: int, _: Callable[[], bool]) -> int:
        buffer = Result(number)  # the frame has it, and the traceback the frame
        made.append(weakref.ref(buffer))
        raise ValueError("no")

    with without_collections():
        results = Prefetch(make, 0, 3, ahead)
        with pytest.raises(ValueError, match="no") as caught:
            next(results)
        del caught
        assert [reference() for reference in made] == [None]


def test_an_error_that_nobody_took_keeps_nothing_alive() -> None:
    failed: list[weakref.ref[Result]] = []

    def make(number: int, _: Callable[[], bool]) -> int:
        buffer = Result(number)
        failed.append(weakref.ref(buffer))
        raise ValueError("no")

    with without_collections():
        results = Prefetch(make, 0, 3, 1)
        wait_until(lambda: not loader_threads())
        results.close()
        assert [reference() for reference in failed] == [None]


@both
def test_delivered_results_are_not_kept(ahead: int) -> None:
    made: list[weakref.ref[Result]] = []

    def make(number: int, _: Callable[[], bool]) -> Result:
        result = Result(number)
        made.append(weakref.ref(result))
        return result

    with without_collections(), Prefetch(make, 0, 30, ahead) as results:
        for number in range(20):
            result = next(results)
            assert result.number == number
            wait_until(lambda number=number: len(made) == number + 1 + ahead)  # type: ignore[misc]
            del result
            wait_until(lambda number=number: made[number]() is None)  # type: ignore[misc]
        assert sum(reference() is not None for reference in made) <= ahead
        results.close()
        assert all(reference() is None for reference in made)


@both
def test_close_ends_it_and_may_be_called_again(ahead: int) -> None:
    results = Prefetch(number_itself, 0, 100, ahead)
    assert next(results) == 0
    for _ in range(3):
        results.close()
        assert not loader_threads()
        assert list(results) == []


@both
def test_a_with_statement_closes_also_after_an_error(ahead: int) -> None:
    with Prefetch(number_itself, 0, 100, ahead) as results:
        next(results)
    assert not loader_threads()
    with (
        pytest.raises(ZeroDivisionError),
        Prefetch(number_itself, 0, 100, ahead) as others,
    ):
        raise ZeroDivisionError
    assert list(results) == list(others) == []


@pytest.mark.parametrize("ahead", [1, 3])
def test_forgetting_it_ends_the_thread(ahead: int) -> None:
    results = Prefetch(number_itself, 0, 100, ahead)
    next(results)
    with without_collections():
        del results
        assert not loader_threads()


def test_a_broken_loop_ends_the_thread() -> None:
    with without_collections():
        for number in Prefetch(number_itself, 0, 100, 2):
            if number == 4:
                break
        assert not loader_threads()


def test_garbage_in_a_cycle_ends_the_thread() -> None:
    cycle: list[Any] = [Prefetch(number_itself, 0, 100, 2)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert not loader_threads()


@pytest.mark.parametrize("looks", [True, False])
def test_forgetting_it_while_a_result_is_made(looks: bool) -> None:  # noqa: FBT001
    gate = Gate(looks=looks)
    results = Prefetch(gate, 0, 100, 2)
    gate.entered.acquire()
    if not looks:
        gate.leave.release()
    del results
    assert not loader_threads()


def test_forgetting_it_never_waits_long_for_what_this_thread_may_hold_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefetch, "PATIENCE_S", 0.05)
    lock = threading.Lock()
    entered = threading.Event()

    def make(number: int, _: Callable[[], bool]) -> int:
        entered.set()
        with lock:
            return number

    with lock:
        results = Prefetch(make, 0, 100, 2)
        entered.wait(LIMIT_S)
        del results
        assert loader_threads()
    wait_until(lambda: not loader_threads())


def test_a_consumer_that_is_forgotten_in_its_own_thread() -> None:
    held: list[Any] = []
    ready = threading.Event()

    def make(number: int, _: Callable[[], bool]) -> int:
        ready.wait(LIMIT_S)
        held.clear()  # the last reference
        return number

    held.append(Prefetch(make, 0, 100, 1))
    ready.set()
    wait_until(lambda: not loader_threads())


@pytest.mark.parametrize("ahead", [1, 3])
def test_close_while_the_thread_waits_for_room(ahead: int) -> None:
    made: list[int] = []

    def make(number: int, _: Callable[[], bool]) -> int:
        made.append(number)
        return number

    results = Prefetch(make, 0, 100, ahead)
    wait_until(lambda: len(made) == ahead)
    time.sleep(0.01)
    results.close()
    assert made == list(range(ahead))


def test_close_tells_the_work_to_give_up_and_nobody_hears_how() -> None:
    gate = Gate(looks=True)
    results = Prefetch(gate, 0, 100, 2)
    gate.entered.acquire()
    results.close()
    assert not loader_threads()
    assert list(results) == []


def test_close_waits_for_work_that_never_looks_whether_it_is_stopped() -> None:
    gate = Gate(looks=False)
    results = Prefetch(gate, 0, 100, 2)
    gate.entered.acquire()
    closer = threading.Thread(target=results.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    gate.leave.release()
    closer.join(LIMIT_S)
    assert not closer.is_alive()
    assert not loader_threads()
    assert not gate.entered.acquire(blocking=False)  # nothing was begun after that


@both
@pytest.mark.parametrize("looks", [True, False])
def test_closing_it_in_another_thread_ends_a_consumer_that_waits(
    ahead: int,
    looks: bool,  # noqa: FBT001
) -> None:
    """Also one that makes the result itself: what it made may not be whole."""
    gate = Gate(looks=looks)
    results = Prefetch(gate, 0, 100, ahead)
    taken: list[Any] = []

    def consume() -> None:
        try:
            taken.extend(results)
        except RuntimeError as error:
            taken.append(str(error))

    consumer = threading.Thread(target=consume)
    consumer.start()
    gate.entered.acquire()
    closer = threading.Thread(target=results.close)
    closer.start()
    if not looks:
        time.sleep(0.05)
        assert closer.is_alive()  # while something is being made
        gate.leave.release()
    for thread in (closer, consumer):
        thread.join(LIMIT_S)
        assert not thread.is_alive()
    assert taken == (["given up"] if looks and not ahead else [])


def test_several_threads_share_the_results() -> None:
    results = Prefetch(number_itself, 0, 300, 2)
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(results)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive()
    assert sorted(taken) == list(range(300))
