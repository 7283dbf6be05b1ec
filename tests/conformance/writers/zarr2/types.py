"""zarr-python 2: every data type in both byte orders, objects, and the fill values."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built, Recipes
from ...samples import blobs, numbers, texts
from .write import write

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16")
LAYOUTS = {"1d": ((31,), (9,)), "2d": ((9, 7), (4, 3))}
UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")
MULTIPLES = (("s", 10), ("ns", 25))
ZLIB = {"id": "zlib", "level": 1}


def add_all(recipes: Recipes) -> None:
    """Every type."""
    _add_numbers(recipes)
    _add_datetimes(recipes)
    _add_fixed(recipes)
    _add_objects(recipes)
    _add_fills(recipes)


def _add_numbers(recipes: Recipes) -> None:
    for name in NUMBERS:
        for order in "<>" if np.dtype(name).itemsize > 1 else "|":
            for position, (layout, (shape, chunks)) in enumerate(LAYOUTS.items()):

                def build(
                    store: Path,
                    dtype: str = order + name,
                    shape: Any = shape,
                    chunks: Any = chunks,
                    big: Any = position,
                ) -> Built:
                    compressor = ZLIB if big else None
                    return write(
                        store, numbers(dtype, shape), chunks, dtype=dtype, compressor=compressor
                    )

                word = {"<": "little", ">": "big", "|": "single"}[order]
                tags = (f"dtype:{np.dtype(name).name}", f"endian:{word}")
                recipes.add(
                    f"type-{np.dtype(name).name}-{word}-{layout}",
                    build,
                    "v2-numbers",
                    zarr_format=2,
                    tags=tags,
                )


def _add_datetimes(recipes: Recipes) -> None:
    units = [(unit, 1) for unit in UNITS] + list(MULTIPLES)
    for kind in "Mm":
        for position, (unit, factor) in enumerate(units):
            order = ">" if position % 3 == 1 else "<"
            fill: Any = "NaT" if position % 2 else 7

            def build(
                store: Path, dtype: str = f"{order}{kind}8[{factor}{unit}]", fill: Any = fill
            ) -> Built:
                made = np.array(fill, dtype)[()]
                return write(store, numbers(dtype, (23,)), (6,), made, dtype=dtype)

            name = f"{'datetime' if kind == 'M' else 'timedelta'}-{factor}{unit}-{'big' if order == '>' else 'little'}"
            tags = ("dtype:datetime64" if kind == "M" else "dtype:timedelta64",)
            recipes.add(f"type-{name}-{position}", build, "v2-datetime", zarr_format=2, tags=tags)


def _add_fixed(recipes: Recipes) -> None:
    plain: dict[str, tuple[str, Any]] = {
        "s1": ("S1", b"x"),
        "s6": ("S6", b"ab\xff"),
        "u1-little": ("<U1", ""),
        "u4-little": ("<U4", "ünï"),
        "u4-big": (">U4", "日本"),
        "v3": ("V3", b"\1\2\3"),
        "v16": ("V16", b""),
    }
    for name, (dtype, fill) in plain.items():

        def build(store: Path, dtype: str = dtype, fill: Any = fill) -> Built:
            made = (
                np.array(fill, dtype)[()]
                if dtype[0] != "V"
                else np.void(fill.ljust(int(dtype[1:]), b"\0"))
            )
            return write(store, numbers(dtype, (29,)), (7,), made, dtype=dtype)

        recipes.add(
            f"type-{name}",
            build,
            "v2-fixed-strings",
            zarr_format=2,
            tags=(f"dtype:{dtype.lstrip('<>')}",),
        )
    structured: dict[str, tuple[str, list[Any]]] = {
        "flat": (
            "v2-structured",
            [("a", "<i4"), ("b", ">f8"), ("c", "S3"), ("d", "?"), ("e", "<U2")],
        ),
        "times": ("v2-structured", [("t", "<M8[ms]"), ("z", ">c8"), ("v", "V3")]),
        "nested": (
            "v2-structured-nested",
            [("id", "<u2"), ("at", [("x", ">f4"), ("in", [("k", "S2"), ("t", "<i8")])])],
        ),
        "subarray": (
            "v2-structured-subarray",
            [("m", "<i2", (2, 3)), ("w", ">f4", (4,)), ("one", "u1")],
        ),
        "nested-subarray": (
            "v2-structured-subarray",
            [("p", [("q", "<f4", (2,)), ("r", "u1")]), ("s", "S1", (3,))],
        ),
    }
    for name, (row, fields) in structured.items():
        for kind in ("null", "value"):

            def records(store: Path, fields: Any = fields, kind: str = kind) -> Built:
                dtype = np.dtype(fields)
                fill = None if kind == "null" else numbers(dtype, (5,), seed=4)[4]
                return write(store, numbers(dtype, (19,)), (5,), fill, dtype=dtype, compressor=ZLIB)

            recipes.add(
                f"type-structured-{name}-{kind}",
                records,
                row,
                zarr_format=2,
                tags=("dtype:structured",),
            )


def _add_objects(recipes: Recipes) -> None:  # noqa: C901 - one case after another
    def objects(pool: list[Any]) -> np.ndarray[Any, Any]:
        out = np.empty(23, dtype=object)
        for position in range(23):
            out[position] = pool[(position * 5) % len(pool)]
        return out

    json_items = [None, True, 5, -2.5, "text", [1, "two", None], {"k": [1.5], "ü": "é"}, "", []]
    words = ["red", "green", "blué", ""]
    forms: dict[str, tuple[str, dict[str, Any], Any, Any]] = {
        "vlen-utf8": ("v2-vlen-utf8", {"id": "vlen-utf8"}, texts((23,)), ""),
        "vlen-utf8-fill": ("v2-vlen-utf8", {"id": "vlen-utf8"}, texts((23,), 3), "ün"),
        "vlen-bytes": ("v2-objects", {"id": "vlen-bytes"}, blobs((23,)), 0),
        "json2": ("v2-objects", {"id": "json2"}, objects(json_items), None),
        "msgpack2": ("v2-objects", {"id": "msgpack2"}, objects(json_items), None),
        "categorize": (
            "v2-objects",
            {"id": "categorize", "labels": words[:3], "dtype": "|O", "astype": "|u1"},
            objects(words),
            "",
        ),
        "categorize-i2": (
            "v2-objects",
            {"id": "categorize", "labels": words[:3], "dtype": "|O", "astype": "<i2"},
            objects(words),
            "",
        ),
    }
    for name, (row, codec, values, fill) in forms.items():
        for compressor in (None, ZLIB):

            def build(
                store: Path,
                codec: Any = codec,
                values: Any = values,
                fill: Any = fill,
                compressor: Any = compressor,
            ) -> Built:
                first = [{**codec}]
                made = np.array(values, copy=True)
                skip = isinstance(fill, str)
                return write(
                    store,
                    made,
                    (6,),
                    fill,
                    dtype=object,
                    filters=first,
                    compressor=compressor,
                    skip=skip,
                )

            label = f"object-{name}-{'zlib' if compressor else 'raw'}"
            recipes.add(
                label, build, row, zarr_format=2, tags=(f"codec:{codec['id']}", "dtype:object")
            )

    def two_dimensions(store: Path) -> Built:
        return write(
            store, texts((9, 7)), (4, 3), "", dtype=object, filters=[{"id": "vlen-utf8"}], order="F"
        )

    recipes.add(
        "object-vlen-utf8-2d-F",
        two_dimensions,
        "v2-vlen-utf8",
        "v2-layout",
        zarr_format=2,
        tags=("order:F",),
    )
    for dtype in ("<i4", "<f8", "|u1"):

        def ragged(store: Path, dtype: str = dtype) -> Built:
            values = objects(
                [numbers(dtype, (length,), seed=length) for length in (3, 0, 7, 1, 12)]
            )
            return write(
                store,
                values,
                (6,),
                None,
                dtype=object,
                filters=[{"id": "vlen-array", "dtype": dtype}],
            )

        name = f"object-vlen-array-{np.dtype(dtype).name}"
        recipes.add(
            name, ragged, "v2-objects", zarr_format=2, tags=("codec:vlen-array", "dtype:object")
        )

    def categories(store: Path) -> Built:
        pool = ["red", "green", "blue"]
        codec = {"id": "categorize", "labels": pool, "dtype": "<U6", "astype": "|u1"}
        values = np.array([pool[i % 3] for i in range(23)], "<U6")
        return write(store, values, (6,), pool[1], dtype="<U6", filters=[codec])

    recipes.add(
        "filter-categorize-u6", categories, "v2-filters", zarr_format=2, tags=("codec:categorize",)
    )

    def pickled(store: Path) -> Built:
        import numcodecs

        zarr: Any = importlib.import_module("zarr")
        codec = numcodecs.get_codec({"id": "pickle"})
        array = zarr.create(
            23, store=str(store), chunks=6, dtype=object, object_codec=codec, fill_value=None
        )
        array[...] = objects([1, "two", (3,)])
        return Built(None, error="UnsupportedError")

    recipes.add("object-pickle", pickled, "v2-pickle", zarr_format=2, tags=("codec:pickle",))


def _add_fills(recipes: Recipes) -> None:
    fills: list[tuple[str, str, Any]] = [
        ("nan", "<f4", np.nan),
        ("inf", "<f8", np.inf),
        ("neg-inf", ">f4", -np.inf),
        ("half", "<f2", 0.1),
        ("max", "<u8", 2**64 - 1),
        ("min", ">i8", -(2**63)),
        ("complex", "<c16", 1.5 - 2j),
        ("complex-nan", "<c8", complex(np.nan, 1)),
        ("true", "|b1", True),
        ("null-int", "<i4", None),
        ("null-float", ">f8", None),
        ("null-s", "|S3", None),
        ("null-u", "<U3", None),
        ("null-v", "|V3", None),
        ("null-time", "<M8[s]", None),
        ("null-complex", "<c8", None),
        ("base64", "|S4", b"a\0\xff!"),
        ("unicode", ">U3", "日\U0001f980é"),
    ]
    for name, dtype, fill in fills:

        def build(store: Path, dtype: str = dtype, fill: Any = fill) -> Built:
            if fill is not None:
                return write(store, numbers(dtype, (23,)), (6,), fill, dtype=dtype)
            return write_partly(store, dtype)

        recipes.add(
            f"fill-{name}",
            build,
            "v2-fill",
            zarr_format=2,
            tags=(f"dtype:{np.dtype(dtype).name.split('[')[0]}",),
        )


def write_partly(store: Path, dtype: str) -> Built:
    """With a null fill a missing chunk is undefined here; expected is what zarr-python 3 reads.

    That is zeros, and not-a-time for datetimes.
    """
    built = write(store, numbers(dtype, (23,)), (6,), None, dtype=dtype)
    assert built.expected is not None
    (store / "1").unlink()
    expected = built.expected.copy()
    expected[6:12] = "NaT" if expected.dtype.kind in "mM" else np.zeros((), expected.dtype)
    return Built(expected)
