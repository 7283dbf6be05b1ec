"""The order of an epoch, and the ranks' shares of it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.loader.order import EpochOrder, Split

localities = st.none() | st.integers(1, 6)


def whole(order: EpochOrder) -> list[int]:
    numbers: list[int] = order.numbers(np.arange(order.count)).tolist()
    return numbers


@given(
    st.integers(0, 400), st.integers(1, 40), localities, st.integers(-5, 2**70), st.integers(0, 9)
)
def test_an_epoch_has_every_window_once(
    count: int, group: int, locality: int | None, seed: int, epoch: int
) -> None:
    order = EpochOrder(count, seed, epoch, True, min(group, max(1, count)), locality)  # noqa: FBT003
    assert sorted(whole(order)) == list(range(count))


def test_without_shuffling_windows_stand_in_their_order() -> None:
    assert whole(EpochOrder(9, 1, 2, False, 3, 2)) == list(range(9))  # noqa: FBT003


def test_orders_depend_on_seed_and_epoch() -> None:
    orders = [
        tuple(whole(EpochOrder(50, seed, epoch, True, 5, locality)))  # noqa: FBT003
        for seed in (0, 1)
        for epoch in (0, 1)
        for locality in (None, 1, 2)
    ]
    assert len(set(orders)) == len(orders)


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 300))
def test_a_pool_mixes_the_windows_of_few_groups(group: int, locality: int, count: int) -> None:
    group = min(group, count)
    order = EpochOrder(count, 3, 0, True, group, locality)  # noqa: FBT003
    numbers = np.array(whole(order))
    for begin in range(0, count, group * locality):
        # One more where the short group made it begin inside one.
        assert len(np.unique(numbers[begin : begin + group * locality] // group)) <= locality + 1


def test_a_pool_is_whole_groups_where_none_is_short() -> None:
    order = EpochOrder(120, 3, 0, True, 6, 4)  # noqa: FBT003
    pools = np.array(whole(order)).reshape(-1, 24) // 6
    assert [len(set(pool)) for pool in pools.tolist()] == [4] * 5


def test_other_windows_are_the_last_in_each_epoch() -> None:
    last = [whole(EpochOrder(13, 3, epoch, True, 4, 1))[-1] for epoch in range(40)]  # noqa: FBT003
    assert len({number // 4 for number in last}) == 4


remainders = st.sampled_from(["keep", "drop", "pad"])


@given(st.integers(0, 200), st.integers(1, 12), remainders)
def test_ranks_share_all_positions(
    count: int, world_size: int, remainder: Literal["keep", "drop", "pad"]
) -> None:
    splits = [Split(count, rank, world_size, remainder) for rank in range(world_size)]
    shares = [split.positions(0, len(split)).tolist() for split in splits]
    together = [position for share in shares for position in share]
    lengths = [len(split) for split in splits]
    assert [len(share) for share in shares] == lengths
    if remainder == "keep":
        assert together == list(range(count))
        assert max(lengths) - min(lengths) <= 1
        return
    assert len(set(lengths)) == 1
    if remainder == "drop":
        assert together == list(range(count // world_size * world_size))
    elif count:
        assert together[:count] == list(range(count))
        assert [position % count for position in range(count, len(together))] == together[count:]


@given(st.integers(1, 500), st.integers(1, 9), st.integers(1, 30), remainders, localities)
def test_any_part_of_any_share_is_found_alone(
    count: int,
    world_size: int,
    batch: int,
    remainder: Literal["keep", "drop", "pad"],
    locality: int | None,
) -> None:
    order = EpochOrder(count, 7, 3, True, min(4, count), locality)  # noqa: FBT003
    numbers = np.array(whole(order))
    for rank in range(world_size):
        split = Split(count, rank, world_size, remainder)
        mine = numbers[split.positions(0, len(split))].tolist()
        for begin in range(0, len(split), batch):
            end = min(begin + batch, len(split))
            assert order.numbers(split.positions(begin, end)).tolist() == mine[begin:end]


def test_a_trillion_windows_are_no_more_work_than_ten() -> None:
    count = 10**12
    order = EpochOrder(count, 0, 0, True, 512, 16)  # noqa: FBT003
    split = Split(count, 63, 64, "keep")
    last = order.numbers(split.positions(len(split) - 1000, len(split)))
    assert len(set(last.tolist())) == 1000
    assert last.min() >= 0
    assert last.max() < count


def test_arguments_of_a_split() -> None:
    for rank, world_size, match in ((0, 0, "world_size=0"), (3, 3, "rank=3"), (-1, 2, "rank=-1")):
        with pytest.raises(ValueError, match=match):
            Split(10, rank, world_size, "keep")


def test_orders_never_change() -> None:
    """Epochs that were begun by an older version go on in the same order."""
    assert whole(EpochOrder(10, 1, 2, True, 3, None)) == ORDER  # noqa: FBT003
    assert whole(EpochOrder(10, 1, 2, True, 3, 2)) == ORDER_OF_GROUPS  # noqa: FBT003


ORDER: list[int] = [5, 4, 2, 6, 7, 9, 8, 1, 0, 3]
ORDER_OF_GROUPS: list[int] = [0, 2, 7, 1, 6, 9, 8, 5, 3, 4]
