"""What a loader offers to those that split its epochs, or choose windows themselves."""

from __future__ import annotations

import numpy as np
import pytest

import gpuzarr
from tests.loader.crops import CROP, NUMBERS, opened, origins


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_each_of_several_takes_every_so_many_th_batch(count: int, prefetch: int) -> None:
    loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=3, shuffle=True, prefetch=prefetch)
    batches = [origins([batch]) for batch in loader]
    assert len(batches) == 14
    for number in range(count):
        loader.set_epoch(0, batch=number)
        share = loader.iterate(count)
        assert len(share) == len(batches[number::count])
        assert [origins([batch]) for batch in share] == batches[number::count]
        assert loader.progress.batches == loader.progress.of == 14
        assert loader.state_dict()["epoch"] == 1


def test_windows_by_their_numbers() -> None:
    loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=3, shuffle=True)
    loader.set_epoch(2)
    expected = origins(loader)
    loader.set_epoch(2)
    assert origins([loader.read_windows([7, 0, -1, 7])]) == [expected[i] for i in (7, 0, -1, 7)]
    assert origins(loader) == expected  # it is still the epoch that comes next


def test_windows_of_several_arrays_by_their_numbers() -> None:
    array = opened()
    loader = gpuzarr.Loader({"a": array, "b": array}, crop=CROP, batch_size=1, scale={"b": 2})
    batch = loader.read_windows([1])
    assert np.array_equal(batch["a"], NUMBERS[None, :8, 6:12])
    assert np.array_equal(batch["b"], 2.0 * batch["a"])


@pytest.mark.parametrize("numbers", [[], [40], [0, -41]])
def test_windows_that_are_not_there(numbers: list[int]) -> None:
    loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=3)
    with pytest.raises(gpuzarr.SelectionError, match="of 40"):
        loader.read_windows(numbers)


def test_devices(cuda: object) -> None:
    """Of all arrays."""
    assert cuda is not None
    both = gpuzarr.Loader((opened(), opened("cuda")), crop=CROP, batch_size=3)
    assert both.devices == {"cpu", "cuda:0"}
