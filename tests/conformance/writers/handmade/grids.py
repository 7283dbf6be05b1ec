"""Rectilinear grids in every form of the edge lengths, of shards too; chunks that reach beyond the array."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built, Recipes
from ...samples import numbers
from .build import (
    BIG,
    CRC,
    LITTLE,
    big,
    default_key,
    inner_chunks,
    little,
    put,
    shard,
    sharding,
    v2_key,
    with_crc,
)

if TYPE_CHECKING:
    from pathlib import Path

Edges = tuple[tuple[int, ...], ...]

FORMS: dict[str, tuple[tuple[int, ...], Any, Edges]] = {
    "integer": ((17,), [5], ((5, 5, 5, 5),)),
    "list": ((17,), [[3, 8, 1, 5]], ((3, 8, 1, 5),)),
    "run-length": ((20,), [[[4, 5]]], ((4, 4, 4, 4, 4),)),
    "run-length-mixed": ((17,), [[[2, 3], 7, [1, 4]]], ((2, 2, 2, 7, 1, 1, 1, 1),)),
    "overflow-inside-last": ((17,), [[5, 5, 10]], ((5, 5, 10),)),
    "overflow-whole-chunks": ((9,), [[4, 4, 4, 4, 7]], ((4, 4, 4, 4, 7),)),
    "overflow-run-length": ((9,), [[[4, 6]]], ((4,) * 6,)),
    "2d": ((17, 12), [[5, 5, 7], [1, 2, 3, 6]], ((5, 5, 7), (1, 2, 3, 6))),
    "2d-integer-and-list": ((17, 12), [6, [[3, 2], 6]], ((6, 6, 6), (3, 3, 6))),
    "3d": ((7, 6, 9), [[1, 6], [[2, 3]], 4], ((1, 6), (2, 2, 2), (4, 4, 4))),
    "ones": ((5, 4), [[[1, 5]], [4]], ((1,) * 5, (4,))),
    "zero-length": ((0, 4), [[3], [[2, 2]]], ((3,), (2, 2))),
    "0d": ((), [], ()),
}


def add_all(recipes: Recipes) -> None:
    """Every grid."""
    for name, (shape, form, edges) in FORMS.items():
        for word, codec, encode in (
            ("little", [LITTLE], little),
            ("big-crc32c", [BIG, CRC], lambda b: with_crc(big(b))),
        ):

            def build(
                store: Path,
                shape: Any = shape,
                form: Any = form,
                edges: Edges = edges,
                codec: Any = codec,
                encode: Any = encode,
            ) -> Built:
                return _write(store, shape, form, edges, codec, encode)

            recipes.add(
                f"rectilinear-{name}-{word}",
                build,
                "v3-rectilinear",
                tags=("grid:rectilinear", "dtype:int32"),
            )
    _add_shards(recipes)
    _add_others(recipes)


def _write(
    store: Path,
    shape: tuple[int, ...],
    form: Any,
    edges: Edges,
    codecs: Any,
    encode: Any,
    *,
    key: Any = default_key,
    **extra: Any,
) -> Built:
    values = numbers("i4", shape, seed=6)
    starts = [np.concatenate([[0], np.cumsum(axis)]).astype(int) for axis in edges]
    grid = {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": form}}
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "int32",
        "chunk_grid": grid,
        "chunk_key_encoding": {"name": "default"},
        "fill_value": -3,
        "codecs": codecs,
    }
    put(store, "zarr.json", document | extra)
    for number, place in enumerate(itertools.product(*(range(len(axis)) for axis in edges))):
        extent = tuple(axis[at] for axis, at in zip(edges, place, strict=True))
        low = [int(start[at]) for start, at in zip(starts, place, strict=True)]
        region = tuple(
            slice(at, min(at + size, end)) for at, size, end in zip(low, extent, shape, strict=True)
        )
        outside = any(at >= end for at, end in zip(low, shape, strict=True))
        if outside or (number % 4 == 1 and shape):
            if not outside:
                values[region] = -3
            continue
        block = np.full(extent, -3, "i4")
        block[tuple(slice(0, part.stop - part.start) for part in region)] = values[region]
        put(store, key(place), encode(block))
    return Built(values)


def _add_shards(recipes: Recipes) -> None:
    forms: dict[str, tuple[tuple[int, ...], Any, Edges, tuple[int, ...]]] = {
        "1d": ((30,), [[6, 12, 3, 9]], ((6, 12, 3, 9),), (3,)),
        "run-length": ((24, 20), [[8, [4, 4]], 10], ((8, 4, 4, 4, 4), (10, 10)), (4, 5)),
        "overflow": ((22, 17), [[[8, 4]], [10, 5, 5]], ((8, 8, 8, 8), (10, 5, 5)), (4, 5)),
    }
    for name, (shape, form, edges, inner) in forms.items():
        for location in ("start", "end"):

            def build(
                store: Path,
                shape: Any = shape,
                form: Any = form,
                edges: Edges = edges,
                inner: Any = inner,
                location: str = location,
            ) -> Built:
                codecs = [sharding(inner, [LITTLE], location=location)]
                return _write(
                    store,
                    shape,
                    form,
                    edges,
                    codecs,
                    lambda b: shard(inner_chunks(b, inner, little, -3), location=location),
                )

            tags = ("grid:rectilinear", "codec:sharding_indexed")
            recipes.add(f"rectilinear-shards-{name}-{location}", build, "v3-rectilinear", tags=tags)


def _add_others(recipes: Recipes) -> None:
    def keys(store: Path) -> Built:
        encoding = {"name": "v2", "configuration": {"separator": "/"}}
        key = lambda place: v2_key(place, "/")  # noqa: E731 - one expression
        shape, form, edges = FORMS["2d"]
        return _write(
            store, shape, form, edges, [LITTLE], little, key=key, chunk_key_encoding=encoding
        )

    recipes.add(
        "rectilinear-v2-keys", keys, "v3-rectilinear", "v3-chunk-keys", tags=("grid:rectilinear",)
    )

    def transposed(store: Path) -> Built:
        codecs = [{"name": "transpose", "configuration": {"order": [1, 0]}}, LITTLE]
        shape, form, edges = FORMS["2d"]
        return _write(store, shape, form, edges, codecs, lambda b: little(b.T))

    recipes.add(
        "rectilinear-transposed",
        transposed,
        "v3-rectilinear",
        tags=("grid:rectilinear", "codec:transpose"),
    )
    bad: dict[str, Any] = {
        "too-short": [[5, 5]],
        "zero-edge": [[5, 0, 12]],
        "wrong-rank": [[5, 12], [3]],
        "run-of-three": [[[5, 2, 1], 7]],
        "text": "5",
    }
    for name, form in bad.items():

        def refused(store: Path, form: Any = form) -> Built:
            _write(store, (17,), form, ((17,),), [LITTLE], little)
            return Built(None)

        recipes.add(
            f"rectilinear-bad-{name}",
            refused,
            "v3-rectilinear",
            demand="refuse",
            tags=("grid:rectilinear",),
        )

    def unknown_kind(store: Path) -> Built:
        grid = {
            "name": "rectilinear",
            "configuration": {"kind": "elsewhere", "chunk_shapes": [[17]]},
        }
        _write(store, (17,), [[17]], ((17,),), [LITTLE], little, chunk_grid=grid)
        return Built(None)

    recipes.add(
        "rectilinear-bad-kind",
        unknown_kind,
        "v3-rectilinear",
        demand="refuse",
        tags=("grid:rectilinear",),
    )
