"""Zip archives that are objects of another store, against the contract of stores."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.zip import ahead as zip_ahead
from gpuzarr.stores.zip.store import ZipStore
from tests.stores.contract import StoreContract

from .far import KEY, open_far, pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr.stores.store import Store


class TestArchiveInMemory(StoreContract):
    @pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def make(self, request: pytest.FixtureRequest) -> Callable[[dict[str, bytes]], Store]:
        return lambda objects: ZipStore.of_object(
            MappingStore({KEY: pack(objects, request.param)}), KEY
        )


class TestArchiveThatTellsNoSizes(StoreContract):
    pickles = True

    @pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def make(self, request: pytest.FixtureRequest) -> Callable[[dict[str, bytes]], Store]:
        return lambda objects: open_far(pack(objects, request.param), tells_sizes=False)[0]


class TestArchiveWithoutCacheInSmallPieces(StoreContract):
    @pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def make(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[dict[str, bytes]], Store]:
        monkeypatch.setattr(zip_ahead, "AHEAD_NBYTES", 1000)
        monkeypatch.setattr(zip_ahead, "JOIN_NBYTES", 100)

        def make(objects: dict[str, bytes]) -> Store:
            (tmp_path / "s.zip").write_bytes(pack(objects, request.param))
            return ZipStore.of_object(LocalStore(tmp_path), "s.zip", cache_nbytes=0)

        return make
