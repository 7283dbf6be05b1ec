"""An engine that runs nothing and remembers what it was asked: for `explain` and for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.engine import ProgramReport
from gpuzarr.program import describe_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.engines.engine import Output
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch, BatchLimits
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Blob, Pending, Store


@dataclass(slots=True)
class RecordingSession:
    """A session that only remembers; see `gpuzarr.engines.engine.Session`."""

    outputs: Sequence[Output]
    batches: list[Batch] = field(default_factory=list)
    programs: list[DecodeProgram] = field(default_factory=list)
    filled: list[PieceTable] = field(default_factory=list)
    scattered: list[Batch] = field(default_factory=list)
    failures: list[ChunkFailure] = field(default_factory=list)
    finished: bool = False

    def fetch(self, program: DecodeProgram, batch: Batch, store: Store) -> Pending:
        """Remember the batch; nothing is read."""
        del program, store
        self.batches.append(batch)
        return _Nothing()

    def decode(self, program: DecodeProgram, batch: Batch, staging: Pending) -> None:
        """Remember the program."""
        del batch, staging
        self.programs.append(program)

    def fill(self, pieces: PieceTable) -> None:
        """Remember the pieces."""
        self.filled.append(pieces)

    def scatter(self, program: DecodeProgram, batch: Batch, array: Any) -> None:
        """Remember the batch."""
        del program, array
        self.scattered.append(batch)

    def fail(self, failures: Sequence[ChunkFailure]) -> None:
        """Remember the failures; they are not raised."""
        self.failures.extend(failures)

    def finish(self) -> int:
        """Remember that the read came to its end."""
        self.finished = True
        return 0

    def abort(self) -> None:
        """Nothing runs."""


class RecordingEngine:
    """See `gpuzarr.engines.engine.Engine`."""

    name = "recording"
    device = "cpu"

    def __init__(self, limits: BatchLimits) -> None:
        """Cut batches as an engine with these limits would."""
        self._limits = limits
        self.sessions: list[RecordingSession] = []

    def limits_for(self, program: DecodeProgram) -> BatchLimits:
        """Those that it was made with."""
        del program
        return self._limits

    def describe(self, program: DecodeProgram) -> ProgramReport:
        """The steps as they are."""
        return ProgramReport(tuple(map(describe_step, program.steps)))

    def unsupported(self, program: DecodeProgram) -> tuple[str, ...]:
        """Nothing: nothing is run."""
        del program
        return ()

    def current_stream(self) -> None:
        """There are none."""

    def empty(
        self, shape: Sequence[int], dtype: np.dtype[Any], stream: object = None
    ) -> np.ndarray[Any, Any]:
        """An array of that shape with one element's memory."""
        del stream
        return np.broadcast_to(np.zeros((), dtype), tuple(shape))

    def owns(self, array: object) -> bool:
        """Whether it is NumPy's."""
        return isinstance(array, np.ndarray)

    def assign(self, out: np.ndarray, values: np.ndarray, stream: object = None) -> None:
        """As NumPy does it."""
        del stream
        out[...] = values

    def begin(
        self, outputs: Sequence[Output], stream: object = None, stopped: object = None
    ) -> RecordingSession:
        """Start remembering."""
        del stream, stopped
        session = RecordingSession(outputs)
        self.sessions.append(session)
        return session


class _Nothing:
    """Reads that were never started."""

    def result(self, row: int, allocate: object = bytearray) -> Blob | None:
        del row, allocate
        return None
