"""The one error of a read, made of what failed."""

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

if TYPE_CHECKING:
    from collections.abc import Sequence


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
