"""Arrays written live by zarr-python 3, whichever release is installed; what only 3.4 can write is in `since34`."""

from __future__ import annotations

from importlib import metadata

from ...case import Recipe, Recipes
from . import codecs, layout, numcodecs_, sharding, since34, types, v2


def cases() -> dict[str, Recipe]:
    """Every recipe that the installed release can write."""
    recipes = Recipes("zarr3", needs=("zarr",))
    for module in (types, codecs, numcodecs_, sharding, layout, v2):
        module.add_all(recipes)
    if has_34():
        since34.add_all(recipes)
    # cast_value takes one more module, which few have; its cases are committed as well.
    return {
        name: one for name, one in recipes.as_dict().items() if "cast_value_rs" not in one.missing()
    }


def cases_34() -> dict[str, Recipe]:
    """Only what needs zarr-python 3.4: the committed cases."""
    recipes = Recipes("zarr34", needs=("zarr",))
    since34.add_all(recipes)
    return recipes.as_dict()


def has_34() -> bool:
    """True where zarr-python 3.4 or newer is installed; asks the distribution, imports nothing."""
    try:
        version = metadata.version("zarr")
    except metadata.PackageNotFoundError:
        return False
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) >= (3, 4)
