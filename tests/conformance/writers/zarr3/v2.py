"""zarr-python 3 writing format v2: a second hand beside zarr-python 2 for the same format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...samples import numbers, smooth, texts
from .write import write

if TYPE_CHECKING:
    from pathlib import Path

    from ...case import Built, Recipes

NUMBERS = (
    "bool",
    "i1",
    "<i2",
    ">i2",
    "<i4",
    ">i4",
    "<i8",
    ">i8",
    "u1",
    "<u2",
    ">u4",
    "<u8",
    "<f2",
    ">f2",
    "<f4",
    ">f4",
    "<f8",
    ">f8",
    "<c8",
    ">c8",
    "<c16",
    ">c16",
)


def add_all(recipes: Recipes) -> None:
    """Every v2 case."""
    for dtype in NUMBERS:
        for order in "CF":

            def plain(store: Path, dtype: str = dtype, order: str = order) -> Built:
                chosen = {"order": order, "compressors": "auto" if order == "F" else None}
                values = numbers(dtype, (13, 11))
                return write(
                    store,
                    values,
                    (5, 4),
                    dtype=np.dtype(dtype),
                    zarr_format=2,
                    options=lambda: chosen,
                )

            name = np.dtype(dtype).name + ("-big" if dtype[0] == ">" else "-little")
            tags = (f"dtype:{np.dtype(dtype).name}", f"order:{order}")
            recipes.add(f"type-{name}-{order}", plain, "v2-numbers", zarr_format=2, tags=tags)
    others: dict[str, tuple[str, Any, str]] = {
        "datetime-little": ("<M8[us]", "NaT", "v2-datetime"),
        "datetime-big": (">M8[10s]", 5, "v2-datetime"),
        "timedelta": ("<m8[D]", "NaT", "v2-datetime"),
        "s5": ("S5", b"", "v2-fixed-strings"),
        "u3-little": ("<U3", "", "v2-fixed-strings"),
        "u3-big": (">U3", "ü", "v2-fixed-strings"),
        "v6": ("V6", b"\1\2\3\4\5\6", "v2-fixed-strings"),
    }
    for name, (dtype, fill, row) in others.items():

        def other(store: Path, dtype: str = dtype, fill: Any = fill) -> Built:
            return write(
                store, numbers(dtype, (31,)), (8,), fill, dtype=np.dtype(dtype), zarr_format=2
            )

        recipes.add(
            f"type-{name}",
            other,
            row,
            zarr_format=2,
            tags=(f"dtype:{np.dtype(dtype).name.split('[')[0]}",),
        )

    def structured(store: Path) -> Built:
        dtype = np.dtype([("a", "<i4"), ("b", ">f8"), ("c", "S2")])
        return write(store, numbers(dtype, (17,)), (5,), np.zeros((), dtype)[()], zarr_format=2)

    recipes.add(
        "type-structured", structured, "v2-structured", zarr_format=2, tags=("dtype:structured",)
    )

    def strings(store: Path) -> Built:
        return write(store, texts((13, 5)), (4, 3), "", dtype="string", zarr_format=2)

    recipes.add(
        "type-string",
        strings,
        "v2-vlen-utf8",
        zarr_format=2,
        tags=("dtype:string", "codec:vlen-utf8"),
    )
    _add_codecs(recipes)
    _add_layout(recipes)


def _add_codecs(recipes: Recipes) -> None:
    compressors: dict[str, dict[str, Any]] = {
        "zlib": {"id": "zlib", "level": 1},
        "gzip": {"id": "gzip", "level": 5},
        "bz2": {"id": "bz2", "level": 1},
        "lz4": {"id": "lz4", "acceleration": 1},
        "lzma": {"id": "lzma", "preset": 1},
        "zstd": {"id": "zstd", "level": 3, "checksum": True},
        "blosc": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
        "blosc-bit": {"id": "blosc", "cname": "zstd", "clevel": 9, "shuffle": 2, "blocksize": 256},
    }
    for name, settings in compressors.items():
        for order in "CF":

            def compressed(store: Path, settings: Any = settings, order: str = order) -> Built:
                import numcodecs

                chosen = {"compressors": numcodecs.get_codec(dict(settings)), "order": order}
                return write(
                    store, numbers("<i4", (29, 13)), (11, 6), zarr_format=2, options=lambda: chosen
                )

            tags = (f"codec:{settings['id']}", f"order:{order}", "dtype:int32")
            recipes.add(f"{name}-{order}", compressed, "v2-compressors", zarr_format=2, tags=tags)

    def filtered(store: Path) -> Built:
        import numcodecs

        filters = [
            numcodecs.FixedScaleOffset(offset=0, scale=4, dtype="<f8", astype="<i2"),
            numcodecs.Delta(dtype="<i2"),
        ]
        chosen = {"filters": [*filters, numcodecs.Shuffle(2)], "compressors": numcodecs.Zlib(2)}
        return write(store, smooth("f8", (31, 7)), (9, 4), zarr_format=2, options=lambda: chosen)

    recipes.add(
        "filters",
        filtered,
        "v2-filters",
        zarr_format=2,
        tags=("codec:delta", "codec:fixedscaleoffset"),
    )


def _add_layout(recipes: Recipes) -> None:
    forms: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "0d": ((), ()),
        "1d": ((23,), (5,)),
        "3d": ((5, 4, 7), (2, 3, 4)),
        "zero": ((0, 4), (2, 2)),
    }
    for name, (shape, chunks) in forms.items():
        for word, separator in (("slash", "/"), ("dot", ".")):

            def build(
                store: Path, shape: Any = shape, chunks: Any = chunks, separator: str = separator
            ) -> Built:
                chosen = {"chunk_key_encoding": {"name": "v2", "separator": separator}}
                values = numbers("<f4", shape, seed=3)
                return write(
                    store,
                    values,
                    chunks,
                    np.nan,
                    zarr_format=2,
                    options=lambda: chosen,
                    skip=bool(shape),
                )

            recipes.add(
                f"layout-{name}-{word}", build, "v2-layout", zarr_format=2, tags=("dtype:float32",)
            )
