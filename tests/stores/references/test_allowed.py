"""What references may read: what is allowed, and those that come from the network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.errors import NotFoundError, StoreError
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.references.store import ReferenceStore
from gpuzarr.stores.store import WHOLE

from .values import DATA, value_of

if TYPE_CHECKING:
    from pathlib import Path

# References from the network


def test_references_from_the_network(opened: dict[str, Any], folder: Path) -> None:
    local = str(folder / "in" / "data.nc")
    refs = {
        "up": ["../data/a.nc", 0, 4],
        "here": ["b.nc"],
        "out": ["../../../x.nc"],
        "path": [local],
        "url": [f"file://{local}"],
    }
    bucket = MappingStore(
        {"in/refs/r.json": json.dumps(refs).encode(), "in/data/a.nc": DATA, "in/refs/b.nc": b"b"}
    )
    opened["s3://bucket"] = bucket
    opened["s3://bucket/in/refs"] = MappingStore({"r.json": bucket.mapping["in/refs/r.json"]})
    options = {"region": "here", "target_options": {"region": "there"}}
    store = ReferenceStore("s3://bucket/in/refs/r.json", storage_options=options)
    assert opened["options of s3://bucket/in/refs"] == {"region": "here"}
    assert value_of(store, "up") == DATA[:4]
    assert value_of(store, "here") == b"b"
    assert opened["options of s3://bucket"] == {"region": "there"}
    for key in ("out", "path", "url"):
        with pytest.raises(StoreError):
            store.read(key)
    trusting = ReferenceStore(
        "s3://bucket/in/refs/r.json", allowed_targets=[folder, "s3://bucket/in/data"]
    )
    assert value_of(trusting, "path") == value_of(trusting, "url") == DATA
    assert value_of(trusting, "up") == DATA[:4]
    with pytest.raises(StoreError, match="allowed_targets"):
        trusting.read("here")
    with pytest.raises(NotFoundError):
        ReferenceStore("s3://bucket/in/refs/other.json")


# What is allowed


def test_nothing_is_read_outside_of_what_is_allowed(folder: Path) -> None:
    (folder / "inside").mkdir()
    (folder / "in.nc").write_bytes(DATA)
    (folder / "in" / "link.nc").symlink_to(folder / "in.nc")
    refs = {
        "good": ["in/data.nc"],
        "also": [str(folder / "in" / ".." / "in" / "data.nc")],
        "beside": ["in.nc"],
        "up": ["in/../in.nc"],
        "link": ["in/link.nc"],
        "else": ["s3://bucket/in/data.nc"],
        "host": ["https://host.evil/data/x"],
        "near": ["https://host/database"],
    }
    for allowed in ([folder / "in", "https://host/data"], (str(folder / "in"),), folder / "in"):
        store = ReferenceStore.from_document(refs, base=folder, allowed_targets=allowed)  # type: ignore[arg-type]
        assert value_of(store, "good") == value_of(store, "also") == DATA
        for key in refs.keys() - {"good", "also"}:
            with pytest.raises(StoreError, match="allowed_targets"):
                store.read(key)
            pending = store.start_reads([key], [0], [WHOLE])
            with pytest.raises(StoreError, match="allowed_targets"):
                pending.result(0)
    nothing = ReferenceStore.from_document(refs, base=folder, allowed_targets=[])
    with pytest.raises(StoreError, match="allowed_targets"):
        nothing.read("good")
    options = {"allowed_targets": [str(folder / "inside")]}
    with pytest.raises(StoreError, match="allowed_targets"):
        ReferenceStore.from_document(refs, base=folder, storage_options=options).read("good")


def test_allowed_urls_end_at_slashes(opened: dict[str, Any]) -> None:
    opened["s3://bucket"] = MappingStore({"data/x": DATA, "database": DATA})
    opened["s3://bucket2"] = MappingStore({"data/x": DATA})
    refs = {
        "good": ["s3://bucket/data/x"],
        "near": ["s3://bucket/database"],
        "far": ["s3://bucket2/data/x"],
    }
    for allowed in ("s3://bucket/data", "s3://bucket/data/"):
        store = ReferenceStore.from_document(refs, allowed_targets=[allowed])
        assert value_of(store, "good") == DATA
        for key in ("near", "far"):
            with pytest.raises(StoreError, match="allowed_targets"):
                store.read(key)
    everything = ReferenceStore.from_document(refs, allowed_targets=["s3://bucket"])
    assert value_of(everything, "near") == DATA
