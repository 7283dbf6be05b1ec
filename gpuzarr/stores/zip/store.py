"""A zip archive as it is: every entry an object, its name the key.

The directory is read once, when the store is made, and the archive stays that one, whatever is put
in its place later: a file stays open, and an object of another store that was replaced is refused.

Entries are read without a lock by any number of threads. In a file, stored ones, which is how Zarr
writers make them, cost two reads at first and then one. In an object of another store each is one
request, or two that are made together, and neighbours share one: see `gpuzarr.stores.zip.ahead`.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING

from gpuzarr.errors import GpuzarrError
from gpuzarr.stores.store import WHOLE, Blob, Store, check_key, find_range, gap_of
from gpuzarr.stores.zip.ahead import StartedEntries
from gpuzarr.stores.zip.archive import Archive
from gpuzarr.stores.zip.entries import STORED
from gpuzarr.stores.zip.source import FileSource, ObjectSource

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from gpuzarr.stores.store import Buffer, Pending
    from gpuzarr.stores.zip.source import Source

_AFTER_SLASH = chr(ord("/") + 1)

CACHE_NBYTES = 64 << 20
"""Bytes of decompressed entries that are kept, by default."""


class ZipStore(Store):
    """The entries of a zip archive. The archive's top is the store's root, whatever it holds."""

    gap_nbytes: int | None = None
    """See `gpuzarr.stores.store.gap_of`."""

    def __init__(self, path: str | os.PathLike[str], *, cache_nbytes: int = CACHE_NBYTES) -> None:
        """Open the archive and read its directory.

        Args:
            path: the file; for an archive that lies elsewhere see `of_object`.
            cache_nbytes: compressed entries up to this size are kept in memory, in sum no more than
                this, where only parts of them are asked for. Parts of larger ones are decompressed
                from the entry's beginning every time: do not compress an archive of shards.

        Raises:
            NotFoundError: there is no such file.
            StoreError: it cannot be read, or is not a zip archive, or a damaged one.
        """
        source = FileSource(path)
        self.path: Path | None = Path(source.name)
        """The file; None for an object of another store."""
        self._use(source, cache_nbytes)

    @classmethod
    def of_object(cls, store: Store, key: str, *, cache_nbytes: int = CACHE_NBYTES) -> ZipStore:
        """Open an archive that is an object of another store, such as one on the network.

        Its directory is read by at most two requests, the second where it has more than 64 KiB
        (about 600 entries). A pickle holds the other store, and reads the directory again.

        Args:
            store: where it lies.
            key: its key.
            cache_nbytes: as above.

        Raises:
            NotFoundError: there is no such object.
            StoreError: it cannot be read, or is not a zip archive, or a damaged one.
        """
        made = cls.__new__(cls)
        made.path = None
        made.gap_nbytes = gap_of(store)
        made._use(ObjectSource(store, key), cache_nbytes)  # noqa: SLF001 -- a constructor
        return made

    def _use(self, source: Source, cache_nbytes: int) -> None:
        self.name = source.name
        self._source = source
        self._archive = Archive(source, cache_nbytes)
        self._sorted: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"ZipStore({self.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        limit = self._archive.inflated.limit_nbytes
        if isinstance(self._source, ObjectSource):
            return (_remake_of_object, (self._source.store, self._source.key, limit))
        return (_remake, (self.name, limit))

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Read one byte range of one entry; see `Store.read`.

        The checksum is compared where the whole entry is read or decompressed.
        """
        archive = self._archive
        if archive.source.has_latency:
            return self.start_reads((key,), (offset,), (nbytes,)).result(0, allocate)
        entry = archive.entries.get(key)
        if entry is None:
            check_key(key)
            return None
        try:
            start, stop = find_range(entry.size, key, offset, nbytes)
            if entry.method == STORED:
                data = archive.find_data(entry, key)
                memory = archive.source.read(key, data + start, stop - start, allocate)
                archive.check_whole(entry, key, memory)
            else:
                memory = archive.decompress(
                    entry, key, start, stop, allocate, lambda: archive.stored_bytes(entry, key)
                )
        except GpuzarrError as error:
            error.at(store=self.name)
            raise
        return Blob(memory, archive.validator(entry), entry.size)

    @property
    def reads_when_asked(self) -> bool:
        """Whether the archive is a file; see `gpuzarr.stores.store.reads_when_asked`."""
        return not self._source.has_latency

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        """Ask the other store for all ranges now; those of a file are read when asked for."""
        if self._source.has_latency:
            return StartedEntries(self._archive, keys, offsets, nbytes)
        return super().start_reads(keys, offsets, nbytes)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The direct children of `prefix` in the archive's directory."""
        if prefix:
            check_key(prefix)
        keys = self._sorted
        if keys is None:  # two threads may both sort; they get the same
            keys = self._sorted = tuple(sorted(self._archive.entries))
        return _iter_sorted(keys, prefix + "/" if prefix else "")

    def size(self, key: str) -> int | None:
        """Bytes of an entry, as the directory promises."""
        entry = self._archive.entries.get(key)
        if entry is None:
            check_key(key)
            return None
        return entry.size


def _iter_sorted(keys: tuple[str, ...], start: str) -> Iterator[tuple[str, bool]]:
    """The children below `start` ("" or "a/b/") among sorted keys, skipping what lies deeper."""
    place_ = bisect_left(keys, start)
    while place_ < len(keys) and keys[place_].startswith(start):
        name, slash, _ = keys[place_][len(start) :].partition("/")
        yield name, bool(slash)
        if slash:
            place_ = bisect_left(keys, start + name + _AFTER_SLASH, place_)
        else:
            place_ += 1


def _remake(path: str, cache_nbytes: int) -> ZipStore:
    return ZipStore(path, cache_nbytes=cache_nbytes)


def _remake_of_object(store: Store, key: str, cache_nbytes: int) -> ZipStore:
    return ZipStore.of_object(store, key, cache_nbytes=cache_nbytes)
