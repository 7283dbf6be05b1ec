"""The CUDA engine on the fake device: what it asks of the device, and what it gives."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest
import zstandard

import gpuzarr
from tests.arrays import CountingStore, plain_store, sharded_store
from tests.cuda_devices import assert_engines_agree, assert_same, fake, installed
from tests.engines.cuda.fake_device import FakeDevice, FakeStream

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fake"]  # a fixture

ARRAY = np.arange(60 * 50, dtype=np.int32).reshape(60, 50)
ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
GZIP = {"name": "gzip", "configuration": {"level": 5}}
CRC32C = {"name": "crc32c"}
BLOSC = {
    "name": "blosc",
    "configuration": {
        "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0,
    },
}  # fmt: skip


def blosc(cname: str = "lz4", shuffle: int = 1) -> Callable[[bytes], bytes]:
    codec = numcodecs.Blosc(cname=cname, shuffle=shuffle)
    return lambda data: bytes(codec.encode(np.frombuffer(data, "<i4")))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


def opened(store: Any, **choices: Any) -> gpuzarr.Array:
    return gpuzarr.open_array(store, device="cuda", **choices)


# -------------------------------------------------------------------------------------- counters


@pytest.mark.parametrize(
    ("codecs", "encode", "launches"),
    [
        (("bytes",), bytes, 1),
        (("bytes", ZSTD), zstd, 2),
        (("bytes", BLOSC), blosc(), 3),
        (("bytes", BLOSC), blosc("zstd", 2), 5),
        (("bytes", GZIP), lambda data: gzip.compress(data, 1), 3),
    ],
)
def test_calls_do_not_grow_with_chunks(
    fake: FakeDevice, codecs: Any, encode: Any, launches: int
) -> None:
    """10,000 chunks in one batch: as many launches and calls of nvCOMP as for 100."""
    found = []
    for side in (10, 100):
        values = np.arange((8 * side) ** 2, dtype=np.int32).reshape(8 * side, 8 * side)
        store = sharded_store(values, values.shape, (8, 8), encode=encode, inner_codecs=codecs)
        array = opened(store, memory_limit=1 << 28)
        fake.counts.clear()
        assert_same(values, array[...])
        found.append(dict(fake.counts))
    for what in ("launch", "decompress", "upload", "download", "allocate"):
        assert found[0].get(what) == found[1].get(what), what
    few = found[1]
    assert few["launch"] + few.get("decompress", 0) + few.get("checksum", 0) <= 12
    assert few["launch"] <= launches + 2
    assert few["allocate"] == 2, "the batch's memory, and its table"
    assert few["download"] == 1, "the statuses"


def test_reads_grow_with_batches_only(fake: FakeDevice) -> None:
    values = np.arange(1 << 16, dtype=np.int32)
    store = sharded_store(values, (1 << 14,), (256,), encode=zstd, inner_codecs=("bytes", ZSTD))
    array = opened(store, memory_limit=1 << 18)
    fake.counts.clear()
    assert_same(values, array[...])
    batches = array.explain().batches
    assert batches > 3
    assert fake.counts["download"] >= batches
    assert fake.counts["launch"] <= 4 * fake.counts["download"]


# ---------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("limit", [100_000, 300_000, 1_000_000])
@pytest.mark.parametrize("decode", ["auto", "host"])
@pytest.mark.parametrize("sharded", [False, True])
def test_memory_stays_in_the_limit(limit: int, decode: Any, sharded: bool) -> None:  # noqa: FBT001
    device = FakeDevice()
    values = np.random.default_rng(0).integers(0, 999, 1 << 18, np.int32)
    if sharded:
        codecs = ("bytes", ZSTD)
        store = sharded_store(values, (1 << 15,), (1 << 10,), encode=zstd, inner_codecs=codecs)
    else:
        store = plain_store(values, (1 << 10,), encode=zstd, codecs=("bytes", ZSTD))
    with installed(device):
        array = opened(store, memory_limit=limit, decode=decode)
        assert_same(values, array[...])
        assert 0 < device.peak <= limit
        assert device.used == 0
        engine: Any = array._prepare(array._snapshot).engine  # noqa: SLF001
        assert 0 < engine.pool.peak_nbytes <= limit
        assert engine.pool.lent_nbytes == 0


def test_batches_that_turn_out_too_large_are_cut(fake: FakeDevice) -> None:
    """Noise does not shrink, and nobody knows that before it is read."""
    values = np.random.default_rng(0).integers(-(2**31), 2**31, 1 << 16, np.int32)
    for codecs, encode in (((ZSTD,), zstd), ((BLOSC,), blosc()), ((), bytes)):
        store = plain_store(values, (1 << 8,), encode=encode, codecs=("bytes", *codecs))
        array = opened(store, memory_limit=60_000)
        assert_same(values, array[...])
    assert fake.peak <= 60_000


def test_a_chunk_above_the_limit_says_what_it_needs(fake: FakeDevice) -> None:
    values = np.arange(1 << 14, dtype=np.int32)
    for codecs, encode in (((ZSTD,), zstd), ((), bytes)):
        store = plain_store(values, values.shape, encode=encode, codecs=("bytes", *codecs))
        with pytest.raises(gpuzarr.MemoryLimitError, match=r"needs [\d,]+ bytes.*20,000"):
            opened(store, memory_limit=20_000)[...]
    assert fake.used == 0


def test_without_a_limit_a_large_chunk_is_read(fake: FakeDevice) -> None:
    fake.free = 40_000_000
    values = np.arange(1 << 21, dtype=np.int32)
    store = plain_store(values, values.shape, encode=zstd, codecs=("bytes", ZSTD))
    assert_same(values, opened(store)[...])


def test_a_result_that_does_not_fit_is_refused(fake: FakeDevice) -> None:
    store = plain_store(ARRAY, (10, 10))
    fake.free = 100
    with pytest.raises(gpuzarr.MemoryLimitError):
        opened(store)[...]


# ---------------------------------------------------------------------- where chunks are decoded


def test_engine_names_and_reasons(fake: FakeDevice) -> None:
    lzma = {"name": "numcodecs.bz2", "configuration": {"level": 1}}
    import bz2  # noqa: PLC0415

    plain = opened(plain_store(ARRAY, (20, 20), encode=zstd, codecs=("bytes", ZSTD)))
    store = plain_store(ARRAY, (20, 20), encode=bz2.compress, codecs=("bytes", lzma))
    mixed = opened(store)
    assert (plain.engine, plain.device) == ("cuda", fake.name)
    assert mixed.engine == "hybrid"
    assert_same(ARRAY, mixed[...])
    assert "bz2" in " ".join(mixed.explain().notes)
    assert mixed.explain().steps == ("decompress bz2 (host)",)
    assert plain.explain().steps == ("decompress zstd (cuda:0)",)
    with pytest.raises(gpuzarr.UnsupportedError, match="bz2") as raised:
        opened(store, decode="device")[...]
    assert len(raised.value.reasons) == 1
    on_host = opened(
        plain_store(ARRAY, (20, 20), encode=zstd, codecs=("bytes", ZSTD)), decode="host"
    )
    fake.counts.clear()
    assert_same(ARRAY, on_host[...])
    assert on_host.engine == "hybrid"
    assert fake.counts["decompress"] == 0


def test_single_chunks_go_to_the_host_and_are_counted(fake: FakeDevice) -> None:
    odd = iter(range(100))

    def encode(data: bytes) -> bytes:
        if next(odd) % 3 == 0:
            return gzip.compress(data[:7]) + gzip.compress(data[7:])
        return gzip.compress(data)

    store = plain_store(ARRAY, (10, 10), encode=encode, codecs=("bytes", GZIP))
    array = opened(store)
    assert array.engine == "cuda"
    assert_same(ARRAY, array[...])
    note = " ".join(array.explain().notes)
    assert "10 chunks" in note
    assert "several members" in note
    assert fake.counts["decompress"] == 1
    with pytest.raises(gpuzarr.ChunkError, match="several members") as raised:
        opened(store, decode="device")[...]
    assert len(raised.value.failures) == 10


def test_two_compressors(fake: FakeDevice) -> None:
    """The one nearer the store runs on the host, since only it shows what the other takes."""
    store = plain_store(
        ARRAY, (20, 20), encode=lambda data: gzip.compress(zstd(data)), codecs=("bytes", ZSTD, GZIP)
    )
    array = opened(store)
    assert array.explain().steps == ("decompress gzip (host)", "decompress zstd (cuda:0)")
    assert_same(ARRAY, array[...])
    assert fake.counts["decompress"] == 1


# ------------------------------------------------------------------------------ results and out


def test_outputs(fake: FakeDevice) -> None:
    del fake
    store = plain_store(ARRAY, (7, 13), encode=zstd, codecs=("bytes", ZSTD))
    array = opened(store)
    wide = np.zeros((120, 100), np.float64)
    out = wide[::2, ::-2]
    assert array.read(out=out) is out
    np.testing.assert_array_equal(out, ARRAY)
    assert not wide[1::2].any()
    with pytest.raises(ValueError, match="shape"):
        array.read(out=np.zeros((3, 3), np.int32))
    with pytest.raises(ValueError, match=r"numpy\.ndarray on cuda:0"):
        array.read(out=[0])
    transposed = np.zeros((50, 60), np.int32).T
    np.testing.assert_array_equal(array.read(out=transposed), ARRAY)
    points = np.zeros((2, 3), np.int32, order="F")  # its axes do not join without a copy
    key = (np.array([[0, 1, 2], [59, 5, 6]]), np.array([[3, 4, 5], [0, 1, 49]]))
    np.testing.assert_array_equal(array.read(key, out=points), ARRAY[key])


def test_conversions_on_the_way(fake: FakeDevice) -> None:
    del fake
    store = plain_store(
        ARRAY, (7, 13), encode=zstd, codecs=("bytes", ZSTD), skip=lambda c: c == (1, 1)
    )
    for choices in ({"dtype": "f4"}, {"scale": 0.1}, {"dtype": "f2", "offset": 7}, {"dtype": "?"}):
        assert_engines_agree(store, (slice(3, 50, 3), slice(None, None, -1)), **choices)
    with pytest.raises(gpuzarr.ChunkError, match="does not fit") as raised:
        opened(store).read(dtype="u1", scale=1.0)
    assert len(raised.value.failures) > 10
    with pytest.raises(gpuzarr.ChunkError, match="does not fit"):
        gpuzarr.open_array(store, device="cpu").read(dtype="u1", scale=1.0)


def test_empty_selections_and_missing_chunks(fake: FakeDevice) -> None:
    store = plain_store(ARRAY, (7, 13), fill_value=-5, skip=lambda _: True)
    assert_same(np.full((60, 50), -5, np.int32), opened(store)[...])
    fake.counts.clear()
    assert opened(store)[5:5].shape == (0, 50)
    assert not fake.counts["launch"]
    sharded = sharded_store(ARRAY, (30, 50), (5, 5), skip=lambda c: c[0] == 1)
    assert_engines_agree(sharded)
    assert_engines_agree(sharded, (slice(None, None, 7), [4, 4, 0]))


def test_reads_on_a_stream_and_unsynchronised_ones(fake: FakeDevice) -> None:
    store = plain_store(ARRAY, (7, 13), encode=zstd, codecs=("bytes", ZSTD))
    stream = FakeStream()
    pending = opened(store).read_async(stream=stream)
    assert stream.put > 0
    assert stream.done == 0, "nothing has waited yet"
    assert fake.current_stream().put == 0
    assert_same(ARRAY, pending.result())
    assert pending.result() is pending.result()
    assert stream.done == stream.put
    assert_same(ARRAY, opened(store).read(stream=stream))
    with pytest.raises(ValueError, match="stream="):
        gpuzarr.open_array(store, device="cpu").read(stream=stream)


def test_a_pending_read_tells_its_error_when_asked(fake: FakeDevice) -> None:
    del fake
    store = plain_store(ARRAY, (10, 10), encode=zstd, codecs=("bytes", ZSTD))
    store["c/2/2"] = store["c/2/2"][:-3]
    pending = opened(store).read_async()
    for _ in range(2):
        with pytest.raises(gpuzarr.DecodeError, match="c/2/2"):
            pending.result()


# ------------------------------------------------------------------------------------ failures


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
    with pytest.raises(gpuzarr.DecodeError, match=r"c/4/0.*checksum"):
        opened(store)[...]


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
