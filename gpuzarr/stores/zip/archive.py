"""What all reads of one archive share: where its entries' data begin, and what was decompressed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from gpuzarr.stores.object_cache import ObjectCache
from gpuzarr.stores.store import Blob, place
from gpuzarr.stores.zip.entries import check_crc, check_entry, find_data, read_directory
from gpuzarr.stores.zip.inflate import check_promise, inflate

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from gpuzarr.stores.store import Buffer
    from gpuzarr.stores.zip.entries import Entry
    from gpuzarr.stores.zip.source import Source

    ReadStored = Callable[[int, int], bytes]
    """Gives the stored bytes of an entry from an offset in its data, so many."""


class Archive:
    """An archive whose directory was read."""

    __slots__ = ("_starts", "entries", "inflated", "source")

    def __init__(self, source: Source, cache_nbytes: int) -> None:
        """Read the directory; `cache_nbytes` is as in `ZipStore`.

        Raises:
            StoreError: it cannot be read, or this is no zip archive, or a damaged one.
        """
        self.source = source
        self.entries = read_directory(source.open(), source.name)
        self.inflated = ObjectCache(cache_nbytes)
        self._starts: dict[str, int] = {}

    def validator(self, entry: Entry) -> Hashable:
        """The version of an entry, as in `Blob`."""
        version = self.source.version
        return None if version is None else (version, entry.header)

    def known_data(self, key: str) -> int | None:
        """Where an entry's data begin, if its local header was read before."""
        return self._starts.get(key)

    def find_data(self, entry: Entry, key: str) -> int:
        """Where an entry's data begin: looked up, and the entry judged, at its first read."""
        start = self._starts.get(key)
        if start is None:
            check_entry(entry, key, self.source.nbytes)
            header = self.source.read(key, entry.header, entry.header_nbytes)
            start = self.judge_header(entry, key, header)
        return start

    def judge_header(self, entry: Entry, key: str, header: memoryview) -> int:
        """Where an entry's data begin, by its local header and the name behind that.

        Raises:
            StoreError: the header is not this entry's.
        """
        start = self._starts[key] = find_data(header, entry, key)
        return start

    def check_whole(self, entry: Entry, key: str, data: memoryview) -> None:
        """Compare the checksum of a stored entry, where `data` is all of it.

        Raises:
            StoreError: it does not match.
        """
        if len(data) == entry.size:
            check_crc(entry, key, zlib.crc32(data))

    def stored_bytes(self, entry: Entry, key: str) -> ReadStored:
        """Reads an entry's stored bytes piece by piece."""
        data = self.find_data(entry, key)
        return lambda offset, nbytes: bytes(self.source.read(key, data + offset, nbytes))

    def decompress(  # noqa: PLR0913, PLR0917  a range of an entry, and how to get at it
        self,
        entry: Entry,
        key: str,
        start: int,
        stop: int,
        allocate: Callable[[int], Buffer],
        stored_bytes: Callable[[], ReadStored],
    ) -> memoryview:
        """A range of a compressed entry.

        Args:
            entry: the entry.
            key: its name.
            start: first byte of the object.
            stop: its end.
            allocate: as in `Store.read`.
            stored_bytes: called if the entry must be decompressed: gives what reads its bytes.

        Raises:
            StoreError: it is damaged.
        """
        whole = stop - start == entry.size
        if not whole and entry.size <= self.inflated.limit_nbytes:

            def make() -> Blob:
                return Blob(_inflate(stored_bytes(), entry, key, 0, entry.size, bytearray))

            kept = self.inflated.get(key, make)
            return memoryview(b"") if kept is None else kept.data[start:stop].toreadonly()
        return _inflate(stored_bytes(), entry, key, start, stop, allocate)


def _inflate(  # noqa: PLR0913, PLR0917  as above
    read: ReadStored,
    entry: Entry,
    key: str,
    start: int,
    stop: int,
    allocate: Callable[[int], Buffer],
) -> memoryview:
    if stop - start == entry.size:
        check_promise(read, entry, key)
    memory = place(allocate, stop - start, key)
    inflate(read, entry, key, start, memory)
    return memory
