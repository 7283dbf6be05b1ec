"""One pool of worker threads a process, sized by the CPUs that the process may use."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
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


def shared_pool() -> ThreadPoolExecutor:
    """The process's pool, made at first use; after a fork the child makes its own."""
    global _pool  # noqa: PLW0603  one pool a process is the point
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(
                cpu_count(), thread_name_prefix="gpuzarr", initializer=_mark_worker
            )
            _forget_after_fork()
        return _pool


def in_worker() -> bool:
    """Whether this thread is one of the pool's; waiting for the pool here could wait forever."""
    return getattr(_worker, "is_worker", False)


def _mark_worker() -> None:
    _worker.is_worker = True


_registered = False


def _forget_after_fork() -> None:
    """A forked child has the pool's object but none of its threads."""
    global _registered  # noqa: PLW0603
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_reset)
        _registered = True


def _reset() -> None:
    global _pool, _lock, _worker
    _pool, _lock, _worker = None, threading.Lock(), threading.local()
