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

GRACE_S = 2.0
"""How long the end of the process waits for cancelled requests."""

_lock = threading.Lock()
_background: _Background | None = None
_inherited: list[object] = []
"""Loops of a parent process: closing one would close what the parent listens on."""


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
        try:
            loop.run_forever()
            waiting = asyncio.all_tasks(loop)
            for task in waiting:
                task.cancel()
            if waiting:
                loop.run_until_complete(asyncio.wait(waiting, timeout=GRACE_S / 2))
        finally:
            loop.close()

    def close(self) -> None:
        """Cancel what is under way, and end the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(GRACE_S)


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
