"""A cache of what was read from a store far away: `CachedStore`.

    store = CachedStore("s3://bucket/data.zarr", 10 << 30, folder="/scratch/me")
    array = gpuzarr.open_array(store, path="images/0")

It keeps byte ranges as they were read, encoded, so that it takes no more room than the store does,
and serves each range that lies in one of them. What is decoded again and again is better kept by
`gpuzarr.Loader(cache_nbytes=...)`, which keeps decoded chunks.

What is served, and what it costs:

- **chunks and shard indexes**, from the cache without a request. Data that are rewritten in place
  may be served as they were, until they are dropped or `clear` is called; an object never half new:
  each request that must be made tells the object's present version, and what is kept of another one
  is dropped. `revalidate=True` asks for the version with every hit: one request of no bytes, which
  saves transfer but not latency; stores that tell no versions are then read each time;
- **metadata documents**, always from the store: who opens an array again wants to see its changes.
  `documents=True` keeps them too, for data that never change;
- **missing objects and listings**, always from the store: a writer may add to them at any time.

Why own code (2026-11): diskcache bounds its folder only roughly, takes a transaction of SQLite for
every hit that counts, and unpickles what it finds in its folder; cachetools has neither folder nor
bytes; fsspec's caches are made of whole files or are not bounded; zarr-python's `CacheStore` is
experimental, keeps byte ranges in memory alone and for one process.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from gpuzarr.errors import UnsupportedError
from gpuzarr.stores.cached.folder import FolderRanges
from gpuzarr.stores.cached.memory import MemoryRanges
from gpuzarr.stores.resolve import open_store
from gpuzarr.stores.store import WHOLE, Blob, Store, check_key, gap_of, give_up_when

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gpuzarr.stores.cached.ranges import KeptRanges
    from gpuzarr.stores.store import Buffer, Pending

_DOCUMENTS = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})


class CachedStore(Store):
    """Another store, with a cache in front; see the module's text.

    Threads share it. A pickle holds the store and the folder; a cache in memory begins empty in
    every process, one in a folder is shared by all processes of the user that name it.
    """

    def __init__(  # noqa: PLR0913  all but the first two are choices
        self,
        store: Any,
        nbytes: int,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        revalidate: bool = False,
        documents: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a cache in front of a store.

        Args:
            store: anything that `gpuzarr.open` takes: a URL, a path, a mapping, a store.
            nbytes: the most that is kept, in memory or in the folder.
            folder: where to keep it, on a local disk; None: in memory. Everything is in its folder
                "gpuzarr-cache", which only this user may enter.
            name: tells the store apart from others in the same folder; default its own name, such
                as its URL. Needed for stores without one, such as mappings, and where two servers
                have the same URLs (other endpoints).
            revalidate: ask the store with every hit whether the object is still the same.
            documents: keep metadata documents too.
            storage_options: for stores that are given by a URL, as in `gpuzarr.open`.

        Raises:
            ValueError: `nbytes` is negative.
            StoreError: the folder cannot be made, or others may write to it.
            UnsupportedError: the store has no name that tells it apart; or as `gpuzarr.open`.
        """
        if nbytes < 0:
            raise ValueError(f"nbytes={nbytes!r}: the size of a cache is not negative")
        self.store, inside = open_store(store, storage_options=storage_options)
        self.nbytes = int(nbytes)
        self.folder = None if folder is None else os.path.abspath(folder)  # noqa: PTH100
        self.revalidate = revalidate
        self.documents = documents
        self.name = self.store.name
        self.gap_nbytes = gap_of(self.store)
        """See `gpuzarr.stores.store.gap_of`."""
        self._below = f"{inside}/" if inside else ""
        self._kept: KeptRanges
        if self.folder is None:
            self._kept = MemoryRanges(self.nbytes)
            return
        if name is None and self.name.startswith("<"):
            raise UnsupportedError(
                f"nothing tells {self.name} apart from other stores of which ranges are kept in"
                f" {self.folder}: give it a name that nothing else has, with name="
            )
        self._kept = FolderRanges(self.folder, self.nbytes, name or self.name)

    def __repr__(self) -> str:
        where = "memory" if self.folder is None else repr(self.folder)
        return f"CachedStore({self.store!r}, {self.nbytes} bytes in {where})"

    def clear(self, key: str) -> None:
        """Forget what is kept of one object, because it is known to have changed."""
        self._kept.forget(self._key(key))

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Read one byte range: of what is kept, else of the store. See `Store.read`."""
        key = self._key(key)
        if self._keeps(key):
            blob = self._kept.find(key, offset, nbytes)
            if blob is not None and (not self.revalidate or self._is_current(key, blob)):
                return blob
        return self._took(key, offset, nbytes, self.store.read(key, offset, nbytes, allocate))

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        """Start to read all that is not kept."""
        return _StartedReads(self, [self._key(key) for key in keys], offsets, nbytes)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The children in the store itself."""
        if prefix:
            check_key(prefix)
        return self.store.list(f"{self._below}{prefix}".rstrip("/"))

    def size(self, key: str) -> int | None:
        """Bytes of an object: as it is known from what is kept, else from the store."""
        key = self._key(key)
        known = None
        if self._keeps(key) and not self.revalidate:
            known = self._kept.size(key)
        return self.store.size(key) if known is None else known

    def path_of(self, key: str) -> Path | None:
        """As the store says: a local file needs no cache."""
        return self.store.path_of(self._key(key))

    def _key(self, key: str) -> str:
        """The key in the store itself, which judges it."""
        return self._below + key

    def _keeps(self, key: str) -> bool:
        return self.documents or key.rpartition("/")[2] not in _DOCUMENTS

    def _is_current(self, key: str, blob: Blob) -> bool:
        """Whether the store has the version that a range is of."""
        return self._judge(key, blob, self.store.read(key, 0, 0))

    def _judge(self, key: str, blob: Blob, now: Blob | None) -> bool:
        if now is not None and now.validator is not None and now.validator == blob.validator:
            return True
        self._kept.forget(key)
        return False

    def _took(self, key: str, offset: int, nbytes: int, blob: Blob | None) -> Blob | None:
        """Keep what the store gave."""
        if self._keeps(key):
            if blob is None:
                self._kept.forget(key)
            else:
                self._kept.keep(key, offset, nbytes, blob)
        return blob


class _StartedReads:
    """Reads of which those that are not kept were started, as `Pending`."""

    def __init__(
        self,
        cached: CachedStore,
        keys: Sequence[str],
        offsets: Sequence[int],
        nbytes: Sequence[int],
    ) -> None:
        self._cached = cached
        self._keys = keys
        self._offsets = offsets
        self._nbytes = nbytes
        self._started: dict[int, int] = {}
        """For rows that are not kept, the number of the store's read."""
        self._asked: dict[str, int] = {}
        """For objects of rows that are kept, the number of the read that tells their version."""
        self._answers: dict[str, Blob | None] = {}
        self._lock = threading.Lock()
        asked: list[tuple[str, int, int]] = []
        for row, wanted in enumerate(zip(keys, offsets, nbytes, strict=True)):
            key = wanted[0]
            if not (cached._keeps(key) and cached._kept.holds(*wanted)):  # noqa: SLF001  one module
                self._started[row] = len(asked)
                asked.append(wanted)
            elif cached.revalidate and key not in self._asked:
                self._asked[key] = len(asked)
                asked.append((key, 0, 0))
        self._pending: Pending | None = None
        if asked:
            self._pending = cached.store.start_reads(
                [key for key, _, _ in asked],
                [offset for _, offset, _ in asked],
                [size for _, _, size in asked],
            )

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """Hand it on; see `gpuzarr.stores.store.give_up_when`."""
        if self._pending is not None:
            give_up_when(self._pending, stopped)

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        """Wait for one read; see `Pending`."""
        cached = self._cached
        wanted = (self._keys[row], self._offsets[row], self._nbytes[row])
        started = self._started.get(row)
        if self._pending is not None and started is not None:
            blob = self._pending.result(started, allocate)
        else:
            kept = cached._kept.find(*wanted)  # noqa: SLF001  one module
            if kept is not None and (not cached.revalidate or self._is_current(wanted[0], kept)):
                return kept
            blob = cached.store.read(*wanted, allocate)
        return cached._took(*wanted, blob)  # noqa: SLF001

    def _is_current(self, key: str, kept: Blob) -> bool:
        with self._lock:  # a read gives its answer once, and several rows are of one object
            if key not in self._answers and self._pending is not None:
                self._answers[key] = self._pending.result(self._asked[key])
        return self._cached._judge(key, kept, self._answers.get(key))  # noqa: SLF001
