"""One input, watched: what it raises, how long it works, how much memory it takes."""

from __future__ import annotations

import hashlib
import resource
import signal
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hostile.fuzz.target import normal_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from tests.hostile.fuzz.target import Outcome, Target

MOST_SECONDS = 10.0
"""Of processor time; an input that takes more hangs."""
MOST_GROWTH = 256 << 20
"""Bytes by which the process may grow for an input."""
CHECKOUT = Path(__file__).parents[3]
_CLEAR_PEAK = "5"


class HangError(Exception):
    """An input took too long."""


class GrowthError(Exception):
    """An input took too much memory."""


@dataclass(frozen=True)
class Finding:
    """An input that shows a bug."""

    target: str
    data: bytes
    what: str
    """One line that is the same for the same bug, as far as that can be told."""
    text: str
    """The traceback, or what else is known."""

    @property
    def name(self) -> str:
        """A file name for it."""
        return "finding-" + hashlib.sha256(self.what.encode()).hexdigest()[:12]


def check_one(target: Target, data: bytes) -> Outcome | Finding:
    """Check an input; warnings are errors, as in all tests."""
    try:
        with warnings.catch_warnings(), _time_limit(), _memory_limit():
            warnings.simplefilter("error")
            return target.check(data)
    except Exception as error:  # noqa: BLE001  all of them are findings
        return Finding(target.name, data, summary(error), traceback.format_exc())


def summary(error: BaseException) -> str:
    """The kind of an error and where it came from, without numbers."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(str(CHECKOUT)) and not frame.filename.startswith(sys.prefix)
    ]
    place = ""
    if own:
        place = f" in {Path(own[-1].filename).relative_to(CHECKOUT)}, {own[-1].name}"
    return f"{type(error).__name__}{place}: {normal_text(str(error))}"


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raise `HangError` after too much work, where the interpreter gets to it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise HangError(f"more than {MOST_SECONDS:.0f} s of work")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def _memory_limit() -> Iterator[None]:
    """Raise `GrowthError` where the process grew too much meanwhile."""
    before = _resident(forget_peak=True)
    yield
    growth = _resident() - before
    if growth > MOST_GROWTH:
        raise GrowthError(f"{growth >> 20} MiB of memory")


def _resident(*, forget_peak: bool = False) -> int:
    """The most bytes that the process had in memory since that was last forgotten.

    Where the system does not let it be forgotten, since the process began.
    """
    if forget_peak and _can_forget():
        _CLEAR.write_text(_CLEAR_PEAK)
    unit = 1 if sys.platform == "darwin" else 1 << 10
    if not _can_forget():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    with _STATUS.open("rb") as status:
        for line in status:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * unit
    return 0


def _can_forget() -> bool:
    global _forgets  # noqa: PLW0603  found out once
    if _forgets is None:
        try:
            _CLEAR.write_text(_CLEAR_PEAK)
            _forgets = b"VmHWM:" in _STATUS.read_bytes()
        except OSError:
            _forgets = False
    return _forgets


_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_forgets: bool | None = None
