"""Many reads of an archive that is an object of another store: all requests are made at once.

Where an entry's data begin stands in its local header alone, which must be checked too. Reading
that first would double the time of every first read. But the directory tells where the next entry
begins, and writers leave nothing between an entry's data and the next one. So data are asked for at
the place where they should be:

    near the entry's beginning     one range, header and data
    farther behind                 two ranges, header and data, in flight together
    header was read before         one range, the data

A header that says otherwise (space was left, or the entry is larger than it seems) costs one more
request. Compressed entries are fetched whole, and those above `AHEAD_NBYTES` in pieces of that.
Entries that are neighbours share a request: see `gpuzarr.stores.zip.joined`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuzarr.errors import GpuzarrError
from gpuzarr.stores.store import Blob, check_key, find_range
from gpuzarr.stores.zip.entries import MOST_EXTRA_NBYTES, STORED, check_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.stores.store import Buffer
    from gpuzarr.stores.zip.archive import Archive, ReadStored
    from gpuzarr.stores.zip.entries import Entry

JOIN_NBYTES = 1 << 16
"""Bytes of an entry's beginning that are rather read than asked around."""

AHEAD_NBYTES = 8 << 20
"""The most that is fetched at once of a compressed entry."""


UNKNOWN = -1


@dataclass(slots=True)
class _Row:
    """A read: a range of an entry, and what was asked for."""

    key: str
    entry: Entry
    start: int
    stop: int
    data: int
    """Where the entry's data begin, or are expected to begin; `UNKNOWN`: nothing is expected."""
    header: int | None = None
    """Number of the range that begins with the local header; None: it was checked before."""
    payload: int | None = None
    """Number of the range of the data; None: behind the header, or not asked for."""


class StartedEntries:
    """Reads of entries, as `Pending`."""

    def __init__(
        self, archive: Archive, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> None:
        """Ask for all that the reads need; what is wrong with one is told when it is waited for."""
        self._archive = archive
        self._keys = keys
        self._ranges: list[tuple[int, int]] = []
        self._encoded: dict[str, int] = {}
        """The range of each compressed entry that is on its way, until somebody takes it."""
        self._rows = [self._plan(*row) for row in zip(keys, offsets, nbytes, strict=True)]
        self._started = archive.source.start(
            [offset for offset, _ in self._ranges], [size for _, size in self._ranges]
        )

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """Hand it on; see `gpuzarr.stores.store.give_up_when`."""
        self._started.stop_when(stopped)

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        """Wait for one read; see `Pending`."""
        planned = self._rows[row]
        if planned is None:
            return None
        try:
            if isinstance(planned, GpuzarrError):
                raise planned
            entry = planned.entry
            if entry.method == STORED:
                memory = self._stored(planned, allocate)
            else:
                memory = self._archive.decompress(
                    entry,
                    planned.key,
                    planned.start,
                    planned.stop,
                    allocate,
                    lambda: self._stored_bytes(entry, planned.key),
                )
        except GpuzarrError as error:
            error.at(store=self._archive.source.name, key=self._keys[row])
            raise
        return Blob(memory, self._archive.validator(entry), entry.size)

    def _plan(self, key: str, offset: int, nbytes: int) -> _Row | GpuzarrError | None:
        archive = self._archive
        entry = archive.entries.get(key)
        try:
            if entry is None:
                check_key(key)
                return None
            start, stop = find_range(entry.size, key, offset, nbytes)
            check_entry(entry, key, archive.source.nbytes)
        except GpuzarrError as error:
            return error
        if entry.method == STORED:
            return self._plan_stored(key, entry, start, stop)
        if (
            key not in self._encoded
            and entry.stored <= AHEAD_NBYTES
            and not archive.inflated.holds(key)
        ):
            self._encoded[key] = self._ask(*_whole_entry(entry))
        return _Row(key, entry, start, stop, UNKNOWN)

    def _plan_stored(self, key: str, entry: Entry, start: int, stop: int) -> _Row:
        known = self._archive.known_data(key)
        data = known if known is not None else entry.guess_data()
        row = _Row(key, entry, start, stop, UNKNOWN if data is None else data)
        if known is None:
            if data is not None and data + start <= entry.header + JOIN_NBYTES:
                row.header = self._ask(entry.header, data + stop - entry.header)
                return row
            row.header = self._ask(entry.header, entry.header_nbytes)
        if data is not None and stop > start:
            row.payload = self._ask(data + start, stop - start)
        return row

    def _ask(self, offset: int, nbytes: int) -> int:
        self._ranges.append((offset, nbytes))
        return len(self._ranges) - 1

    def _stored(self, row: _Row, allocate: Callable[[int], Buffer]) -> memoryview:
        """A range of a stored entry."""
        archive, entry, key = self._archive, row.entry, row.key
        data, nbytes, head = row.data, row.stop - row.start, memoryview(b"")
        if row.header is not None:
            head = self._started.result(row.header, key)
            data = archive.judge_header(entry, key, head[: entry.header_nbytes])
        if not nbytes:
            memory = memoryview(b"")
        elif data != row.data:
            memory = archive.source.read(key, data + row.start, nbytes, allocate)
        elif row.payload is not None:
            memory = self._started.result(row.payload, key, allocate)
        else:
            # Without a copy: `allocate` is for memory of the size of the data alone.
            first = data + row.start - entry.header
            memory = head[first : first + nbytes]
        archive.check_whole(entry, key, memory)
        return memory

    def _stored_bytes(self, entry: Entry, key: str) -> ReadStored:
        """Reads a compressed entry's bytes: from what is on its way, or in large pieces."""
        archive = self._archive
        # Whoever comes first takes it; others come only if the cache did not keep the object.
        number = self._encoded.pop(key, None)
        if number is None and entry.stored > AHEAD_NBYTES:
            return _in_large_pieces(archive.stored_bytes(entry, key), entry.stored)
        if number is None:
            encoded = archive.source.read(key, *_whole_entry(entry))
        else:
            encoded = self._started.result(number, key)
        data = archive.judge_header(entry, key, encoded[: entry.header_nbytes]) - entry.header
        stored = encoded[data : data + entry.stored]
        return lambda offset, nbytes: bytes(stored[offset : offset + nbytes])


def _whole_entry(entry: Entry) -> tuple[int, int]:
    """Offset and size of a range that surely holds an entry's header and data."""
    most = entry.header_nbytes + MOST_EXTRA_NBYTES + entry.stored
    return entry.header, min(entry.end - entry.header, most)


def _in_large_pieces(read: ReadStored, size: int) -> ReadStored:
    """The same bytes, asked for in pieces of `AHEAD_NBYTES` as they are needed, in order."""
    begin, piece = 0, b""

    def read_from_piece(offset: int, nbytes: int) -> bytes:
        nonlocal begin, piece
        if not begin <= offset <= offset + nbytes <= begin + len(piece):
            begin = offset
            piece = read(offset, min(max(nbytes, AHEAD_NBYTES), size - offset))
        return piece[offset - begin : offset - begin + nbytes]

    return read_from_piece
