"""The bytes that a store of zarr-python's gives, as a store of ours.

Files, archives, dicts and object storage are read without zarr-python. All other stores, wrappers,
caches and those of other packages among them, are asked by their own methods: in the event loop
that a read comes from, where zarr-python would await them as well. The read waits in another
thread meanwhile. It has to be a thread of ours: those of the loop's executor may all be taken by
reads, and a store that needs one to answer would wait for them, and they for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zarr.storage import GpuMemoryStore, LocalStore, MemoryStore, ObjectStore, ZipStore

from gpuzarr.errors import NotFoundError, UnsupportedError
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.remote.daemon_threads import DaemonThreads
from gpuzarr.stores.remote.zarr_stores import open_zarr_store
from gpuzarr.stores.resolve import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from zarr.abc.store import Store as ZarrStore

    from gpuzarr.stores.store import Store

MOST_WAITING = 64
"""Reads that wait for storage at a time; each has a thread."""

_threads = DaemonThreads(MOST_WAITING, "gpuzarr-zarr")


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Where an array of zarr-python's is read from."""

    store: Store
    waits: bool = False
    """Whether its answers come late: reads of it must not hold up an event loop."""
    has_validators: bool = True
    """Whether it tells versions of an object apart, so that shard indexes may be remembered."""


def open_directly(store: ZarrStore) -> Storage | None:
    """The same bytes without zarr-python; None where only the store itself gives them.

    Raises:
        UnsupportedError: it is not there, or better read by zarr-python.
    """
    zarrs: Any = store
    kind = type(store)
    if kind is LocalStore or (kind is ZipStore and zarrs.read_only and zarrs.path is not None):
        try:
            return Storage(open_store(store, follow_symlinks=True)[0])
        except NotFoundError as error:
            raise UnsupportedError(f"the store is not there: {error}") from error
    if kind is ObjectStore:
        # Some HTTP servers tell neither an etag nor when something was changed.
        tells = type(zarrs.store).__name__ != "HTTPStore"
        return Storage(open_store(store)[0], waits=True, has_validators=tells)
    if kind is MemoryStore:
        # There is no other way to its bytes that needs no event loop.
        mapping = zarrs._store_dict  # noqa: SLF001
        return Storage(MappingStore(mapping, str(store))) if type(mapping) is dict else None
    if isinstance(store, GpuMemoryStore):
        raise UnsupportedError("the values of a GpuMemoryStore are in a GPU's memory already")
    return None


def open_awaited(store: ZarrStore, loop: asyncio.AbstractEventLoop) -> Storage:
    """What a store's own methods give, which `loop` runs."""
    return Storage(open_zarr_store(store, loop), waits=True, has_validators=False)


async def wait_apart(read: Callable[[], None]) -> None:
    """Do a read in a thread that no store needs."""
    await asyncio.get_running_loop().run_in_executor(_threads, read)
