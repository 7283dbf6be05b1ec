"""Which lines of gpuzarr ran that had not run before, as cheaply as the interpreter allows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import gpuzarr

if TYPE_CHECKING:
    from types import CodeType, FrameType

FOLDER = str(Path(gpuzarr.__file__).parent)
Line = tuple[str, int]


class Coverage(Protocol):
    """Counts lines from `start` to `stop`."""

    seen: set[Line]

    def start(self) -> None:
        """Begin to look."""
        ...

    def stop(self) -> None:
        """Look no more; `seen` has what was new."""
        ...

    def close(self) -> None:
        """Let others look."""
        ...


class Monitored:
    """By `sys.monitoring`, of Python 3.12: a line that ran costs nothing from then on.

    It looks all the time, since every change of that makes the interpreter look at all code anew.
    """

    def __init__(self) -> None:
        """Take the tool number that is meant for coverage, until `close`."""
        self.seen: set[Line] = set()
        self._monitoring: Any = getattr(sys, "monitoring")  # noqa: B009  not in 3.11
        self._tool = self._monitoring.COVERAGE_ID
        self._monitoring.use_tool_id(self._tool, "gpuzarr-fuzz")
        event = self._monitoring.events.LINE
        self._monitoring.register_callback(self._tool, event, self._on_line)
        self._monitoring.set_events(self._tool, event)

    def start(self) -> None:
        """See `Coverage`."""

    def stop(self) -> None:
        """See `Coverage`."""

    def close(self) -> None:
        """See `Coverage`."""
        self._monitoring.set_events(self._tool, 0)
        self._monitoring.free_tool_id(self._tool)

    def _on_line(self, code: CodeType, line: int) -> Any:
        if code.co_filename.startswith(FOLDER):
            self.seen.add((code.co_filename, line))
        return self._monitoring.DISABLE


class Traced:
    """By `sys.settrace`, in this thread; functions of which all lines ran are left alone."""

    def __init__(self) -> None:
        """Nothing ran yet."""
        self.seen: set[Line] = set()
        self._unseen: dict[CodeType, set[int]] = {}

    def start(self) -> None:
        """See `Coverage`."""
        sys.settrace(self._on_call)

    def stop(self) -> None:
        """See `Coverage`."""
        sys.settrace(None)

    def close(self) -> None:
        """See `Coverage`."""

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        del event, argument
        code = frame.f_code
        unseen = self._unseen.get(code)
        if unseen is None:
            unseen = set()
            if code.co_filename.startswith(FOLDER):
                unseen = {line for _, _, line in code.co_lines() if line is not None}
                unseen -= {code.co_firstlineno}
            self._unseen[code] = unseen
        return self._on_line if unseen else None

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        del argument
        if event == "line":
            unseen = self._unseen[frame.f_code]
            if frame.f_lineno in unseen:
                unseen.remove(frame.f_lineno)
                self.seen.add((frame.f_code.co_filename, frame.f_lineno))
                if not unseen:
                    return None
        return self._on_line


def make_coverage() -> Coverage:
    """What this interpreter can do."""
    return Monitored() if hasattr(sys, "monitoring") else Traced()
