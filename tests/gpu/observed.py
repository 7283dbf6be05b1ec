"""What a GPU was seen to do, kept in one file: observations are facts, not requirements.

The variable GPUZARR_OBSERVATIONS names the file; without it nothing is kept. Several processes add
to it at once, and one that is killed leaves it whole.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def observe(question: str, answer: Any) -> None:
    """Keep an answer."""
    name = os.environ.get("GPUZARR_OBSERVATIONS")
    if not name:
        return
    path = Path(name)
    with alone_in(path.parent):
        known = json.loads(path.read_text()) if path.exists() else {}
        known[question] = answer
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        part.replace(path)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other process is in here; the folder itself is the lock, so that no file is added."""
    import fcntl  # noqa: PLC0415  only Linux has it, and only there are such GPUs

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
