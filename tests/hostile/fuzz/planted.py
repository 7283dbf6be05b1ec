"""Targets with bugs planted in them, which the machinery must find."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

from gpuzarr.errors import StoreError
from tests.hostile.fuzz import watch
from tests.hostile.fuzz.target import Outcome, Target, refused

if TYPE_CHECKING:
    from collections.abc import Mapping

DOOR = b"ze"


def check_door(data: bytes) -> Outcome:
    """Fails behind two bytes, each of which leads to an error of its own."""
    try:
        if data[:1] != DOOR[:1]:
            raise StoreError("the first letter is wrong")  # noqa: TRY301  a line of its own
        if data[1:2] != DOOR[1:]:
            raise StoreError("the second letter is wrong")  # noqa: TRY301  a line of its own
    except StoreError as error:
        return refused(error)
    raise KeyError(data)


def check_death(data: bytes) -> Outcome:
    """Kills the process."""
    if data.startswith(b"!"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return "right"


def check_hang(data: bytes) -> Outcome:
    """Works without end."""
    if data.startswith(b"!"):
        begun = time.process_time()
        while time.process_time() < begun + 10 * watch.MOST_SECONDS:
            pass
    return "right"


def check_growth(data: bytes) -> Outcome:
    """Takes memory, and gives it back."""
    if data.startswith(b"!"):
        taken = bytearray(watch.MOST_GROWTH + (64 << 20))
        taken[:: 1 << 12] = b"x" * len(range(0, len(taken), 1 << 12))
    return "right"


def check_well(data: bytes) -> Outcome:
    """Has no bug."""
    return "right" if data else "unusable"


TARGETS: Final[Mapping[str, Target]] = {
    name: Target(name, check, lambda: [b"shut", b""], 10, (b"!",), longest=40)
    for name, check in (
        ("door", check_door),
        ("death", check_death),
        ("hang", check_hang),
        ("growth", check_growth),
        ("well", check_well),
    )
}
