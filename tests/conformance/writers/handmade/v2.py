"""v2 arrays by hand: TensorStore's small types, structured types in depth, objects, metadata as other writers leave it."""

from __future__ import annotations

import functools
import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built, Recipes
from ...samples import blobs, numbers, texts
from ...values import small_dtype
from .build import ABSENT, big, little, put, v2_key, variable, write_v2

if TYPE_CHECKING:
    from pathlib import Path

SMALL = (
    "bfloat16",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e4m3b11fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e3m4",
    "int4",
)


def add_all(recipes: Recipes) -> None:
    """Every v2 case."""
    _add_types(recipes)
    _add_objects(recipes)
    _add_layout(recipes)
    _add_documents(recipes)


def _add_types(recipes: Recipes) -> None:
    for name in SMALL:

        def small(store: Path, name: str = name) -> Built:
            return write_v2(store, numbers(small_dtype(name), (17, 9)), (6, 4), dtype=name, fill=1)

        recipes.add(
            f"type-{name}",
            small,
            "v2-exotic",
            zarr_format=2,
            tags=(f"dtype:{name}",),
            needs=("ml_dtypes",),
        )
    structured: dict[str, tuple[str, list[Any], list[Any]]] = {
        "flat": ("v2-structured", [["a", ">i4"], ["b", "<f8"], ["c", "|S3"], ["d", ">U2"], ["e", "|b1"]], [("a", ">i4"), ("b", "<f8"), ("c", "S3"), ("d", ">U2"), ("e", "?")]),
        "times": ("v2-structured", [["t", "<M8[ms]"], ["v", "|V3"]], [("t", "<M8[ms]"), ("v", "V3")]),
        "nested": (
            "v2-structured-nested", [["id", "<u2"], ["at", [["x", ">f4"], ["in", [["k", "|S2"], ["t", "<i8"]]]]]],
            [("id", "<u2"), ("at", [("x", ">f4"), ("in", [("k", "S2"), ("t", "<i8")])])],
        ),
        "subarray": ("v2-structured-subarray", [["m", "<i2", [2, 3]], ["w", ">f4", [4]], ["one", "|u1"]], [("m", "<i2", (2, 3)), ("w", ">f4", (4,)), ("one", "u1")]),
        "nested-subarray": (
            "v2-structured-subarray", [["p", [["q", "<f4"], ["r", "|u1"]], [2]], ["s", "|S1", [3]]],
            [("p", [("q", "<f4"), ("r", "u1")], (2,)), ("s", "S1", (3,))],
        ),
    }  # fmt: skip
    for name, (row, listed, fields) in structured.items():

        def records(store: Path, listed: Any = listed, fields: Any = fields) -> Built:
            stored = np.dtype(fields)
            values = numbers(stored, (19,))
            zero = np.zeros((), values.dtype)[()]
            encode = lambda block: block.astype(stored).tobytes()  # noqa: E731 - one expression
            return write_v2(
                store, values, (5,), dtype=listed, fill=None, numpy_fill=zero, encode=encode
            )

        recipes.add(
            f"type-structured-{name}", records, row, zarr_format=2, tags=("dtype:structured",)
        )
    for order, word, encode in (("<", "little", little), (">", "big", big)):
        for dtype in ("U3", "M8[25us]", "m8[Y]", "c8", "c16", "f2", "i8"):

            def number(store: Path, dtype: str = order + dtype, encode: Any = encode) -> Built:
                text = "U" in dtype
                values = numbers(dtype, (23,))
                meaning = "" if text else np.zeros((), values.dtype)[()]
                fill: Any = "" if text else [0.0, 0.0] if "c" in dtype else 0
                return write_v2(
                    store, values, (6,), dtype=dtype, fill=fill, numpy_fill=meaning, encode=encode
                )

            row = (
                "v2-fixed-strings"
                if dtype[0] == "U"
                else "v2-datetime"
                if dtype[0] in "Mm"
                else "v2-numbers"
            )
            label = dtype.replace("[", "-").replace("]", "")
            kind = "span" if dtype[0] == "m" else "plain"
            recipes.add(
                f"type-{label}-{word}-{kind}", number, row, zarr_format=2, tags=(f"endian:{word}",)
            )


def _add_objects(recipes: Recipes) -> None:  # noqa: C901 - one case after another
    def utf8(block: np.ndarray[Any, Any]) -> bytes:
        return variable(item.encode() for item in block.ravel().tolist())

    def raw(block: np.ndarray[Any, Any]) -> bytes:
        return variable(block.ravel().tolist())

    def ragged(block: np.ndarray[Any, Any]) -> bytes:
        return variable(
            b"" if item is None else item.astype("<i4").tobytes() for item in block.ravel().tolist()
        )

    def json2(block: np.ndarray[Any, Any]) -> bytes:
        return json.dumps([*block.ravel().tolist(), "|O", list(block.shape)]).encode()

    lists = np.empty(23, object)
    for number in range(23):
        lists[number] = numbers("i4", (number % 5,), seed=number)
    mixed = np.empty(23, object)
    for number in range(23):
        mixed[number] = [None, 1, 2.5, "é", [1, [2]], {"k": None}, True][number % 7]
    forms: dict[str, tuple[str, dict[str, Any], Any, Any, Any]] = {
        "vlen-utf8": ("v2-vlen-utf8", {"id": "vlen-utf8"}, texts((23,), 5), utf8, "é"),
        "vlen-bytes-empty": ("v2-objects", {"id": "vlen-bytes"}, blobs((23,), 5), raw, ""),
        "vlen-array": ("v2-objects", {"id": "vlen-array", "dtype": "<i4"}, lists, ragged, None),
        "json2": ("v2-objects", {"id": "json2", "encoding": "utf-8"}, mixed, json2, None),
    }
    for name, (row, codec, values, encode, fill) in forms.items():

        def build(
            store: Path,
            codec: Any = codec,
            values: Any = values,
            encode: Any = encode,
            fill: Any = fill,
        ) -> Built:
            meaning = b"" if codec["id"] == "vlen-bytes" else fill
            chosen: dict[str, Any] = {
                "dtype": "|O",
                "filters": [codec],
                "encode": encode,
                "fill": fill,
                "numpy_fill": meaning,
            }
            return write_v2(store, values.copy(), (6,), skip=fill is not None, **chosen)

        recipes.add(
            f"object-{name}",
            build,
            row,
            zarr_format=2,
            tags=(f"codec:{codec['id']}", "dtype:object"),
        )

    def pickled(store: Path) -> Built:
        write_v2(
            store,
            texts((9,)),
            (4,),
            dtype="|O",
            filters=[{"id": "pickle", "protocol": 4}],
            fill=None,
            encode=lambda _: b"N.",
            skip=False,
        )
        return Built(None, error="UnsupportedError")

    recipes.add("object-pickle", pickled, "v2-pickle", zarr_format=2, tags=("codec:pickle",))

    def no_codec(store: Path) -> Built:
        encode = lambda block: struct.pack("<Q", 4096) * block.size  # noqa: E731 - one expression
        write_v2(store, texts((9,)), (4,), dtype="|O", fill=None, encode=encode, skip=False)
        return Built(None)

    recipes.add("object-no-codec", no_codec, "v2-objects", zarr_format=2, demand="refuse")

    def unknown(store: Path, place: str) -> Built:
        codec: Any = {"id": "example.codec"}
        given: dict[str, Any] = {place: codec if place == "compressor" else [codec]}
        write_v2(store, numbers("i4", (9,)), (4,), **given)
        return Built(None, error="UnsupportedError")

    for place in ("compressor", "filters"):
        row = "v2-compressors" if place == "compressor" else "v2-filters"
        recipes.add(
            f"unknown-{place}",
            functools.partial(unknown, place=place),
            row,
            zarr_format=2,
            demand="refuse",
        )


def _add_layout(recipes: Recipes) -> None:
    changes: dict[str, dict[str, Any]] = {
        "filters-empty": {"filters": []},
        "filters-absent": {"filters": ABSENT},
        "filters-null": {"filters": None},
        "separator-null": {"dimension_separator": None},
        "separator-dot": {"dimension_separator": "."},
        "extra-keys": {"comment": "kept", "zarr_something": {"must_understand": True}},
        "order-f": {"order": "F"},
        "upper-fill": {"fill_value": 0.0},
    }
    for name, change in changes.items():
        for form, shape, chunks in (("2d", (13, 9), (5, 4)), ("0d", (), ())):

            def build(
                store: Path, change: Any = change, shape: Any = shape, chunks: Any = chunks
            ) -> Built:
                return write_v2(
                    store, numbers("i4", shape, seed=4), chunks, skip=bool(shape), **change
                )

            demand: Any = {"filters-absent": "peer", "separator-null": "optional"}.get(name)
            recipes.add(
                f"layout-{name}-{form}",
                build,
                "v2-layout",
                demand=demand,
                zarr_format=2,
                tags=("dtype:int32",),
            )
    for order in "CF":

        def nested(store: Path, order: str = order) -> Built:
            chosen: dict[str, Any] = {"order": order, "separator": "/", "dimension_separator": "/"}
            return write_v2(store, numbers("f4", (7, 5, 6)), (3, 2, 4), **chosen)

        recipes.add(
            f"layout-slash-3d-{order}", nested, "v2-layout", zarr_format=2, tags=(f"order:{order}",)
        )

    def noise(store: Path) -> Built:
        """What lies outside the array in edge chunks is noise."""
        from .build import blocks_of

        built = write_v2(store, numbers("i4", (13, 9)), (5, 4), skip=False)
        assert built.expected is not None
        for place, block in blocks_of(built.expected, (5, 4), 123456789):
            put(store, v2_key(place), little(block))
        return built

    recipes.add("layout-noise-outside", noise, "v2-layout", "shapes", zarr_format=2)


def _add_documents(recipes: Recipes) -> None:
    def consolidated(store: Path) -> Built:
        built = write_v2(store, numbers("f4", (13, 9)), (5, 4), path="inner/values")
        array = json.loads((store / "inner/values/.zarray").read_text())
        group, notes = {"zarr_format": 2}, {"units": "K", "missing": "M"}
        for key, content in (
            (".zgroup", group),
            ("inner/.zgroup", group),
            ("inner/values/.zattrs", notes),
        ):
            put(store, key, content)
        inside = {
            ".zgroup": group,
            ".zattrs": {},
            "inner/.zgroup": group,
            "inner/values/.zarray": array,
            "inner/values/.zattrs": notes,
        }
        put(store, ".zmetadata", {"zarr_consolidated_format": 1, "metadata": inside})
        return built

    recipes.add(
        "consolidated", consolidated, "v2-metadata", zarr_format=2, tags=("group", "consolidated")
    )

    def no_parents(store: Path) -> Built:
        return write_v2(store, numbers("f4", (13, 9)), (5, 4), path="a/b")

    recipes.add("no-parent-documents", no_parents, "v2-metadata", zarr_format=2, tags=("group",))

    def literals(store: Path) -> Built:
        built = write_v2(
            store, numbers("f4", (13, 9)), (5, 4), numpy_fill=np.nan, fill=float("nan")
        )
        put(store, ".zattrs", '{"_FillValue": NaN, "range": [-Infinity, Infinity], "ok": 1}')
        return built

    recipes.add("nan-literals", literals, "v2-metadata", zarr_format=2, demand="must")

    def both(store: Path) -> Built:
        """A v3 document beside the v2 one: v3 wins."""
        from .build import write_v3

        write_v2(store, numbers("f4", (5, 4)), (5, 4))
        return write_v3(store, numbers("i2", (13, 9)), (5, 4))

    recipes.add("both-formats", both, "v3-metadata", tags=("dtype:int16",))
