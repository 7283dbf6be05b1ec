"""Ctrl-C at any place of a read: it arrives, nothing goes on behind its back, and nothing is stuck.

Python runs signal handlers where a function begins and where a call returns. A profiler's hook is
called at the same places, so one that raises KeyboardInterrupt at its n-th call in code of ours is
an interrupt there.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import zipfile
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores.zip.store import ZipStore
from tests.faults.cases import ENGINES, LAYOUTS, VALUES, WAYS, engine
from tests.faults.faulty import FaultyStore
from tests.faults.programs import drain
from tests.stored import compress
from tests.test_concurrency import with_limit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

# What comes in a finalizer or a generator that is thrown away, Python reports and forgets.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OURS = str(Path(gpuzarr.__file__).parent)
TRIES = 25
"""Places of a read that are tried, evenly spread over all of them."""


def interrupted(work: Callable[[], Any], at: int) -> int | None:
    """Run `work` with an interrupt at place `at`; else gives how many places there are."""
    places = count(1)
    met = 0

    def hook(frame: FrameType, event: str, _: Any) -> None:
        nonlocal met
        if event in {"call", "c_return"} and frame.f_code.co_filename.startswith(OURS):
            met = next(places)
            if met == at:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(hook)
    try:
        work()
    finally:
        sys.setprofile(None)
    return met


def interrupt_everywhere(
    make: Callable[[], tuple[FaultyStore, Callable[[], Any], np.ndarray[Any, Any]]],
    tries: int = TRIES,
) -> None:
    """Interrupt a read at places all over it, and read again each time."""
    _, work, due = make()
    total = interrupted(work, 0)
    assert total
    for at in range(1, total + 1, max(1, total // tries)):
        store, work, due = make()
        try:  # noqa: SIM105  mypy takes what follows for unreachable
            interrupted(work, at)
        except KeyboardInterrupt:
            pass  # its traceback holds what was going on
        drain()
        store.taken()
        drain()
        assert not store.taken(), f"something is still read, after an interrupt at {at}"
        found: list[Any] = []
        with_limit(partial(_append, found, work))
        np.testing.assert_array_equal(np.asarray(found[0]), due)
    gc.collect()
    names = [thread.name for thread in threading.enumerate()]
    assert "gpuzarr-loader" not in names


def _append(found: list[Any], work: Callable[[], Any]) -> None:
    found.append(work())


@pytest.mark.sampled(one_in=2)
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("layout", ["zstd", "blosc", "zstd shards"])
def test_an_interrupt_anywhere_in_a_read(name: str, layout: str) -> None:
    with engine(name) as opened:
        values = LAYOUTS[layout].stored()

        def make() -> tuple[FaultyStore, Callable[[], Any], np.ndarray[Any, Any]]:
            store = FaultyStore(values)
            array = opened(store)
            return store, lambda: WAYS["[part]"](array), WAYS["[part]"].of(VALUES)

        interrupt_everywhere(make)


@pytest.mark.parametrize("way", ["read_batch", "Loader", "Loader, cache"])
@pytest.mark.parametrize("name", ["cpu, threads", "cuda"])
def test_an_interrupt_anywhere_in_batches(name: str, way: str) -> None:
    """With one loader for all: its cache and its thread must come out of it whole."""
    with engine(name) as opened:
        values = LAYOUTS["zstd"].stored()
        store = FaultyStore(values)
        array = opened(store)
        work: Callable[[], Any] = lambda: WAYS[way](array)  # noqa: E731
        if way == "Loader, cache":
            options: dict[str, Any] = {"cache_nbytes": 9999, "prefetch": 0}
            loader = gpuzarr.Loader(array, crop=(6, 4), batch_size=2, **options)

            def work() -> Any:
                loader.set_epoch(0)
                return np.concatenate([np.asarray(batch) for batch in loader])

        interrupt_everywhere(lambda: (store, work, WAYS[way].of(VALUES)))


GZIP = {"name": "gzip", "configuration": {"level": 1}}


def compressed_shards() -> dict[str, bytes]:
    """Shards that are compressed as a whole."""
    values = LAYOUTS["plain shards"].stored()
    document = json.loads(values["zarr.json"])
    document["codecs"].append(GZIP)
    return {
        key: json.dumps(document).encode() if key == "zarr.json" else compress(data)
        for key, data in values.items()
    }


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["shards", "archive"])
def test_an_interrupt_anywhere_in_what_others_wait_for(
    kind: str, threads: int, tmp_path: Path
) -> None:
    """An object that one thread makes for all: the next ones make it themselves."""
    if kind == "shards":
        inner: Any = compressed_shards()
    else:
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for key, data in LAYOUTS["plain shards"].stored().items():
                archive.writestr(key, data)

    def make() -> tuple[FaultyStore, Callable[[], Any], np.ndarray[Any, Any]]:
        store = FaultyStore(inner if kind == "shards" else ZipStore(tmp_path / "a.zip"))
        array = gpuzarr.open_array(store, threads=threads)
        return store, lambda: array[1:11, 2:], VALUES[1:11, 2:]

    interrupt_everywhere(make, 50)
