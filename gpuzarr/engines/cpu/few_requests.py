"""Requests for few chunks: cut into parts for threads, and fetched one by one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from gpuzarr.engines.cpu.blosc import HEADER
from gpuzarr.engines.cpu.blosc_parts import (
    HEAD_NBYTES,
    decode_behind,
    find_runs,
    head_nbytes,
)
from gpuzarr.engines.engine import FewRequest
from gpuzarr.engines.failures import note_key, shard_is_gone
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import ChunkError, GpuzarrError
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.stores.store import row_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from gpuzarr.engines.cpu.blosc_parts import BlockRun
    from gpuzarr.engines.cpu.fetcher import EncodedMemory
    from gpuzarr.engines.cpu.prepared import Span
    from gpuzarr.engines.engine import FewChunk
    from gpuzarr.stores.store import Blob, Pending, Store, Wanted

PASSED_ON = (GpuzarrError, StepError, ValueError, MemoryError, OSError)
"""What is told by the read with columns."""


def split(requests: Sequence[FewRequest], count: int) -> list[list[FewRequest]]:
    """About `count` parts of nearly as many chunks each; requests are cut where they must be."""
    nchunks = sum(len(request.chunks) for request in requests)
    most = -(-nchunks // count)
    if nchunks == len(requests):  # of one chunk each
        return [list(requests[begin : begin + most]) for begin in range(0, nchunks, most)]
    parts: list[list[FewRequest]] = [[]]
    room = most
    for request in requests:
        key, offset, _, validator, chunks = request
        while len(chunks) > room:
            if room:
                parts[-1].append(_cut(key, offset, validator, chunks[:room]))
            chunks = chunks[room:]
            parts.append([])
            room = most
        whole = len(chunks) == len(request.chunks)
        parts[-1].append(request if whole else _cut(key, offset, validator, chunks))
        room -= len(chunks)
    return parts


def _cut(key: str, offset: int, validator: Hashable, chunks: Sequence[FewChunk]) -> FewRequest:
    """The request for some of the chunks of one that begins at `offset`."""
    begin = min(chunk.start for chunk in chunks)
    end = max(chunk.start + chunk.nbytes for chunk in chunks)
    moved = [chunk._replace(start=chunk.start - begin) for chunk in chunks]
    return FewRequest(key, offset + begin, end - begin, validator, moved)


class FewReads:
    """Requests that are read one by one; a store that knows what comes may begin with it.

    Threads share one, and read each request once. Two that come at the same time may start them
    twice, which does no harm: only stores that read when asked are read so.
    """

    def __init__(
        self,
        store: Store,
        wanted: Sequence[Wanted],
        spans: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            store: where they lie.
            wanted: whole chunks, or ranges that hold chunks.
            spans: the first byte of each object that is needed, and the end; None: all of them.
        """
        self._store = store
        self._wanted = wanted
        self._spans = spans
        self._started: tuple[Pending, Sequence[int]] | None = None

    def _start(self) -> tuple[Pending, Sequence[int]]:
        """The reads, and the bytes of each; many requests are never read one by one."""
        keys, offsets, nbytes, _ = map(list, zip(*self._wanted, strict=True))
        if self._spans is not None:
            offsets = [begin for begin, _ in self._spans]
            nbytes = [end - begin for begin, end in self._spans]
        self._started = started = self._store.start_reads(keys, offsets, nbytes), nbytes
        return started

    def read(self, row: int, memory: EncodedMemory) -> Blob | None:
        """What the store gives; None: there is no such object.

        Raises:
            GpuzarrError: the storage failed, or gave more or less than it was asked for.
        """
        pending, nbytes = self._started or self._start()
        try:
            blob = pending.result(row, memory.allocate)
        except PASSED_ON:
            raise
        except BaseException as error:
            note_key(error, self._wanted[row][0])
            raise
        if blob is not None and nbytes[row] not in (WHOLE, len(blob.data)):
            raise ChunkError("these are not as many bytes as were asked for")
        return blob

    def fetch(self, row: int, memory: EncodedMemory) -> memoryview | None:
        """The bytes of a request; None: a whole object that is not stored.

        Raises:
            GpuzarrError: the storage failed, or a shard is another than its index was of, or gone.
        """
        blob = self.read(row, memory)
        _, _, nbytes, validator = self._wanted[row]
        if blob is None:
            if nbytes == WHOLE:
                return None
            raise shard_is_gone()
        if validator is not None and blob.validator != validator:
            raise ChunkError("the shard was replaced")
        return blob.data


def fetch_blocks(
    store: Store, request: FewRequest, span: Span, nbytes: int, memory: EncodedMemory
) -> Callable[[memoryview], bool] | None:
    """The blocks of a Blosc chunk that hold a span.

    Args:
        store: where the chunk lies.
        request: for it alone.
        span: what is needed of the decoded chunk.
        nbytes: of the decoded chunk.
        memory: for the blocks; it is cleared before.

    Returns:
        What decodes them into the place of the chunk, once, and says whether it could; None where
        they cannot be had so.
    """
    read_row = row_reader(store)
    if read_row is None:
        return None
    chunk = request.chunks[0]
    stored = None if chunk.nbytes == WHOLE else chunk.nbytes
    runs: list[BlockRun] = []

    def wanted() -> Iterator[Wanted]:
        offset, validator = request.offset + chunk.start, request.validator
        yield request.key, offset, HEAD_NBYTES, validator
        runs.extend(find_runs(memory.all(), nbytes, [span], stored) or ())
        for run in runs:
            yield request.key, offset + run.low, run.high - run.low, validator

    memory.clear()
    ends = read_row(wanted(), memory, bool)  # bool() is False: nobody stops it
    if not runs or len(ends) != 1 + len(runs):
        return None
    data = memory.all()
    header = bytes(data[: HEADER.size])
    places = list(pairwise(ends))

    def fill(place: memoryview) -> bool:
        # A run's own head is no longer than that of the frame, which lies before it, or before the
        # runs before it, and is of no use any more.
        return all(
            decode_behind(header, run, data[begin - head_nbytes(run) : end], place)
            for run, (begin, end) in zip(runs, places, strict=True)
        )

    return fill


def part_of(data: memoryview, chunk: FewChunk) -> memoryview:
    """The bytes of a chunk among those of its request."""
    return data if chunk.nbytes == WHOLE else data[chunk.start : chunk.start + chunk.nbytes]
