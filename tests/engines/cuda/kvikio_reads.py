"""What `test_kvikio_reader` runs in processes with the stub driver; each function is a test."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numcodecs
import numpy as np

import gpuzarr
from gpuzarr.cli.traced import traced_read
from gpuzarr.engines.cuda import kvikio_reader
from gpuzarr.engines.cuda.engine import CudaEngine
from gpuzarr.plan.batches import BatchLimits
from tests.arrays import plain_store, sharded_store
from tests.cuda_devices import assert_same, installed
from tests.engines.cuda import fake_nvcomp
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.stores import BLOSC, CRC32C, blosc
from tests.stores.remote.loopback import Fault, FileServer

ARRAY = np.arange(300 * 200, dtype=np.int32).reshape(300, 200)
CNAMES = ("lz4", "zstd", "zlib", "blosclz")


def write(folder: Path, values: dict[str, bytes]) -> Path:
    for key, value in values.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(value)
    return folder


class Counted:
    """kvikio's reads, counted."""

    def __init__(self) -> None:
        import kvikio  # noqa: PLC0415

        self.reads: list[tuple[int, int]] = []
        real = kvikio.CuFile.pread

        def pread(file: Any, buffer: Any, size: int, file_offset: int = 0) -> Any:
            assert file_offset % kvikio_reader.PAGE == 0
            assert buffer.ctypes.data % kvikio_reader.PAGE == 0
            self.reads.append((file_offset, size))
            return real(file, buffer, size, file_offset=file_offset)

        kvikio.CuFile.pread = pread


def opened(folder: Path, **choices: Any) -> gpuzarr.Array:
    return gpuzarr.open_array(folder, device="cuda", io="kvikio", **choices)


def whole_arrays(folder: Path, device: FakeDevice, counted: Counted) -> None:
    for number, (codecs, encode) in enumerate(
        [
            ((), bytes),
            ((CRC32C,), lambda data: bytes(numcodecs.CRC32C().encode(np.frombuffer(data, "u1")))),
            *(((BLOSC,), blosc(cname, shuffle)) for cname in CNAMES for shuffle in (0, 1, 2)),
        ]
    ):
        store = plain_store(ARRAY, (70, 60), encode=encode, codecs=("bytes", *codecs))
        array = opened(write(folder / str(number), store))
        device.counts.clear()
        counted.reads.clear()
        assert_same(ARRAY, array[...])
        assert len(counted.reads) == 20
        assert "by kvikio" in " ".join(array.explain().notes)
        assert_same(ARRAY[5:250:3, ::-1], array[5:250:3, ::-1])
    assert device.used == 0


def shards(folder: Path, device: FakeDevice, counted: Counted) -> None:
    for number, (codecs, encode) in enumerate([((), bytes), ((BLOSC,), blosc("zstd"))]):
        inner = ("bytes", *codecs)
        store = sharded_store(ARRAY, (300, 200), (10, 10), encode=encode, inner_codecs=inner)
        array = opened(write(folder / str(number), store))
        counted.reads.clear()
        assert_same(ARRAY, array[...])
        assert len(counted.reads) <= 2, "neighbours are one read"
        counted.reads.clear()
        assert_same(ARRAY[45, 33:34], array[45, 33:34])
        (offset, size) = counted.reads[0]
        assert size <= 2 * kvikio_reader.PAGE, "pages around one chunk"
        del offset
    assert device.used == 0


def several_stores(folder: Path, device: FakeDevice, counted: Counted) -> None:
    arrays = []
    for number in range(3):
        plain = plain_store(ARRAY + number, (70, 60), encode=blosc("zstd"), codecs=("bytes", BLOSC))
        arrays.append(opened(write(folder / str(number), plain)))
    counted.reads.clear()
    corners = [(3, 4), (200, 60), (71, 100), (3, 5), (0, 0), (150, 61)]
    requests = [
        (arrays[i % 3], (slice(a, a + 9), slice(b, b + 40))) for i, (a, b) in enumerate(corners)
    ]
    expected = [ARRAY[key] + i % 3 for i, (_, key) in enumerate(requests)]
    assert_same(np.stack(expected), gpuzarr.read_batch(requests))
    assert len(counted.reads) == 6, "each chunk once"
    assert device.used == 0


def missing_and_damaged(folder: Path, device: FakeDevice, counted: Counted) -> None:
    del counted
    store = plain_store(ARRAY, (70, 60), encode=blosc("zstd"), codecs=("bytes", BLOSC))
    del store["c/0/0"]
    store["c/1/1"] = store["c/1/1"][:-5]
    store["c/2/2"] = b"nonsense"
    array = opened(write(folder, store))
    expected = gpuzarr.open_array(folder, device="cpu")
    try:
        array[...]
    except gpuzarr.DecodeError as error:
        assert sorted(f.coords for f in error.failures) == [(1, 1), (2, 2)]  # noqa: PT017
    else:
        raise AssertionError
    assert_same(expected[:70], array[:70])
    dictionary = plain_store(ARRAY, (300, 200), encode=bytes)
    dictionary["c/0/0"] = dictionary["c/0/0"][:-1]
    try:
        opened(write(folder / "short", dictionary))[...]
    except gpuzarr.DecodeError as error:
        assert "239999 bytes are stored, not 240000" in str(error)  # noqa: PT017
    else:
        raise AssertionError
    assert device.used == 0


def refused(folder: Path, device: FakeDevice, counted: Counted) -> None:
    """What the device refuses comes back to the host, which never had it."""
    decode = fake_nvcomp.decode
    calls = 0

    def refuse(name: str, stream: bytes, capacity: int) -> bytes:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise fake_nvcomp.DecodeFailedError
        return decode(name, stream, capacity)

    fake_nvcomp.decode = refuse
    store = plain_store(ARRAY, (70, 60), encode=blosc("zstd"), codecs=("bytes", BLOSC))
    array = opened(write(folder, store))
    assert_same(ARRAY, array[...])
    assert counted.reads
    assert "the host finds none" in " ".join(array.explain().notes)
    assert device.used == 0


def changing_files(folder: Path, device: FakeDevice, counted: Counted) -> None:
    store = sharded_store(ARRAY, (300, 200), (10, 10))
    array = opened(write(folder, store))
    assert_same(ARRAY, array[...])
    write(folder, sharded_store(ARRAY + 1, (300, 200), (10, 10)))
    os.utime(folder / "c/0/0", ns=(1, 1))
    assert_same(ARRAY + 1, array[...])
    import kvikio  # noqa: PLC0415

    real = kvikio.CuFile.pread

    def touching(file: Any, *args: Any, **more: Any) -> Any:
        os.utime(folder / "c/0/0", ns=(0, 10 + len(counted.reads)))
        return real(file, *args, **more)

    kvikio.CuFile.pread = touching
    try:
        array[...]
    except (gpuzarr.StoreError, gpuzarr.ChunkError) as error:
        assert "changed while" in str(error) or "replaced" in str(error)  # noqa: PT017
    else:
        raise AssertionError
    assert device.used == 0


def memory(folder: Path, device: FakeDevice, counted: Counted) -> None:
    del counted
    big = np.random.default_rng(0).integers(0, 9, 1 << 20, np.int32)
    store = plain_store(big, (1 << 14,), encode=blosc("lz4"), codecs=("bytes", BLOSC))
    array = opened(write(folder, store), memory_limit=1 << 20)
    assert_same(big, array[...])
    assert device.peak <= 1 << 20, device.peak
    assert device.used == 0


def overlap(folder: Path, device: FakeDevice, counted: Counted) -> None:
    """Reading and walking the next batch waits for no decoding of those before."""
    limits = BatchLimits(1, 1, 0, least_nbytes=1)
    store = plain_store(ARRAY, (70, 60), encode=blosc("zstd"), codecs=("bytes", BLOSC))
    array = opened(write(folder, store))
    with patch.object(CudaEngine, "limits_for", lambda *_: limits):
        read = traced_read(array)
    assert_same(ARRAY, read.result)
    assert len(counted.reads) == 20
    spans = read.spans
    work = max(span.number for span in spans if span.kind == "decompress")
    waits = [span for span in spans if span.kind == "wait" and span.number < work]
    assert len(waits) > 2 * 20, "for memory to read to, and for what a walk asks"
    before: list[set[int]] = []
    for span in spans:
        before.append(set(span.after).union(*(before[number] for number in span.after)))
    for span in spans:
        if span.lane == "copies" or span in waits:
            waited = {spans[number] for number in before[span.number]}
            assert {other.lane for other in waited} <= {"copies", span.lane, "caller"}
            assert not {other for other in waited if other.kind == "decompress"}
    assert device.used == 0


def orders(folder: Path, device: FakeDevice, counted: Counted) -> None:
    """Whatever the order in which streams do their work."""
    store = plain_store(ARRAY, (70, 60), encode=blosc("lz4"), codecs=("bytes", BLOSC))
    write(folder, store)
    for seed in range(6):
        device = FakeDevice(seed=seed)
        with installed(device):
            for limit in (200_000, None):
                assert_same(ARRAY, opened(folder, memory_limit=limit)[...])
        assert device.used == 0
    assert counted.reads


def other_stores(folder: Path, device: FakeDevice, counted: Counted) -> None:
    store = plain_store(ARRAY, (70, 60))
    array = gpuzarr.open_array(store, device="cuda", io="kvikio")
    assert_same(ARRAY, array[...])
    zstd = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
    encode = numcodecs.Zstd(level=1).encode
    packed = plain_store(ARRAY, (70, 60), encode=lambda d: bytes(encode(d)), codecs=("bytes", zstd))
    array = opened(write(folder, packed))
    assert_same(ARRAY, array[...])
    assert not counted.reads, "the host must see these"
    assert "zstd" in " ".join(array.explain().notes)
    del device


def far_shards(folder: Path, device: FakeDevice, counted: Counted) -> None:
    """Over HTTP: kvikio asks for ranges alone, and each object is looked at once."""
    del folder
    for codecs, encode in [((), bytes), ((BLOSC,), blosc("zstd"))]:
        inner = ("bytes", *codecs)
        stored = sharded_store(ARRAY, (150, 100), (10, 10), encode=encode, inner_codecs=inner)
        with FileServer(stored) as server:
            array = gpuzarr.open_array(server.url, device="cuda", io="kvikio")
            server.forget()
            assert_same(ARRAY, array[...])
            assert [seen.method for seen in server.seen].count("HEAD") == 4
            assert len(server.seen) == 3 * 4, "indexes, ranges, looks"
            server.forget()
            assert_same(ARRAY[33:35, 66:68], array[33:35, 66:68])
            (seen,) = [one for one in server.seen if "user-agent" not in one.headers]
            first, last = map(int, str(seen.range).split("-"))
            assert last - first < 1000, "one chunk"
    assert not counted.reads
    assert device.used == 0


def far_faults(folder: Path, device: FakeDevice, counted: Counted) -> None:
    """What kvikio, which says no name of its own, does not get is read through the store.

    What it tries again itself (5xx), it does for seconds.
    """
    del folder, counted
    for fault in (
        Fault(status=403),
        Fault(status=404),
        Fault(cut_after=100),
        Fault(reset=True),
        Fault(status=200, body=b"x" * 300_000),
        Fault(status=206, body=b"x"),
        Fault(status=302, body=b"moved", headers={"Location": "/elsewhere"}),
    ):
        with FileServer(sharded_store(ARRAY, (150, 100), (10, 10))) as server:
            array = gpuzarr.open_array(server.url, device="cuda", io="kvikio")
            server.fault = lambda seen, fault=fault: (  # type: ignore[misc]
                None if "user-agent" in seen.headers else fault
            )
            server.forget()
            assert_same(ARRAY, array[...])
            assert len([seen for seen in server.seen if seen.method == "GET"]) >= 3 * 4
    assert device.used == 0


def long_reads(folder: Path, device: FakeDevice, counted: Counted) -> None:
    """What is longer than a task is several reads, here and far away."""
    import kvikio.defaults  # noqa: PLC0415

    with kvikio.defaults.set({"task_size": 2 * kvikio_reader.PAGE}):
        stored = sharded_store(ARRAY, (300, 200), (10, 10))
        assert_same(ARRAY, opened(write(folder, stored))[...])
        assert len(counted.reads) >= ARRAY.nbytes // (2 * kvikio_reader.PAGE)
        with FileServer(stored) as server:
            array = gpuzarr.open_array(server.url, device="cuda", io="kvikio")
            for fault in (None, Fault(status=403)):
                server.fault = lambda seen, fault=fault: (  # type: ignore[misc]
                    None if "user-agent" in seen.headers else fault
                )
                server.forget()
                assert_same(ARRAY, array[...])
                by_kvikio = [seen for seen in server.seen if "user-agent" not in seen.headers]
                assert len(by_kvikio) == -(-ARRAY.nbytes // (2 * kvikio_reader.PAGE))
    assert device.used == 0


if __name__ == "__main__":
    assert kvikio_reader.unavailable() is None, kvikio_reader.unavailable()
    assert not kvikio_reader.gds_available()
    import kvikio.defaults

    assert kvikio.defaults.get("num_threads") == kvikio_reader.THREADS
    fake = FakeDevice()
    with installed(fake):
        globals()[sys.argv[1]](Path(sys.argv[2]) / "store", fake, Counted())
    print("ok")  # noqa: T201
