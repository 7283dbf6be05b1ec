"""Metadata in the forms that v3.1 and other writers allow: short names, ignorable parts, chunk keys, documents."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from ...case import Built, Recipes
from ...samples import numbers
from .build import (
    ABSENT,
    BIG,
    CRC,
    LITTLE,
    PLAIN,
    big,
    default_key,
    little,
    put,
    v2_key,
    with_crc,
    write_v3,
)

if TYPE_CHECKING:
    from pathlib import Path


def add_all(recipes: Recipes) -> None:
    """Every metadata form."""
    _add_codecs(recipes)
    _add_keys(recipes)
    _add_top_level(recipes)
    _add_documents(recipes)


def _simple(
    recipes: Recipes, name: str, row: str, *, dtype: str = "i4", demand: Any = None, **chosen: Any
) -> None:
    """A case of one small array; `demand` "refuse" turns it into one that must not be read."""

    def build(store: Path) -> Built:
        built = write_v3(store, numbers(dtype, (13, 9)), (5, 4), **chosen)
        return Built(None, error=None) if demand == "refuse" else built

    recipes.add(name, build, row, demand=demand, tags=(f"dtype:{np.dtype(dtype).name}",))


def _add_codecs(recipes: Recipes) -> None:
    ignorable = {"name": "example.annotate", "configuration": {"note": 1}, "must_understand": False}
    known = {"name": "crc32c", "must_understand": False}
    _simple(recipes, "codec-name-only", "v3-short-hand", dtype="u1", codecs=["bytes"])
    _simple(
        recipes,
        "codec-name-only-chain",
        "v3-short-hand",
        dtype="u1",
        codecs=["bytes", "crc32c"],
        encode=lambda b: with_crc(little(b)),
    )
    _simple(
        recipes,
        "codec-name-only-mixed",
        "v3-short-hand",
        codecs=[LITTLE, "crc32c"],
        encode=lambda b: with_crc(little(b)),
    )
    _simple(recipes, "codec-no-configuration", "v3-codecs", dtype="u1", codecs=[PLAIN])
    _simple(
        recipes,
        "codec-empty-configuration",
        "v3-codecs",
        dtype="i1",
        codecs=[{"name": "bytes", "configuration": {}}],
    )
    _simple(recipes, "codec-endian-unneeded", "v3-codecs", dtype="u1", codecs=[BIG])
    _simple(
        recipes,
        "codec-endian-alias",
        "v3-short-hand",
        codecs=[{"name": "endian", "configuration": {"endian": "big"}}],
        encode=big,
    )
    _simple(
        recipes,
        "codec-must-understand-true",
        "v3-short-hand",
        codecs=[LITTLE | {"must_understand": True}],
    )
    _simple(
        recipes,
        "codec-must-understand-false-known",
        "v3-short-hand",
        codecs=[LITTLE, known],
        encode=lambda b: with_crc(little(b)),
    )
    _simple(recipes, "codec-ignorable-last", "v3-short-hand", codecs=[LITTLE, ignorable])
    _simple(recipes, "codec-ignorable-first", "v3-short-hand", codecs=[ignorable, LITTLE])
    _simple(
        recipes,
        "codec-unknown",
        "v3-unknown-key",
        demand="refuse",
        codecs=[LITTLE, {"name": "example.annotate"}],
    )
    _simple(
        recipes,
        "codec-unknown-short",
        "v3-unknown-key",
        demand="refuse",
        codecs=[LITTLE, "example.annotate"],
    )
    _simple(recipes, "codec-missing-endian", "v3-codecs", demand="optional", codecs=[PLAIN])
    _simple(recipes, "codec-none", "v3-codecs", demand="refuse", codecs=[])
    _simple(recipes, "data-type-object", "v3-short-hand", data_type={"name": "int32"})
    _simple(
        recipes,
        "data-type-object-configuration",
        "v3-short-hand",
        data_type={"name": "int32", "configuration": {}},
    )
    _simple(
        recipes,
        "data-type-must-understand",
        "v3-short-hand",
        data_type={"name": "int32", "must_understand": True},
    )
    _simple(
        recipes, "data-type-unknown", "v3-unknown-key", demand="refuse", data_type="example.int33"
    )
    _simple(
        recipes,
        "grid-unknown",
        "v3-unknown-key",
        demand="refuse",
        chunk_grid={"name": "example.hexagons", "configuration": {}},
    )
    unknown_keys = {"name": "example.keys", "configuration": {}}
    _simple(
        recipes, "keys-unknown", "v3-unknown-key", demand="refuse", chunk_key_encoding=unknown_keys
    )


def _add_keys(recipes: Recipes) -> None:
    forms: dict[str, tuple[str, Any, Any]] = {
        "default-no-configuration": ("v3-chunk-keys", {"name": "default"}, default_key),
        "default-empty-configuration": (
            "v3-chunk-keys",
            {"name": "default", "configuration": {}},
            default_key,
        ),
        "v2-no-configuration": ("v3-chunk-keys", {"name": "v2"}, v2_key),
        "v2-empty-configuration": ("v3-chunk-keys", {"name": "v2", "configuration": {}}, v2_key),
        "default-short": ("v3-short-hand", "default", default_key),
        "v2-short": ("v3-short-hand", "v2", v2_key),
        "v2-slash": (
            "v3-chunk-keys",
            {"name": "v2", "configuration": {"separator": "/"}},
            lambda p: v2_key(p, "/"),
        ),
        "default-dot": (
            "v3-chunk-keys",
            {"name": "default", "configuration": {"separator": "."}},
            lambda p: default_key(p, "."),
        ),
    }
    for name, (row, encoding, key) in forms.items():
        for form, shape, chunks in (("2d", (13, 9), (5, 4)), ("0d", (), ())):

            def build(
                store: Path,
                encoding: Any = encoding,
                key: Any = key,
                shape: Any = shape,
                chunks: Any = chunks,
            ) -> Built:
                return write_v3(
                    store,
                    numbers("i4", shape, seed=3),
                    chunks,
                    key=key,
                    chunk_key_encoding=encoding,
                    skip=bool(shape),
                )

            recipes.add(f"keys-{name}-{form}", build, row, tags=("dtype:int32",))


def _add_top_level(recipes: Recipes) -> None:
    _simple(
        recipes,
        "key-ignorable",
        "v3-unknown-key",
        extension={"must_understand": False, "anything": [1, 2]},
    )
    _simple(
        recipes,
        "key-required",
        "v3-unknown-key",
        demand="refuse",
        extension={"must_understand": True},
    )
    _simple(recipes, "key-silent", "v3-unknown-key", demand="refuse", extension={"name": "example"})
    _simple(recipes, "key-not-object", "v3-unknown-key", demand="refuse", extension=5)
    _simple(recipes, "transformers-empty", "v3-metadata", storage_transformers=[])
    _simple(
        recipes,
        "transformers-unknown",
        "v3-storage-transformer",
        demand="refuse",
        storage_transformers=[{"name": "example.blocks", "configuration": {}}],
    )
    _simple(
        recipes,
        "transformers-unknown-short",
        "v3-storage-transformer",
        demand="refuse",
        storage_transformers=["example.blocks"],
    )
    _simple(recipes, "dimension-names-null", "v3-metadata", dimension_names=["y", None])
    _simple(recipes, "dimension-names-all-null", "v3-metadata", dimension_names=[None, None])
    _simple(recipes, "dimension-names-same", "v3-metadata", dimension_names=["x", "x"])
    _simple(recipes, "dimension-names-empty", "v3-metadata", dimension_names=["", "x"])
    _simple(
        recipes,
        "attributes-many",
        "v3-metadata",
        attributes={"a": None, "b": {"c": [1.5, "é"]}, "must_understand": True},
    )
    _simple(recipes, "zarr-format-4", "v3-unknown-key", demand="refuse", zarr_format=4)
    _simple(recipes, "no-fill", "v3-fill", demand="refuse", fill_value=ABSENT)


def _add_documents(recipes: Recipes) -> None:  # noqa: C901 - one case after another
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"title": "é"}}

    def document_only(store: Path) -> Built:
        built = write_v3(store, np.full((7, 5), 3, "i4"), (3, 2), fill=3, skip=False)
        for path in sorted(store.rglob("*"), reverse=True):
            if path.is_file() and path.name != "zarr.json":
                path.unlink()
        return built

    recipes.add("document-only", document_only, "v3-metadata", "shapes", tags=("dtype:int32",))

    def consolidated(store: Path, kind: str) -> Built:
        import json

        built = write_v3(store, numbers("f4", (13, 9)), (5, 4), path="inner/values")
        put(store, "inner/zarr.json", group)
        inside = {
            "inner": group,
            "inner/values": json.loads((store / "inner/values/zarr.json").read_text()),
        }
        document: Any = {"kind": "inline", "must_understand": False, "metadata": inside}
        if kind == "null":
            document = None
        if kind == "nested":
            nested = {
                "kind": "inline",
                "must_understand": False,
                "metadata": {"values": inside["inner/values"]},
            }
            document["metadata"] = inside | {"inner": group | {"consolidated_metadata": nested}}
        put(store, "zarr.json", group | {"consolidated_metadata": document})
        return built

    for kind in ("inline", "null", "nested"):
        recipes.add(
            f"consolidated-{kind}",
            functools.partial(consolidated, kind=kind),
            "v3-metadata",
            tags=("group", "consolidated"),
        )

    def no_parents(store: Path) -> Built:
        return write_v3(store, numbers("i2", (13, 9)), (5, 4), path="a/b/c")

    recipes.add("no-parent-documents", no_parents, "v3-metadata", tags=("group",))

    def odd_names(store: Path) -> Built:
        put(store, "zarr.json", group)
        return write_v3(store, numbers("i2", (13, 9)), (5, 4), path="ün ï/日本.x/-_~")

    recipes.add("odd-node-names", odd_names, "v3-metadata", tags=("group",))

    def array_attributes_absent(store: Path) -> Built:
        return write_v3(
            store,
            numbers("i2", (13, 9)),
            (5, 4),
            attributes=ABSENT,
            codecs=[LITTLE, CRC],
            encode=lambda b: with_crc(little(b)),
        )

    recipes.add("attributes-absent", array_attributes_absent, "v3-metadata")
    recipes.add(
        "array-consolidated-null",
        lambda s: write_v3(s, numbers("i2", (13, 9)), (5, 4), consolidated_metadata=None),
        "v3-metadata",
        demand="optional",
    )
