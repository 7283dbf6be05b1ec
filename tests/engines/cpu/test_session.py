"""Where batches run: in the caller's thread, or in the pool."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.conversion import make_conversion
from gpuzarr.engines.cpu import engine, session
from gpuzarr.engines.cpu.engine import CpuEngine
from gpuzarr.engines.pool import shared_pool
from gpuzarr.engines.recording import RecordingEngine
from gpuzarr.pending import Request, read_selection
from gpuzarr.plan.selection import normalize_selection
from tests.arrays import plain_store

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each time that the pool was asked for."""
    times: list[None] = []

    def count() -> ThreadPoolExecutor:
        times.append(None)
        return shared_pool()

    monkeypatch.setattr(session, "shared_pool", count)
    return times


@pytest.mark.parametrize(("chunk", "pooled"), [(1 << 10, False), (1 << 13, True)])
def test_tiny_chunks_stay_in_the_callers_thread(
    monkeypatch: pytest.MonkeyPatch, taken: list[None], chunk: int, *, pooled: bool
) -> None:
    monkeypatch.setattr(session, "TINY_NBYTES", 1 << 14)
    values = np.arange(1 << 16, dtype=np.int32)
    array = gpuzarr.open_array(plain_store(values, (chunk,)), threads=2)
    np.testing.assert_array_equal(array[...], values)
    assert bool(taken) is pooled


def test_a_single_batch_stays_in_the_callers_thread(taken: list[None]) -> None:
    values = np.arange(1 << 16, dtype=np.int32)
    array = gpuzarr.open_array(plain_store(values, values.shape), threads=2)
    np.testing.assert_array_equal(array[...], values)
    assert not taken


@pytest.mark.parametrize(("threads", "kib", "batches"), [(2, 75, 1), (2, 512, 14), (1, 290, 1)])
def test_reads_are_cut_for_threads_only_where_it_is_worth_it(
    threads: int, kib: int, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LEAST_NBYTES", 2 << 20)
    side = kib << 10
    array = gpuzarr.open_array(plain_store(np.zeros(27 * side, "u1"), (side,)))
    source = array._prepare(array._snapshot)  # noqa: SLF001  below Array
    limits = CpuEngine(threads).limits_for(source.codecs.program)
    recording = RecordingEngine(limits)
    dry = replace(source, engine=recording)
    selection = normalize_selection(..., array.shape)
    read_selection(Request(dry, selection, make_conversion(array.dtype))).result()
    assert len(recording.sessions[0].batches) == batches
