"""`CachedStore` against the contract of stores, with room for all, for some, and for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpuzarr.stores.cached.store import CachedStore
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.memory import MappingStore
from tests.stores.contract import StoreContract
from tests.stores.counting import CountingStore
from tests.stores.test_contract import write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr.stores.store import Store

    Make = Callable[[dict[str, bytes]], Store]

MIB = 1 << 20


class TestCacheInMemory(StoreContract):
    @pytest.fixture(params=[MIB, 1000, 0])
    def make(self, request: pytest.FixtureRequest) -> Make:
        return lambda objects: CachedStore(MappingStore(dict(objects)), request.param)


class TestCacheInFolder(StoreContract):
    @pytest.fixture(params=[MIB, 5000])
    def make(self, request: pytest.FixtureRequest, tmp_path: Path) -> Make:
        return lambda objects: CachedStore(
            LocalStore(write_files(tmp_path / "s", objects)), request.param, tmp_path / "cache"
        )


class TestCacheThatRevalidates(StoreContract):
    @pytest.fixture(params=["memory", "folder"])
    def make(self, request: pytest.FixtureRequest, tmp_path: Path) -> Make:
        folder = tmp_path / "cache" if request.param == "folder" else None

        def make(objects: dict[str, bytes]) -> Store:
            inner = LocalStore(write_files(tmp_path / "s", objects))
            return CachedStore(inner, MIB, folder, revalidate=True, documents=True)

        return make


class TestCacheOfFarStore(StoreContract):
    @pytest.fixture(params=[True, False])
    def make(self, request: pytest.FixtureRequest, tmp_path: Path) -> Make:
        return lambda objects: CachedStore(
            CountingStore(dict(objects), tells_sizes=request.param), MIB, tmp_path / "cache"
        )
