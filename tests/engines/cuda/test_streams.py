"""The order of streams: reads are right in whatever order it allows, and it is what makes them so.

The fake device does the work of several streams in any order that events allow; so it is first
shown here that it does. Then reads are run in many orders, and without what orders them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cuda.engine import CudaEngine
from gpuzarr.engines.cuda.flight import Flight
from gpuzarr.engines.cuda.work import Work
from gpuzarr.plan.batches import BatchLimits
from tests.arrays import plain_store, sharded_store
from tests.cuda_devices import assert_same, installed
from tests.engines.cuda.fake_device import NOISE, SPENT, FakeDevice, FakeMemory, FakeStream
from tests.engines.cuda.interrupts import assert_nothing_is_under_way, interrupted
from tests.engines.cuda.stores import BLOSC, GZIP, ZSTD, blosc, opened, zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VALUES = np.random.default_rng(0).integers(-99, 99, (64, 96), np.int32)
SEEDS = (None, *range(3))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten batches and more, whatever memory there is."""
    nbytes = VALUES.nbytes // 8
    limits = BatchLimits(nbytes, 1, 1 << 10, least_nbytes=nbytes)
    monkeypatch.setattr(CudaEngine, "limits_for", lambda *_: limits)


@pytest.fixture(params=SEEDS)
def device(request: pytest.FixtureRequest) -> Iterator[FakeDevice]:
    """A device for each order of work."""
    made = FakeDevice(seed=request.param)
    with installed(made):
        yield made


def store(encode: Callable[[bytes], bytes] = bytes, *codecs: Any) -> dict[str, bytes]:
    return plain_store(VALUES, (16, 16), encode=encode, codecs=("bytes", *codecs))


# --------------------------------------------------------------------------------- the fake device


class Orders:
    """Two streams, and a byte that one of them writes and the other reads."""

    def __init__(self, seed: int | None) -> None:
        self.device = FakeDevice(seed=seed)
        self.one, self.other = self.device.copy_stream, self.device.current_stream()
        self.memory: FakeMemory | None = self.device.allocate(1, self.one)
        self.address = self.memory.address
        self.found = self.device.pin(1).array

    def upload(self, value: int, stream: FakeStream) -> None:
        self.device.upload(np.array([value], np.uint8), self.address, stream)

    def write(self, value: int) -> None:
        assert self.memory is not None
        self.memory.bytes[0] = value

    def download(self, stream: FakeStream) -> None:
        self.device.download(self.address, self.found, stream)

    def give_back(self) -> None:
        self.memory = None

    def result(self, stream: FakeStream) -> int:
        self.device.record(stream).wait()
        return int(self.found[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_streams_know_nothing_of_each_other(seed: int | None) -> None:
    orders = Orders(seed)
    orders.upload(1, orders.one)
    orders.upload(2, orders.one)
    event = orders.device.record(orders.one)
    orders.device.put("write", partial(orders.write, 3), orders.one)
    orders.device.wait_for(event, orders.other)
    orders.download(orders.other)
    assert orders.result(orders.other) in {2, 3}
    if seed is None:
        assert orders.found[0] == 2, "no more is done than must be"
        assert orders.one.done == 2


def test_lots_are_drawn() -> None:
    found = set()
    for seed in range(20):
        orders = Orders(seed)
        orders.device.put("write", partial(orders.write, 3), orders.one)
        orders.download(orders.other)
        found.add(orders.result(orders.other))
    assert found == {3, NOISE}


@pytest.mark.parametrize("seed", SEEDS)
def test_uploads_must_be_waited_for(seed: int | None) -> None:
    orders = Orders(seed)
    too_early = orders.device.record(orders.one)
    orders.upload(1, orders.one)
    orders.device.wait_for(too_early, orders.other)
    orders.download(orders.other)
    with pytest.raises(gpuzarr.DeviceError, match="download does not wait for an upload"):
        orders.result(orders.other)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_third_stream_carries_the_order_on(seed: int | None) -> None:
    orders = Orders(seed)
    third = orders.device.as_stream(FakeStream())
    orders.upload(1, orders.one)
    orders.device.wait_for(orders.device.record(orders.one), third)
    orders.device.wait_for(orders.device.record(third), orders.other)
    orders.download(orders.other)
    assert orders.result(orders.other) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_memory_is_spoilt_in_the_order_of_its_stream(seed: int | None) -> None:
    orders = Orders(seed)
    orders.upload(1, orders.one)
    orders.download(orders.one)
    orders.give_back()
    assert orders.result(orders.one) == 1, "the stream's own work comes first"
    for wait in (True, False):
        orders = Orders(seed)
        memory = orders.memory
        assert memory is not None
        data = memory.bytes
        orders.upload(1, orders.one)
        orders.device.wait_for(orders.device.record(orders.one), orders.other)
        orders.download(orders.other)
        if wait:
            assert orders.result(orders.other) == 1
        del memory
        orders.give_back()
        if wait:
            assert (data == SPENT).all()
            continue
        with pytest.raises(gpuzarr.DeviceError, match="download uses memory that was given back"):
            orders.result(orders.other)


# ------------------------------------------------------------------------------------------- reads


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("limit", [None, 60_000])
def test_reads_are_right_in_every_order(device: FakeDevice, limit: int | None) -> None:
    stream = FakeStream()
    for encode, codecs in (
        (bytes, ()),
        (zstd, (ZSTD,)),
        (blosc("zstd", 2), (BLOSC,)),
    ):
        array = opened(store(encode, *codecs), memory_limit=limit)
        pending = array.read_async()
        assert_same(VALUES[5::2, ::-1], array.read((slice(5, None, 2), slice(None, None, -1))))
        assert_same(VALUES, array.read(stream=stream))
        assert_same(VALUES, pending.result())
    missing = sharded_store(VALUES, (32, 32), (8, 8), skip=lambda c: sum(c) % 3 == 0)
    expected = gpuzarr.open_array(missing, device="cpu")[...]
    assert_same(expected, opened(missing, memory_limit=limit)[...])
    assert device.used == 0


@pytest.mark.usefixtures("small_batches")
def test_what_the_host_decodes_after_all_is_right_in_every_order(device: FakeDevice) -> None:
    import gzip  # noqa: PLC0415

    def encode(data: bytes) -> bytes:
        return gzip.compress(data[:700]) + gzip.compress(data[700:])

    array = opened(store(encode, GZIP))
    assert_same(VALUES, array[...])
    assert "several members" in " ".join(array.explain().notes)
    assert device.used == 0


@pytest.mark.usefixtures("small_batches")
def test_without_the_wait_nothing_is_right(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "wait_for", lambda *_: None)
    with pytest.raises(gpuzarr.DeviceError, match="does not wait for an upload"):
        opened(store(zstd, ZSTD))[...]


@pytest.mark.usefixtures("small_batches")
def test_uploads_that_are_waited_for_too_early_are_found(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables come in time here, and the chunks do not."""
    upload, start, events = Flight._upload, Flight._start, []  # noqa: SLF001

    def note(flight: Flight, chunks: Any, layout: Any) -> Any:
        events.append(device.record(device.copy_stream))
        return upload(flight, chunks, layout)

    def start_too_early(flight: Flight, work: Any) -> None:
        real = work.upload
        with monkeypatch.context() as patch:
            patch.setattr(device, "record", lambda _: events[-1])
            patch.setattr(Work, "upload", lambda *a: real(*a[1:3], device.current_stream()))
            start(flight, work)

    monkeypatch.setattr(Flight, "_upload", note)
    monkeypatch.setattr(Flight, "_start", start_too_early)
    result = opened(store())[...]
    wrong = (result != VALUES).any()
    assert wrong or device._lot is not None  # noqa: SLF001  luck may be good


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("what", ["all", "chunks"])
def test_memory_that_is_given_back_too_early_is_found(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    real = Flight.depart

    def start(flight: Flight, *arguments: Any) -> None:
        real(flight, *arguments)
        del flight._memory[: None if what == "all" else 1]  # noqa: SLF001

    monkeypatch.setattr(Flight, "depart", start)
    array = opened(store())
    assert array.device == device.name
    if what == "all":
        with pytest.raises(gpuzarr.DeviceError, match="uses memory that was given back"):
            array[...]
    else:
        assert (array[...] != VALUES).any()


@pytest.mark.usefixtures("small_batches")
def test_slabs_that_are_used_again_too_early_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = Flight.depart

    def give_back(flight: Flight, targets: Any) -> None:
        start(flight, targets)
        for batch in flight.batches:
            batch.chunks.give_back()

    monkeypatch.setattr(Flight, "depart", give_back)
    with installed(FakeDevice()):
        assert (opened(store())[...] != VALUES).any()


# ------------------------------------------------------------------------------ what is interrupted


@pytest.mark.sampled(one_in=3)
@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("call", ["allocate", "upload", "wait_for", "launch", "download", "record"])
@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_a_read_that_fails_anywhere_leaves_nothing_under_way(call: str, number: int) -> None:
    """Memory goes when all streams are done with it, whatever interrupts a batch's start."""
    device = FakeDevice()
    with installed(device):
        array = opened(store(zstd, ZSTD))
        assert_same(VALUES, array[...])
        with interrupted(device, call, number), pytest.raises(KeyboardInterrupt):
            array[...]
        assert_nothing_is_under_way(device)
        assert_same(VALUES, array[...])
