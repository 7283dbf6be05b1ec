"""Every error that gpuzarr raises, one tree below `GpuzarrError`.

    GpuzarrError
    +-- NotFoundError      (FileNotFoundError)    no array, group or store there
    +-- MetadataError      (ValueError)           a metadata document that breaks its specification
    +-- SelectionError     (IndexError)           a selection that the array cannot answer
    +-- UnsupportedError   (NotImplementedError)  understood, but not possible here: `.reasons`
    +-- StoreError         (OSError)              the storage failed, or was refused for safety
    +-- ChunkError         (RuntimeError)         chunks that did not become data: `.failures`
    |   +-- ChecksumError                         ... because a stored checksum does not match
    |   +-- DecodeError                           ... because the encoded bytes are damaged
    +-- DeviceError        (RuntimeError)         the GPU or its driver failed
    +-- MemoryLimitError   (MemoryError)          more memory needed than is allowed or there

Each class is also the built-in exception that fits best, so code that knows nothing of gpuzarr
handles it well. Where they are known, `store`, `path` and `key` say where it happened; the layers
that know them add them on the way up by `GpuzarrError.at`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

SHOWN_REQUESTS = 8
"""Selections that are named with a failed chunk."""


class GpuzarrError(Exception):
    """The root of the tree.

    Attributes:
        message: what went wrong and what to do about it.
        store: the store's name, where known.
        path: the node's path inside the store ("" is the root), where known.
        key: the key of the stored object inside the store, where known.
    """

    def __init__(
        self,
        message: str,
        *,
        store: str | None = None,
        path: str | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.store = store
        self.path = path
        self.key = key

    def at(
        self, *, store: str | None = None, path: str | None = None, key: str | None = None
    ) -> Self:
        """Add where it happened, keeping what is known already; returns the error itself."""
        self.store = store if self.store is None else self.store
        self.path = path if self.path is None else self.path
        self.key = key if self.key is None else self.key
        return self

    def __str__(self) -> str:
        places = [
            f"{name} {value!r}"
            for name, value in (
                ("store", self.store),
                ("node", None if self.path is None else "/" + self.path),
                ("key", self.key),
            )
            if value is not None
        ]
        return f"{self.message} ({', '.join(places)})" if places else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore, (type(self), self.args, self.__dict__.copy()))


def _restore(
    cls: type[GpuzarrError], args: tuple[object, ...], state: dict[str, object]
) -> GpuzarrError:
    """Rebuild a pickled error, whose message is complete already."""
    error = cls("")
    error.args = args
    error.__dict__.update(state)
    return error


class NotFoundError(GpuzarrError, FileNotFoundError):
    """No array, group, store or member at the given place."""


class MetadataError(GpuzarrError, ValueError):
    """A metadata document that is not JSON, lacks a member, or breaks its specification."""


class SelectionError(GpuzarrError, IndexError):
    """A selection that this array cannot answer (out of bounds, wrong rank or type)."""


class UnsupportedError(GpuzarrError, NotImplementedError):
    """The store is understood, but something it needs is not available.

    Attributes:
        reasons: every reason found, each a full sentence, before any work was started.
    """

    SHOWN = 5

    def __init__(
        self,
        message: str,
        *,
        reasons: tuple[str, ...] = (),
        store: str | None = None,
        path: str | None = None,
        key: str | None = None,
    ) -> None:
        self.reasons = reasons or (message,)
        text = message if not reasons else f"{message}: {'; '.join(reasons[: self.SHOWN])}"
        if len(reasons) > self.SHOWN:
            text += f"; and {len(reasons) - self.SHOWN} more reasons"
        super().__init__(text, store=store, path=path, key=key)


class StoreError(GpuzarrError, OSError):
    """The storage failed or refused: permissions, I/O errors, keys that leave the root."""


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error that is kept, and of those that led to it.

    They keep what was in memory where it was raised, such as a chunk that was half decoded; a read
    of many damaged chunks keeps an error for each of them until its end.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            found.__traceback__ = None
            waiting += [found.__cause__, found.__context__]


@dataclass(frozen=True, slots=True)
class ChunkFailure:
    """One chunk that did not become data."""

    key: str
    """Key of the stored object inside the store."""
    coords: tuple[int, ...]
    """Position of the chunk in the array's chunk grid."""
    step: str
    """What was being done: "fetch", or the decode step, such as "decompress zstd"."""
    cause: Exception
    """The error itself; see `forget_frames`."""
    store: str | None = None
    """Name of the store, in reads of several."""
    requests: tuple[int, ...] = ()
    """In reads of many selections, the numbers of those that need the chunk."""

    def __post_init__(self) -> None:
        forget_frames(self.cause)

    def __str__(self) -> str:
        where = "" if self.store is None else f" of {self.store!r}"
        who = ""
        if self.requests:
            shown = ", ".join(map(str, self.requests[:SHOWN_REQUESTS]))
            more = ", ..." if len(self.requests) > SHOWN_REQUESTS else ""
            who = f" (selection {shown}{more})"
        return f"chunk {self.coords} in {self.key!r}{where}{who}, {self.step}: {self.cause}"


class ChunkError(GpuzarrError, RuntimeError):
    """One or more chunks could not be read; nothing of the result may be used.

    Attributes:
        failures: every failed chunk, in the order in which they were met.
    """

    SHOWN = 5

    def __init__(
        self,
        message: str,
        *,
        failures: tuple[ChunkFailure, ...] = (),
        store: str | None = None,
        path: str | None = None,
        key: str | None = None,
    ) -> None:
        self.failures = failures
        lines = [message, *(f"\n  {failure}" for failure in failures[: self.SHOWN])]
        if len(failures) > self.SHOWN:
            lines.append(f"\n  and {len(failures) - self.SHOWN} more")
        super().__init__("".join(lines), store=store, path=path, key=key)


class ChecksumError(ChunkError):
    """A checksum stored with the data does not match them."""


class DecodeError(ChunkError):
    """Encoded bytes that are damaged, cut short, or of another size than the metadata promise."""


class DeviceError(GpuzarrError, RuntimeError):
    """The GPU, its driver or a CUDA library failed; the CUDA context may be lost."""


class MemoryLimitError(GpuzarrError, MemoryError):
    """A read needs more memory than its limit or the machine allows."""
