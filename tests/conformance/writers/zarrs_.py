"""Arrays encoded live by zarrs through its Python binding: a codec pipeline that takes any v3 metadata.

The binding is driven directly, chunk by chunk, so that data types and codecs that zarr-python does not know are written too.
A few arrays go the usual way, through zarr-python with the pipeline switched on.
"""

from __future__ import annotations

import importlib
import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..case import Built, Recipe, Recipes
from ..samples import chunk_slices, leave_out, numbers
from ..values import assert_equal, small_dtype

if TYPE_CHECKING:
    from pathlib import Path

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
CRC = {"name": "crc32c"}
GZIP = {"name": "gzip", "configuration": {"level": 3}}
ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": True}}
RARE = ("uint2", "uint4", "float6_e2m3fn", "float6_e3m2fn", "float8_e4m3", "float8_e3m4")
USUAL = (
    "int2",
    "int4",
    "float4_e2m1fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e8m0fnu",
    "bfloat16",
)


def cases() -> dict[str, Recipe]:
    """Every recipe."""
    recipes = Recipes("zarrs", needs=("zarr", "zarrs"))
    _add_types(recipes)
    _add_packed(recipes)
    _add_codecs(recipes)
    _add_shards(recipes)
    _add_pipeline(recipes)
    return recipes.as_dict()


def write(
    store: Path,
    data_type: Any,
    values: np.ndarray[Any, Any],
    chunks: tuple[int, ...],
    codecs: list[Any],
    *,
    fill: Any = 0,
    numpy_fill: Any = 0,
    inner: tuple[int, ...] | None = None,
) -> Built:
    """Encode every chunk but each fourth; `fill` is the JSON form, `inner` the chunk shape inside a shard."""
    from zarr.storage import LocalStore
    from zarrs._internal import ChunkItem, CodecPipelineImpl

    leave_out(values, chunks, numpy_fill)
    if inner is not None:
        leave_out(values, inner, numpy_fill)
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(values.shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": {},
    }
    (store / "zarr.json").write_text(json.dumps(document))
    items = []
    for region in chunk_slices(values.shape, chunks):
        place = [part.start // step for part, step in zip(region, chunks, strict=True)]
        within = [slice(0, part.stop - part.start) for part in region]
        key = "/".join(["c", *map(str, place)])
        items.append(
            ChunkItem(
                key=key,
                chunk_subset=within,
                chunk_shape=chunks,
                subset=list(region),
                shape=values.shape,
            )
        )
    pipeline = CodecPipelineImpl(json.dumps(document), store_config=LocalStore(store))
    plain = np.ascontiguousarray(values).view(f"V{values.dtype.itemsize}")
    pipeline.store_chunks_with_indices(items, plain, write_empty_chunks=False)
    back = np.zeros_like(plain)
    pipeline.retrieve_chunks_and_apply_index(items, back)
    back = back.view(values.dtype)
    assert_equal(values, back)
    return Built(back)


def _fill_of(name: str) -> tuple[Any, Any]:
    """A fill value in the form zarrs takes, and its meaning."""
    if name.startswith(("int", "uint")):
        return 1, 1
    if name == "bfloat16":
        return 0.0, 0
    return ("0x7f", 1) if name == "float8_e8m0fnu" else ("0x00", 0)


def _add_types(recipes: Recipes) -> None:
    for name in (*RARE, *USUAL):
        for word, codec in (
            (("little", LITTLE), ("big", BIG))
            if name == "bfloat16"
            else (("single", {"name": "bytes"}),)
        ):

            def small(store: Path, name: str = name, codec: Any = codec) -> Built:
                fill, meaning = _fill_of(name)
                values = numbers(small_dtype(name), (17, 9))
                return write(store, name, values, (6, 4), [codec], fill=fill, numpy_fill=meaning)

            row = "v3-exotic-rare" if name in RARE else "v3-exotic"
            recipes.add(f"type-{name}-{word}", small, row, tags=(f"dtype:{name}",))
    for bits in (8, 16, 24, 72):

        def raw(store: Path, bits: int = bits) -> Built:
            count = bits // 8
            values = numbers(f"V{count}", (13, 5))
            return write(
                store,
                f"r{bits}",
                values,
                (4, 3),
                [{"name": "bytes"}],
                fill=[7] * count,
                numpy_fill=np.void(b"\7" * count),
            )

        recipes.add(f"type-r{bits}", raw, "v3-raw-bits", tags=(f"dtype:r{bits}",))
    pairs: dict[str, tuple[Any, Any]] = {
        "complex_float16": ([0.0, 0.0], LITTLE),
        "complex_bfloat16": ([0.0, 0.0], LITTLE),
        "complex_float8_e4m3": (["0x00", "0x00"], {"name": "bytes"}),
        "complex_float6_e2m3fn": (["0x00", "0x00"], {"name": "bytes"}),
    }
    for name, (fill, codec) in pairs.items():

        def pair(store: Path, name: str = name, fill: Any = fill, codec: Any = codec) -> Built:
            values = numbers(small_dtype(name), (13, 5))
            return write(
                store,
                name,
                values,
                (4, 3),
                [codec],
                fill=fill,
                numpy_fill=np.zeros((), values.dtype)[()],
            )

        recipes.add(
            f"type-{name}", pair, "v3-exotic-rare", demand="optional", tags=(f"dtype:{name}",)
        )
    for name, dtype in (("complex_float32", "c8"), ("complex_float64", "c16")):

        def alias(store: Path, name: str = name, dtype: str = dtype) -> Built:
            return write(
                store,
                name,
                numbers(dtype, (13, 5)),
                (4, 3),
                [LITTLE],
                fill=["NaN", 1.0],
                numpy_fill=complex(np.nan, 1),
            )

        recipes.add(f"type-{name}", alias, "v3-exotic-rare", tags=(f"dtype:{name}",))


def _add_packed(recipes: Recipes) -> None:
    for name in (
        "bool",
        "int2",
        "uint2",
        "int4",
        "uint4",
        "float4_e2m1fn",
        "float6_e2m3fn",
        "float6_e3m2fn",
    ):
        for padding in ("none", "first_byte", "last_byte"):

            def packed(store: Path, name: str = name, padding: str = padding) -> Built:
                codec = {"name": "packbits", "configuration": {"padding_encoding": padding}}
                fill, meaning = (False, False) if name == "bool" else _fill_of(name)
                values = numbers("?" if name == "bool" else small_dtype(name), (17, 9))
                return write(store, name, values, (5, 3), [codec], fill=fill, numpy_fill=meaning)

            recipes.add(
                f"packbits-{name}-{padding}",
                packed,
                "v3-reshape-packbits",
                tags=("codec:packbits", f"dtype:{name}"),
            )
    # Whole chunks only, and signed numbers of one byte: zarrs 0.23 drops the shift when it decodes part of a chunk, and
    # extends the sign no further than the byte.
    ranges = [
        ("uint16", 0, 10, 2047),
        ("uint16", 3, 12, 0x1FF8),
        ("int8", 0, 5, None),
        ("uint32", 4, 20, 0x1FFFF0),
        ("int8", 1, 7, -2),
    ]
    for name, first, last, mask in ranges:

        def part(
            store: Path, name: str = name, first: int = first, last: int = last, mask: Any = mask
        ) -> Built:
            codec = {"name": "packbits", "configuration": {"first_bit": first, "last_bit": last}}
            values = numbers(name, (15, 9))
            values = values & mask if mask is not None else values % 64 - 32
            return write(store, name, values.astype(name), (5, 3), [codec, GZIP])

        recipes.add(
            f"packbits-{name}-bits-{first}-{last}",
            part,
            "v3-reshape-packbits",
            tags=("codec:packbits", f"dtype:{name}"),
        )


def _add_codecs(recipes: Recipes) -> None:
    def reshape(shape: list[Any]) -> dict[str, Any]:
        return {"name": "reshape", "configuration": {"shape": shape}}

    def turn(*order: int) -> dict[str, Any]:
        return {"name": "transpose", "configuration": {"order": list(order)}}

    chains: dict[str, tuple[str, list[Any]]] = {
        "reshape-flat": ("v3-reshape-packbits", [reshape([-1]), LITTLE]),
        "reshape-join": ("v3-reshape-packbits", [reshape([[0, 1], [2]]), BIG, GZIP]),
        "reshape-split": ("v3-reshape-packbits", [reshape([[0], 3, [2]]), LITTLE]),
        "reshape-transpose": ("v3-reshape-packbits", [reshape([[0, 1], [2]]), turn(1, 0), LITTLE]),
        "transpose-reshape": (
            "v3-reshape-packbits",
            [turn(2, 0, 1), reshape([[0], -1]), LITTLE, ZSTD],
        ),
        "transpose-twice": ("v3-codecs", [turn(2, 0, 1), turn(0, 2, 1), BIG]),
        "short-hand": ("v3-short-hand", [LITTLE, "crc32c"]),
        "endian-alias": ("v3-short-hand", [{"name": "endian", "configuration": {"endian": "big"}}]),
        "zstd-crc32c": ("v3-codecs", [LITTLE, ZSTD, CRC]),
    }
    for name, (row, codecs) in chains.items():

        def build(store: Path, codecs: Any = codecs) -> Built:
            whole = "reshape" in str(codecs)  # zarrs cannot decode part of a reshaped chunk
            shape = (8, 9, 10) if whole else (9, 8, 7)
            return write(store, "uint16", numbers("u2", shape), (4, 3, 5), codecs)

        recipes.add(f"codec-{name}", build, row, tags=("dtype:uint16",))

    def squeezed(store: Path) -> Built:
        codecs = [{"name": "zarrs.squeeze"}, reshape([[0, 1]]), LITTLE]
        return write(store, "uint16", numbers("u2", (8, 3, 10)), (4, 1, 5), codecs)

    recipes.add("codec-squeeze", squeezed, "v3-zarrs-codecs", tags=("dtype:uint16",))


def _add_shards(recipes: Recipes) -> None:
    def shard(
        chunk: list[int], codecs: list[Any], index: list[Any], location: str = "end"
    ) -> dict[str, Any]:
        settings = {
            "chunk_shape": chunk,
            "codecs": codecs,
            "index_codecs": index,
            "index_location": location,
        }
        return {"name": "sharding_indexed", "configuration": settings}

    turn = {"name": "transpose", "configuration": {"order": [1, 0]}}
    nested = shard([4, 6], [shard([2, 3], [LITTLE, GZIP], [LITTLE], "start")], [LITTLE, CRC])
    packed = shard([4, 3], [{"name": "packbits"}, ZSTD], [BIG, CRC], "start")
    plain: dict[str, tuple[str, str, list[Any], tuple[int, int]]] = {
        "start": (
            "v3-sharding",
            "i4",
            [shard([4, 3], [LITTLE, ZSTD], [LITTLE, CRC], "start")],
            (4, 3),
        ),
        "end-big-index": ("v3-sharding", "i4", [shard([4, 3], [BIG], [BIG])], (4, 3)),
        "nested": ("v3-sharding", "i4", [nested], (2, 3)),
        "gzip-after": (
            "v3-after-shard",
            "i4",
            [shard([4, 3], [LITTLE], [LITTLE, CRC]), GZIP],
            (4, 3),
        ),
        "zstd-crc32c-after": (
            "v3-after-shard",
            "i4",
            [shard([4, 3], [LITTLE], [LITTLE, CRC]), ZSTD, CRC],
            (4, 3),
        ),
        "transposed": (
            "v3-before-shard",
            "i4",
            [turn, shard([3, 4], [LITTLE, GZIP], [LITTLE, CRC])],
            (4, 3),
        ),
        "packbits-inside": ("v3-reshape-packbits", "uint4", [packed], (4, 3)),
        "transpose-inside": (
            "v3-sharding",
            "f8",
            [shard([4, 3], [turn, BIG, ZSTD], [LITTLE, CRC])],
            (4, 3),
        ),
    }
    for name, (row, dtype, codecs, inner) in plain.items():

        def build(
            store: Path, dtype: str = dtype, codecs: Any = codecs, inner: Any = inner
        ) -> Built:
            values = numbers(small_dtype(dtype) if dtype == "uint4" else dtype, (23, 19))
            data_type = dtype if dtype == "uint4" else np.dtype(dtype).name
            return write(store, data_type, values, (8, 12), codecs, inner=inner)

        recipes.add(f"shard-{name}", build, row, tags=("codec:sharding_indexed",))


def _add_pipeline(recipes: Recipes) -> None:
    """Through zarr-python with the zarrs pipeline, in its strict mode: no fallback."""
    forms: dict[str, tuple[str, dict[str, Any]]] = {
        "plain": ("v3-numbers", {"compressors": None}),
        "zstd": ("v3-codecs", {"compressors": [ZSTD]}),
        "blosc": ("v3-codecs", {"compressors": "blosc"}),
        "shards": ("v3-sharding", {"shards": (8, 6), "compressors": [GZIP]}),
    }
    for name, (row, options) in forms.items():
        for dtype in ("f4", "u2"):

            def build(store: Path, dtype: str = dtype, options: Any = options) -> Built:
                return _write_pipeline(store, dtype, options)

            recipes.add(
                f"pipeline-{name}-{dtype}", build, row, tags=(f"dtype:{np.dtype(dtype).name}",)
            )


def _write_pipeline(store: Path, dtype: str, options: dict[str, Any]) -> Built:
    zarr: Any = importlib.import_module("zarr")
    from zarr.codecs import BloscCodec

    chosen = options | (
        {"compressors": BloscCodec(cname="zstd", shuffle="bitshuffle")}
        if options["compressors"] == "blosc"
        else {}
    )
    values = leave_out(numbers(dtype, (23, 19)), (4, 3), 0)
    settings = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}
    with warnings.catch_warnings(), zarr.config.set(settings):
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            str(store), shape=values.shape, chunks=(4, 3), dtype=dtype, fill_value=0, **chosen
        )
        array[...] = values
        back = np.asarray(zarr.open_array(str(store), mode="r")[...])
    assert_equal(values, back)
    return Built(back)
