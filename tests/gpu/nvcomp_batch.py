"""One call of nvCOMP over streams in host memory, through the engine's own seam.

Run as a program it does one case in a process of its own, for streams that may kill the CUDA
context: `python -m tests.gpu.nvcomp_batch FORMAT SEED`.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
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

GUARD = 64
"""Bytes behind each output that must stay as they were."""
PATTERN = 0xA5


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
    return ramp.astype("<f4").round(2).tobytes()[:nbytes]


def raw_deflate(data: bytes, flush: int = zlib.Z_FINISH) -> bytes:
    """Without zlib's header and checksum; with Z_SYNC_FLUSH no block says that it is the last."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush(flush)


def raw_lz4(data: bytes) -> bytes:
    return bytes(numcodecs.LZ4().encode(np.frombuffer(data, np.uint8)))[4:]


def raw_snappy(data: bytes) -> bytes:
    """Literals only: there is no Snappy compressor among what is installed."""
    size, varint = len(data), b""
    while size >= 0x80:
        varint, size = varint + bytes([size & 0x7F | 0x80]), size >> 7
    parts = [data[i : i + 65536] for i in range(0, len(data), 65536)]
    literals = b"".join(bytes([61 << 2]) + struct.pack("<H", len(p) - 1) + p for p in parts)
    return varint + bytes([size]) + literals


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstandard.ZstdCompressor(level=3).compress,
    "lz4": raw_lz4,
    "deflate": raw_deflate,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "snappy": raw_snappy,
}


def decompress(
    name: str, encoded: Sequence[bytes], capacity: Sequence[int], *, skew: int = 0, blocks: int = 0
) -> Outcome:
    """Decode streams.

    Args:
        name: their format.
        encoded: the streams.
        capacity: bytes of each output.
        skew: each stream begins so many bytes behind a multiple of 16.
        blocks: for how many zstd blocks there is temporary memory; 0: for all that there are.
    """
    device = availability.open_device(None)
    decompressor, stream = device.decompressor, device.current_stream()
    pool = SlabPool(device)
    n = len(encoded)
    sizes, room = np.array([len(e) for e in encoded], np.int64), np.array(capacity, np.int64)
    begin = np.cumsum(-(-(sizes + skew + 16) // 16) * 16) - (-(-(sizes + skew + 16) // 16) * 16)
    out = np.cumsum(-(-(room + GUARD) // 16) * 16) - (-(-(room + GUARD) // 16) * 16)
    total = int(out[-1] + room[-1] + GUARD)
    if name == "zstd" and not blocks:
        blocks = sum(map(count_blocks, encoded, capacity))
    temp_nbytes = decompressor.temp_nbytes(name, max(n, blocks), int(room.max()), int(room.sum()))
    source = device.allocate(int(begin[-1] + sizes[-1]) + 64, stream)
    target = device.allocate(total, stream)
    temp = device.allocate(max(temp_nbytes, 8), stream)
    table = device.allocate(48 * n, stream)
    columns = [source.address + begin + skew, sizes, target.address + out, room, 0 * room, 0 * room]
    slab = pool.take(max(total, source.nbytes, 48 * n))
    for place, data in zip((begin + skew).tolist(), encoded, strict=True):
        slab.array[place : place + len(data)] = np.frombuffer(data, np.uint8)
    device.upload(slab.array[: source.nbytes], source.address, stream)
    device.record(stream).wait()
    slab.array[:total] = PATTERN
    device.upload(slab.array[:total], target.address, stream)
    device.record(stream).wait()
    slab.array[: 48 * n] = np.concatenate(columns).view(np.uint8)
    device.upload(slab.array[: 48 * n], table.address, stream)
    at = [table.address + 8 * n * i for i in range(6)]
    streams = Streams(n, *at)
    decompressor.decompress(
        name,
        streams,
        most=int(room.max()),
        temp=temp.address,
        temp_nbytes=temp_nbytes,
        stream=stream,
    )
    device.record(stream).wait()
    device.download(target.address, slab.array[:total], stream)
    device.record(stream).wait()
    image = slab.array[:total].copy()
    device.download(table.address, slab.array[: 48 * n], stream)
    device.record(stream).wait()
    actual = slab.array[32 * n : 40 * n].view(np.int64).tolist()
    status = slab.array[40 * n :][: 4 * n].view(np.int32).tolist()
    outputs = [image[o : o + r].tobytes() for o, r in zip(out.tolist(), room.tolist(), strict=True)]
    ends = (out + room).tolist()
    guards = all((image[end : end + GUARD] == PATTERN).all() for end in ends)
    return Outcome(outputs, status, actual, guards)


def count_blocks(frame: bytes, size: int) -> int:
    """zstd blocks in a frame; many where it is none that the engine would give to nvCOMP."""
    array = np.frombuffer(frame, np.uint8)
    one = np.array([len(frame)]), np.array([size])
    frames = walk_zstd(EncodedChunks(array, np.zeros(1, np.int64), *one))
    return int(frames.streams["zstd"].blocks.sum()) if frames.streams else 1000


def try_damaged(name: str, seed: int) -> dict[str, object]:
    """Decode a damaged stream beside a good one; say what came of both, and of the context."""
    data = smooth(1 << 20)
    good = ENCODERS[name](data)
    rng = np.random.default_rng(seed)
    damaged = bytearray(good)
    for _ in range(3):
        damaged[int(rng.integers(20, len(damaged)))] ^= int(rng.integers(1, 256))
    found = decompress(name, [bytes(damaged), good], [len(data)] * 2)
    again = decompress(name, [good], [len(data)])
    return {
        "status": found.status[0],
        "wrong data called good": found.status[0] == 0
        and found.actual[0] == len(data)
        and found.data[0] != data,
        "neighbour right": found.data[1] == data,
        "guards": found.guards,
        "context survives": again.data[0] == data,
    }


if __name__ == "__main__":
    print(json.dumps(try_damaged(sys.argv[1], int(sys.argv[2]))))  # noqa: T201
