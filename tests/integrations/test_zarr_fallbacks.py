"""What gpuzarr does not read of zarr-python's arrays is read by zarr-python, or refused."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.buffer import cpu
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_codec
from zarr.storage import GpuMemoryStore, LocalStore, MemoryStore

import gpuzarr
from gpuzarr.integrations.zarr import GpuzarrCodecPipeline
from tests.cuda_devices import fake
from tests.integrations.zarr_arrays import assert_same, create, filled, read_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engines.cuda.fake_device import FakeDevice

__all__ = ["fake"]


@dataclass(frozen=True)
class Backwards(BytesBytesCodec):
    """A codec that gpuzarr has never heard of."""

    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        del data
        return cls()

    def to_dict(self) -> dict[str, Any]:
        return {"name": "example.backwards", "configuration": {}}

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        del chunk_spec
        return type(chunk_bytes).from_bytes(chunk_bytes.to_bytes()[::-1])

    async def _encode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        return await self._decode_single(chunk_data, chunk_spec)

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: Any) -> int:
        return input_byte_length


register_codec("example.backwards", Backwards)


class InDeviceMemory(GpuMemoryStore):
    """A store for values on a GPU, which keeps those it is given."""

    async def set(self, key: str, value: Any, byte_range: Any = None) -> None:
        await MemoryStore.set(self, key, value, byte_range)


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gpuzarr.zarr"]


def check(array: Any, own: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """Reads and writes work; why zarr-python reads is logged once, and raised when strict."""
    caplog.set_level(logging.INFO, "gpuzarr.zarr")
    for _ in range(2):
        assert_same(array[3:9, 2:], own[3:9, 2:])
        assert_same(array.oindex[[9, 3], 2:], own.oindex[[9, 3], 2:])
    (message,) = reasons(caplog)
    assert reason in message
    with zarr.config.set({"codec_pipeline.strict": True}):
        with pytest.raises(gpuzarr.UnsupportedError, match=reason) as caught:
            array[...]
        assert caught.value.reasons
        if not array.read_only:
            array[4, 5] = 77
    if not array.read_only:
        assert array[4, 5] == own[4, 5] == 77


def test_a_codec_that_is_not_known(caplog: pytest.LogCaptureFixture) -> None:
    array, own = filled("plain", compressors=Backwards())
    check(array, own, "example.backwards", caplog)


def test_values_in_the_memory_of_a_gpu(caplog: pytest.LogCaptureFixture) -> None:
    array, own = filled("sharded", InDeviceMemory())
    check(array, own, "GpuMemoryStore", caplog)


def test_metadata_that_gpuzarr_refuses(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpuzarr.metadata.document.MAX_DEPTH", 1)
    array, own = filled("plain")
    check(array, own, "nested too deeply", caplog)


def test_a_buffer_of_another_type(caplog: pytest.LogCaptureFixture) -> None:
    array, own = filled("plain")
    caplog.set_level(logging.INFO, "gpuzarr.zarr")
    values: Any = np.zeros((17, 12), "i8")
    array.get_basic_selection(slice(None), out=cpu.NDBuffer(values))
    np.testing.assert_array_equal(values, own[...])
    assert "gpuzarr reads int32 where int64 is wanted" in reasons(caplog)[0]


def test_a_store_that_is_gone_reads_as_zarr_reads_it(tmp_path: Path) -> None:
    array, own = create("plain", LocalStore(tmp_path / "store"), fill_value=4)
    shutil.rmtree(tmp_path / "store")
    assert_same(array[...], own[...])
    own[3:9] = 1
    assert_same(array[...], own[...])


def test_inside_shards_zarr_reads_and_writes_itself() -> None:
    with read_by(GpuzarrCodecPipeline):
        array, own = filled("sharded")
        codec = array.metadata.codecs[0].codec_pipeline
    assert isinstance(codec, GpuzarrCodecPipeline)
    assert codec.reader is None
    with read_by(GpuzarrCodecPipeline):
        array[5, 5] = 9
        assert_same(array[...], own[...])
    assert list(codec) == list(BatchedCodecPipeline.from_codecs(codec))


# On a GPU


class DeviceArray(np.ndarray[Any, Any]):
    """NumPy's arrays, as far as zarr-python knows in the memory of a GPU."""

    device: Any = SimpleNamespace(id=0)
    __cuda_array_interface__: Any = None


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As much of CuPy as zarr-python's buffers use, which they are given."""

    def moved(array: Any) -> Any:
        return np.asarray(array).view(DeviceArray)

    pretended = SimpleNamespace(
        asarray=moved,
        empty=lambda **how: moved(np.empty(**how)),
        frombuffer=lambda *what, **how: moved(np.frombuffer(*what, **how)),
        asnumpy=np.array,
    )
    monkeypatch.setattr("zarr.core.buffer.gpu.cp", pretended)
    with zarr.config.enable_gpu():
        yield


@pytest.mark.parametrize("kind", ["edges", "sharded", "transposed", "v2 order F"])
def test_into_buffers_on_a_gpu_the_cuda_engine_reads(
    kind: str, cupy: None, fake: FakeDevice
) -> None:
    del cupy
    with zarr.config.set(
        {"buffer": "zarr.buffer.cpu.Buffer", "ndbuffer": "zarr.buffer.cpu.NDBuffer"}
    ):
        array, own = filled(kind)
        expected = own[...]
    fake.counts.clear()
    for key in ((slice(3, 14), slice(1, 9)), (slice(None, None, 3), 5)):
        found = array[key]
        assert isinstance(found, DeviceArray)
        np.testing.assert_array_equal(found, expected[key])
    lists = ([9, 3, 3], [1, 8])
    np.testing.assert_array_equal(array.oindex[lists], expected[np.ix_(*lists)])
    assert sum(fake.counts.values())
