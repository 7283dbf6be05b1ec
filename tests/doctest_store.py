"""The names that doctests of the library use: `gpuzarr`, `np`, a small `store` and an `image`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import encoded, plain_store
from tests.integrations.pyramids import small_image

NEEDS = {
    "engines/cuda/cupy_device.py": "cupy",
    "integrations/torch.py": "torch",
    "loader/tensors.py": "torch",
}
"""Modules that import a package which the tests do without."""
ABSENT = {
    Path(gpuzarr.__file__).parent / module
    for module, package in NEEDS.items()
    if find_spec(package) is None
}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Where a package is missing, modules that import it have no doctests to run."""
    return True if collection_path in ABSENT else None


def small_store() -> dict[str, bytes]:
    """A v3 hierarchy: temperature (4, 6) float32, and images/0 (5, 4) uint16."""
    temperature = np.arange(24, dtype=np.float32).reshape(4, 6)
    image = np.arange(20, dtype=np.uint16).reshape(5, 4)
    group = encoded({"zarr_format": 3, "node_type": "group"})
    return {
        "zarr.json": group,
        "images/zarr.json": group,
        **plain_store(temperature, (2, 3), path="temperature"),
        **plain_store(image, (2, 2), path="images/0"),
    }


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(gpuzarr=gpuzarr, np=np, store=small_store(), image=small_image())
