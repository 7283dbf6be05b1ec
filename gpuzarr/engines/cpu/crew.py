"""The threads of one read: its caller and helpers from the pool take work from one queue.

The caller is one of them: it plans the next batch while helpers decode this one, and works itself
when it has nothing to plan. So a helper that the pool has no thread for costs nothing, and nobody
waits for anybody until the queue is empty.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from gpuzarr.engines.pool import Bell, Task, in_worker, is_ending, shared_pool, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Work = Callable[[], "Work | None"]

READY = 2
"""Pieces of work that wait to be finished, from which on no more are begun."""

PATIENCE_S = 1e-3
"""How long a thread waits for what others have begun before it looks again."""
LOOK_AGAIN_S = 0.05
"""How long a caller that does not work waits before it looks whether its helpers still do."""


class Crew:
    """Runs pieces of work in several threads at once."""

    def __init__(self) -> None:
        """Start with nobody but the caller."""
        self._queue: deque[Work] = deque()
        self._ready: deque[Work] = deque()
        self._helpers: list[Task] = []
        self._at_once = 1
        self._caller_works = True
        self._low = 0
        self._in_two = False
        self._tokens: deque[None] = deque([None])
        self._arrived = Bell()
        self._is_low = Bell()

    @property
    def busy(self) -> bool:
        """Whether there is work that is not done."""
        return bool(self._queue or self._ready or self._helpers)

    def add(
        self,
        works: Sequence[Work],
        at_once: int,
        *,
        caller_works: bool = True,
        in_two: bool = False,
    ) -> None:
        """Queue some work, and return when hardly any that was queued before waits.

        Args:
            works: what to do.
            at_once: how many may run at the same time, from now on.
            caller_works: whether the caller's thread takes part; helpers alone do the work
                otherwise. With `at_once` 1 the caller does all.
            in_two: each only begins something, and returns what finishes it. Then half of the
                threads begin things while others finish them: threads that do different things get
                less into each other's way.
        """
        if in_worker():  # a thread of the pool must not wait for the pool
            at_once = 1
        if at_once < self._at_once or in_two is not self._in_two:
            self.finish()  # what runs now was allowed more than what comes
        if at_once != self._at_once or in_two is not self._in_two:
            self._tokens = deque([None] * (max(1, at_once // 2) if in_two else at_once))
        self._at_once, self._in_two = at_once, in_two
        self._caller_works = caller_works or at_once == 1
        self._queue.extend(works)
        self._call_helpers()
        self._low = max(len(works), at_once)
        while not self._caller_works and len(self._queue) > self._low:
            self._is_low.clear()
            if len(self._queue) > self._low:
                self._is_low.wait(LOOK_AGAIN_S)
            self._call_helpers()
        if self._caller_works:  # as it was told, or since there are no helpers
            self._work(self._low)

    def finish(self) -> None:
        """Return when everything is done.

        Raises:
            Exception: what a piece of work raised.
        """
        while self.busy:
            if self._caller_works:
                self._work(0)
                # Helpers that no thread has begun need not come any more.
                self._helpers = [helper for helper in self._helpers if not helper.cancel()]
            else:
                self._call_helpers()
            for helper in self._helpers:
                helper.wait()
            self._dismiss()

    def abort(self) -> None:
        """Drop what waits, and return when nothing runs any more."""
        self.drop()
        wait_for(self._helpers)
        self._helpers.clear()

    def drop(self) -> None:
        """Drop what waits; what runs goes on to its end."""
        self._queue.clear()
        self._ready.clear()

    def _call_helpers(self) -> None:
        """As many helpers as there is work for; where none come, the caller works."""
        if is_ending():
            self._caller_works = True
            return
        # The caller takes one piece itself, so a single one needs no helper.
        wanted = min(self._at_once, len(self._queue)) - self._caller_works
        if wanted <= 0:
            return
        self._dismiss()
        while len(self._helpers) < wanted:
            from_end = (len(self._helpers) + self._caller_works) % 2 == 1
            helper = Task(partial(self._help, from_end))
            self._helpers.append(helper)  # whenever Ctrl-C comes, it is known
            if not shared_pool().start(helper):
                self._helpers.pop()
                self._caller_works = True
                return

    def _dismiss(self) -> None:
        """Forget helpers that have gone; raises what went wrong in them."""
        gone = [helper for helper in self._helpers if helper.is_done]
        if gone:
            self._helpers = [helper for helper in self._helpers if helper not in gone]
        for helper in gone:
            helper.result()

    def _help(self, from_end: bool) -> None:  # noqa: FBT001  only `_call_helpers` calls it
        try:
            self._work(0, from_end=from_end, helps=True)
        finally:
            self._is_low.ring()

    def _work(self, most: int, *, from_end: bool = False, helps: bool = False) -> None:
        """Work until at most so many pieces wait to be begun.

        Every other thread begins at the end of the queue: neighbours write to the same pages of the
        output, and two threads that touch a fresh page at the same time both clear it. Who only
        helps leaves when the interpreter ends, which waits for the pool's threads, but not for a
        daemon that reads.
        """
        queue, ready, tokens = self._queue, self._ready, self._tokens
        begin = queue.pop if from_end else queue.popleft
        while ready or len(queue) > most:
            if helps and is_ending():
                return
            if ready and (len(ready) >= READY or len(queue) <= most or not tokens):
                self._do(ready.popleft)
                continue
            try:
                token = tokens.pop()
            except IndexError:  # others are at it: something will be ready soon
                self._arrived.clear()
                if not ready and queue:
                    self._arrived.wait(PATIENCE_S)
                continue
            try:
                self._do(begin)
            finally:
                tokens.append(token)
                self._arrived.ring()

    def _do(self, take: Callable[[], Work]) -> None:
        """Do one piece, unless another thread was faster."""
        try:
            work = take()
        except IndexError:
            return
        more = work()
        if more is not None:
            self._ready.append(more)
        if len(self._queue) <= self._low:
            self._is_low.ring()
