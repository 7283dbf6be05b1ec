"""Hops are ranges with a name, which end however a hop ends."""

from __future__ import annotations

import pytest

import gpuzarr
from gpuzarr import few
from tests.arrays import plain_store
from tests.cuda_devices import HOST_WINS, assert_same, installed
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.stores import ARRAY, ZSTD, opened, zstd

END = "end"


def store(skipped: tuple[int, int] = (-1, -1)) -> dict[str, bytes]:
    return plain_store(
        ARRAY, (20, 25), encode=zstd, codecs=("bytes", ZSTD), skip=lambda at: at == skipped
    )


def test_a_read_is_a_range_for_each_hop() -> None:
    device = FakeDevice()
    with installed(device):
        assert_same(ARRAY, opened(store())[...])
        assert device.marks == [
            *("gpuzarr: fetch", END, "gpuzarr: decode", END, "gpuzarr: finish", END)
        ]
        device.marks.clear()
        opened(store((0, 1)))[...]
    assert device.marks[2:6] == ["gpuzarr: decode", "gpuzarr: fill", END, END]


def test_a_small_read_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few, "MOST_CHUNKS", 128)
    device = FakeDevice()
    with installed(device, HOST_WINS):
        assert_same(ARRAY[:5], opened(store())[:5])
    assert device.marks == ["gpuzarr: read", END]


def test_ranges_end_where_a_hop_fails() -> None:
    device = FakeDevice()
    damaged = store()
    damaged["c/1/1"] = damaged["c/1/1"][:-3]
    with installed(device), pytest.raises(gpuzarr.ChunkError):
        opened(damaged)[...]
    assert device.marks.count(END) * 2 == len(device.marks) > 0
