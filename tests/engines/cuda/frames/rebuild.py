"""Chunks put together from what a walk found, with CPU libraries, and what a walk promises."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cpu import filters
from gpuzarr.engines.cpu.decoder import ChunkDecoder
from gpuzarr.engines.cuda.frames.streams import BIT_SHUFFLE, BYTE_SHUFFLE, EncodedChunks
from gpuzarr.engines.cuda.frames.walk import walk_frames
from gpuzarr.engines.step_error import StepError
from gpuzarr.program import DecodeProgram, Decompress, Layout
from tests.engines.cuda.fake_nvcomp import decode
from tests.kernels.test_blosclz import decode as run_blosclz

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.engines.cuda.frames.streams import Frames, StreamTable


def batch(encoded: Sequence[bytes], decoded: Sequence[int], gap: int = 3) -> EncodedChunks:
    """Chunks in one buffer, with noise between them and at both ends."""
    rng = np.random.default_rng(5)
    parts, offsets, at = [], [], 0
    for one in encoded:
        noise = rng.integers(0, 256, gap, np.uint8).tobytes()
        parts += [noise, one]
        offsets.append(at + gap)
        at += gap + len(one)
    data = np.frombuffer(b"".join(parts) or b"\0", np.uint8)
    sizes = np.array([len(one) for one in encoded], np.int64)
    return EncodedChunks(data, np.array(offsets, np.int64), sizes, np.array(decoded, np.int64))


def walk(
    name: str, encoded: Sequence[bytes], decoded: Sequence[int]
) -> tuple[EncodedChunks, Frames]:
    """Walk, and hold the walk to its promises."""
    chunks = batch(encoded, decoded)
    frames = walk_frames(name, chunks)
    check_promises(chunks, frames)
    return chunks, frames


def check_promises(chunks: EncodedChunks, frames: Frames) -> None:
    """Streams lie in their chunks, outputs fill the decoded bytes, bad chunks have nothing."""
    bad = set(frames.failures) | set(frames.host)
    assert not set(frames.failures) & set(frames.host)
    covered = np.zeros(len(chunks), np.int64)
    spans: list[tuple[int, int, int]] = []
    for table in (*frames.streams.values(), frames.copies):
        assert (np.diff(table.chunk) >= 0).all()
        begin, end = chunks.offset[table.chunk], (chunks.offset + chunks.nbytes)[table.chunk]
        assert (table.source >= begin).all()
        assert (table.nbytes > 0).all()
        assert (table.source + table.nbytes <= end).all()
        assert (table.target >= 0).all()
        assert (table.decoded > 0).all()
        assert (table.target + table.decoded <= chunks.decoded[table.chunk]).all()
        assert not set(table.chunk.tolist()) & bad
        np.add.at(covered, table.chunk, table.decoded)
        spans += zip(
            table.chunk.tolist(),
            table.target.tolist(),
            (table.target + table.decoded).tolist(),
            strict=True,
        )
    spans.sort()
    for (chunk, _, stop), (other, start, _) in pairwise(spans):
        assert chunk != other or start >= stop, "outputs lie over one another"
    good = [row for row in range(len(chunks)) if row not in bad]
    assert covered[good].tolist() == chunks.decoded[good].tolist()


def rebuild(chunks: EncodedChunks, frames: Frames, row: int) -> bytes:
    """The decoded bytes of a chunk."""
    image = np.zeros(int(chunks.decoded[row]), np.uint8)
    for name, table in frames.streams.items():
        for stream, target, size in streams_of(chunks, table, row):
            if name == "blosclz":
                targets, actual, outcome = run_blosclz([stream], [size])
                assert (outcome[0], actual[0]) == (0, size)
                out = targets[0].tobytes()
            else:
                out = decode(name, stream, size)
            assert len(out) == size
            image[target : target + size] = np.frombuffer(out, np.uint8)
    for stream, target, size in streams_of(chunks, frames.copies, row):
        image[target : target + size] = np.frombuffer(stream, np.uint8)
    return unshuffled(image, frames, row).tobytes()


def streams_of(chunks: EncodedChunks, table: StreamTable, row: int) -> list[tuple[bytes, int, int]]:
    """Encoded bytes, target and decoded size of a chunk's streams."""
    found = []
    for i in np.flatnonzero(table.chunk == row).tolist():
        source = int(table.source[i])
        data = chunks.data[source : source + int(table.nbytes[i])].tobytes()
        found.append((data, int(table.target[i]), int(table.decoded[i])))
    return found


def unshuffled(image: np.ndarray, frames: Frames, row: int) -> np.ndarray:
    if frames.shuffle is None or frames.typesize is None or frames.block is None:
        return image
    kind, size = int(frames.shuffle[row]), int(frames.typesize[row])
    out = image.copy()
    for start in range(0, len(image), int(frames.block[row])):
        part = image[start : start + int(frames.block[row])]
        if kind == BYTE_SHUFFLE:
            count = len(part) // size
            out[start : start + count * size] = (
                part[: count * size].reshape(size, count).T.reshape(-1)
            )
        elif kind == BIT_SHUFFLE and len(part) // size % 8 == 0:
            filters.unshuffle_bits(part, out[start : start + len(part)], size)
    return out


def host_decodes(name: str, encoded: bytes, size: int) -> bytes | None:
    """What the CPU engine makes of a chunk; None where it finds it damaged."""
    program = DecodeProgram((Decompress(name),), Layout(np.dtype("u1"), (0,)))  # type: ignore[arg-type]
    try:
        return ChunkDecoder(program, (size,)).decode(memoryview(encoded)).tobytes()
    except StepError:
        return None
