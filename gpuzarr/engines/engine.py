"""What an engine is: it runs one decode program over batches of chunks, and writes the outputs.

    engine.begin(outputs) -> Session                one read
        session.fetch(program, batch, store)        starts the batch's reads
        session.decode(program, batch, staging)     decodes what they brought
        session.fill(pieces)                        chunks that are not stored
        session.finish()                            waits; one error names every failed chunk

Engines hold nothing of a read, so that many threads read at once; a session holds it all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import numpy as np

    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch, BatchLimits
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Store, Wanted

DeviceArray = Any
"""A numpy.ndarray or a cupy.ndarray; the latter's package is not imported for a type."""

Staging = Any
"""What an engine's `fetch` gives to its `decode`; only the engine looks into it."""


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


@dataclass(frozen=True, slots=True)
class ProgramReport:
    """How an engine runs a program, for `explain`."""

    steps: tuple[str, ...]
    """Each step, in order, with where it runs if that is not plain."""
    notes: tuple[str, ...] = ()
    """Why a faster way is not taken."""
    in_parts: bool = False
    """Whether it leaves out what is not needed of large chunks, where their bytes let it."""


@dataclass(frozen=True, slots=True)
class PlacesReport:
    """Where an engine that can decode in two places would decode a read, for `explain`."""

    host_batches: int
    """Batches that the host decodes..."""
    device_batches: int
    """...and those that the device does."""
    host_ms: float
    """Milliseconds, estimated, if the host decoded all of them..."""
    device_ms: float
    """...and if the device did; one after the other, without reading."""
    why: str


class Session(Protocol):
    """One read in flight."""

    def fetch(self, program: DecodeProgram, batch: Batch, store: Store) -> Staging:
        """Start the reads of a batch."""
        ...

    def decode(self, program: DecodeProgram, batch: Batch, staging: Staging) -> None:
        """Decode the batch's chunks and write their pieces; may return before that is done."""
        ...

    def fill(self, pieces: PieceTable) -> None:
        """Write the fill value where chunks are not stored."""
        ...

    def scatter(self, program: DecodeProgram, batch: Batch, array: DeviceArray) -> None:
        """Write the pieces of chunks that lie decoded in an array of the engine.

        Args:
            program: without steps; how the chunks lie.
            batch: the chunks: `start` is where each begins, in bytes, in the array; nothing is
                fetched.
            array: C-contiguous.
        """
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


class FewChunk(NamedTuple):
    """A chunk that is planned with plain numbers."""

    start: int
    """First byte in what its request brings."""
    nbytes: int
    """Encoded bytes, or `gpuzarr.plan.ranges.WHOLE`."""
    take: tuple[slice, ...]
    """What is taken of it, along each axis of the array."""
    put: tuple[slice, ...]
    """Where that goes, along each axis of the output."""


class FewRequest(NamedTuple):
    """A range of an object, with the chunks that lie in it."""

    key: str
    offset: int
    nbytes: int
    """Or `WHOLE`."""
    validator: Hashable
    """Of the object, see `gpuzarr.stores.store.Blob`; None: not known."""
    chunks: list[FewChunk]


Pieces = tuple[range, list[slice], list[slice]]
"""Chunks along one axis: their numbers, what is taken of each, and where that goes."""


BrickChunk = tuple[int, int, int, int]
"""Which of a brick's chunks it is; its first byte in what all requests bring, one behind another;
its encoded bytes; and with which request it is there."""


class Brick(NamedTuple):
    """Chunks that fill a box of the chunk grid, numbered with the last axis fastest."""

    requests: list[Wanted]
    """What to read."""
    chunks: list[BrickChunk] | None
    """What it brings, as it lies there; None: each request brings one chunk, if that is stored."""
    axes: Sequence[Pieces]
    """The chunks along each axis of the array, and of the output."""


class Landing(Protocol):
    """The rest of a read of a few chunks."""

    def wait(self) -> None:
        """Block until all is written.

        Raises:
            DeviceError: the device failed.
        """
        ...


class FewReader(Protocol):
    """Reads a few chunks of one program and shape at once, in the caller's thread."""

    def takes(self, count: int, nbytes: int) -> bool:
        """Whether it reads so many chunks, for a result of so many bytes: asked before the plan."""
        ...

    def places(self, count: int, nbytes: int) -> PlacesReport | None:
        """Where it would decode them; None: it does not take them, or has no choice."""
        ...

    def read(
        self,
        store: Store,
        requests: Sequence[FewRequest],
        missing: Sequence[tuple[slice, ...]],
        output: Output,
        stream: Any = None,
    ) -> Landing | None:
        """Fetch, decode and write chunks; gives what to wait for, None if anything went wrong.

        Args:
            store: where they lie.
            requests: what to fetch.
            missing: where chunks belong that are not stored.
            output: where all is written.
            stream: as in `Engine.begin`.
        """
        ...

    def takes_brick(self, store: Store, count: int, array: DeviceArray) -> bool:
        """Whether it had rather have so many chunks as a brick, for this output's array."""
        ...

    def read_brick(
        self, store: Store, brick: Brick, output: Output, stream: Any = None
    ) -> Landing | None:
        """As `read`, of a brick."""
        ...


class DecodesFew(Protocol):
    """Engines that can do without sessions for a few chunks."""

    def few(self, program: DecodeProgram, shape: tuple[int, ...]) -> FewReader | None:
        """What reads a few chunks of this program and shape; None: use a session."""
        ...


@runtime_checkable
class ChoosesPlaces(Protocol):
    """Engines that decode on the host or on the device, whatever is faster."""

    def places(self, program: DecodeProgram, batches: Sequence[Batch]) -> PlacesReport | None:
        """Where these batches of a read would be decoded; None: there is nothing to choose."""
        ...


class Engine(Protocol):
    """Runs programs on one device."""

    name: str
    """What `Array.engine` shows: "cpu", "cuda", "hybrid", ..."""
    device: str
    """Where results live: "cpu", "cuda:0", ..."""

    def limits_for(self, program: DecodeProgram) -> BatchLimits:
        """How large the batches of a program may be."""
        ...

    def describe(self, program: DecodeProgram) -> ProgramReport:
        """How the program runs here."""
        ...

    def unsupported(self, program: DecodeProgram) -> tuple[str, ...]:
        """Every reason why this engine cannot run the program; () when it can."""
        ...

    def current_stream(self) -> Any:
        """The stream that the caller's own work goes to; None on devices without streams."""
        ...

    def empty(self, shape: Sequence[int], dtype: np.dtype, stream: Any = None) -> DeviceArray:
        """A new C-contiguous array on the device, not written yet.

        Args:
            shape: of the array.
            dtype: of the array.
            stream: what the work on it is ordered on; None: the caller's current one.

        Raises:
            MemoryLimitError: it does not fit.
        """
        ...

    def owns(self, array: object) -> bool:
        """Whether this is an array that results can be written into."""
        ...

    def assign(self, out: DeviceArray, values: DeviceArray, stream: Any = None) -> None:
        """`out[...] = values`, done when it returns.

        Args:
            out: an array that the engine owns.
            values: another, of the same shape and dtype.
            stream: as in `begin`.
        """
        ...

    def begin(
        self,
        outputs: Sequence[Output],
        stream: Any = None,
        stopped: Callable[[], bool] | None = None,
    ) -> Session:
        """Start a read into these outputs.

        Args:
            outputs: where it writes.
            stream: what its work is ordered on, for devices that have streams.
            stopped: whether to give up the read; an engine that takes long over a batch asks
                between chunks, in any thread, and leaves out the rest.

        Raises:
            ValueError: a stream where there are none.
        """
        ...
