"""Fill values in every JSON form of v2 and v3; every array has missing chunks."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from ...samples import numbers, texts
from .build import PLAIN, little, variable, write_v2, write_v3

if TYPE_CHECKING:
    from pathlib import Path

    from ...case import Built, Recipes


def _bits(dtype: str, *words: int) -> Any:
    """A float or complex number from the bits of its parts."""
    size = np.dtype(dtype).itemsize // len(words)
    return np.array(words, f"u{size}").view(dtype)[0]


V3: tuple[tuple[str, str, Any, Any], ...] = (
    ("nan", "f4", "NaN", np.nan),
    ("inf", "f4", "Infinity", np.inf),
    ("neg-inf", "f8", "-Infinity", -np.inf),
    ("hex", "f2", "0x3e00", 1.5),
    ("hex-nan-payload", "f4", "0x7fc00123", _bits("f4", 0x7FC00123)),
    ("hex-signalling", "f8", "0x7ff0000000000001", _bits("f8", 0x7FF0000000000001)),
    ("hex-upper", "f4", "0xFF800000", -np.inf),
    ("neg-zero", "f8", -0.0, -0.0),
    ("hex-neg-zero", "f4", "0x80000000", -0.0),
    ("integer-for-float", "f8", 5, 5.0),
    ("beyond-53-bits", "f8", 2**53 + 1, float(2**53)),
    ("denormal", "f4", 1e-45, np.float32(1e-45)),
    ("rounded", "f4", 0.1, np.float32(0.1)),
    ("overflows", "f2", 70000.0, np.inf),
    ("complex-strings", "c8", ["NaN", "-Infinity"], complex(np.nan, -np.inf)),
    ("complex-hex", "c8", ["0x7fc00001", "0x80000000"], _bits("c8", 0x7FC00001, 0x80000000)),
    ("complex-hex-mixed", "c16", [1, "0x3ff8000000000000"], 1 + 1.5j),
    ("complex-neg-zero", "c16", [-0.0, 0.0], _bits("c16", 1 << 63, 0)),
    ("complex-integers", "c8", [1, -2], 1 - 2j),
    ("u8-max", "u8", 2**64 - 1, 2**64 - 1),
    ("i8-min", "i8", -(2**63), -(2**63)),
    ("u8-2-53", "u8", 2**53 + 1, 2**53 + 1),
    ("i1-min", "i1", -128, -128),
    ("true", "?", True, True),
)
V2: tuple[tuple[str, str, Any, Any], ...] = (
    ("nan", "<f4", "NaN", np.nan),
    ("inf", ">f8", "Infinity", np.inf),
    ("neg-inf", "<f2", "-Infinity", -np.inf),
    ("neg-zero", "<f8", -0.0, -0.0),
    ("integer-for-float", "<f4", 3, 3.0),
    ("complex", "<c8", [1.5, -2.0], 1.5 - 2j),
    ("complex-inf", "<c16", [1.0, "Infinity"], complex(1, np.inf)),
    ("complex-nan-inf", ">c8", ["NaN", "-Infinity"], complex(np.nan, -np.inf)),
    ("u8-max", ">u8", 2**64 - 1, 2**64 - 1),
    ("bool", "|b1", True, True),
    ("base64", "|S5", base64.b64encode(b"a\0b\xff").decode(), b"a\0b\xff"),
    ("base64-full", "|S3", base64.b64encode(b"xy\0").decode(), b"xy"),
    ("base64-void", "|V3", base64.b64encode(b"\1\2\3").decode(), np.void(b"\1\2\3")),
    ("unicode", "<U4", "日é🦀", "日é🦀"),
    ("unicode-big", ">U2", "éx", "éx"),
    ("unicode-empty", "<U2", "", ""),
    ("time-integer", "<M8[ns]", 1234567890123456789, np.datetime64(1234567890123456789, "ns")),
    ("time-nat-integer", ">M8[s]", -(2**63), np.datetime64("NaT", "s")),
    ("time-nat", "<M8[D]", "NaT", np.datetime64("NaT", "D")),
    ("span-nat", "<m8[25s]", "NaT", np.timedelta64("NaT", "s")),
    ("null-bool", "|b1", None, False),
    ("null-int", ">i2", None, 0),
    ("null-float", "<f4", None, 0.0),
    ("null-complex", "<c16", None, 0),
    ("null-bytes", "|S3", None, b""),
    ("null-unicode", "<U3", None, ""),
    ("null-void", "|V2", None, np.void(b"\0\0")),
    ("null-time", "<M8[us]", None, np.datetime64("NaT", "us")),
    ("null-span", ">m8[h]", None, np.timedelta64("NaT", "h")),
)


def add_all(recipes: Recipes) -> None:
    """Every fill value."""
    for word, name, fill, meaning in V3:

        def v3(store: Path, name: str = name, fill: Any = fill, meaning: Any = meaning) -> Built:
            values = numbers(name, (13, 9))
            codec = [PLAIN] if values.dtype.itemsize == 1 else None
            return write_v3(
                store,
                values,
                (5, 4),
                codecs=codec,
                fill=fill,
                numpy_fill=_of(values.dtype, meaning),
            )

        demand: Any = "optional" if word == "overflows" else None
        recipes.add(
            f"fill-{word}", v3, "v3-fill", demand=demand, tags=(f"dtype:{np.dtype(name).name}",)
        )
    for word, name, fill, meaning in V2:

        def v2(store: Path, name: str = name, fill: Any = fill, meaning: Any = meaning) -> Built:
            from .build import big

            values = numbers(name, (23,))
            encode = big if name[0] == ">" else little
            return write_v2(
                store,
                values,
                (5,),
                dtype=name,
                encode=encode,
                fill=fill,
                numpy_fill=_of(values.dtype, meaning),
            )

        recipes.add(
            f"fill-{word}",
            v2,
            "v2-fill",
            zarr_format=2,
            tags=(f"dtype:{np.dtype(name).name.split('[')[0]}",),
        )
    _add_structured(recipes)
    _add_texts(recipes)


def _of(dtype: np.dtype[Any], meaning: Any) -> Any:
    with np.errstate(over="ignore"):
        return np.array(meaning).astype(dtype)[()] if dtype.kind not in "VSU" else meaning


def _add_structured(recipes: Recipes) -> None:
    dtype = np.dtype([("a", "<i2"), ("b", "<f8"), ("c", "S2")])
    full = np.array((-3, np.nan, b"zz"), dtype)
    forms: dict[str, tuple[Any, Any]] = {
        "base64": (base64.b64encode(full.tobytes()).decode(), full[()]),
        "null": (None, np.zeros((), dtype)[()]),
        "zero": (0, np.zeros((), dtype)[()]),
    }
    for word, (fill, meaning) in forms.items():

        def build(store: Path, fill: Any = fill, meaning: Any = meaning) -> Built:
            fields = [["a", "<i2"], ["b", "<f8"], ["c", "|S2"]]
            return write_v2(
                store, numbers(dtype, (19,)), (5,), dtype=fields, fill=fill, numpy_fill=meaning
            )

        demand: Any = "optional" if word == "zero" else None
        recipes.add(
            f"fill-structured-{word}",
            build,
            "v2-structured",
            "v2-fill",
            demand=demand,
            zarr_format=2,
            tags=("dtype:structured",),
        )


def _add_texts(recipes: Recipes) -> None:
    def encode(block: np.ndarray[Any, Any]) -> bytes:
        return variable(text.encode() for text in block.ravel().tolist())

    for word, fill, meaning in (
        ("empty", "", ""),
        ("zero", 0, ""),
        ("null", None, ""),
        ("text", "éü", "éü"),
    ):

        def build(store: Path, fill: Any = fill, meaning: str = meaning) -> Built:
            chosen: dict[str, Any] = {
                "dtype": "|O",
                "filters": [{"id": "vlen-utf8"}],
                "encode": encode,
            }
            return write_v2(store, texts((11, 5)), (4, 3), fill=fill, numpy_fill=meaning, **chosen)

        demand: Any = "optional" if word in ("zero", "null") else None
        recipes.add(
            f"fill-vlen-utf8-{word}",
            build,
            "v2-vlen-utf8",
            "v2-fill",
            demand=demand,
            zarr_format=2,
            tags=("codec:vlen-utf8",),
        )
