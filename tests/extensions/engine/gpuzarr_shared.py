"""The device "shared": results lie in memory that processes forked later share and may write.

The smallest whole engine: it decodes in the calling thread, one chunk after another, with the CPU
engine's decoders and writers. An engine for other hardware has its own in their place.
"""

from __future__ import annotations

import mmap
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cpu.decoder import ChunkDecoder, unsupported
from gpuzarr.engines.cpu.scatter import piece_writers
from gpuzarr.engines.engine import ProgramReport
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import ChunkError, ChunkFailure, DecodeError, GpuzarrError, MemoryLimitError
from gpuzarr.plan.batches import BatchLimits
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.program import describe_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.engines.engine import Output
    from gpuzarr.plan.batches import Batch
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Pending, Store


class SharedEngine:
    """See `gpuzarr.engines.engine.Engine`."""

    name = "shared"
    device = "shared"

    def __init__(self, device: str, threads: int | None, memory_limit: int | None) -> None:
        """Make the engine; the arguments are those of `gpuzarr.open`."""
        del device, threads
        nbytes = 1 << 24 if memory_limit is None else memory_limit
        self._limits = BatchLimits(nbytes, parallel=1, gap_nbytes=1 << 14)

    def limits_for(self, program: DecodeProgram) -> BatchLimits:
        """The same for all programs."""
        del program
        return self._limits

    def describe(self, program: DecodeProgram) -> ProgramReport:
        """The steps as they are."""
        return ProgramReport(tuple(map(describe_step, program.steps)))

    def unsupported(self, program: DecodeProgram) -> tuple[str, ...]:
        """What the CPU cannot decode."""
        return unsupported(program)

    def current_stream(self) -> None:
        """There are none."""

    def empty(self, shape: Sequence[int], dtype: np.dtype, stream: object = None) -> np.ndarray:
        """A new array in shared memory."""
        del stream
        if dtype.hasobject:
            raise MemoryLimitError(f"elements of dtype {dtype} cannot lie in shared memory")
        memory = mmap.mmap(-1, max(1, prod(shape) * dtype.itemsize))
        return np.ndarray(tuple(shape), dtype, memory)

    def owns(self, array: object) -> bool:
        """Whether it is NumPy's."""
        return isinstance(array, np.ndarray)

    def assign(self, out: np.ndarray, values: np.ndarray, stream: object = None) -> None:
        """As NumPy does it."""
        del stream
        out[...] = values

    def begin(
        self, outputs: Sequence[Output], stream: object = None, stopped: object = None
    ) -> SharedSession:
        """Start a read; it is over soon enough."""
        del stopped
        if stream is not None:
            raise ValueError("stream= has no meaning here")
        return SharedSession(outputs)


class SharedSession:
    """See `gpuzarr.engines.engine.Session`."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        """Start a read into these outputs."""
        self._outputs = outputs
        self._failures: list[ChunkFailure] = []
        self._missing = 0

    def fetch(self, program: DecodeProgram, batch: Batch, store: Store) -> Pending:
        """Start the reads of a batch."""
        del program
        requests = batch.requests
        return store.start_reads(requests.keys, requests.offset, requests.nbytes)

    def decode(self, program: DecodeProgram, batch: Batch, staging: Pending) -> None:
        """Read, decode and write chunk after chunk."""
        shapes = batch.chunks.shape.tolist()
        writers = piece_writers(self._outputs, batch.pieces, len(shapes))
        held, data = -1, None
        for row, request in enumerate(batch.request.tolist()):
            try:
                if request != held:  # each request is asked for once
                    blob = staging.result(request)
                    held, data = request, None if blob is None else blob.data
                if data is None:
                    self._missing += 1
                    for writer in writers:
                        writer.fill(row)
                    continue
                start, nbytes = int(batch.start[row]), int(batch.nbytes[row])
                encoded = data if nbytes == WHOLE else data[start : start + nbytes]
                values = ChunkDecoder(program, shapes[row]).decode(encoded)
                for writer in writers:
                    writer.write(row, values)
            except StepError as error:
                self._fail(batch, row, error.step, DecodeError(error.cause_message))
            except GpuzarrError as error:
                self._fail(batch, row, "fetch", error)

    def fill(self, pieces: PieceTable) -> None:
        """Write the fill value where chunks are not stored."""
        nchunks = int(pieces.chunk[-1]) + 1
        for writer in piece_writers(self._outputs, pieces, nchunks):
            for chunk in range(nchunks):
                writer.fill(chunk)

    def fail(self, failures: Sequence[ChunkFailure]) -> None:
        """Record chunks that failed before they came here."""
        self._failures.extend(failures)

    def finish(self) -> int:
        """Raise what failed; everything else is done already."""
        if self._failures:
            message = f"{len(self._failures)} chunks could not be read"
            raise ChunkError(message, failures=tuple(self._failures))
        return self._missing

    def abort(self) -> None:
        """Nothing runs in the background."""

    def _fail(self, batch: Batch, row: int, step: str, cause: GpuzarrError) -> None:
        key = batch.requests.keys[int(batch.request[row])]
        coords = tuple(batch.chunks.coords[row].tolist())
        self._failures.append(ChunkFailure(key, coords, step, cause))
