"""The CUDA engine on the fake device: what it asks of the device, and what it gives."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import plain_store, sharded_store
from tests.cuda_devices import assert_engines_agree, assert_same, fake, installed
from tests.engines.cuda.fake_device import FakeDevice, FakeStream
from tests.engines.cuda.stores import ARRAY, BLOSC, GZIP, ZSTD, blosc, opened, zstd

__all__ = ["fake"]  # a fixture


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
    assert few["allocate"] == 3, "what is uploaded, the memory to decode in, and the table"
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


def test_packages_that_the_host_lacks_are_told_before_a_read(
    fake: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    del fake
    monkeypatch.setattr("gpuzarr.engines.cpu.host_codecs.find_spec", lambda _: None)
    codec = {"name": "numcodecs.zfpy", "configuration": {"mode": 4, "tolerance": 0.1}}
    store = plain_store(ARRAY.astype("f4"), (10, 10), codecs=(codec,))
    for decode in ("auto", "device", "host"):
        with pytest.raises(gpuzarr.UnsupportedError, match="pip install zfpy"):
            opened(store, decode=decode)[...]


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
