"""Shards of anyone's bytes: index tables and what they point to, held against a reader of 60 lines.

The first byte chooses how the shard is laid out, the second which ways lead in and whether
checksums are made right, so that damage gets past them; the others are the shard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import google_crc32c
import numpy as np

import gpuzarr
from gpuzarr.errors import ChunkError
from tests.arrays import EMPTY, encoded, v3_metadata
from tests.hostile.fuzz.target import Outcome, Target, refused
from tests.hostile.fuzz.ways import WAYS, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    Values = np.ndarray[Any, Any]

FILL = -7
SHAPE = (8, 12)
"""Of the array, which is one shard; every element has a value of its own."""
CHECKSUM_NBYTES = 4
FARTHEST = 2**63
MEND_CHECKSUMS = 0x80


@dataclass(frozen=True)
class Level:
    """How one level of shards is laid out."""

    chunks: tuple[int, int]
    at: Literal["start", "end"] = "end"
    checksum: bool = False
    endian: Literal["little", "big"] = "little"


LAYOUTS: tuple[tuple[Level, ...], ...] = (
    (Level((4, 6)),),
    (Level((4, 6), "start"),),
    (Level((4, 6), "end", checksum=True),),
    (Level((2, 4), "start", checksum=True, endian="big"),),
    (Level((8, 12), endian="big"),),
    (Level((4, 6)), Level((2, 6))),
    (Level((4, 6), "start", checksum=True), Level((2, 3), "start")),
    (Level((8, 6), checksum=True), Level((4, 6), "start"), Level((2, 6), checksum=True)),
)


@dataclass
class Verdict:
    """Coordinates of chunks that are not as they should be."""

    bad: set[tuple[int, int]] = field(default_factory=set)
    doubtful: set[tuple[int, int]] = field(default_factory=set)
    """Chunks that are there, in a shard inside that claims to reach past the object: its index, at
    its start, is there too, so that the size of the object need not be asked for."""


@cache
def document(layout: int) -> bytes:
    """The array's metadata."""
    codecs: list[Any] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    for level in reversed(LAYOUTS[layout]):
        index: list[Any] = [{"name": "bytes", "configuration": {"endian": level.endian}}]
        configuration = {
            "chunk_shape": list(level.chunks),
            "codecs": codecs,
            "index_codecs": [*index, *([{"name": "crc32c"}] if level.checksum else [])],
            "index_location": level.at,
        }
        codecs = [{"name": "sharding_indexed", "configuration": configuration}]
    return encoded(v3_metadata(SHAPE, SHAPE, codecs=codecs, fill_value=FILL))


def check(data: bytes) -> Outcome:
    """A shard: each chunk is read right, or refused; and it is said which."""
    layout = (data[0] if data else 0) % len(LAYOUTS)
    levels = LAYOUTS[layout]
    choices = data[1] if len(data) > 1 else 0
    shard = bytearray(data[2:])
    if choices & MEND_CHECKSUMS:
        _mend(shard, 0, len(shard), SHAPE, levels)
    due = np.full(SHAPE, FILL, np.int32)
    verdict = Verdict()
    _read_shard(bytes(shard), levels, due, (0, 0), verdict)
    store = {"zarr.json": document(layout), "c/0/0": bytes(shard)}
    with reading(WAYS[choices & 1]):
        array = gpuzarr.open_array(store, device="cpu")
        if choices & 2:
            _read_chunks(array, levels[-1].chunks, due, verdict)
        return _read_all(array, due, verdict, twice=bool(choices & 4))


def _read_all(array: gpuzarr.Array, due: Values, verdict: Verdict, *, twice: bool) -> Outcome:
    try:
        found = (
            gpuzarr.read_batch([(array, ...), (array, ...)])[1] if twice else np.asarray(array[...])
        )
    except ChunkError as error:
        found_bad = {failure.coords for failure in error.failures}
        assert verdict.bad <= found_bad <= verdict.bad | verdict.doubtful, verdict
        return refused(error)
    assert not verdict.bad, f"read, but damaged: {verdict}"
    assert found.tobytes() == due.tobytes(), (found, due)
    return "right"


def _read_chunks(
    array: gpuzarr.Array, chunks: tuple[int, int], due: Values, verdict: Verdict
) -> None:
    """Chunk by chunk: damage of one is no other's."""
    for coords in _coords(SHAPE, chunks):
        box = _box(coords, chunks)
        try:
            found = array[box]
        except ChunkError as error:
            refused(error)
            assert coords in verdict.bad | verdict.doubtful
        else:
            assert coords not in verdict.bad
            assert found.tobytes() == due[box].tobytes()


# ------------------------------------------------------------ the specification, in plain Python


def _coords(shape: Sequence[int], chunks: Sequence[int]) -> list[tuple[int, int]]:
    return list(product(range(shape[0] // chunks[0]), range(shape[1] // chunks[1])))


def _box(coords: Sequence[int], chunks: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(i * n, (i + 1) * n) for i, n in zip(coords, chunks, strict=True))


def _index_nbytes(shape: Sequence[int], level: Level) -> int:
    return 16 * len(_coords(shape, level.chunks)) + CHECKSUM_NBYTES * level.checksum


def _entries(
    shard: bytes, shape: Sequence[int], level: Level, claimed: int
) -> list[tuple[int, int]] | None:
    """The index of a shard that claims to have so many bytes; None where it is damaged."""
    size = _index_nbytes(shape, level)
    start = 0 if level.at == "start" else claimed - size
    if claimed < size or start + size > len(shard):
        return None
    index = shard[start : start + size]
    if level.checksum:
        index, stored = index[:-CHECKSUM_NBYTES], index[-CHECKSUM_NBYTES:]
        if google_crc32c.value(index) != int.from_bytes(stored, "little"):
            return None
    numbers = np.frombuffer(index, "<u8" if level.endian == "little" else ">u8").tolist()
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _read_shard(
    shard: bytes,
    levels: Sequence[Level],
    out: Values,
    corner: tuple[int, int],
    verdict: Verdict,
    claimed: int | None = None,
) -> None:
    """Fill `out` from a shard; `claimed` is the size that an index says it has, if it is inside."""
    level, *below = levels
    last = levels[-1].chunks
    size = len(shard) if claimed is None else claimed
    entries = _entries(shard, out.shape, level, size)
    for row, coords in enumerate(_coords(out.shape, level.chunks)):
        box = _box(coords, level.chunks)
        part = out[box]
        start = (corner[0] + box[0].start, corner[1] + box[1].start)
        inside = [
            (start[0] // last[0] + i, start[1] // last[1] + j) for i, j in _coords(part.shape, last)
        ]
        if size > len(shard):
            verdict.doubtful.update(inside)
        if entries is None:
            verdict.bad.update(inside)
            continue
        offset, nbytes = entries[row]
        end = offset + nbytes
        if offset == nbytes == EMPTY:
            continue
        if end > size and (claimed is not None or not below or end >= FARTHEST):
            verdict.bad.update(inside)
        elif below:
            _read_shard(shard[offset:end], below, part, start, verdict, nbytes)
        elif nbytes != part.nbytes or end > len(shard):
            verdict.bad.update(inside)
        else:
            part[...] = np.frombuffer(shard[offset:end], "<i4").reshape(part.shape)


def _mend(
    data: bytearray, begin: int, end: int, shape: Sequence[int], levels: Sequence[Level]
) -> None:
    """Make the checksums of a shard's index right, innermost first."""
    level, *below = levels
    size = _index_nbytes(shape, level)
    if end - begin < size:
        return
    if below:
        bare = Level(level.chunks, level.at, checksum=False, endian=level.endian)
        kept = data[begin:end]
        trimmed = kept[: len(kept) - CHECKSUM_NBYTES * level.checksum]
        if level.at == "start" and level.checksum:
            trimmed = kept[: size - CHECKSUM_NBYTES]
        for offset, nbytes in _entries(bytes(trimmed), shape, bare, len(trimmed)) or ():
            if nbytes != EMPTY and offset + nbytes <= end - begin:
                place = begin + offset
                _mend(data, place, place + nbytes, level.chunks, below)
    if level.checksum:
        at = begin if level.at == "start" else end - size
        index = bytes(data[at : at + size - CHECKSUM_NBYTES])
        data[at + size - CHECKSUM_NBYTES : at + size] = google_crc32c.value(index).to_bytes(
            CHECKSUM_NBYTES, "little"
        )


def write_shard(values: Values, levels: Sequence[Level], skip: int) -> bytes:
    """A sound shard, in which every `skip`-th chunk is not stored."""
    level, *below = levels
    at = _index_nbytes(values.shape, level) if level.at == "start" else 0
    body, index = b"", []
    for number, coords in enumerate(_coords(values.shape, level.chunks)):
        part = values[_box(coords, level.chunks)]
        if skip and number % skip == skip - 1:
            index.append((EMPTY, EMPTY))
            continue
        chunk = write_shard(part, below, skip) if below else part.tobytes()
        index.append((at + len(body), len(chunk)))
        body += chunk
    table = (
        np.array(index, np.uint64).astype("<u8" if level.endian == "little" else ">u8").tobytes()
    )
    if level.checksum:
        table += google_crc32c.value(table).to_bytes(CHECKSUM_NBYTES, "little")
    return table + body if level.at == "start" else body + table


def _seeds() -> list[bytes]:
    values = np.arange(np.prod(SHAPE), dtype="<i4").reshape(SHAPE)
    return [
        bytes([layout, choices]) + write_shard(values, levels, skip)
        for layout, levels in enumerate(LAYOUTS)
        for choices, skip in ((0x80, 0), (0x83, 2), (0x87, 3))
    ]


TOKENS = (
    *(b"\xff" * 8, b"\xff" * 16, b"\0" * 8, b"\0" * 16, b"\x30" + b"\0" * 7, b"\x60" + b"\0" * 7),
    *(b"\xff" * 7 + b"\x7f", b"\0" * 7 + b"\x80", b"\x20" + b"\0" * 7, b"\x01"),
)

TARGETS = (Target("shards", check, _seeds, 600, TOKENS, longest=1_500),)
