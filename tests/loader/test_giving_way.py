"""A thread that reads ahead lets its consumer have the interpreter's lock."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

from gpuzarr.loader import prefetch
from gpuzarr.loader.prefetch import Prefetch
from tests.loader.test_prefetch import LIMIT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def test_a_thread_that_is_well_ahead_gives_way_and_another_one_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(perf_counter=time.perf_counter, sleep=slept.append)
    monkeypatch.setattr(prefetch, "time", clock)
    monkeypatch.setattr(prefetch, "BETWEEN_S", 0.0)
    before: list[int] = []
    started = threading.Event()

    def make(number: int, give_up: Callable[[], bool]) -> int:
        assert started.wait(LIMIT_S)
        assert not give_up()
        before.append(len(slept))
        return number

    with Prefetch(make, 0, 4, 4) as results:
        started.set()
        wait_until(lambda: len(before) == 4)
        assert before == [0, 0, 1, 2]  # two of four are ready when the third is begun
        assert slept == [prefetch.SLEEP_S] * 2
        assert list(results) == [0, 1, 2, 3]
