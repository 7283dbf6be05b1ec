"""What runs of small chunks hold and read: memory of stores' own, large objects, an interrupt."""

from __future__ import annotations

import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores.store import WHOLE, Blob
from tests.arrays import CountingStore, plain_store, sharded_store
from tests.few_ways import CHUNKS, WAYS, read_few
from tests.stored import assert_result, compress

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES = np.arange(1, 401, dtype="i4")


@pytest.fixture(autouse=True, params=[(0, CHUNKS), *((128, way) for way in WAYS)])
def _few(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """All ways to plan."""
    most, way = request.param
    read_few(monkeypatch, way, most)


class OddStore(CountingStore):
    """Asks for memory and gives other memory: it tried twice, or remembers what it read."""

    asks = 0

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        blob = super().read(key, offset, nbytes)
        if blob is not None:
            allocate(len(blob.data) + self.asks)
        return blob


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("asks", [0, 5])
def test_a_store_may_give_other_memory_than_it_asked_for(threads: int, asks: int) -> None:
    # Once `Fetcher._objects` took the bytes to lie in its memory because as many of it were used.
    for stored in (plain_store(VALUES, (4,)), sharded_store(VALUES, (100,), (4,))):
        store = OddStore(stored)
        store.asks = asks
        assert_result(gpuzarr.open_array(store, threads=threads)[...], VALUES)


class LargeStore(CountingStore):
    """Its objects are larger than their chunks can be."""

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        if not key.startswith("c/"):
            return super().read(key, offset, nbytes, allocate)
        memory = memoryview(allocate(1 << 22))
        return Blob(memory)


def test_large_objects_of_small_chunks_are_not_held_together() -> None:
    # Once a run read as many objects as it had chunks before it decoded one, whatever their size.
    array = gpuzarr.open_array(LargeStore(plain_store(VALUES, (4,))), threads=1)
    tracemalloc.start()
    try:
        with pytest.raises(gpuzarr.DecodeError):
            array[...]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


class CopyingStore(CountingStore):
    """It puts bytes where it is told to."""

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        blob = super().read(key, offset, nbytes)
        if blob is None:
            return None
        memory = memoryview(allocate(len(blob.data)))
        memory[:] = blob.data
        return Blob(memory, blob.validator)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("layout", [plain_store, None])
def test_large_objects_that_are_sound_are_read(threads: int, layout: Any) -> None:
    def encode(chunk: bytes) -> bytes:
        return compress(chunk) + bytes(1 << 19)  # gzip may be padded with zeros

    gzip = {"name": "gzip", "configuration": {"level": 1}}
    values = VALUES[:160]
    if layout is None:
        store = sharded_store(values, (80,), (4,), encode=encode, inner_codecs=("bytes", gzip))
    else:
        store = layout(values, (4,), encode=encode, codecs=("bytes", gzip))
    # Once parts that gave up, since so much was held, were counted as done.
    for one in (store, CopyingStore(store)):
        out = np.full_like(values, -1)
        gpuzarr.open_array(one, threads=threads).read(out=out)
        np.testing.assert_array_equal(out, values)


class InterruptedStore(CountingStore):
    """The caller's thread is interrupted while it reads."""

    caller = interrupted_at = 0

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        if self.caller:
            if threading.get_ident() == self.caller:
                for _ in range(20):  # until the helper is at it, where it may be
                    time.sleep(1e-3 * (len(self.reads) < 2))
                self.interrupted_at = len(self.reads)
                raise KeyboardInterrupt
            time.sleep(2e-3)
        return super().read(key, offset, nbytes, allocate)


def test_helpers_stop_when_the_caller_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    # Once helpers read all of their part, with numbers, while the caller waited in `abort`.
    monkeypatch.setattr("gpuzarr.engines.cpu.task.LEAST_RUN", 8)
    store = InterruptedStore(plain_store(VALUES, (4,)))
    array = gpuzarr.open_array(store, threads=2)
    store.caller = threading.get_ident()
    for _ in range(100):  # it may be that helpers read everything while the caller decodes
        store.taken()
        try:
            array[...]
        except KeyboardInterrupt:
            break
    else:
        pytest.fail("the caller never reads")
    assert len(store.taken()) - store.interrupted_at < 20
