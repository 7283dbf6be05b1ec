"""Work that a thread does ahead of its consumer, a bounded number of results at a time.

    with Prefetch(make, first, stop, ahead) as results:
        for result in results: ...

The thread ends when the last result is made, when one fails, or when the consumer is closed: by
`close`, by being forgotten, by an error in the consumer (Ctrl-C is one), or by the end of the
process. It holds nothing that keeps the consumer alive.

Both threads speak through `SimpleQueue`s, whose `put` may be called anywhere, also by a garbage
collection in the middle of their own methods: a consumer may be forgotten in any thread, any time.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")

PATIENCE_S = 10.0
"""How long a thread that forgets a consumer waits for its end: it may hold a lock, of whatever
kind, that the other one needs."""

SLEEP_S = 2e-5
"""How long a thread that is well ahead sleeps, to let its consumer go first; the system adds what
it takes to wake a thread up."""
BETWEEN_S = 3e-4
"""How long it works before it does so again."""


class _End:
    """Stands behind the last result."""


class _Shared(Generic[T]):
    """What both threads know."""

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.room: SimpleQueue[None] = SimpleQueue()
        """An entry for each result that may be made."""
        for _ in range(ahead):
            self.room.put(None)
        self.results: SimpleQueue[T | _End] = SimpleQueue()
        self.error: BaseException | None = None
        """Why there are no more results."""
        self.stopped = threading.Event()
        """The consumer wants no more."""
        self.slept = 0.0
        """When the thread last gave way."""
        self.thread: threading.Thread | None = None
        self.making = threading.RLock()
        """Held by a consumer that makes a result itself."""
        self.process = os.getpid()

    def stop(self, patience: float = -1) -> None:
        """End the thread, and wait for its end: so many seconds, or as long as it takes."""
        if self.process != os.getpid():  # a forked child: the thread is not there
            return
        self.stopped.set()
        self.room.put(None)
        thread = self.thread
        if thread is None:
            if self.making.acquire(timeout=patience):
                self.making.release()
        elif thread is not threading.current_thread():
            with suppress(RuntimeError):  # Ctrl-C came while it was started: it will find no work
                thread.join(None if patience < 0 else patience)
        self.drop_results()
        self.results.put(_End())  # for a thread that waits for one

    def give_up(self) -> bool:
        """Whether the consumer wants no more; reads ask often.

        A consumer that wakes up needs the interpreter's lock, and whoever lets it go for a moment
        only usually has it back before the other one is awake. So a thread that is well ahead
        sleeps for that long now and then; another one has no time to lose.
        """
        well_ahead = 2 * self.results.qsize() >= self.ahead
        if well_ahead and self.thread is threading.current_thread():
            now = time.perf_counter()
            if now - self.slept > BETWEEN_S:
                time.sleep(SLEEP_S)
                self.slept = now
        return self.stopped.is_set()

    def drop_results(self) -> None:
        """Forget what nobody will take."""
        self.error = None  # its traceback refers to what the thread had
        try:
            while True:
                self.results.get_nowait()
        except Empty:
            pass


class Prefetch(Generic[T]):
    """An iterator over `make(i, stopped)` for i in range(first, stop, step); see the module."""

    def __init__(
        self,
        make: Callable[[int, Callable[[], bool]], T],
        first: int,
        stop: int,
        ahead: int,
        step: int = 1,
    ) -> None:
        """Start the thread.

        Args:
            make: makes a result; may give up, by any exception, once the function that it is given
                says so, and asks it often. It must not refer to this object.
            first: the first argument.
            stop: one behind the last.
            ahead: results, the one that is being made among them, that there are at most beyond
                the one that the consumer has. 0: no thread; each is made when it is asked for.
            step: from one argument to the next.
        """
        self._make = make
        self._next, self._stop, self._step = first, stop, step
        self._shared: _Shared[T] = _Shared(ahead)
        weakref.finalize(self, self._shared.stop, PATIENCE_S)  # at exit as well
        if ahead and first < stop:
            thread = threading.Thread(
                target=_run,
                args=(self._shared, make, range(first, stop, step)),
                name="gpuzarr-loader",
                daemon=True,  # the finalizer ends it in good order
            )
            self._shared.thread = thread
            try:
                thread.start()
            except RuntimeError:  # the system starts none: results are made when they are asked for
                self._shared.thread = None
            except BaseException:  # Ctrl-C, while it starts
                self._shared.stop()
                raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._shared.stopped.is_set() or self._next >= self._stop:
            self.close()
            raise StopIteration
        try:
            result = self._take()
            self._next += self._step
        except BaseException:
            self.close()
            raise
        if self._next >= self._stop:
            self.close()
        return result

    def close(self) -> None:
        """End the thread and wait for its end; there are no more results."""
        self._shared.stop()

    @property
    def end(self) -> Callable[[], None]:
        """The same as `close`, for somebody who does not keep this object alive."""
        return self._shared.stop

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
                f"this iterator belongs to process {shared.process}, and did not come along through"
                " fork(); make a new one with iter(loader)"
            )
        if shared.thread is None:
            with shared.making:
                made = self._make(self._next, shared.give_up)
            if shared.stopped.is_set():  # by another thread: it may not be whole
                raise StopIteration
            return made
        result = shared.results.get()
        if not isinstance(result, _End):
            shared.room.put(None)
            return result
        error, shared.error = shared.error, None
        try:
            if error is None or shared.stopped.is_set():
                raise StopIteration
            raise error
        finally:
            del error  # its traceback refers to this frame


def _run(
    shared: _Shared[Any], make: Callable[[int, Callable[[], bool]], Any], numbers: range
) -> None:
    """What the thread does."""
    try:
        for number in numbers:
            shared.room.get()
            if shared.stopped.is_set():
                return
            result = make(number, shared.give_up)
            if shared.stopped.is_set():
                return
            shared.results.put(result)
            del result  # the thread would keep it while it makes the next
    except BaseException as error:  # noqa: BLE001  it is the consumer's
        shared.error = error
    finally:
        shared.results.put(_End())
