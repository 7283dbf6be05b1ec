"""The requests of a store: whose turn it is, what becomes of those that nobody waits for."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import StoreError
from gpuzarr.many import make_request
from gpuzarr.pending import read_selection
from gpuzarr.stores.mounted import MountedStores
from gpuzarr.stores.remote import event_loop, in_flight
from gpuzarr.stores.remote.in_flight import Arriving, InFlight
from gpuzarr.stores.store import Blob, gap_of, give_up_when
from tests.arrays import CountingStore, plain_store, sharded_store
from tests.cuda_devices import fake as fake  # noqa: PLC0414  a fixture
from tests.cuda_devices import to_numpy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.stores.store import Pending
    from tests.engines.cuda.fake_device import FakeDevice

LIMIT_S = 30
SHARDED = np.arange(160 * 160, dtype="i4").reshape(160, 160)


def blob(data: bytes) -> Blob:
    return Blob(memoryview(data))


class Counted:
    """Coroutines that wait until they are let go, and count how many are at it."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.cancelled: list[int] = []
        self.go = threading.Event()

    async def get(self, number: int) -> Blob:
        self.order.append(number)
        try:
            while not self.go.is_set():  # noqa: ASYNC110  a test's thread sets it
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        return blob(bytes([number]))

    def until(self, count: int) -> None:
        """Wait until so many have begun."""
        until(lambda: len(self.order) >= count)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the loop's thread does."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def stopped_once(condition: Callable[[], bool]) -> threading.Event:
    """What is set once something has happened."""
    stopped = threading.Event()

    def wait() -> None:
        until(condition)
        stopped.set()

    threading.Thread(target=wait).start()
    return stopped


def test_turns_come_in_order_and_large_requests_count_for_more() -> None:
    flights, counted = InFlight(4), Counted()
    place = in_flight.PLACE_NBYTES
    sizes = [place, 2 * place + 1, -1, 1, 100 * place, 1]
    pending = flights.start([partial(counted.get, n) for n in range(6)], sizes)
    counted.until(2)
    threading.Event().wait(0.05)
    assert counted.order == [0, 1]  # 1 and 3 of 4 places; a small one does not overtake
    counted.go.set()
    for row in range(6):
        found = pending.result(row)
        assert found is not None
        assert bytes(found.data) == bytes([row])
    assert counted.order == list(range(6))


def test_one_read_does_not_wait_for_its_turn() -> None:
    flights, counted = InFlight(1), Counted()
    pending = flights.start([partial(counted.get, n) for n in range(3)], [1, 1, 1])
    counted.until(1)

    async def urgent() -> Blob:
        return blob(b"now")

    found = flights.read(urgent, bytearray)
    assert found is not None
    assert bytes(found.data) == b"now"
    assert counted.order == [0]
    counted.go.set()
    assert all(pending.result(row) is not None for row in range(3))


def test_a_read_that_is_stopped_gives_all_up() -> None:
    flights, counted = InFlight(2), Counted()
    stopped = threading.Event()
    pending = flights.start([partial(counted.get, n) for n in range(4)], [1] * 4)
    give_up_when(pending, stopped.is_set)
    counted.until(2)
    stopped.set()
    with pytest.raises(StoreError, match="given up"):
        pending.result(0)
    for row in (1, 3):  # one had begun, the other not
        with pytest.raises(StoreError, match="given up"):
            pending.result(row)
    counted.go.set()
    again = flights.start([partial(counted.get, 7)], [1])
    assert again.result(0) is not None  # the places are free
    assert sorted(counted.cancelled) == [0, 1]


def test_requests_that_were_given_up_before_they_began_are_answered() -> None:
    flights, counted = InFlight(), Counted()
    gate = threading.Event()
    event_loop.background_loop().call_soon_threadsafe(gate.wait, LIMIT_S)
    pending = flights.start([partial(counted.get, 0)], [1])
    pending._give_up()  # noqa: SLF001  as another thread does that waited for another row
    gate.set()
    with pytest.raises(StoreError, match="given up"):
        pending.result(0)
    assert not counted.order


def test_what_is_larger_than_expected_asks_for_memory_first() -> None:
    flights = InFlight()
    filled: list[int] = []

    async def fill(memory: memoryview) -> None:
        filled.append(len(memory))
        memory[:] = b"12345"

    async def get() -> Arriving:
        return Arriving("k", 5, "v", 9, lambda memory: flights.submit(partial(fill, memory)))

    def refuse(nbytes: int) -> bytearray:
        raise StoreError(f"no {nbytes}")

    with pytest.raises(StoreError, match="no 5"):
        flights.start([get], [-1]).result(0, refuse)
    assert not filled
    found = flights.start([get], [-1]).result(0)
    assert found is not None
    assert (bytes(found.data), found.validator, found.size) == (b"12345", "v", 9)


def test_what_a_coroutine_raises_is_raised_where_it_is_asked_for() -> None:
    async def broken() -> Blob:
        raise ZeroDivisionError

    flights = InFlight()
    with pytest.raises(ZeroDivisionError):
        flights.run(broken)
    with pytest.raises(ZeroDivisionError):
        flights.start([broken], [1]).result(0)


def test_a_loop_that_is_closed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "_background", None)
    loop = event_loop.background_loop()
    flights, counted = InFlight(), Counted()
    pending = flights.start([partial(counted.get, 0)], [1])
    counted.until(1)
    event_loop._close()  # noqa: SLF001  as at exit
    assert loop.is_closed()
    assert counted.cancelled == [0]
    with pytest.raises(StoreError, match="given up"):
        pending.result(0)
    with pytest.raises(StoreError, match="the interpreter is ending"):
        flights.start([partial(counted.get, 0)], [1])
    del pending


class Late(CountingStore):
    """A store whose reads are under way until somebody stops them, and that names its gap."""

    gap_nbytes = 77

    def __init__(self, values: dict[str, bytes]) -> None:
        super().__init__(values)
        self.started: list[int] = []
        self.flights = InFlight()
        self.never = False
        self.waiting = 0
        """Reads that have begun to wait."""
        self.cancelled = 0
        """Reads that were given up before that."""
        self.breaks_at = -1
        """The number of the `start_reads` that fails."""
        self.least_started = 0
        """Batches of reads that must be started before any is answered."""

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        if len(self.started) == self.breaks_at:
            until(lambda: self.waiting > 0)
            raise RuntimeError("broken")
        self.started.append(len(keys))

        async def get(row: int) -> Blob | None:
            end = time.monotonic() + LIMIT_S
            while len(self.started) < self.least_started:
                assert time.monotonic() < end
                await asyncio.sleep(0.001)
            if self.never:
                self.waiting += 1
                try:
                    await asyncio.sleep(LIMIT_S)
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            return self.read(keys[row], offsets[row], nbytes[row])

        return self.flights.start([partial(get, row) for row in range(len(keys))], nbytes)


def test_a_read_that_is_given_up_is_no_error() -> None:
    """Not all of it is read, and it is not tried once more."""
    store = Late(plain_store(SHARDED, (40, 40)))
    request = make_request(gpuzarr.open_array(store), ...)
    store.started.clear()
    store.never = True
    stopped = stopped_once(lambda: store.waiting > 0)
    assert read_selection(request, None, stopped.is_set).result().shape == SHARDED.shape
    assert 0 < sum(store.started) <= 16
    until(lambda: store.cancelled > 0)


def test_indexes_that_nobody_waits_for_are_given_up() -> None:
    store = Late(sharded_store(SHARDED, (40, 40), (10, 10)))
    request = make_request(gpuzarr.open_array(store), ...)
    store.never = True
    stopped = stopped_once(lambda: store.waiting == 16)
    assert read_selection(request, None, stopped.is_set).result().shape == SHARDED.shape
    assert store.started[-1] == 16
    until(lambda: store.cancelled == 16)


def test_stores_mounted_together_hand_it_on() -> None:
    late = Late({"a": b"1"})
    late.never = True
    pending = MountedStores([late, CountingStore({"b": b"2"})]).start_reads(
        ["0/a", "1/b"], [0, 0], [-1, -1]
    )
    give_up_when(pending, lambda: True)
    found = pending.result(1)
    assert found is not None
    with pytest.raises(StoreError, match="given up"):
        pending.result(0)
    assert gap_of(late) == 77
    assert gap_of(CountingStore({})) is None


def test_indexes_are_asked_for_in_rounds_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Late(sharded_store(SHARDED, (40, 40), (10, 10)))
    array = gpuzarr.open_array(store)
    monkeypatch.setattr("gpuzarr.read.INDEXES_NBYTES", 6 * 256)
    store.least_started = 2  # the second round before the first one is waited for
    np.testing.assert_array_equal(array[::10, ::10], SHARDED[::10, ::10])
    assert store.started[:3] == [6, 6, 4]
    store.started.clear()
    np.testing.assert_array_equal(array[::10, ::10], SHARDED[::10, ::10])
    assert 6 not in store.started[:1]  # they are remembered


def test_a_gpu_reads_through_them(fake: FakeDevice) -> None:
    store = Late(sharded_store(SHARDED, (40, 40), (10, 10)))
    array = gpuzarr.open_array(store, device="cuda")
    np.testing.assert_array_equal(to_numpy(array[5:99, 7:]), SHARDED[5:99, 7:])
    assert store.started[0] == 12  # the indexes
    assert len(store.started) > 1
    assert fake is not None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_on_its_way_is_given_up_where_something_else_fails(
    fake: FakeDevice, device: str
) -> None:
    store = Late(plain_store(SHARDED, (40, 40)))
    array = gpuzarr.open_array(store, device=device, memory_limit=100_000)
    store.never = True
    store.breaks_at = len(store.started) + 1
    with pytest.raises(RuntimeError, match="broken"):
        array[...]
    # Where no thread waits for them yet, they are given up when they are forgotten.
    until(lambda: gc.collect() >= 0 and store.cancelled > 0)
    assert fake is not None
