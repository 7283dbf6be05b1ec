"""How large batches are: as the tables say, and never more than the memory limit has room for."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from gpuzarr.engines.cpu.decoder import unsupported
from gpuzarr.engines.cpu.engine import decoder_for
from gpuzarr.engines.cuda.capability import STREAM_FORMATS
from gpuzarr.engines.cuda.engine import CudaEngine
from gpuzarr.engines.cuda.layout import device_nbytes_factor
from gpuzarr.engines.cuda.staged import DeviceChunks
from gpuzarr.engines.cuda.tuning import DEFAULTS, SHAPES
from gpuzarr.program import DecodeProgram, Decompress, Layout
from tests.arrays import sharded_store
from tests.cuda_devices import assert_same, fake
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.stores import ZSTD, opened, zstd

__all__ = ["fake"]  # a fixture

LAYOUT = Layout(np.dtype("<i4"), (0,))


@pytest.mark.parametrize("limit", [1, 10_000, 1 << 24, 1 << 28, 1 << 31, 1 << 36])
@pytest.mark.parametrize("name", [None, *STREAM_FORMATS])
def test_batches_fit_and_are_no_larger_than_they_need_be(name: Any, limit: int) -> None:
    program = DecodeProgram((Decompress(name),) if name else (), LAYOUT)
    engine = CudaEngine(FakeDevice(), decoder_for, unsupported, memory_limit=limit, rates=DEFAULTS)
    limits = engine.limits_for(program)
    shape = SHAPES[name]
    assert 1 <= limits.nbytes <= shape.nbytes
    assert limits.chunk_nbytes == shape.chunk_nbytes
    flying = 2 * limits.nbytes * (1 + device_nbytes_factor(program, 0))
    assert flying <= max(limit, 32), "two are on the device at once"
    if limit == 1 << 36:
        assert limits.nbytes == shape.nbytes


def test_small_chunks_count_for_their_scratch(fake: FakeDevice) -> None:
    """A batch that turned out too large would be cut, and its staging copied chunk by chunk."""
    values = np.arange(1 << 15, dtype=np.int32)
    store = sharded_store(values, values.shape, (16,), encode=zstd, inner_codecs=("bytes", ZSTD))
    array = opened(store, memory_limit=1 << 20)
    with patch.object(DeviceChunks, "halves", side_effect=AssertionError("cut in halves")):
        assert_same(values, array[...])
    assert fake.peak <= 1 << 20
