"""Whole reads on a real GPU, beside what the tests with the fixture `cuda` read there."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest

import gpuzarr
from tests.arrays import plain_store, sharded_store
from tests.cuda_devices import assert_same
from tests.stores.remote.loopback import Fault, FileServer

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.gpu

ARRAY = np.cumsum(np.random.default_rng(0).integers(-9, 9, 700 * 900, np.int32)).astype(np.int32)
ARRAY = ARRAY.reshape(700, 900)


def codec_of(name: str) -> tuple[tuple[Any, ...], Callable[[bytes], bytes]]:
    """A chain of codecs, and how it encodes."""
    if name == "none":
        return ("bytes",), bytes
    if name == "zstd":
        zstd = numcodecs.Zstd(level=3)
        configuration = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
        return ("bytes", configuration), lambda data: bytes(zstd.encode(data))
    shuffle = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[name.partition(" ")[2]]
    cname = name.partition(" ")[0]
    blosc = numcodecs.Blosc(cname=cname, shuffle=shuffle)
    settings = {"cname": cname, "clevel": 5, "typesize": 4, "blocksize": 0}
    settings["shuffle"] = name.partition(" ")[2]
    return (
        ("bytes", {"name": "blosc", "configuration": settings}),
        lambda data: bytes(blosc.encode(np.frombuffer(data, "<i4"))),
    )


NAMES = [
    "none",
    "zstd",
    *(
        f"{cname} {shuffle}"
        for cname in ("lz4", "zstd", "zlib", "blosclz", "lz4hc")
        for shuffle in ("noshuffle", "shuffle", "bitshuffle")
    ),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("io", ["pinned", "kvikio"])
def test_local_files(name: str, io: Any, tmp_path: Path) -> None:
    codecs, encode = codec_of(name)
    for values in (
        plain_store(ARRAY, (100, 128), encode=encode, codecs=codecs),
        sharded_store(ARRAY, (350, 450), (50, 50), encode=encode, inner_codecs=codecs),
    ):
        folder = tmp_path / str(len(values))
        for key, value in values.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(value)
        array = gpuzarr.open_array(folder, device="cuda", io=io)
        assert_same(ARRAY, array[...])
        assert_same(ARRAY[5:600:7, ::-3], array[5:600:7, ::-3])
        scaled = gpuzarr.open_array(folder, device="cpu").read(dtype="f4", scale=0.1)
        assert_same(scaled, array.read(dtype="f4", scale=0.1))


@pytest.mark.parametrize("name", ["none", "zstd shuffle"])
def test_shards_over_http(name: str) -> None:
    codecs, encode = codec_of(name)
    stored = sharded_store(ARRAY, (350, 450), (50, 50), encode=encode, inner_codecs=codecs)
    with FileServer(stored) as server:
        array = gpuzarr.open_array(server.url, device="cuda", io="kvikio")
        assert_same(ARRAY, array[...])
        assert_same(ARRAY[5:600:7, ::-3], array[5:600:7, ::-3])
        assert any("user-agent" not in seen.headers for seen in server.seen), "kvikio's"
        server.fault = lambda seen: None if "user-agent" in seen.headers else Fault(status=403)
        assert_same(ARRAY, array[...])


def test_outputs_and_streams_of_cupy() -> None:
    import cupy  # noqa: PLC0415

    codecs, encode = codec_of("lz4 shuffle")
    array = gpuzarr.open_array(
        plain_store(ARRAY, (99, 77), encode=encode, codecs=codecs), device="cuda"
    )
    wide = cupy.zeros((1400, 1800), cupy.float64)
    out = wide[::2, ::-2]
    assert array.read(out=out) is out
    assert_same(ARRAY.astype("f8"), cupy.ascontiguousarray(out))
    assert not wide[1::2].any()
    key = (np.array([[0, 1, 2], [69, 5, 6]]), np.array([[3, 4, 5], [0, 1, 49]]))
    points = cupy.zeros((2, 3), cupy.int32, order="F")
    assert_same(ARRAY[key], cupy.ascontiguousarray(array.read(key, out=points)))
    with cupy.cuda.Stream(non_blocking=True) as stream:
        pending = array.read_async()
        doubled = 2 * pending.result()
        stream.synchronize()
    assert_same(2 * ARRAY, doubled)
    with pytest.raises(ValueError, match="out="):
        array.read(out=np.zeros((700, 900), np.int32))


def test_many_threads() -> None:
    codecs, encode = codec_of("zstd")
    array = gpuzarr.open_array(
        plain_store(ARRAY, (70, 90), encode=encode, codecs=codecs), device="cuda"
    )
    wrong: list[int] = []

    def read(number: int) -> None:
        here = slice(number * 50, number * 50 + 120)
        if not np.array_equal(array[here].get(), ARRAY[here]):
            wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_comes_from_the_current_pool_and_goes_back() -> None:
    import cupy  # noqa: PLC0415

    codecs, encode = codec_of("zstd bitshuffle")
    store = plain_store(ARRAY, (70, 90), encode=encode, codecs=codecs)
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        array = gpuzarr.open_array(store, device="cuda", memory_limit=2_000_000)
        result = array[...]
        assert pool.total_bytes() > 0
        assert pool.used_bytes() <= -(-result.nbytes // 512) * 512
    assert_same(ARRAY, result)


FORKED = """
import os, sys
import numpy as np, gpuzarr
from tests.arrays import plain_store
values = np.arange(12, dtype=np.int32)
array = gpuzarr.open_array(plain_store(values, (5,)), device="cuda")
array[...]
child = os.fork()
if child == 0:
    try:
        array[...]
    except gpuzarr.DeviceError as error:
        os._exit(0 if "spawn" in str(error) else 2)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
