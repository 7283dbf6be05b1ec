"""Streams and events on CuPy, against a pretended CuPy."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.cli.traced import traced_read
from tests.cuda_devices import installed
from tests.engines.cuda import pretend_cupy
from tests.engines.cuda.test_cupy_device import ARRAY, module, store

__all__ = ["module", "store"]  # fixtures


@pytest.mark.parametrize("version", [13, 14])
def test_streams_of_others(module: Any, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    has_protocol = version >= 14
    if not has_protocol:
        monkeypatch.delattr(pretend_cupy.Stream, "from_external")
    device = module.CupyDevice(1)
    handle = SimpleNamespace(value=77)
    for stream in (
        77,
        np.int64(77),
        SimpleNamespace(cuda_stream=77),
        SimpleNamespace(ptr=77),
        SimpleNamespace(handle=handle),
        SimpleNamespace(__cuda_stream__=lambda: (0, 77)),
        SimpleNamespace(__cuda_stream__=(0, 77)),
    ):
        found = device.as_stream(stream)
        assert found.ptr == 77
        kind = pretend_cupy.Stream if has_protocol else pretend_cupy.ExternalStream
        assert type(found) is kind
    assert device.as_stream(SimpleNamespace(handle=SimpleNamespace(value=None))).ptr == 0
    version_1 = SimpleNamespace(__cuda_stream__=lambda: (1, 77))
    for wrong in ("x", "77", 7.5, object(), None, version_1):
        with pytest.raises(ValueError, match="stream= is no CUDA stream"):
            device.as_stream(wrong)


def test_streams_of_cupy(module: Any) -> None:
    device = module.CupyDevice(1)
    for stream in (
        pretend_cupy.Stream(1),
        pretend_cupy.Stream(),
        pretend_cupy.ExternalStream(77),
        pretend_cupy.ExternalStream(77, 1),
    ):
        assert device.as_stream(stream) is stream
    with pytest.raises(ValueError, match=r"belongs to cuda:0, and the read is on cuda:1"):
        device.as_stream(pretend_cupy.Stream(0))


def test_the_owner_of_a_stream_lives_as_long_as_the_stream(module: Any) -> None:
    class Owner:
        cuda_stream = 77

    owner = Owner()
    known = weakref.ref(owner)
    stream = module.CupyDevice(0).as_stream(owner)
    del owner
    assert known() is not None
    del stream
    assert known() is None


def test_uploads_have_a_stream_that_waits_for_no_other(
    module: Any, store: dict[str, bytes]
) -> None:
    device = module.CupyDevice(1)
    copies, mine = device.copy_stream, pretend_cupy.Stream()
    assert copies.non_blocking, "the default stream and others wait for each other"
    assert copies.device_id == 1
    with installed(device):
        array = gpuzarr.open_array(store, device="cuda")
        for stream in (device.current_stream(), mine):
            pretend_cupy.state.waits.clear()
            np.testing.assert_array_equal(array.read(stream=stream).get(), ARRAY)
            assert set(pretend_cupy.state.waits) == {(stream, copies)}


def test_memory_belongs_to_the_stream_that_it_is_uploaded_on(
    module: Any, store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = module.CupyDevice(0)
    allocated, uploaded = [], []
    allocate, upload = device.allocate, device.upload

    def noted(nbytes: int, stream: Any) -> Any:
        memory = allocate(nbytes, stream)
        allocated.append((memory.address, memory.nbytes, memory._pointer.stream))  # noqa: SLF001
        return memory

    def noted_upload(source: Any, target: int, stream: Any) -> None:
        uploaded.append((target, stream))
        upload(source, target, stream)

    monkeypatch.setattr(device, "allocate", noted)
    monkeypatch.setattr(device, "upload", noted_upload)
    with installed(device):
        np.testing.assert_array_equal(gpuzarr.open_array(store, device="cuda")[...].get(), ARRAY)
    assert uploaded
    for target, stream in uploaded:
        owners = [owner for begin, nbytes, owner in allocated if 0 <= target - begin < nbytes]
        assert owners == [stream] == [device.copy_stream]


def test_times(module: Any) -> None:
    device = module.CupyDevice(0)
    stream = device.current_stream()
    first, second = device.record(stream, timed=True), device.record(stream, timed=True)
    assert 0 < second.seconds_since(first) < 10
    assert not device.record(stream).event.timed, "that costs time"


def test_reads_are_traced(module: Any, store: dict[str, bytes]) -> None:
    with installed(module.CupyDevice(0)):
        read = traced_read(gpuzarr.open_array(store, device="cuda"))
    np.testing.assert_array_equal(read.result.get(), ARRAY)
    assert {span.kind for span in read.spans} >= {"upload", "decompress", "kernel", "download"}
    assert all(0 <= span.start <= span.stop for span in read.spans)
