"""One event loop a process, in a thread of its own, for storage that is asked asynchronously.

The thread is a daemon, so that nothing waits for it; at exit it is told to end, and what is still
under way is cancelled, since libraries must not call back into an interpreter that is gone. A
forked child has no such thread: it makes a loop of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time

GRACE_S = 2.0
"""How long the end of the process waits for cancelled requests."""

QUIET_S = 0.1
"""How long after the last answer, at least, the interpreter ends: the thread of a library that gave
it may still be about to let go of Python's objects, and would end the process with a crash."""

_lock = threading.Lock()
_background: _Background | None = None
_last_answer = 0.0
_inherited: list[object] = []
"""Loops of a parent process: closing one would close what the parent listens on."""


def note_answer() -> None:
    """A request has ended, now."""
    global _last_answer  # noqa: PLW0603  one loop a process is the point
    _last_answer = time.monotonic()


def background_loop() -> asyncio.AbstractEventLoop:
    """The process's loop, which is running; made at first use."""
    global _background  # noqa: PLW0603  one loop a process is the point
    with _lock:
        if _background is None:
            _background = _Background()
        return _background.loop


class _Background:
    """A loop and its thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="gpuzarr-storage", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        loop = self.loop
        loop.run_forever()
        waiting = asyncio.all_tasks(loop)
        for task in waiting:
            task.cancel()
        if waiting:
            loop.run_until_complete(asyncio.wait(waiting, timeout=GRACE_S / 2))

    def close(self) -> None:
        """Cancel what is under way, and end the thread; nothing may be started any more."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(GRACE_S)
        time.sleep(max(0.0, _last_answer + QUIET_S - time.monotonic()))
        if not self._thread.is_alive():
            self.loop.close()


def _close() -> None:
    if _background is not None:
        _background.close()


def _reset() -> None:
    """A forked child has the parent's loop, but not the thread that runs it."""
    global _background, _lock
    if _background is not None:
        _inherited.append(_background)
    _background, _lock = None, threading.Lock()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)
