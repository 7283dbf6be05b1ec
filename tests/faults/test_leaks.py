"""Failed, abandoned and dropped reads leave nothing behind: no threads, files, memory."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores.local import LocalStore
from tests.faults.cases import LAYOUTS, VALUES, WAYS, engine, objects
from tests.faults.faulty import EagerFaultyStore, Fault, FaultyStore, RowFaultyStore
from tests.faults.programs import drain, write_files
from tests.open_files import open_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = ("StoreError", "shrinks", "short", "wrong", "replaced", "MemoryError", "RuntimeError")
GROWTH_NBYTES = 250_000
"""Memory that is kept for the next reads comes and goes."""


def threads() -> set[str]:
    """Names of threads that no pool keeps."""
    for thread in threading.enumerate():
        if thread.name.startswith(("eager", "gpuzarr-loader")):
            thread.join(60)
    return {thread.name for thread in threading.enumerate()}


def check_no_growth(work: Callable[[int], Any], times: int = 7) -> None:
    """Some calls take no more than as many calls before them did."""
    for number in range(times):
        work(number)
    gc.collect()
    before = threads(), open_files()
    tracemalloc.start()
    try:
        for number in range(times):  # once more: what is remembered by name, too
            work(number)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        for number in range(times):
            work(number)
        gc.collect()
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (threads(), open_files()) == before
    assert now - held < GROWTH_NBYTES


NAMES = ["cpu, threads", "few, threads", "cuda", "cuda, few"]


@pytest.mark.sampled(one_in=2)
@pytest.mark.parametrize("name", NAMES)
def test_failed_reads_leave_nothing(name: str, tmp_path: Path) -> None:
    with engine(name) as opened:
        cases = []
        for layout in (LAYOUTS["zstd shards"], LAYOUTS["blosc"]):
            values = layout.stored()
            root = tmp_path / layout.name
            write_files(root, values)
            stores = FaultyStore(values), EagerFaultyStore(values), RowFaultyStore(LocalStore(root))
            cases += [(store, opened(store), objects(values)[1]) for store in stores]
        for store, array, _ in cases:
            np.testing.assert_array_equal(np.asarray(array[...]), VALUES, store.name)
        ways = list(WAYS.values())

        def fail(number: int) -> None:
            for place, (store, array, key) in enumerate(cases):
                store.faults, store.hits = [Fault(KINDS[(number + place) % len(KINDS)], key)], {}
                with suppress(gpuzarr.GpuzarrError, RuntimeError):
                    ways[(number + place) % len(ways)](array)
                store.faults = []
                store.taken()

        check_no_growth(fail)
        if opened.fake is not None:
            for _, array, _ in cases:
                pool = array._prepare(array._snapshot).engine.pool  # type: ignore[attr-defined]  # noqa: SLF001
                assert pool.lent_nbytes == 0, "memory of the host was not given back"


@pytest.mark.parametrize("name", NAMES)
def test_reads_that_nobody_waits_for_leave_nothing(name: str) -> None:
    """Handles of started reads that are dropped, whole ones and failed ones."""
    with engine(name) as opened:
        values = LAYOUTS["zstd"].stored()
        store = EagerFaultyStore(values)
        arrays = opened(values), opened(store), opened({**values, "c/1/1": b"damaged"})

        def drop(number: int) -> None:
            store.faults = [Fault("StoreError", "c/2/2")] if number % 2 else []
            for array in arrays:
                array.read_async()
                if name.startswith("cuda"):
                    out = np.zeros(VALUES.shape, VALUES.dtype)
                    array.read_async(out=out)
            if not name.startswith("cuda"):
                drain()
            store.taken()

        check_no_growth(drop)
        np.testing.assert_array_equal(np.asarray(arrays[0][...]), VALUES)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_work_of_a_dropped_read_on_the_device_is_done(layout: Any) -> None:
    """What is on the stream sees the data, as promised, although nobody asks how it ended."""
    with engine("cuda") as opened:
        array = opened(layout.stored())
        assert opened.fake is not None
        out = np.zeros(VALUES.shape, VALUES.dtype)
        array.read_async(out=out)
        gc.collect()
        array[3:9]  # which takes the same memory
        stream = opened.fake.current_stream()
        opened.fake.record(stream).wait()
        np.testing.assert_array_equal(out, VALUES)


def test_iterations_that_are_dropped_or_fail_leave_nothing() -> None:
    values = LAYOUTS["zstd"].stored()
    store = FaultyStore(values)
    array = gpuzarr.open_array(store, threads=2)

    def work(number: int) -> None:
        store.faults = [Fault("StoreError", "c/5/3")] if number % 3 == 0 else []
        loader = gpuzarr.Loader(
            array, crop=(2, 3), batch_size=2, cache_nbytes=500 * (number % 2), shuffle=True
        )
        batches = iter(loader)
        with suppress(gpuzarr.StoreError):
            for count, _ in enumerate(batches):
                if count == number:
                    break
        del batches, loader
        store.taken()

    check_no_growth(work)
