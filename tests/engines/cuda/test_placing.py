"""decode="auto": each batch is decoded where the model says, and nobody can tell by the result."""

from __future__ import annotations

import gzip
import logging
import zlib
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import google_crc32c
import numcodecs
import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cuda import placing
from gpuzarr.engines.cuda.staging import PinnedReading
from gpuzarr.engines.cuda.tuning import DEFAULTS
from tests.arrays import plain_store, sharded_store
from tests.cuda_devices import DEVICE_WINS, HOST_WINS, assert_same, installed, rates_with
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.stores import ARRAY, BLOSC, CRC32C, GZIP, ZSTD, blosc, opened, zstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cuda.tuning import Rates

BOTH = rates_with(host=1e6, device=1e6)
"""As fast on either side, and slow enough for nothing else to count: the host gets a third."""
SIDES = {"host": HOST_WINS, "device": DEVICE_WINS, "both": BOTH}

LARGE = np.random.default_rng(0).integers(0, 999, 1 << 15, np.int32)
ZLIB = {"name": "numcodecs.zlib", "configuration": {"level": 1}}
LZ4 = {"name": "numcodecs.lz4", "configuration": {"acceleration": 1}}
CODECS: dict[str, tuple[dict[str, Any], Callable[[bytes], bytes]]] = {
    "zstd": (ZSTD, zstd),
    "gzip": (GZIP, gzip.compress),
    "zlib": (ZLIB, zlib.compress),
    "lz4": (LZ4, lambda data: bytes(numcodecs.LZ4().encode(data))),
    "blosc": (BLOSC, blosc()),
}


def places(log: pytest.LogCaptureFixture) -> list[str]:
    """The side of each batch, as the log has it."""
    lines = [record.getMessage() for record in log.records]
    log.clear()
    return [line.split(" on the ")[1].split(";")[0] for line in lines if line.startswith("place:")]


@pytest.mark.sampled(one_in=2)
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("side", SIDES)
def test_results_are_the_same(
    caplog: pytest.LogCaptureFixture,
    codec: str,
    side: str,
    sharded: bool,  # noqa: FBT001  a case
) -> None:
    document, encode = CODECS[codec]
    if sharded:
        codecs = ("bytes", document)
        store = sharded_store(LARGE, (1 << 13,), (1 << 9,), encode=encode, inner_codecs=codecs)
    else:
        store = plain_store(LARGE, (1 << 9,), encode=encode, codecs=("bytes", document))
    device = FakeDevice()
    caplog.set_level(logging.DEBUG, "gpuzarr.engine")
    with installed(device, SIDES[side]):
        array = opened(store, memory_limit=100_000, threads=1)
        report = array.explain().places
        caplog.clear()
        assert_same(LARGE, array[...])
        found = places(caplog)
        assert_same(LARGE[::-7].astype("f4"), array.read(slice(None, None, -7), dtype="f4"))
        assert device.peak <= 100_000
        assert device.used == 0
        assert array.engine == "cuda"
    assert report is not None
    assert len(found) > 6
    assert found.count("host") == report.host_batches
    assert found.count("device") == report.device_batches
    if side == "both":
        assert found.count("host") / len(found) == pytest.approx(1 / 3, abs=0.1)
        assert found[0] == "device"
    else:
        assert set(found) == {side}
        assert bool(device.counts["decompress"]) == (side == "device")


def damaged(store: dict[str, bytes], kind: str) -> dict[str, bytes]:
    """A store with some chunks that are not as they should be."""
    store = dict(store)
    for number, key in enumerate(sorted(key for key in store if key != "zarr.json")[3::5]):
        chunk = bytearray(store[key])
        if kind == "cut":
            chunk = chunk[: len(chunk) // 2]
        elif kind == "header":
            chunk[1] ^= 0xFF
        elif kind == "longer":
            chunk += b"more"
        elif kind == "empty":
            chunk = bytearray()
        else:
            chunk[len(chunk) * (number % 6 + 1) // 7] ^= 0x55
        store[key] = bytes(chunk)
    return store


def outcome(store: dict[str, bytes], **choices: Any) -> Any:
    """What a read gives, or what failed, why and in which step."""
    try:
        return np.asarray(gpuzarr.open_array(store, **choices)[...]).tobytes()
    except gpuzarr.ChunkError as error:
        failures = [(each.coords, each.key, each.step, type(each.cause)) for each in error.failures]
        return type(error), sorted(failures, key=repr)


@pytest.mark.sampled(one_in=2)
@pytest.mark.parametrize(
    ("kind", "checked"),
    [
        *((kind, False) for kind in ("cut", "header", "longer", "empty", "flipped")),
        *((kind, True) for kind in ("cut", "flipped")),
    ],
)
@pytest.mark.parametrize("codec", CODECS)
def test_errors_are_the_same(codec: str, kind: str, checked: bool) -> None:  # noqa: FBT001
    document, encode = CODECS[codec]

    def seal(data: bytes) -> bytes:
        stored = encode(data)
        value: int = google_crc32c.value(stored)
        return stored + value.to_bytes(4, "little")

    codecs = ("bytes", document, CRC32C) if checked else ("bytes", document)
    whole = plain_store(ARRAY, (6, 10), encode=seal if checked else encode, codecs=codecs)
    store = damaged(whole, kind)
    expected = outcome(store, device="cpu")
    for side, rates in SIDES.items():
        with installed(FakeDevice(), rates):
            assert outcome(store, device="cuda", memory_limit=60_000, threads=1) == expected, side


def test_chunks_that_are_not_stored_and_two_compressors() -> None:
    sparse = plain_store(
        ARRAY, (7, 13), encode=zstd, codecs=("bytes", ZSTD), skip=lambda c: c[0] % 2 == 0
    )
    expected = gpuzarr.open_array(sparse, device="cpu")[...]
    double = plain_store(
        ARRAY, (20, 20), encode=lambda data: gzip.compress(zstd(data)), codecs=("bytes", ZSTD, GZIP)
    )
    for rates in SIDES.values():
        with installed(FakeDevice(), rates):
            assert_same(expected, opened(sparse, memory_limit=60_000)[...])
            assert_same(ARRAY, opened(double)[...])


def test_the_host_decodes_while_the_device_has_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on the fake device's stream is done only when somebody waits for it."""
    device = FakeDevice()
    stream, waiting = device.current_stream(), []
    decode = PinnedReading._decode  # noqa: SLF001

    def note(self: PinnedReading, *what: Any, **how: Any) -> None:
        waiting.append(stream.put - stream.done)
        decode(self, *what, **how)

    monkeypatch.setattr(PinnedReading, "_decode", note)
    store = plain_store(LARGE, (1 << 9,), encode=zstd, codecs=("bytes", ZSTD))
    with installed(device, BOTH):
        array = opened(store, memory_limit=200_000)
        assert_same(LARGE, array[...])
    assert len(waiting) > 10
    assert sum(put > 0 for put in waiting) > len(waiting) // 2


# --------------------------------------------------------------------------------- who is asked


def test_with_the_defaults_small_reads_are_the_hosts_and_large_ones_the_devices() -> None:
    chunk = np.arange(1 << 18, dtype=np.int32)
    one = zstd(chunk.tobytes())
    store = plain_store(chunk, chunk.shape, encode=zstd, codecs=("bytes", ZSTD))
    device = FakeDevice(free=1 << 36)
    with installed(device, DEFAULTS):
        small = plain_store(ARRAY, (20, 50), encode=zstd, codecs=("bytes", ZSTD))
        assert_same(ARRAY, opened(small)[...])
        assert device.counts["decompress"] == 0
        report = opened(small).explain()
        assert report.places is not None
        assert (report.places.host_batches, report.places.device_batches) == (1, 0)
        assert "place     on the host: " in str(report)
        assert report.to_dict()["places"]["host_ms"] < report.places.device_ms
        document = store["zarr.json"].replace(b"262144", b"104857600", 1)
        large = {f"c/{number}": one for number in range(400)} | {"zarr.json": document}
        found = opened(large, threads=4).explain()
        assert found.shape == (104857600,)
        assert found.places is not None
        assert found.places.device_batches > found.places.host_batches
        assert found.places.device_ms < found.places.host_ms
        assert "on the device" in str(found)


@pytest.mark.parametrize("decode", ["device", "host"])
def test_who_says_where_is_not_second_guessed(decode: Any) -> None:
    store = plain_store(ARRAY, (10, 10), encode=zstd, codecs=("bytes", ZSTD))
    wrong: dict[str, Rates] = {"device": HOST_WINS, "host": DEVICE_WINS}
    device = FakeDevice()
    refuse = patch.object(placing, "estimate", side_effect=AssertionError("it was asked"))
    with installed(device, wrong[decode]), refuse as asked:
        array = opened(store, decode=decode)
        assert_same(ARRAY, array[...])
        assert array.explain().places is None
        assert bool(device.counts["decompress"]) == (decode == "device")
        asked.assert_not_called()
        with pytest.raises(AssertionError, match="it was asked"):
            opened(store)[...]


def test_where_nothing_is_decompressed_there_is_nothing_to_choose() -> None:
    with installed(FakeDevice(), HOST_WINS):
        for codecs, encode in ((("bytes",), bytes), (("bytes", CODECS["zstd"][0]), zstd)):
            array = opened(plain_store(ARRAY, (10, 10), encode=encode, codecs=codecs))
            assert (array.explain().places is None) == (codecs == ("bytes",))
    plain = gpuzarr.open_array(plain_store(ARRAY, (10, 10)), device="cpu").explain()
    assert plain.places is None
    assert "place" not in str(plain)


def test_nothing_is_said_unless_asked(caplog: pytest.LogCaptureFixture) -> None:
    store = plain_store(ARRAY, (10, 10), encode=zstd, codecs=("bytes", ZSTD))
    with installed(FakeDevice()):
        caplog.set_level(logging.INFO, "gpuzarr.engine")
        opened(store)[...]
        assert places(caplog) == []
        caplog.set_level(logging.DEBUG, "gpuzarr.engine")
        opened(store)[...]
        (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("place:")]
        assert line.startswith("place: a batch of 30 chunks on the device; estimated: ")
