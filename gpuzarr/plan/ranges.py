"""Where encoded chunks lie in the store, as columns, and how neighbours become one request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray

WHOLE = -1
"""As a number of bytes: the whole object, whose size is learned by reading it."""
MISSING = -2
"""As a number of bytes: the chunk is known not to be stored."""
BROKEN = -3
"""As a number of bytes: where the chunk lies cannot be known; its failure is recorded already."""


@dataclass(frozen=True, slots=True, eq=False)
class ByteRanges:
    """Where chunks lie; row i belongs to row i of the chunk table."""

    keys: Sequence[str]
    """Stored objects."""
    key: NDArray[np.int64]
    """(n,) index into `keys`."""
    offset: NDArray[np.int64]
    """(n,) first byte inside the object."""
    nbytes: NDArray[np.int64]
    """(n,) encoded bytes; or WHOLE, MISSING, BROKEN."""
    validators: Mapping[str, Hashable] = field(default_factory=dict)
    """For shards, what their validators were when their indexes were read (see `Blob`)."""

    @property
    def stored(self) -> NDArray[np.bool_]:
        """(n,) whether the chunk is to be fetched."""
        return np.asarray((self.nbytes >= 0) | (self.nbytes == WHOLE))


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Reads for a store; row j is one byte range of one object."""

    keys: Sequence[str]
    offset: list[int]
    nbytes: list[int]
    """Bytes to read, or WHOLE."""
    validators: Mapping[str, Hashable]
    """What an object's validator must be, where that is known; see `ByteRanges.validators`."""

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True, eq=False)
class CoalescedRanges:
    """Chunks joined into requests: which request holds each chunk, and where in its bytes."""

    first: NDArray[np.int64]
    """(requests,) row of the first chunk of each request."""
    request: NDArray[np.int64]
    """(n,) the request that holds the chunk."""
    start: NDArray[np.int64]
    """(n,) first byte of the chunk in the request's bytes."""
    nbytes: NDArray[np.int64]
    """(requests,) bytes to read, or WHOLE."""


def coalesce(
    key: NDArray[np.int64],
    offset: NDArray[np.int64],
    nbytes: NDArray[np.int64],
    cut_before: NDArray[np.bool_],
    gap_nbytes: int,
) -> CoalescedRanges:
    """Join neighbouring ranges of one object into requests, where at most `gap_nbytes` lie between.

    Args:
        key: (n,) the object of each range; ranges are ordered by key and offset, and may overlap.
        offset: (n,) first byte.
        nbytes: (n,) bytes, or WHOLE.
        cut_before: (n,) rows that must begin a request.
        gap_nbytes: bytes that may be read for nothing to save a request.

    >>> one = coalesce(np.array([0, 0, 1]), np.array([0, 8, 0]), np.array([8, 4, 4]),
    ...                np.zeros(3, bool), 0)
    >>> one.request.tolist(), one.start.tolist(), one.nbytes.tolist()
    ([0, 0, 1], [0, 8, 0], [12, 4])
    """
    n = len(key)
    begins = cut_before.copy()
    begins[:1] = True
    whole = nbytes < 0
    # The end of everything before a row in the same object: a running maximum, since ranges may
    # overlap.
    end = offset + np.maximum(nbytes, 0)
    other = changes(key)
    reach = _running_maximum(end, other | begins)
    begins[1:] |= other[1:] | whole[1:] | whole[:-1] | (offset[1:] > reach[:-1] + gap_nbytes)
    first = np.flatnonzero(begins)
    request = np.cumsum(begins) - 1
    start = offset - offset[first][request]
    last = np.append(first[1:], n)[: len(first)] - 1
    total = _running_maximum(end, begins)[last] - offset[first]
    return CoalescedRanges(first, request, start, np.where(whole[first], WHOLE, total))


def changes(column: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) whether a row differs from the one before it; the first row does."""
    differs = np.ones(len(column), np.bool_)
    np.not_equal(column[1:], column[:-1], out=differs[1:])
    return differs


def next_begin(begins: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) for each row the first one behind it where `begins` is true; n where there is none.

    >>> next_begin(np.array([True, False, True, False])).tolist()
    [2, 2, 4, 4]
    """
    count = len(begins)
    edges = np.append(np.flatnonzero(begins), count)
    return edges[np.searchsorted(edges, np.arange(count), side="right")]


def _running_maximum(values: NDArray[np.int64], begins: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The maximum so far, begun anew at each row of `begins`."""
    if not len(values):
        return values
    if bool((values[1:] >= values[:-1])[~begins[1:]].all()):
        return values
    # Lift each run above the one before it, so that one pass over all rows respects the runs.
    group = np.cumsum(begins) - 1
    order = np.lexsort((values, group))
    rank = np.empty(len(values), np.int64)
    rank[order] = np.arange(len(values))
    return values[order][np.maximum.accumulate(rank)]
