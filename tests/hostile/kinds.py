"""All kinds of damage: the modules that register them, imported."""

from __future__ import annotations

from tests.hostile import (
    archives,
    bombs,
    caches,
    documents,
    far,
    objects,
    parquet,
    payloads,
    places,
    references,
    sizes,
)
from tests.hostile.inputs import KINDS

MODULES = (
    payloads,
    sizes,
    bombs,
    objects,
    documents,
    places,
    archives,
    far,
    references,
    parquet,
    caches,
)

__all__ = ["KINDS", "MODULES"]
