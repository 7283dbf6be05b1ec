"""Raw Snappy streams, which occur inside Blosc: the decoded size as a varint, then the elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

MOST_PREFIX = 5
"""Bytes of the longest size."""


def snappy_sizes(data: NDArray[np.uint8], source: Integers, nbytes: Integers) -> Integers:
    """(m,) the sizes that streams say they decode to; -1 where there is none.

    >>> data = np.array([0xAC, 0x02, 0], np.uint8)
    >>> snappy_sizes(data, np.array([0]), np.array([3])).tolist()
    [300]
    """
    size = np.zeros(len(source), np.int64)
    done = np.zeros(len(source), np.bool_)
    for i in range(MOST_PREFIX):
        at = np.flatnonzero(~done & (nbytes > i))
        byte = data[source[at] + i].astype(np.int64)
        size[at] |= (byte & 0x7F) << (7 * i)
        done[at] = byte < 0x80  # noqa: PLR2004  the last byte of a varint
    return np.where(done, size, -1)
