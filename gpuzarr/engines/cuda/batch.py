"""One batch on the device: from encoded chunks in staging to pieces in the outputs.

`BatchBuilder` walks through the device's steps of a program and adds what each needs to a `Work`:
a call of nvCOMP for each format of streams, a launch for each other step, and at last the scatter.
On the way it keeps, for every chunk, where its bytes are by now, and whether they are still
shuffled, for a byte shuffle is undone by whatever reads the bytes next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import numpy as np

from gpuzarr.engines.cuda import transfer
from gpuzarr.engines.cuda.filters import add_filter
from gpuzarr.engines.cuda.frames.streams import BIT_SHUFFLE, BYTE_SHUFFLE, UNCHECKED
from gpuzarr.engines.cuda.kernels import COPY_TILE, THREADS
from gpuzarr.engines.cuda.layout import ACTUAL_NBYTES, STATUS_NBYTES, slots
from gpuzarr.engines.cuda.pieces import first_blocks
from gpuzarr.engines.cuda.shuffles import bring_into_order, unshuffle, unshuffle_blocks
from gpuzarr.engines.cuda.transfer import ChunkColumns
from gpuzarr.engines.cuda.work import Checksums, Decompression, Work
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

    from gpuzarr.engines.cuda.device import Decompressor
    from gpuzarr.engines.cuda.frames.streams import Frames, StreamFormat, StreamTable
    from gpuzarr.engines.cuda.layout import BatchLayout
    from gpuzarr.engines.cuda.transfer import OutputTarget
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.program import Layout, Step

CHECKS = {"zstd": "xxh64", "deflate": "adler32", "gzip": "crc32"}
"""The checksum of its output that a stream of a format may carry."""
ONE_STREAM_A_THREAD = ("xxh64", "blosclz")
"""Kernels in which a thread, not a block, does a stream."""


class BatchBuilder:
    """The work of one batch, put together."""

    def __init__(  # noqa: PLR0913  what a batch is made of
        self,
        *,
        decompressor: Decompressor,
        layout: BatchLayout,
        base: int,
        staging: int,
        address: NDArray[np.int64],
        nbytes: NDArray[np.int64],
        shapes: NDArray[np.int64],
        encoded: NDArray[np.bool_],
        image_nbytes: NDArray[np.int64],
    ) -> None:
        """Start with the chunks as they lie in staging.

        Args:
            decompressor: what decodes streams.
            layout: where everything is to lie.
            base: address of the batch's memory.
            staging: address of the encoded bytes.
            address: (n,) addresses of the chunks.
            nbytes: (n,) their bytes.
            shapes: (n, ndim) their shapes.
            encoded: (n,) whether the device's steps are still to be run on them; the host has
                decoded the others.
            image_nbytes: (n,) bytes of each chunk's slot in an image.
        """
        self.work = Work()
        self.decompressor = decompressor
        self.shapes = shapes
        self.encoded = np.flatnonzero(encoded)
        self.address = address.copy()
        self.nbytes = nbytes.copy()
        n = len(address)
        self.typesize = np.zeros(n, np.int64)
        self.block = np.zeros(n, np.int64)
        self._layout = layout
        self._base = base
        self._staging = staging
        self._slot = slots(image_nbytes)[0]
        self._images = base + np.array(layout.images, np.int64)
        self._next = np.zeros(n, np.int64)  # for each chunk, the image that it is not in
        self._streams = 0
        self.status = base + layout.status
        self.value = base + layout.value

    # ----------------------------------------------------------------------- places in memory

    def next_slots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Addresses to take some chunks to: their slots in the image that they are not in.

        Chunks of a batch may be in different ones, for not all take the same steps.
        """
        slots_there = self._images[self._next[rows]] + self._slot[rows]
        self._next[rows] = 1 - self._next[rows]
        return slots_there

    def move(self, rows: NDArray[np.int64], address: NDArray[np.int64]) -> None:
        """The bytes of some chunks are elsewhere now, and not shuffled."""
        self.address[rows] = address
        self.typesize[rows] = 0

    def columns(self) -> ChunkColumns:
        """Where the chunks are, as columns of the table."""
        work = self.work
        return ChunkColumns(
            work.integers(self.address),
            work.integers(self.nbytes),
            work.integers(self.typesize),
            work.integers(self.block),
            bool(self.typesize.any()),
        )

    # ----------------------------------------------------------------------------------- steps

    def run(self, steps: Sequence[Step], sizes: NDArray[np.int64], frames: Frames | None) -> None:
        """Add the device's steps.

        Args:
            steps: in order.
            sizes: (n, steps) bytes that each gives for each chunk.
            frames: the walked frames of the `Decompress` among them; its rows are those of the
                encoded chunks, in order.
        """
        for place, step in enumerate(steps):
            match step:
                case Decompress():
                    assert frames is not None  # noqa: S101  the session walks them before
                    self._decompress(frames, sizes[:, place])
                case VerifyChecksum():
                    bring_into_order(self)
                    self._verify(step)
                case Unshuffle():
                    bring_into_order(self)
                    unshuffle(self, step)
                case CumulativeSum() | ScaleOffset() | Cast() | UnpackBits() | Reorder():
                    bring_into_order(self)
                    add_filter(self, step, sizes[self.encoded, place])
                case HostOnly():
                    raise AssertionError(step)  # the capability rules leave it to the host
                case _:
                    assert_never(step)

    def finish(self, targets: Sequence[OutputTarget], pieces: PieceTable, layout: Layout) -> Work:
        """Add the scatter, and give the whole work."""
        columns = self.columns()
        transfer.scatter(self.work, targets, pieces, self.shapes, layout, columns, self.status)
        return self.work

    def _verify(self, step: VerifyChecksum) -> None:
        """Compute the checksums of the chunks' bytes, compare them, and leave them out."""
        rows, work = self.encoded, self.work
        begin = self.address[rows]
        self.nbytes[rows] -= 4
        stored = begin + self.nbytes[rows]
        if step.at == "start":
            stored = begin
            self.address[rows] += 4
        self._checksums(step.algorithm, self.address[rows], self.nbytes[rows])
        work.launch(
            "check_stored",
            -(-len(rows) // THREADS),
            self.value,
            work.integers(stored),
            work.integers(rows),
            len(rows),
            self.status,
        )

    def _checksums(
        self, algorithm: str, source: NDArray[np.int64], nbytes: NDArray[np.int64]
    ) -> None:
        """Compute checksums of ranges into the place for values."""
        work, count = self.work, len(source)
        sources, sizes = work.integers(source), work.integers(nbytes)
        if algorithm in {"crc32", "crc32c"}:
            most = int(nbytes.max())
            work.operations.append(Checksums(algorithm, count, sources, sizes, most, self.value))
            return
        blocks = -(-count // THREADS) if algorithm in ONE_STREAM_A_THREAD else count
        work.launch(algorithm, blocks, sources, sizes, self.value, count)

    # ----------------------------------------------------------------------------- decompression

    def _decompress(self, frames: Frames, sizes: NDArray[np.int64]) -> None:
        rows = self.encoded
        image = self.next_slots(rows)  # by the frames' own numbers of chunks
        for name, table in frames.streams.items():
            self._decompress_streams(name, table, image)
        copies = frames.copies
        if len(copies):
            source, goal = self._staging + copies.source, image[copies.chunk] + copies.target
            self._copy_ranges(source, goal, copies.nbytes)
        self.move(rows, image)
        self.nbytes[rows] = sizes[rows]
        if frames.shuffle is None or frames.typesize is None or frames.block is None:
            return
        by_bytes = np.flatnonzero(frames.shuffle == BYTE_SHUFFLE)
        self.typesize[rows[by_bytes]] = frames.typesize[by_bytes]
        self.block[rows[by_bytes]] = frames.block[by_bytes]
        by_bits = np.flatnonzero(frames.shuffle == BIT_SHUFFLE)
        if len(by_bits):
            unshuffle_blocks(self, rows[by_bits], frames.typesize[by_bits], frames.block[by_bits])

    def _decompress_streams(
        self, name: StreamFormat, table: StreamTable, image: NDArray[np.int64]
    ) -> None:
        """Decode all streams of one format, and check what came out."""
        work, count = self.work, len(table)
        source = self._staging + table.source
        target = image[table.chunk] + table.target
        if name != "blosclz":
            source = self._aligned(source, table.nbytes, self.decompressor.alignment(name).input)
        sources, nbytes = work.integers(source), work.integers(table.nbytes)
        targets, capacity = work.integers(target), work.integers(table.decoded)
        actual = self._base + self._layout.actual + ACTUAL_NBYTES * self._streams
        stream_status = self._base + self._layout.stream_status + STATUS_NBYTES * self._streams
        self._streams += count
        if name == "blosclz":
            blocks = -(-count // THREADS)
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
        chunk = work.integers(self.encoded[table.chunk])
        work.launch(
            "check_streams",
            -(-count // THREADS),
            stream_status,
            actual,
            capacity,
            chunk,
            count,
            self.status,
        )
        checked = np.flatnonzero(table.check != UNCHECKED)
        if len(checked):
            self._check(CHECKS[name], table.take(checked), target[checked])

    def _check(self, algorithm: str, table: StreamTable, target: NDArray[np.int64]) -> None:
        """Compare what streams gave with the checksums that they carry."""
        work, count = self.work, len(table)
        self._checksums(algorithm, target, table.decoded)
        work.launch(
            "check_values",
            -(-count // THREADS),
            self.value,
            work.integers(table.check),
            work.integers(self.encoded[table.chunk]),
            count,
            self.status,
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
        work = self.work
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
