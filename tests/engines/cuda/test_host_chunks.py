"""Chunks that only the host can decode, among those that the device decodes."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING
from unittest.mock import Mock

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cuda import host_chunks
from tests.arrays import plain_store
from tests.cuda_devices import assert_same, fake
from tests.engines.cuda.stores import ARRAY, GZIP, opened

if TYPE_CHECKING:
    from tests.engines.cuda.fake_device import FakeDevice

__all__ = ["fake"]  # a fixture

BY_HOST = ["c/0/1", "c/2/2", "c/4/0"]


def two_members(data: bytes) -> bytes:
    """A gzip chunk that the device cannot decode."""
    return gzip.compress(data[:50], 1) + gzip.compress(data[50:], 1)


def stored() -> dict[str, bytes]:
    """10 x 10 chunks, three of them for the host."""
    store = plain_store(ARRAY, (10, 10), encode=gzip.compress, codecs=("bytes", GZIP))
    for key in BY_HOST:
        store[key] = two_members(gzip.decompress(store[key]))
    return store


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("damaged", [[], ["c/0/1"], ["c/4/0", "c/2/2"], BY_HOST])
def test_those_that_fail_take_nobody_with_them(
    fake: FakeDevice, monkeypatch: pytest.MonkeyPatch, damaged: list[str], *, large: bool
) -> None:
    if large:
        monkeypatch.setattr(host_chunks, "LARGE_NBYTES", 0)
    store = stored()
    for key in damaged:
        store[key] = store[key][:-6]
    array = opened(store)
    out = np.full_like(ARRAY, 99)
    if damaged:
        with pytest.raises(gpuzarr.DecodeError) as raised:
            array.read(out=out)
        assert sorted(failure.key for failure in raised.value.failures) == sorted(damaged)
    else:
        assert_same(ARRAY, array[...])
    assert fake.used == 0
    rows = [row for row in range(0, len(ARRAY), 10) if f"c/{row // 10}" not in str(damaged)]
    for row in rows:
        assert_same(ARRAY[row : row + 10], array[row : row + 10])


def test_no_pinned_memory_is_taken_for_what_large_ones_claim(
    fake: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = plain_store(np.zeros((10, 10), "i4"), (10, 10), codecs=("bytes", GZIP))
    document = json.loads(huge["zarr.json"])
    document["chunk_grid"]["configuration"]["chunk_shape"] = [10, 20_000_000]
    store = {"zarr.json": json.dumps(document).encode()}
    store["c/0/0"] = two_members(b"much less than the metadata say" * 10)
    pin = Mock(side_effect=fake.pin)
    monkeypatch.setattr(fake, "pin", pin)
    with pytest.raises(gpuzarr.DecodeError, match="c/0/0"):
        opened(store)[...]
    assert max(call.args[0] for call in pin.call_args_list) < 1 << 20
