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

NEEDS_CUPY = Path(gpuzarr.__file__).with_name("engines") / "cuda" / "cupy_device.py"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without CuPy the one module that imports it has no doctests to run."""
    return True if collection_path == NEEDS_CUPY and find_spec("cupy") is None else None


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
