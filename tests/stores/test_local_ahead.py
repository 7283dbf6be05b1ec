"""Files that the system is told of before their turn, where reads were waited for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr import few
from gpuzarr.engines.cpu import few as cpu_few
from gpuzarr.engines.cpu.fetcher import EncodedMemory
from gpuzarr.stores import files, local_ahead, uring
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.local_ahead import (
    AHEAD_NBYTES,
    ALL_FILES,
    FILES,
    LEAST_LIMIT,
    RANGES,
    ROWS,
    SLOW,
    OpenedAhead,
    Pace,
)
from gpuzarr.stores.store import WHOLE, reads_when_asked
from tests.arrays import plain_store
from tests.open_files import open_files

pytestmark = pytest.mark.skipif(not local_ahead.CAN_ADVISE, reason="no posix_fadvise here")

COUNT = 3 * FILES


@pytest.fixture(autouse=True)
def _no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files come by a ring where there is one."""
    monkeypatch.setattr(uring, "LEAST_FILES", 1 << 30)


@pytest.fixture(autouse=True)
def _by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the system does not tell what is waited for (`test_waits.py`: where it does)."""
    monkeypatch.setattr(files, "_NOWAIT", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c").mkdir()
    for number in range(COUNT):
        (tmp_path / "c" / f"{number}").write_bytes(data_of(number))
    return tmp_path


def data_of(number: int) -> bytes:
    return bytes([number]) * (100 + number)


def wanted(*numbers: int) -> list[Any]:
    return [(f"c/{number}", 0, WHOLE, None) for number in numbers]


def read_row(store: LocalStore, row: Any, stop_after: int = COUNT) -> list[bytes]:
    """What a row gives, in bytes; no file is open after it."""
    before = open_files()
    with EncodedMemory() as memory:
        ends = store.read_row(row, memory, lambda: memory.used >= stop_after * 1000)
        everything = bytes(memory.all())
    assert open_files() == before
    return [everything[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def slow(store: LocalStore) -> LocalStore:
    """A store whose last reads were waited for."""
    store._pace._left = RANGES  # noqa: SLF001  as after a slow row
    return store


def test_rows_that_were_waited_for_are_followed_by_some_that_are_read_ahead() -> None:
    pace = Pace()

    def ahead() -> bool:
        return pace.ahead(wanted(1, 2), str, os.O_RDONLY) is not None

    assert not ahead()
    pace.note(10, 4000, 10 * 20e-6, 0)
    assert not ahead(), "they came from the page cache"
    pace.note(10, 4000, 10 * 80e-6, 0)
    assert not ahead(), "one may have waited for something else"
    pace.note(10, 4000, 10 * 80e-6, 0)
    assert [ahead() for _ in range(ROWS + 1)] == [True] * ROWS + [False]
    pace.note(10, 200_000_000, 10 * 80e-6 + 0.1, 0)
    assert not ahead(), "so many bytes take so long"
    for _ in range(SLOW):
        pace.note(0, 0, 1.0, 0)
    assert not ahead(), "nothing was read"
    for _ in range(SLOW):
        pace.note(10, 4000, 1.0, 0)
    pace.note(0, 0, 0.0, 0)
    assert pace.ahead(iter(wanted(1, 2)), str, os.O_RDONLY) is None, "what comes may depend on it"
    assert pace.ahead(wanted(1), str, os.O_RDONLY) is None, "nothing comes behind it"
    assert [pace.takes_turn() for _ in range(RANGES + 2)] == [True] * RANGES + [False] * 2


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What the system is told: names of files, offsets, sizes."""
    told: list[tuple[str, int, int]] = []
    advise = os.posix_fadvise

    def noted(descriptor: int, offset: int, nbytes: int, advice: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        told.append((path.name, offset, nbytes))
        advise(descriptor, offset, nbytes, advice)

    monkeypatch.setattr(os, "posix_fadvise", noted)
    return told


def test_what_comes_is_advised_and_nothing_twice(
    folder: Path, advised: list[tuple[str, int, int]]
) -> None:
    store = LocalStore(folder)
    numbers = range(COUNT)
    store.read("c/0")
    assert read_row(store, wanted(*numbers)) == [data_of(n) for n in numbers]
    assert not advised
    ahead = OpenedAhead(wanted(*numbers), lambda key: str(folder / key), os.O_RDONLY)
    os.close(ahead.take(str(folder / "c/0")))
    assert len(advised) == FILES, "and no more are open at once"
    os.close(ahead.take(str(folder / "c/1")))
    assert len(advised) == FILES + 1
    ahead.close()
    advised.clear()
    assert read_row(slow(store), wanted(*numbers)) == [data_of(n) for n in numbers]
    assert advised == [(str(n), 0, AHEAD_NBYTES) for n in numbers]


def test_all_threads_together_open_only_so_many(folder: Path) -> None:
    room = len(local_ahead._room)  # noqa: SLF001  what is left
    assert room == ALL_FILES
    row = wanted(*range(COUNT))
    many = [OpenedAhead(row, lambda key: str(folder / key), os.O_RDONLY) for _ in range(4)]
    before = open_files()
    taken = [each.take(str(folder / "c/0")) for each in many]
    assert ALL_FILES - len(taken) <= open_files() - before - len(taken) <= ALL_FILES
    for each, descriptor in zip(many, taken, strict=True):
        each.close()
        os.close(descriptor)
    assert open_files() == before
    assert len(local_ahead._room) == room  # noqa: SLF001


def test_where_few_files_may_be_open_none_is_before_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace = Pace()
    pace._left = RANGES  # noqa: SLF001  as after slow rows
    assert pace.ahead(wanted(1, 2), str, os.O_RDONLY) is not None
    monkeypatch.setattr(local_ahead, "_most_files", lambda: LEAST_LIMIT - 1)
    assert pace.ahead(wanted(1, 2), str, os.O_RDONLY) is None


def test_ranges_of_files(folder: Path) -> None:
    store = slow(LocalStore(folder))
    store.read("c/0")
    row = [("c/1", 5, 10, None), ("c/1", 20, 7, None), ("c/2", 0, WHOLE, None), ("c/3", 2, 3, None)]
    found = read_row(store, row)
    assert found == [data_of(1)[5:15], data_of(1)[20:27], data_of(2), data_of(3)[2:5]]
    # One that is asked for again, after others, is opened again.
    assert read_row(slow(store), wanted(1, 2, 1)) == [data_of(1), data_of(2), data_of(1)]


@pytest.mark.parametrize("kind", ["missing", "link", "pipe", "folder", "odd key", "short"])
def test_a_row_ends_before_what_is_unusual(folder: Path, kind: str) -> None:
    """As it does where nothing is opened before its turn; `read` says what it is."""
    place, row = folder / "c" / "7", wanted(*range(COUNT))
    place.unlink()
    if kind == "link":
        place.symlink_to(folder / "c" / "8")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "odd key":
        row[7] = ("c/..", 0, WHOLE, None)
    elif kind == "short":
        place.write_bytes(b"12")
        row[7] = ("c/7", 1, 2, None)
    plain, ahead = LocalStore(folder), slow(LocalStore(folder))
    for store in (plain, ahead):
        store.read("c/0")
    assert read_row(ahead, row) == read_row(plain, row) == [data_of(n) for n in range(7)]


def test_a_row_that_is_stopped(folder: Path) -> None:
    store = slow(LocalStore(folder))
    store.read("c/0")
    found = read_row(store, wanted(*range(COUNT)), stop_after=1)
    assert 5 < len(found) < 15
    assert len(local_ahead._room) == ALL_FILES  # noqa: SLF001


# ------------------------------------------------------------------------------ read one by one


def start(store: LocalStore, *numbers: int, offset: int = 0, nbytes: int = WHOLE) -> Any:
    keys = [f"c/{number}" for number in numbers]
    return store.start_reads(keys, [offset] * len(keys), [nbytes] * len(keys))


def opened(folder: Path, *, is_slow: bool) -> LocalStore:
    """A store that knows its folder."""
    store = LocalStore(folder)
    store.read("c/0")
    return slow(store) if is_slow else store


def test_ranges_around_one_that_was_waited_for(
    folder: Path, advised: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_ahead, "AHEAD_NBYTES", 10 * 50)
    monkeypatch.setattr(local_ahead, "SLOW_ROW_S", 1e9)  # nothing is waited for
    store = opened(folder, is_slow=False)
    pending = start(store, *range(COUNT), offset=1, nbytes=50)
    assert bytes(pending.result(30).data) == data_of(30)[1:51]
    assert not advised, "the first is read plainly"
    slow(store)
    before = open_files()
    assert bytes(pending.result(31).data) == data_of(31)[1:51]
    assert open_files() == before
    around = [*range(32, 42), *range(29, 20, -1)]
    assert advised == [(str(n), 1, 50) for n in around], "ten on either side, none that was read"
    advised.clear()
    slow(store)
    pending.result(32)
    assert advised == [("42", 1, 50)]
    advised.clear()
    pending.result(60)
    assert [int(name) for name, *_ in advised] == [*range(61, 71), *range(59, 49, -1)]
    advised.clear()
    pending.result(59)
    assert not advised, "60 came at once, and nothing was known of it, so it is not worth it"


def test_only_what_was_read_plainly_says_whether_it_is_worth_it(
    folder: Path, advised: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all reads are slow, one of so many is not told of."""
    monkeypatch.setattr(local_ahead, "SLOW_ROW_S", -1.0)
    monkeypatch.setattr(local_ahead, "SLOW_RANGE_S", 0.0)
    monkeypatch.setattr(local_ahead, "SLOW_BYTE_S", 0.0)
    monkeypatch.setattr(local_ahead, "SLOW", 1)
    monkeypatch.setattr(local_ahead, "RANGES", 20)
    monkeypatch.setattr(local_ahead, "FILES", 10)
    pending = start(opened(folder, is_slow=False), *range(COUNT))
    for row in range(COUNT):
        assert bytes(pending.result(row).data) == data_of(row)
    told = {int(name) for name, *_ in advised}
    plain = [row for row in range(COUNT) if row not in told]
    assert plain == list(range(0, COUNT, 30)), "20 reads, the first of which tells of 10"
    assert len(told) == len(advised)


def test_large_files_are_not_read_ahead_as_a_whole(
    folder: Path, advised: list[tuple[str, int, int]]
) -> None:
    with (folder / "c" / "1").open("wb") as file:
        file.truncate(1 << 34)
    pending = start(opened(folder, is_slow=True), 0, 1)
    pending.result(0)
    assert advised == [("1", 0, AHEAD_NBYTES)]
    assert pending._usual_nbytes == len(data_of(0))  # noqa: SLF001


@pytest.mark.parametrize("kind", ["missing", "link", "pipe", "folder", "odd key", "short"])
def test_whatever_is_unusual_is_told_by_its_own_read(folder: Path, kind: str) -> None:
    place, key = folder / "c" / "7", "c/7"
    place.unlink()
    if kind == "link":
        (folder / "outside").write_bytes(b"1")
        place.symlink_to("/dev/null")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "odd key":
        key = "c/.."
    elif kind == "short":
        place.write_bytes(b"12")
    keys, offsets = ["c/6", key, "c/8"], [0, 3, 0]
    found = []
    for is_slow in (False, True):
        pending = opened(folder, is_slow=is_slow).start_reads(keys, offsets, [WHOLE] * 3)
        answers: list[object] = []
        for row in range(3):
            try:
                blob = pending.result(row)
                answers.append(blob and bytes(blob.data))
            except gpuzarr.StoreError as error:
                answers.append(str(error))
        found.append(answers)
    assert found[0] == found[1]
    assert found[0][::2] == [data_of(6), data_of(8)]


def test_stores_that_start_reads_early_say_so(folder: Path) -> None:
    class Early(LocalStore):
        def start_reads(self, *arguments: Any) -> Any:
            return super().start_reads(*arguments)

    assert reads_when_asked(LocalStore(folder))
    assert not reads_when_asked(Early(folder))


# --------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("chunk", "is_few"), [(16, False), (40, False), (16, True), (40, True), (200, True)]
)
def test_arrays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    advised: list[tuple[str, int, int]],
    chunk: int,
    *,
    is_few: bool,
) -> None:
    """Chunks that are read in rows, and one by one; of some only what is needed."""
    values = np.arange(400 * 300, dtype=np.int32).reshape(400, 300)
    for key, data in plain_store(values, (chunk, chunk)).items():
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "c" / "1" / "1").unlink()
    if is_few:
        monkeypatch.setattr(few, "MOST_CHUNKS", 1 << 10)
        monkeypatch.setattr(cpu_few, "READ_NBYTES", 0)
    expected = values.copy()
    expected[chunk : 2 * chunk, chunk : 2 * chunk] = 0
    monkeypatch.setattr(local_ahead, "SLOW_ROW_S", -1.0)
    monkeypatch.setattr(local_ahead, "SLOW_RANGE_S", 0.0)
    monkeypatch.setattr(local_ahead, "SLOW_BYTE_S", 0.0)
    array = gpuzarr.open_array(tmp_path, device="cpu")
    keys: list[Any] = [..., (slice(3, 390), slice(5, 200)), (17, slice(None)), (slice(None), 33)]
    for key in keys:
        for _ in range(3):
            np.testing.assert_array_equal(array[key], expected[key])
    assert advised
