"""The CPU engine: NumPy, numcodecs and the fastest kept decoders, over a pool of threads."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cpu import results
from gpuzarr.engines.cpu.decoder import ChunkDecoder, unsupported
from gpuzarr.engines.cpu.few import FEW_NBYTES, CpuFewReader
from gpuzarr.engines.cpu.session import CpuSession
from gpuzarr.engines.engine import ProgramReport
from gpuzarr.engines.memory import CHECKED_NBYTES, available_nbytes
from gpuzarr.engines.pool import cpu_count
from gpuzarr.errors import MemoryLimitError, MetadataError
from gpuzarr.plan.batches import BatchLimits
from gpuzarr.program import Decompress, describe_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.engines.engine import FewReader, Output
    from gpuzarr.program import DecodeProgram

BATCH_NBYTES = 32 << 20
"""Encoded and decoded bytes that are planned at a time. The session cuts them for threads, none of
which holds more than a request and a chunk of them."""

GAP_NBYTES = 1 << 14
"""Bytes of a local file read for nothing to save a request: what one more `preadv` costs."""


IN_PARTS = frozenset({"blosc", "zstd"})
"""Formats of which parts are decoded."""


class CpuEngine:
    """See `gpuzarr.engines.engine.Engine`."""

    name = "cpu"
    device = "cpu"

    def __init__(self, threads: int | None = None, memory_limit: int | None = None) -> None:
        """Make an engine.

        Args:
            threads: at most this many batches of a read run at once; None: one for each CPU that
                the process may use.
            memory_limit: bytes that a read may hold beyond its output; None: 64 MiB or one chunk a
                thread, whichever is larger.
        """
        self.threads = threads or cpu_count()
        self.memory_limit = memory_limit
        nbytes = BATCH_NBYTES
        if memory_limit is not None:
            nbytes = max(1, min(nbytes, memory_limit // self.threads))
        self._limits = BatchLimits(nbytes, 1, GAP_NBYTES)

    def limits_for(self, program: DecodeProgram) -> BatchLimits:
        """The same for all programs."""
        del program
        return self._limits

    def describe(self, program: DecodeProgram) -> ProgramReport:
        """The steps as they are."""
        steps = program.steps
        last = steps[-1] if steps else None
        in_parts = last is None or (isinstance(last, Decompress) and last.format in IN_PARTS)
        return ProgramReport(tuple(map(describe_step, steps)), in_parts=in_parts)

    def unsupported(self, program: DecodeProgram) -> tuple[str, ...]:
        """Libraries that the program needs and that are not installed."""
        return unsupported(program)

    def current_stream(self) -> None:
        """There are none."""

    def empty(
        self, shape: Sequence[int], dtype: np.dtype[Any], stream: object = None
    ) -> np.ndarray[Any, Any]:
        """A new array, refused when the machine cannot hold it."""
        del stream
        nbytes = prod(shape) * dtype.itemsize
        if nbytes > CHECKED_NBYTES and nbytes > available_nbytes():
            results.release()
            if nbytes > (free := available_nbytes()):
                raise MemoryLimitError(
                    f"the result needs {nbytes:,} bytes ({tuple(shape)} of {dtype}), and {free:,}"
                    " are free; read a part of it, or read in parts into `out=`"
                )
        try:
            if nbytes < results.LEAST_NBYTES or dtype.hasobject:
                return np.empty(tuple(shape), dtype)
            return results.take(nbytes).view(dtype).reshape(shape)
        except (MemoryError, ValueError) as error:
            raise MemoryLimitError(
                f"the result needs {nbytes:,} bytes ({tuple(shape)} of {dtype}): {error}"
            ) from error

    def owns(self, array: object) -> bool:
        """Whether it is NumPy's."""
        return isinstance(array, np.ndarray)

    def assign(self, out: np.ndarray, values: np.ndarray, stream: object = None) -> None:
        """As NumPy does it."""
        del stream
        out[...] = values

    def begin(
        self,
        outputs: Sequence[Output],
        stream: object = None,
        stopped: Callable[[], bool] | None = None,
    ) -> CpuSession:
        """Start a read."""
        if stream is not None:
            raise ValueError("stream= is for results on a GPU; these are NumPy arrays")
        return CpuSession(outputs, decoder_for, self.threads, self.memory_limit, stopped)

    def few(self, program: DecodeProgram, shape: tuple[int, ...]) -> FewReader | None:
        """A reader, for chunks of which a thread may hold one without asking for memory."""
        nbytes = program.decoded_nbytes(shape)
        if self.memory_limit is not None or program.layout.dtype.hasobject:
            return None
        if nbytes > FEW_NBYTES and program.steps:  # of other chunks parts are read
            return None
        return CpuFewReader(decoder_for(program, shape), program, shape, self.threads)


@lru_cache(maxsize=256)
def decoder_for(program: DecodeProgram, shape: tuple[int, ...]) -> ChunkDecoder:
    """The prepared decoder of a program and a chunk shape, shared by all threads and reads."""
    try:
        return ChunkDecoder(program, shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise MetadataError(f"a codec's configuration cannot be used: {error}") from error
