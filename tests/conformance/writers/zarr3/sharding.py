"""zarr-python 3: shards with every index form and inner chain, nested shards, codecs after the shard."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ...samples import leave_out, numbers, texts
from .write import write

if TYPE_CHECKING:
    from pathlib import Path

    from ...case import Built, Recipes

INNER: dict[str, list[dict[str, Any]]] = {
    "raw": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "big": [{"name": "bytes", "configuration": {"endian": "big"}}],
    "zstd": [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
    ],
    "gzip": [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "gzip", "configuration": {"level": 3}},
    ],
    "crc32c": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    "blosc": [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {
            "name": "blosc",
            "configuration": {
                "cname": "lz4",
                "clevel": 5,
                "shuffle": "shuffle",
                "typesize": 4,
                "blocksize": 0,
            },
        },
    ],
    "zstd-crc32c": [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 3, "checksum": True}},
        {"name": "crc32c"},
    ],
    "transpose": [
        {"name": "transpose", "configuration": {"order": [1, 0]}},
        {"name": "bytes", "configuration": {"endian": "big"}},
        {"name": "gzip", "configuration": {"level": 1}},
    ],
}
INDEX: dict[str, list[dict[str, Any]]] = {
    "crc": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    "bare": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "big": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}],
    "big-bare": [{"name": "bytes", "configuration": {"endian": "big"}}],
}


def shard(chunk: tuple[int, ...], inner: Any, index: Any = None, location: str = "end") -> Any:
    """A sharding codec from the JSON of its parts."""
    codecs: Any = importlib.import_module("zarr.codecs")
    return codecs.ShardingCodec(
        chunk_shape=chunk,
        codecs=inner,
        index_codecs=INDEX["crc"] if index is None else index,
        index_location=location,
    )


def add_all(recipes: Recipes) -> None:
    """Every sharding case."""
    for inner in INNER:
        for location in ("start", "end"):
            for index in INDEX if inner in ("raw", "zstd") else ("crc",):
                _add_matrix(recipes, inner, location, index)
    _add_shapes(recipes)
    _add_nested(recipes)
    _add_after(recipes)


def _add_matrix(recipes: Recipes, inner: str, location: str, index: str) -> None:
    def build(store: Path) -> Built:
        values = leave_out(numbers("f4", (23, 19)), (4, 3), 0)
        made = shard((4, 3), INNER[inner], INDEX[index], location)
        return write(store, values, (12, 9), options=lambda: {"serializer": made})

    tags = (
        "codec:sharding_indexed",
        f"index:{location}",
        f"index:{index}",
        f"inner:{inner}",
        "dtype:float32",
    )
    recipes.add(f"shard-{inner}-index-{location}-{index}", build, "v3-sharding", tags=tags)


def _add_shapes(recipes: Recipes) -> None:
    forms: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
        "1d": ("u2", (97,), (24,), (8,)),
        "3d": ("i2", (9, 8, 7), (4, 6, 4), (2, 3, 2)),
        "5d": ("u1", (3, 4, 3, 5, 2), (2, 4, 2, 4, 2), (1, 2, 2, 2, 1)),
        "one-chunk": ("i8", (10, 10), (5, 5), (5, 5)),
        "shard-over-array": ("f8", (5, 7), (12, 12), (4, 3)),
        "bool": ("bool", (13, 14), (8, 8), (4, 2)),
        "complex": ("c16", (13, 5), (8, 4), (4, 2)),
        "datetime": ("M8[ms]", (31,), (12,), (4,)),
        "utf32": ("U3", (31,), (12,), (4,)),
        "zero-length": ("i4", (0, 5), (4, 4), (2, 2)),
    }
    for name, (dtype, shape, shards, chunks) in forms.items():

        def build(
            store: Path,
            dtype: Any = dtype,
            shape: Any = shape,
            shards: Any = shards,
            chunks: Any = chunks,
        ) -> Built:
            fill = "" if dtype.startswith("U") else "NaT" if dtype.startswith("M") else 0
            values = numbers(dtype, shape)
            if shape:
                leave_out(values, chunks, fill)
            made = shard(chunks, INNER["zstd"])
            return write(
                store, values, shards, fill, options=lambda: {"serializer": made}, skip=bool(shape)
            )

        recipes.add(
            f"shard-shape-{name}", build, "v3-sharding", "shapes", tags=("codec:sharding_indexed",)
        )

    def strings(store: Path) -> Built:
        from zarr.codecs import ZstdCodec

        values = leave_out(texts((17, 9)), (4, 3), "fill")
        chosen = {"shards": (8, 6), "compressors": ZstdCodec(level=1)}
        return write(store, values, (4, 3), "fill", dtype="string", options=lambda: chosen)

    tags = ("codec:sharding_indexed", "codec:vlen-utf8", "dtype:string")
    recipes.add("shard-strings", strings, "v3-sharding", "v3-strings", tags=tags)

    def keyword(store: Path) -> Built:
        values = numbers("i4", (50, 21))
        return write(
            store, values, (5, 7), options=lambda: {"shards": (20, 14), "compressors": "auto"}
        )

    recipes.add(
        "shard-keyword", keyword, "v3-sharding", tags=("codec:sharding_indexed", "dtype:int32")
    )


def _add_nested(recipes: Recipes) -> None:
    for name, inner_location, outer_location in (
        ("ends", "end", "end"),
        ("starts", "start", "start"),
        ("mixed", "start", "end"),
    ):

        def build(
            store: Path, inside: str = inner_location, outside: str = outer_location
        ) -> Built:
            inner = shard((2, 3), INNER["gzip"], INDEX["bare"], inside)
            outer = shard((4, 6), [inner.to_dict()], INDEX["crc"], outside)
            values = leave_out(numbers("i2", (17, 26)), (2, 3), 0)
            leave_out(values, (4, 6), 0, every=5)
            return write(store, values, (8, 12), options=lambda: {"serializer": outer})

        recipes.add(
            f"shard-nested-{name}",
            build,
            "v3-sharding",
            tags=("codec:sharding_indexed", "shard:nested", "dtype:int16"),
        )

    def thrice(store: Path) -> Built:
        made = shard((2,), INNER["raw"])
        for chunk in ((4,), (12,)):
            made = shard(chunk, [made.to_dict()])
        values = leave_out(numbers("u4", (131,)), (2,), 0)
        return write(store, values, (24,), options=lambda: {"serializer": made})

    recipes.add(
        "shard-nested-thrice",
        thrice,
        "v3-sharding",
        tags=("codec:sharding_indexed", "shard:nested", "dtype:uint32"),
    )


def _add_after(recipes: Recipes) -> None:
    after = {
        "gzip": [{"name": "gzip", "configuration": {"level": 5}}],
        "zstd": [{"name": "zstd", "configuration": {"level": 1, "checksum": True}}],
        "crc32c": [{"name": "crc32c"}],
        "gzip-crc32c": [{"name": "gzip", "configuration": {"level": 1}}, {"name": "crc32c"}],
        "blosc": [INNER["blosc"][1]],
    }
    for name, codecs in after.items():
        for inner in ("raw", "zstd"):

            def build(store: Path, codecs: Any = codecs, inner: str = inner) -> Built:
                values = leave_out(numbers("i4", (19, 17)), (4, 3), 0)
                chosen = {"serializer": shard((4, 3), INNER[inner]), "compressors": codecs}
                return write(store, values, (8, 9), options=lambda: chosen)

            recipes.add(
                f"shard-{inner}-then-{name}",
                build,
                "v3-after-shard",
                tags=("codec:sharding_indexed", "dtype:int32"),
            )
    for location in ("start", "end"):

        def before(store: Path, location: str = location) -> Built:
            from zarr.codecs import TransposeCodec

            made = shard((4, 4), INNER["zstd"], None, location)
            chosen = {"filters": [TransposeCodec(order=(1, 0))], "serializer": made}
            values = leave_out(numbers("i4", (23, 19)), (4, 4), 0)
            return write(store, values, (8, 8), options=lambda: chosen)

        tags = ("codec:sharding_indexed", "codec:transpose", "dtype:int32")
        recipes.add(f"shard-after-transpose-{location}", before, "v3-before-shard", tags=tags)
