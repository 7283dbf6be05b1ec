"""Stores that no installed writer produces: put together byte by byte from the formats' definitions."""

from __future__ import annotations

from ...case import Recipe, Recipes
from . import codecs, fills, frames, grids, names, nests, records, shards, types, v2


def cases() -> dict[str, Recipe]:
    """Every recipe."""
    recipes = Recipes("handmade")
    for module in (types, records, fills, names, codecs, shards, nests, grids, frames, v2):
        module.add_all(recipes)
    return recipes.as_dict()
