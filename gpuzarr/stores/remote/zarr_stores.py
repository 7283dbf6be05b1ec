"""zarr-python's stores as stores: those that are no directory, archive or bucket underneath."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gpuzarr.stores.remote.foreign import ForeignStore
from gpuzarr.stores.remote.in_flight import CONCURRENCY

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest


def open_zarr_store(store: Any) -> ForeignStore:
    """A store of what any `zarr.abc.store.Store` gives."""
    return ForeignStore(ZarrStore(store), CONCURRENCY)


class ZarrStore:
    """See `gpuzarr.stores.remote.foreign.Source`."""

    def __init__(self, store: Any, name: str | None = None) -> None:
        """Take a `zarr.abc.store.Store`."""
        self._store = store
        self.name = name or _name_of(store)

    def __reduce__(self) -> tuple[object, ...]:
        return (ZarrStore, (self._store, self.name))

    async def fetch(self, key: str, start: int | None, stop: int | None) -> Any:
        """Some bytes of a value."""
        from zarr.core.buffer import default_buffer_prototype  # noqa: PLC0415  it is there

        found = await self._store.get(key, default_buffer_prototype(), _range(start, stop))
        return None if found is None else found.as_buffer_like()

    async def size(self, key: str) -> int:
        """Bytes of a value."""
        return int(await self._store.getsize(key))

    async def children(self, prefix: str) -> list[tuple[str, bool]]:
        """Names below a prefix: values are those that exist, folders the others.

        Stores that know what Zarr's keys are refuse to be asked for others.
        """
        if not self._store.supports_listing:
            raise NotImplementedError
        names = [name.rstrip("/") async for name in self._store.list_dir(prefix)]
        names = [name for name in dict.fromkeys(names) if name]
        start = prefix + "/" if prefix else ""
        asked = (self._store.exists(start + name) for name in names)
        there = await asyncio.gather(*asked, return_exceptions=True)
        return [(name, is_value is not True) for name, is_value in zip(names, there, strict=True)]


def _name_of(store: Any) -> str:
    text = str(store)
    kind = type(store)
    package = kind.__module__.partition(".")[0]
    return f"<{kind.__name__} of {package}>" if " at 0x" in text else text


def _range(start: int | None, stop: int | None) -> ByteRequest | None:
    from zarr.abc.store import (  # noqa: PLC0415  it is there
        OffsetByteRequest,
        RangeByteRequest,
        SuffixByteRequest,
    )

    if stop is not None:
        return RangeByteRequest(start or 0, stop)
    if start is None:
        return None
    return SuffixByteRequest(-start) if start < 0 else OffsetByteRequest(start)
