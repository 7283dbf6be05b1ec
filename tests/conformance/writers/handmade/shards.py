"""Shards with every freedom the format leaves: order, gaps, shared ranges, index forms, shapes."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built, Recipes
from ...samples import leave_out, numbers, texts
from .build import (
    BIG,
    CRC,
    GZIP,
    LITTLE,
    big,
    blocks_of,
    inner_chunks,
    little,
    put,
    shard,
    sharding,
    variable,
    with_crc,
    write_v3,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE, WHOLE, INNER = (23, 19), (12, 9), (4, 3)


def add_all(recipes: Recipes) -> None:
    """Every shard."""
    _add_layouts(recipes)
    _add_shapes(recipes)


def squeeze(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def shard_values(dtype: str = "i4") -> np.ndarray[Any, Any]:
    return leave_out(numbers(dtype, SHAPE), INNER, 0)


def _add_layouts(recipes: Recipes) -> None:
    backwards, shuffled = range(8, -1, -1), [4, 1, 8, 0, 7, 3, 2, 6, 5]
    crc, bare = [LITTLE, CRC], [LITTLE]
    forms: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "reversed": ({"order": backwards}, {}),
        "any-order": ({"order": shuffled}, {}),
        "gaps": ({"gap": b"\xee" * 5}, {}),
        "gaps-any-order": ({"gap": b"unused", "order": shuffled}, {}),
        "start": ({"location": "start"}, {"location": "start"}),
        "start-gaps": ({"location": "start", "gap": b"\0" * 9, "order": shuffled}, {"location": "start"}),
        "location-absent": ({}, {"location": None}),
        "bare": ({"checksum": False}, {"index": bare}),
        "bare-start": ({"checksum": False, "location": "start"}, {"index": bare, "location": "start"}),
        "big-index": ({"index_order": ">"}, {"index": [BIG, CRC]}),
        "big-index-start-bare": (
            {"index_order": ">", "checksum": False, "location": "start"}, {"index": [BIG], "location": "start"},
        ),
        "short-hand-index": ({}, {"index": [LITTLE, "crc32c"]}),
        "endian-alias-index": ({}, {"index": [{"name": "endian", "configuration": {"endian": "little"}}, CRC]}),
        "empty-configuration-index": ({}, {"index": [LITTLE, {"name": "crc32c", "configuration": {}}]}),
        "plain": ({}, {"index": crc}),
    }  # fmt: skip
    for name, (layout, settings) in forms.items():
        for codec in ("raw", "gzip"):

            def build(
                store: Path, layout: Any = layout, settings: Any = settings, codec: str = codec
            ) -> Built:
                encode = little if codec == "raw" else lambda part: squeeze(little(part))
                inner = [LITTLE] if codec == "raw" else [LITTLE, GZIP]
                return write_v3(
                    store,
                    shard_values(),
                    WHOLE,
                    codecs=[sharding(INNER, inner, **settings)],
                    encode=lambda block: shard(inner_chunks(block, INNER, encode, 0), **layout),
                )

            row = (
                "v3-short-hand"
                if name in ("short-hand-index", "endian-alias-index")
                else "v3-sharding"
            )
            recipes.add(
                f"shard-{name}-{codec}",
                build,
                row,
                tags=("codec:sharding_indexed", f"inner:{codec}"),
            )

    def shared(store: Path) -> Built:
        values = np.tile(numbers("i4", INNER, seed=8), (6, 7))[: SHAPE[0], : SHAPE[1]].copy()
        values[5, 4] += 1
        chosen: dict[str, Any] = {"codecs": [sharding(INNER, [LITTLE])]}
        return write_v3(
            store,
            values,
            WHOLE,
            encode=lambda b: shard(inner_chunks(b, INNER, little, 0), share=True),
            **chosen,
        )

    recipes.add("shard-shared-ranges", shared, "v3-sharding", tags=("codec:sharding_indexed",))


def _add_shapes(recipes: Recipes) -> None:  # noqa: C901 - one case after another
    def scalar(store: Path) -> Built:
        values = numbers("f8", (1,), seed=2).reshape(())
        encode: Callable[[Any], bytes] = lambda block: shard([little(block)])  # noqa: E731 - one expression
        return write_v3(
            store, values, (), codecs=[sharding((), [LITTLE])], encode=encode, skip=False
        )

    recipes.add("shard-0d", scalar, "v3-sharding", "shapes", tags=("codec:sharding_indexed",))

    def scalar_absent(store: Path) -> Built:
        values = np.array(6, "i4")
        return write_v3(
            store,
            values,
            (),
            codecs=[sharding((), [LITTLE])],
            fill=6,
            encode=lambda _: shard([None]),
            skip=False,
        )

    recipes.add(
        "shard-0d-absent", scalar_absent, "v3-sharding", "shapes", tags=("codec:sharding_indexed",)
    )

    def all_absent(store: Path) -> Built:
        """Stored shards that hold an index and nothing else."""
        values = np.full(SHAPE, -4, "i4")
        return write_v3(
            store,
            values,
            WHOLE,
            codecs=[sharding(INNER, [LITTLE])],
            fill=-4,
            encode=lambda _: shard([None] * 9),
        )

    recipes.add(
        "shard-index-only", all_absent, "v3-sharding", "shapes", tags=("codec:sharding_indexed",)
    )

    def garbage(store: Path) -> Built:
        """What lies outside the array is noise, and the inner chunks wholly outside are absent or present at random."""
        values = shard_values()

        def encode(block: np.ndarray[Any, Any]) -> bytes:
            return shard(inner_chunks(block, INNER, little, 0, drop=False))

        built = write_v3(store, values, WHOLE, codecs=[sharding(INNER, [LITTLE])], encode=encode)
        for place, block in blocks_of(values, WHOLE, 77):
            if (store / f"c/{place[0]}/{place[1]}").exists():
                put(store, f"c/{place[0]}/{place[1]}", encode(block))
        return built

    recipes.add("shard-noise-outside", garbage, "v3-sharding", tags=("codec:sharding_indexed",))
    forms: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
        "1d": ((97,), (24,), (8,)),
        "3d": ((9, 8, 7), (4, 6, 4), (2, 3, 2)),
        "one-element": ((9, 4), (3, 2), (1, 1)),
        "whole": ((9, 4), (9, 4), (9, 4)),
        "over-array": ((3, 5), (8, 8), (2, 4)),
    }
    for name, (shape, whole, inner) in forms.items():
        for word, codec, encode in (("little", LITTLE, little), ("big", BIG, big)):

            def build(
                store: Path,
                shape: Any = shape,
                whole: Any = whole,
                inner: Any = inner,
                codec: Any = codec,
                encode: Any = encode,
            ) -> Built:
                values = leave_out(numbers("u2", shape), inner, 0)
                chosen: dict[str, Any] = {"codecs": [sharding(inner, [codec, CRC])]}
                return write_v3(
                    store,
                    values,
                    whole,
                    encode=lambda b: shard(
                        inner_chunks(b, inner, lambda p: with_crc(encode(p)), 0)
                    ),
                    **chosen,
                )

            recipes.add(
                f"shard-shape-{name}-{word}",
                build,
                "v3-sharding",
                tags=("codec:sharding_indexed", f"endian:{word}"),
            )

    def strings(store: Path) -> Built:
        values = leave_out(texts((11, 7)), (2, 3), "")

        def encode(part: Any) -> bytes:
            return variable(text.encode() for text in part.ravel().tolist())

        codecs = [sharding((2, 3), [{"name": "vlen-utf8"}])]
        return write_v3(
            store,
            values,
            (4, 6),
            data_type="string",
            codecs=codecs,
            fill="",
            encode=lambda b: shard(inner_chunks(b, (2, 3), encode, "")),
        )

    recipes.add(
        "shard-strings",
        strings,
        "v3-sharding",
        "v3-strings",
        tags=("codec:sharding_indexed", "codec:vlen-utf8"),
    )

    def uneven(store: Path) -> Built:
        write_v3(
            store, shard_values(), WHOLE, codecs=[sharding((5, 3), [LITTLE])], encode=lambda _: b""
        )
        return Built(None)

    recipes.add(
        "shard-uneven", uneven, "v3-sharding", demand="refuse", tags=("codec:sharding_indexed",)
    )
