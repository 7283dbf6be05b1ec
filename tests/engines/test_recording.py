"""The engine that runs nothing: it sees the same batches as one that does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

import gpuzarr
from gpuzarr.engines.conversion import make_conversion
from gpuzarr.engines.recording import RecordingEngine
from gpuzarr.pending import Request, read_selection
from gpuzarr.plan.batches import BatchLimits
from gpuzarr.plan.selection import normalize_selection
from tests.arrays import CountingStore, plain_store, sharded_store

if TYPE_CHECKING:
    from gpuzarr.engines.recording import RecordingSession

ARRAY = np.arange(40 * 30, dtype=np.int32).reshape(40, 30)


def record(store: Any, key: Any, limits: BatchLimits | None = None) -> RecordingSession:
    """What an engine is asked to do for `array[key]`."""
    array = gpuzarr.open_array(store)
    engine = RecordingEngine(limits or BatchLimits(1 << 20, 2, 0))
    source = replace(array._prepare(array._snapshot), engine=engine)  # noqa: SLF001  below Array
    selection = normalize_selection(key, array.shape)
    read_selection(Request(source, selection, make_conversion(array.dtype))).result()
    (session,) = engine.sessions
    return session


def test_a_read_is_one_session_that_is_finished() -> None:
    store = CountingStore(plain_store(ARRAY, (10, 10)))
    session = record(store, (slice(5, 25), slice(0, 10)))
    assert session.finished
    assert [batch.chunks.coords.tolist() for batch in session.batches] == [[[0, 0], [1, 0], [2, 0]]]
    assert session.batches[0].requests.keys == ["c/0/0", "c/1/0", "c/2/0"]
    assert len(session.programs) == 1
    assert session.programs[0].steps == ()
    assert session.filled == []
    assert [key for key, _, _ in store.taken()] == ["zarr.json"]


def test_pieces_say_what_goes_where() -> None:
    session = record(plain_store(ARRAY, (10, 10)), (slice(5, 25), slice(8, 12)))
    (batch,) = session.batches
    assert batch.chunks.coords.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]
    assert batch.pieces.start.tolist() == [[5, 8], [5, 0], [0, 8], [0, 0], [0, 8], [0, 0]]
    assert batch.pieces.out_start.tolist() == [[0, 0], [0, 2], [5, 0], [5, 2], [15, 0], [15, 2]]
    assert batch.pieces.extent.tolist() == [[5, 2], [5, 2], [10, 2], [10, 2], [5, 2], [5, 2]]
    (output,) = session.outputs
    assert output.array.shape == (20, 4)


def test_batches_follow_the_engines_limits() -> None:
    limits = BatchLimits(900, 2, 0, least_nbytes=1)
    session = record(plain_store(ARRAY, (10, 10)), ..., limits)
    assert sum(len(batch.chunks) for batch in session.batches) == 12
    assert all(batch.chunks.decoded_nbytes.sum() <= 900 for batch in session.batches)
    assert len(session.programs) == len(session.batches)


def test_chunks_that_shards_do_not_hold_are_filled_and_not_fetched() -> None:
    values = sharded_store(ARRAY, (20, 30), (10, 10), skip=lambda coords: coords == (1, 2))
    session = record(values, (slice(0, 20), slice(10, 30)))
    assert sum(len(batch.chunks) for batch in session.batches) == 3
    (filled,) = session.filled
    assert filled.out_start.tolist() == [[10, 10]]
    assert filled.extent.tolist() == [[10, 10]]
    assert session.failures == []


def test_damage_is_recorded_and_not_raised() -> None:
    values = sharded_store(ARRAY, (20, 30), (10, 10))
    values["c/0/0"] = b"short"
    session = record(values, ...)
    assert sorted(failure.coords for failure in session.failures) == [
        (i, j) for i in range(2) for j in range(3)
    ]
    assert session.finished


def test_its_results_take_no_memory() -> None:
    engine = RecordingEngine(BatchLimits(1, 1, 0))
    assert engine.empty((2**30, 2**20), np.dtype("f8")).shape == (2**30, 2**20)
