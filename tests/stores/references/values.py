"""The file that references point to, and what they give."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuzarr.stores.store import Store

DATA = bytes(range(200))


def value_of(store: Store, key: str = "k") -> bytes:
    blob = store.read(key)
    assert blob is not None
    return bytes(blob.data)
