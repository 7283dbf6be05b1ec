"""Rings: many small files by one system call."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores import uring
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.store import WHOLE
from gpuzarr.stores.uring import FILES, PATH_NBYTES, USUAL_NBYTES, Ring
from tests.arrays import plain_store
from tests.stores.rings import (
    COUNT,
    USUAL,
    calls,
    data_of,
    needs_rings,
    opened,
    own_rings,
    store,
    unused,
    whole,
)
from tests.stores.rows import rows

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["calls", "own_rings", "store"]


@needs_rings
@pytest.mark.parametrize("count", [4, FILES - 1, FILES, FILES + 1, COUNT])
def test_files_are_read_by_one_call(store: LocalStore, calls: list[int], count: int) -> None:
    for begin in range(0, COUNT - count + 1, 7):  # the ring goes round
        calls.clear()
        numbers = range(begin, begin + count)
        assert rows(store, whole(*numbers)) == [data_of(n) for n in numbers]
        assert calls == [FILES] * (count // FILES) + [count % FILES] * (count % FILES > 0)


@needs_rings
def test_a_row_shows_how_large_files_are(
    store: LocalStore, calls: list[int], tmp_path: Path
) -> None:
    fresh = opened(tmp_path, usual=0)
    for expected in ([], [8], [8]):
        calls.clear()
        assert rows(fresh, whole(*range(8))) == [data_of(n) for n in range(8)]
        assert calls == expected
    for large, expected in (
        (3000, [5]),
        (3000, [5, 3]),  # fewer at a time, as if some were missing
        (USUAL_NBYTES + 1, [5]),
        (USUAL_NBYTES + 1, []),
    ):
        (tmp_path / "c" / "5").write_bytes(b"5" * large)
        calls.clear()
        found = rows(fresh, whole(*range(8)))
        assert found == [b"5" * large if n == 5 else data_of(n) for n in range(8)]
        assert calls == expected
    assert rows(store, whole(*range(8)))[5] == b"5" * large


@needs_rings
@pytest.mark.parametrize("place", [0, 3, FILES - 1, FILES, COUNT - 1])
@pytest.mark.parametrize(
    "what", ["missing", "folder", "pipe", "link", "dangling", "empty", "odd", "device", "large"]
)
def test_a_row_is_what_it_is_without_a_ring(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, place: int
) -> None:
    row, path = whole(*range(COUNT)), tmp_path / "c" / f"{place}"
    path.unlink()
    match what:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to(tmp_path / "c" / "7")
        case "dangling":
            path.symlink_to(tmp_path / "c" / "none")
        case "device":
            path.symlink_to("/dev/null")
            store = opened(tmp_path, follow_symlinks=True)
        case "empty":
            path.write_bytes(b"")
        case "odd":
            row[place] = ("c/..", 0, WHOLE, None)
        case "large":
            path.write_bytes(b"1" * 10_000)
    found = rows(store, row)
    monkeypatch.setattr(uring, "LEAST_FILES", 1 << 30)
    assert found == rows(store, row)
    assert found[:place] == [data_of(n) for n in range(place)]


@needs_rings
def test_ranges_and_checked_objects_are_left_to_others(store: LocalStore, calls: list[int]) -> None:
    for odd in (("c/5", 1, WHOLE, None), ("c/5", 0, 3, None), ("c/5", 0, WHOLE, (1, 2))):
        row = whole(*range(10))
        row[5] = odd
        calls.clear()
        found = rows(store, row)
        assert found[:5] == [data_of(n) for n in range(5)]
        assert len(found) == (5 if odd[3] else 10)
        assert calls == [5]
        store._manner.nbytes = USUAL  # noqa: SLF001


@needs_rings
def test_long_paths_and_nuls(tmp_path: Path, calls: list[int]) -> None:
    for folder in ("é" * 20, f"{'a' * 120}/{'b' * 120}", "é" * 110):
        place = tmp_path / folder
        place.mkdir(parents=True)
        row: list[Any] = []
        for number in range(8):
            (place / str(number)).write_bytes(data_of(number))
            row.append((f"{folder}/{number}", 0, WHOLE, None))
        store = LocalStore(tmp_path)
        store.read(row[0][0])
        store._manner.nbytes = USUAL  # noqa: SLF001
        calls.clear()
        assert rows(store, row) == [data_of(n) for n in range(8)]
        fits = len(os.fsencode(place)) + 2 < PATH_NBYTES
        assert calls == ([8] if fits else [])
        assert fits == (len(folder) == 20)
    row[3] = (f"{folder}/3\0", 0, WHOLE, None)
    assert rows(store, row) == [data_of(n) for n in range(3)]


@needs_rings
def test_it_stops_when_told(store: LocalStore, calls: list[int]) -> None:
    found = rows(store, whole(*range(COUNT)), lambda: True)
    assert found == [data_of(n) for n in range(FILES)]
    assert calls == [FILES]


@needs_rings
def test_many_threads(store: LocalStore) -> None:
    good: list[bool] = []

    def read() -> None:
        for begin in range(0, 100, 3):
            numbers = range(begin, begin + 80)
            good.append(rows(store, whole(*numbers)) == [data_of(n) for n in numbers])

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(good) == 6 * 34
    assert all(good)
    assert 0 < len(unused()) <= 6


@needs_rings
def test_a_ring_goes_with_all_it_has() -> None:
    ring = Ring()
    gone = weakref.ref(ring)
    assert ring.read([b"/none"], os.O_RDONLY, 100) == []
    del ring
    gc.collect()
    assert gone() is None
    for _ in range(3000):  # or limits of the system are reached
        Ring()


# --------------------------------------------------------------------------------------- arrays


@needs_rings
@pytest.mark.parametrize("threads", [1, 3])
def test_arrays(tmp_path: Path, calls: list[int], threads: int) -> None:
    values = np.arange(300 * 200, dtype="i4").reshape(300, 200)
    for name, data in plain_store(values, (10, 8)).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "c" / "4" / "9").unlink()
    expected = values.copy()
    expected[40:50, 72:80] = 0
    array = gpuzarr.open_array(tmp_path, device="cpu", threads=threads)
    keys: list[Any] = [..., (slice(3, 290), slice(5, 180)), (47, slice(None)), (slice(None), 74)]
    for _ in range(2):
        for key in keys:
            np.testing.assert_array_equal(array[key], expected[key])
    assert sum(calls) > 1000
