"""zarr-python's stores as stores: those that are no directory, archive or bucket underneath.

Connections of an asynchronous store belong to the event loop that it was first awaited in: that is
zarr-python's own, unless a program awaits zarr-python in a loop of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gpuzarr.stores.remote.foreign import ForeignStore
from gpuzarr.stores.remote.in_flight import CONCURRENCY

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest


def open_zarr_store(store: Any, loop: asyncio.AbstractEventLoop | None = None) -> ForeignStore:
    """A store of what any `zarr.abc.store.Store` gives.

    Args:
        store: zarr-python's.
        loop: what it is awaited in, by another thread than those that read; None: zarr-python's.
    """
    return ForeignStore(ZarrStore(store, loop=loop), CONCURRENCY)


class ZarrStore:
    """See `gpuzarr.stores.remote.foreign.Source`."""

    def __init__(
        self,
        store: Any,
        name: str | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take a `zarr.abc.store.Store`; `loop` as in `open_zarr_store`."""
        self._store = store
        self._own_loop = loop
        self.name = name or _name_of(store)

    def __reduce__(self) -> tuple[object, ...]:
        return (ZarrStore, (self._store, self.name))

    def loop(self) -> asyncio.AbstractEventLoop:
        """The one that was given, or zarr-python's."""
        from zarr.core.sync import _get_loop  # noqa: PLC0415  it is there

        return _get_loop() if self._own_loop is None else self._own_loop

    async def fetch(self, key: str, start: int | None, stop: int | None) -> Any:
        """Some bytes of a value."""
        from zarr.core.buffer.cpu import buffer_prototype  # noqa: PLC0415  it is there

        found = await self._store.get(key, buffer_prototype, _range(start, stop))
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
