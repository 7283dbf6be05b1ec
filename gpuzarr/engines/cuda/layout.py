"""How a batch lies in device memory: sizes first, two allocations, then addresses.

    staging | decoded on the host
    image 0 | image 1 | aligned | temp | results | statuses

The first is what is uploaded: staging holds encoded chunks. Decoded chunks go to an image, a slot
for each, and steps on elements take them from one image to the other. Streams that lie where nvCOMP
does not take them are first copied to where it does. Results are what nvCOMP and the checksum
kernels say of each stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray  # noqa: TC002  NamedTuple looks at it

from gpuzarr.engines.cuda.device import ALIGNMENT
from gpuzarr.engines.cuda.frames.streams import BIT_SHUFFLE
from gpuzarr.program import Decompress, Unshuffle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.engines.cuda.device import Decompressor
    from gpuzarr.engines.cuda.frames.streams import Frames, StreamFormat, StreamTable
    from gpuzarr.program import DecodeProgram, Step

SLOT = 16
"""Bytes that slots of an image begin at multiples of."""
ACTUAL_NBYTES, STATUS_NBYTES, VALUE_NBYTES = 8, 4, 4
"""Bytes of a stream's actual size, of a status, of a checksum."""


@dataclass(frozen=True, slots=True)
class UploadLayout:
    """Offsets into the memory that a batch's chunks are uploaded to, in bytes; staging is at 0."""

    host_decoded: int
    nbytes: int
    """Of both together."""


class Needs(NamedTuple):
    """What a batch needs room for."""

    image_nbytes: NDArray[np.int64]
    """(n,) bytes of each chunk's slot in an image."""
    images: int
    """How many images."""
    frames: Frames | None
    """The streams; None where nothing is decompressed."""


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """Offsets into the memory that batches are decoded in together, in bytes."""

    images: tuple[tuple[int, int], ...]
    """For each batch its images: the second begins where the first does where there is need of one
    only."""
    first: tuple[int, ...]
    """For each batch, its first chunk among those of all."""
    aligned: int
    temp: int
    temp_nbytes: int
    actual: int
    """(streams,) uint64."""
    stream_status: int
    """(streams,) int32."""
    value: int
    """(streams or chunks,) uint32 checksums."""
    status: int
    """(chunks,) int32."""
    nchunks: int
    """Of all batches."""
    nbytes: int
    """Of all together."""


def slots(nbytes: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Where slots of these sizes begin, and where the last ends.

    >>> slots(np.array([5, 16]))
    (array([ 0, 16]), 32)
    """
    rounded = -(-nbytes // SLOT) * SLOT
    ends = np.cumsum(rounded)
    return ends - rounded, int(ends[-1]) if len(ends) else 0


def _aligned(nbytes: int) -> int:
    """Bytes that a part takes, so that the next one begins where it may."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def count_images(steps: Sequence[Step], frames: Frames | None) -> int:
    """How many images the device's steps go through: 0, 1 or 2."""
    stages = 0
    for place, step in enumerate(steps):
        if isinstance(step, Decompress):
            stages += 1
        elif not (isinstance(step, Unshuffle) and place == len(steps) - 1 and step.unit == "byte"):
            stages += 2 if _may_be_shuffled(steps[:place]) else 1
    if frames is not None and frames.shuffle is not None:
        stages += bool((frames.shuffle == BIT_SHUFFLE).any())
    return min(stages, 2)


def _may_be_shuffled(before: Sequence[Step]) -> bool:
    """Whether bytes may still have to be unshuffled after these steps."""
    return any(isinstance(step, (Unshuffle, Decompress)) for step in before)


def lay_out_uploads(staging: int, host_decoded: int) -> UploadLayout:
    """Give what is uploaded its place.

    >>> lay_out_uploads(300, 5)
    UploadLayout(host_decoded=512, nbytes=768)

    Args:
        staging: bytes of encoded chunks.
        host_decoded: bytes of chunks that the host decoded.
    """
    begin = _aligned(staging)
    return UploadLayout(begin, begin + _aligned(host_decoded))


def lay_out(decompressor: Decompressor, batches: Sequence[Needs]) -> BatchLayout:
    """Give everything its place.

    Args:
        decompressor: says how much temporary memory it needs.
        batches: that are decoded together.
    """
    place = 0

    def take(nbytes: int) -> int:
        nonlocal place
        start = place
        place += _aligned(nbytes)
        return start

    tables: dict[StreamFormat, list[StreamTable]] = {}
    for batch in batches:
        for name, table in {} if batch.frames is None else batch.frames.streams.items():
            tables.setdefault(name, []).append(table)
    nstreams = sum(len(table) for some in tables.values() for table in some)
    aligned = temp = 0
    for name, some in tables.items():
        if name == "blosclz":
            continue
        if decompressor.alignment(name).input > 1:
            aligned = max(aligned, sum(slots(table.nbytes)[1] for table in some))
        temp = max(
            temp,
            decompressor.temp_nbytes(
                name,
                sum(max(len(table), int(table.blocks.sum())) for table in some),
                max(int(table.decoded.max()) for table in some),
                sum(int(table.decoded.sum()) for table in some),
            ),
        )
    images: list[tuple[int, int]] = []
    for batch in batches:
        nbytes = slots(batch.image_nbytes)[1]
        first = take(nbytes if batch.images else 0)
        images.append((first, take(nbytes) if batch.images > 1 else first))
    counts = [len(batch.image_nbytes) for batch in batches]
    nchunks = sum(counts)
    return BatchLayout(
        tuple(images),
        (0, *accumulate(counts[:-1])),
        take(aligned),
        take(temp),
        temp,
        take(ACTUAL_NBYTES * nstreams),
        take(STATUS_NBYTES * nstreams),
        take(VALUE_NBYTES * max(nstreams, nchunks)),
        take(STATUS_NBYTES * nchunks),
        nchunks,
        place,
    )


def device_nbytes_factor(program: DecodeProgram, first: int) -> float:
    """Device memory that decoding takes, for each byte decoded, about and rather too much.

    Args:
        program: what is decoded.
        first: the first step that the device runs.
    """
    steps = program.steps[first:]
    factor = float(count_images(steps, None))
    for step in steps:
        if isinstance(step, Decompress):
            if step.format == "blosc":
                factor = max(factor, 2.0)
            if step.format in {"zstd", "blosc"}:
                factor += ZSTD_TEMP_FACTOR
            if step.format in {"zlib", "blosc"}:
                factor += 1
    return factor


ZSTD_TEMP_FACTOR = 3.25
"""Bytes of temporary memory that nvCOMP takes for a byte of zstd's output, in blocks of 32 KiB."""
