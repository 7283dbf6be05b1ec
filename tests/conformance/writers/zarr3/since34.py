"""What only zarr-python 3.4 can write: struct, rectilinear grids, scale_offset, cast_value, 0-d shards."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built, Recipes
from ...samples import leave_out, numbers, smooth
from ...values import assert_equal
from .sharding import INDEX, INNER, shard
from .write import write

if TYPE_CHECKING:
    from pathlib import Path

NESTED = [
    ("id", "<u4"),
    ("at", [("x", "<f4"), ("y", "<f8"), ("deep", [("t", "<M8[s]"), ("k", "S3")])]),
    ("ok", "?"),
]


def add_all(recipes: Recipes) -> None:
    """Every 3.4 case."""
    _add_struct(recipes)
    _add_rectilinear(recipes)
    _add_scale_cast(recipes)
    for location in ("start", "end"):

        def scalar(store: Path, location: str = location) -> Built:
            made = shard((), INNER["zstd"], INDEX["crc"], location)
            return write(
                store,
                numbers("i4", (1,)).reshape(()),
                (),
                options=lambda: {"serializer": made},
                skip=False,
            )

        recipes.add(
            f"shard-0d-{location}",
            scalar,
            "v3-sharding",
            "shapes",
            tags=("codec:sharding_indexed",),
        )


def _add_struct(recipes: Recipes) -> None:
    dtypes: dict[str, Any] = {
        "flat": [("x", "<i2"), ("y", "<f8"), ("name", "<U3"), ("flag", "?")],
        "nested": NESTED,
        "single-bytes": [("r", "u1"), ("g", "u1"), ("b", "u1")],
        "complex": [("z", "<c8"), ("w", "<c16"), ("h", "<f2")],
        "raw": [("v", "V3"), ("m", "<m8[10us]")],
    }
    for name, fields in dtypes.items():
        for endian in ("little", "big"):
            dtype = np.dtype(fields)

            def build(store: Path, dtype: Any = dtype, endian: str = endian) -> Built:
                codecs: Any = importlib.import_module("zarr.codecs")

                fill = numbers(dtype, (5,), seed=9)[3]
                chosen = {"serializer": codecs.BytesCodec(endian=endian), "compressors": "auto"}
                return write(store, numbers(dtype, (19,)), (5,), fill, options=lambda: chosen)

            tags = ("dtype:struct", f"endian:{endian}")
            recipes.add(f"struct-{name}-{endian}", build, "v3-struct", tags=tags)


def _add_rectilinear(recipes: Recipes) -> None:
    forms: dict[str, tuple[tuple[int, ...], Any, Any]] = {
        "1d": ((23,), [[3, 7, 1, 12]], None),
        "2d": ((17, 12), [[5, 5, 7], [1, 2, 3, 6]], None),
        "run-length": ((24, 10), [[4, 4, 4, 4, 8], [5, 5]], None),
        "mixed": ((17, 12), [[5, 5, 7], [4, 4, 4]], None),
        "3d": ((7, 6, 9), [[1, 6], [2, 2, 2], [4, 5]], None),
        "shards": ((24, 20), (4, 5), [[8, 12, 4], [10, 10]]),
        "shards-1d": ((30,), (3,), [[6, 6, 12, 6]]),
    }
    for name, (shape, chunks, shards) in forms.items():
        for codec in ("raw", "zstd"):

            def build(
                store: Path,
                shape: Any = shape,
                chunks: Any = chunks,
                shards: Any = shards,
                codec: str = codec,
            ) -> Built:
                return _write_rectilinear(store, shape, chunks, shards, codec)

            tags = (
                "grid:rectilinear",
                "dtype:int32",
                *(("codec:sharding_indexed",) if shards else ()),
            )
            recipes.add(f"rectilinear-{name}-{codec}", build, "v3-rectilinear", tags=tags)


def _write_rectilinear(store: Path, shape: Any, chunks: Any, shards: Any, codec: str) -> Built:
    zarr: Any = importlib.import_module("zarr")
    values = numbers("i4", shape)
    edges = shards or chunks
    corner = tuple(slice(sum(axis[:1]), sum(axis[:2])) for axis in edges)
    values[corner] = -3
    extra = {"shards": shards} if shards else {}
    with warnings.catch_warnings(), zarr.config.set({"array.rectilinear_chunks": True}):
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            str(store),
            shape=shape,
            chunks=chunks,
            dtype="i4",
            fill_value=-3,
            compressors=None if codec == "raw" else "auto",
            **extra,
        )
        array[...] = values
        back = np.asarray(zarr.open_array(str(store), mode="r")[...])
    assert_equal(values, back)
    return Built(back)


def _add_scale_cast(recipes: Recipes) -> None:
    scales: list[tuple[str, str, Any, Any]] = [
        ("f8", "<f8", 5, 4),
        ("f4", "<f4", -2.5, 0.5),
        ("i4", "<i4", 10, 1),
        ("only-offset", "<f8", 3, None),
        ("only-scale", "<f4", None, 8),
    ]
    for name, dtype, offset, scale in scales:

        def scaled(
            store: Path, dtype: str = dtype, offset: Any = offset, scale: Any = scale
        ) -> Built:
            codecs: Any = importlib.import_module("zarr.codecs")
            given = {
                key: value
                for key, value in (("offset", offset), ("scale", scale))
                if value is not None
            }
            values = smooth(dtype, (23, 7))
            return write(
                store,
                values,
                (6, 4),
                options=lambda: {"filters": [codecs.ScaleOffset(**given)]},
                lossy=True,
            )

        recipes.add(f"scale_offset-{name}", scaled, "v3-scale-cast", tags=("codec:scale_offset",))
    casts: list[tuple[str, str, dict[str, Any]]] = [
        ("f8-f4", "f8", {"data_type": "float32"}),
        (
            "f8-i2-clamp",
            "f8",
            {"data_type": "int16", "out_of_range": "clamp", "rounding": "towards-zero"},
        ),
        (
            "f8-u1-wrap",
            "f8",
            {"data_type": "uint8", "out_of_range": "wrap", "rounding": "nearest-even"},
        ),
        ("i4-i2", "i4", {"data_type": "int16", "out_of_range": "wrap"}),
        ("u1-f4", "u1", {"data_type": "float32"}),
        ("i8-f8", "i8", {"data_type": "float64", "rounding": "towards-negative"}),
        ("u2-i8", "u2", {"data_type": "int64"}),
        (
            "f4-u1-map",
            "f4",
            {
                "data_type": "uint8",
                "rounding": "nearest-away",
                "out_of_range": "clamp",
                "scalar_map": {
                    "encode": [["NaN", 255], ["+Infinity", 254]],
                    "decode": [[255, "NaN"], [254, "Infinity"]],
                },
            },
        ),
        (
            "i4-u1-decode-map",
            "i4",
            {"data_type": "uint8", "out_of_range": "clamp", "scalar_map": {"decode": [[0, -999]]}},
        ),
    ]
    for name, dtype, settings in casts:

        def cast(store: Path, dtype: str = dtype, settings: Any = settings) -> Built:
            codecs: Any = importlib.import_module("zarr.codecs")
            values = leave_out(smooth(dtype, (23, 7)), (6, 4), 0)
            if "map" in str(settings) and dtype == "f4":
                values[::5, 1] = np.nan
                values[::7, 2] = np.inf
            filters = [
                codecs.CastValue.from_dict({"name": "cast_value", "configuration": settings})
            ]
            chosen = {"filters": filters, "serializer": codecs.BytesCodec(endian="little")}
            return write(store, values, (6, 4), options=lambda: chosen, lossy=True)

        recipes.add(
            f"cast_value-{name}",
            cast,
            "v3-scale-cast",
            tags=("codec:cast_value",),
            needs=("cast_value_rs",),
        )

    def chain(store: Path) -> Built:
        codecs: Any = importlib.import_module("zarr.codecs")
        cast_to = {
            "name": "cast_value",
            "configuration": {"data_type": "int16", "rounding": "nearest-even"},
        }
        filters = [codecs.ScaleOffset(offset=2, scale=4), codecs.CastValue.from_dict(cast_to)]
        chosen = {
            "filters": filters,
            "serializer": codecs.BytesCodec(endian="big"),
            "compressors": "auto",
        }
        return write(store, smooth("f8", (23, 7)), (6, 4), options=lambda: chosen, lossy=True)

    tags = ("codec:scale_offset", "codec:cast_value")
    recipes.add(
        "scale_offset-then-cast_value", chain, "v3-scale-cast", tags=tags, needs=("cast_value_rs",)
    )
