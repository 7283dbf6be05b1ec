"""What is fuzzed, and what each target's `check` owes: an outcome, or an exception for a bug."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from gpuzarr.errors import ChunkError, GpuzarrError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.step_error import StepError

Outcome = Literal["right", "refused", "unusable"]
"""The result is right; an error of gpuzarr's own; the input makes nothing to read (for targets that
build what they read, and whose builder may say no)."""

LONGEST_MESSAGE = 5_000
"""Characters of an error that people can read."""

Context: TypeAlias = "Callable[[], AbstractContextManager[object]]"


@dataclass(frozen=True)
class Target:
    """One thing that takes bytes of anyone's."""

    name: str
    check: Callable[[bytes], Outcome]
    """Any exception that comes out is a finding, an AssertionError where a result is wrong."""
    seeds: Callable[[], list[bytes]]
    """Inputs to begin with: valid ones, so that mutants come far."""
    inputs: int
    """Mutants in the full run of the tests; the usual one makes a quarter as many."""
    tokens: tuple[bytes, ...] = ()
    """Bytes that mean something here, to be put into inputs."""
    is_json: bool = False
    """Whether inputs are mutated as documents, too."""
    longest: int = 4_096
    """Bytes of the longest input."""
    around: Context = nullcontext
    """What is there while inputs are checked, such as a device."""


raised: set[tuple[object, ...]] = set()
"""Where errors came from so far in this process: the last lines of theirs and of their causes."""


def refused(error: GpuzarrError | StepError) -> Outcome:
    """The outcome for an error that is as it should be: it says something, and not too much."""
    text = str(error)
    assert text, f"{type(error).__name__} says nothing"
    if len(text) > LONGEST_MESSAGE:
        raise AssertionError("this error is too long to read") from error
    raised.add((_origin(error), _origin(error.__cause__)))
    if isinstance(error, ChunkError):
        raised.update((_origin(failure.cause), failure.step) for failure in error.failures[:1])
    return "refused"


def _origin(error: BaseException | None) -> tuple[str, str, int] | None:
    """What kind of error it is, and the line that raised it."""
    if error is None:
        return None
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return type(error).__name__, "", 0
    return type(error).__name__, place.tb_frame.f_code.co_filename, place.tb_lineno


def normal_text(text: str) -> str:
    """The beginning of a message, without what differs from input to input."""
    text = text[:LONGEST_MESSAGE]
    return re.sub(r"'[^']*'|\"[^\"]*\"|0x[0-9a-fA-F]+|-?\d+", "*", text)[:120]
