"""Which tests of kernels run again under sanitizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.effort import FULL, sample
from tests.kernels.host_kernels import SANITIZE

if TYPE_CHECKING:
    import pytest

MOST = 3
"""Parameters of a test that are taken: with others, its kernels touch memory alike."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under sanitizers, which take their time, only some of many alike unless all is asked for."""
    if SANITIZE and not FULL:
        taken = sample(items, lambda _: MOST)
        items[:] = [item for item in items if item in taken]
