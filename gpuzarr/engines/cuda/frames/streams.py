"""What a walk over a batch's frames gives: the streams inside, as columns, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

StreamFormat = Literal["zstd", "lz4", "snappy", "deflate", "gzip", "blosclz"]

NO_SHUFFLE, BYTE_SHUFFLE, BIT_SHUFFLE = 0, 1, 2

ALIKE = 1.25
"""Streams whose sizes differ by no more than this factor need no order."""

UNCHECKED = -1
"""As a check: the stream carries no checksum of its output."""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedChunks:
    """The encoded chunks of a batch, in one piece of host memory."""

    data: NDArray[np.uint8]
    """All of it; chunks may lie anywhere inside, with other bytes between them."""
    offset: NDArray[np.int64]
    """(n,) first byte of each chunk in `data`."""
    nbytes: NDArray[np.int64]
    """(n,) encoded bytes of each chunk; `offset + nbytes` is inside `data`."""
    decoded: NDArray[np.int64]
    """(n,) bytes that each must decode to."""

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(frozen=True, slots=True, eq=False)
class StreamTable:
    """Streams of one format, or ranges to copy; a row each, in the order of their chunks."""

    chunk: NDArray[np.int64]
    """(m,) row of the chunk that it belongs to."""
    source: NDArray[np.int64]
    """(m,) first byte in `EncodedChunks.data`."""
    nbytes: NDArray[np.int64]
    """(m,) encoded bytes."""
    target: NDArray[np.int64]
    """(m,) first byte of its output in the chunk's decoded bytes."""
    decoded: NDArray[np.int64]
    """(m,) bytes that it must decode to; for copies the same as `nbytes`."""
    blocks: NDArray[np.int64]
    """(m,) zstd blocks inside it; 1 for other formats."""
    check: NDArray[np.int64]
    """(m,) checksum of the output as the stream says it, or UNCHECKED: zstd the low 32 bits of
    XXH64, deflate (from zlib streams) Adler-32, gzip CRC-32."""

    def __len__(self) -> int:
        return len(self.chunk)

    def take(self, rows: NDArray[np.int64]) -> StreamTable:
        """Some of the rows."""
        return StreamTable(*(getattr(self, name)[rows] for name in _COLUMNS))

    def largest_first(self) -> StreamTable:
        """The rows by size: a GPU begins streams in order, and the last to end should be short.

        Sizes are told apart to one part in 65,536. Where all are about alike, nothing is moved.
        """
        size = self.nbytes + self.decoded
        most = int(size.max(initial=0))
        if most <= ALIKE * int(size.min(initial=most)):
            return self
        coarse = size >> max(0, most.bit_length() - 16)
        # 16 bits are sorted in one pass over them.
        return self.take(np.argsort((0xFFFF - coarse).astype(np.uint16), kind="stable"))

    @classmethod
    def joined(cls, tables: Sequence[StreamTable]) -> StreamTable:
        """All rows of several tables, in their order."""
        if len(tables) == 1:
            return tables[0]
        return cls(
            *(
                np.concatenate([getattr(table, name) for table in tables]) if tables else _NONE
                for name in _COLUMNS
            )
        )

    @classmethod
    def join(cls, tables: Sequence[StreamTable]) -> StreamTable:
        """All rows of several tables, brought into the order of their chunks."""
        table = cls.joined(tables)
        return table.take(np.argsort(table.chunk, kind="stable"))


_COLUMNS = ("chunk", "source", "nbytes", "target", "decoded", "blocks", "check")
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """A batch's frames, walked. Rows with a failure or a host reason have no streams or copies."""

    streams: dict[StreamFormat, StreamTable]
    """By format, only those that there are; outputs of a chunk do not overlap and, with its
    copies, fill its decoded bytes exactly."""
    copies: StreamTable
    """Ranges that are stored as they are."""
    failures: dict[int, str] = field(default_factory=dict)
    """Damaged chunks: row -> what is wrong, in the words of the CPU engine's errors."""
    host: dict[int, str] = field(default_factory=dict)
    """Chunks that only the host can decode: row -> why, as a clause ("it has two members")."""
    shuffle: NDArray[np.uint8] | None = None
    """(n,) NO_SHUFFLE, BYTE_SHUFFLE or BIT_SHUFFLE inside the decoded bytes (Blosc); None: none."""
    typesize: NDArray[np.int64] | None = None
    """(n,) bytes of the elements that were shuffled; None like `shuffle`."""
    block: NDArray[np.int64] | None = None
    """(n,) bytes of the blocks that were shuffled, each on its own; the last may be shorter."""

    def take(self, rows: NDArray[np.int64]) -> Frames:
        """The frames of some chunks alone, which are numbered by their place in `rows`.

        Args:
            rows: ascending.
        """
        numbers = np.full(int(rows.max(initial=-1)) + 1, -1, np.int64)
        numbers[rows] = np.arange(len(rows))

        def pick(table: StreamTable) -> StreamTable:
            inside = np.flatnonzero(table.chunk < len(numbers))
            chosen = table.take(inside[numbers[table.chunk[inside]] >= 0])
            return replace(chosen, chunk=numbers[chosen.chunk])

        picked = {name: pick(table) for name, table in self.streams.items()}
        return Frames(
            {name: table for name, table in picked.items() if len(table)},
            pick(self.copies),
            shuffle=None if self.shuffle is None else self.shuffle[rows],
            typesize=None if self.typesize is None else self.typesize[rows],
            block=None if self.block is None else self.block[rows],
        )

    def moved(self, distance: NDArray[np.int64]) -> Frames:
        """The same frames after their chunks' bytes went elsewhere.

        Args:
            distance: (n,) how far each chunk's bytes went.
        """

        def move(table: StreamTable) -> StreamTable:
            return replace(table, source=table.source + distance[table.chunk])

        return replace(
            self,
            streams={name: move(table) for name, table in self.streams.items()},
            copies=move(self.copies),
        )
