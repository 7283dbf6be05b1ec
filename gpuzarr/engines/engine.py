"""What an engine is: it runs one decode program over batches of chunks, and writes the outputs.

    engine.begin(outputs) -> Session        one read
        session.fetch(batch, store)         starts the batch's reads
        session.decode(program, batch, staging)
        session.fill(pieces)                chunks that are not stored
        session.finish()                    waits; raises one error that names every failed chunk

Engines hold nothing of a read, so that many threads read at once; a session holds it all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch, BatchLimits
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Pending, Store

DeviceArray = Any
"""A numpy.ndarray or a cupy.ndarray; the latter's package is not imported for a type."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How stored values become results: `stored * scale + offset`, then cast."""

    stored: np.dtype
    """dtype of stored elements in native byte order."""
    result: np.dtype
    """dtype of the output."""
    scale: float | None = None
    offset: float | None = None
    field: str | None = None
    """The field of a structured type that is read; `stored` is its type."""

    @property
    def identity(self) -> bool:
        """Whether values are left as they are (up to byte order)."""
        return self.scale is None and self.offset is None and self.stored == self.result


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """Where a read writes."""

    array: DeviceArray
    """One axis for each axis of the selection; may be strided."""
    fill: np.ndarray[Any, Any]
    """() what chunks that are not stored hold, of the stored dtype, before conversion."""
    conversion: Conversion


class Session(Protocol):
    """One read in flight."""

    def fetch(self, batch: Batch, store: Store) -> Pending:
        """Start the reads of a batch."""
        ...

    def decode(self, program: DecodeProgram, batch: Batch, staging: Pending) -> None:
        """Decode the batch's chunks and write their pieces; may return before that is done."""
        ...

    def fill(self, pieces: PieceTable) -> None:
        """Write the fill value where chunks are not stored."""
        ...

    def fail(self, failures: Sequence[ChunkFailure]) -> None:
        """Record chunks that failed before they reached the engine."""
        ...

    def finish(self) -> int:
        """Wait for everything; gives how many of the fetched chunks turned out not to be stored.

        Raises:
            ChunkError: or one of its kinds, naming every failed chunk.
            StoreError: where the storage failed for all of them.
        """
        ...

    def abort(self) -> None:
        """Stop as soon as possible and wait until nothing writes to the outputs any more."""
        ...


class Engine(Protocol):
    """Runs programs on one device."""

    name: str
    """What `Array.engine` shows: "cpu", "cuda", "hybrid", ..."""
    device: str
    """Where results live: "cpu", "cuda:0", ..."""
    limits: BatchLimits

    def unsupported(self, program: DecodeProgram) -> tuple[str, ...]:
        """Every reason why this engine cannot run the program; () when it can."""
        ...

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> DeviceArray:
        """A new C-contiguous array on the device, not written yet.

        Raises:
            MemoryLimitError: it does not fit.
        """
        ...

    def begin(self, outputs: Sequence[Output]) -> Session:
        """Start a read into these outputs."""
        ...
