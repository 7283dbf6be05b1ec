"""Work that a thread does ahead of its consumer, a bounded number of results at a time.

    with Prefetch(make, first, stop, ahead) as results:
        for result in results: ...

The thread ends when the last result is made, when one fails, or when the consumer is closed: by
`close`, by being forgotten, by an error in the consumer (Ctrl-C is one), or by the end of the
process. It holds nothing that keeps the consumer alive.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")


class _Shared(Generic[T]):
    """What both threads know."""

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.changed = threading.Condition()
        self.results: deque[T] = deque()
        self.error: BaseException | None = None
        self.stopped = threading.Event()
        """The consumer wants no more; reads look at it, too."""
        self.thread: threading.Thread | None = None
        self.process = os.getpid()

    def stop(self) -> None:
        """End the thread, and wait for its end."""
        if self.process != os.getpid():  # a forked child: the thread is not there
            return
        self.stopped.set()
        with self.changed:
            self.results.clear()
            self.changed.notify_all()
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()


class Prefetch(Generic[T]):
    """An iterator over `make(i, stopped)` for i from `first` to `stop`; see the module's text."""

    def __init__(
        self,
        make: Callable[[int, threading.Event], T],
        first: int,
        stop: int,
        ahead: int,
    ) -> None:
        """Start the thread.

        Args:
            make: makes a result; may give up, by any exception, once the event is set. It must not
                refer to this object.
            first: the first argument.
            stop: one behind the last.
            ahead: results, the one that is being made among them, that there are at most beyond
                the one that the consumer has. 0: no thread; each is made when it is asked for.
        """
        self._make = make
        self._next, self._stop = first, stop
        self._shared: _Shared[T] = _Shared(ahead)
        self._finalizer = weakref.finalize(self, self._shared.stop)
        if ahead and first < stop:
            thread = threading.Thread(
                target=_run,
                args=(self._shared, make, first, stop),
                name="gpuzarr-loader",
                daemon=True,  # the finalizer ends it in good order, at exit as well
            )
            self._shared.thread = thread
            thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if not self._finalizer.alive or self._next >= self._stop:
            self.close()
            raise StopIteration
        try:
            result = self._take()
        except BaseException:
            self.close()
            raise
        self._next += 1
        if self._next >= self._stop:
            self.close()
        return result

    def close(self) -> None:
        """End the thread and wait for its end; there are no more results."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _take(self) -> T:
        shared = self._shared
        if shared.process != os.getpid():
            raise RuntimeError(
                f"this iterator belongs to process {shared.process}, and the thread that reads for"
                " it did not come along through fork(); make a new one with iter(loader)"
            )
        if shared.thread is None:
            return self._make(self._next, shared.stopped)
        with shared.changed:
            while not shared.results and shared.error is None:
                shared.changed.wait()
            if shared.results:
                result = shared.results.popleft()
                shared.changed.notify_all()
                return result
        error = shared.error
        assert error is not None  # noqa: S101  the loop ended
        shared.error = None  # its traceback refers to what the thread had
        raise error


def _run(
    shared: _Shared[Any], make: Callable[[int, threading.Event], Any], first: int, stop: int
) -> None:
    """What the thread does."""
    for number in range(first, stop):
        with shared.changed:
            # The one that is made next counts.
            while len(shared.results) >= shared.ahead and not shared.stopped.is_set():
                shared.changed.wait()
        if shared.stopped.is_set():
            return
        try:
            result = make(number, shared.stopped)
        except BaseException as error:  # noqa: BLE001  it is the consumer's
            with shared.changed:
                shared.error = error
                shared.changed.notify_all()
            return
        with shared.changed:
            if shared.stopped.is_set():
                return
            shared.results.append(result)
            shared.changed.notify_all()
        del result  # the thread would keep it while it makes the next
