"""Decoded chunks that are kept between reads, in an array on the device, bounded by bytes.

The cache is one more output of a read: chunks that are decoded are written to a slot of it as well,
whole, by the same scatter. A later read takes their pieces from there and decodes nothing. What was
used longest ago gives up its slot; chunks of one read never push out each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from gpuzarr.engines.engine import Conversion, Output
from gpuzarr.errors import UnsupportedError
from gpuzarr.locate import object_keys
from gpuzarr.plan.batches import DEVICE, Batch
from gpuzarr.plan.chunk_table import OutputAxis, PieceTable
from gpuzarr.plan.grid import RegularAxis
from gpuzarr.plan.joint import BEHIND
from gpuzarr.plan.ranges import Requests
from gpuzarr.program import DecodeProgram, Layout
from gpuzarr.stores.mounted import mounted_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.engine import Session
    from gpuzarr.plan.chunk_table import ChunkTable
    from gpuzarr.plan.grid import GridAxis
    from gpuzarr.plan.joint import Tables
    from gpuzarr.source import ArraySource


NONE = -1
"""As the number of a chunk, a slot or a read: there is none."""

MOST_CHUNKS = 1 << 62
"""Chunks of an array, so that their numbers are integers of 64 bits; of more nothing is kept."""


class ChunkCache:
    """Decoded chunks of one array; for one read at a time."""

    def __init__(self, source: ArraySource, limit_nbytes: int, stream: Any = None) -> None:
        """Reserve room for as many chunks as `limit_nbytes` hold, and the grid has.

        Args:
            source: the array.
            limit_nbytes: bytes that it may take.
            stream: what the reads are ordered on; None: the caller's current one.

        Raises:
            MemoryLimitError: the device has no such memory.
        """
        self.source = source
        dtype = source.metadata.data_type.dtype
        self._slot_shape = tuple(map(_largest, source.chunks))
        self.slot_nbytes = prod(self._slot_shape) * dtype.itemsize
        fits = limit_nbytes // max(1, self.slot_nbytes)
        if dtype.hasobject or dtype.kind == "T":  # their bytes are elsewhere, not counted
            fits = 0
        self._counts = [axis.nchunks for axis in source.chunks]
        nchunks = prod(self._counts)
        nslots = min(fits, nchunks) if nchunks <= MOST_CHUNKS else 0
        ndim = len(self._slot_shape)
        self.axes = (BEHIND, *(OutputAxis((dim,)) for dim in range(ndim)))
        self.program = DecodeProgram((), Layout(dtype, tuple(range(ndim))))
        self.output: Output | None = None
        """Where chunks are kept; None: none fits, or the device's arrays cannot have the dtype."""
        if nslots:
            with suppress(UnsupportedError):
                shape = (nslots, *self._slot_shape)
                array = source.engine.empty(shape, dtype, stream)
                self.output = Output(array, source.fill, Conversion(dtype, dtype))
        self.nslots = 0 if self.output is None else nslots
        self.chunk = np.full(self.nslots, NONE)
        """(nslots,) the number of the chunk in each slot."""
        self.read = np.full(self.nslots, NONE)
        """(nslots,) the number of the read that used each slot last."""
        self._reads = 0
        self.hits = self.misses = 0
        """Chunks that reads found here, and that they did not."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, full or not."""
        return self.nslots * self.slot_nbytes

    def begin(self, array: int, output: int) -> CacheUse:
        """Use it in a read, whose tables call the array and the cache by these numbers."""
        self._reads += 1
        return CacheUse(self, self._reads, array, output)

    def numbers(self, coords: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) the numbers of chunks, in C order of the grid."""
        number = np.zeros(len(coords), np.int64)
        for dim, count in enumerate(self._counts):
            number = number * count + coords[:, dim]
        return number

    def slots_of(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) the slots that hold chunks, or NONE.

        Args:
            numbers: (n,) of the chunks, ascending.
        """
        slots = np.full(len(numbers), NONE)
        if len(numbers):
            place = np.minimum(np.searchsorted(numbers, self.chunk), len(numbers) - 1)
            here = np.flatnonzero(numbers[place] == self.chunk)
            slots[place[here]] = here
        return slots

    def batch(
        self, chunks: ChunkTable, pieces: PieceTable, keys: Sequence[str], slots: NDArray[np.int64]
    ) -> Batch:
        """Chunks that lie in slots, where a chunk lies as if it were as large as the slot."""
        n = len(chunks)
        shape = np.broadcast_to(np.array(self._slot_shape, np.int64), chunks.shape.shape)
        nbytes = np.full(n, self.slot_nbytes, np.int64)
        return Batch(
            replace(chunks, shape=shape, decoded_nbytes=nbytes),
            pieces,
            Requests(keys, [0] * n, nbytes.tolist(), {}),
            np.arange(n),
            slots * self.slot_nbytes,
            nbytes,
            np.full(n, DEVICE, np.uint8),
        )


class CacheUse:
    """A cache during one read."""

    def __init__(self, cache: ChunkCache, read: int, array: int, output: int) -> None:
        self._cache = cache
        self._read = read
        self.array = array
        """Which array of the read."""
        self._output = output
        self._slots: list[NDArray[np.int64]] = []
        """What this read brings to where: slots, and numbers of chunks, of each block."""
        self._numbers: list[NDArray[np.int64]] = []

    def use(
        self, chunks: ChunkTable, pieces: PieceTable, session: Session, mount: int | None
    ) -> Tables:
        """Write the pieces of chunks that are here; give the others, which will be kept.

        Args:
            chunks: of a read, those of an array in C order of its grid.
            pieces: of these.
            session: writes.
            mount: the array's store, in reads of several.

        Returns:
            The tables without these chunks, and with a piece to the cache for each chunk that is to
            be kept.
        """
        cache = self._cache
        assert cache.output is not None  # noqa: S101  a cache without it is not used
        begin, end = np.searchsorted(chunks.array, [self.array, self.array + 1]).tolist()
        numbers = cache.numbers(chunks.coords[begin:end])
        slots = cache.slots_of(numbers)
        here = np.flatnonzero(slots != NONE)
        cache.read[slots[here]] = self._read
        cache.hits += len(here)
        cache.misses += len(numbers) - len(here)
        rows = np.arange(len(chunks))
        absent = np.flatnonzero(slots == NONE)
        if len(here):
            found = begin + here
            keys = _Keys(cache.source, chunks.coords[found], mount)
            batch = cache.batch(chunks.take(found), pieces.of_chunks(found), keys, slots[here])
            session.scatter(cache.program, batch, cache.output.array)
            rows = np.delete(rows, found)
            chunks, pieces = chunks.take(rows), pieces.of_chunks(rows)
        kept, taken = self._reserve(numbers, absent)
        return chunks, self._with_slots(chunks, pieces, np.searchsorted(rows, begin + kept), taken)

    def keep(self) -> None:
        """The read is done: what it brought is good."""
        for slots, numbers in zip(self._slots, self._numbers, strict=True):
            self._cache.chunk[slots] = numbers
        self._slots, self._numbers = [], []

    def forget(self) -> None:
        """The read failed: nothing is known of what it wrote."""
        for slots in self._slots:
            self._cache.read[slots] = NONE
        self._slots, self._numbers = [], []

    def _reserve(
        self, numbers: NDArray[np.int64], absent: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Slots for chunks that are not here: empty ones, then those that were used longest ago.

        Those that this read uses are never taken: another thread may be writing their pieces.

        Returns:
            (m,) the rows of the chunks that are to be kept, and (m,) their slots.
        """
        cache = self._cache
        for before in self._numbers:  # needed once more, by another block of the read
            absent = absent[~np.isin(numbers[absent], before)]
        free = np.flatnonzero(cache.read < self._read)
        slots = free[_smallest(cache.read[free], len(absent))]
        kept = absent[: len(slots)]
        cache.chunk[slots], cache.read[slots] = NONE, self._read
        self._slots.append(slots)
        self._numbers.append(numbers[kept])
        return kept, slots

    def _with_slots(
        self,
        chunks: ChunkTable,
        pieces: PieceTable,
        rows: NDArray[np.int64],
        slots: NDArray[np.int64],
    ) -> PieceTable:
        """The pieces, and one for each row that goes to a slot."""
        if not len(rows):
            return pieces
        ndim, width = chunks.shape.shape[1], pieces.start.shape[1]
        start = np.zeros((len(rows), width), np.int64)
        out_start, extent = start.copy(), np.ones_like(start)
        out_start[:, 0] = slots
        extent[:, 1 : ndim + 1] = chunks.shape[rows]
        chunk = np.concatenate([pieces.chunk, rows])
        order = np.argsort(chunk, kind="stable")
        output = np.full(len(rows), self._output, np.int32)
        axes = list(pieces.axes)
        axes[self._output] = self._cache.axes
        return PieceTable(
            chunk[order],
            np.concatenate([pieces.output, output])[order],
            np.concatenate([pieces.start, start])[order],
            np.concatenate([pieces.out_start, out_start])[order],
            np.concatenate([pieces.extent, extent])[order],
            tuple(axes),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Keys(Sequence[str]):
    """Keys of the objects that hold some chunks, made when one is asked for: for errors."""

    source: ArraySource
    coords: NDArray[np.int64]
    mount: int | None

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[str]: ...
    def __getitem__(self, row: int | slice) -> str | Sequence[str]:
        if isinstance(row, slice):
            return _Keys(self.source, self.coords[row], self.mount)
        (key,) = object_keys(self.source, self.coords[row][None])
        return key if self.mount is None else mounted_key(self.mount, key)

    def __len__(self) -> int:
        return len(self.coords)


def _smallest(values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(m,) where the `count` smallest of (n,) values are, or all if there are not so many."""
    if count >= len(values):
        return np.arange(len(values))
    return np.argpartition(values, count)[:count]


def _largest(axis: GridAxis) -> int:
    """The size of the largest chunk along a dimension."""
    if isinstance(axis, RegularAxis):
        return axis.size
    return int(axis.size_of(np.arange(axis.nchunks)).max(initial=0))
