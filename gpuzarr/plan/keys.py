"""Chunk coordinates to store keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.metadata.model import ChunkKeyEncoding


def chunk_keys(
    coords: NDArray[np.int64], encoding: ChunkKeyEncoding, prefix: str = ""
) -> list[str]:
    """The keys of chunks, below a node's path.

    Args:
        coords: (n, ndim) positions in the chunk grid.
        encoding: the array's chunk key encoding.
        prefix: the array's path in the store, "" for the root.

    >>> from gpuzarr.metadata.model import ChunkKeyEncoding
    >>> chunk_keys(np.array([[1, 2]]), ChunkKeyEncoding("default", "/"), "a")
    ['a/c/1/2']
    >>> chunk_keys(np.zeros((1, 0), int), ChunkKeyEncoding("v2", "."))
    ['0']
    """
    start = prefix + "/" if prefix else ""
    separator, end = encoding.separator, encoding.suffix
    ndim = coords.shape[1]
    if encoding.name == "default":
        start += "c" + separator if ndim else "c"
    elif not ndim:
        start += "0"
    # One text per distinct number: most of the cost of a key is turning integers into text.
    rows = coords.tolist()
    if ndim == 0:
        return [start + end] * len(rows)
    texts = {number: str(number) for number in set(coords.ravel().tolist())}
    return [start + separator.join([texts[number] for number in row]) + end for row in rows]
