"""zarr-python 2: orders, separators, unusual shapes, groups, attributes, consolidated metadata."""

from __future__ import annotations

import importlib
import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built, Recipes
from ...samples import numbers
from .write import write

if TYPE_CHECKING:
    from pathlib import Path

ZLIB = {"id": "zlib", "level": 1}


def add_all(recipes: Recipes) -> None:
    """Every layout case."""
    _add_shapes(recipes)
    _add_groups(recipes)
    _add_edits(recipes)


def _add_shapes(recipes: Recipes) -> None:
    forms: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "0d": ((), ()),
        "1d": ((23,), (5,)),
        "2d": ((7, 9), (3, 4)),
        "3d": ((5, 4, 7), (2, 3, 4)),
        "zero": ((0, 4), (2, 2)),
        "chunk-over-array": ((3, 5), (10, 20)),
        "6d": ((2, 3, 2, 3, 2, 3), (1, 2, 2, 2, 2, 3)),
    }
    for name, (shape, chunks) in forms.items():
        for order in "CF":
            for word, separator in (("slash", "/"), ("dot", ".")):

                def build(
                    store: Path,
                    shape: Any = shape,
                    chunks: Any = chunks,
                    order: str = order,
                    separator: Any = separator,
                ) -> Built:
                    chosen: dict[str, Any] = {"order": order, "dimension_separator": separator}
                    compressor = ZLIB if order == "F" else None
                    return write(
                        store,
                        numbers("<i4", shape),
                        chunks,
                        5,
                        compressor=compressor,
                        skip=bool(shape),
                        **chosen,
                    )

                rows = (
                    ("shapes", "v2-layout")
                    if name in ("zero", "6d", "chunk-over-array")
                    else ("v2-layout",)
                )
                recipes.add(
                    f"layout-{name}-{order}-{word}",
                    build,
                    *rows,
                    zarr_format=2,
                    tags=(f"order:{order}",),
                )

    def virtual(store: Path) -> Built:
        zarr: Any = importlib.import_module("zarr")
        shape = (2**30 + 5, 2**30 + 7)
        array = zarr.create(
            shape, store=str(store), chunks=(16, 32), dtype="u1", fill_value=9, compressor=None
        )
        array[2**29 : 2**29 + 20, 1000:1050] = numbers("u1", (20, 50))
        crop = (slice(2**29 - 3, 2**29 + 30), slice(990, 1060))
        return Built(array[crop], shape=shape, selection=crop)

    recipes.add("virtual", virtual, "shapes", zarr_format=2, tags=("virtual",))


def _add_groups(recipes: Recipes) -> None:
    for kind in ("consolidated", "plain"):

        def build(store: Path, kind: str = kind) -> Built:
            zarr: Any = importlib.import_module("zarr")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                root = zarr.open_group(str(store), mode="w")
                root.attrs["title"] = "root"
                root.create_group("inner").attrs["n"] = [1, 2]
                built = write(
                    store, numbers("<f4", (13, 5)), (4, 3), path="inner/values", compressor=ZLIB
                )
                zarr.open_array(str(store), path="inner/values").attrs["units"] = "K"
                if kind == "consolidated":
                    zarr.consolidate_metadata(str(store))
            return built

        recipes.add(f"group-{kind}", build, "v2-metadata", zarr_format=2, tags=("group", kind))

    def nan_attributes(store: Path) -> Built:
        built = write(store, numbers("<f4", (9,)), (4,))
        (store / ".zattrs").write_text('{"_FillValue": NaN, "range": [-Infinity, Infinity]}')
        return built

    recipes.add("attributes-nan", nan_attributes, "v2-metadata", zarr_format=2)


def _add_edits(recipes: Recipes) -> None:
    """Metadata as other releases and writers leave it: the same array under an edited .zarray."""

    edits: dict[str, dict[str, Any]] = {
        "filters-empty": {"filters": []},
        "extra-keys": {"zarr_something": {"a": 1}, "comment": "kept"},
        "no-separator": {"dimension_separator": ...},
        "fill-null": {"fill_value": None},
    }
    for name, change in edits.items():

        def build(store: Path, change: Any = change) -> Built:
            built = write(store, numbers("<i4", (13, 5)), (4, 3), 0, compressor=ZLIB)
            document = json.loads((store / ".zarray").read_text()) | change
            (store / ".zarray").write_text(
                json.dumps({key: item for key, item in document.items() if item is not ...})
            )
            return built

        recipes.add(f"edit-{name}", build, "v2-layout", zarr_format=2)

    def no_chunks(store: Path) -> Built:
        return write(store, np.full((9, 7), np.nan, "<f8"), (4, 3), np.nan)

    recipes.add("never-written", no_chunks, "shapes", zarr_format=2)
