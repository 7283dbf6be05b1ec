"""`Loader` through the public API: batches, epochs, ranks, resuming, variables, errors."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import plain_store
from tests.cuda_devices import to_numpy
from tests.loader.crops import CROP, NUMBERS, opened, origins

if TYPE_CHECKING:
    from gpuzarr.engines.cuda.device import Device


def grid(stride: tuple[int, int] = CROP) -> list[tuple[int, int]]:
    return [(y, x) for y in range(0, 33, stride[0]) for x in range(0, 43, stride[1])]


ORDERS: list[dict[str, Any]] = [
    {},
    {"shuffle": True},
    {"shuffle": True, "locality": 1},
    {"shuffle": True, "locality": 3, "cache_nbytes": 4000},
    {"windows": "random", "samples_per_epoch": 37},
    {"windows": "random", "samples_per_epoch": 37, "locality": 2, "cache_nbytes": 1 << 20},
]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_batches_hold_windows_of_the_array(order: dict[str, Any], prefetch: int) -> None:
    loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=7, prefetch=prefetch, **order)
    batches = list(loader)
    assert len(loader) == len(batches) == -(-len(grid()) // 7) or "samples_per_epoch" in order
    assert all(type(batch) is np.ndarray and batch.flags.c_contiguous for batch in batches)
    assert {batch.dtype for batch in batches} == {np.dtype("i4")}
    found = origins(batches)
    if "samples_per_epoch" in order:
        assert len(found) == 37
        assert len(set(found)) > 20
    else:
        assert sorted(found) == grid()
        assert (found == grid()) is not order.get("shuffle", False)


def test_on_cuda_batches_are_the_same(cuda: Device) -> None:
    for order in ORDERS:
        loaders = [
            gpuzarr.Loader(opened(device), crop=CROP, batch_size=7, dtype="f4", scale=0.5, **order)
            for device in ("cpu", "cuda")
        ]
        for on_cpu, on_gpu in zip(*loaders, strict=True):
            assert np.array_equal(on_cpu, to_numpy(on_gpu))
    assert cuda.name.startswith("cuda")


@pytest.mark.parametrize("order", ORDERS[1:], ids=str)
def test_epochs_are_others_and_the_same_every_time(order: dict[str, Any]) -> None:
    one, two = (gpuzarr.Loader(opened(), crop=CROP, batch_size=9, seed=5, **order) for _ in "ab")
    first, second = origins(one), origins(one)
    assert first != second
    two.set_epoch(1)
    assert origins(two) == second
    two.set_epoch(0)
    assert origins(two) == first
    other = gpuzarr.Loader(opened(), crop=CROP, batch_size=9, seed=6, **order)
    assert origins(other) != first


def test_the_stride_of_the_grid() -> None:
    loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=50, stride=(4, 6))
    assert origins(loader) == grid((4, 6))
    loader = gpuzarr.Loader(opened(), crop=(40, -1), batch_size=1)
    assert np.array_equal(next(iter(loader))[0], NUMBERS)


@pytest.mark.parametrize("order", ORDERS[1:], ids=str)
@pytest.mark.parametrize("world_size", [1, 3, 7])
def test_ranks_read_an_epoch_without_overlap_or_loss(
    order: dict[str, Any], world_size: int
) -> None:
    def of(rank: int, world_size: int, **more: Any) -> list[tuple[int, int]]:
        return origins(
            gpuzarr.Loader(
                opened(),
                crop=CROP,
                batch_size=4,
                rank=rank,
                world_size=world_size,
                **order,
                **more,
            )
        )

    whole = of(0, 1)
    shares = [of(rank, world_size) for rank in range(world_size)]
    assert [window for share in shares for window in share] == whole
    assert len(shares[0]) - len(shares[-1]) in {0, 1}
    for remainder, due in (
        ("drop", len(whole) // world_size),
        ("pad", -(-len(whole) // world_size)),
    ):
        lengths = {len(of(rank, world_size, remainder=remainder)) for rank in range(world_size)}
        assert lengths == {due}


def test_the_last_batch_may_be_left_out() -> None:
    sizes = [len(batch) for batch in gpuzarr.Loader(opened(), crop=CROP, batch_size=15)]
    assert sizes == [15, 15, 10]
    loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=15, drop_last=True)
    assert len(loader) == 2
    assert [len(batch) for batch in loader] == [15, 15]


# ------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_a_state_goes_on_behind_the_last_batch(order: dict[str, Any], stop: int) -> None:
    def make() -> gpuzarr.Loader:
        return gpuzarr.Loader(opened(), crop=CROP, batch_size=6, rank=1, world_size=1 + 1, **order)

    loader = make()
    list(loader)  # the first epoch
    batches = iter(loader)
    seen = origins(next(batches) for _ in range(min(stop, len(loader))))
    state = pickle.loads(pickle.dumps(loader.state_dict()))  # noqa: S301  our own
    rest = origins(batches)
    resumed = make()
    resumed.load_state_dict(state)
    assert origins(resumed) == (rest or origins(loader))
    whole = make()
    whole.set_epoch(1)
    assert origins(whole) == seen + rest


def test_at_the_end_of_an_epoch_comes_the_next() -> None:
    loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=6, shuffle=True)
    first = origins(loader)
    other = gpuzarr.Loader(opened(), crop=CROP, batch_size=6, shuffle=True)
    other.load_state_dict(loader.state_dict())
    assert origins(other) == origins(loader) != first


def test_a_state_of_another_order_is_refused() -> None:
    def make(**more: Any) -> gpuzarr.Loader:
        choices: dict[str, Any] = {"crop": CROP, "batch_size": 6, "shuffle": True}
        return gpuzarr.Loader(opened(), **choices | more)

    state = make().state_dict()
    for more in (
        {"world_size": 2},
        {"seed": 1},
        {"batch_size": 5},
        {"locality": 2},
        {"crop": (8, 8)},
        {"shuffle": False},
    ):
        with pytest.raises(ValueError, match=f"another .*{next(iter(more))}"):
            make(**more).load_state_dict(state)
    with pytest.raises(ValueError, match="version"):
        make().load_state_dict({})


def test_loaders_pickle_with_their_place() -> None:
    loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=6, shuffle=True, cache_nbytes=5000)
    batches = iter(loader)
    next(batches)
    other = pickle.loads(pickle.dumps(loader))  # noqa: S301  our own
    assert origins(other) == origins(batches)


def test_a_state_is_of_the_windows_that_were_given() -> None:
    def make(last: int) -> gpuzarr.Loader:
        rows = [*range(2000), last]
        array = opened(store=plain_store(np.zeros(3000, "i4"), (100,)))
        return gpuzarr.Loader(array, windows=[rows, rows[::-1]], batch_size=1)

    make(2000).load_state_dict(make(2000).state_dict())
    with pytest.raises(ValueError, match="another of"):
        make(2000).load_state_dict(make(2001).state_dict())


# ------------------------------------------------------------------------------------ variables


def group_store() -> dict[str, bytes]:
    return {
        "zarr.json": b'{"zarr_format": 3, "node_type": "group"}',
        **plain_store(NUMBERS, (7, 9), path="image"),
        **plain_store((NUMBERS % 2).astype("u1"), (20, 20), path="mask"),
        **plain_store(NUMBERS[0], (48,), path="x"),
    }


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_several_variables_at_once(device: str, fake: object) -> None:
    del fake
    group = gpuzarr.open_group(group_store(), device=device)
    choices: dict[str, Any] = {"batch_size": 6, "crop": CROP, "shuffle": True}
    by_group = gpuzarr.Loader(group, dtype={"image": "f4"}, scale={"image": 2.0}, **choices)
    by_dict = gpuzarr.Loader({name: group[name] for name in ("image", "mask")}, **choices)
    by_tuple = gpuzarr.Loader((group["image"], group["mask"], group["x"]), **choices)
    for named, also, three in zip(by_group, by_dict, by_tuple, strict=True):
        assert list(named) == list(also) == ["image", "mask"]
        assert named["image"].dtype == np.float32
        image, mask, x = map(to_numpy, three)
        assert np.array_equal(to_numpy(named["image"]), np.float32(2) * image)
        assert np.array_equal(to_numpy(also["image"]), image)
        assert np.array_equal(to_numpy(named["mask"]), mask)
        assert np.array_equal(mask, image % 2)
        assert np.array_equal(x, image[:, 0] % 48)


def test_variables_that_do_not_fit_together_are_refused() -> None:
    group = gpuzarr.open_group(group_store())
    other = opened(store=plain_store(NUMBERS[:, :40], (7, 9)))
    with pytest.raises(gpuzarr.SelectionError, match="the last dimensions must be the same"):
        gpuzarr.Loader((group["image"], other), crop=CROP, batch_size=1)
    with pytest.raises(ValueError, match="no arrays of 3 dimensions"):
        gpuzarr.Loader(group, crop=(1, 1, 1), batch_size=1)
    with pytest.raises(
        ValueError, match=r"dtype= names 'imgae'; the variables are 'image', 'mask'"
    ):
        gpuzarr.Loader(group, crop=CROP, batch_size=1, dtype={"imgae": "f4"})
    with pytest.raises(TypeError, match=r"a loader reads a gpuzarr\.Array"):
        gpuzarr.Loader(NUMBERS, crop=CROP, batch_size=1)  # type: ignore[arg-type]


# -------------------------------------------------------------------------- windows that are given


def test_windows_that_are_given() -> None:
    windows = [(slice(y, y + 3), slice(None, None, -7)) for y in (30, 0, 12, 5, 31)]
    loader = gpuzarr.Loader(opened(), windows=windows, batch_size=2)
    expected = [NUMBERS[window] for window in windows]
    assert np.array_equal(np.concatenate(list(loader)), np.stack(expected))
    for locality in (None, 1, 2):
        shuffled = gpuzarr.Loader(
            opened(), windows=windows, batch_size=2, shuffle=True, locality=locality, seed=3
        )
        rows = [int(window[0, 0]) for batch in shuffled for window in batch]
        assert sorted(rows) == sorted(int(one[0, 0]) for one in expected)
    lists = gpuzarr.Loader(opened(), windows=[([3, 1], 5), ([0, 39], 7)], batch_size=2)
    assert np.array_equal(next(iter(lists)), [NUMBERS[[3, 1], 5], NUMBERS[[0, 39], 7]])


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_damaged_chunk_is_named_with_its_window(prefetch: int) -> None:
    store = dict(plain_store(NUMBERS, (5, 6)))
    store["c/7/7"] = b"too short"
    loader = gpuzarr.Loader(opened(store=store), crop=CROP, batch_size=10, prefetch=prefetch)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    with pytest.raises(gpuzarr.DecodeError) as raised:
        next(batches)
    text = str(raised.value)
    assert "in batch 3 of epoch 0, at the windows [32:40, 42:48]" in text
    assert "chunk (7, 7) in 'c/7/7'" in text
    assert raised.value.failures[0].requests == (9,)
    assert list(batches) == []


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"crop": (41, 6)}, gpuzarr.SelectionError, r"crop \(41, 6\) does not fit into shape \(40, 48"),
    ({"crop": (0, 6)}, gpuzarr.SelectionError, "does not fit"),
    ({"crop": 5}, gpuzarr.SelectionError, "has 1 dimensions, and / has 2"),
    ({"crop": None}, ValueError, "crop= says how large"),
    ({"batch_size": 0}, ValueError, "batch_size=0 is less than 1"),
    ({"prefetch": -1}, ValueError, "prefetch=-1 is less than 0"),
    ({"rank": 2, "world_size": 2}, ValueError, "rank=2 is not one of 2 ranks"),
    ({"world_size": 0}, ValueError, "world_size=0"),
    ({"remainder": "cut"}, ValueError, "remainder='cut' is none of 'keep', 'drop', 'pad'"),
    ({"windows": "diagonal"}, ValueError, "not 'diagonal'"),
    ({"windows": "random"}, ValueError, "samples_per_epoch="),
    ({"samples_per_epoch": 4}, ValueError, "samples_per_epoch="),
    ({"windows": [(0, 0)]}, ValueError, "leave crop= out"),
    ({"windows": [(0, 90)], "crop": None}, gpuzarr.SelectionError, "out of bounds"),
    ({"stride": (0, 1)}, ValueError, "stride=0 is less than 1"),
    ({"stride": (1,)}, ValueError, "has 1 dimensions"),
    ({"locality": 0, "shuffle": True}, ValueError, "locality=0 is less than 1"),
    ({"dtype": ["f4", "f4"]}, ValueError, "dtype= has 2 entries for 1 variables"),
]


@pytest.mark.parametrize(("arguments", "kind", "match"), BAD, ids=lambda value: str(value)[:40])
def test_arguments_that_make_no_sense(
    arguments: dict[str, Any], kind: type[Exception], match: str
) -> None:
    choices: dict[str, Any] = {"crop": CROP, "batch_size": 4}
    with pytest.raises(kind, match=match):
        gpuzarr.Loader(opened(), **choices | arguments)
    with pytest.raises(ValueError, match="epoch=-1"):
        gpuzarr.Loader(opened(), crop=CROP, batch_size=4).set_epoch(-1)
