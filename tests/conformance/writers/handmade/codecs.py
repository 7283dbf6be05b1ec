"""v3 array codecs at their definition: packbits, reshape, bitround, zfp, scale_offset, cast_value."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built, Recipes
from ...samples import leave_out, numbers, smooth
from ...values import small_dtype
from .build import BIG, CRC, GZIP, LITTLE, PLAIN, big, little, with_crc, write_v3

if TYPE_CHECKING:
    from pathlib import Path


def add_all(recipes: Recipes) -> None:
    """Every codec."""
    _add_packbits(recipes)
    _add_reshape(recipes)
    _add_bitround(recipes)
    _add_zfp(recipes)
    _add_scale(recipes)
    _add_cast(recipes)


def pack(block: np.ndarray[Any, Any], first: int, last: int, padding: str) -> bytes:
    """Bits `first` to `last` of every element, least significant first, in one sequence."""
    nbytes = block.dtype.itemsize
    width = last - first + 1
    raw = np.ascontiguousarray(block).reshape(-1).view(np.uint8).reshape(-1, nbytes)
    bits = np.unpackbits(raw, axis=1, bitorder="little")[:, first : first + width].ravel()
    content = np.packbits(bits, bitorder="little").tobytes()
    count = bytes([-bits.size % 8])
    return (
        count + content
        if padding == "first_byte"
        else content + count
        if padding == "last_byte"
        else content
    )


def _add_packbits(recipes: Recipes) -> None:
    def settings(padding: str | None, first: int | None, last: int | None) -> dict[str, Any]:
        named = {"padding_encoding": padding, "first_bit": first, "last_bit": last}
        return {
            "name": "packbits",
            "configuration": {key: item for key, item in named.items() if item is not None},
        }

    widths = {
        "bool": 1,
        "int2": 2,
        "uint2": 2,
        "int4": 4,
        "uint4": 4,
        "float4_e2m1fn": 4,
        "float6_e3m2fn": 6,
    }
    for name, width in widths.items():
        for padding in (None, "first_byte", "last_byte"):

            def small(
                store: Path, name: str = name, width: int = width, padding: str | None = padding
            ) -> Built:
                values = numbers("?" if name == "bool" else small_dtype(name), (17, 9))
                codec = {"name": "packbits"} if padding is None else settings(padding, None, None)
                fill: Any = False if name == "bool" else "0x00" if "float" in name else 1
                chosen: dict[str, Any] = {
                    "codecs": [codec],
                    "encode": lambda b: pack(b, 0, width - 1, padding or "none"),
                }
                meaning = 0 if "float" in name else fill
                return write_v3(
                    store, values, (5, 3), data_type=name, fill=fill, numpy_fill=meaning, **chosen
                )

            tags = ("codec:packbits", f"dtype:{name}")
            needs = () if name == "bool" else ("ml_dtypes",)
            recipes.add(
                f"packbits-{name}-{padding or 'none'}",
                small,
                "v3-reshape-packbits",
                tags=tags,
                needs=needs,
            )
    ranges: list[tuple[str, int | None, int | None]] = [
        ("int16", 0, 5),
        ("int32", 3, 17),
        ("uint16", 3, 12),
        ("uint32", None, 20),
        ("uint64", 10, None),
        ("int64", 1, 40),
        ("float32", 13, 31),
        ("uint8", None, None),
        ("float64", None, None),
    ]
    for name, first, last in ranges:

        def part(
            store: Path, name: str = name, first: int | None = first, last: int | None = last
        ) -> Built:
            width = 8 * np.dtype(name).itemsize
            low, high = first or 0, width - 1 if last is None else last
            values = numbers(name, (17, 9))
            unsigned = values.view(f"u{width // 8}")
            if name.startswith("int"):
                values = (values << (width - 1 - high)) >> (width - 1 - high)
                values = (values >> low) << low
            else:
                mask = sum(1 << bit for bit in range(low, high + 1))
                values = (unsigned & np.array(mask, unsigned.dtype)).view(name)
            leave_out(values, (5, 3), 0)
            chosen: dict[str, Any] = {"codecs": [settings(None, first, last), GZIP]}
            return write_v3(
                store,
                values,
                (5, 3),
                encode=lambda b: gzip.compress(pack(b, low, high, "none"), mtime=0),
                **chosen,
            )

        tags = ("codec:packbits", f"dtype:{name}")
        recipes.add(f"packbits-{name}-bits-{first}-{last}", part, "v3-reshape-packbits", tags=tags)


def _add_reshape(recipes: Recipes) -> None:
    turn = {"name": "transpose", "configuration": {"order": [2, 0, 1]}}
    back = {"name": "transpose", "configuration": {"order": [1, 0]}}
    forms: dict[str, tuple[list[Any], Any]] = {
        "flat": ([[-1]], lambda b: b),
        "join": ([[[0, 1], [2]]], lambda b: b),
        "split": ([[[0], 3, [2]]], lambda b: b),
        "add-ones": ([[1, [0], 1, [1, 2]]], lambda b: b),
        "after-transpose": ([turn, [[0], -1]], lambda b: b.transpose(2, 0, 1)),
        "before-transpose": ([[[0, 1], [2]], back], lambda b: b.reshape(-1, b.shape[2]).T),
    }
    for name, (parts, arrange) in forms.items():
        codecs = [
            part
            if isinstance(part, dict)
            else {"name": "reshape", "configuration": {"shape": part}}
            for part in parts
        ]

        def build(store: Path, codecs: Any = codecs, arrange: Any = arrange) -> Built:
            chosen: dict[str, Any] = {
                "codecs": [*codecs, BIG, CRC],
                "encode": lambda b: with_crc(big(arrange(b))),
            }
            return write_v3(store, numbers("u2", (9, 8, 7)), (4, 3, 5), **chosen)

        recipes.add(
            f"reshape-{name}", build, "v3-reshape-packbits", tags=("codec:reshape", "dtype:uint16")
        )

    def impossible(store: Path) -> Built:
        codec = {"name": "reshape", "configuration": {"shape": [7, -1]}}
        write_v3(store, numbers("u2", (9, 8)), (4, 3), codecs=[codec, LITTLE])
        return Built(None)

    recipes.add(
        "reshape-impossible",
        impossible,
        "v3-reshape-packbits",
        demand="refuse",
        tags=("codec:reshape",),
    )


def _add_bitround(recipes: Recipes) -> None:
    for dtype, keep in (("f4", 6), ("f8", 11), ("f2", 3), ("i4", 5)):

        def build(store: Path, dtype: str = dtype, keep: int = keep) -> Built:
            values = smooth(dtype, (13, 9))
            if dtype[0] == "f":
                drop = np.finfo(dtype).nmant - keep
                unsigned = values.view(f"u{values.dtype.itemsize}")
                values = (unsigned >> drop << drop).view(dtype)
            codec = {"name": "bitround", "configuration": {"keepbits": keep}}
            return write_v3(store, values, (5, 4), codecs=[codec, LITTLE])

        tags = ("codec:bitround", f"dtype:{np.dtype(dtype).name}")
        recipes.add(f"bitround-{dtype}", build, "v3-bitround-zfp", tags=tags)


def _add_zfp(recipes: Recipes) -> None:
    modes: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "reversible": ({"mode": "reversible"}, {}),
        "rate": ({"mode": "fixed_rate", "rate": 12}, {"rate": 12}),
        "precision": ({"mode": "fixed_precision", "precision": 17}, {"precision": 17}),
        "accuracy": ({"mode": "fixed_accuracy", "tolerance": 0.125}, {"tolerance": 0.125}),
        "expert": (
            {"mode": "expert", "minbits": 1, "maxbits": 16658, "maxprec": 17, "minexp": -1074},
            {"precision": 17},
        ),
    }
    for name, (configuration, arguments) in modes.items():
        for dtype in ("f4", "f8", "i4", "i8") if name == "reversible" else ("f4", "f8"):

            def build(
                store: Path,
                dtype: str = dtype,
                configuration: Any = configuration,
                arguments: Any = arguments,
            ) -> Built:
                import zfpy

                values = smooth(dtype, (13, 9))
                chunks = (6, 5)
                for row in range(0, 13, 6):  # the expectation is zfp's own reconstruction
                    for column in range(0, 9, 5):
                        block = np.zeros(chunks, dtype)
                        region = (slice(row, min(row + 6, 13)), slice(column, min(column + 5, 9)))
                        extent = tuple(slice(0, part.stop - part.start) for part in region)
                        block[extent] = values[region]
                        stream = zfpy.compress_numpy(block, write_header=True, **arguments)
                        values[region] = zfpy.decompress_numpy(stream)[extent]
                return _write_zfp(
                    store, values, smooth(dtype, (13, 9)), chunks, configuration, arguments
                )

            tags = ("codec:zfp", f"dtype:{np.dtype(dtype).name}")
            recipes.add(f"zfp-{name}-{dtype}", build, "v3-bitround-zfp", tags=tags, needs=("zfpy",))


def _write_zfp(
    store: Path, expected: Any, values: Any, chunks: Any, configuration: Any, arguments: Any
) -> Built:
    import zfpy

    codec = {"name": "zfp", "configuration": configuration}

    def encode(block: np.ndarray[Any, Any]) -> bytes:
        return bytes(zfpy.compress_numpy(block, write_header=False, **arguments))

    write_v3(store, values, chunks, codecs=[codec], encode=encode, skip=False)
    return Built(expected)


def _add_scale(recipes: Recipes) -> None:
    for dtype, offset, scale in (
        ("f8", 5, 4),
        ("f4", -2.5, 0.5),
        ("i4", 10, 1),
        ("f8", None, 8),
        ("f4", 3, None),
        ("f8", 2, 3),
    ):

        def build(
            store: Path, dtype: str = dtype, offset: Any = offset, scale: Any = scale
        ) -> Built:
            kind = np.dtype(dtype).type
            stored = leave_out(smooth(dtype, (13, 9)), (5, 4), kind(7))
            add, by = kind(0 if offset is None else offset), kind(1 if scale is None else scale)
            given = {
                key: item
                for key, item in (("offset", offset), ("scale", scale))
                if item is not None
            }
            codec = {"name": "scale_offset", "configuration": given}
            decoded = (stored // by if dtype[0] == "i" else stored / by) + add
            fill = decoded[0, 8]
            write_v3(
                store, stored, (5, 4), codecs=[codec, LITTLE], fill=fill.item(), numpy_fill=kind(7)
            )
            return Built(decoded)

        recipes.add(
            f"scale_offset-{dtype}-{offset}-{scale}",
            build,
            "v3-scale-cast",
            tags=("codec:scale_offset",),
        )

    def nothing(store: Path) -> Built:
        return write_v3(
            store, smooth("f4", (13, 9)), (5, 4), codecs=[{"name": "scale_offset"}, LITTLE]
        )

    recipes.add("scale_offset-empty", nothing, "v3-scale-cast", tags=("codec:scale_offset",))


def _add_cast(recipes: Recipes) -> None:
    shape, chunks = (13, 9), (5, 4)
    ramp = np.arange(117).reshape(shape)
    forms: dict[str, tuple[str, Any, dict[str, Any], Any]] = {
        "i2-as-f8": ("int16", ramp.astype("i2") - 50, {}, ramp.astype("f8") - 50),
        "u1-as-f4": ("uint8", ramp.astype("u1"), {}, ramp.astype("f4")),
        "f8-as-i4": ("float64", ramp.astype("f8"), {}, ramp.astype("i4")),
        "f8-as-f4-rounds": ("float64", ramp / 3, {}, (ramp / 3).astype("f4")),
        "i2-as-u1-wraps": ("int16", (ramp * 9 - 300).astype("i2"), {"out_of_range": "wrap"}, (ramp * 9 - 300).astype("u1")),
        "i2-as-u1-clamps": ("int16", (ramp * 9 - 300).astype("i2"), {"out_of_range": "clamp"}, np.clip(ramp * 9 - 300, 0, 255).astype("u1")),
        "f4-as-i2-nearest-even": ("float32", (ramp / 2).astype("f4"), {}, np.rint(ramp / 2).astype("i2")),
        "f4-as-i2-towards-zero": ("float32", (ramp / 2 - 20).astype("f4"), {"rounding": "towards-zero"}, np.trunc(ramp / 2 - 20).astype("i2")),
        "f4-as-i2-up": ("float32", (ramp / 4 - 9).astype("f4"), {"rounding": "towards-positive"}, np.ceil(ramp / 4 - 9).astype("i2")),
        "f4-as-i2-down": ("float32", (ramp / 4 - 9).astype("f4"), {"rounding": "towards-negative"}, np.floor(ramp / 4 - 9).astype("i2")),
        "f4-as-i2-away": (
            "float32", (ramp / 2 - 20).astype("f4"), {"rounding": "nearest-away"},
            (np.sign(ramp / 2 - 20) * np.floor(np.abs(ramp / 2 - 20) + 0.5)).astype("i2"),
        ),
        "u1-as-f4-map": (
            "uint8", (ramp % 7).astype("u1"), {"scalar_map": {"decode": [[0, "NaN"], [1, "-Infinity"], [2, -0.0]]}},
            np.array([np.nan, -np.inf, -0.0, 3, 4, 5, 6], "f4")[ramp % 7],
        ),
        "u1-as-f4-map-hex-repeated": (
            "uint8", (ramp % 7).astype("u1"), {"scalar_map": {"decode": [[0, "NaN"], [1, "-Infinity"], [2, "0x80000000"], [0, 5.0]]}},
            np.array([np.nan, -np.inf, -0.0, 3, 4, 5, 6], "f4")[ramp % 7],
        ),
    }  # fmt: skip
    for name, (data_type, stored, extra, expected) in forms.items():

        def build(
            store: Path,
            data_type: str = data_type,
            stored: Any = stored,
            extra: Any = extra,
            expected: Any = expected,
        ) -> Built:
            codec = {"name": "cast_value", "configuration": {"data_type": data_type, **extra}}
            last = PLAIN if stored.dtype.itemsize == 1 else LITTLE
            whole = stored.copy()
            result = leave_out(expected.copy(), chunks, 3)
            name_of = expected.dtype.name
            built = write_v3(
                store, whole, chunks, data_type=name_of, codecs=[codec, last], encode=little, fill=3
            )
            assert built.expected is not None
            return Built(result)

        recipes.add(f"cast_value-{name}", build, "v3-scale-cast", tags=("codec:cast_value",))

    def fails(store: Path) -> Built:
        """Out of range with no rule for it: an error, never a value."""
        codec = {"name": "cast_value", "configuration": {"data_type": "int16"}}
        write_v3(
            store, ramp.astype("i2") * 9, chunks, data_type="uint8", codecs=[codec, LITTLE], fill=3
        )
        return Built(None)

    recipes.add(
        "cast_value-out-of-range",
        fails,
        "v3-scale-cast",
        demand="refuse",
        tags=("codec:cast_value",),
    )
