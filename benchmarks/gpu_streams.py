"""Kernels on bytes, planes, elements, checksums and streams, each on chunks that are all alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numcodecs
import numpy as np
import zstandard
from gpu_ground import Launch

from gpuzarr.engines.cuda.frames.blosc import find_blocks, read_headers, walk_blosc
from gpuzarr.engines.cuda.frames.columns import Verdicts
from gpuzarr.engines.cuda.frames.streams import EncodedChunks
from gpuzarr.engines.cuda.kernels import (
    BIT_TILE,
    COPY_TILE,
    SCATTER_TILE,
    STATUS,
    THREADS,
    TYPES,
    WARPS,
)
from gpuzarr.engines.cuda.pieces import first_blocks
from gpuzarr.engines.cuda.transfer import float_bits
from tests.gpu.nvcomp_batch import smooth

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ground import Case, Ground, Values


# ---------------------------------------------------------------- bytes, planes, sums, elements


def copy(shift: int) -> Case:
    """Ranges, from `shift` bytes behind multiples of 16."""

    def make(ground: Ground) -> Launch:
        expected = ground.noise()[shift:]
        sizes = ground.each(len(expected))
        edges = first_blocks(sizes, COPY_TILE)
        at = ground.columns(ground.sources + shift, ground.targets, sizes, edges)
        moved, place = 2 * expected.nbytes * ground.count, int(ground.targets[0])
        return Launch("copy_ranges", int(edges[-1]), (*at, ground.count), moved, expected, place)

    return make


def bit_planes(typesize: int) -> Case:
    """Blosc's bit shuffle over blocks of a chunk each."""

    def make(ground: Ground) -> Launch:
        data, count = ground.noise(), ground.unit // typesize
        bits = np.unpackbits(data.reshape(8 * typesize, count // 8), axis=1, bitorder="little")
        elements = np.ascontiguousarray(bits.T).reshape(count, typesize, 8)
        expected = np.packbits(elements, axis=2, bitorder="little")
        edges = first_blocks(ground.each(count), BIT_TILE)
        columns = (ground.sources, ground.targets, ground.each(ground.unit))
        at = ground.columns(*columns, ground.each(typesize), edges)
        moved, place = 2 * ground.unit * ground.count, int(ground.targets[0])
        arguments = (*at, ground.count, 0)
        return Launch("bit_unshuffle", int(edges[-1]), arguments, moved, expected, place)

    return make


def sums(kernel: str, dtype: str) -> Case:
    """The delta filter undone."""

    def make(ground: Ground) -> Launch:
        steps = ground.random.integers(-9, 9, ground.unit // 4).astype(dtype)
        ground.fill(steps)
        code = TYPES[dtype[1:]]
        at = ground.columns(ground.sources, ground.targets, ground.each(len(steps)))
        blocks = ground.count if kernel == "sum_integers" else -(-ground.count // WARPS)
        arguments = (*at, ground.count, code, 0, code, 0)
        moved, place = 2 * ground.unit * ground.count, int(ground.targets[0])
        return Launch(kernel, blocks, arguments, moved, np.cumsum(steps, dtype=dtype), place)

    return make


def elementwise(kernel: str, stored: str, decoded: str) -> Case:
    """The filters that make each element from one."""

    def make(ground: Ground) -> Launch:
        count = ground.unit // np.dtype(decoded).itemsize
        data = (2 * ground.random.integers(0, 1 << 12, count)).astype(stored)
        ground.fill(data)
        edges = first_blocks(ground.each(count), SCATTER_TILE)
        at = ground.columns(ground.sources, ground.targets, ground.each(count), edges)
        source, target = TYPES[stored[1:]], TYPES[decoded[1:]]
        arguments = [*at, ground.count, source, 0]
        expected = data.astype(decoded)
        if kernel == "cast_elements":
            arguments += [target, 0]
        elif kernel == "undo_fixedscaleoffset":
            arguments += [target, 0, target, float_bits(10.0), float_bits(1.5)]
            expected = expected / np.float32(10) + np.float32(1.5)
        else:
            rows = ground.columns(np.arange(ground.count))
            status = ground.place(np.zeros(ground.count, np.int32))
            bounds = np.iinfo(decoded)
            arguments += [0, 2, 5, int(bounds.min), int(bounds.max), *rows, status]
            expected = expected // 2 + 5
        moved = (data.nbytes + expected.nbytes) * ground.count
        place = int(ground.targets[0])
        return Launch(kernel, int(edges[-1]), arguments, moved, expected, place)

    return make


def unpack(bits: int) -> Case:
    """Packed numbers to bytes, the first bit the highest."""

    def make(ground: Ground) -> Launch:
        data = ground.noise("u1", ground.unit * bits // 8)
        ones = np.unpackbits(data).reshape(-1, bits)
        expected = (ones << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
        edges = first_blocks(ground.each(ground.unit), SCATTER_TILE)
        columns = (ground.sources, ground.each(len(data)), ground.targets, ground.each(ground.unit))
        at = ground.columns(*columns, edges, np.arange(ground.count))
        status = ground.place(np.zeros(ground.count, np.int32))
        arguments = (*at[:5], ground.count, bits, 8, bits, 0, 0, 1, 0, at[5], status)
        moved, place = (len(data) + ground.unit) * ground.count, int(ground.targets[0])
        return Launch("unpack_bits", int(edges[-1]), arguments, moved, expected, place)

    return make


# ------------------------------------------------------------------------- checksums and streams


def checksum(kernel: str, value_of: Callable[[bytes], int], nbytes: int) -> Case:
    """Checksums of ranges."""

    def make(ground: Ground) -> Launch:
        data = ground.noise()
        each = min(nbytes, ground.unit)
        starts = np.arange(int(ground.sources[0]), int(ground.sources[-1]) + ground.unit, each)
        values = ground.place(np.zeros(len(starts), np.uint32))
        at = ground.columns(starts, np.full(len(starts), each))
        blocks = -(-len(starts) // THREADS) if kernel == "xxh64" else len(starts)
        expected = np.array([value_of(data[:each].tobytes())], "<u4")
        arguments = (*at, values, len(starts))
        return Launch(kernel, blocks, arguments, each * len(starts), expected, values)

    return make


def fletcher(data: bytes) -> int:
    """As numcodecs computes it."""
    return int(np.frombuffer(numcodecs.Fletcher32().encode(data)[-4:], "<u4")[0])


def xxh64(data: bytes) -> int:
    """The low half, as zstd frames end with it."""
    frame = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data)
    return int(np.frombuffer(frame[-4:], "<u4")[0])


def frames(ground: Ground) -> tuple[bytes, bytes]:
    """A chunk of byte planes, and its Blosc frame with blosclz inside."""
    planes = np.frombuffer(smooth(ground.unit), np.uint8).reshape(-1, 4).T.tobytes()
    codec = numcodecs.Blosc(cname="blosclz", clevel=5, shuffle=numcodecs.Blosc.NOSHUFFLE)
    return planes, bytes(codec.encode(np.frombuffer(planes, "<f4")))


def blosc_index(ground: Ground) -> Launch:
    """The streams of Blosc frames, looked up."""
    _, frame = frames(ground)
    ground.fill(np.frombuffer(frame, np.uint8))
    one = np.zeros(1, np.int64)
    chunks = EncodedChunks(np.frombuffer(frame, np.uint8), one, one + len(frame), one + ground.unit)
    verdicts = Verdicts(1)
    headers = read_headers(chunks, verdicts)
    blocks = find_blocks(chunks, headers, verdicts)
    n, streams = len(blocks.chunk) * ground.count, int(blocks.splits.sum())
    repeat = [
        np.tile(column, ground.count) for column in (blocks.start, blocks.splits, blocks.part)
    ]
    at = ground.columns(
        np.repeat(ground.sources, len(blocks.chunk)),
        np.full(n, len(frame)),
        *repeat,
        np.full(n, int(headers.inner[0])),
        np.cumsum(repeat[1]) - repeat[1],
    )
    out = ground.place(np.zeros(6 * streams * ground.count, np.int64))
    walked = walk_blosc(chunks)
    tables = [*walked.streams.values(), walked.copies]
    expected = np.sort(np.concatenate([table.nbytes for table in tables]))

    def pick(found: Values) -> Values:
        return np.sort(found.view(np.int64).reshape(-1, 6)[:, 1])

    moved = (6 * 8 + 4) * streams * ground.count + 56 * n
    place = {"place": out, "nbytes": 48 * streams, "pick": pick}
    arguments = (*at, n, out)
    return Launch("blosc_streams", -(-n // THREADS), arguments, moved, expected, **place)  # type: ignore[arg-type]


def check(kernel: str) -> Case:
    """Statuses of many streams, one of which is wrong."""

    def make(ground: Ground) -> Launch:
        m = max(8, ground.bench.size.kernel // 512)
        wrong = m // 2
        values = np.arange(m, dtype=np.uint32)
        stored = ground.place(np.where(np.arange(m) == wrong, values + 1, values))
        status = ground.place(np.zeros(8, np.int32))
        rows, numbers = np.arange(m) % 8, values.astype(np.int64)
        if kernel == "check_streams":
            outcome = ground.place((np.arange(m) == wrong).astype(np.int32))
            arguments, moved = (outcome, *ground.columns(numbers, numbers, rows)), 20
            code = STATUS["STREAM"]
        elif kernel == "check_values":
            arguments, moved = (stored, *ground.columns(numbers, rows)), 12
            code = STATUS["FRAME_CHECKSUM"]
        else:
            places = stored + 4 * np.arange(m)
            right = ground.place(values)
            arguments, moved = (right, *ground.columns(places, rows)), 16
            code = STATUS["CHECKSUM"]
        expected = np.where(np.arange(8) == wrong % 8, code, 0).astype(np.int32)
        return Launch(
            kernel, -(-m // THREADS), (*arguments, m, status), moved * m, expected, status
        )

    return make
