"""One thing goes wrong in a store: the right data, or the right error, in every way to read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from tests.effort import FULL
from tests.faults.cases import ENGINES, FILL, LAYOUTS, VALUES, WAYS, engine, objects
from tests.faults.faulty import (
    BROKEN_STORAGE,
    FOREIGN,
    HARMLESS,
    KINDS,
    EagerFaultyStore,
    Fault,
    FaultyStore,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.cases import Layout, WayToRead

STORES = [FaultyStore, EagerFaultyStore]
SHARE = 5 if FULL else 61
"""One in so many combinations is tried; which ones follows from their numbers."""


def attempt(read: Callable[[], Any]) -> Any:
    """What it gives, or the exception that it raises."""
    try:
        return read()
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001  it is judged
        return error


def check_names(error: BaseException, key: str) -> None:
    """The error says where it happened: the object, and the store."""
    assert isinstance(error, gpuzarr.GpuzarrError), repr(error)
    assert repr(key) in str(error)
    assert error.store == "faulty"
    assert error.path == ""


def check_failures(error: gpuzarr.ChunkError, layout: Layout, key: str) -> None:
    """Chunks of this object alone failed, each named once."""
    coords = [failure.coords for failure in error.failures]
    assert coords
    assert len(set(coords)) == len(coords)
    assert {failure.key for failure in error.failures} == {key}
    inside = [range(part.start, part.stop) for part in layout.box(key)]
    for place in coords:
        starts = [at * size for at, size in zip(place, layout.grid, strict=True)]
        assert all(start in part for start, part in zip(starts, inside, strict=True))


def check(found: Any, way: WayToRead, layout: Layout, kind: str, key: str) -> None:
    """Judge what a read gave while an object of the array was not as it should be."""
    due = way.of(VALUES)
    if not way.needs(layout, key) or kind in HARMLESS:
        assert_data(found, due)
    elif kind in FOREIGN:
        assert type(found).__name__ == kind
        assert key in " ".join(getattr(found, "__notes__", ()))
    elif kind in BROKEN_STORAGE:
        assert isinstance(found, gpuzarr.StoreError), repr(found)
        assert found.key == key
        check_names(found, key)
    elif kind == "MemoryError":
        assert isinstance(found, gpuzarr.MemoryLimitError), repr(found)
        check_names(found, key)
    elif kind == "missing":
        with_hole = VALUES.copy()
        with_hole[layout.box(key)] = FILL
        assert_data(found, way.of(with_hole))
    elif kind == "replaced" and not layout.sharding:
        assert_data(found, due)
    elif kind == "wrong" and not layout.checked and isinstance(found, np.ndarray):
        assert (found.shape, found.dtype) == (due.shape, due.dtype)  # nothing can tell
    elif kind == "long" and isinstance(found, np.ndarray):
        assert_data(found, due)  # what is too much was left out
    elif isinstance(found, gpuzarr.StoreError):
        assert kind in {"short", "empty", "long"}
        check_names(found, key)
    else:
        assert isinstance(found, gpuzarr.ChunkError), repr(found)
        check_names(found, key)
        check_failures(found, layout, key)


def assert_data(found: Any, due: np.ndarray[Any, Any]) -> None:
    """The read gave the values."""
    assert isinstance(found, np.ndarray), repr(found)
    assert (found.shape, found.dtype) == (due.shape, due.dtype)
    np.testing.assert_array_equal(found, due)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_fault_gives_the_right_data_or_the_right_error(name: str, layout: Layout) -> None:
    """And the read after it is right."""
    values = layout.stored()
    keys = objects(values)
    number = sorted(ENGINES).index(name) + 3 * sorted(LAYOUTS).index(layout.name)
    with engine(name) as opened:
        for make in STORES:
            store = make(values)
            arrays = {known: opened(store) for known in (False, True)}
            arrays[True][...]  # its shard indexes are known from then on
            for kind in KINDS:
                for way in WAYS.values():
                    number += 1
                    if number % SHARE:
                        continue
                    key = keys[number // SHARE % len(keys)]
                    known = number // SHARE % 2 == 0
                    array = arrays[True] if known else opened(store)
                    store.faults = [Fault(kind, key)]
                    read = partial(way, array)
                    check(attempt(read), way, layout, kind, key)
                    store.faults = []
                    assert_data(attempt(read), way.of(VALUES))
