"""Arrays written by zarr-python 2 (2.18.7), which cannot be installed beside zarr-python 3: committed as a zip."""

from __future__ import annotations

from ...case import Recipe, Recipes
from . import codecs, layout, types


def cases() -> dict[str, Recipe]:
    """Every recipe."""
    recipes = Recipes("zarr2", needs=("zarr",))
    for module in (types, codecs, layout):
        module.add_all(recipes)
    return recipes.as_dict()
