"""The encoded bytes of a batch's chunks, one after another or several that lie in a row."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray  # noqa: TC002  `_kept` is made at once

from gpuzarr.engines.cpu.prepared import Frames
from gpuzarr.engines.failures import check_blob, note_key, shard_is_gone, storage_failed
from gpuzarr.engines.pool import cpu_count
from gpuzarr.errors import GpuzarrError, MemoryLimitError
from gpuzarr.plan.ranges import WHOLE, changes, next_begin
from gpuzarr.stores.aliasing import new_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.plan.batches import Batch
    from gpuzarr.stores.store import Pending, ReadRow

KEPT_NBYTES = 1 << 22
"""Memory for encoded bytes up to this size is kept from one piece of work to the next."""
FIRST_NBYTES = 1 << 16
"""Memory that a piece of work begins with."""
MOST_HELD_NBYTES = 1 << 22
"""Encoded bytes of small chunks that are held at a time, whatever size their objects have."""

_kept: deque[NDArray[Any]] = deque(maxlen=2 * cpu_count())
"""Memory that nobody uses. Taking and giving back are atomic, so there is no lock."""


class Requested:
    """What all threads know of a batch's requests."""

    def __init__(
        self, batch: Batch, staging: Pending, place: Callable[[int], memoryview | None] | None
    ) -> None:
        """Prepare lists.

        Args:
            batch: the chunks.
            staging: its reads.
            place: for chunks that need no decoding, the memory that one fills alone; None where
                there is none.
        """
        self.requests = batch.requests
        self.result = staging.result
        self.read_row: ReadRow | None = getattr(staging, "read_row", None)
        self.request: list[int] = batch.request.tolist()
        self.start: list[int] = batch.start.tolist()
        self.nbytes: list[int] = batch.nbytes.tolist()
        self.starts, self.sizes = batch.start, batch.nbytes
        self.whole = self.nbytes[0] == WHOLE
        self.place = place if self.whole else None
        self._next_request: list[int] = []
        if not self.whole:
            self._next_request = next_begin(changes(batch.request)).tolist()

    def end_of_request(self, row: int) -> int:
        """The first chunk behind this one that another request brings."""
        return self._next_request[row]


class EncodedMemory:
    """Memory for encoded bytes, kept from one piece of work to the next.

    Fresh memory costs a page fault for every 4 KiB.
    """

    def __init__(self) -> None:
        """Take some."""
        try:
            self._memory = _kept.pop()
        except IndexError:
            self._memory = new_memory(FIRST_NBYTES)
        self.used = 0
        """Bytes that were allocated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the memory to others."""
        self.give_back()

    def give_back(self) -> None:
        """Leave the memory to others."""
        if len(self._memory) <= KEPT_NBYTES:
            _kept.append(self._memory)

    def clear(self, used: int = 0) -> None:
        """Forget what is behind the first `used` bytes."""
        self.used = used

    def allocate(self, nbytes: int) -> memoryview:
        """Memory behind what is used. What was given before may lie elsewhere from then on."""
        used = self.used
        self.used = end = used + nbytes
        if len(self._memory) < end:
            more = new_memory(end + end // 4 if used else end)
            more[:used] = self._memory[:used]
            self._memory = more
        return self._memory.data[used:end]

    def put(self, data: memoryview, used: int) -> bool:
        """Hold bytes behind the first `used`, where they are perhaps already, if they are not many.

        Says whether it does.
        """
        self.used = used
        if len(data) > MOST_HELD_NBYTES:
            return False
        try:
            place = self.allocate(len(data))
        except MemoryError:
            self.used = used
            return False
        place[:] = data.cast("B")
        return True

    def all(self) -> memoryview:
        """What is used."""
        return self._memory.data[: self.used]


class Fetcher:
    """One thread's way to encoded bytes; what it gives ends with the next call."""

    def __init__(self, requested: Requested, memory: EncodedMemory) -> None:
        """Read into a thread's memory."""
        self._requested = requested
        self._memory = memory
        self._held = -1
        self._data: memoryview | None = None
        self._failure: GpuzarrError | None = None

    def chunk(self, row: int) -> memoryview | None:
        """The bytes of one chunk; None: it is not stored.

        Raises:
            GpuzarrError: they could not be read.
        """
        requested = self._requested
        number = requested.request[row]
        if number != self._held:
            self._memory.clear()
            place = None if requested.place is None else requested.place(row)
            allocate = (
                self._memory.allocate if place is None else _into(place, self._memory.allocate)
            )
            self._fetch(number, allocate)
        if self._failure is not None:  # of the request that this chunk shares with others
            raise self._failure
        nbytes = requested.nbytes[row]
        if nbytes == WHOLE:
            return self._data
        if self._data is None:
            raise shard_is_gone()
        start = requested.start[row]
        return self._data[start : start + nbytes]

    def run(self, row: int, stop: int, stopped: Callable[[], bool]) -> Frames | None:
        """Chunks from `row` on, as many as can be had together, at most to `stop`.

        None: not even the first one, for a reason that `chunk` tells.

        Args:
            row: the first.
            stop: the one behind the last.
            stopped: whether to give up; asked before each object is read.
        """
        requested = self._requested
        if requested.whole:
            return self._objects(row, stop, stopped)
        stop = min(stop, requested.end_of_request(row))
        number = requested.request[row]
        if number != self._held:
            self._memory.clear()
            self._fetch(number, self._memory.allocate)
        data = self._data
        if data is None:
            return None
        return Frames(data, requested.starts[row:stop], requested.sizes[row:stop])

    def _objects(self, row: int, stop: int, stopped: Callable[[], bool]) -> Frames | None:
        """Whole objects, read one behind another."""
        requested, memory = self._requested, self._memory
        request = requested.request
        if request[row] == self._held and self._data is None:
            return None
        memory.clear()
        ends: list[int] = []

        def enough() -> bool:
            return memory.used > MOST_HELD_NBYTES or stopped()

        if requested.read_row is not None:
            keys = requested.requests.keys
            wanted = [(keys[number], 0, WHOLE, None) for number in request[row:stop]]
            ends = requested.read_row(wanted, memory, enough)
        for one in range(row + len(ends), stop):  # what is left
            if ends and enough():
                break
            used = memory.used
            self._fetch(request[one], memory.allocate)
            if self._data is None:
                memory.clear(used)
                break
            if not memory.put(self._data, used):
                break
            ends.append(memory.used)
        return Frames.between(memory.all(), ends) if ends else None

    def _fetch(self, number: int, allocate: Callable[[int], memoryview]) -> None:
        """Read one request."""
        requested = self._requested
        self._held, self._data, self._failure = number, None, None
        try:
            blob = requested.result(number, allocate)
            if blob is not None:
                data, nbytes = blob.data, requested.requests.nbytes[number]
                if requested.requests.validators or nbytes not in (WHOLE, len(data)):
                    check_blob(requested.requests, number, blob)
                self._data = data
        except GpuzarrError as error:
            self._failure = error
        except MemoryError as error:
            self._failure = MemoryLimitError(f"there is not enough memory: {error}")
        except OSError as error:
            self._failure = storage_failed(error)
        except BaseException as error:
            note_key(error, requested.requests.keys[number])
            raise


def _into(place: memoryview, allocate: Callable[[int], memoryview]) -> Callable[[int], memoryview]:
    """Give `place` to a store that reads exactly as many bytes, other memory to any other."""
    return lambda nbytes: place if nbytes == len(place) else allocate(nbytes)
