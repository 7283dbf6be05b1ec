"""Reads that are waited for, where the system tells which are not in the page cache."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.engines.cpu.fetcher import EncodedMemory
from gpuzarr.stores import aliasing, local_ahead, uring
from gpuzarr.stores.files import Waits, read_at
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.local_ahead import RANGES, Pace
from gpuzarr.stores.store import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Answer = Callable[[int], int]

pytestmark = pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="this system does not tell")

DATA = bytes(range(250)) * 40
COUNT = 24


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(DATA)
    number = os.open(tmp_path / "file", os.O_RDONLY)
    yield number
    os.close(number)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[int]]:
    """Make reads that do not wait see as many bytes as a function says; gives sizes of these."""
    real = os.preadv
    sizes: list[int] = []

    def install(cached: Answer) -> list[int]:
        def preadv(descriptor: int, buffers: Any, offset: int, flags: int = 0) -> int:
            (memory,) = buffers
            if flags != os.RWF_NOWAIT:
                return real(descriptor, buffers, offset, flags)
            sizes.append(len(memory))
            most = cached(len(memory))
            return real(descriptor, (memory[:most],), offset)

        monkeypatch.setattr(os, "preadv", preadv)
        return sizes

    return install


def nothing(nbytes: int) -> int:
    raise BlockingIOError(errno.EAGAIN, f"{nbytes} bytes are not there")


def everything(nbytes: int) -> int:
    return nbytes


@pytest.mark.parametrize(
    ("cached", "count"),
    [
        (everything, 0),
        (nothing, 1),
        (lambda nbytes: nbytes // 3, 1),
        (lambda nbytes: 0 * nbytes, 1),
    ],
)
def test_what_is_not_there_is_waited_for(
    descriptor: int, answer: Callable[[Answer], list[int]], cached: Answer, count: int
) -> None:
    answer(cached)
    waits = Waits()
    memory = memoryview(bytearray(2000))
    assert read_at(descriptor, memory, 333, waits) == 2000
    assert bytes(memory) == DATA[333:2333]
    assert waits.count == count
    assert waits.are_told


def test_what_is_in_the_page_cache_takes_one_call(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    real = os.preadv

    def preadv(*arguments: Any) -> int:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(os, "preadv", preadv)
    os.pread(descriptor, len(DATA), 0)
    waits = Waits()
    assert read_at(descriptor, memoryview(bytearray(len(DATA))), 0, waits) == len(DATA)
    # A file system may know no such reads, or have lost the file meanwhile.
    assert len(calls) == 1 or waits.count or not waits.are_told


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_file_systems_that_do_not_tell_are_asked_once(
    descriptor: int, answer: Callable[[Answer], list[int]], code: int
) -> None:
    def refuse(nbytes: int) -> int:
        raise OSError(code, f"no {nbytes}")

    sizes = answer(refuse)
    waits = Waits()
    memory = memoryview(bytearray(100))
    for _ in range(3):
        assert read_at(descriptor, memory, 1, waits) == 100
        assert bytes(memory) == DATA[1:101]
    assert sizes == [100]
    assert not waits.are_told
    assert waits.count == 0


def test_pythons_without_such_reads(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def preadv(descriptor: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags:
            raise NotImplementedError("preadv2")
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    waits = Waits()
    assert read_at(descriptor, memoryview(bytearray(100)), 0, waits) == 100
    assert not waits.are_told


@pytest.mark.parametrize(("cached", "waited"), [(everything, False), (nothing, True)])
def test_reads_to_slow_places_are_counted(
    descriptor: int,
    answer: Callable[[Answer], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    cached: Answer,
    *,
    waited: bool,
) -> None:
    monkeypatch.setattr(aliasing, "LEAST_NBYTES", 1)
    monkeypatch.setattr(aliasing, "is_slow", lambda *_: True)
    sizes = answer(cached)
    waits = Waits()
    memory = memoryview(bytearray(5000))
    assert read_at(descriptor, memory, 7, waits) == 5000
    assert bytes(memory) == DATA[7:5007]
    assert sizes == [5000]
    assert (waits.count > 0) == waited


def test_other_errors_are_errors(descriptor: int, answer: Callable[[Answer], list[int]]) -> None:
    def fail(nbytes: int) -> int:
        raise OSError(errno.EIO, f"broken at {nbytes}")

    answer(fail)
    with pytest.raises(OSError, match="broken at 9"):
        read_at(descriptor, memoryview(bytearray(9)), 0, Waits())


def test_the_end_of_a_file(descriptor: int, answer: Callable[[Answer], list[int]]) -> None:
    answer(everything)
    memory = memoryview(bytearray(100))
    assert read_at(descriptor, memory, len(DATA) - 60, Waits()) == 60
    assert bytes(memory[:60]) == DATA[-60:]
    assert read_at(descriptor, memory, len(DATA), Waits()) == 0
    assert read_at(descriptor, memory[:0], 0, Waits()) == 0


def test_rows_are_slow_where_one_of_four_ranges_was_waited_for() -> None:
    pace = Pace()
    for _ in range(3):
        pace.note(10, 1 << 20, 1.0, 2)  # a second, but of waiting for something else
        assert not pace.takes_turn()
    pace.note(10, 10, 1e-9, 3)
    pace.note(10, 10, 1e-9, 3)
    assert [pace.takes_turn() for _ in range(RANGES + 1)] == [True] * RANGES + [False]
    pace.note(1, 10, 1.0, 0)
    pace.note(1, 10, 1e-9, 1)
    assert not pace.takes_turn()
    pace.note(1, 10, 1e-9, 1)
    assert pace.takes_turn()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    monkeypatch.setattr(uring, "LEAST_FILES", 1 << 30)
    (tmp_path / "c").mkdir()
    for number in range(COUNT):
        (tmp_path / "c" / f"{number}").write_bytes(DATA[: 100 + number])
    store = LocalStore(tmp_path)
    store.read("c/0")
    store._pace.waits.are_told = True  # noqa: SLF001  whatever this file system said
    return store


@pytest.mark.parametrize(("cached", "is_slow"), [(everything, False), (nothing, True)])
@pytest.mark.parametrize("in_rows", [True, False])
def test_stores_read_ahead_where_they_wait(
    store: LocalStore,
    answer: Callable[[Answer], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    cached: Answer,
    *,
    is_slow: bool,
    in_rows: bool,
) -> None:
    monkeypatch.setattr(local_ahead, "SLOW_ROW_S", 1e9 if is_slow else -1e9)  # time says nothing
    advised: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: advised.append(arguments[1]))
    answer(cached)
    keys = [f"c/{number}" for number in range(COUNT)]
    if in_rows:
        wanted = [(key, 0, WHOLE, None) for key in keys]
        for _ in range(4):
            with EncodedMemory() as memory:
                assert len(store.read_row(wanted, memory, bool)) == COUNT
                assert bytes(memory.all()[:100]) == DATA[:100]
    else:
        pending = store.start_reads(keys, [0] * COUNT, [WHOLE] * COUNT)
        for number in range(COUNT):
            blob = pending.result(number)
            assert blob is not None
            assert bytes(blob.data) == DATA[: 100 + number]
    assert bool(advised) == is_slow
