"""Decoded chunks that are kept between reads, in an array on the device, bounded by bytes.

The cache is one more output of a read: chunks that are decoded are written to a slot of it as well,
whole, by the same scatter. A later read takes their pieces from there and decodes nothing. What was
used longest ago gives up its slot; chunks of one read never push out each other.
"""

from __future__ import annotations

from collections import OrderedDict
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

    Coords = tuple[int, ...]


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
        self._source = source
        dtype = source.metadata.data_type.dtype
        self._slot_shape = tuple(map(_largest, source.chunks))
        self.slot_nbytes = prod(self._slot_shape) * dtype.itemsize
        fits = limit_nbytes // max(1, self.slot_nbytes)
        if dtype.hasobject or dtype.kind == "T":  # their bytes are elsewhere, not counted
            fits = 0
        nslots = min(fits, prod(axis.nchunks for axis in source.chunks))
        ndim = len(self._slot_shape)
        self._axes = (BEHIND, *(OutputAxis((dim,)) for dim in range(ndim)))
        self._program = DecodeProgram((), Layout(dtype, tuple(range(ndim))))
        self.output: Output | None = None
        """Where chunks are kept; None: none fits, or the device's arrays cannot have the dtype."""
        if nslots:
            with suppress(UnsupportedError):
                shape = (nslots, *self._slot_shape)
                array = source.engine.empty(shape, dtype, stream)
                self.output = Output(array, source.fill, Conversion(dtype, dtype))
        self.nslots = 0 if self.output is None else nslots
        self._slots: OrderedDict[Coords, int] = OrderedDict()
        self._free = list(range(self.nslots))
        self.hits = self.misses = 0
        """Chunks that reads found here, and that they did not."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, full or not."""
        return self.nslots * self.slot_nbytes

    def begin(self, array: int, output: int) -> CacheUse:
        """Use it in a read, whose tables call the array and the cache by these numbers."""
        return CacheUse(self, array, output)


class CacheUse:
    """A cache during one read."""

    def __init__(self, cache: ChunkCache, array: int, output: int) -> None:
        self._cache = cache
        self.array = array
        """Which array of the read."""
        self._output = output
        self._used: set[Coords] = set()
        self._reserved: dict[Coords, int] = {}

    def use(
        self, chunks: ChunkTable, pieces: PieceTable, session: Session, mount: int | None
    ) -> Tables:
        """Write the pieces of chunks that are here; give the others, which will be kept.

        Args:
            chunks: of a read.
            pieces: of these.
            session: writes.
            mount: the array's store, in reads of several.

        Returns:
            The tables without these chunks, and with a piece to the cache for each chunk that is to
            be kept.
        """
        cache = self._cache
        begin, end = np.searchsorted(chunks.array, [self.array, self.array + 1]).tolist()
        coords = list(map(tuple, chunks.coords[begin:end].tolist()))
        slots = np.array([cache._slots.get(place, -1) for place in coords], np.int64)  # noqa: SLF001  one thing
        here = np.flatnonzero(slots >= 0)
        for row in here.tolist():
            cache._slots.move_to_end(coords[row])  # noqa: SLF001
            self._used.add(coords[row])
        if len(here):
            rows = begin + here
            keys = _Keys(cache._source, chunks.coords[rows], mount)  # noqa: SLF001
            self._scatter(chunks.take(rows), pieces.of_chunks(rows), keys, slots[here], session)
        cache.hits += len(here)
        cache.misses += len(coords) - len(here)
        # A chunk may be needed again that was reserved in an earlier block of this read.
        absent = [r for r in np.flatnonzero(slots < 0).tolist() if coords[r] not in self._reserved]
        most = cache.nslots - len(self._used) - len(self._reserved)
        kept = np.array(absent[: max(0, most)], np.int64)
        taken = [self._reserve(coords[row]) for row in kept.tolist()]
        left = np.ones(len(chunks), np.bool_)
        left[begin + here] = False
        rows = np.flatnonzero(left)
        if len(here):
            chunks, pieces = chunks.take(rows), pieces.of_chunks(rows)
        return chunks, self._with_slots(
            chunks, pieces, np.searchsorted(rows, begin + kept), np.array(taken, np.int64)
        )

    def keep(self) -> None:
        """The read is done: what it brought is good."""
        self._cache._slots.update(self._reserved)  # noqa: SLF001
        self._used, self._reserved = set(), {}

    def forget(self) -> None:
        """The read failed: nothing is known of what it wrote."""
        self._cache._free += self._reserved.values()  # noqa: SLF001
        self._used, self._reserved = set(), {}

    def _reserve(self, coords: Coords) -> int:
        """A slot for a chunk: a free one, or that of the chunk that was used longest ago.

        Those that this read uses are never it: another thread may be writing their pieces.
        """
        cache = self._cache
        slot = cache._free.pop() if cache._free else cache._slots.popitem(last=False)[1]  # noqa: SLF001
        self._reserved[coords] = slot
        return slot

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
        axes[self._output] = self._cache._axes  # noqa: SLF001
        return PieceTable(
            chunk[order],
            np.concatenate([pieces.output, output])[order],
            np.concatenate([pieces.start, start])[order],
            np.concatenate([pieces.out_start, out_start])[order],
            np.concatenate([pieces.extent, extent])[order],
            tuple(axes),
        )

    def _scatter(
        self,
        chunks: ChunkTable,
        pieces: PieceTable,
        keys: _Keys,
        slots: NDArray[np.int64],
        session: Session,
    ) -> None:
        cache, n = self._cache, len(chunks)
        assert cache.output is not None  # noqa: S101  a cache without it is not used
        # In a slot a chunk lies as if it were as large as the slot.
        shape = np.broadcast_to(np.array(cache._slot_shape, np.int64), chunks.shape.shape)  # noqa: SLF001
        nbytes = np.full(n, cache.slot_nbytes, np.int64)
        batch = Batch(
            replace(chunks, shape=shape, decoded_nbytes=nbytes),
            pieces,
            Requests(keys, [0] * n, nbytes.tolist(), {}),
            np.arange(n),
            slots * cache.slot_nbytes,
            nbytes,
            np.full(n, DEVICE, np.uint8),
        )
        session.scatter(cache._program, batch, cache.output.array)  # noqa: SLF001


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


def _largest(axis: GridAxis) -> int:
    """The size of the largest chunk along a dimension."""
    if isinstance(axis, RegularAxis):
        return axis.size
    return int(axis.size_of(np.arange(axis.nchunks)).max(initial=0))
