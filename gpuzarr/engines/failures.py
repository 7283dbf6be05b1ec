"""What failed in a read: chunk by chunk, and the one error that is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr.errors import (
    ChecksumError,
    ChunkError,
    ChunkFailure,
    DecodeError,
    GpuzarrError,
    MemoryLimitError,
    StoreError,
)
from gpuzarr.plan.ranges import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.engines.step_error import StepError
    from gpuzarr.plan.batches import Batch
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.plan.ranges import Requests
    from gpuzarr.stores.store import Blob


def combine(failures: Sequence[ChunkFailure]) -> GpuzarrError:
    """One error for all failed chunks: of their common kind, where they have one."""
    causes = [failure.cause for failure in failures]
    count = f"{len(failures)} chunks" if len(failures) > 1 else "a chunk"
    if all(isinstance(cause, ChecksumError) for cause in causes):
        return ChecksumError(f"{count} did not match the checksum", failures=tuple(failures))
    if all(isinstance(cause, DecodeError) for cause in causes):
        return DecodeError(f"{count} could not be decoded", failures=tuple(failures))
    more = f" (and {len(failures) - 1} more chunks)" if len(failures) > 1 else ""
    if all(isinstance(cause, StoreError) for cause in causes):
        return StoreError(f"{causes[0]}{more}", key=failures[0].key)
    if all(isinstance(cause, MemoryLimitError) for cause in causes):
        return MemoryLimitError(f"{causes[0]}{more}", key=failures[0].key)
    return ChunkError(f"{count} could not be read", failures=tuple(failures))


FILL = "convert the fill value"
"""The step of such failures."""


def chunk_failure(batch: Batch, row: int, step: str, cause: Exception) -> ChunkFailure:
    """The failure of a batch's chunk."""
    key = batch.requests.keys[int(batch.request[row])]
    return ChunkFailure(key, tuple(batch.chunks.coords[row].tolist()), step, cause)


def step_failure(batch: Batch, row: int, error: StepError) -> ChunkFailure:
    """The failure of a batch's chunk whose bytes are damaged."""
    kind = ChecksumError if error.checksum else DecodeError
    return chunk_failure(batch, row, error.step, kind(error.cause_message))


def fill_what_fits(fill: Callable[[PieceTable], None], pieces: PieceTable) -> dict[int, ValueError]:
    """Write fill values; where one does not fit into its output, the others are written.

    Args:
        fill: writes the fill value to pieces.
        pieces: of chunks that are not stored.

    Returns:
        For each chunk (a value of `pieces.chunk`) that one does not fit for, why.
    """
    try:
        fill(pieces)
    except ValueError:
        pass
    else:
        return {}
    failed: dict[int, ValueError] = {}
    for _, rows in pieces.by_output():
        some = pieces.take(rows)
        try:
            fill(some)
        except ValueError as error:
            failed |= dict.fromkeys(some.chunk.tolist(), error)
    return failed


def check_blob(requests: Requests, request: int, blob: Blob) -> None:
    """Refuse bytes that are not those which were asked for.

    Raises:
        StoreError: they are fewer, or more.
        ChunkError: the shard is not the one whose index said where they are.
    """
    nbytes = requests.nbytes[request]
    if nbytes not in {WHOLE, len(blob.data)}:
        raise StoreError(f"the store gave {len(blob.data)} bytes where {nbytes} were asked for")
    check_validator(requests, request, blob.validator)


def check_validator(requests: Requests, request: int, validator: object) -> None:
    """Refuse bytes of a shard that is not the one whose index said where they are.

    Raises:
        ChunkError: it was replaced.
    """
    expected = requests.validators.get(requests.keys[request])
    if expected is not None and validator != expected:
        raise ChunkError("the shard was replaced after its index was read")


def storage_failed(error: OSError) -> StoreError:
    """The error for what a store raised that is an error of the system, and none of ours."""
    failed = StoreError(f"the store failed: {type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed


def note_key(error: BaseException, key: str) -> None:
    """Say which object was being read when a store raised what is no error of a storage.

    It is passed on as it is: nobody here knows what it means.
    """
    error.add_note(f"gpuzarr was reading {key!r}")


def shard_is_gone() -> StoreError:
    """The error for chunks of a shard that cannot be read although its index was."""
    return StoreError("the shard was there when its index was read, and is gone now")
