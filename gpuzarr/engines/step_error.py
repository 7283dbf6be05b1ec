"""The one exception that decoding a chunk raises for bad data."""

from __future__ import annotations

LONGEST_CAUSE = 500
"""Characters of what was wrong: libraries repeat what they do not understand, at any length."""


class StepError(Exception):
    """A decode step found that the chunk's bytes are damaged.

    Attributes:
        step: what was being done, such as "decompress zstd".
        cause_message: what was wrong.
        checksum: whether a stored checksum does not match (else the bytes make no sense, or are of
            another size than the metadata promise).
    """

    def __init__(self, step: str, cause_message: str, checksum: bool = False) -> None:  # noqa: FBT001, FBT002  a record
        if len(cause_message) > LONGEST_CAUSE:
            cause_message = cause_message[:LONGEST_CAUSE] + "..."
        super().__init__(step, cause_message, checksum)
        self.step = step
        self.cause_message = cause_message
        self.checksum = checksum

    def __str__(self) -> str:
        return f"{self.step}: {self.cause_message}"


class DamageError(Exception):
    """Raised inside a step's function; the decoder makes a `StepError` of it.

    Attributes:
        checksum: whether a stored checksum does not match.
    """

    def __init__(self, message: str, *, checksum: bool = False) -> None:
        super().__init__(message)
        self.checksum = checksum


def expect_nbytes(found: int, expected: int) -> None:
    """Raise DamageError for another size than the metadata promise."""
    if found != expected:
        raise DamageError(f"{found} bytes instead of {expected}")
