"""v3 structured types and times, in every form that their readers accept."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from ...samples import numbers
from .build import BIG, LITTLE, PLAIN, big, little, write_v3

if TYPE_CHECKING:
    from pathlib import Path

    from ...case import Built, Recipes


def add_all(recipes: Recipes) -> None:
    """Every record and time."""
    _add_records(recipes)
    _add_times(recipes)


def _add_records(recipes: Recipes) -> None:
    time = {"name": "numpy.datetime64", "configuration": {"unit": "ms", "scale_factor": 10}}
    inner = {
        "name": "struct",
        "configuration": {
            "fields": [{"name": "x", "data_type": "float32"}, {"name": "t", "data_type": time}]
        },
    }
    outer = {
        "name": "struct",
        "configuration": {
            "fields": [{"name": "id", "data_type": "uint16"}, {"name": "at", "data_type": inner}]
        },
    }
    nested = np.dtype([("id", "u2"), ("at", [("x", "f4"), ("t", "M8[10ms]")])])
    flat_fields = [{"name": "a", "data_type": "int16"}, {"name": "z", "data_type": "complex64"}]
    flat = np.dtype([("a", "i2"), ("z", "c8")])
    tuples = {
        "name": "structured",
        "configuration": {"fields": [["a", "int16"], ["z", "complex64"]]},
    }
    legacy_fill = np.array((-2, 1 - 1j), flat.newbyteorder("<"))[()]
    legacy = base64.b64encode(legacy_fill.tobytes()).decode()
    forms: dict[str, tuple[Any, np.dtype[Any], Any, Any, Any]] = {
        "struct-nested": (outer, nested, {"id": 9, "at": {"x": "NaN", "t": 33}}, (9, (np.nan, 33)), LITTLE),
        "struct-nested-big": (outer, nested, {"id": 9, "at": {"x": -0.0, "t": -5}}, (9, (-0.0, -5)), BIG),
        "struct-flat": ({"name": "struct", "configuration": {"fields": flat_fields}}, flat, {"a": -1, "z": [0.5, "Infinity"]}, (-1, complex(0.5, np.inf)), LITTLE),
        "struct-object-types": (
            {"name": "struct", "configuration": {"fields": [{"name": "a", "data_type": {"name": "int16"}}, flat_fields[1]]}},
            flat, {"a": 3, "z": [0.0, 0.0]}, (3, 0j), LITTLE,
        ),
        "structured-tuples": (tuples, flat, legacy, (-2, 1 - 1j), LITTLE),
        "structured-tuples-big": (tuples, flat, legacy, (-2, 1 - 1j), BIG),
        "structured-objects": ({"name": "structured", "configuration": {"fields": flat_fields}}, flat, {"a": 3, "z": [0.0, 1.0]}, (3, 1j), LITTLE),
    }  # fmt: skip
    for name, (data_type, dtype, fill, meaning, codec) in forms.items():

        def build(
            store: Path,
            data_type: Any = data_type,
            dtype: Any = dtype,
            fill: Any = fill,
            meaning: Any = meaning,
            codec: Any = codec,
        ) -> Built:
            made = np.array(meaning, dtype)[()]
            encode = big if codec is BIG else little
            return write_v3(
                store,
                numbers(dtype, (19,)),
                (5,),
                data_type=data_type,
                codecs=[codec],
                encode=encode,
                fill=fill,
                numpy_fill=made,
            )

        row = "v3-structured" if name.startswith("structured-tuples") else "v3-struct"
        demand: Any = "peer" if name == "structured-tuples-big" else None
        recipes.add(f"type-{name}", build, row, demand=demand, tags=("dtype:struct",))

    def no_endian(store: Path) -> Built:
        """As zarr-python 3.1 writes it: a bytes codec without endian over fields of several bytes means little endian."""
        made = np.array((-2, 1 - 1j), flat)[()]
        return write_v3(
            store,
            numbers(flat, (19,)),
            (5,),
            data_type=tuples,
            codecs=[PLAIN],
            fill=legacy,
            numpy_fill=made,
        )

    recipes.add("type-structured-no-endian", no_endian, "v3-structured", tags=("dtype:struct",))


def _add_times(recipes: Recipes) -> None:
    for kind, name in (("M8", "numpy.datetime64"), ("m8", "numpy.timedelta64")):
        for unit, factor, fill, meaning in (
            ("us", 1, 5, 5),
            ("D", 7, "NaT", "NaT"),
            ("generic", 1, "NaT", "NaT"),
            ("μs", 1, 0, 0),
            ("as", 3, -(2**63), "NaT"),
        ):
            plain = unit.replace("μ", "u")
            dtype = np.dtype(kind if unit == "generic" else f"{kind}[{factor}{plain}]")

            def build(
                store: Path,
                name: str = name,
                unit: str = unit,
                factor: int = factor,
                dtype: Any = dtype,
                fill: Any = fill,
                meaning: Any = meaning,
            ) -> Built:
                data_type = {"name": name, "configuration": {"unit": unit, "scale_factor": factor}}
                count = -(2**63) if meaning == "NaT" else meaning
                made = np.array([count], "i8").view(dtype)[0]  # NumPy warns of times without a unit
                return write_v3(
                    store,
                    numbers(dtype, (23,)),
                    (6,),
                    data_type=data_type,
                    codecs=[BIG],
                    encode=big,
                    fill=fill,
                    numpy_fill=made,
                )

            label = {"μs": "micro"}.get(unit, unit)
            recipes.add(
                f"type-{name.split('.')[1]}-{label}-{factor}",
                build,
                "v3-datetime",
                tags=(f"dtype:{name}",),
            )
