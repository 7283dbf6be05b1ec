"""Ctrl-C anywhere in a read on the fake device, and what must be true after it."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engines.cuda.fake_device import FakeDevice


@contextmanager
def interrupted(device: FakeDevice, call: str, number: int) -> Iterator[Iterator[int]]:
    """Ctrl-C comes in one of the calls of a kind.

    Args:
        device: whose calls.
        call: which kind.
        number: how many go well before.

    Yields:
        What counts the calls: its next value is how many there were.
    """
    real, calls = getattr(device, call), count()

    def fail(*arguments: Any) -> Any:
        if next(calls) == number:
            raise KeyboardInterrupt
        return real(*arguments)

    setattr(device, call, fail)
    try:
        yield calls
    finally:
        delattr(device, call)


def assert_nothing_is_under_way(device: FakeDevice) -> None:
    """All memory is given back, and all streams have done what was put on them."""
    assert device.used == 0
    for stream in (device.copy_stream, device.current_stream()):
        assert stream.done == stream.put
