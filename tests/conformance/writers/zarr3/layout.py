"""zarr-python 3: chunk keys, unusual shapes, groups, consolidated metadata."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built, Recipes
from ...samples import numbers
from .write import write

if TYPE_CHECKING:
    from pathlib import Path


def add_all(recipes: Recipes) -> None:
    """Every layout case."""
    _add_chunk_keys(recipes)
    _add_shapes(recipes)
    _add_virtual(recipes)
    _add_groups(recipes)


def _add_chunk_keys(recipes: Recipes) -> None:
    forms: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "0d": ((), ()),
        "1d": ((23,), (5,)),
        "3d": ((5, 4, 7), (2, 3, 4)),
    }
    for encoding in ("default", "v2"):
        for word, separator in (("slash", "/"), ("dot", ".")):
            for form, (shape, chunks) in forms.items():

                def build(
                    store: Path,
                    key: Any = (encoding, separator),
                    shape: Any = shape,
                    chunks: Any = chunks,
                ) -> Built:
                    chosen = {"chunk_key_encoding": {"name": key[0], "separator": key[1]}}
                    return write(
                        store,
                        numbers("i4", shape, seed=3),
                        chunks,
                        options=lambda: chosen,
                        skip=bool(shape),
                    )

                tags = (f"keys:{encoding}", "dtype:int32")
                recipes.add(f"keys-{encoding}-{word}-{form}", build, "v3-chunk-keys", tags=tags)


def _add_shapes(recipes: Recipes) -> None:
    for dtype in ("bool", "i4", "f8", "c8", "M8[s]", "m8[ns]", "S3", "U2", "u8"):

        def scalar(store: Path, dtype: str = dtype) -> Built:
            fill: Any = {"S": b"", "U": ""}.get(dtype[0], 0)
            return write(store, numbers(dtype, (1,), seed=5).reshape(()), (), fill, skip=False)

        tags = (f"dtype:{np.dtype(dtype).name.split('[')[0]}",)
        recipes.add(
            f"shape-0d-{dtype.replace('[', '-').replace(']', '')}", scalar, "shapes", tags=tags
        )
    forms: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "zero-1d": ((0,), (4,)),
        "zero-2d": ((0, 5), (4, 4)),
        "zero-3d": ((3, 0, 4), (2, 2, 2)),
        "chunk-over-array": ((3, 5), (10, 20)),
        "chunk-over-one-dim": ((23, 5), (4, 50)),
        "exact": ((12, 8), (4, 4)),
        "ones": ((1, 1, 1), (1, 1, 1)),
        "many-small-chunks": ((17, 13), (1, 2)),
        "one-chunk": ((31, 7), (31, 7)),
        "5d": ((3, 4, 2, 5, 3), (2, 3, 2, 2, 2)),
        "6d": ((2, 3, 2, 3, 2, 3), (1, 2, 2, 2, 2, 2)),
        "7d": ((2, 3, 2, 1, 2, 3, 2), (2, 2, 1, 1, 2, 2, 2)),
        "8d": ((2, 2, 3, 2, 1, 2, 2, 3), (1, 2, 2, 2, 1, 2, 2, 2)),
    }
    for name, (shape, chunks) in forms.items():
        for compressed in ("raw", "zstd"):

            def build(
                store: Path, shape: Any = shape, chunks: Any = chunks, compressed: str = compressed
            ) -> Built:
                chosen: dict[str, Any] = {"compressors": None if compressed == "raw" else "auto"}
                return write(store, numbers("i2", shape), chunks, -7, options=lambda: chosen)

            recipes.add(f"shape-{name}-{compressed}", build, "shapes", tags=("dtype:int16",))

    def untouched(store: Path) -> Built:
        return write(store, np.full((9, 7), 2.5), (4, 3), 2.5)

    recipes.add("shape-never-written", untouched, "shapes", "v3-metadata", tags=("dtype:float64",))


def _add_virtual(recipes: Recipes) -> None:
    """Exabytes of virtual array with a few chunks written, in the middle, at both ends."""
    for place in ("start", "middle", "end"):
        for sharded in (False, True):

            def build(store: Path, place: str = place, sharded: Any = sharded) -> Built:
                zarr: Any = importlib.import_module("zarr")
                shape = (2**30 + 5, 2**30 + 7)
                extra: dict[str, Any] = {"shards": (64, 128)} if sharded else {}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    array = zarr.create_array(
                        str(store),
                        shape=shape,
                        chunks=(16, 32),
                        dtype="u1",
                        fill_value=9,
                        compressors=None,
                        **extra,
                    )
                    low = {
                        "start": (0, 0),
                        "middle": (2**29 + 11, 77_777),
                        "end": (shape[0] - 40, shape[1] - 70),
                    }[place]
                    values = numbers("u1", (30, 50))
                    array[low[0] : low[0] + 30, low[1] : low[1] + 50] = values
                    crop = tuple(
                        slice(max(at - 3, 0), at + extent + 9)
                        for at, extent in zip(low, (30, 50), strict=True)
                    )
                    back = np.asarray(array[crop])
                return Built(back, shape=shape, selection=crop)

            name = f"virtual-{place}{'-sharded' if sharded else ''}"
            recipes.add(name, build, "shapes", tags=("dtype:uint8", "virtual"))


def _add_groups(recipes: Recipes) -> None:
    def nested(store: Path) -> Built:
        return write(store, numbers("i4", (11, 5)), (4, 3), path="a/b c/d")

    recipes.add("group-nested-path", nested, "v3-metadata", tags=("dtype:int32", "group"))

    def consolidated(store: Path, zarr_format: int = 3) -> Built:
        zarr: Any = importlib.import_module("zarr")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.open_group(
                str(store), mode="w", zarr_format=zarr_format, attributes={"title": "root"}
            )
            root.create_group("inner", attributes={"n": 1})
            built = write(
                store, numbers("f4", (13, 5)), (4, 3), path="inner/values", zarr_format=zarr_format
            )
            write(store, numbers("i1", (5,)), (2,), path="other", zarr_format=zarr_format)
            zarr.consolidate_metadata(str(store), zarr_format=zarr_format)
        return built

    recipes.add(
        "group-consolidated",
        consolidated,
        "v3-metadata",
        tags=("dtype:float32", "group", "consolidated"),
    )
    recipes.add(
        "group-consolidated",
        lambda store: consolidated(store, 2),
        "v2-metadata",
        zarr_format=2,
        tags=("dtype:float32", "group", "consolidated"),
    )

    def named(store: Path) -> Built:
        chosen = {
            "dimension_names": ["time", None, "x"],
            "attributes": {"units": "K", "nested": {"list": [1, None, "é"]}},
        }
        return write(store, numbers("f8", (5, 4, 3)), (2, 3, 2), options=lambda: chosen)

    recipes.add("dimension-names", named, "v3-metadata", tags=("dtype:float64",))

    def nan_attributes(store: Path) -> Built:
        chosen = {
            "attributes": {"valid_range": [float("nan"), float("inf")], "missing": float("-inf")}
        }
        return write(store, numbers("f4", (9,)), (4,), options=lambda: chosen)

    recipes.add("attributes-nan", nan_attributes, "v3-metadata", tags=("dtype:float32",))
