"""Batches whose bytes were read straight to device memory, whoever did it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gpuzarr.engines.cuda.staging import FAILED, MISSING
from gpuzarr.engines.failures import chunk_failure, shard_is_gone
from gpuzarr.plan.ranges import WHOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Memory
    from gpuzarr.errors import ChunkFailure, GpuzarrError
    from gpuzarr.plan.batches import Batch


@dataclass(frozen=True, slots=True, eq=False)
class DirectChunks:
    """A batch's chunks in device memory."""

    memory: Memory | None
    """None where nothing was read."""
    base: int
    """Address that offsets count from."""
    offset: NDArray[np.int64]
    """(n,) first byte of each chunk."""
    nbytes: NDArray[np.int64]
    """(n,) its bytes."""
    state: NDArray[np.uint8]
    """(n,) READY, MISSING or FAILED, as in `staging`."""


class DirectReads(Protocol):
    """Reads of one batch, under way."""

    @property
    def device_nbytes(self) -> int:
        """Bytes of device memory in use."""
        ...

    def wait(self) -> tuple[DirectChunks, list[ChunkFailure]]:
        """The chunks, once all are there, and what failed."""
        ...

    def abort(self) -> None:
        """Give up, once nothing is written any more."""
        ...


def direct_chunks(  # noqa: PLR0913, PLR0917  columns
    batch: Batch,
    memory: Memory | None,
    base: int,
    begin: NDArray[np.int64],
    nbytes: NDArray[np.int64],
    state: NDArray[np.uint8],
    errors: Sequence[GpuzarrError | None],
) -> tuple[DirectChunks, list[ChunkFailure]]:
    """The chunks of requests that are done.

    Args:
        batch: the batch.
        memory: where its bytes are; None: nowhere.
        base: address that places count from.
        begin: (requests,) where each request's bytes begin.
        nbytes: (requests,) how many they are.
        state: (requests,) READY or MISSING; it is changed to FAILED where there is an error.
        errors: one a request, or None.
    """
    failures: list[ChunkFailure] = []
    whole = batch.requests.nbytes
    for request, error in enumerate(errors):
        # Chunks that are objects of their own may be missing, shards may not.
        if error is None and state[request] == MISSING and whole[request] != WHOLE:
            error = shard_is_gone()  # noqa: PLW2901
        if error is not None:
            state[request] = FAILED
            rows = np.flatnonzero(batch.request == request).tolist()
            failures += [chunk_failure(batch, row, "fetch", error) for row in rows]
    chunk_nbytes = np.where(batch.nbytes == WHOLE, nbytes[batch.request], batch.nbytes)
    offset = begin[batch.request] + batch.start
    found = DirectChunks(memory, base, offset, chunk_nbytes, state[batch.request])
    return found, failures
