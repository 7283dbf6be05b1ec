"""Ranges of local files that are read one behind another: what `read` gives, or left to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cpu.fetcher import EncodedMemory
from gpuzarr.errors import StoreError
from gpuzarr.stores.files import read_at
from gpuzarr.stores.references import files as references_files
from gpuzarr.stores.references.store import ReferenceStore
from gpuzarr.stores.store import WHOLE, row_reader
from tests.stores.rows import never, rows

if TYPE_CHECKING:
    from pathlib import Path

    from gpuzarr.stores.store import Wanted

BODY = np.random.default_rng(1).bytes(5000)
REFS: dict[str, Any] = {
    "0": ["a.h5", 0, 100],
    "1": ["a.h5", 100, 50],
    "2": ["a.h5", 150, 0],
    "3": ["a.h5", 150, 850],
    "4": ["a.h5", 2000, 10],
    "same": ["a.h5", 0, 100],
    "b": ["b.h5", 100, 50],
    "whole": ["b.h5"],
    "inline": "text",
    "end": ["a.h5", 4990, 10],
    "beyond": ["a.h5", 4990, 11],
    "gone": ["c.h5", 0, 1],
    "bad": ["a.h5", -1, 1],
    "remote": ["s3://bucket/a", 0, 1],
}
GOOD = ["0", "1", "2", "3", "4", "same", "b", "whole", "inline", "end"]
BAD = [*(key for key in REFS if key not in GOOD), "missing", "../x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("row")
    (folder / "a.h5").write_bytes(BODY)
    (folder / "b.h5").write_bytes(BODY[::-1])
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> ReferenceStore:
    return ReferenceStore.from_document(REFS, base=folder)


def read(store: ReferenceStore, key: str, offset: int = 0, nbytes: int = WHOLE) -> bytes:
    blob = store.read(key, offset, nbytes)
    assert blob is not None
    return bytes(blob.data)


def whole(*keys: str) -> list[Wanted]:
    return [(key, 0, WHOLE, None) for key in keys]


def test_a_store_of_references_has_it(store: ReferenceStore) -> None:
    assert row_reader(store) is not None


@given(keys=st.lists(st.sampled_from([*GOOD, *BAD]), max_size=12))
def test_what_read_gives_up_to_what_is_unusual(store: ReferenceStore, keys: list[str]) -> None:
    usual = [*keys, "missing"]
    usual = usual[: next(place for place, key in enumerate(usual) if key in BAD)]
    assert rows(store, whole(*keys)) == [read(store, key) for key in usual]


def test_ranges(store: ReferenceStore) -> None:
    wanted: list[Wanted] = [
        ("0", 10, 90, None),
        ("1", 0, 10, None),  # behind it in the file
        ("3", -5, WHOLE, None),
        ("inline", 1, 2, None),
        ("whole", 4000, WHOLE, None),
    ]
    assert rows(store, wanted) == [read(store, *row[:3]) for row in wanted]
    assert rows(store, [*wanted, ("0", 0, 101, None), ("0", 0, 1, None)]) == rows(store, wanted)


def test_neighbours_are_one_call(store: ReferenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    real = read_at

    def count(descriptor: int, memory: memoryview, offset: int) -> int:
        calls.append((offset, len(memory)))
        return real(descriptor, memory, offset)

    monkeypatch.setattr(references_files, "read_at", count)
    found = rows(store, whole("0", "1", "2", "3", "4", "same", "1", "b"))
    assert calls == [(0, 1000), (2000, 10), (0, 150), (100, 50)]
    assert b"".join(found[:4]) == BODY[:1000]
    calls.clear()
    monkeypatch.setattr(references_files, "JOINED_NBYTES", 120)
    assert b"".join(rows(store, whole("0", "1", "2", "3"))) == BODY[:1000]
    assert calls == [(0, 150), (150, 850)]


def test_files_that_are_not_those_expected(store: ReferenceStore) -> None:
    blob = store.read("0")
    assert blob is not None
    right = blob.validator
    wanted: list[Wanted] = [("0", 0, WHOLE, right), ("1", 0, WHOLE, None), ("3", 0, 1, "other")]
    assert rows(store, wanted) == [read(store, "0"), read(store, "1")]
    assert rows(store, wanted[::-1]) == []


def test_asks_whether_to_stop(store: ReferenceStore) -> None:
    answers = iter([False, False, True])
    assert len(rows(store, whole(*["0"] * 9), lambda: next(answers))) == 3


def test_a_file_that_becomes_shorter_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.h5").write_bytes(BODY)
    store = ReferenceStore.from_document(REFS, base=tmp_path)
    real = read_at

    def cut_off(descriptor: int, memory: memoryview, offset: int) -> int:
        if offset:
            os.truncate(tmp_path / "a.h5", 10)
        return real(descriptor, memory, offset)

    monkeypatch.setattr(references_files, "read_at", cut_off)
    assert rows(store, whole("0", "4", "1")) == [BODY[:100]]
    with pytest.raises(StoreError, match="the object has 10"):
        store.read("4")


def test_nothing_is_allocated_for_what_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ReferenceStore.from_document({"huge": ["a.h5", 0, 2**50]}, base=folder)
    monkeypatch.setattr(EncodedMemory, "allocate", None)
    assert store.read_row(whole("huge"), EncodedMemory(), never) == []
