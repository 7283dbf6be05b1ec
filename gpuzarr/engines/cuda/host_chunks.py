"""Chunks of a device's program that only the host can decode: whole, into pinned memory.

What a walk over frames finds in some chunk (a second gzip member, a zstd frame without its size)
does not make the array one for the host: that chunk alone is decoded here, and joins the others
before the scatter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpuzarr.engines.cuda.layout import slots
from gpuzarr.engines.failures import chunk_failure, step_failure
from gpuzarr.engines.pool import do_all
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import MemoryLimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
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
) -> tuple[Slab, NDArray[np.int64], list[ChunkFailure]]:
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
        The slab, (n,) where each row's decoded bytes begin in it, and what failed.
    """
    nbytes = batch.chunks.decoded_nbytes[rows]
    offset, total = slots(nbytes)
    slab = pool.take(total)
    failures: list[ChunkFailure] = []
    rest = replace(program, steps=program.steps[done_steps:])

    def decode(place: int) -> None:
        row, start = int(rows[place]), int(offset[place])
        out = slab.array[start : start + int(nbytes[place])].data
        decoder = decoder_for(rest, tuple(batch.chunks.shape[row].tolist()))
        try:
            decoder.decode_bytes(encoded(row), len(rest.steps), out)
        except StepError as error:
            failures.append(step_failure(batch, row, error))
        except MemoryError as error:
            cause = MemoryLimitError(f"there is not enough memory: {error}")
            failures.append(chunk_failure(batch, row, "fetch", cause))

    do_all(decode, range(len(rows)))
    return slab, offset, failures
