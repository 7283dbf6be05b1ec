"""The kernels that turn what decoders and checksums say into statuses."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cuda.kernels import STATUS, THREADS
from tests.kernels.arguments import addresses, integers, launch, unaligned


def test_streams() -> None:
    status = np.zeros(4, np.int32)
    outcome, actual = np.array([0, 12, 0, 0], np.int32), integers(5, 5, 4, 5)
    columns = (outcome, actual, integers(5, 5, 5, 5), integers(0, 1, 2, 3), 4, status)
    launch("check_streams", 1, *columns)
    assert status.tolist() == [0, STATUS["STREAM"], STATUS["SIZE"], 0]
    status[:] = 9
    launch("check_streams", 1, *columns)
    assert status.tolist() == [9] * 4, "the first status stays"


@given(
    streams=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([0, 0, 0, 12]), st.integers(4, 5)),
        min_size=1,
        max_size=3 * THREADS,
    )
)
def test_chunks_of_many_streams(streams: list[tuple[int, int, int]]) -> None:
    """A chunk is bad where one of its streams is, whichever it is."""
    chunk, outcome, actual = (integers(column) for column in zip(*streams, strict=True))
    status, count = np.zeros(10, np.int32), len(streams)
    five = np.full(count, 5)
    columns = (outcome.astype(np.int32), actual, five, chunk, count, status)
    launch("check_streams", -(-count // THREADS), *columns)
    for row in range(10):
        mine = [(outcome, actual) for place, outcome, actual in streams if place == row]
        wrong = {
            STATUS["STREAM"] if outcome else STATUS["SIZE"]
            for outcome, actual in mine
            if outcome or actual != 5
        }
        assert status[row] in (wrong or {0})


def test_sizes_are_compared_in_all_their_bits() -> None:
    status = np.zeros(1, np.int32)
    columns = (np.zeros(1, np.int32), integers(5), integers(5 + (1 << 32)), integers(0), 1, status)
    launch("check_streams", 1, *columns)
    assert status.tolist() == [STATUS["SIZE"]]


def test_values() -> None:
    status = np.zeros(3, np.int32)
    value = np.array([7, 0xFFFFFFFF, 9], np.uint32)
    launch("check_values", 1, value, integers(7, 0xFFFFFFFF, 8), integers(0, 1, 2), 3, status)
    assert status.tolist() == [0, 0, STATUS["FRAME_CHECKSUM"]]


def test_stored_values() -> None:
    """Four bytes at any address; each of them counts."""
    value = np.full(5, 0x89ABCDEF, np.uint32)
    right = np.array([0x89ABCDEF], "<u4")
    wrong = [np.frombuffer(right.tobytes(), np.uint8).copy() for _ in range(4)]
    for place, one in enumerate(wrong):
        one[place] ^= 0x80
    stored = [unaligned(one, shift) for shift, one in enumerate([*wrong, right])]
    status = np.zeros(5, np.int32)
    launch("check_stored", 1, value, addresses(stored), integers(range(5)), 5, status)
    assert status.tolist() == [STATUS["CHECKSUM"]] * 4 + [0]
    for shift in range(8):
        status[:] = 0
        moved = unaligned(right, shift)
        launch("check_stored", 1, value, addresses([moved]), integers(0), 1, status)
        assert not status.any()
