"""v3 data types that the installed writers do not write, or not in every form the registry allows."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from ...samples import blobs, numbers, texts
from ...values import small_dtype
from .build import BIG, LITTLE, PLAIN, big, little, variable, write_v3

if TYPE_CHECKING:
    from pathlib import Path

    from ...case import Built, Demand, Recipes

SINGLE: tuple[str, ...] = (
    "int2",
    "int4",
    "uint2",
    "uint4",
    "float4_e2m1fn",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float8_e4m3fn",
)
RARE = ("uint2", "uint4", "float6_e2m3fn", "float6_e3m2fn", "float8_e4m3")


def add_all(recipes: Recipes) -> None:
    """Every type."""
    _add_small(recipes)
    _add_brain(recipes)
    _add_upper_bits(recipes)
    _add_pairs(recipes)
    _add_raw(recipes)
    _add_text(recipes)


def _add_small(recipes: Recipes) -> None:
    for name in SINGLE:

        def single(store: Path, name: str = name) -> Built:
            values = numbers(small_dtype(name), (17, 9))
            fill = 1 if "int" in name else "0x7f" if name == "float8_e8m0fnu" else 1.0
            return write_v3(
                store, values, (6, 4), data_type=name, codecs=[PLAIN], fill=fill, numpy_fill=1
            )

        row = "v3-exotic-rare" if name in RARE else "v3-exotic"
        recipes.add(f"type-{name}", single, row, tags=(f"dtype:{name}",), needs=("ml_dtypes",))
    for name, word, fill, bits in (
        ("float8_e5m2", "nan", "NaN", 0x7E),
        ("float8_e5m2", "inf", "-Infinity", 0xFC),
        ("float8_e4m3", "nan", "NaN", 0x7C),
        ("float8_e4m3fnuz", "nan", "NaN", 0x80),
        ("float8_e4m3", "hex", "0x3c", 0x3C),
        ("float6_e3m2fn", "hex", "0x1f", 0x1F),
        ("float4_e2m1fn", "number", -1.5, 0xB),
    ):

        def filled(store: Path, name: str = name, fill: Any = fill, bits: int = bits) -> Built:
            meaning = np.array([bits], np.uint8).view(small_dtype(name))[0]
            values = numbers(small_dtype(name), (17, 9))
            return write_v3(
                store, values, (6, 4), data_type=name, codecs=[PLAIN], fill=fill, numpy_fill=meaning
            )

        row = "v3-exotic-rare" if name in RARE else "v3-exotic"
        recipes.add(
            f"fill-{name}-{word}",
            filled,
            row,
            "v3-fill",
            tags=(f"dtype:{name}",),
            needs=("ml_dtypes",),
        )


def _add_brain(recipes: Recipes) -> None:
    for word, codec, encode in (("little", LITTLE, little), ("big", BIG, big)):
        for label, fill, bits in (
            ("number", 1.5, 0x3FC0),
            ("nan", "NaN", 0x7FC0),
            ("hex", "0xff80", 0xFF80),
        ):

            def brain(
                store: Path,
                codec: Any = codec,
                encode: Any = encode,
                fill: Any = fill,
                bits: int = bits,
            ) -> Built:
                meaning = np.array([bits], np.uint16).view(small_dtype("bfloat16"))[0]
                values = numbers(small_dtype("bfloat16"), (17, 9))
                chosen: dict[str, Any] = {
                    "codecs": [codec],
                    "encode": encode,
                    "fill": fill,
                    "numpy_fill": meaning,
                }
                return write_v3(store, values, (6, 4), data_type="bfloat16", **chosen)

            tags = ("dtype:bfloat16", f"endian:{word}")
            recipes.add(
                f"type-bfloat16-{word}-{label}", brain, "v3-exotic", tags=tags, needs=("ml_dtypes",)
            )


def _add_upper_bits(recipes: Recipes) -> None:
    for name in ("int4", "uint4", "int2", "uint2"):

        def upper(store: Path, name: str = name) -> Built:
            """The unused upper bits of each byte hold noise, which a reader must ignore."""
            values = numbers(small_dtype(name), (17, 9))
            width = int(name[-1])
            low = 2**width - 1

            def encode(block: np.ndarray[Any, Any]) -> bytes:
                noise = np.arange(block.size).reshape(block.shape) * 37 & (255 - low)
                mixed = (block.astype(np.int8).view(np.uint8) & low) | noise
                return bytes(mixed.astype(np.uint8).tobytes())

            return write_v3(store, values, (6, 4), data_type=name, codecs=[PLAIN], encode=encode)

        row = "v3-exotic-rare" if name in RARE else "v3-exotic"
        recipes.add(
            f"type-{name}-upper-bits", upper, row, tags=(f"dtype:{name}",), needs=("ml_dtypes",)
        )


def _add_pairs(recipes: Recipes) -> None:
    pairs: dict[str, tuple[str, Any, Any]] = {
        "complex_float16": ("little", LITTLE, 0.0),
        "complex_bfloat16": ("little", LITTLE, 0.0),
        "complex_float8_e5m2": ("single", PLAIN, 0.0),
        "complex_float4_e2m1fn": ("single", PLAIN, "0x0"),
    }
    for name, (word, codec, zero) in pairs.items():

        def pair(
            store: Path,
            name: str = name,
            codec: Any = codec,
            zero: Any = zero,
        ) -> Built:
            values = numbers(small_dtype(name), (13, 5))
            meaning = np.zeros((), values.dtype)[()]
            fill = [zero, zero]
            chosen: dict[str, Any] = {
                "codecs": [codec],
                "encode": lambda block: block.tobytes(),
                "fill": fill,
            }
            return write_v3(store, values, (4, 3), data_type=name, numpy_fill=meaning, **chosen)

        recipes.add(
            f"type-{name}-{word}",
            pair,
            "v3-exotic-rare",
            demand="optional",
            tags=(f"dtype:{name}",),
            needs=("ml_dtypes",),
        )
    for name, dtype in (("complex_float32", "c8"), ("complex_float64", "c16")):
        for word, codec, encode in (("little", LITTLE, little), ("big", BIG, big)):

            def alias(
                store: Path,
                name: str = name,
                dtype: str = dtype,
                codec: Any = codec,
                encode: Any = encode,
            ) -> Built:
                values = numbers(dtype, (13, 5))
                fill, meaning = [1.5, "-Infinity"], complex(1.5, -np.inf)
                return write_v3(
                    store,
                    values,
                    (4, 3),
                    data_type=name,
                    codecs=[codec],
                    encode=encode,
                    fill=fill,
                    numpy_fill=meaning,
                )

            recipes.add(
                f"type-{name}-{word}",
                alias,
                "v3-exotic-rare",
                tags=(f"dtype:{name}", f"endian:{word}"),
            )


def _add_raw(recipes: Recipes) -> None:
    for bits in (8, 16, 24, 40, 128):
        for word, codec in (("plain", PLAIN), ("endian", LITTLE)):
            if word == "endian" and bits != 16:
                continue

            def raw(store: Path, bits: int = bits, codec: Any = codec) -> Built:
                count = bits // 8
                values = numbers(f"V{count}", (13, 5))
                fill = list(range(1, count + 1))
                return write_v3(
                    store,
                    values,
                    (4, 3),
                    data_type=f"r{bits}",
                    codecs=[codec],
                    fill=fill,
                    numpy_fill=np.void(bytes(fill)),
                )

            recipes.add(f"type-r{bits}-{word}", raw, "v3-raw-bits", tags=(f"dtype:r{bits}",))


def _add_text(recipes: Recipes) -> None:
    def utf8(block: np.ndarray[Any, Any]) -> bytes:
        return variable(text.encode() for text in block.ravel().tolist())

    def raw(block: np.ndarray[Any, Any]) -> bytes:
        return variable(block.ravel().tolist())

    strings: dict[str, tuple[Any, list[Any]]] = {
        "name": ("string", [{"name": "vlen-utf8"}]),
        "object": ({"name": "string"}, [{"name": "vlen-utf8", "configuration": {}}]),
        "short-hand": ("string", ["vlen-utf8"]),
    }
    for name, (data_type, codecs) in strings.items():

        def text(store: Path, data_type: Any = data_type, codecs: Any = codecs) -> Built:
            chosen: dict[str, Any] = {"codecs": codecs, "encode": utf8, "fill": "½ é 🦀"}
            return write_v3(store, texts((11, 7)), (4, 3), data_type=data_type, **chosen)

        row = "v3-strings" if name == "name" else "v3-short-hand"
        recipes.add(f"type-string-{name}", text, row, tags=("dtype:string", "codec:vlen-utf8"))
    bytes_forms: dict[str, tuple[str, Any, bytes, Demand | None]] = {
        "bytes-list": ("bytes", [1, 0, 255], b"\1\0\xff", "peer"),
        "bytes-base64": ("bytes", base64.b64encode(b"\1\0\xff").decode(), b"\1\0\xff", None),
        "bytes-empty-base64": ("bytes", "", b"", None),
        "bytes-empty-list": ("bytes", [], b"", "peer"),
        "variable-length-bytes": (
            "variable_length_bytes",
            base64.b64encode(b"xyz").decode(),
            b"xyz",
            None,
        ),
    }
    for name, (data_type, fill, meaning, demand) in bytes_forms.items():

        def byte_strings(
            store: Path, data_type: str = data_type, fill: Any = fill, meaning: bytes = meaning
        ) -> Built:
            chosen: dict[str, Any] = {
                "codecs": [{"name": "vlen-bytes"}],
                "encode": raw,
                "fill": fill,
                "numpy_fill": meaning,
            }
            return write_v3(store, blobs((11, 7)), (4, 3), data_type=data_type, **chosen)

        row = "v3-strings" if data_type.startswith("v") else "v3-bytes-dtype"
        recipes.add(
            f"type-{name}",
            byte_strings,
            row,
            demand=demand,
            tags=("dtype:bytes", "codec:vlen-bytes"),
        )
    fixed_forms: tuple[tuple[str, Any, str, Any, Any, Any, Any], ...] = (
        (
            "utf32-big",
            {"name": "fixed_length_utf32", "configuration": {"length_bytes": 12}},
            "U3",
            "日é",
            "日é",
            BIG,
            big,
        ),
        (
            "utf32-little",
            {"name": "fixed_length_utf32", "configuration": {"length_bytes": 4}},
            "U1",
            "🦀",
            "🦀",
            LITTLE,
            little,
        ),
        (
            "null-bytes",
            {"name": "null_terminated_bytes", "configuration": {"length_bytes": 3}},
            "S3",
            "YWI=",
            b"ab",
            PLAIN,
            little,
        ),
        (
            "raw-bytes",
            {"name": "raw_bytes", "configuration": {"length_bytes": 3}},
            "V3",
            "YWIA",
            np.void(b"ab\0"),
            PLAIN,
            little,
        ),
    )
    for name, data_type, dtype, given, missing, codec, encode in fixed_forms:

        def fixed(
            store: Path, data_type: Any = data_type, dtype: str = dtype, fill: Any = given, meaning: Any = missing,
            codec: Any = codec, encode: Any = encode,
        ) -> Built:  # fmt: skip
            chosen: dict[str, Any] = {
                "codecs": [codec],
                "encode": encode,
                "fill": fill,
                "numpy_fill": meaning,
            }
            return write_v3(store, numbers(dtype, (23,)), (6,), data_type=data_type, **chosen)

        recipes.add(f"type-{name}", fixed, "v3-fixed-strings", tags=(f"dtype:{data_type['name']}",))
