"""All kinds of damage: the modules that register them, imported."""

from __future__ import annotations

from tests.hostile import archives, bombs, documents, objects, payloads, places, sizes
from tests.hostile.inputs import KINDS

MODULES = (payloads, sizes, bombs, objects, documents, places, archives)

__all__ = ["KINDS", "MODULES"]
