"""How much memory is there: what the system and the control group still give."""

from __future__ import annotations

import os
from pathlib import Path

CHECKED_NBYTES = 1 << 28
"""Allocations below this size are made without asking how much memory is free."""


def available_nbytes() -> int:
    """Bytes that this process could still take without swapping; a large number where unknown."""
    return min(_system_nbytes(), _cgroup_nbytes())


def _system_nbytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 1 << 62


def _cgroup_nbytes() -> int:
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit == "max":
            return 1 << 62
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return max(0, int(limit) - used)
    except (OSError, ValueError):
        return 1 << 62
