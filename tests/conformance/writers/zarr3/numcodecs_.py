"""zarr-python 3: the 21 codecs of numcodecs under their v3 names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...samples import numbers, smooth
from .write import write

if TYPE_CHECKING:
    from pathlib import Path

    from ...case import Built, Recipes

COMPRESSORS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("plain", "BZ2", {"level": 1}),
    ("best", "BZ2", {"level": 9}),
    ("plain", "GZip", {"level": 6}),
    ("plain", "LZ4", {"acceleration": 1}),
    ("fast", "LZ4", {"acceleration": 50}),
    ("default", "LZMA", {}),
    ("xz", "LZMA", {"format": 1, "preset": 1}),
    ("alone", "LZMA", {"format": 2, "preset": 2}),
    ("raw", "LZMA", {"format": 3, "filters": [{"id": 3, "dist": 4}, {"id": 0x21, "preset": 1}]}),
    ("crc32", "LZMA", {"format": 1, "check": 1, "preset": 0}),
    ("plain", "Zlib", {"level": 4}),
    ("zero", "Zlib", {"level": 0}),
    ("plain", "Zstd", {"level": 3}),
    ("checksum", "Zstd", {"level": 1, "checksum": True}),
    ("lz4", "Blosc", {"cname": "lz4", "clevel": 5, "shuffle": 1}),
    ("zstd-bit", "Blosc", {"cname": "zstd", "clevel": 3, "shuffle": 2}),
    ("auto", "Blosc", {"cname": "zlib", "clevel": 3, "shuffle": -1, "blocksize": 512}),
    ("4", "Shuffle", {"elementsize": 4}),
    ("8", "Shuffle", {"elementsize": 8}),
    ("odd", "Shuffle", {"elementsize": 11}),
)
CHECKSUMS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("start", "CRC32", {"location": "start"}),
    ("end", "CRC32", {"location": "end"}),
    ("start", "CRC32C", {"location": "start"}),
    ("end", "CRC32C", {"location": "end"}),
    ("start", "Adler32", {"location": "start"}),
    ("end", "Adler32", {"location": "end"}),
    ("default", "Adler32", {}),
    ("default", "Fletcher32", {}),
    ("default", "JenkinsLookup3", {}),
    ("seeded", "JenkinsLookup3", {"initval": 12345}),
)
FILTERS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("int32", "Delta", "i4", {"dtype": "<i4"}),
    ("int32-as-int16", "Delta", "i4", {"dtype": "<i4", "astype": "<i2"}),
    ("float64", "Delta", "f8", {"dtype": "<f8"}),
    ("uint8", "Delta", "u1", {"dtype": "|u1"}),
    ("f8-u1", "FixedScaleOffset", "f8", {"offset": 2, "scale": 4, "dtype": "<f8", "astype": "|u1"}),
    (
        "f4-i2",
        "FixedScaleOffset",
        "f4",
        {"offset": -1, "scale": 8, "dtype": "<f4", "astype": "<i2"},
    ),
    ("f4", "Quantize", "f4", {"digits": 2, "dtype": "<f4"}),
    ("f4", "BitRound", "f4", {"keepbits": 6}),
    ("f8", "BitRound", "f8", {"keepbits": 20}),
    ("i4-i2", "AsType", "i4", {"decode_dtype": "<i4", "encode_dtype": "<i2"}),
    ("f8-f4", "AsType", "f8", {"decode_dtype": "<f8", "encode_dtype": "<f4"}),
)


def add_all(recipes: Recipes) -> None:  # noqa: C901 - one case after another
    """Every name: compressors and checksums as bytes-to-bytes codecs, filters before the bytes codec, two serializers."""
    for label, codec, settings in COMPRESSORS + CHECKSUMS:

        def compressed(store: Path, codec: str = codec, settings: Any = settings) -> Built:
            made = _make(codec, settings)
            return write(
                store, numbers("i4", (29, 17)), (11, 8), options=lambda: {"compressors": made}
            )

        tags = (f"codec:numcodecs.{codec.lower()}", "dtype:int32")
        recipes.add(f"numcodecs-{codec}-{label}", compressed, "v3-numcodecs", tags=tags)
    for label, codec, dtype, settings in FILTERS:

        def filtered(
            store: Path, codec: str = codec, dtype: str = dtype, settings: Any = settings
        ) -> Built:
            made = [_make(codec, settings)]
            return write(
                store, smooth(dtype, (31, 9)), (8, 5), options=lambda: {"filters": made}, lossy=True
            )

        tags = (f"codec:numcodecs.{codec.lower()}", f"dtype:{np.dtype(dtype).name}")
        recipes.add(f"numcodecs-{codec}-{label}", filtered, "v3-numcodecs", tags=tags)
    for shape, chunks in (((61,), (19,)), ((11, 9), (4, 5))):

        def bits(store: Path, shape: Any = shape, chunks: Any = chunks) -> Built:
            made = [_make("PackBits", {})]
            return write(
                store, numbers("bool", shape), chunks, np.False_, options=lambda: {"filters": made}
            )

        tags = ("codec:numcodecs.packbits", "dtype:bool")
        recipes.add(f"numcodecs-packbits-{len(shape)}d", bits, "v3-numcodecs", tags=tags)
    for dtype in ("i2", "u4", "i8", "f4", "f8"):

        def pcodec(store: Path, dtype: str = dtype) -> Built:
            made = _make("PCodec", {"level": 4})
            return write(
                store, smooth(dtype, (37, 11)), (13, 6), options=lambda: {"serializer": made}
            )

        tags = ("codec:numcodecs.pcodec", f"dtype:{np.dtype(dtype).name}")
        recipes.add(
            f"numcodecs-pcodec-{dtype}", pcodec, "v3-numcodecs", tags=tags, needs=("pcodec",)
        )
    modes: list[tuple[str, dict[str, Any]]] = [
        ("rate", {"mode": 2, "rate": 9.5}),
        ("precision", {"mode": 3, "precision": 14}),
        ("accuracy", {"mode": 4, "tolerance": 0.01}),
    ]
    for label, settings in modes:
        for dtype in ("f4", "f8"):

            def zfpy(store: Path, dtype: str = dtype, settings: Any = settings) -> Built:
                made = _make("ZFPY", settings)
                values = smooth(dtype, (17, 9, 5))
                return write(
                    store, values, (8, 5, 5), options=lambda: {"serializer": made}, lossy=True
                )

            tags = ("codec:numcodecs.zfpy", f"dtype:{np.dtype(dtype).name}")
            recipes.add(
                f"numcodecs-zfpy-{label}-{dtype}", zfpy, "v3-numcodecs", tags=tags, needs=("zfpy",)
            )
    recipes.add(
        "numcodecs-chain",
        _chain,
        "v3-numcodecs",
        tags=("codec:numcodecs.delta", "codec:numcodecs.shuffle"),
    )


def _make(name: str, settings: dict[str, Any]) -> Any:
    """A codec by its class name; some warn of being outside the standard."""
    import warnings

    import zarr.codecs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(zarr.codecs.numcodecs, name)(**settings)


def _chain(store: Path) -> Built:
    filters = [
        _make("FixedScaleOffset", {"offset": 0, "scale": 4, "dtype": "<f8", "astype": "<i4"})
    ]
    filters.append(_make("Delta", {"dtype": "<i4"}))
    after = [
        _make("Shuffle", {"elementsize": 4}),
        _make("Zlib", {"level": 3}),
        _make("CRC32", {"location": "end"}),
    ]
    values = smooth("f8", (41, 7))
    return write(store, values, (9, 4), options=lambda: {"filters": filters, "compressors": after})
