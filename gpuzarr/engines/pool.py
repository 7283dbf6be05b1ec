"""One pool of worker threads a process, sized by the CPUs that the process may use.

It consists of locks and queues whose calls are of C, so that Ctrl-C comes before one or after it.
What `concurrent.futures` and `threading.Event` are made of, a `threading.Condition`, is taken by
Python code: an interrupt that comes when it is taken, and before that is known, leaves it taken for
ever, and whoever works in the pool waits for ever.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from _thread import start_new_thread  # `threading.Thread.start` waits for a Condition
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

PATIENCE_S = 10.0
"""How long the end of the interpreter waits for work that is being done."""

_lock = threading.Lock()
_pool: Pool | None = None
_ending = False
_registered = False
_worker = threading.local()


def cpu_count() -> int:
    """CPUs that this process may use: by affinity and by the cgroup's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(count, _quota() or count))


def _quota() -> int | None:
    """CPUs by the quota of the control group (v2, then v1), rounded up; None without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        pass
    try:
        root = Path("/sys/fs/cgroup/cpu")
        quota_us = int((root / "cpu.cfs_quota_us").read_text())
        return (
            -(-quota_us // int((root / "cpu.cfs_period_us").read_text())) if quota_us > 0 else None
        )
    except (OSError, ValueError):
        return None


class Bell:
    """Wakes one thread that waits, or the next one that does."""

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        """Not rung yet."""
        self._silent = threading.Lock()
        self._silent.acquire()

    def ring(self) -> None:
        """Ring; once for all until somebody has heard it."""
        with suppress(RuntimeError):  # it rings already
            self._silent.release()

    def wait(self, seconds: float) -> None:
        """Return when it rings, or after so many seconds."""
        self._silent.acquire(timeout=seconds)

    def clear(self) -> None:
        """Forget that it was rung."""
        self._silent.acquire(blocking=False)


class Task:
    """Work for a thread of a pool, and how it went.

    The first thread that runs or cancels it has it for itself: one that was interrupted at that may
    cancel it still.
    """

    __slots__ = ("_claim", "_under_way", "_work", "error", "is_done")

    def __init__(self, work: Callable[[], None]) -> None:
        """Nobody has begun it."""
        self._work: Callable[[], None] | None = work
        self._claim: dict[str, int] = {}
        """Whose it is; it has an entry at once, whatever interrupts that."""
        self._under_way = threading.Lock()
        self._under_way.acquire()
        self.is_done = False
        self.error: BaseException | None = None
        """What the work raised."""

    def run(self) -> None:
        """Do the work, unless somebody has begun it or it was cancelled."""
        work = self._work if self._is_mine() else None
        if work is None:
            return
        self._work = None  # it may refer to this, and hold much
        try:
            work()
        except BaseException as error:  # noqa: BLE001  it is the asker's
            self.error = error
        finally:
            self.is_done = True
            self._under_way.release()

    def cancel(self) -> bool:
        """Whether nobody has begun it; nobody will, then."""
        if not self._is_mine():
            return False
        self._work = None
        with suppress(RuntimeError):  # it is done, by this thread
            self._under_way.release()
        return True

    def _is_mine(self) -> bool:
        """Whether no other thread has begun or cancelled it, or will."""
        me = threading.get_ident()
        return self._claim.setdefault("by", me) == me

    def wait(self) -> None:
        """Return when nobody does it any more, or will."""
        with self._under_way:
            pass

    def result(self) -> None:
        """Wait for it, and raise what it raised."""
        self.wait()
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame


class Pool:
    """Threads that do tasks, as many as there is work for, up to a number; they stay."""

    def __init__(self, most: int) -> None:
        """Start none yet."""
        self._most = most
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._room = deque([None] * most)
        """An entry for each thread that may still come."""
        self._idle: deque[None] = deque()
        """An entry for each thread that waits for a task, about."""
        self._alive: deque[threading.Lock] = deque()
        """A lock that each thread holds."""

    def start(self, task: Task) -> bool:
        """Have a task done, and say whether it will be; if not, nobody ever does it.

        It will not at the end of the interpreter, and where the system starts no threads: whoever
        asks must be able to do the work.
        """
        if _ending:
            return not task.cancel()
        self._tasks.put(task)
        try:
            self._idle.pop()
        except IndexError:
            pass
        else:
            return True
        if self._room:
            try:
                start_new_thread(self._serve, ())
            except RuntimeError:
                if len(self._room) == self._most:  # there is none
                    return not task.cancel()
        return True

    def end(self, deadline: float) -> None:
        """Let the threads go, and wait for what they do until then."""
        self._tasks.put(None)
        for held in list(self._alive):
            if held.acquire(timeout=max(0.0, deadline - time.monotonic())):
                held.release()

    def _serve(self) -> None:
        """What a thread does."""
        try:
            self._room.pop()
        except IndexError:
            return
        _worker.is_worker = True
        threading.current_thread().name = "gpuzarr"
        held = threading.Lock()
        with held:
            self._alive.append(held)
            while True:
                try:
                    task = self._tasks.get_nowait()
                except Empty:
                    self._idle.append(None)
                    task = self._tasks.get()
                if task is None:
                    self._tasks.put(None)  # for the next one, also one that has just begun
                    return
                task.run()
                del task  # what it refers to may be large


def shared_pool() -> Pool:
    """The process's pool, made at first use; after a fork the child makes its own."""
    global _pool, _registered  # noqa: PLW0603  one pool a process is the point
    with _lock:
        if _pool is None:
            if not _registered:
                atexit.register(_end)
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=_reset)
                _registered = True
            _pool = Pool(cpu_count())
        return _pool


def do_all(work: Callable[[T], None], items: Sequence[T]) -> None:
    """Do something with each item, in threads of the pool where it has any for that.

    Raises:
        Exception: what one of them raised, once none is being done any more.
    """
    if in_worker() or len(items) == 1:  # a thread of the pool must not wait for the pool
        for item in items:
            work(item)
        return
    pool = shared_pool()
    tasks = [Task(partial(work, item)) for item in items]
    try:
        begun = [pool.start(task) for task in tasks]
        for item, task, is_begun in zip(items, tasks, begun, strict=True):
            if is_begun:
                task.result()
            else:
                work(item)
    except BaseException:
        wait_for(tasks)
        raise


def wait_for(tasks: Sequence[Task]) -> None:
    """Cancel tasks, and return when none of them is being done."""
    for task in [task for task in tasks if not task.cancel()]:
        task.wait()


def is_ending() -> bool:
    """Whether the interpreter ends, and waits for the pool's threads."""
    return _ending


def in_worker() -> bool:
    """Whether this thread is one of the pool's; waiting for the pool here could wait forever."""
    return getattr(_worker, "is_worker", False)


def _end() -> None:
    """At exit; other threads than daemons have ended by then."""
    global _ending  # noqa: PLW0603
    _ending = True
    if _pool is not None:
        _pool.end(time.monotonic() + PATIENCE_S)


def _reset() -> None:
    """In a forked child, which has the pool's object but none of its threads."""
    global _pool, _lock, _worker
    _pool, _lock, _worker = None, threading.Lock(), threading.local()
