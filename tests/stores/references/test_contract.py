"""Stores of references against the contract of all stores, whatever they point to."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.references import targets as references_targets
from gpuzarr.stores.references.store import ReferenceStore
from tests.stores.contract import StoreContract

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gpuzarr.stores.store import Store

    Make = Callable[[dict[str, bytes]], Store]

GAP = 7
"""Bytes between two objects in the file that holds them."""


def pack(objects: dict[str, bytes]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """One file with all objects in it, and where each is."""
    body = b"\xff" * 100
    places = {}
    for key, value in objects.items():
        places[key] = (len(body), len(value))
        body += value + b"\xff" * GAP
    return body, places


class TestInline(StoreContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda objects: ReferenceStore.from_document(
            {
                key: "base64:" + base64.b64encode(value).decode() if value else ""
                for key, value in objects.items()
            }
        )


class TestRangesOfAFile(StoreContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        def make(objects: dict[str, bytes]) -> Store:
            body, places = pack(objects)
            (tmp_path / "packed.h5").write_bytes(body)
            refs = {key: ["packed.h5", *place] for key, place in places.items()}
            return ReferenceStore.from_document({"version": 1, "refs": refs}, base=tmp_path)

        return make


class TestWholeFiles(StoreContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        def make(objects: dict[str, bytes]) -> Store:
            refs = {}
            for number, (key, value) in enumerate(objects.items()):
                (tmp_path / f"{number}.bin").write_bytes(value)
                refs[key] = [f"{{{{u}}}}/{number}.bin"]
            document = {"version": 1, "templates": {"u": f"file://{tmp_path}"}, "refs": refs}
            return ReferenceStore.from_document(document)

        return make


class TestOtherStores(StoreContract):
    """Ranges of one object, and whole objects, of a store that a URL opens."""

    @pytest.fixture(params=["ranges", "whole"])
    def make(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
        def make(objects: dict[str, bytes]) -> Store:
            body, places = pack(objects)
            opened = {"s3://bucket": MappingStore({"in/packed.h5": body, **objects})}

            def open_url(url: str, storage_options: Mapping[str, Any]) -> Store:
                assert storage_options == {"anon": True}
                return opened[url]

            monkeypatch.setattr(references_targets, "open_url", open_url)
            if request.param == "ranges":
                refs = {key: ["s3://bucket/in/packed.h5", *place] for key, place in places.items()}
            else:
                refs = {key: [f"s3://bucket/{key}"] for key in objects}
            return ReferenceStore.from_document(
                refs, storage_options={"target_options": {"anon": True}}
            )

        return make
