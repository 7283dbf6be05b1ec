"""A small array whose elements tell where they are, and crops of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import gpuzarr
from tests.arrays import sharded_store
from tests.cuda_devices import to_numpy

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBERS = np.arange(40 * 48, dtype=np.int32).reshape(40, 48)
SHARDED = sharded_store(NUMBERS, (20, 24), (5, 6))
CROP = (8, 6)


def opened(device: str = "cpu", store: Any = SHARDED) -> gpuzarr.Array:
    return gpuzarr.open_array(store, device=device)


def origins(batches: Iterable[Any], crop: tuple[int, int] = CROP) -> list[tuple[int, int]]:
    """Where the windows of batches began; each is compared with the array."""
    found = []
    for batch in batches:
        for window in to_numpy(batch):
            y, x = divmod(int(window.flat[0]), 48)
            assert np.array_equal(window, NUMBERS[y : y + crop[0], x : x + crop[1]])
            found.append((y, x))
    return found
