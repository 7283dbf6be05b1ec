"""zarr-python 3: the registered codecs, alone and in chains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...samples import numbers, smooth
from .write import write

if TYPE_CHECKING:
    from pathlib import Path

    from ...case import Built, Recipes

CNAMES = ("lz4", "lz4hc", "blosclz", "zlib", "zstd")
SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
TYPES = {1: "u1", 2: "i2", 4: "f4", 8: "f8", 16: "c16"}
LEVELS = (5, 1, 9, 0)


def add_all(recipes: Recipes) -> None:
    """Every codec."""
    _add_blosc(recipes)
    _add_compressors(recipes)
    _add_transposes(recipes)
    _add_chains(recipes)


def _add_blosc(recipes: Recipes) -> None:
    turn = 0
    for cname in CNAMES:
        for shuffle in SHUFFLES:
            for size, name in TYPES.items():
                level = LEVELS[turn % 4]
                blocksize = (0, 256, 0, 512)[turn % 4]
                turn += 1
                settings: dict[str, Any] = {
                    "cname": cname,
                    "shuffle": shuffle,
                    "clevel": level,
                    "typesize": size,
                    "blocksize": blocksize,
                }

                def build(store: Path, settings: Any = settings, name: str = name) -> Built:
                    from zarr.codecs import BloscCodec

                    values = numbers(name, (41, 23), seed=1)
                    return write(
                        store,
                        values,
                        (17, 16),
                        options=lambda: {"compressors": BloscCodec(**settings)},
                    )

                tags = (
                    "codec:blosc",
                    f"blosc:{cname}",
                    f"shuffle:{shuffle}",
                    f"dtype:{np.dtype(name).name}",
                )
                recipes.add(
                    f"blosc-{cname}-{shuffle}-{size}-level{level}", build, "v3-codecs", tags=tags
                )
    for cname in CNAMES:
        for kind in ("noise", "zeros"):

            def extreme(store: Path, cname: Any = cname, kind: str = kind) -> Built:
                from zarr.codecs import BloscCodec

                noise = np.frombuffer(np.random.default_rng(3).bytes(4 * 3000), "u4").copy()
                values = noise if kind == "noise" else np.full(3000, 7, "u4")
                codec = BloscCodec(cname=cname, shuffle="shuffle", clevel=9, typesize=4)
                return write(store, values, (1300,), options=lambda: {"compressors": codec})

            tags = ("codec:blosc", f"blosc:{cname}", "shuffle:shuffle", "dtype:uint32")
            recipes.add(f"blosc-{cname}-{kind}", extreme, "v3-codecs", tags=tags)
    for typesize in (3, 7, 12, 255):

        def odd(store: Path, typesize: int = typesize) -> Built:
            from zarr.codecs import BloscCodec

            codec = BloscCodec(cname="lz4", shuffle="shuffle", clevel=5, typesize=typesize)
            return write(
                store, smooth("i4", (37, 30)), (20, 13), options=lambda: {"compressors": codec}
            )

        tags = ("codec:blosc", "blosc:lz4", "shuffle:shuffle", "dtype:int32")
        recipes.add(f"blosc-odd-typesize-{typesize}", odd, "v3-codecs", tags=tags)


def _add_compressors(recipes: Recipes) -> None:
    for level in (0, 1, 5, 9):

        def gzip(store: Path, level: int = level) -> Built:
            from zarr.codecs import GzipCodec

            return write(
                store,
                numbers("i4", (31, 17)),
                (11, 8),
                options=lambda: {"compressors": GzipCodec(level=level)},
            )

        recipes.add(f"gzip-{level}", gzip, "v3-codecs", tags=("codec:gzip", "dtype:int32"))
    for level in (-5, 0, 1, 3, 19, 22):
        for checksum in (False, True):

            def zstd(store: Path, level: int = level, checksum: Any = checksum) -> Built:
                from zarr.codecs import ZstdCodec

                codec = ZstdCodec(level=level, checksum=checksum)
                return write(
                    store, numbers("u2", (53, 29)), (20, 11), options=lambda: {"compressors": codec}
                )

            name = f"zstd-{level}{'-checksum' if checksum else ''}"
            recipes.add(name, zstd, "v3-codecs", tags=("codec:zstd", "dtype:uint16"))

    def crc(store: Path) -> Built:
        from zarr.codecs import Crc32cCodec

        return write(
            store, numbers("f4", (23, 9)), (7, 5), options=lambda: {"compressors": Crc32cCodec()}
        )

    recipes.add("crc32c", crc, "v3-codecs", tags=("codec:crc32c", "dtype:float32"))


def _add_transposes(recipes: Recipes) -> None:
    cases = [
        ("2d", (13, 9), (5, 4), (1, 0)),
        ("2d-identity", (13, 9), (5, 4), (0, 1)),
        ("3d-021", (7, 5, 6), (3, 2, 4), (0, 2, 1)),
        ("3d-120", (7, 5, 6), (3, 2, 4), (1, 2, 0)),
        ("3d-201", (7, 5, 6), (3, 2, 4), (2, 0, 1)),
        ("4d-3142", (5, 3, 4, 6), (2, 3, 3, 4), (2, 0, 3, 1)),
        ("1d", (19,), (7,), (0,)),
    ]
    for name, shape, chunks, order in cases:
        for endian in ("little", "big"):

            def build(
                store: Path,
                shape: Any = shape,
                chunks: Any = chunks,
                order: Any = order,
                endian: str = endian,
            ) -> Built:
                from zarr.codecs import BytesCodec, TransposeCodec

                chosen = {
                    "filters": [TransposeCodec(order=order)],
                    "serializer": BytesCodec(endian=endian),
                }
                return write(store, numbers("i4", shape), chunks, options=lambda: chosen)

            tags = ("codec:transpose", f"endian:{endian}", "dtype:int32")
            recipes.add(f"transpose-{name}-{endian}", build, "v3-codecs", tags=tags)


def _add_chains(recipes: Recipes) -> None:
    def codecs_of(names: str, typesize: int) -> list[Any]:
        from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

        made = {
            "gzip": GzipCodec(level=5),
            "zstd": ZstdCodec(level=3, checksum=True),
            "blosc": BloscCodec(cname="lz4", shuffle="bitshuffle", clevel=5, typesize=typesize),
            "crc32c": Crc32cCodec(),
        }
        return [made[name] for name in names.split("+")]

    chains = (
        "gzip+crc32c",
        "zstd+crc32c",
        "crc32c+zstd",
        "blosc+crc32c",
        "gzip+zstd+crc32c",
        "crc32c+crc32c",
        "blosc+gzip",
    )
    for position, chain in enumerate(chains):

        def build(store: Path, chain: str = chain) -> Built:
            values = numbers("f8", (31, 13))
            return write(
                store, values, (9, 5), np.nan, options=lambda: {"compressors": codecs_of(chain, 8)}
            )

        tags = (*(f"codec:{part}" for part in chain.split("+")), "dtype:float64")
        recipes.add(f"chain-{chain}", build, "v3-codecs", tags=tags)

        def transposed(store: Path, chain: str = chain, position: int = position) -> Built:
            from zarr.codecs import BytesCodec, TransposeCodec

            orders = [TransposeCodec(order=(2, 0, 1))]
            if position % 2:
                orders.append(TransposeCodec(order=(0, 2, 1)))
            chosen = {
                "filters": orders,
                "serializer": BytesCodec(endian="big"),
                "compressors": codecs_of(chain, 2),
            }
            return write(store, numbers("u2", (9, 8, 7)), (4, 3, 5), options=lambda: chosen)

        recipes.add(
            f"chain-transpose-{chain}",
            transposed,
            "v3-codecs",
            tags=("codec:transpose", *tags[:-1], "dtype:uint16"),
        )
