"""Object storage and HTTP servers, by obstore.

One request brings one byte range, with the object's etag and size in the same answer: nothing is
asked for beforehand. Requests run in the background loop, see
`gpuzarr.stores.remote.in_flight`; obstore repeats those that fail for a passing reason, see
`gpuzarr.stores.remote.options`.

obstore's own threads do not survive a fork. Stores that were read before it say so in the child,
where they would wait for ever otherwise.
"""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from gpuzarr.errors import StoreError, UnsupportedError
from gpuzarr.stores.remote.errors import explain, is_missing, is_range_error
from gpuzarr.stores.remote.in_flight import CONCURRENCY, GAP_NBYTES, Arriving, InFlight
from gpuzarr.stores.remote.links import find_links
from gpuzarr.stores.remote.options import open_url, public_name
from gpuzarr.stores.store import WHOLE, Blob, Store, check_key, find_range

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from gpuzarr.stores.remote.in_flight import Found
    from gpuzarr.stores.store import Buffer, Pending

MOST_AHEAD_NBYTES = 1 << 26
"""Objects of unknown size up to this are fetched ahead; larger ones when they are asked for."""

PIECE_NBYTES = 1 << 22
"""Bytes of a large object that are held before they are where they belong."""

MOST_OFFSET = 2**63 - 1

_process: list[int] = []
"""The process in which obstore was used first: its threads are there."""


class ObjectStore(Store):
    """The objects below a prefix of a bucket, a container, or a place on an HTTP server."""

    gap_nbytes = GAP_NBYTES

    def __init__(
        self, store: Any, *, name: str | None = None, concurrency: int = CONCURRENCY
    ) -> None:
        """Read through a store of obstore's.

        Args:
            store: any of `obstore.store`.
            name: what errors and reprs call it.
            concurrency: requests that are with the server at a time.
        """
        self._store = store
        self._made_of: tuple[str, Mapping[str, Any]] | None = None
        self._reads = InFlight(concurrency)
        self.name = name or _name_of(store)
        self._lists = type(store).__name__ != "HTTPStore"
        self._link = find_links(store)

    @classmethod
    def from_url(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> ObjectStore:
        """Open a URL.

        Args:
            url: `s3://`, `gs://`, `gcs://`, `az://`, `abfs://`, `abfss://`, `http://`, `https://`
                or `memory://`.
            storage_options: see `gpuzarr.stores.remote.options`.

        Raises:
            UnsupportedError: obstore is not installed, or an option is not known.
            StoreError: the URL or an option cannot be used.
        """
        options = dict(storage_options or {})
        concurrency = options.pop("concurrency", CONCURRENCY)
        if isinstance(concurrency, str) and concurrency.isdecimal():
            concurrency = int(concurrency)
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise UnsupportedError(
                f"concurrency={concurrency!r}: give a number of requests, at least 1",
                store=public_name(url),
            )
        opened = cls(open_url(url, options), name=public_name(url), concurrency=concurrency)
        opened._made_of = (url, dict(storage_options or {}))
        return opened

    @property
    def concurrency(self) -> int:
        """Requests that are with the server at a time."""
        return self._reads.concurrency

    def __repr__(self) -> str:
        return f"ObjectStore({self.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        if self._made_of is not None:
            return (ObjectStore.from_url, self._made_of)
        return (_remake, (self._store, self.name, self.concurrency))

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Read one byte range of one object; see `Store.read`."""
        self._check(key)
        return self._reads.read(partial(self._get, key, offset, nbytes, 0), allocate)

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        """Send all requests now."""
        for key in keys:
            self._check(key)
        most = MOST_AHEAD_NBYTES
        return self._reads.start(
            [
                partial(self._get, key, offset, count, most if count == WHOLE else MOST_OFFSET)
                for key, offset, count in zip(keys, offsets, nbytes, strict=True)
            ],
            nbytes,
        )

    def size(self, key: str) -> int | None:
        """Bytes of an object, by a request for its properties."""
        self._check(key)
        found = self._reads.run(partial(self._head, key))
        return None if found is None else found[0]

    def url_of(self, key: str) -> str | None:
        """A URL that gives an object to anybody; see `gpuzarr.stores.store.url_of`."""
        return None if self._link is None else self._link(self._check(key))

    def start_looks(self, keys: Sequence[str]) -> Pending:
        """Ask for sizes and validators: a blob without bytes each."""
        for key in keys:
            self._check(key)
        return self._reads.start([partial(self._look, key) for key in keys], [0] * len(keys))

    def _check(self, key: str) -> str:
        try:
            check_key(key)
            key.encode()
        except StoreError as error:
            raise error.at(store=self.name) from None
        except UnicodeEncodeError as error:
            raise StoreError(
                "this key cannot be written as UTF-8", store=self.name, key=ascii(key)
            ) from error
        if _process and _process[0] != os.getpid():
            raise StoreError(
                "this process was forked from one that had read from object storage already, and"
                " obstore's threads did not come along: start workers by spawn or forkserver"
                " (multiprocessing_context='spawn' in a DataLoader)",
                store=self.name,
                key=key,
            )
        if not _process:
            _process.append(os.getpid())
        return key

    async def _get(self, key: str, offset: int, nbytes: int, most: int) -> Found:
        """One range of one object; left where it is for the moment if it is longer than `most`."""
        try:
            wanted = await self._wanted(key, offset, nbytes)
            if isinstance(wanted, Blob):
                return wanted
            options = None if wanted is None else {"range": wanted}
            found = await self._store.get_async(key, options=options)
            return await self._take(found, key, offset, nbytes, most)
        except FileNotFoundError as error:
            if is_missing(error):
                return None
            raise explain(error, self.name, key) from error
        except StoreError as error:
            raise error.at(store=self.name) from None
        except Exception as error:
            empty = await self._empty(key, offset, nbytes) if is_range_error(error) else None
            if empty is None:
                raise explain(error, self.name, key) from error
            return empty

    async def _take(self, found: Any, key: str, offset: int, nbytes: int, most: int) -> Found:
        """What an answer brings, which has its head only so far."""
        meta, (start, stop) = found.meta, found.range
        size, validator = meta["size"], _validator(meta)
        if find_range(size, key, offset, nbytes) != (start, stop):
            raise StoreError(
                f"the server sent bytes {start} to {stop} of {size}, which were not asked for",
                key=key,
            )
        if stop - start > most:
            fill = partial(self._fill, found, key)
            return Arriving(
                key,
                stop - start,
                validator,
                size,
                lambda memory: self._reads.submit(partial(fill, memory)),
            )
        data = memoryview(await found.bytes_async())
        if len(data) != stop - start:
            raise _cut_short(key, len(data), stop - start)
        return Blob(data, validator, size)

    async def _wanted(self, key: str, offset: int, nbytes: int) -> Any:
        """The range as obstore's option: None for all; a `Blob` where there is nothing to fetch."""
        if offset == 0 and nbytes == WHOLE:
            return None
        if nbytes == WHOLE and 0 < offset <= MOST_OFFSET:
            return {"offset": offset}
        if nbytes == WHOLE and -MOST_OFFSET <= offset < 0 and self._suffixes:
            return {"suffix": -offset}
        if offset >= 0 and nbytes > 0 and offset + nbytes <= MOST_OFFSET:
            return (offset, offset + nbytes)
        # Empty, from the end but not to it, or no range at all: the size must be known.
        found = await self._head(key)
        if found is None:
            raise FileNotFoundError
        size, validator = found
        start, stop = find_range(size, key, offset, nbytes)
        return Blob(memoryview(b""), validator, size) if start == stop else (start, stop)

    @property
    def _suffixes(self) -> bool:
        """Whether the last bytes of an object can be asked for; Azure's API does not have that."""
        return type(self._store).__name__ != "AzureStore"

    async def _empty(self, key: str, offset: int, nbytes: int) -> Blob | None:
        """After a range was refused: nothing, where that is what it holds, which servers refuse.

        Raises:
            StoreError: it is not inside the object.
        """
        try:
            found = await self._head(key)
        except StoreError:
            return None
        if found is None:
            return None
        size, validator = found
        try:
            start, stop = find_range(size, key, offset, nbytes)
        except StoreError as error:
            raise error.at(store=self.name) from None
        return Blob(memoryview(b""), validator, size) if start == stop else None

    async def _look(self, key: str) -> Blob | None:
        """An object's size and validator."""
        found = await self._head(key)
        return None if found is None else Blob(memoryview(b""), found[1], found[0])

    async def _head(self, key: str) -> tuple[int, Hashable] | None:
        try:
            meta = await self._store.head_async(key)
        except FileNotFoundError as error:
            if is_missing(error):
                return None
            raise explain(error, self.name, key) from error
        except Exception as error:
            raise explain(error, self.name, key) from error
        return meta["size"], _validator(meta)

    async def _fill(self, found: Any, key: str, memory: memoryview) -> None:
        """Fetch what an answer announced."""
        done = 0
        try:
            async for piece in found.stream(min_chunk_size=PIECE_NBYTES):
                data = memoryview(piece)
                if done + len(data) > len(memory):
                    break
                memory[done : done + len(data)] = data
                done += len(data)
        except Exception as error:
            raise explain(error, self.name, key) from error
        if done != len(memory):
            raise _cut_short(key, done, len(memory)).at(store=self.name)

    async def _list(self, prefix: str) -> list[tuple[str, bool]]:
        try:
            found = await self._store.list_with_delimiter_async(prefix or None)
        except Exception as error:
            raise explain(error, self.name, prefix or None, verb="list") from error
        names = [(path.rstrip("/").rpartition("/")[2], True) for path in found["common_prefixes"]]
        names += [(meta["path"].rpartition("/")[2], False) for meta in found["objects"]]
        return [(name, is_folder) for name, is_folder in names if name]

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The direct children of a prefix, from the storage's own listing."""
        if prefix:
            self._check(prefix)
        if not self._lists:
            raise UnsupportedError(
                "an HTTP server does not list what it has: open a group with consolidated metadata,"
                " or name the node by its path (path=...)",
                store=self.name,
            )
        return iter(self._reads.run(partial(self._list, prefix)))


def _cut_short(key: str, nbytes: int, promised: int) -> StoreError:
    return StoreError(f"the server sent {nbytes} bytes where {promised} were promised", key=key)


def _name_of(store: Any) -> str:
    """What obstore calls a store, without a query that may be secret."""
    text = repr(store)
    if " at 0x" in text:
        return f"<{type(store).__name__} of obstore>"
    return re.sub(r"\?[^\"')]*", "", text)


def _validator(meta: Mapping[str, Any]) -> Hashable:
    """What changes when the object does: its etag, else when it was changed and its size."""
    if meta["e_tag"] is not None:
        return str(meta["e_tag"])
    changed = meta["last_modified"]
    return (changed, meta["size"]) if changed is not None and changed.timestamp() > 0 else None


def _remake(store: Any, name: str, concurrency: int) -> ObjectStore:
    return ObjectStore(store, name=name, concurrency=concurrency)
