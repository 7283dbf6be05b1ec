"""zarr-python 3: every data type in both byte orders and several chunkings, and the fill values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...samples import blobs, numbers, texts
from .write import write

if TYPE_CHECKING:
    from pathlib import Path

    from ...case import Built, Recipes

NUMBERS = ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
LAYOUTS = {"1d": ((61,), (17,)), "2d": ((13, 11), (5, 4)), "3d": ((5, 7, 6), (2, 3, 4))}
UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")
MULTIPLES = (("s", 10), ("D", 7), ("ns", 25), ("M", 3), ("us", 1000))
STRUCTURED = [("x", "<i2"), ("y", "<f8"), ("name", "S3"), ("flag", "?")]


def add_all(recipes: Recipes) -> None:
    """Every type."""
    _add_numbers(recipes)
    _add_datetimes(recipes)
    _add_strings(recipes)
    _add_structured(recipes)
    _add_fills(recipes)


def _endian(name: str) -> dict[str, Any]:
    from zarr.codecs import BytesCodec

    return {"serializer": BytesCodec(endian=name)}


def _add_numbers(recipes: Recipes) -> None:
    for name in NUMBERS:
        dtype = np.dtype(name)
        for endian in ("little", "big") if dtype.itemsize > 1 else ("little",):
            for layout, (shape, chunks) in LAYOUTS.items():

                def build(
                    store: Path,
                    dtype: Any = dtype,
                    endian: str = endian,
                    shape: Any = shape,
                    chunks: Any = chunks,
                ) -> Built:
                    values = numbers(dtype, shape, seed=len(shape))
                    return write(store, values, chunks, options=lambda: _endian(endian))

                tags = (f"dtype:{dtype.name}", f"endian:{endian}", "codec:bytes")
                recipes.add(f"type-{dtype.name}-{endian}-{layout}", build, "v3-numbers", tags=tags)


def _add_datetimes(recipes: Recipes) -> None:
    units = [(unit, 1) for unit in UNITS] + list(MULTIPLES)
    for kind in "Mm":
        for position, (unit, factor) in enumerate(units):
            endian = "big" if position % 3 == 1 else "little"
            dtype = np.dtype(f"{kind}8[{factor}{unit}]")
            fill = np.array("NaT" if position % 2 else 7, dtype)[()]

            def build(
                store: Path, dtype: Any = dtype, endian: str = endian, fill: Any = fill
            ) -> Built:
                return write(
                    store, numbers(dtype, (23, 4)), (5, 3), fill, options=lambda: _endian(endian)
                )

            name = f"type-{dtype.name}-{endian}".replace("[", "-").replace("]", "")
            tags = (f"dtype:{dtype.name}", f"endian:{endian}", "codec:bytes")
            recipes.add(name, build, "v3-datetime", tags=tags)


def _add_strings(recipes: Recipes) -> None:  # noqa: C901 - one case after another
    for endian in ("little", "big"):
        for width in (1, 5):

            def unicode(store: Path, endian: str = endian, width: int = width) -> Built:
                values = numbers(f"U{width}", (13, 5))
                return write(store, values, (4, 3), "é", options=lambda: _endian(endian))

            tags = ("dtype:fixed_length_utf32", f"endian:{endian}", "codec:bytes")
            recipes.add(f"type-utf32-{width}-{endian}", unicode, "v3-fixed-strings", tags=tags)
    for name, dtype, fill in (
        ("null_terminated_bytes", "S4", b"ab"),
        ("raw_bytes", "V5", np.void(b"\1\0\2\0\3")),
    ):

        def fixed(store: Path, dtype: str = dtype, fill: Any = fill) -> Built:
            return write(store, numbers(dtype, (29,)), (6,), fill)

        recipes.add(
            f"type-{name}", fixed, "v3-fixed-strings", tags=(f"dtype:{name}", "codec:bytes")
        )
    for absent in ("", "fehlt: 欠"):
        for codec in ("none", "zstd"):

            def strings(store: Path, fill: str = absent, codec: str = codec) -> Built:
                from zarr.codecs import ZstdCodec

                chosen = {"compressors": None if codec == "none" else ZstdCodec()}
                return write(
                    store, texts((11, 7)), (4, 3), fill, dtype="string", options=lambda: chosen
                )

            name = f"type-string-{'fill' if absent else 'empty'}-{codec}"
            recipes.add(name, strings, "v3-strings", tags=("dtype:string", "codec:vlen-utf8"))
    recipes.add("type-string-0d", _string_0d, "v3-strings", "shapes", tags=("dtype:string",))
    for missing in (b"", b"\0missing\xff"):

        def byte_strings(store: Path, fill: bytes = missing) -> Built:
            from zarr.dtype import VariableLengthBytes

            dtype = VariableLengthBytes()
            return write(store, blobs((11, 7)), (4, 3), fill, dtype=dtype)

        name = f"type-variable_length_bytes-{'fill' if missing else 'empty'}"
        recipes.add(name, byte_strings, "v3-strings", tags=("dtype:bytes", "codec:vlen-bytes"))


def _string_0d(store: Path) -> Built:
    values = np.empty((), dtype=object)
    values[()] = "lone ☂"
    return write(store, values, (), "", dtype="string", skip=False)


def _add_structured(recipes: Recipes) -> None:
    for endian in ("little", "big"):

        def build(store: Path, endian: str = endian) -> Built:
            dtype = np.dtype(STRUCTURED)
            fill = np.array((-2, 0.5, b"no", True), dtype)[()]
            return write(store, numbers(dtype, (17,)), (5,), fill, options=lambda: _endian(endian))

        recipes.add(
            f"type-structured-{endian}",
            build,
            "v3-structured",
            tags=("dtype:structured", f"endian:{endian}"),
        )

    def bytes_only(store: Path) -> Built:
        dtype = np.dtype([("r", "u1"), ("g", "u1"), ("b", "u1"), ("tag", "S2")])
        return write(store, numbers(dtype, (9, 7)), (4, 3), np.zeros((), dtype)[()])

    recipes.add(
        "type-structured-single-bytes", bytes_only, "v3-structured", tags=("dtype:structured",)
    )

    def with_time(store: Path) -> Built:
        dtype = np.dtype([("when", "<M8[ms]"), ("what", "<U2"), ("z", "<c8")])
        return write(store, numbers(dtype, (19,)), (7,), np.zeros((), dtype)[()])

    recipes.add("type-structured-datetime", with_time, "v3-structured", tags=("dtype:structured",))


def _add_fills(recipes: Recipes) -> None:
    fills: list[tuple[str, str, Any]] = [("bool", "true", True)]
    for name in ("f2", "f4", "f8"):
        info = np.finfo(name)
        plain: dict[str, Any] = {
            "nan": np.nan,
            "inf": np.inf,
            "neg-inf": -np.inf,
            "neg-zero": -0.0,
            "third": 1 / 3,
            "max": info.max,
        }
        fills += [(name, word, np.dtype(name).type(value)) for word, value in plain.items()]
    for name in ("c8", "c16"):
        pairs: dict[str, Any] = {
            "nan-inf": complex(np.nan, np.inf),
            "neg-zero": complex(-0.0, -np.inf),
            "plain": complex(1.5, -2),
        }
        fills += [(name, word, np.dtype(name).type(value)) for word, value in pairs.items()]
    for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
        limits = np.iinfo(name)
        fills.append((name, "max", limits.max))
        if limits.min:
            fills.append((name, "min", limits.min))
    for name, word, fill in fills:
        dtype = np.dtype(name)

        def build(store: Path, dtype: Any = dtype, fill: Any = fill) -> Built:
            return write(store, numbers(dtype, (13, 9)), (5, 4), fill)

        recipes.add(f"fill-{dtype.name}-{word}", build, "v3-fill", tags=(f"dtype:{dtype.name}",))
