"""A few chunks on the CPU without a session; see `gpuzarr.few`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.conversion import convert
from gpuzarr.engines.cpu.crew import Crew
from gpuzarr.engines.cpu.decoders import may_run_here
from gpuzarr.engines.cpu.fetcher import EncodedMemory
from gpuzarr.engines.cpu.session import least_for_threads
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import GpuzarrError
from gpuzarr.plan.ranges import WHOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cpu.decoder import ChunkDecoder
    from gpuzarr.engines.engine import FewChunk, FewRequest, Output
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Store

PARTS = 2
"""Pieces of work for each thread, so that none waits long for the others."""


class CpuFewReader:
    """See `gpuzarr.engines.engine.FewReader`."""

    def __init__(
        self, decoder: ChunkDecoder, program: DecodeProgram, nbytes: int, threads: int
    ) -> None:
        """Take what chunks of one program and shape are decoded with."""
        self._decoder = decoder
        self._program = program
        self._nbytes = nbytes
        self._threads = threads
        self._straight = program.layout.c_order

    def read(
        self,
        store: Store,
        requests: Sequence[FewRequest],
        missing: Sequence[tuple[slice, ...]],
        output: Output,
    ) -> bool:
        """Fetch, decode and write chunks; says whether all of it went well."""
        try:
            for place in missing:
                _fill(output, place)
            count = sum(len(request.chunks) for request in requests)
            least = least_for_threads(self._program)
            if self._threads == 1 or len(requests) == 1 or count * self._nbytes < least:
                return self._read_some(store, requests, output)
            return self._read_in_threads(store, requests, output)
        except (GpuzarrError, StepError, ValueError, MemoryError):
            return False

    def _read_in_threads(
        self, store: Store, requests: Sequence[FewRequest], output: Output
    ) -> bool:
        parts = min(len(requests), PARTS * self._threads)
        edges = [len(requests) * part // parts for part in range(parts + 1)]
        crew = Crew()
        good: list[bool] = []

        def read_part(begin: int, end: int) -> None:
            try:
                good.append(self._read_some(store, requests[begin:end], output))
            except (GpuzarrError, StepError, ValueError, MemoryError):
                return

        works = [
            partial(read_part, begin, end) for begin, end in zip(edges[:-1], edges[1:], strict=True)
        ]
        try:
            crew.add(works, self._threads, caller_works=may_run_here(self._program))
            crew.finish()
        except BaseException:
            crew.abort()
            raise
        return sum(good) == parts

    def _read_some(self, store: Store, requests: Sequence[FewRequest], output: Output) -> bool:
        with EncodedMemory() as memory:
            for request in requests:
                key, offset, nbytes, validator, chunks = request
                memory.clear()
                blob = store.read(key, offset, nbytes, memory.allocate)
                if blob is None:
                    if nbytes != WHOLE:
                        return False
                    _fill(output, chunks[0].put)
                    continue
                if validator is not None and blob.validator != validator:
                    return False
                data = blob.data
                for chunk in chunks:
                    start, size = chunk.start, chunk.nbytes
                    self._write(
                        data if size == WHOLE else data[start : start + size], chunk, output
                    )
        return True

    def _write(self, encoded: memoryview, chunk: FewChunk, output: Output) -> None:
        """Decode a chunk, and write what is taken of it."""
        conversion = output.conversion
        target = output.array[chunk.put]
        if not conversion.identity:
            target[...] = convert(self._decoder.decode(encoded)[chunk.take], conversion)
            return
        if target.nbytes == self._nbytes and self._is_memory(target):
            self._decoder.decode(encoded, memoryview(target.reshape(-1).view(np.uint8)))
            return
        target[...] = self._decoder.decode(encoded)[chunk.take]

    def _is_memory(self, target: NDArray[Any]) -> bool:
        """Whether the place of a whole chunk is one run of memory, of the chunk's own form."""
        layout = self._program.layout
        return layout.c_order and layout.dtype == target.dtype and target.flags.c_contiguous


def _fill(output: Output, place: tuple[slice, ...]) -> None:
    conversion = output.conversion
    fill = output.fill if conversion.identity else convert(output.fill, conversion)
    output.array[place] = fill
