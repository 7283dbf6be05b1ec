"""Which tests of kernels run again under sanitizers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.conftest import FULL
from tests.kernels.host_kernels import SANITIZE

if TYPE_CHECKING:
    import pytest

MOST = 6
"""Parameters of a test that are taken by chance: with others, its kernels touch memory alike."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under sanitizers, which take their time, only some of many alike unless all is asked for."""
    if FULL or not SANITIZE:
        return
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    taken = {
        item
        for name, alike in tests.items()
        for item in random.Random(name).sample(alike, min(MOST, len(alike)))  # noqa: S311
    }
    items[:] = [item for item in items if item in taken]
