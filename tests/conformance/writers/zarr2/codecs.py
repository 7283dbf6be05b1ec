"""zarr-python 2: compressors and filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...samples import numbers, smooth
from .write import write

if TYPE_CHECKING:
    from pathlib import Path

    from ...case import Built, Recipes

CNAMES = ("lz4", "lz4hc", "blosclz", "zlib", "zstd")
SHUFFLES = {"auto": -1, "none": 0, "byte": 1, "bit": 2}
TYPES = {1: "|u1", 2: "<i2", 4: ">f4", 8: "<f8", 16: "<c16"}
COMPRESSORS: dict[str, dict[str, Any]] = {
    "zlib-1": {"id": "zlib", "level": 1},
    "zlib-9": {"id": "zlib", "level": 9},
    "gzip-0": {"id": "gzip", "level": 0},
    "gzip-6": {"id": "gzip", "level": 6},
    "bz2-1": {"id": "bz2", "level": 1},
    "bz2-9": {"id": "bz2", "level": 9},
    "lz4": {"id": "lz4", "acceleration": 1},
    "lz4-fast": {"id": "lz4", "acceleration": 20},
    "lzma-default": {"id": "lzma"},
    "lzma-xz": {"id": "lzma", "format": 1, "check": 4, "preset": 2},
    "lzma-alone": {"id": "lzma", "format": 2, "preset": 1},
    "lzma-raw": {
        "id": "lzma",
        "format": 3,
        "filters": [{"id": 3, "dist": 4}, {"id": 33, "preset": 1}],
    },
    "zstd-0": {"id": "zstd", "level": 0},
    "zstd-9": {"id": "zstd", "level": 9},
    "zstd-checksum": {"id": "zstd", "level": 1, "checksum": True},
    "none": {},
}
FILTERS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "delta": ("<i4", [{"id": "delta", "dtype": "<i4"}]),
    "delta-astype": ("<i4", [{"id": "delta", "dtype": "<i4", "astype": "<i2"}]),
    "delta-big": (">i2", [{"id": "delta", "dtype": ">i2"}]),
    "delta-float": ("<f8", [{"id": "delta", "dtype": "<f8"}]),
    "fixedscaleoffset": (
        "<f8",
        [{"id": "fixedscaleoffset", "dtype": "<f8", "astype": "|u1", "scale": 4, "offset": 1}],
    ),
    "fixedscaleoffset-f4": (
        "<f4",
        [{"id": "fixedscaleoffset", "dtype": "<f4", "astype": "<i2", "scale": 10, "offset": -3}],
    ),
    "quantize": ("<f4", [{"id": "quantize", "digits": 1, "dtype": "<f4"}]),
    "quantize-astype": ("<f8", [{"id": "quantize", "digits": 2, "dtype": "<f8", "astype": "<f4"}]),
    "bitround": ("<f4", [{"id": "bitround", "keepbits": 5}]),
    "astype": ("<i8", [{"id": "astype", "decode_dtype": "<i8", "encode_dtype": "<i2"}]),
    "astype-float": ("<f8", [{"id": "astype", "decode_dtype": "<f8", "encode_dtype": ">f4"}]),
    "packbits": ("|b1", [{"id": "packbits"}]),
    "shuffle": ("<i4", [{"id": "shuffle", "elementsize": 4}]),
    "shuffle-2": ("<f8", [{"id": "shuffle", "elementsize": 2}]),
    "base64": ("<i2", [{"id": "base64"}]),
    "crc32": ("<i4", [{"id": "crc32"}]),
    "crc32-end": ("<i4", [{"id": "crc32", "location": "end"}]),
    "crc32c": ("<i4", [{"id": "crc32c"}]),
    "adler32": ("<i4", [{"id": "adler32"}]),
    "fletcher32": ("<i4", [{"id": "fletcher32"}]),
    "jenkins": ("<i4", [{"id": "jenkins_lookup3", "initval": 7, "prefix": None}]),
    "zlib": ("<i4", [{"id": "zlib", "level": 2}]),
    "blosc": ("<i4", [{"id": "blosc", "cname": "lz4", "clevel": 4, "shuffle": 1, "blocksize": 0}]),
    "chain-scale-delta-shuffle": (
        "<f8",
        [
            {"id": "fixedscaleoffset", "dtype": "<f8", "astype": "<i4", "scale": 4, "offset": 0},
            {"id": "delta", "dtype": "<i4"},
            {"id": "shuffle", "elementsize": 4},
        ],
    ),
    "chain-delta-delta-crc": (
        "<i4",
        [{"id": "delta", "dtype": "<i4"}, {"id": "delta", "dtype": "<i4"}, {"id": "crc32"}],
    ),
    "chain-fletcher-shuffle-zlib": (
        "<u2",
        [{"id": "shuffle", "elementsize": 2}, {"id": "fletcher32"}, {"id": "zlib", "level": 1}],
    ),
    "chain-astype-bitround": (
        "<f8",
        [
            {"id": "astype", "decode_dtype": "<f8", "encode_dtype": "<f4"},
            {"id": "bitround", "keepbits": 8},
        ],
    ),
}


def add_all(recipes: Recipes) -> None:
    """Every codec."""
    _add_blosc(recipes)
    _add_compressors(recipes)
    _add_filters(recipes)
    _add_modules(recipes)


def _add_blosc(recipes: Recipes) -> None:
    turn = 0
    for cname in CNAMES:
        for shuffle, number in SHUFFLES.items():
            for size, dtype in TYPES.items():
                if (
                    turn + size
                ) % 2 and size > 1:  # half of the product; zarr-python 3 writes the whole one
                    turn += 1
                    continue
                level, blocksize = (5, 1, 9, 0)[turn % 4], (0, 256)[turn % 2]
                turn += 1
                codec = {
                    "id": "blosc",
                    "cname": cname,
                    "clevel": level,
                    "shuffle": number,
                    "blocksize": blocksize,
                }

                def build(store: Path, codec: Any = codec, dtype: str = dtype) -> Built:
                    return write(
                        store,
                        numbers(dtype, (29, 13), seed=2),
                        (11, 13),
                        dtype=dtype,
                        compressor=codec,
                    )

                tags = (
                    "codec:blosc",
                    f"blosc:{cname}",
                    f"shuffle:{shuffle}",
                    f"dtype:{np.dtype(dtype).name}",
                )
                name = f"blosc-{cname}-{shuffle}-{size}-level{level}"
                recipes.add(name, build, "v2-compressors", zarr_format=2, tags=tags)


def _add_compressors(recipes: Recipes) -> None:
    for name, codec in COMPRESSORS.items():

        def build(store: Path, codec: Any = codec) -> Built:
            return write(
                store, numbers("<i4", (29, 17)), (11, 8), dtype="<i4", compressor=codec or None
            )

        recipes.add(
            f"compressor-{name}",
            build,
            "v2-compressors",
            zarr_format=2,
            tags=(f"codec:{codec.get('id', 'none')}",),
        )


def _add_filters(recipes: Recipes) -> None:
    for position, (name, (dtype, filters)) in enumerate(FILTERS.items()):

        def build(
            store: Path, dtype: str = dtype, filters: Any = filters, position: int = position
        ) -> Built:
            values = numbers("?", (31, 9)) if dtype == "|b1" else smooth(dtype, (31, 9))
            compressor = {"id": "zlib", "level": 1} if position % 2 else None
            made = [{key: item for key, item in one.items() if item is not None} for one in filters]
            order = "F" if position % 5 == 4 else "C"
            chosen: dict[str, Any] = {
                "dtype": dtype,
                "filters": made,
                "compressor": compressor,
                "order": order,
            }
            return write(store, values, (8, 5), lossy=True, **chosen)

        tags = tuple(f"codec:{one['id']}" for one in filters)
        recipes.add(f"filter-{name}", build, "v2-filters", zarr_format=2, tags=tags)


def _add_modules(recipes: Recipes) -> None:
    modes: dict[str, dict[str, Any]] = {
        "rate": {"mode": 2, "rate": 9},
        "precision": {"mode": 3, "precision": 14},
        "accuracy": {"mode": 4, "tolerance": 0.01},
    }
    for name, settings in modes.items():
        for dtype in ("<f4", "<f8"):

            def zfpy(store: Path, dtype: str = dtype, settings: Any = settings) -> Built:
                codec = {"id": "zfpy", **settings}
                return write(
                    store, smooth(dtype, (13, 9)), (6, 5), dtype=dtype, compressor=codec, lossy=True
                )

            tags = ("codec:zfpy", f"dtype:{np.dtype(dtype).name}")
            recipes.add(
                f"zfpy-{name}-{np.dtype(dtype).name}",
                zfpy,
                "v2-zfpy-pcodec",
                zarr_format=2,
                tags=tags,
            )
    for dtype in ("<i4", "<i8"):

        def integers(store: Path, dtype: str = dtype) -> Built:
            codec = {"id": "zfpy", "mode": 4, "tolerance": 0}
            return write(
                store, smooth(dtype, (29,)), (9,), dtype=dtype, compressor=codec, lossy=True
            )

        tags = ("codec:zfpy", f"dtype:{np.dtype(dtype).name}")
        recipes.add(
            f"zfpy-{np.dtype(dtype).name}", integers, "v2-zfpy-pcodec", zarr_format=2, tags=tags
        )
    for dtype in ("<u2", "<i4", "<f4", "<f8"):

        def pcodec(store: Path, dtype: str = dtype) -> Built:
            return write(
                store,
                smooth(dtype, (31, 9)),
                (11, 5),
                dtype=dtype,
                compressor={"id": "pcodec", "level": 4},
            )

        tags = ("codec:pcodec", f"dtype:{np.dtype(dtype).name}")
        recipes.add(
            f"pcodec-{np.dtype(dtype).name}", pcodec, "v2-zfpy-pcodec", zarr_format=2, tags=tags
        )
