"""Files that this process has open."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def open_files() -> int:
    """How many, without the rings that are kept for all reads; 0 where the system does not tell."""
    count = 0
    folder = Path("/proc/self/fd")
    for place in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # the folder's own
            count += str(place.readlink()) != "anon_inode:[io_uring]"
    return count
