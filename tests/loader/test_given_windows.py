"""Windows that are given are of one shape, and the same in all arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import plain_store

TALL = np.arange(100, dtype=np.int32).reshape(10, 10)
SHORT = np.arange(60, dtype=np.int32).reshape(6, 10)
LINE = np.arange(10, dtype=np.int32)


def opened(values: np.ndarray[Any, Any]) -> gpuzarr.Array:
    return gpuzarr.open_array(plain_store(values, (4,) * values.ndim), device="cpu")


@pytest.mark.parametrize(
    "windows",
    [
        [(slice(0, 2), slice(0, 3)), (slice(0, 3), slice(0, 2))],
        [(slice(0, 2), slice(0, 3)), (slice(0, 2), slice(0, 2))],
        [(0, slice(0, 2)), (slice(0, 1), slice(0, 2))],
        [(slice(0, 4),), (slice(8, 12),)],
        [([0, 1], [2, 3]), ([0, 1, 2], [3])],
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_other_shapes_are_refused(windows: list[Any], batch_size: int) -> None:
    with pytest.raises(gpuzarr.SelectionError, match=r"of one shape: in / windows\[0\] has"):
        gpuzarr.Loader(opened(TALL), windows=windows, batch_size=batch_size)


@pytest.mark.parametrize(
    "window",
    [(-1,), (slice(-2, None),), ([-1, 0],)],
    ids=str,
)
def test_windows_that_are_others_in_another_array_are_refused(window: Any) -> None:
    for pair in ((TALL, SHORT), (SHORT, TALL)):
        arrays = tuple(map(opened, pair))
        with pytest.raises(gpuzarr.SelectionError, match=r"windows\[0\] is another one in /"):
            gpuzarr.Loader(arrays, windows=[window], batch_size=1)


@pytest.mark.parametrize("window", [(slice(4, 8),), (slice(0, 8),)], ids=str)
def test_windows_that_are_cut_short_in_one_array_are_refused(window: Any) -> None:
    for pair in ((TALL, SHORT), (SHORT, TALL)):
        with pytest.raises(gpuzarr.SelectionError, match=r"windows\[0\] is another one in /"):
            gpuzarr.Loader(tuple(map(opened, pair)), windows=[window], batch_size=1)


@pytest.mark.parametrize(
    "windows",
    [
        [(slice(0, 2), slice(-3, None)), (slice(4, 6), slice(7, 10))],
        [(slice(None), -1), (slice(None), 3)],
        [([0, 5], [9, 2]), ([3, 3], [-1, 1])],
        [(0,), (5,)],
        [],
    ],
    ids=str,
)
def test_windows_that_are_the_same_everywhere_are_read(windows: list[Any]) -> None:
    loader = gpuzarr.Loader((opened(TALL), opened(SHORT)), windows=windows, batch_size=1)
    for (tall, short), window in zip(loader, windows, strict=True):
        np.testing.assert_array_equal(tall[0], TALL[window])
        np.testing.assert_array_equal(short[0], SHORT[window])


def test_arrays_of_fewer_dimensions_take_windows_of_their_own() -> None:
    windows = [(slice(2, 4),), (slice(-2, None),)]
    loader = gpuzarr.Loader((opened(TALL), opened(LINE)), windows=windows, batch_size=2)
    tall, line = next(iter(loader))
    np.testing.assert_array_equal(tall, [TALL[window] for window in windows])
    np.testing.assert_array_equal(line, [LINE[window] for window in windows])
