"""The thread that decodes Blosc for the main thread, and who waits for it."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import numcodecs.blosc
import numpy as np
import pytest

from gpuzarr.engines import pool
from gpuzarr.engines.cpu import blosc

VALUES = np.arange(50_000, dtype="<i4")
BLOCKS = 4


def make_frame() -> memoryview:
    frame: bytes = numcodecs.Blosc("lz4", blocksize=1 << 14).encode(VALUES)
    nbytes, blocks = blosc.check_frame(memoryview(frame))
    assert nbytes == VALUES.nbytes
    assert blocks == BLOCKS
    return memoryview(frame)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no such signals")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_read_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then, its memory is nobody else's."""
    assert threading.current_thread() is threading.main_thread()
    decompress, ended = numcodecs.blosc.decompress, threading.Event()

    def interrupted(encoded: Any, place: Any) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.05)
        decompress(encoded, place)
        ended.set()

    monkeypatch.setattr(numcodecs.blosc, "decompress", interrupted)
    place = np.empty_like(VALUES)
    with pytest.raises(KeyboardInterrupt):
        blosc.decompress(make_frame(), place.view(np.uint8).data, BLOCKS)
    assert ended.is_set()
    np.testing.assert_array_equal(place, VALUES)
    monkeypatch.undo()
    place[:] = 0
    blosc.decompress(make_frame(), place.view(np.uint8).data, BLOCKS)
    np.testing.assert_array_equal(place, VALUES)


def test_damage_is_told() -> None:
    place = np.empty_like(VALUES)
    frame = bytearray(make_frame())
    frame[200:] = b"\xff" * (len(frame) - 200)
    with pytest.raises(RuntimeError, match="decompression"):
        blosc.decompress(memoryview(frame), place.view(np.uint8).data, BLOCKS)


@pytest.fixture
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system starts none."""

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool, "start_new_thread", refuse)


@pytest.mark.usefixtures("_no_threads")
def test_without_threads_the_caller_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blosc, "_helper", blosc._Helper())  # noqa: SLF001  it has no thread yet
    place = np.empty_like(VALUES)
    blosc.decompress(make_frame(), place.view(np.uint8).data, BLOCKS)
    np.testing.assert_array_equal(place, VALUES)
    frame = bytearray(make_frame())
    frame[200:] = b"\xff" * (len(frame) - 200)
    with pytest.raises(RuntimeError, match="decompression"):
        blosc.decompress(memoryview(frame), place.view(np.uint8).data, BLOCKS)


@pytest.mark.usefixtures("_no_threads")
def test_errors_where_no_thread_can_be_started_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not waited for: nobody does what no thread has begun."""

    def fail(number: int) -> None:
        raise LookupError(number)

    monkeypatch.setattr(pool, "_pool", pool.Pool(2))
    with pytest.raises(LookupError):
        pool.do_all(fail, [1, 2, 3])


def test_cancelled_tasks_are_not_waited_for() -> None:
    task = pool.Task(lambda: None)
    assert task.cancel()
    assert task.cancel(), "nobody has begun it, and nobody will"
    task.wait()
    task.run()
    assert not task.is_done
