"""Iterations that end early, or that begin in several threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores.store import WHOLE, Blob
from tests.arrays import CountingStore, plain_store

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = np.arange(64 * 64, dtype=np.int32).reshape(64, 64)
LIMIT_S = 60


class WaitingStore(CountingStore):
    """A store whose chunks come when they are let go."""

    def __init__(self, values: dict[str, bytes]) -> None:
        super().__init__(values)
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        if key.startswith("c/"):
            self.asked.set()
            assert self.let_go.wait(LIMIT_S)
        return super().read(key, offset, nbytes, allocate)


@pytest.mark.parametrize("threads", [1, 2])
def test_closing_leaves_out_the_rest_of_a_batch(threads: int) -> None:
    store = WaitingStore(plain_store(NUMBERS, (4, 4)))
    array = gpuzarr.open_array(store, device="cpu", threads=threads)
    batches = iter(gpuzarr.Loader(array, crop=(64, 64), batch_size=1))
    assert store.asked.wait(LIMIT_S)
    store.reads.clear()
    closing = threading.Thread(target=batches.close)
    closing.start()
    assert batches._batches._shared.stopped.wait(LIMIT_S)  # noqa: SLF001  no other way to know
    store.let_go.set()
    closing.join(LIMIT_S)
    assert not closing.is_alive()
    assert len(store.reads) <= 2 * threads, "of 256 chunks"


def test_iterations_may_begin_in_many_threads() -> None:
    array = gpuzarr.open_array(plain_store(NUMBERS, (8, 8)))
    loader = gpuzarr.Loader(
        array, crop=(5, 6), batch_size=4, shuffle=True, cache_nbytes=8 * 8 * 4 * 20, prefetch=2
    )

    def work(_: int) -> int:
        got = 0
        for batch in loader:  # until another thread begins an iteration
            for window in batch:
                y, x = divmod(int(window[0, 0]), 64)
                assert np.array_equal(window, NUMBERS[y : y + 5, x : x + 6])
                got += 1
        return got

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, range(60), timeout=LIMIT_S)) > 0
    assert not [t for t in threading.enumerate() if t.name == "gpuzarr-loader"]
