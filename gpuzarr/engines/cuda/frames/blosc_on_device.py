"""Blosc frames that lie in device memory only, walked there: for bytes that never touch the host.

The host asks three times, each time for all chunks of a batch: for the headers, for where blocks
start, and for what the kernel `blosc_streams` finds out about every stream. What it makes of the
answers is what the walk on the host makes of the bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.frames.blosc import (
    HEADER_NBYTES,
    INNER,
    ODD_ZLIB,
    ODD_ZSTD,
    OUTSIDE,
    SIZE_NBYTES,
    find_blocks,
    make_frames,
    read_headers,
)
from gpuzarr.engines.cuda.frames.columns import Verdicts
from gpuzarr.engines.cuda.frames.deflate import ZLIB_HEADER, ZLIB_TRAILER
from gpuzarr.engines.cuda.frames.streams import UNCHECKED, EncodedChunks, StreamTable
from gpuzarr.engines.cuda.kernels import COPY_TILE, THREADS
from gpuzarr.engines.cuda.pieces import first_blocks
from gpuzarr.engines.cuda.work import Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Device, Stream
    from gpuzarr.engines.cuda.frames.blosc import Blocks, Headers
    from gpuzarr.engines.cuda.frames.streams import Frames, StreamFormat
    from gpuzarr.engines.cuda.slabs import SlabPool

    Integers = NDArray[np.int64]

ROW = 6
"""Numbers of a stream that the kernel gives: see `kernels/blosc_index.cu`."""


class Probe:
    """Questions to the device that the host waits for."""

    def __init__(self, device: Device, pool: SlabPool, stream: Stream) -> None:
        """Ask on a stream."""
        self._device = device
        self._pool = pool
        self._stream = stream

    def ask(self, work: Work, answer: int, nbytes: int) -> NDArray[np.uint8]:
        """Run `work`, and bring `nbytes` from the address `answer`."""
        memory, table = work.run(self._device, self._pool, self._stream)
        slab = self._pool.take(nbytes)
        self._device.download(answer, slab.array, self._stream)
        self._device.record(self._stream).wait()
        found = slab.array.copy()
        table.give_back()
        slab.give_back()
        del memory
        return found

    def gather(self, address: Integers, nbytes: Integers) -> tuple[NDArray[np.uint8], Integers]:
        """Bytes from several places, one behind the other, and where each begins."""
        offset = np.cumsum(nbytes) - nbytes
        total = int(nbytes.sum())
        memory = self._device.allocate(max(total, 1), self._stream)
        work = Work()
        edges = first_blocks(nbytes, COPY_TILE)
        work.launch(
            "copy_ranges",
            edges[-1],
            work.integers(address),
            work.integers(memory.address + offset),
            work.integers(nbytes),
            work.integers(edges),
            len(nbytes),
        )
        return self.ask(work, memory.address, total), offset

    def streams(self, columns: tuple[Integers, ...], first: Integers, count: int) -> Integers:
        """(count, ROW) what `blosc_streams` finds."""
        nbytes = 8 * ROW * count
        memory = self._device.allocate(max(nbytes, 1), self._stream)
        work = Work()
        work.launch(
            "blosc_streams",
            -(-len(first) // THREADS),
            *(work.integers(column) for column in columns),
            work.integers(first),
            len(first),
            memory.address,
        )
        return self.ask(work, memory.address, nbytes).view(np.int64).reshape(count, ROW)


def walk_blosc_on_device(
    probe: Probe, base: int, offset: Integers, nbytes: Integers, decoded: Integers
) -> Frames:
    """The streams of frames in device memory; see `Frames`.

    Args:
        probe: asks the device.
        base: address that offsets count from.
        offset: (n,) first byte of each chunk.
        nbytes: (n,) its bytes.
        decoded: (n,) bytes that each must decode to.
    """
    verdicts = Verdicts(len(offset))
    data, at = probe.gather(base + offset, np.minimum(nbytes, HEADER_NBYTES))
    headers = read_headers(EncodedChunks(_padded(data), at, nbytes, decoded), verdicts)
    count = np.where(verdicts.good & ~headers.copied, -(-headers.nbytes // headers.block), 0)
    room = np.maximum(nbytes - HEADER_NBYTES, 0) // SIZE_NBYTES
    ahead = np.minimum(nbytes, HEADER_NBYTES + SIZE_NBYTES * np.minimum(count, room))
    data, at = probe.gather(base + offset, ahead)
    blocks = find_blocks(EncodedChunks(_padded(data), at, nbytes, decoded), headers, verdicts)
    streams, stored = _find_streams(probe, base, offset, headers, blocks, verdicts)
    chunks = EncodedChunks(data, offset, nbytes, decoded)
    return make_frames(chunks, headers, verdicts, streams, stored)


def _padded(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bytes with room behind them, for chunks that are shorter than a header."""
    return np.concatenate([data, np.zeros(HEADER_NBYTES, np.uint8)])


def _find_streams(  # noqa: PLR0913, PLR0917  the columns of frames
    probe: Probe,
    base: int,
    offset: Integers,
    headers: Headers,
    blocks: Blocks,
    verdicts: Verdicts,
) -> tuple[dict[StreamFormat, StreamTable], StreamTable]:
    """The streams by format, and those that are stored."""
    good = verdicts.good[blocks.chunk]
    blocks = blocks.take(good)
    first = np.cumsum(blocks.splits) - blocks.splits
    count = int(blocks.splits.sum())
    chunk = np.repeat(blocks.chunk, blocks.splits)
    split = np.arange(count) - np.repeat(first, blocks.splits)
    part = np.repeat(blocks.part, blocks.splits)
    found = np.zeros((0, ROW), np.int64)
    if count:
        columns = (
            base + offset[blocks.chunk],
            headers.frame[blocks.chunk],
            blocks.start,
            blocks.splits,
            blocks.part,
            headers.inner[blocks.chunk],
        )
        found = probe.streams(columns, first, count)
    verdicts.fail(chunk, found[:, 1] == 0, OUTSIDE)
    table = StreamTable(
        chunk,
        offset[chunk] + found[:, 0],
        found[:, 1],
        np.repeat(blocks.target, blocks.splits) + split * part,
        part,
        np.maximum(found[:, 3], 1),
        found[:, 4],
    )
    inner = headers.inner[chunk]
    stored = table.nbytes == table.decoded
    streams: dict[StreamFormat, StreamTable] = {}
    for code, (name, _) in enumerate(INNER):
        rows = np.flatnonzero(~stored & (inner == code) & verdicts.good[chunk])
        if len(rows):
            _judge(name, chunk[rows], found[rows], part[rows], verdicts)
            streams[name] = _without_wrapping(name, table.take(rows))
    plain = table.take(np.flatnonzero(stored))
    plain.check[:] = UNCHECKED
    return streams, plain


def _judge(
    name: StreamFormat, chunk: Integers, found: Integers, part: Integers, verdicts: Verdicts
) -> None:
    """What is wrong with streams of a format, in the words of the walk on the host."""
    odd = found[:, 5] == 0
    if name == "zstd":
        verdicts.leave(chunk, odd | (found[:, 2] != part), ODD_ZSTD)
    elif name == "deflate":
        verdicts.leave(chunk, odd, ODD_ZLIB)
    elif name == "snappy":
        sizes = found[:, 2]
        verdicts.fail(
            chunk,
            sizes != part,
            lambda k: f"a Snappy stream gives {sizes[k]} bytes instead of {part[k]}",
        )


def _without_wrapping(name: StreamFormat, table: StreamTable) -> StreamTable:
    """zlib streams as the deflate streams inside."""
    if name != "deflate":
        return table
    return StreamTable(
        table.chunk,
        table.source + ZLIB_HEADER,
        table.nbytes - ZLIB_HEADER - ZLIB_TRAILER,
        table.target,
        table.decoded,
        table.blocks,
        table.check,
    )
