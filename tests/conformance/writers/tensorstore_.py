"""Arrays written live by tensorstore: formats v2 and v3, its small number types, its shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..case import Built, Recipe, Recipes
from ..samples import leave_out, numbers
from ..values import assert_equal, small_dtype

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)
SMALL = (
    "bfloat16",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e4m3b11fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e3m4",
)
SMALL_V3 = (*SMALL, "float8_e8m0fnu", "float4_e2m1fn", "int4", "int2")
LITTLE: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
BIG: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "big"}}
CRC = {"name": "crc32c"}


def cases() -> dict[str, Recipe]:
    """Every recipe."""
    recipes = Recipes("tensorstore", needs=("tensorstore",))
    _add_v3_types(recipes)
    _add_v3_codecs(recipes)
    _add_v3_shards(recipes)
    _add_v3_layout(recipes)
    _add_v2(recipes)
    return recipes.as_dict()


def dtype_of(name: str) -> np.dtype[Any]:
    """NumPy's dtype for a Zarr name, small types included."""
    return np.dtype(name) if name in NUMBERS else small_dtype(name)


def write(
    store: Path, driver: str, metadata: dict[str, Any], values: np.ndarray[Any, Any]
) -> Built:
    """Create, write, and read back through a fresh handle; what is read must be what was written."""
    import tensorstore as ts

    spec: dict[str, Any] = {"driver": driver, "kvstore": {"driver": "file", "path": f"{store}/"}}
    made = ts.open(spec | {"metadata": metadata}, create=True).result()
    made.write(values).result()
    back = np.asarray(ts.open(spec).result().read(order="C").result())
    assert_equal(values, back)
    return Built(back)


def write_v3(
    store: Path,
    data_type: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    codecs: list[Any],
    *,
    fill: Any = 0,
    numpy_fill: Any = None,
    inner: tuple[int, ...] | None = None,
    **extra: Any,
) -> Built:
    """A v3 array; `fill` is its JSON form, `inner` the chunk shape inside a shard."""
    values = numbers(dtype_of(data_type), shape, seed=2)
    given = fill if numpy_fill is None else numpy_fill
    if shape and data_type != "float8_e8m0fnu":  # whose fill value tensorstore writes wrong
        leave_out(values, chunks, given)
        if inner is not None:
            leave_out(values, inner, given)
    metadata = {
        "shape": list(shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "fill_value": fill,
        "codecs": codecs,
    }
    return write(store, "zarr3", metadata | extra, values)


def _add_v3_types(recipes: Recipes) -> None:
    for position, name in enumerate(NUMBERS):
        order = BIG if position % 2 else LITTLE

        def build(store: Path, name: str = name, order: Any = order) -> Built:
            fill: Any = False if name == "bool" else [0.0, 0.0] if name.startswith("complex") else 0
            first = order if dtype_of(name).itemsize > 1 else {"name": "bytes"}
            return write_v3(store, name, (13, 11), (5, 4), [first], fill=fill, numpy_fill=0)

        tags = (f"dtype:{name}", f"endian:{order['configuration']['endian']}")
        recipes.add(f"type-{name}", build, "v3-numbers", tags=tags)
    for name in SMALL_V3:
        orders: dict[str, Any] = {"single": {"name": "bytes"}}
        if name == "bfloat16":
            orders = {"little": LITTLE, "big": BIG}
        for word, order in orders.items():

            def small(store: Path, name: str = name, order: Any = order) -> Built:
                fill = "0x7f" if name == "float8_e8m0fnu" else 1
                return write_v3(store, name, (23, 9), (6, 4), [order], fill=fill, numpy_fill=1)

            rows = ("v3-exotic",)
            recipes.add(
                f"type-{name}-{word}", small, *rows, tags=(f"dtype:{name}", f"endian:{word}")
            )
    fills: list[tuple[str, str, Any, Any]] = [
        ("nan", "float32", "NaN", np.nan),
        ("inf", "float64", "-Infinity", -np.inf),
        ("neg-zero", "float32", -0.0, -0.0),
        ("hex", "float16", "0x7e01", np.array(0x7E01, "u2").view("f2")[()]),
        ("complex", "complex64", [1.5, "Infinity"], complex(1.5, np.inf)),
        ("max", "uint64", 2**64 - 1, 2**64 - 1),
        ("nan", "bfloat16", "NaN", np.nan),
        ("hex", "float8_e5m2", "0x7c", np.inf),
    ]
    for word, name, fill, given in fills:

        def filled(store: Path, name: str = name, fill: Any = fill, given: Any = given) -> Built:
            first = LITTLE if dtype_of(name).itemsize > 1 else {"name": "bytes"}
            return write_v3(store, name, (23, 9), (6, 4), [first], fill=fill, numpy_fill=given)

        row = "v3-fill" if name in NUMBERS else "v3-exotic"
        recipes.add(f"fill-{word}-{name}", filled, row, tags=(f"dtype:{name}",))


def _add_v3_codecs(recipes: Recipes) -> None:
    def blosc(cname: str, shuffle: str) -> dict[str, Any]:
        settings = {"cname": cname, "clevel": 5, "shuffle": shuffle, "typesize": 4, "blocksize": 0}
        return {"name": "blosc", "configuration": settings}

    gzip = {"name": "gzip", "configuration": {"level": 5}}
    zstd = {"name": "zstd", "configuration": {"level": 3, "checksum": True}}
    turn = {"name": "transpose", "configuration": {"order": [2, 0, 1]}}
    chains: dict[str, list[Any]] = {
        "gzip": [LITTLE, gzip],
        "zstd": [LITTLE, zstd],
        "crc32c": [BIG, CRC],
        "transpose": [turn, LITTLE],
        "transpose-zstd-crc32c": [turn, BIG, zstd, CRC],
    }
    for cname, shuffle in (
        ("lz4", "shuffle"),
        ("lz4hc", "noshuffle"),
        ("blosclz", "shuffle"),
        ("zlib", "bitshuffle"),
        ("zstd", "bitshuffle"),
    ):
        chains[f"blosc-{cname}-{shuffle}"] = [LITTLE, blosc(cname, shuffle)]
    for name, codecs in chains.items():

        def build(store: Path, codecs: Any = codecs) -> Built:
            return write_v3(store, "int32", (9, 8, 7), (4, 3, 5), codecs)

        recipes.add(
            f"codec-{name}",
            build,
            "v3-codecs",
            tags=tuple(f"codec:{one['name']}" for one in codecs),
        )


def _add_v3_shards(recipes: Recipes) -> None:
    def shard(
        chunk: list[int], codecs: list[Any], index: list[Any], location: str
    ) -> dict[str, Any]:
        settings = {
            "chunk_shape": chunk,
            "codecs": codecs,
            "index_codecs": index,
            "index_location": location,
        }
        return {"name": "sharding_indexed", "configuration": settings}

    gzip = {"name": "gzip", "configuration": {"level": 1}}
    for location in ("start", "end"):
        for word, index in (("crc", [LITTLE, CRC]), ("bare", [LITTLE]), ("big", [BIG, CRC])):
            for inner_word, inner in (("raw", [LITTLE]), ("gzip", [BIG, gzip])):
                codec = shard([4, 3], inner, index, location)

                def build(store: Path, codec: Any = codec) -> Built:
                    return write_v3(store, "int32", (23, 19), (12, 9), [codec], inner=(4, 3))

                recipes.add(
                    f"shard-{inner_word}-{location}-{word}",
                    build,
                    "v3-sharding",
                    tags=("codec:sharding_indexed",),
                )
    nested = shard([4, 6], [shard([2, 3], [LITTLE, gzip], [LITTLE], "start")], [LITTLE, CRC], "end")
    plain: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], Any, tuple[int, ...]]] = {
        "nested": ("v3-sharding", (17, 26), (8, 12), [nested], (2, 3)),
        "0d": ("v3-sharding", (), (), [shard([], [LITTLE], [LITTLE, CRC], "end")], ()),
    }
    permuted: list[tuple[list[int], tuple[int, ...], list[int]]] = [
        ([1, 0], (12, 6), [3, 4]),
        ([2, 0, 1], (6, 4, 10), [5, 2, 2]),
        ([1, 2, 0], (6, 4, 10), [2, 5, 3]),
        ([2, 1, 0], (6, 4, 10), [2, 2, 3]),
    ]
    for axes, whole, turned in permuted:
        turn = {"name": "transpose", "configuration": {"order": axes}}
        codecs = [turn, shard(turned, [LITTLE, gzip], [LITTLE, CRC], "end")]
        back = tuple(turned[axes.index(axis)] for axis in range(len(axes)))
        shape = tuple(2 * extent - 1 for extent in whole)
        name = "transposed-" + "".join(map(str, axes))
        plain[name] = ("v3-before-shard", shape, whole, codecs, back)
    for name, (row, extents, chunks, chain, small) in plain.items():

        def other(
            store: Path,
            shape: Any = extents,
            chunks: Any = chunks,
            codecs: Any = chain,
            inner: Any = small,
        ) -> Built:
            return write_v3(store, "int32", shape, chunks, codecs, inner=inner)

        recipes.add(f"shard-{name}", other, row, tags=("codec:sharding_indexed",))


def _add_v3_layout(recipes: Recipes) -> None:
    for encoding in ("default", "v2"):
        for word, separator in (("slash", "/"), ("dot", ".")):
            keys = {"name": encoding, "configuration": {"separator": separator}}
            for form, shape, chunks in (("0d", (), ()), ("2d", (9, 7), (4, 3))):

                def build(
                    store: Path, keys: Any = keys, shape: Any = shape, chunks: Any = chunks
                ) -> Built:
                    return write_v3(
                        store, "uint16", shape, chunks, [LITTLE], chunk_key_encoding=keys
                    )

                recipes.add(
                    f"keys-{encoding}-{word}-{form}",
                    build,
                    "v3-chunk-keys",
                    tags=(f"keys:{encoding}",),
                )


def _add_v2(recipes: Recipes) -> None:
    types = ["|b1", "|i1", ">i2", "<u4", ">u8", "<f2", ">f4", "<f8", ">c8", "<c16", *SMALL, "int4"]
    for dtype in types:
        name = (
            dtype
            if dtype[0].isalpha()
            else {"<": "little-", ">": "big-", "|": "single-"}[dtype[0]] + np.dtype(dtype).name
        )

        def build(store: Path, dtype: str = dtype) -> Built:
            values = numbers(small_dtype(dtype) if dtype[0].isalpha() else dtype, (13, 11))
            fill = (
                None
                if dtype[0].isalpha()
                else False
                if dtype == "|b1"
                else [0.0, 0.0]
                if "c" in dtype
                else 0
            )
            leave_out(values, (5, 4), 0)
            return _write_v2(store, values, dtype, (5, 4), fill=fill)

        row = "v2-exotic" if dtype[0].isalpha() else "v2-numbers"
        recipes.add(f"type-{name}", build, row, zarr_format=2, tags=(f"dtype:{name}",))
    compressors: dict[str, Any] = {
        "zlib": {"id": "zlib", "level": 3},
        "gzip": {"id": "gzip", "level": 3},
        "bz2": {"id": "bz2", "level": 1},
        "zstd": {"id": "zstd", "level": 2},
        "blosc-lz4": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
        "blosc-zstd-auto": {
            "id": "blosc",
            "cname": "zstd",
            "clevel": 3,
            "shuffle": -1,
            "blocksize": 256,
        },
    }
    for name, compressor in compressors.items():
        for order, separator in (("C", "."), ("F", "/")):

            def compressed(
                store: Path,
                compressor: Any = compressor,
                order: str = order,
                separator: str = separator,
            ) -> Built:
                values = leave_out(numbers("i4", (19, 8)), (7, 5), -1)
                chosen = {
                    "compressor": compressor,
                    "order": order,
                    "dimension_separator": separator,
                }
                return _write_v2(store, values, "<i4", (7, 5), fill=-1, **chosen)

            tags = (f"codec:{compressor['id']}", f"order:{order}")
            recipes.add(
                f"{name}-{order}",
                compressed,
                "v2-compressors",
                "v2-layout",
                zarr_format=2,
                tags=tags,
            )
    recipes.add(
        "structured", _structured, "v2-structured", zarr_format=2, tags=("dtype:structured",)
    )


def _write_v2(
    store: Path, values: Any, dtype: Any, chunks: tuple[int, ...], *, fill: Any, **extra: Any
) -> Built:
    metadata = {
        "zarr_format": 2,
        "shape": list(values.shape),
        "chunks": list(chunks),
        "dtype": dtype,
        "fill_value": fill,
    }
    return write(
        store,
        "zarr",
        metadata | {"compressor": None, "order": "C", "filters": None} | extra,
        values,
    )


def _structured(store: Path) -> Built:
    """Written one field at a time, which is how tensorstore sees such arrays."""
    import tensorstore as ts

    fields = [["x", "<i2"], ["y", ">f8"], ["z", "|u1"]]
    values = numbers([("x", "i2"), ("y", "f8"), ("z", "u1")], (17,))
    metadata = {
        "shape": [17],
        "chunks": [5],
        "dtype": fields,
        "fill_value": None,
        "compressor": {"id": "zlib", "level": 1},
    }
    spec: dict[str, Any] = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{store}/"}}
    for name in ("x", "y", "z"):
        part = spec | {"field": name, "metadata": metadata | {"order": "C", "filters": None}}
        ts.open(part, create=True, open=True).result().write(values[name]).result()
    return Built(values)
