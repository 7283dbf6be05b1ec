"""One call of nvCOMP over streams in host memory, through the engine's own seam."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numcodecs
import numpy as np
import zstandard

from gpuzarr.engines.cuda import availability
from gpuzarr.engines.cuda.device import Streams
from gpuzarr.engines.cuda.frames.streams import EncodedChunks
from gpuzarr.engines.cuda.frames.zstd import walk_zstd
from gpuzarr.engines.cuda.slabs import SlabPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

GUARD = 64
"""Bytes behind each output that must stay as they were."""
PATTERN = 0xA5
MOST_BLOCKS = 1000
"""For how many zstd blocks there is memory where a frame's own cannot be counted."""


@dataclass(frozen=True)
class Outcome:
    """What came back of each stream."""

    data: list[bytes]
    status: list[int]
    actual: list[int]
    guards: bool
    """Whether nothing was written beside the outputs."""


def smooth(nbytes: int, seed: int = 0) -> bytes:
    """Numbers that compress."""
    rng = np.random.default_rng(seed)
    ramp = np.sin(np.linspace(0, 60, nbytes // 4 + 1)) * 1000 + rng.normal(size=nbytes // 4 + 1)
    return ramp.astype("<f4").round(0).tobytes()[:nbytes]


def raw_deflate(data: bytes, flush: int = zlib.Z_FINISH) -> bytes:
    """Without zlib's header and checksum; with Z_SYNC_FLUSH no block says that it is the last."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush(flush)


def raw_lz4(data: bytes) -> bytes:
    return bytes(numcodecs.LZ4().encode(np.frombuffer(data, np.uint8)))[4:]


def raw_snappy(data: bytes) -> bytes:
    """The same literals and copies as in the LZ4 block: no library that is here has Snappy."""
    size, out = len(data), bytearray()
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    block, at = raw_lz4(data), 0

    def length(start: int) -> int:
        nonlocal at
        total = start
        while start == 15:
            total, at = total + block[at], at + 1
            if block[at - 1] < 255:
                break
        return total

    while at < len(block):
        token, at = block[at], at + 1
        literals = length(token >> 4)
        for begin in range(at, at + literals, 1 << 16):
            part = block[begin : min(begin + (1 << 16), at + literals)]
            out += bytes([61 << 2]) + struct.pack("<H", len(part) - 1) + part
        at += literals
        if at >= len(block):
            break
        distance, at = block[at : at + 2], at + 2
        left = length(token & 15) + 4
        while left:
            here = min(left, 64)
            out += bytes([here - 1 << 2 | 2]) + distance
            left -= here
    return bytes(out)


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstandard.ZstdCompressor(level=3).compress,
    "lz4": raw_lz4,
    "deflate": raw_deflate,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "snappy": raw_snappy,
}


class Batch:
    """Streams on the device, to be decoded as often as one likes.

    Args:
        name: the streams' format.
        encoded: the streams.
        capacity: bytes of each output.
        skew: each stream begins so many bytes behind a multiple of 16.
        blocks: for how many zstd blocks there is temporary memory; 0: for all that there are.
    """

    def __init__(
        self,
        name: str,
        encoded: Sequence[bytes],
        capacity: Sequence[int],
        *,
        skew: int = 0,
        blocks: int = 0,
    ) -> None:
        self._name = name
        self._device = device = availability.open_device(None)
        self._stream = stream = device.current_stream()
        self._count = n = len(encoded)
        sizes = np.array([len(e) for e in encoded], np.int64)
        self._room = room = np.array(capacity, np.int64)
        begin, self._out = _places(sizes + skew + 16) + skew, _places(room + GUARD)
        self._total = int(self._out[-1] + room[-1] + GUARD)
        if name == "zstd" and not blocks:
            counted = {frame: count_blocks(frame) for frame in set(encoded)}
            blocks = sum(counted[frame] for frame in encoded)
        self.temp_nbytes = device.decompressor.temp_nbytes(
            name, max(n, blocks), int(room.max()), int(room.sum())
        )
        self._source = device.allocate(int(begin[-1] + sizes[-1]) + 64, stream)
        self._target = device.allocate(self._total, stream)
        self._temp = device.allocate(max(self.temp_nbytes, 8), stream)
        self._table = device.allocate(48 * n, stream)
        addresses = [self._source.address + begin, sizes, self._target.address + self._out, room]
        self._slab = SlabPool(device).take(max(self._total, self._source.nbytes, 48 * n))
        for place, data in zip(begin.tolist(), encoded, strict=True):
            self._slab.array[place : place + len(data)] = np.frombuffer(data, np.uint8)
        self._upload(self._source.nbytes, self._source.address)
        self._slab.array[: self._total] = PATTERN
        self._upload(self._total, self._target.address)
        table = np.concatenate([*addresses, 0 * room, 0 * room])
        self._slab.array[: 48 * n] = table.view(np.uint8)
        self._upload(48 * n, self._table.address)

    def run(self) -> None:
        """Decode all, and wait for it."""
        columns = [self._table.address + 8 * self._count * i for i in range(6)]
        self._device.decompressor.decompress(
            self._name,
            Streams(self._count, *columns),
            most=int(self._room.max()),
            temp=self._temp.address,
            temp_nbytes=self.temp_nbytes,
            stream=self._stream,
        )
        self._device.record(self._stream).wait()

    def outcome(self) -> Outcome:
        """What the device's memory holds now."""
        image, n = self._download(self._target.address, self._total), self._count
        table = self._download(self._table.address, 48 * n)
        ends = (self._out + self._room).tolist()
        return Outcome(
            data=[image[a:b].tobytes() for a, b in zip(self._out.tolist(), ends, strict=True)],
            status=table[40 * n :][: 4 * n].view(np.int32).tolist(),
            actual=table[32 * n : 40 * n].view(np.int64).tolist(),
            guards=all((image[end : end + GUARD] == PATTERN).all() for end in ends),
        )

    def _upload(self, nbytes: int, target: int) -> None:
        self._device.upload(self._slab.array[:nbytes], target, self._stream)
        self._device.record(self._stream).wait()

    def _download(self, source: int, nbytes: int) -> NDArray[np.uint8]:
        self._device.download(source, self._slab.array[:nbytes], self._stream)
        self._device.record(self._stream).wait()
        return self._slab.array[:nbytes].copy()


def _places(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where ranges begin that lie behind one another, each at a multiple of 16."""
    padded = -(-sizes // 16) * 16
    return np.cumsum(padded) - padded


def decompress(
    name: str, encoded: Sequence[bytes], capacity: Sequence[int], *, skew: int = 0, blocks: int = 0
) -> Outcome:
    """Decode streams once; see `Batch`."""
    batch = Batch(name, encoded, capacity, skew=skew, blocks=blocks)
    batch.run()
    return batch.outcome()


def count_blocks(frame: bytes) -> int:
    """zstd blocks in a frame; many where it is none that the engine would give to nvCOMP."""
    array = np.frombuffer(frame, np.uint8)
    size = max(zstandard.frame_content_size(frame), 0) if frame[:4] == zstandard.FRAME_HEADER else 0
    one = np.array([len(frame)]), np.array([size])
    frames = walk_zstd(EncodedChunks(array, np.zeros(1, np.int64), *one))
    return int(frames.streams["zstd"].blocks.sum()) if frames.streams else MOST_BLOCKS
