"""Memory of results is used again, once nobody holds them and not before."""
# ruff: noqa: SLF001  what threads hold, and what is kept, nobody else asks

from __future__ import annotations

import gc
import mmap
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cpu import results
from gpuzarr.engines.cpu.engine import CpuEngine
from gpuzarr.engines.cpu.results import LEAST_NBYTES, UNMARKED_NBYTES, ResultMemory
from tests.arrays import plain_store

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIB = 1 << 20

pytestmark = pytest.mark.skipif(
    not hasattr(mmap, "MADV_FREE"), reason="this system has no memory that it can take back"
)


def address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_dropped_memory_is_used_again() -> None:
    memory = ResultMemory(64 * MIB)
    first = memory.take(8 * MIB)
    place = address(first)
    second = memory.take(8 * MIB)
    assert not np.may_share_memory(first, second)
    assert memory.kept_nbytes == 0
    del first
    assert memory.kept_nbytes == 8 * MIB
    assert address(memory.take(8 * MIB - 100)) == place  # and dropped again
    assert memory.kept_nbytes == 8 * MIB


def test_a_view_keeps_the_memory() -> None:
    memory = ResultMemory(64 * MIB)
    whole = memory.take(4 * MIB).view(np.float32).reshape(1024, 1024)
    whole[...] = 7
    part = whole[3, 5:9]
    held = memoryview(whole.data)
    del whole
    gc.collect()
    assert memory.kept_nbytes == 0
    memory.take(4 * MIB)[...] = 0
    np.testing.assert_array_equal(part, 7)
    del part
    assert memory.kept_nbytes == 4 * MIB  # the one that was taken meanwhile
    held.release()
    assert memory.kept_nbytes == 8 * MIB


def test_no_more_is_kept_than_allowed() -> None:
    memory = ResultMemory(10 * MIB)
    held = [memory.take(4 * MIB) for _ in range(5)]
    held.clear()
    assert memory.kept_nbytes == 8 * MIB
    memory.release()
    assert memory.kept_nbytes == 0
    beyond = memory.take(11 * MIB)
    assert isinstance(beyond.base, np.ndarray)  # of NumPy's memory
    del beyond
    assert memory.kept_nbytes == 0


def test_what_the_system_cannot_take_is_little() -> None:
    memory = ResultMemory(256 * MIB)
    held = [memory.take(8 * MIB) for _ in range(6)] + [memory.take(12 * MIB)]
    held.clear()
    assert memory.kept_nbytes == 60 * MIB
    assert memory.unmarked_nbytes == UNMARKED_NBYTES == 32 * MIB
    assert sorted(len(each) for each, marked in memory._kept if marked) == [8 * MIB] * 2 + [
        12 * MIB
    ]
    held = [memory.take(8 * MIB) for _ in range(6)]
    assert memory.unmarked_nbytes == 0
    assert memory.kept_nbytes == 12 * MIB
    held.clear()
    assert memory.unmarked_nbytes == 32 * MIB
    memory.release()
    assert memory.unmarked_nbytes == 0


def test_other_sizes_give_up_as_much_as_they_take() -> None:
    memory = ResultMemory(64 * MIB)
    held = [memory.take(4 * MIB) for _ in range(6)]
    held.clear()
    large = memory.take(16 * MIB)
    assert memory.kept_nbytes == 8 * MIB
    del large
    assert memory.kept_nbytes == 24 * MIB
    small = memory.take(4 * MIB)
    assert memory.kept_nbytes == 20 * MIB
    del small


def test_sizes_in_turn_are_each_found() -> None:
    memory = ResultMemory(64 * MIB)
    places: set[int] = set()
    for _ in range(4):
        image, label = memory.take(24 * MIB), memory.take(6 * MIB)
        places.update((address(image), address(label)))
        del image, label
    assert len(places) == 2


def test_small_results_are_left_to_the_c_library() -> None:
    memory = ResultMemory(64 * MIB)
    assert memory.take(LEAST_NBYTES - 1).flags.owndata
    assert not memory.take(LEAST_NBYTES).flags.owndata


def test_without_memory_that_the_system_can_take_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_AVAILABLE", False)
    memory = ResultMemory(64 * MIB)
    assert isinstance(memory.take(8 * MIB).base, np.ndarray)  # of NumPy's memory
    assert memory.kept_nbytes == 0


def test_more_than_there_is() -> None:
    with pytest.raises(MemoryError, match="the system has no"):
        ResultMemory(1 << 62).take(1 << 60)


def test_a_result_dropped_while_another_is_taken() -> None:
    # As by a garbage collection between any two instructions: nothing waits for itself.
    memory = ResultMemory(64 * MIB)
    held = [memory.take(4 * MIB)]
    with memory._lock:
        held.clear()
    assert memory.kept_nbytes == 0
    assert len(memory.take(4 * MIB)) == 4 * MIB


def test_many_threads() -> None:
    memory = ResultMemory(24 * MIB)
    wrong: list[int] = []

    def use(number: int) -> None:
        for turn in range(200):
            array = memory.take((1 + (number + turn) % 3) * MIB)
            array[::4096] = number
            if not (array[::4096] == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 0 <= memory.kept_nbytes <= 24 * MIB
    kept = memory.kept_nbytes
    assert kept == sum(len(each) for each, _ in memory._kept)
    assert memory.unmarked_nbytes == kept
    memory.release()
    assert memory.kept_nbytes == memory.unmarked_nbytes == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_waits_for_nobody() -> None:
    held: NDArray[np.uint8] = results.take(4 * MIB)
    with results._memory._lock:  # as another thread of the parent may
        child = os.fork()
        if child == 0:
            del held
            os._exit(0 if len(results.take(4 * MIB)) == 4 * MIB else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("dtype", ["u1", "<f4", "<c16", "<U5", "<M8[s]", "V3", "object"])
def test_engines_results(dtype: str) -> None:
    shape = (3, 1 << 19)
    array = CpuEngine().empty(shape, np.dtype(dtype))
    assert array.shape == shape
    assert array.dtype == np.dtype(dtype)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned


def test_missing_chunks_in_used_memory_are_the_fill_value() -> None:
    results.release()
    numbers = np.full((512, 1024), 9, np.float32)
    full = gpuzarr.open_array(plain_store(numbers, (128, 1024)), device="cpu")
    empty = {
        key: value for key, value in plain_store(numbers, (128, 1024)).items() if "c/" not in key
    }
    first = full[...]
    place = address(first)
    np.testing.assert_array_equal(first, numbers)
    del first
    second = gpuzarr.open_array(empty, device="cpu")[...]
    assert address(second) == place
    np.testing.assert_array_equal(second, 0)


def test_room_is_made_before_a_result_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpuzarr.engines.cpu import engine  # noqa: PLC0415

    results.release()
    dropped = results.take(4 * MIB)
    del dropped
    assert results._memory.kept_nbytes == 4 * MIB
    monkeypatch.setattr(engine, "CHECKED_NBYTES", 0)
    monkeypatch.setattr(engine, "available_nbytes", lambda: 1)
    with pytest.raises(gpuzarr.MemoryLimitError, match="1 are free"):
        CpuEngine().empty((1 << 20,), np.dtype("f4"))
    assert results._memory.kept_nbytes == 0
