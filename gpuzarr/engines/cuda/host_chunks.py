"""Chunks of a device's program that only the host can decode: whole, into pinned memory.

What a walk over frames finds in some chunk (a second gzip member, a zstd frame without its size)
does not make the array one for the host: that chunk alone is decoded here, and joins the others
before the scatter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.layout import slots
from gpuzarr.engines.cuda.staging import LARGE_NBYTES
from gpuzarr.engines.failures import chunk_failure, step_failure
from gpuzarr.engines.pool import do_all
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import MemoryLimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.slabs import Slab, SlabPool
    from gpuzarr.engines.cuda.staging import DecoderFor
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch
    from gpuzarr.program import DecodeProgram


def decode_on_host(  # noqa: PLR0913, PLR0917  what is decoded, and with what
    batch: Batch,
    rows: NDArray[np.int64],
    encoded: Callable[[int], memoryview],
    program: DecodeProgram,
    decoder_for: DecoderFor,
    pool: SlabPool,
    done_steps: int,
) -> tuple[Slab, NDArray[np.int64], NDArray[np.int64], list[ChunkFailure]]:
    """Decode chunks.

    Args:
        batch: the batch.
        rows: its rows that are decoded here.
        encoded: the bytes of a row.
        program: decodes them.
        decoder_for: prepares decoders.
        pool: where the result's memory comes from.
        done_steps: leading steps that were run on `encoded` already.

    Returns:
        The slab; (m,) the places in `rows` of the chunks in it, ascending; (m,) where each begins;
        and what failed.

    Pinned memory is there as soon as it is taken, and how large chunks are, metadata say, which may
    be lies. So large ones are decoded elsewhere first, and take a place once all of them came out.
    """
    nbytes = batch.chunks.decoded_nbytes[rows]
    rest = replace(program, steps=program.steps[done_steps:])
    failures: list[ChunkFailure] = []
    good = np.zeros(len(rows), np.bool_)

    def decode(place: int, allocate: Callable[[], NDArray[np.uint8]]) -> None:
        row = int(rows[place])
        decoder = decoder_for(rest, tuple(batch.chunks.shape[row].tolist()))
        try:
            decoder.decode_bytes(encoded(row), len(rest.steps), allocate().data)
        except StepError as error:
            failures.append(step_failure(batch, row, error))
        except MemoryError as error:
            cause = MemoryLimitError(f"there is not enough memory: {error}")
            failures.append(chunk_failure(batch, row, "fetch", cause))
        else:
            good[place] = True

    large: dict[int, NDArray[np.uint8]] = {}

    def decode_large(place: int) -> None:
        def allocate() -> NDArray[np.uint8]:
            return large.setdefault(place, np.empty(int(nbytes[place]), np.uint8))

        decode(place, allocate)

    is_large = nbytes > LARGE_NBYTES
    do_all(decode_large, np.flatnonzero(is_large).tolist())
    places = np.flatnonzero(good | ~is_large)
    offset, total = slots(nbytes[places])
    slab = pool.take(total)

    def put(number: int) -> None:
        place, start = int(places[number]), int(offset[number])
        out = slab.array[start : start + int(nbytes[place])]
        if place in large:
            out[:] = large.pop(place)
        else:
            decode(place, lambda: out)

    try:
        do_all(put, range(len(places)))
    except BaseException:
        slab.give_back()
        raise
    held = good[places]
    return slab, places[held], offset[held], failures
