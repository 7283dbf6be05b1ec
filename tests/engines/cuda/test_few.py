"""Small reads by way of the host: the same answers, and one copy to the device."""

from __future__ import annotations

import bz2
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr import few
from gpuzarr.engines.cuda import few as cuda_few
from gpuzarr.engines.cuda import transfer
from gpuzarr.engines.cuda.tuning import DEFAULTS
from tests.arrays import plain_store, sharded_store
from tests.cuda_devices import DEVICE_WINS, HOST_WINS, assert_same, installed
from tests.engines.cuda.fake_device import NOISE, FakeDevice
from tests.engines.cuda.stores import (
    BLOSC,
    CRC32C,
    ZSTD,
    blosc,
    lent_nbytes,
    opened,
    zstd,
)
from tests.stored import index_of
from tests.strategies import basic_keys
from tests.test_read import stored_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUES = np.random.default_rng(0).integers(-99, 99, (64, 96), np.int32)
CROP = (slice(3, 40), slice(10, 30))
SHORT_WAY = {"upload": 1, "pin": 1}
"""What such a read asks of the device, with the pool's first slab."""


@pytest.fixture(autouse=True)
def _few_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few, "MOST_CHUNKS", 128)


@pytest.fixture(params=[None, 1])
def device(request: pytest.FixtureRequest) -> Iterator[FakeDevice]:
    made = FakeDevice(seed=request.param)
    with installed(made, HOST_WINS):
        yield made


def compressed(**choices: Any) -> gpuzarr.Array:
    store = plain_store(VALUES, (16, 16), encode=zstd, codecs=("bytes", ZSTD))
    return opened(store, **choices)


# ------------------------------------------------------------------------------------------ values


@given(stored_arrays(), st.data())
def test_results_are_those_of_the_cpu(stored: Any, data: st.DataObject) -> None:
    device = FakeDevice(seed=data.draw(st.sampled_from([None, 1])))
    with installed(device, HOST_WINS):
        if not device.holds(stored.expected.dtype):
            return
        array = opened(stored.values, decode=data.draw(st.sampled_from(["auto", "host"])))
        for _ in range(3):
            key = data.draw(basic_keys(stored.expected.shape))
            assert_same(index_of(stored.expected, key), array[key])


@pytest.mark.parametrize(
    "choices", [{}, {"dtype": "f4"}, {"dtype": "i1"}, {"scale": 0.5, "offset": 3.0}]
)
@pytest.mark.parametrize("decode", ["auto", "host"])
def test_a_small_read_is_one_copy(device: FakeDevice, decode: str, choices: dict[str, Any]) -> None:
    array = compressed(decode=decode)
    expected = gpuzarr.open_array(array.store, device="cpu").read(CROP, **choices)
    assert_same(expected, array.read(CROP, **choices))
    assert dict(device.counts) == SHORT_WAY
    assert_same(expected, array.read(CROP, **choices))
    assert device.counts["pin"] == 1, "slabs are used again"
    assert lent_nbytes(array) == 0


def test_shards_and_what_they_lack(device: FakeDevice) -> None:
    store = sharded_store(
        *(VALUES, (32, 32), (8, 16)),
        encode=blosc(), inner_codecs=("bytes", BLOSC), skip=lambda at: at == (1, 0),
    )  # fmt: skip
    assert_same(gpuzarr.open_array(store)[CROP], opened(store)[CROP])
    assert dict(device.counts) == SHORT_WAY


# ------------------------------------------------------------------------------------ which way


def goes_the_short_way(device: FakeDevice, array: gpuzarr.Array, key: Any = CROP) -> bool:
    device.counts.clear()
    assert_same(gpuzarr.open_array(array.store, device="cpu")[key], array[key])
    return not device.counts["launch"]


def test_the_cost_model_says_which_way(device: FakeDevice) -> None:
    assert goes_the_short_way(device, compressed())
    assert not goes_the_short_way(device, compressed(decode="device"))
    with installed(device, DEVICE_WINS):
        assert not goes_the_short_way(device, compressed())
        assert goes_the_short_way(device, compressed(decode="host"))
    plain = plain_store(VALUES, (16, 16))
    with installed(device, DEFAULTS):
        assert goes_the_short_way(device, opened(plain)), "one copy is less than any launch"
        assert not goes_the_short_way(device, opened(plain, decode="device"))
    large = np.arange(1 << 20, dtype="i4").reshape(1024, 1024)
    with installed(device, DEFAULTS):
        array = opened(plain_store(large, (256, 256)))
        assert goes_the_short_way(device, array, (0, slice(None)))
        assert not goes_the_short_way(device, array, ...), "the device scatters 4 MiB sooner"


def test_what_the_device_is_to_read_is_not_planned_for_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned: list[int] = []
    plan = few.FewChunks.plan

    def noted(*arguments: Any) -> Any:
        planned.append(1)
        return plan(*arguments)

    monkeypatch.setattr(few.FewChunks, "plan", noted)
    for rates in (DEVICE_WINS, HOST_WINS):
        with installed(FakeDevice(), rates):
            array = compressed()
            assert_same(VALUES[CROP], array[CROP])
            assert bool(planned) == (rates is HOST_WINS)
            array.explain(CROP)
            assert len(planned) == (rates is HOST_WINS)


def test_explain_tells_it() -> None:
    volume = np.arange(64**3, dtype="i4").reshape(64, 64, 64)
    store = sharded_store(volume, (64,) * 3, (32,) * 3, encode=zstd, inner_codecs=("bytes", ZSTD))
    with installed(FakeDevice(), DEFAULTS):
        array = opened(store)
        places = array.explain().places
        assert places is not None
        assert (places.host_batches, places.device_batches) == (1, 0)
        assert 2 * places.host_ms < places.device_ms
        assert "one copy takes the result up" in str(array.explain())
        assert opened(store, decode="host").explain().places is None
        large = opened(plain_store(np.zeros((2048, 2048), "i4"), (512, 512)))
        assert large.explain(0).places is not None
        assert large.explain().places is None, "nothing is decoded, and it is no small read"
        assert opened(store, decode="device").explain().places is None
    with installed(FakeDevice(), DEVICE_WINS):
        places = opened(store).explain().places
        assert places is not None
        assert (places.host_batches, places.device_batches) == (0, 1)
    assert gpuzarr.open_array(store, device="cpu").explain().places is None


def test_a_crop_of_eight_chunks_is_the_hosts_by_default() -> None:
    volume = np.arange(64**3, dtype="i4").reshape(64, 64, 64)
    store = sharded_store(volume, (64,) * 3, (32,) * 3, encode=zstd, inner_codecs=("bytes", ZSTD))
    device = FakeDevice()
    with installed(device, DEFAULTS):
        assert_same(volume, opened(store)[...])
    assert dict(device.counts) == SHORT_WAY


def test_large_results_go_through_a_session(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_few, "MOST_NBYTES", 37 * 20 * 4)
    array = compressed()
    assert goes_the_short_way(device, array)
    assert not goes_the_short_way(device, array, (slice(3, 40), slice(10, 31)))


def test_a_memory_limit_is_a_sessions_business(device: FakeDevice) -> None:
    assert not goes_the_short_way(device, compressed(memory_limit=1 << 20))


def test_what_large_reads_refuse_is_refused(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_converted(*_: Any) -> None:
        raise gpuzarr.UnsupportedError("not on the GPU")

    monkeypatch.setattr(transfer, "find_converted", find_converted)
    transfer.find_transfer.cache_clear()
    with pytest.raises(gpuzarr.UnsupportedError, match="not on the GPU"):
        compressed().read(CROP, dtype="f4")
    assert not device.counts["upload"]


def test_memory_that_cannot_be_pinned_is_told_of_as_usual(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pin(_: int) -> None:
        raise gpuzarr.MemoryLimitError("nothing can be pinned")

    array = compressed()
    monkeypatch.setattr(device, "pin", pin)
    with pytest.raises(gpuzarr.MemoryLimitError, match="nothing can be pinned"):
        array[CROP]


def test_memory_of_any_form_is_read_into(device: FakeDevice) -> None:
    array, expected = compressed(), VALUES[CROP]
    whole = np.full((37, 20), NOISE, np.int32)
    assert array.read(CROP, out=whole) is whole
    assert_same(expected, whole)
    assert dict(device.counts) == SHORT_WAY
    for out in (np.zeros((37, 40), np.int32)[:, ::2], np.zeros((37, 20), np.int32, order="F")):
        assert array.read(CROP, out=out) is out
        assert_same(expected, np.ascontiguousarray(out))
    assert device.counts["launch"] == 2


# ------------------------------------------------------------------------------ streams, waiting


def test_the_copy_is_ordered_on_the_stream_that_is_meant() -> None:
    device = FakeDevice()
    with installed(device, HOST_WINS):
        array = compressed()
        other = device.as_stream(type(device.copy_stream)())
        seen: list[bool] = []
        out = np.full((37, 20), NOISE, np.int32)
        device.put("look", lambda: seen.append(bool((out == VALUES[CROP]).all())), other)
        pending = array.read_async(CROP, out=out, stream=other)
        device.put("look", lambda: seen.append(bool((out == VALUES[CROP]).all())), other)
        assert seen == [], "nothing has been waited for"
        assert pending.result() is out
        assert seen == [False]
        device.record(other).wait()
        assert seen == [False, True]
        assert lent_nbytes(array) == 0


def test_a_read_that_nobody_waits_for_keeps_its_memory_until_it_is_copied() -> None:
    device = FakeDevice()
    with installed(device, HOST_WINS):
        array = compressed()
        out = np.full((37, 20), NOISE, np.int32)
        pending = array.read_async(CROP, out=out)
        assert lent_nbytes(array) > 0
        del pending
        assert lent_nbytes(array) == 0
        assert_same(VALUES[CROP], out)


def test_an_interrupt_while_the_copy_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice()
    with installed(device, HOST_WINS):
        array = compressed()
        record, out = device.record, np.full((37, 20), NOISE, np.int32)

        def interrupted(*_: Any) -> Any:
            monkeypatch.setattr(device, "record", record)
            raise KeyboardInterrupt

        array[0]
        monkeypatch.setattr(device, "record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            array.read(CROP, out=out)
        assert_same(VALUES[CROP], out)  # the copy was waited for
        assert lent_nbytes(array) == 0
        assert_same(VALUES[CROP], array[CROP])


def test_a_device_that_fails_is_told_of() -> None:
    device = FakeDevice()
    with installed(device, HOST_WINS):
        array = compressed()
        pending = array.read_async(CROP)
        device.error = gpuzarr.DeviceError("the context is lost")
        with pytest.raises(gpuzarr.DeviceError, match="the context is lost"):
            pending.result()


# ----------------------------------------------------------------------------------------- damage


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("damage", ["cut", "changed", "index"])
def test_errors_are_those_of_other_reads(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = sharded_store(VALUES, (32, 32), (16, 16), encode=zstd, inner_codecs=("bytes", ZSTD))
    key = "c/0/1"
    body = bytearray(store[key])
    if damage == "cut":
        store[key] = bytes(body[:-40])
    elif damage == "changed":
        body[:4] = b"\xff" * 4
        store[key] = bytes(body)
    else:
        body[-8:] = b"\x7f" * 8
        store[key] = bytes(body)

    def told() -> str:
        with pytest.raises(gpuzarr.GpuzarrError) as caught:
            opened(store)[...]
        return f"{type(caught.value).__name__}: {caught.value}"

    short = told()
    assert lent_nbytes(opened(store)) == 0
    monkeypatch.setattr(few, "MOST_CHUNKS", 0)
    assert told() == short


def test_checksums_are_verified(device: FakeDevice) -> None:
    store = plain_store(
        *(VALUES, (16, 16)),
        encode=lambda data: _with_crc(zstd(data)), codecs=("bytes", ZSTD, CRC32C),
    )  # fmt: skip
    assert_same(VALUES[CROP], opened(store)[CROP])
    assert dict(device.counts) == SHORT_WAY
    store["c/1/1"] = store["c/1/1"][:-1] + bytes([store["c/1/1"][-1] ^ 1])
    with pytest.raises(gpuzarr.ChecksumError, match="c/1/1"):
        opened(store)[CROP]


def _with_crc(data: bytes) -> bytes:
    crc: int = google_crc32c.value(data)
    return data + crc.to_bytes(4, "little")


def test_what_only_the_host_decodes(device: FakeDevice) -> None:
    codec = {"name": "numcodecs.bz2", "configuration": {"level": 1}}
    store = plain_store(VALUES, (16, 16), encode=bz2.compress, codecs=("bytes", codec))
    with installed(device, DEFAULTS):
        array = opened(store)
        assert array.engine == "hybrid"
        assert goes_the_short_way(device, array)
