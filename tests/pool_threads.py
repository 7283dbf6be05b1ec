"""Work in the threads of the pool that reads use, as `concurrent.futures` would do it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from gpuzarr.engines.pool import Task, shared_pool

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def in_pool(work: Callable[[], T]) -> Future[T]:
    """Have it done by a thread of the pool."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  it is the asker's
            future.set_exception(error)

    assert shared_pool().start(Task(run))
    return future
