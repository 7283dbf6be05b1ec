"""What the device says of each chunk, as failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.kernels import STATUS
from gpuzarr.engines.failures import chunk_failure
from gpuzarr.errors import ChecksumError, DecodeError
from gpuzarr.program import (
    Decompress,
    ScaleOffset,
    Step,
    UnpackBits,
    VerifyChecksum,
    describe_step,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch

_STEPS: dict[int, tuple[type[Step], str]] = {
    STATUS["STREAM"]: (Decompress, "the GPU's decoder found it damaged"),
    STATUS["SIZE"]: (Decompress, "another number of bytes came out than was due"),
    STATUS["FRAME_CHECKSUM"]: (Decompress, "the checksum in the stream does not match the data"),
    STATUS["CHECKSUM"]: (VerifyChecksum, "the stored checksum does not match the data"),
    STATUS["INEXACT"]: (ScaleOffset, "elements do not divide by the scale"),
    STATUS["RANGE"]: (ScaleOffset, "elements leave the range of their type"),
    STATUS["PADDING"]: (UnpackBits, "the padding does not agree with the number of elements"),
}
"""Which step gives a status, and what it means."""
_REFUSED = tuple(code for code, (kind, _) in _STEPS.items() if kind is Decompress)


def refused(status: NDArray[np.int32]) -> NDArray[np.int64]:
    """The places of chunks whose streams were not decoded, or not as they say of themselves."""
    return np.flatnonzero(np.isin(status, _REFUSED))


def failures_of(
    status: NDArray[np.int32], rows: NDArray[np.int64], batch: Batch, steps: Sequence[Step]
) -> list[ChunkFailure]:
    """The failures of a batch's chunks.

    Args:
        status: (n,) of the chunks.
        rows: (n,) rows of the batch that they are.
        batch: the batch.
        steps: the device's.
    """
    return [
        _failure(int(status[place]), int(rows[place]), batch, steps)
        for place in np.flatnonzero(status)
    ]


def _failure(code: int, row: int, batch: Batch, steps: Sequence[Step]) -> ChunkFailure:
    if code == STATUS["CONVERSION"]:
        cause: Exception = ValueError("a value does not fit into the result's type")
        return chunk_failure(batch, row, "convert", cause)
    kind, text = _STEPS[code]
    step = next((describe_step(step) for step in steps if isinstance(step, kind)), "decode")
    error = ChecksumError if code == STATUS["CHECKSUM"] else DecodeError
    return chunk_failure(batch, row, step, error(text))
