"""Damage and failures on the CUDA engine: who finds them, and what is said."""

from __future__ import annotations

import gzip
import re
import zlib
from itertools import count
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest
import zstandard

import gpuzarr
from tests.arrays import CountingStore, plain_store, sharded_store
from tests.cuda_devices import assert_engines_agree, assert_same, fake
from tests.engines.cuda import fake_nvcomp
from tests.engines.cuda.stores import ARRAY, BLOSC, CRC32C, GZIP, ZSTD, blosc, opened, zstd

if TYPE_CHECKING:
    from tests.engines.cuda.fake_device import FakeDevice

__all__ = ["fake"]  # a fixture


def test_every_failed_chunk_is_named(fake: FakeDevice) -> None:
    store = plain_store(ARRAY, (10, 10), encode=zstd, codecs=("bytes", ZSTD))
    store["c/0/0"] = b"nonsense"
    store["c/1/3"] = store["c/1/3"][:-1]
    payload = bytearray(store["c/5/4"])
    payload[-4:] = b"\xff\xff\xff\xff"
    store["c/5/4"] = bytes(payload)
    with pytest.raises(gpuzarr.DecodeError) as raised:
        opened(store)[...]
    assert sorted(f.coords for f in raised.value.failures) == [(0, 0), (1, 3), (5, 4)]
    assert fake.used == 0
    assert_same(ARRAY[20:30], opened(store)[20:30])


def test_checksums_over_stored_bytes_are_verified_before_decoding(fake: FakeDevice) -> None:
    codec = numcodecs.CRC32C()

    def encode(data: bytes) -> bytes:
        return bytes(codec.encode(np.frombuffer(zstd(data), np.uint8)))

    store = plain_store(ARRAY, (10, 10), encode=encode, codecs=("bytes", ZSTD, CRC32C))
    assert_engines_agree(store)
    array = opened(store)
    assert array.engine == "cuda"
    assert array.explain().steps[0] == "verify crc32c (host)"
    store["c/3/3"] = b"\0" + store["c/3/3"][1:]
    with pytest.raises(gpuzarr.ChecksumError, match="c/3/3"):
        array[...]
    assert fake.counts["checksum"] == 0


@pytest.mark.parametrize("algorithm", ["crc32", "adler32", "fletcher32", "crc32c"])
def test_checksums_inside_compressed_data_are_verified_on_the_device(
    fake: FakeDevice, algorithm: str
) -> None:
    codec = numcodecs.get_codec({"id": algorithm})
    name = {"name": f"numcodecs.{algorithm}", "configuration": {}}

    def encode(data: bytes) -> bytes:
        return zstd(bytes(codec.encode(np.frombuffer(data, np.uint8))))

    store = plain_store(ARRAY, (10, 10), encode=encode, codecs=("bytes", name, ZSTD))
    assert_engines_agree(store)
    array = opened(store)
    assert array.engine == "cuda"
    damaged = bytearray(zstandard.ZstdDecompressor().decompress(store["c/1/1"]))
    damaged[200] ^= 0x10
    store["c/1/1"] = zstd(bytes(damaged))
    with pytest.raises(gpuzarr.ChecksumError, match=r"c/1/1.*verify"):
        array[...]
    del fake


@pytest.mark.parametrize("kind", ["zstd", "gzip", "zlib", "blosc zlib"])
def test_checksums_inside_frames_are_verified(fake: FakeDevice, kind: str) -> None:
    """nvCOMP does not look at them."""
    del fake
    zlib_codec = {"name": "numcodecs.zlib", "configuration": {"level": 1}}
    with_checksum = zstandard.ZstdCompressor(write_checksum=True)
    checked = {"name": "zstd", "configuration": {"level": 3, "checksum": True}}
    codec, encode, at = {
        "zstd": (checked, with_checksum.compress, -1),
        "gzip": (GZIP, lambda data: gzip.compress(data, 1), -5),
        "zlib": (zlib_codec, zlib.compress, -1),
        "blosc zlib": (BLOSC, blosc("zlib", 0), -1),
    }[kind]
    store = plain_store(ARRAY, (10, 10), encode=encode, codecs=("bytes", codec))  # type: ignore[arg-type]
    assert_engines_agree(store)
    damaged = bytearray(store["c/4/0"])
    damaged[at] ^= 1
    store["c/4/0"] = bytes(damaged)
    with pytest.raises(gpuzarr.DecodeError, match=r"c/4/0"):
        opened(store)[...]
    with pytest.raises(gpuzarr.DecodeError, match=r"c/4/0.*checksum"):
        opened(store, decode="device")[...]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's decoder refuses every third stream."""
    numbers, decode = count(), fake_nvcomp.decode

    def refuse(name: str, stream: bytes, capacity: int) -> bytes:
        if next(numbers) % 3 == 0:
            raise fake_nvcomp.DecodeFailedError
        return decode(name, stream, capacity)

    monkeypatch.setattr(fake_nvcomp, "decode", refuse)


@pytest.mark.usefixtures("refusing")
def test_the_host_is_the_judge_of_damage(fake: FakeDevice) -> None:
    """Whatever nvCOMP makes of rare streams, the answers are the same."""
    store = plain_store(ARRAY, (10, 10), encode=zstd, codecs=("bytes", ZSTD))
    array = opened(store)
    assert_same(ARRAY, array[...])
    assert_same(ARRAY[::-3, 5:17], array[::-3, 5:17])
    notes = " ".join(array.explain().notes)
    assert re.search(r"\d+ chunks .* the GPU found damage where the host finds none", notes)
    with pytest.raises(gpuzarr.DecodeError, match="the GPU's decoder found it damaged"):
        opened(store, decode="device")[...]
    store["c/4/0"] = store["c/4/0"][:-5] + b"abcde"
    with pytest.raises(gpuzarr.DecodeError, match="c/4/0") as raised:
        array[...]
    assert [failure.coords for failure in raised.value.failures] == [(4, 0)]
    assert fake.used == 0


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize("limit", [100_000, 300_000])
def test_what_is_decoded_again_stays_in_the_memory_limit(fake: FakeDevice, limit: int) -> None:
    values = np.random.default_rng(0).integers(0, 999, 1 << 17, np.int32)
    store = plain_store(values, (1 << 10,), encode=zstd, codecs=("bytes", ZSTD))
    array = opened(store, memory_limit=limit)
    assert_same(values, array[...])
    assert 0 < fake.peak <= limit
    engine: Any = array._prepare(array._snapshot).engine  # noqa: SLF001
    assert 0 < engine.pool.peak_nbytes <= limit
    assert engine.pool.lent_nbytes == fake.used == 0


def test_bytes_behind_a_zlib_stream_are_ignored_as_on_the_cpu(fake: FakeDevice) -> None:
    codec = {"name": "numcodecs.zlib", "configuration": {"level": 1}}
    store = plain_store(
        ARRAY, (10, 10), encode=lambda data: zlib.compress(data) + b"more", codecs=("bytes", codec)
    )
    assert_engines_agree(store)
    del fake


def test_a_device_that_fails_is_named_with_its_chunks(
    fake: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = plain_store(ARRAY, (10, 10), encode=zstd, codecs=("bytes", ZSTD))
    array = opened(store)

    def fail(*_: Any, **__: Any) -> None:
        raise gpuzarr.DeviceError("an illegal memory access")

    monkeypatch.setattr("tests.engines.cuda.fake_nvcomp.FakeNvcomp.decompress", fail)
    with pytest.raises(gpuzarr.DeviceError, match=r'c/0/0.*illegal.*decode="host"'):
        array[...]
    del fake


def test_a_writer_that_replaces_a_shard(fake: FakeDevice) -> None:
    del fake
    values = sharded_store(ARRAY, (30, 50), (5, 5), encode=zstd, inner_codecs=("bytes", ZSTD))
    store = CountingStore(values)
    array = opened(store)
    assert_same(ARRAY, array[...])
    newer = sharded_store(ARRAY + 7, (30, 50), (5, 5), encode=zstd, inner_codecs=("bytes", ZSTD))
    values.update(newer)
    assert_same(ARRAY + 7, array[...])


def test_a_shard_that_vanishes(fake: FakeDevice) -> None:
    del fake
    values = sharded_store(ARRAY, (30, 50), (5, 5), encode=zstd, inner_codecs=("bytes", ZSTD))
    array = opened(values)
    assert_same(ARRAY, array[...])
    del values["c/1/0"]
    expected = ARRAY.copy()
    expected[30:] = 0
    assert_same(expected, array[...])
