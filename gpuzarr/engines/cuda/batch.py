"""One batch on the device: from encoded chunks in staging to pieces in the outputs.

`BatchBuilder` walks through the device's steps of a program and adds what each needs to a `Work`:
a call of nvCOMP for each format of streams, a launch for each other step, and at last the scatter.
`ChunkState` keeps on the way, for every chunk, where its bytes are by now, and whether they are
still shuffled, for a byte shuffle is undone by whatever reads the bytes next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import numpy as np

from gpuzarr.engines.cuda import transfer
from gpuzarr.engines.cuda.filters import add_filter
from gpuzarr.engines.cuda.frames.streams import BIT_SHUFFLE, BYTE_SHUFFLE, UNCHECKED
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
    from gpuzarr.engines.cuda.frames.streams import Frames, StreamFormat, StreamTable
    from gpuzarr.engines.cuda.layout import BatchLayout
    from gpuzarr.engines.cuda.transfer import OutputTarget
    from gpuzarr.engines.cuda.work import Work
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.program import Layout, Step

CHECKS = {"zstd": "xxh64", "deflate": "adler32", "gzip": "crc32"}
"""The checksum of its output that a stream of a format may carry."""
ONE_STREAM_A_THREAD = ("xxh64",)
"""Checksums in which a thread, not a block, does a stream."""


class BatchBuilder:
    """The work of one batch, put together."""

    def __init__(
        self,
        chunks: ChunkState,
        *,
        decompressor: Decompressor,
        layout: BatchLayout,
        base: int,
        staging: int,
    ) -> None:
        """Start with the chunks as they lie in staging.

        Args:
            chunks: of the batch.
            decompressor: what decodes streams.
            layout: where everything is to lie.
            base: address of the batch's memory.
            staging: address of the encoded bytes.
        """
        self._chunks = chunks
        self._decompressor = decompressor
        self._layout = layout
        self._base = base
        self._staging = staging
        self._streams = 0

    # ----------------------------------------------------------------------------------- steps

    def run(self, steps: Sequence[Step], sizes: NDArray[np.int64], frames: Frames | None) -> None:
        """Add the device's steps.

        Args:
            steps: in order.
            sizes: (n, steps) bytes that each gives for each chunk.
            frames: the walked frames of the `Decompress` among them; its rows are those of the
                encoded chunks, in order.
        """
        chunks = self._chunks
        for place, step in enumerate(steps):
            match step:
                case Decompress():
                    assert frames is not None  # noqa: S101  the session walks them before
                    self._decompress(frames, sizes[:, place])
                case VerifyChecksum():
                    bring_into_order(chunks)
                    self._verify(step)
                case Unshuffle():
                    bring_into_order(chunks)
                    unshuffle(chunks, step)
                case CumulativeSum() | ScaleOffset() | Cast() | UnpackBits() | Reorder():
                    bring_into_order(chunks)
                    add_filter(chunks, step, sizes[chunks.encoded, place])
                case HostOnly():
                    raise AssertionError(step)  # the capability rules leave it to the host
                case _:
                    assert_never(step)

    def finish(self, targets: Sequence[OutputTarget], pieces: PieceTable, layout: Layout) -> Work:
        """Add the scatter, and give the whole work."""
        chunks = self._chunks
        columns = chunks.columns()
        transfer.scatter(
            chunks.work, targets, pieces, chunks.shapes, layout, columns, chunks.status
        )
        return chunks.work

    def _verify(self, step: VerifyChecksum) -> None:
        """Compute the checksums of the chunks' bytes, compare them, and leave them out."""
        chunks, work = self._chunks, self._chunks.work
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
        work, value, count = self._chunks.work, self._chunks.value, len(source)
        sources, sizes = work.integers(source), work.integers(nbytes)
        if algorithm in {"crc32", "crc32c"}:
            most = int(nbytes.max())
            work.operations.append(Checksums(algorithm, count, sources, sizes, most, value))
            return
        blocks = -(-count // THREADS) if algorithm in ONE_STREAM_A_THREAD else count
        work.launch(algorithm, blocks, sources, sizes, value, count)

    # ----------------------------------------------------------------------------- decompression

    def _decompress(self, frames: Frames, sizes: NDArray[np.int64]) -> None:
        chunks = self._chunks
        rows = chunks.encoded
        image = chunks.next_slots(rows)  # by the frames' own numbers of chunks
        for name, table in frames.streams.items():
            self._decompress_streams(name, table, image)
        copies = frames.copies
        if len(copies):
            source, goal = self._staging + copies.source, image[copies.chunk] + copies.target
            self._copy_ranges(source, goal, copies.nbytes)
        chunks.move(rows, image)
        chunks.nbytes[rows] = sizes[rows]
        if frames.shuffle is None or frames.typesize is None or frames.block is None:
            return
        by_bytes = np.flatnonzero(frames.shuffle == BYTE_SHUFFLE)
        chunks.typesize[rows[by_bytes]] = frames.typesize[by_bytes]
        chunks.block[rows[by_bytes]] = frames.block[by_bytes]
        by_bits = np.flatnonzero(frames.shuffle == BIT_SHUFFLE)
        if len(by_bits):
            unshuffle_blocks(chunks, rows[by_bits], frames.typesize[by_bits], frames.block[by_bits])

    def _decompress_streams(
        self, name: StreamFormat, table: StreamTable, image: NDArray[np.int64]
    ) -> None:
        """Decode all streams of one format, and check what came out."""
        table = table.largest_first()
        work, count = self._chunks.work, len(table)
        source = self._staging + table.source
        target = image[table.chunk] + table.target
        if name != "blosclz":
            source = self._aligned(source, table.nbytes, self._decompressor.alignment(name).input)
        sources, nbytes = work.integers(source), work.integers(table.nbytes)
        targets, capacity = work.integers(target), work.integers(table.decoded)
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
        chunk = work.integers(self._chunks.encoded[table.chunk])
        work.launch(
            "check_streams",
            -(-count // THREADS),
            stream_status,
            actual,
            capacity,
            chunk,
            count,
            self._chunks.status,
        )
        checked = np.flatnonzero(table.check != UNCHECKED)
        if len(checked):
            self._check(CHECKS[name], table.take(checked), target[checked])

    def _check(self, algorithm: str, table: StreamTable, target: NDArray[np.int64]) -> None:
        """Compare what streams gave with the checksums that they carry."""
        work, count = self._chunks.work, len(table)
        self._checksums(algorithm, target, table.decoded)
        work.launch(
            "check_values",
            -(-count // THREADS),
            self._chunks.value,
            work.integers(table.check),
            work.integers(self._chunks.encoded[table.chunk]),
            count,
            self._chunks.status,
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
        work = self._chunks.work
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
