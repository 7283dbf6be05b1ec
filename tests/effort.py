"""How much of what takes long is run: all of it with GPUZARR_TEST_FULL=1, else a fixed part."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pytest

FULL = os.environ.get("GPUZARR_TEST_FULL") == "1"

USUAL, ALL = 40, 1000
"""Examples of a property, where a test says no number."""


def examples(number: int) -> settings:
    """Settings of a property whose examples cost more, or find less, than those of others."""
    return settings(max_examples=number * ALL // USUAL if FULL else number)


def sample(
    items: Iterable[pytest.Item], how_many: Callable[[list[pytest.Item]], int]
) -> set[pytest.Item]:
    """Of each test's parameters some, taken by chance, but the same ones every time.

    Args:
        items: tests.
        how_many: are taken of those that are one test with several parameters.
    """
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    return {
        item
        for name, alike in tests.items()
        for item in random.Random(name).sample(alike, min(how_many(alike), len(alike)))  # noqa: S311
    }
