"""Threads that wait for somebody else's synchronous calls, and that nobody waits for at exit."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

IDLE_S = 5.0
"""How long a thread without work stays."""


class DaemonThreads(Executor):
    """As many threads as there is work for, up to a limit; they end when there is none.

    A forked child begins without any, and with no work.
    """

    def __init__(self, most: int, name: str = "gpuzarr-files") -> None:
        """Start none yet; `name` is the threads'."""
        self._most = most
        self._name = name
        self._start()

    def _start(self) -> None:
        self._works: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        """Threads that wait for work, less the work that waits for a thread."""
        self._process = os.getpid()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in one of the threads."""
        if self._process != os.getpid():
            self._start()
        future: Future[T] = Future()
        with self._lock:
            self._works.put((future, lambda: fn(*args, **kwargs)))
            self._idle -= 1
            more = self._idle < 0 and self._threads < self._most
            self._threads += more
            self._idle += more
        if more:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            try:
                future, call = self._works.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if self._works.empty():
                        self._threads -= 1
                        self._idle -= 1
                        return
                continue
            _do(future, call)
            with self._lock:
                self._idle += 1


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        found = call()
    except BaseException as error:  # noqa: BLE001  it is the asker's
        future.set_exception(error)
    else:
        future.set_result(found)
