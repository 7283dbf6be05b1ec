"""What tests of references share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.stores.references import store as references
from gpuzarr.stores.references import targets as references_targets

from .values import DATA

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gpuzarr.stores.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the file "in/data.nc"."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "data.nc").write_bytes(DATA)
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stores by URL, and the options that each was opened with, by "options of ..."."""
    stores: dict[str, Any] = {}

    def open_url(url: str, storage_options: Mapping[str, Any]) -> Store:
        stores[f"options of {url}"] = dict(storage_options)
        stores["times"] = stores.get("times", 0) + 1
        store: Store = stores[url]
        return store

    monkeypatch.setattr(references_targets, "open_url", open_url)
    monkeypatch.setattr(references, "open_url", open_url)
    return stores
