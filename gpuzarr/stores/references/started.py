"""Reads of targets in other stores, started together.

Chunks that are references into one object are objects of their own for the planner, which so joins
no requests. They are joined here: ranges of one object between which little lies become one request
of the target's store. A joined request that fails is not made again; its rows are read each alone,
so that a damaged reference takes no other with it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from gpuzarr.errors import StoreError
from gpuzarr.stores.references.targets import missing, pointed
from gpuzarr.stores.store import WHOLE, Blob, gap_of, give_up_when

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.stores.references.targets import ObjectTarget
    from gpuzarr.stores.store import Buffer, Pending, Store

GAP_NBYTES = 1 << 16
"""Bytes that are read for nothing to save a request, where the target's store names no number."""
JOINED_NBYTES = 1 << 22
"""Ranges are joined to requests of so many bytes at most: larger ones come one after another where
smaller ones come side by side."""


class Place(NamedTuple):
    """A range of an object in another store."""

    target: ObjectTarget
    offset: int
    nbytes: int
    """How many bytes, or WHOLE."""
    size: int | None
    """Bytes of what the reference names; None: the whole object."""

    @property
    def joins(self) -> bool:
        """Whether it is known where it begins and ends."""
        return self.offset >= 0 and self.nbytes != WHOLE


class StartedReads:
    """See `gpuzarr.stores.store.Pending`."""

    def __init__(
        self,
        store: Store,
        locate: Callable[[str, int, int], Place | None],
        keys: Sequence[str],
        offsets: Sequence[int],
        nbytes: Sequence[int],
    ) -> None:
        """Start what lies in other stores.

        Args:
            store: reads all else, when it is asked for.
            locate: says of a key and a range where they lie; None: they are read by `store`.
            keys: as in `Store.start_reads`.
            offsets: the same.
            nbytes: the same.
        """
        self._store = store
        self._wanted = (keys, offsets, nbytes)
        self._pending: list[Pending] = []
        self._requests: dict[int, tuple[_Request, Place]] = {}
        by_store: dict[int, list[tuple[str, int, int, Place]]] = {}
        for row, wanted in enumerate(zip(keys, offsets, nbytes, strict=True)):
            place = locate(*wanted)
            if place is not None:
                rows = by_store.setdefault(id(place.target.store), [])
                rows.append((place.target.key, place.offset, row, place))
        for rows in by_store.values():
            self._start(rows)

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """Hand on who says that nobody wants the result any more, to stores that ask."""
        for pending in self._pending:
            give_up_when(pending, stopped)

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        """Wait for a row; a reference that points to nothing is an error, as in `Store.read`."""
        keys, offsets, nbytes = self._wanted
        if row not in self._requests:
            return self._store.read(keys[row], offsets[row], nbytes[row], allocate)
        request, place = self._requests[row]
        if request.rows > 1:
            blob = request.part(place)
            if blob is None:
                return self._store.read(keys[row], offsets[row], nbytes[row], allocate)
        else:
            try:
                blob = request.whole(allocate)
                if blob is None:
                    raise missing(place.target.key, place.target.store.name)
            except StoreError as error:
                raise pointed(error, keys[row], self._store.name) from error
        return blob if place.size is None else blob._replace(size=place.size)

    def _start(self, rows: list[tuple[str, int, int, Place]]) -> None:
        """Start the rows of one store."""
        store = rows[0][-1].target.store
        gap = gap_of(store)
        gap = GAP_NBYTES if gap is None else gap
        requests: list[_Request] = []
        for key, _, row, place in sorted(rows, key=lambda each: each[:3]):
            if not requests or not requests[-1].join(key, place, gap):
                requests.append(_Request(key, place))
            self._requests[row] = (requests[-1], place)
        pending = store.start_reads(
            [request.key for request in requests],
            [request.offset for request in requests],
            [request.nbytes for request in requests],
        )
        self._pending.append(pending)
        for number, request in enumerate(requests):
            request.start(pending, number)


class _Request:
    """One request of a target's store, for one row or for several."""

    def __init__(self, key: str, place: Place) -> None:
        self.key = key
        self.offset = place.offset
        self.nbytes = place.nbytes
        self.rows = 1
        self._joins = place.joins
        self._pending: Pending | None = None
        self._number = 0
        self._lock = threading.Lock()
        self._blob: Blob | None = None
        self._left = 0

    def join(self, key: str, place: Place, gap: int) -> bool:
        """Ask for one more range, which begins no earlier; says whether it may be."""
        end = place.offset + place.nbytes
        nbytes = max(self.nbytes, end - self.offset)
        near = place.offset <= self.offset + self.nbytes + gap
        if not (self._joins and place.joins and key == self.key and near):
            return False
        if nbytes > JOINED_NBYTES:
            return False
        self.nbytes = nbytes
        self.rows += 1
        return True

    def start(self, pending: Pending, number: int) -> None:
        """It is row `number` of what the store has started."""
        self._pending, self._number, self._left = pending, number, self.rows

    def whole(self, allocate: Callable[[int], Buffer]) -> Blob | None:
        """What is there for the only row."""
        pending, self._pending = self._pending, None
        return None if pending is None else pending.result(self._number, allocate)

    def part(self, place: Place) -> Blob | None:
        """What is there for one row of several; None: it must be read alone."""
        with self._lock:
            if self._pending is not None:
                pending, self._pending = self._pending, None
                try:
                    self._blob = pending.result(self._number)
                except StoreError:
                    self._blob = None
            blob = self._blob
            self._left -= 1
            if not self._left:
                self._blob = None
        if blob is None:
            return None
        start = place.offset - self.offset
        return blob._replace(data=blob.data[start : start + place.nbytes])
