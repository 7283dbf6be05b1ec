"""Batches on the device: from encoded chunks in staging to pieces in the outputs.

`BatchBuilder` walks through the device's steps of each batch's program and adds what each needs to
a `Work`: a call of nvCOMP for each format of streams, a launch for each other step, and at last the
scatter. Several batches, of different programs, share the calls of nvCOMP: small ones would leave a
GPU half idle. `ChunkState` keeps on the way, for every chunk, where its bytes are by now, and
whether they are still shuffled, for a byte shuffle is undone by whatever reads the bytes next.

    batch 1   steps before -+                                        +- steps behind, scatter
    batch 2   steps before -+- decompress all streams of each format -+- steps behind, scatter
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

import numpy as np

from gpuzarr.engines.cuda.filters import add_filter
from gpuzarr.engines.cuda.frames.streams import (
    BIT_SHUFFLE,
    BYTE_SHUFFLE,
    UNCHECKED,
    StreamTable,
)
from gpuzarr.engines.cuda.kernels import COPY_TILE, THREADS, WARPS
from gpuzarr.engines.cuda.layout import ACTUAL_NBYTES, STATUS_NBYTES, slots
from gpuzarr.engines.cuda.pieces import first_blocks
from gpuzarr.engines.cuda.shuffles import bring_into_order, unshuffle, unshuffle_blocks
from gpuzarr.engines.cuda.work import Checksums, Decompression
from gpuzarr.program import (
    Cast,
    CumulativeSum,
    Decompress,
    HostOnly,
    Reorder,
    ScaleOffset,
    UnpackBits,
    Unshuffle,
    VerifyChecksum,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.chunk_state import ChunkState
    from gpuzarr.engines.cuda.device import Decompressor
    from gpuzarr.engines.cuda.frames.streams import Frames, StreamFormat
    from gpuzarr.engines.cuda.layout import BatchLayout
    from gpuzarr.engines.cuda.work import Work
    from gpuzarr.program import Step

CHECKS = {"zstd": "xxh64", "deflate": "adler32", "gzip": "crc32"}
"""The checksum of its output that a stream of a format may carry."""
ONE_STREAM_A_THREAD = ("xxh64",)
"""Checksums in which a thread, not a block, does a stream."""


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A batch among those that are decoded together."""

    chunks: ChunkState
    steps: Sequence[Step]
    """The device's, in order."""
    sizes: NDArray[np.int64]
    """(n, steps) bytes that each gives for each chunk."""
    frames: Frames | None
    """The walked frames of the `Decompress` among them; its rows are those of the encoded chunks,
    in order."""
    staging: int
    """Address of the encoded bytes."""
    first: int
    """Its first chunk among those of all."""

    @property
    def place(self) -> int:
        """Of the `Decompress` among the steps; behind all of them where there is none."""
        found = (n for n, step in enumerate(self.steps) if isinstance(step, Decompress))
        return next(found, len(self.steps))


class BatchBuilder:
    """The work of batches that are decoded together."""

    def __init__(
        self, work: Work, *, decompressor: Decompressor, layout: BatchLayout, base: int
    ) -> None:
        """Start with what was added before.

        Args:
            work: to add to; the members' chunks add to the same.
            decompressor: what decodes streams.
            layout: where everything is to lie.
            base: address of the batches' memory.
        """
        self._work = work
        self._decompressor = decompressor
        self._layout = layout
        self._base = base
        self._value = base + layout.value
        self._status = base + layout.status
        self._streams = 0

    # ----------------------------------------------------------------------------------- steps

    def run(self, members: Sequence[Member]) -> None:
        """Add the device's steps."""
        members = [member for member in members if len(member.chunks.encoded)]
        for member in members:
            for place in range(member.place):
                self._add(member, place)
        self._decompress([member for member in members if member.place < len(member.steps)])
        for member in members:
            for place in range(member.place + 1, len(member.steps)):
                self._add(member, place)

    def _add(self, member: Member, place: int) -> None:
        """Add a step that is no decompression."""
        chunks, step = member.chunks, member.steps[place]
        bring_into_order(chunks)
        match step:
            case VerifyChecksum():
                self._verify(chunks, step)
            case Unshuffle():
                unshuffle(chunks, step)
            case CumulativeSum() | ScaleOffset() | Cast() | UnpackBits() | Reorder():
                add_filter(chunks, step, member.sizes[chunks.encoded, place])
            case HostOnly() | Decompress():
                # The capability rules leave the first to the host, and there is one of the other.
                raise AssertionError(step)
            case _:
                assert_never(step)

    def _verify(self, chunks: ChunkState, step: VerifyChecksum) -> None:
        """Compute the checksums of the chunks' bytes, compare them, and leave them out."""
        work = self._work
        rows = chunks.encoded
        begin = chunks.address[rows]
        chunks.nbytes[rows] -= 4
        stored = begin + chunks.nbytes[rows]
        if step.at == "start":
            stored = begin
            chunks.address[rows] += 4
        self._checksums(step.algorithm, chunks.address[rows], chunks.nbytes[rows])
        work.launch(
            "check_stored",
            -(-len(rows) // THREADS),
            chunks.value,
            work.integers(stored),
            work.integers(rows),
            len(rows),
            chunks.status,
        )

    def _checksums(
        self, algorithm: str, source: NDArray[np.int64], nbytes: NDArray[np.int64]
    ) -> None:
        """Compute checksums of ranges into the place for values."""
        work, value, count = self._work, self._value, len(source)
        sources, sizes = work.integers(source), work.integers(nbytes)
        if algorithm in {"crc32", "crc32c"}:
            most = int(nbytes.max())
            work.operations.append(Checksums(algorithm, count, sources, sizes, most, value))
            return
        blocks = -(-count // THREADS) if algorithm in ONE_STREAM_A_THREAD else count
        work.launch(algorithm, blocks, sources, sizes, value, count)

    # ----------------------------------------------------------------------------- decompression

    def _decompress(self, members: Sequence[Member]) -> None:
        """Decode all streams, and what is stored as it is."""
        streams: dict[StreamFormat, list[StreamTable]] = {}
        copies: list[StreamTable] = []
        images = []
        for member in members:
            assert member.frames is not None  # noqa: S101  the session walks them before
            image = member.chunks.next_slots(member.chunks.encoded)
            images.append(image)
            for name, table in member.frames.streams.items():
                streams.setdefault(name, []).append(_placed(table, member, image))
            copies.append(_placed(member.frames.copies, member, image))
        for name, tables in streams.items():
            self._decompress_streams(name, StreamTable.joined(tables))
        stored = StreamTable.joined(copies)
        if len(stored):
            self._copy_ranges(stored.source, stored.target, stored.nbytes)
        for member, image in zip(members, images, strict=True):
            _note_shuffles(member, image)

    def _decompress_streams(self, name: StreamFormat, table: StreamTable) -> None:
        """Decode all streams of one format, and check what came out.

        Args:
            name: of the format.
            table: with addresses, and chunks among those of all batches.
        """
        table = table.largest_first()
        work, count = self._work, len(table)
        source = table.source
        if name != "blosclz":
            source = self._aligned(source, table.nbytes, self._decompressor.alignment(name).input)
        sources, nbytes = work.integers(source), work.integers(table.nbytes)
        targets, capacity = work.integers(table.target), work.integers(table.decoded)
        actual = self._base + self._layout.actual + ACTUAL_NBYTES * self._streams
        stream_status = self._base + self._layout.stream_status + STATUS_NBYTES * self._streams
        self._streams += count
        if name == "blosclz":
            blocks = -(-count // WARPS)
            columns = (sources, nbytes, targets, capacity, actual, stream_status)
            work.launch("blosclz", blocks, *columns, count)
        else:
            work.operations.append(
                Decompression(
                    *(name, count, sources, nbytes, targets, capacity, actual, stream_status),
                    most=int(table.decoded.max()),
                    temp=self._base + self._layout.temp,
                    temp_nbytes=self._layout.temp_nbytes,
                )
            )
        chunk = work.integers(table.chunk)
        work.launch(
            "check_streams",
            -(-count // THREADS),
            *(stream_status, actual, capacity, chunk, count, self._status),
        )
        checked = np.flatnonzero(table.check != UNCHECKED)
        if len(checked):
            self._check(CHECKS[name], table.take(checked))

    def _check(self, algorithm: str, table: StreamTable) -> None:
        """Compare what streams gave with the checksums that they carry."""
        work, count = self._work, len(table)
        self._checksums(algorithm, table.target, table.decoded)
        work.launch(
            "check_values",
            -(-count // THREADS),
            self._value,
            work.integers(table.check),
            work.integers(table.chunk),
            count,
            self._status,
        )

    def _aligned(
        self, source: NDArray[np.int64], nbytes: NDArray[np.int64], alignment: int
    ) -> NDArray[np.int64]:
        """Addresses of the streams where nvCOMP takes them, copied there if need be."""
        if not (source % alignment).any():
            return source
        offset, _ = slots(nbytes)
        target = self._base + self._layout.aligned + offset
        self._copy_ranges(source, target, nbytes)
        return target

    def _copy_ranges(
        self, source: NDArray[np.int64], target: NDArray[np.int64], nbytes: NDArray[np.int64]
    ) -> None:
        work = self._work
        edges = first_blocks(nbytes, COPY_TILE)
        work.launch(
            "copy_ranges",
            edges[-1],
            work.integers(source),
            work.integers(target),
            work.integers(nbytes),
            work.integers(edges),
            len(nbytes),
        )


def _placed(table: StreamTable, member: Member, image: NDArray[np.int64]) -> StreamTable:
    """A batch's streams with addresses, and chunks among those of all batches.

    Args:
        table: of some of its streams.
        member: the batch.
        image: (encoded chunks,) addresses that the chunks are decoded to.
    """
    return replace(
        table,
        source=member.staging + table.source,
        target=image[table.chunk] + table.target,
        chunk=member.first + member.chunks.encoded[table.chunk],
    )


def _note_shuffles(member: Member, image: NDArray[np.int64]) -> None:
    """Chunks are decoded now, and lie there as their frames say."""
    chunks, frames = member.chunks, member.frames
    rows = chunks.encoded
    chunks.move(rows, image)
    chunks.nbytes[rows] = member.sizes[rows, member.place]
    if frames is None or frames.shuffle is None or frames.typesize is None or frames.block is None:
        return
    by_bytes = np.flatnonzero(frames.shuffle == BYTE_SHUFFLE)
    chunks.typesize[rows[by_bytes]] = frames.typesize[by_bytes]
    chunks.block[rows[by_bytes]] = frames.block[by_bytes]
    by_bits = np.flatnonzero(frames.shuffle == BIT_SHUFFLE)
    if len(by_bits):
        unshuffle_blocks(chunks, rows[by_bits], frames.typesize[by_bits], frames.block[by_bits])
