"""Tasks of the pool: each is done once, by whoever claims it first."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpuzarr.engines.pool import Task, wait_for

LIMIT_S = 30.0


def test_a_task_is_done_once() -> None:
    done: list[int] = []
    task = Task(lambda: done.append(1))
    with ThreadPoolExecutor(4) as threads:
        for one in [threads.submit(task.run) for _ in range(40)]:
            one.result(LIMIT_S)
    task.run()
    task.result()
    assert done == [1]


def test_what_was_cancelled_is_not_done() -> None:
    done: list[int] = []
    task = Task(lambda: done.append(1))
    assert task.cancel()
    task.run()
    other = threading.Thread(target=task.run)
    other.start()
    other.join(LIMIT_S)
    task.wait()
    assert not done


def test_what_another_thread_has_begun_is_not_cancelled() -> None:
    begun, go = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(LIMIT_S)

    task = Task(work)
    other = threading.Thread(target=task.run)
    other.start()
    assert begun.wait(LIMIT_S)
    assert not task.cancel()
    go.set()
    wait_for([task])
    assert task.is_done
    other.join(LIMIT_S)


def test_who_was_interrupted_at_the_claim_does_not_wait_for_himself() -> None:
    """Ctrl-C came between the claim and the work: nobody else will do it."""
    task = Task(lambda: None)
    assert task._is_mine()  # noqa: SLF001  as `run` begins
    finished = threading.Event()

    def wait() -> None:
        wait_for([task])
        finished.set()

    wait()
    assert finished.is_set()
    task.run()
    assert not task.is_done


def test_errors_are_the_askers() -> None:
    def fail() -> None:
        raise LookupError

    task = Task(fail)
    task.run()
    with pytest.raises(LookupError):
        task.result()


@pytest.mark.parametrize("how", ["run", "cancel"])
def test_what_it_refers_to_is_let_go_of(how: str) -> None:
    class Large:
        task: Task

        def work(self) -> None:
            pass

    large = Large()
    large.task = Task(large.work)
    getattr(large.task, how)()
    found = weakref.ref(large)
    gc.disable()
    try:
        del large
        assert found() is None
    finally:
        gc.enable()
