"""Shards in company: nested ones, codecs after the shard, transposes and other codecs before it."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built, Recipes
from ...samples import leave_out, numbers
from .build import (
    BIG,
    CRC,
    GZIP,
    LITTLE,
    big,
    crc32c,
    inner_chunks,
    little,
    shard,
    sharding,
    with_crc,
    write_v3,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
from .shards import INNER, SHAPE, WHOLE, shard_values, squeeze


def add_all(recipes: Recipes) -> None:
    """Every such shard."""
    _add_nested(recipes)
    _add_after(recipes)
    _add_transposed(recipes)
    _add_before(recipes)


def _add_nested(recipes: Recipes) -> None:
    middle, small = (6, 9), (2, 3)
    for outer in ("start", "end"):
        for inner in ("start", "end"):

            def build(store: Path, outer: str = outer, inner: str = inner) -> Built:
                values = leave_out(numbers("i2", SHAPE), small, 0)
                codecs = [
                    sharding(
                        middle,
                        [sharding(small, [BIG, GZIP], location=inner, index=[BIG])],
                        location=outer,
                    )
                ]

                def inside(part: np.ndarray[Any, Any]) -> bytes:
                    chunks = inner_chunks(part, small, lambda p: squeeze(big(p)), 0)
                    return shard(
                        chunks,
                        location=inner,
                        checksum=False,
                        index_order=">",
                        order=range(8, -1, -1),
                    )

                return write_v3(
                    store,
                    values,
                    WHOLE,
                    codecs=codecs,
                    encode=lambda b: shard(inner_chunks(b, middle, inside, 0), location=outer),
                )

            recipes.add(
                f"shard-nested-{outer}-{inner}",
                build,
                "v3-sharding",
                tags=("codec:sharding_indexed", "shard:nested"),
            )

    def thrice(store: Path) -> Built:
        values = leave_out(numbers("u4", (131,)), (2,), 0)
        codecs = [sharding((12,), [sharding((4,), [sharding((2,), [LITTLE])])])]
        level: Callable[[Any], bytes] = lambda p: shard(inner_chunks(p, (2,), little, 0))  # noqa: E731 - one expression
        deeper: Callable[[Any], bytes] = lambda p: shard(inner_chunks(p, (4,), level, 0))  # noqa: E731 - one expression
        return write_v3(
            store,
            values,
            (24,),
            codecs=codecs,
            encode=lambda b: shard(inner_chunks(b, (12,), deeper, 0)),
        )

    recipes.add(
        "shard-nested-thrice",
        thrice,
        "v3-sharding",
        tags=("codec:sharding_indexed", "shard:nested"),
    )

    def compressed(store: Path) -> Built:
        """An inner shard compressed as a whole."""
        values = leave_out(numbers("i2", SHAPE), small, 0)
        codecs = [sharding(middle, [sharding(small, [LITTLE]), GZIP])]
        level: Callable[[Any], bytes] = lambda p: squeeze(shard(inner_chunks(p, small, little, 0)))  # noqa: E731 - one expression
        return write_v3(
            store,
            values,
            WHOLE,
            codecs=codecs,
            encode=lambda b: shard(inner_chunks(b, middle, level, 0)),
        )

    recipes.add(
        "shard-nested-compressed",
        compressed,
        "v3-after-shard",
        tags=("codec:sharding_indexed", "shard:nested"),
    )


def _add_after(recipes: Recipes) -> None:
    codec = {"name": "numcodecs.zlib", "configuration": {"level": 3}}
    forms: dict[str, tuple[list[Any], Callable[[bytes], bytes]]] = {
        "gzip": ([GZIP], squeeze),
        "crc32c": ([CRC], with_crc),
        "gzip-crc32c": ([GZIP, CRC], lambda content: with_crc(squeeze(content))),
        "crc32c-gzip": ([CRC, GZIP], lambda content: squeeze(with_crc(content))),
        "zlib": ([codec], lambda content: zlib.compress(content, 3)),
    }
    for name, (codecs, finish) in forms.items():
        for location in ("start", "end"):

            def build(
                store: Path, codecs: Any = codecs, finish: Any = finish, location: str = location
            ) -> Built:
                first = sharding(INNER, [LITTLE], location=location)

                def encode(block: np.ndarray[Any, Any]) -> bytes:
                    chunks = inner_chunks(block, INNER, little, 0)
                    return bytes(finish(shard(chunks, location=location, gap=b"~")))

                return write_v3(
                    store, shard_values(), WHOLE, codecs=[first, *codecs], encode=encode
                )

            recipes.add(
                f"shard-{location}-then-{name}",
                build,
                "v3-after-shard",
                tags=("codec:sharding_indexed",),
            )

    def damaged(store: Path) -> Built:
        encode = lambda block: shard(inner_chunks(block, INNER, little, 0))[:-4] + crc32c(b"other")  # noqa: E731 - one expression
        write_v3(store, shard_values(), WHOLE, codecs=[sharding(INNER, [LITTLE])], encode=encode)
        return Built(None, error="ChecksumError")

    recipes.add(
        "shard-wrong-index-checksum",
        damaged,
        "v3-sharding",
        demand="refuse",
        tags=("codec:sharding_indexed",),
    )


def _add_transposed(recipes: Recipes) -> None:
    """Transpose, then a shard whose inner shape divides only the transposed chunk."""
    forms: list[tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...], list[int]]] = [
        ("2d", (23, 19), (12, 10), (5, 4), [1, 0]),
        ("2d-identity", (23, 19), (12, 10), (4, 5), [0, 1]),
        ("3d-201", (11, 7, 19), (6, 4, 10), (5, 2, 2), [2, 0, 1]),
        ("3d-120", (11, 7, 19), (6, 4, 10), (2, 5, 3), [1, 2, 0]),
        ("3d-021", (11, 7, 19), (6, 4, 10), (3, 5, 2), [0, 2, 1]),
        ("3d-210", (11, 7, 19), (6, 4, 10), (5, 2, 3), [2, 1, 0]),
    ]
    for name, shape, whole, inner, order in forms:
        for codec in ("raw", "gzip"):

            def build(
                store: Path,
                shape: Any = shape,
                whole: Any = whole,
                inner: Any = inner,
                order: Any = order,
                codec: str = codec,
            ) -> Built:
                back = tuple(inner[order.index(axis)] for axis in range(len(order)))
                values = leave_out(numbers("i4", shape), back, 0)
                encode = little if codec == "raw" else lambda part: squeeze(little(part))
                parts = [LITTLE] if codec == "raw" else [LITTLE, GZIP]
                codecs = [
                    {"name": "transpose", "configuration": {"order": order}},
                    sharding(inner, parts),
                ]
                return write_v3(
                    store,
                    values,
                    whole,
                    codecs=codecs,
                    encode=lambda b: shard(inner_chunks(b.transpose(order), inner, encode, 0)),
                )

            recipes.add(
                f"shard-transposed-{name}-{codec}",
                build,
                "v3-before-shard",
                tags=("codec:sharding_indexed", "codec:transpose"),
            )

    def both(store: Path) -> Built:
        """Transposed outside and inside of the shard, and twice outside."""
        values = leave_out(numbers("i4", (11, 7, 19)), (3, 2, 5), 0)
        turn = [
            {"name": "transpose", "configuration": {"order": order}}
            for order in ([2, 0, 1], [1, 0, 2], [2, 1, 0])
        ]
        codecs = [turn[0], turn[1], sharding((3, 5, 2), [turn[2], BIG])]

        def encode(block: np.ndarray[Any, Any]) -> bytes:
            turned = block.transpose(2, 0, 1).transpose(1, 0, 2)
            return shard(inner_chunks(turned, (3, 5, 2), lambda p: big(p.transpose(2, 1, 0)), 0))

        return write_v3(
            store,
            values,
            (6, 4, 10),
            codecs=codecs,
            encode=encode,
        )

    recipes.add(
        "shard-transposed-thrice",
        both,
        "v3-before-shard",
        tags=("codec:sharding_indexed", "codec:transpose"),
    )


def _add_before(recipes: Recipes) -> None:
    """Other array codecs before the shard."""
    scale = {
        "name": "numcodecs.fixedscaleoffset",
        "configuration": {"offset": 2, "scale": 4, "dtype": "<f8", "astype": "<i4"},
    }
    narrow = {
        "name": "numcodecs.astype",
        "configuration": {"decode_dtype": "<f8", "encode_dtype": "<i2"},
    }
    rounded = {"name": "numcodecs.bitround", "configuration": {"keepbits": 10}}
    forms: dict[str, tuple[Any, Callable[[Any], Any], int]] = {
        "fixedscaleoffset": (scale, lambda b: ((b - 2) * 4).astype("i4"), -8),
        "astype": (narrow, lambda b: b.astype("i2"), 0),
        "bitround": (rounded, lambda b: b, 0),
    }
    for name, (codec, change, empty) in forms.items():

        def build(
            store: Path, codec: Any = codec, change: Any = change, empty: int = empty
        ) -> Built:
            values = leave_out(np.arange(437, dtype="f8").reshape(SHAPE) % 61, INNER, 0)
            # What an absent inner chunk means past a codec that moves the fill value is not agreed on: leave none out there.
            encode = lambda b: shard(inner_chunks(change(b), INNER, little, empty, drop=empty == 0))  # noqa: E731 - one expression
            return write_v3(
                store, values, WHOLE, codecs=[codec, sharding(INNER, [LITTLE])], encode=encode
            )

        recipes.add(
            f"shard-after-{name}",
            build,
            "v3-before-shard",
            tags=("codec:sharding_indexed", f"codec:numcodecs.{name}"),
        )

    def delta(store: Path) -> Built:
        codec = {"name": "numcodecs.delta", "configuration": {"dtype": "<i4"}}

        def encode(block: np.ndarray[Any, Any]) -> bytes:
            steps = (
                np.diff(block.ravel(), prepend=block.dtype.type(0))
                .astype("i4")
                .reshape(block.shape)
            )
            return shard(inner_chunks(steps, INNER, little, 0, drop=False))

        return write_v3(
            store, shard_values(), WHOLE, codecs=[codec, sharding(INNER, [LITTLE])], encode=encode
        )

    recipes.add(
        "shard-after-delta",
        delta,
        "v3-before-shard",
        demand="optional",
        tags=("codec:sharding_indexed",),
    )

    def reshaped(store: Path) -> Built:
        codecs = [{"name": "reshape", "configuration": {"shape": [-1]}}, sharding((18,), [LITTLE])]
        encode = lambda b: shard(inner_chunks(b.reshape(-1), (18,), little, 0))  # noqa: E731 - one expression
        return write_v3(store, shard_values(), WHOLE, codecs=codecs, encode=encode)

    recipes.add(
        "shard-after-reshape",
        reshaped,
        "v3-before-shard",
        demand="optional",
        tags=("codec:sharding_indexed", "codec:reshape"),
    )
