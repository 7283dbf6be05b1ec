"""Ranges of an archive that lie side by side, asked for in one request.

Entries that were written one after the other are neighbours in the archive, though they are objects
of their own as keys. So one request brings many small ones.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuzarr.errors import GpuzarrError, StoreError
from gpuzarr.stores.store import gap_of, give_up_when

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.stores.store import Buffer
    from gpuzarr.stores.zip.source import ObjectSource

MOST_NBYTES = 1 << 22
"""The most that is joined to one request: more would keep requests from being made together."""


@dataclass(slots=True)
class _Request:
    """One request, for one range or several."""

    offset: int
    stop: int
    rows: int = 0
    """Ranges in it..."""
    given: int = 0
    """... and those that were given already."""
    data: memoryview | None = None
    error: GpuzarrError | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def join_ranges(
    offsets: Sequence[int], nbytes: Sequence[int], gap: int
) -> tuple[list[_Request], list[int]]:
    """Join ranges with at most `gap` bytes between them.

    Returns:
        The requests, and for each range the number of its own.

    >>> requests, numbers = join_ranges([50, 0, 10, 500], [10, 10, 40, 10], 0)
    >>> [(one.offset, one.stop) for one in requests], numbers
    ([(0, 60), (500, 510)], [0, 0, 0, 1])
    """
    requests: list[_Request] = []
    numbers = [0] * len(offsets)
    for row in sorted(range(len(offsets)), key=offsets.__getitem__):
        offset, stop = offsets[row], offsets[row] + nbytes[row]
        last = requests[-1] if requests else None
        if (
            last is None
            or offset > last.stop + gap
            or max(stop, last.stop) - last.offset > MOST_NBYTES
        ):
            last = _Request(offset, stop)
            requests.append(last)
        last.stop = max(stop, last.stop)
        last.rows += 1
        numbers[row] = len(requests) - 1
    return requests, numbers


class JoinedRanges:
    """Ranges that the other store is fetching; see `gpuzarr.stores.zip.source.Started`."""

    def __init__(self, source: ObjectSource, offsets: Sequence[int], nbytes: Sequence[int]) -> None:
        self._source = source
        self._offsets = offsets
        self._nbytes = nbytes
        self._requests, self._numbers = join_ranges(offsets, nbytes, gap_of(source.store) or 0)
        self._pending = source.store.start_reads(
            (source.key,) * len(self._requests),
            [one.offset for one in self._requests],
            [one.stop - one.offset for one in self._requests],
        )

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """Hand it on; see `gpuzarr.stores.store.give_up_when`."""
        give_up_when(self._pending, stopped)

    def result(
        self, row: int, key: str, allocate: Callable[[int], Buffer] = bytearray
    ) -> memoryview:
        """Wait for one range, or take it from what another has waited for."""
        request = self._requests[self._numbers[row]]
        if request.rows == 1:
            return self._wait(request, row, key, allocate)
        with request.lock:
            if request.data is None and request.error is None:
                # However it ends, nobody can wait for it again.
                request.error = StoreError("the read that this is a part of was interrupted")
                try:
                    request.data = self._wait(request, row, key, bytearray)
                except GpuzarrError as error:
                    request.error = error
                    raise
            data, failed = request.data, request.error
            request.given += 1
            if request.given == request.rows:
                request.data = None  # what was given holds it
        if data is None:
            kind, message = (type(failed), failed.message) if failed else (StoreError, "")
            raise kind(message, key=key) from failed
        begin = self._offsets[row] - request.offset
        return data[begin : begin + self._nbytes[row]]

    def _wait(
        self, request: _Request, row: int, key: str, allocate: Callable[[int], Buffer]
    ) -> memoryview:
        nbytes = request.stop - request.offset
        return self._source.wait(self._pending, self._numbers[row], nbytes, key, allocate)
