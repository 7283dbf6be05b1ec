"""A few chunks on the CPU without a session; see `gpuzarr.few`."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cpu.bricks import BrickReader
from gpuzarr.engines.cpu.copying import put, view
from gpuzarr.engines.cpu.crew import Crew
from gpuzarr.engines.cpu.decoders import may_run_here
from gpuzarr.engines.cpu.fetcher import MOST_HELD_NBYTES, EncodedMemory
from gpuzarr.engines.cpu.few_requests import (
    PASSED_ON,
    FewReads,
    fetch_blocks,
    part_of,
    split,
)
from gpuzarr.engines.cpu.few_writes import LANDED, put_fill, put_part
from gpuzarr.engines.cpu.prepared import is_part
from gpuzarr.engines.cpu.session import is_much
from gpuzarr.errors import ChunkError, MemoryLimitError
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.program import Decompress
from gpuzarr.stores.store import row_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cpu.crew import Work
    from gpuzarr.engines.cpu.decoder import ChunkDecoder
    from gpuzarr.engines.cpu.prepared import Span
    from gpuzarr.engines.engine import Brick, FewChunk, FewRequest, Landing, Output
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Blob, Store

BOX_NBYTES = 1 << 16
"""Chunks from this size on, stored as they are, of which only what is needed is read."""
BLOCKS_NBYTES = 1 << 19
"""Blosc chunks from this size on, of which only the blocks that are needed are read."""
FEW_NBYTES = 1 << 24
"""Chunks above this size go through a session, which minds how much memory threads take; but for
those of which no more than this is read."""
LARGE_NBYTES = 1 << 18
"""Chunks from this size on are shared out in more parts than there are threads..."""
PARTS_A_THREAD = 4
"""...by so much, since more is taken of some than of others."""
READ_NBYTES = 1 << 21
"""Decoded bytes up to which all is fetched before anything is decoded."""

_never = bool  # gives False


class CpuFewReader:
    """See `gpuzarr.engines.engine.FewReader`."""

    def __init__(
        self, decoder: ChunkDecoder, program: DecodeProgram, shape: Sequence[int], threads: int
    ) -> None:
        """Take what chunks of one program and shape are decoded with."""
        self._decoder = decoder
        self._program = program
        self._nbytes = program.decoded_nbytes(shape)
        self._threads = threads
        self._in_boxes = not program.steps and self._nbytes >= BOX_NBYTES
        self._in_blocks = (
            self._nbytes >= BLOCKS_NBYTES
            and decoder.takes_spans
            and len(program.steps) == 1
            and isinstance(program.steps[0], Decompress)
            and program.steps[0].format == "blosc"
        )
        self._strides = program.layout.strides(shape)
        self._bricks = BrickReader(decoder, program, shape, threads)

    def takes(self, count: int, nbytes: int) -> bool:
        """Whatever is cut into few chunks."""
        del count, nbytes
        return True

    def places(self, count: int, nbytes: int) -> None:
        """There is one place."""

    def takes_brick(self, store: Store, count: int, array: object) -> bool:
        """Many small ones; arrays of other kinds than NumPy's own assign in their own way."""
        return type(array) is np.ndarray and self._bricks.takes(store, count)

    def read_brick(
        self, store: Store, brick: Brick, output: Output, stream: object = None
    ) -> Landing | None:
        """Fetch, decode and write a brick; there is nothing to wait for."""
        if stream is not None:  # the session says what is wrong with that
            return None
        try:
            done = self._bricks.read(store, brick, output)
        except PASSED_ON:
            return None
        return LANDED if done else None

    def read(
        self,
        store: Store,
        requests: Sequence[FewRequest],
        missing: Sequence[tuple[slice, ...]],
        output: Output,
        stream: object = None,
    ) -> Landing | None:
        """Fetch, decode and write chunks; there is nothing to wait for."""
        if stream is not None:  # the session says what is wrong with that
            return None
        try:
            for place in missing:
                put_fill(output, place)
            done = not requests or self._read(store, requests, output)
        except PASSED_ON:
            return None
        return LANDED if done else None

    def _read(self, store: Store, requests: Sequence[FewRequest], output: Output) -> bool:
        """Read what may be stored, in threads where it is worth that; whether all went well."""
        if self._nbytes > FEW_NBYTES and not self._reads_boxes(store, requests):
            return False
        count = sum(len(request.chunks) for request in requests)
        if self._is_much(count) and self._threads > 1 and count > 1:
            return self._read_in_threads(store, requests, output)
        return self._read_some(store, requests, output, _never)

    def _is_much(self, count: int) -> bool:
        """Whether so many chunks are worth another thread."""
        return is_much(self._program, count, count * self._nbytes)

    def _read_in_threads(
        self, store: Store, requests: Sequence[FewRequest], output: Output
    ) -> bool:
        crew = Crew()
        good: list[bool] = []
        aborted = threading.Event()

        def read_part(part: Sequence[FewRequest], first: int) -> None:
            with suppress(*PASSED_ON):
                good.append(self._read_some(store, part, output, aborted.is_set, reads, first))

        count = sum(len(request.chunks) for request in requests)
        least = self._threads
        if self._nbytes >= LARGE_NBYTES:
            least = max(least, min(count, least * PARTS_A_THREAD))
        parts = split(requests, least)
        reads = self._reads(store, [request for part in parts for request in part])
        ends = accumulate(map(len, parts), initial=0)
        works: list[Work] = [partial(read_part, *each) for each in zip(parts, ends, strict=False)]
        try:
            crew.add(works, self._threads, caller_works=may_run_here(self._program))
            crew.finish()
        except BaseException:
            aborted.set()
            crew.abort()
            raise
        return len(good) == len(parts) and all(good)

    def _read_some(  # noqa: PLR0913, PLR0917
        self,
        store: Store,
        requests: Sequence[FewRequest],
        output: Output,
        stopped: Callable[[], bool],
        reads: FewReads | None = None,
        first: int = 0,
    ) -> bool:
        """Read some requests, the `first` and those behind it of `reads` if these are given."""
        with EncodedMemory() as memory:
            if self._in_blocks:
                requests = [
                    request
                    for request in requests
                    if stopped() or not self._read_blocks(store, request, output, memory)
                ]
                reads, first = None, 0
                memory.clear()
            boxes = self._reads_boxes(store, requests)
            count = sum(len(request.chunks) for request in requests)
            if not boxes and count * self._nbytes <= READ_NBYTES:
                fetched = self._fetch_all(store, requests, memory, stopped)
                if fetched is not None:
                    self._write_all(requests, fetched, output)
                return fetched is not None
            if reads is None:
                reads = self._reads(store, requests)
            for row, request in enumerate(requests, first):
                if stopped():
                    return False
                memory.clear()
                if boxes:
                    self._put_box(reads.read(row, memory), request.chunks[0], output)
                    continue
                data = reads.fetch(row, memory)
                if data is None:
                    put_fill(output, request.chunks[0].put)
                    continue
                for chunk in request.chunks:
                    self._write(part_of(data, chunk), chunk, output)
        return True

    def _reads(self, store: Store, requests: Sequence[FewRequest]) -> FewReads:
        """Requests that are read one by one; in boxes from the first byte needed to the last.

        Raises:
            MemoryLimitError: a box is large.
        """
        if not self._reads_boxes(store, requests):
            return FewReads(store, [request[:4] for request in requests])
        spans = [self._span(request.chunks[0].take) for request in requests]
        most = max(end - begin for begin, end in spans)
        if most > FEW_NBYTES:
            raise MemoryLimitError(f"{most} bytes are much for one thread")
        return FewReads(store, [request[:4] for request in requests], spans)

    def _reads_boxes(self, store: Store, requests: Sequence[FewRequest]) -> bool:
        """Whether only what is needed of the chunks is read."""
        return self._in_boxes and requests[0].nbytes == WHOLE and row_reader(store) is not None

    def _put_box(self, blob: Blob | None, chunk: FewChunk, output: Output) -> None:
        """Write what was read of a chunk that is stored as it is.

        Raises:
            ChunkError: the object has another size than a chunk.
        """
        if blob is None:
            put_fill(output, chunk.put)
            return
        if blob.size != self._nbytes:
            raise ChunkError("the object has another size than a chunk")
        shape = [part.stop - part.start for part in chunk.take]
        values: NDArray[Any] = np.ndarray(
            shape, self._program.layout.dtype, blob.data, 0, self._strides
        )
        put_part(output, chunk.put, values)

    def _read_blocks(
        self, store: Store, request: FewRequest, output: Output, memory: EncodedMemory
    ) -> bool:
        """Read and decode the blocks of a Blosc chunk that are needed; says whether it was done."""
        chunk = request.chunks[0]
        span = self._span(chunk.take)
        if len(request.chunks) > 1 or not is_part(span[1] - span[0], self._nbytes):
            return False
        fill = fetch_blocks(store, request, span, self._nbytes, memory)
        values = None if fill is None else self._decoder.decode_by(fill)
        if values is None:
            return False
        put_part(output, chunk.put, values[chunk.take])
        return True

    def _fetch_all(
        self,
        store: Store,
        requests: Sequence[FewRequest],
        memory: EncodedMemory,
        stopped: Callable[[], bool],
    ) -> list[memoryview | None] | None:
        """The bytes of all requests; None: the objects are larger than such chunks can be."""

        def enough() -> bool:
            return stopped() or memory.used > MOST_HELD_NBYTES

        fetched: list[memoryview | None] = []
        read_row = row_reader(store)
        if read_row is not None:
            ends = read_row([request[:4] for request in requests], memory, enough)
            everything = memory.all()
            fetched += [everything[begin:end] for begin, end in pairwise([0, *ends])]
        if len(fetched) < len(requests):  # what is left
            left = requests[len(fetched) :]
            reads = FewReads(store, [request[:4] for request in left])
            for row in range(len(left)):
                if enough():
                    return None
                fetched.append(reads.fetch(row, memory))
        return fetched

    def _write_all(
        self,
        requests: Sequence[FewRequest],
        fetched: Sequence[memoryview | None],
        output: Output,
    ) -> None:
        """Decode and write what was fetched."""
        for request, data in zip(requests, fetched, strict=True):
            if data is None:
                put_fill(output, request.chunks[0].put)
                continue
            for chunk in request.chunks:
                self._write(part_of(data, chunk), chunk, output)

    def _write(self, encoded: memoryview, chunk: FewChunk, output: Output) -> None:
        """Decode a chunk, and write what is taken of it."""
        if not output.conversion.identity:
            put_part(output, chunk.put, self._decode(encoded, chunk.take))
            return
        target = view(output.array, chunk.put)
        if target.nbytes == self._nbytes and self._is_memory(target):
            self._decoder.decode(encoded, target.reshape(-1).view(np.uint8).data)
        else:
            put(target, self._decode(encoded, chunk.take))

    def _decode(self, encoded: memoryview, take: tuple[slice, ...]) -> NDArray[Any]:
        """What is taken of a chunk."""
        decoder = self._decoder
        if decoder.takes_spans:
            span = self._span(take)
            if is_part(span[1] - span[0], self._nbytes):
                return decoder.decode_spans(encoded, [span])[take]
        return decoder.decode(encoded)[take]

    def _span(self, take: tuple[slice, ...]) -> Span:
        """The bytes of a decoded chunk from the first that is taken to the last."""
        begin, end = 0, self._program.layout.dtype.itemsize
        for part, stride in zip(take, self._strides, strict=True):
            begin += part.start * stride
            end += (part.stop - 1) * stride
        return begin, end

    def _is_memory(self, target: NDArray[Any]) -> bool:
        """Whether the place of a whole chunk is one run of memory, of the chunk's own form."""
        layout = self._program.layout
        return (
            layout.c_order
            and layout.dtype == target.dtype
            and target.flags.c_contiguous
            and type(target) is np.ndarray
        )
