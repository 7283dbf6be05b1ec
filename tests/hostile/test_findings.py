"""What hostile inputs found wrong in the library once, each in its smallest form."""

from __future__ import annotations

import gc
import io
import json
import struct
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zstandard

import gpuzarr
from gpuzarr import few
from gpuzarr.cli import main
from gpuzarr.engines.cpu.decoder import OBJECT_LIMIT
from gpuzarr.engines.cuda import staging
from tests.arrays import encoded, plain_store, sharded_store, v3_metadata
from tests.cuda_devices import fake
from tests.hostile.bases import Base, load_bases
from tests.hostile.bombs import zstd_frame

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engines.cuda.fake_device import FakeDevice

__all__ = ["fake"]  # a fixture

ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
MOST_PINNED = 16 << 20


@pytest.mark.parametrize("ndim", [63, 64])
def test_arrays_of_as_many_dimensions_as_numpy_has(
    ndim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planning made columns of one dimension more, which NumPy refused with a ValueError."""
    monkeypatch.setattr(few, "MOST_CHUNKS", 0)
    shape = (*(1,) * (ndim - 2), 3, 4)
    values = np.arange(12, dtype=np.int32).reshape(shape)
    array = gpuzarr.open_array(plain_store(values, (*(1,) * (ndim - 2), 2, 3)))
    np.testing.assert_array_equal(array[...], values)
    np.testing.assert_array_equal(array[..., 1:3], values[..., 1:3])


def test_bytes_that_become_objects_have_the_limit_that_is_said() -> None:
    """The compressor in front of them was allowed four times as much: 512 MiB of a bomb."""
    document = v3_metadata((4,), (4,), data_type="string", codecs=("vlen-utf8", ZSTD))
    document["fill_value"] = ""
    bomb = zstd_frame(4000, None)
    with pytest.raises(gpuzarr.DecodeError, match="bytes came out") as raised:
        gpuzarr.open_array({"zarr.json": encoded(document), "c/0": bomb})[...]
    said = int(str(raised.value).partition("more than ")[2].split()[0])
    assert said < 1.5 * (OBJECT_LIMIT.nbytes + OBJECT_LIMIT.factor * len(bomb))


@pytest.mark.parametrize("nbytes", [1 << 31, 1 << 40, 1 << 62])
def test_a_lie_in_a_shard_index_takes_no_pinned_memory(fake: FakeDevice, nbytes: int) -> None:
    """A slab was made for what the entry said, and the error was one of memory, of no chunk."""
    values = np.arange(64, dtype=np.int32).reshape(8, 8)
    store = sharded_store(values, (4, 4), (2, 2))
    shard = bytearray(store["c/0/1"])
    shard[-16:] = struct.pack("<QQ", 0, nbytes)
    store["c/0/1"] = bytes(shard)
    with pytest.raises(gpuzarr.ChunkError) as raised:
        gpuzarr.open_array(store, device="cuda")[...]
    assert [failure.coords for failure in raised.value.failures] == [(1, 3)]
    assert fake.peak_pinned < MOST_PINNED


@pytest.mark.parametrize("codecs", [("bytes",), ("bytes", ZSTD)], ids=["plain", "zstd"])
@pytest.mark.parametrize("decode", ["auto", "host"])
def test_a_lie_in_the_metadata_takes_no_pinned_memory(
    fake: FakeDevice, codecs: Any, decode: Any
) -> None:
    """The same for a chunk of 4 GiB, of which 40 bytes are stored."""
    document = v3_metadata((1 << 30,), (1 << 30,), codecs=codecs)
    store = {"zarr.json": encoded(document), "c/0": bytes(40)}
    with pytest.raises(gpuzarr.ChunkError) as raised:
        gpuzarr.open_array(store, device="cuda", decode=decode)[:2]
    assert [failure.coords for failure in raised.value.failures] == [(0,)]
    assert fake.peak_pinned < MOST_PINNED


@pytest.mark.parametrize("decode", ["auto", "host"])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.usefixtures("fake")
def test_chunks_that_are_larger_than_was_thought_are_read(
    decode: Any, monkeypatch: pytest.MonkeyPatch, *, sharded: bool
) -> None:
    """What the guess has no room for lies elsewhere, and is the same."""
    monkeypatch.setattr(staging, "LARGE_NBYTES", 0)
    monkeypatch.setattr(staging, "MOST_EXPANSION", 1)
    monkeypatch.setattr(staging, "MOST_GAPS_NBYTES", -(1 << 12))
    monkeypatch.setattr(staging, "GROWTH_NBYTES", 0)
    values = np.repeat(np.arange(16, dtype=np.int32), 256).reshape(64, 64)
    squeeze = zstandard.ZstdCompressor().compress
    store = (
        sharded_store(values, (32, 32), (16, 16), encode=squeeze, inner_codecs=("bytes", ZSTD))
        if sharded
        else plain_store(values, (16, 16), encode=squeeze, codecs=("bytes", ZSTD))
    )
    found = gpuzarr.open_array(store, device="cuda", decode=decode)[...]
    np.testing.assert_array_equal(np.asarray(found), values)


class Held(dict[str, bytes]):
    """A mapping that can be looked after."""


@pytest.mark.parametrize("most", [0, 128])
def test_a_failed_read_keeps_nothing_alive(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error led back to it, so that results stayed until garbage was collected."""
    monkeypatch.setattr(few, "MOST_CHUNKS", most)
    values = Held(plain_store(np.arange(16, dtype=np.int32), (4,)))
    values["c/1"] = b""
    seen = weakref.ref(values)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(gpuzarr.DecodeError):
            gpuzarr.open_array(values)[...]
        del values
        assert seen() is None
    finally:
        gc.enable()


def zfp_bases() -> list[Base]:
    return [base for base in load_bases() if base.names & {"zfp", "numcodecs.zfpy"}]


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("base", zfp_bases(), ids=lambda base: base.name)
def test_a_zfp_stream_that_is_cut_gives_no_other_values(base: Base) -> None:
    """Half a byte behind streams without a header was always zeros: reading it was not seen."""
    pytest.importorskip("zfpy")
    refused = 0
    for key in base.objects:
        data = base.values[key]
        for size in range(len(data)):
            try:
                found = gpuzarr.open_array({**base.values, key: data[:size]}, path=base.path)[...]
            except gpuzarr.DecodeError:
                refused += 1
                continue
            assert found.tobytes() == base.plain.tobytes(), (key, size)
    assert refused > 10


@pytest.mark.parametrize("sharded", [False, True])
def test_verify_of_an_array_without_dimensions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, sharded: bool
) -> None:
    """It ended with a ValueError."""
    values = np.array(7, np.int32)
    store = sharded_store(values, (), ()) if sharded else plain_store(values, ())
    for key, value in store.items():
        (tmp_path / key).write_bytes(value)
    assert main(["verify", str(tmp_path), "--json"]) == 0
    assert json.load(io.StringIO(capsys.readouterr().out))["ok"]
    data = store["c"]
    (tmp_path / "c").write_bytes(data[:-1])
    assert main(["verify", str(tmp_path), "--json"]) == 1
