"""Chunk coordinates to store keys."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    if not ndim or not len(coords):
        return [start + end] * len(coords)
    columns = [
        _texts(coords[:, dim], start if dim == 0 else "", end if dim == ndim - 1 else "")
        for dim in range(ndim)
    ]
    return columns[0] if ndim == 1 else list(map(separator.join, zip(*columns, strict=True)))


def product_keys(
    numbers: Sequence[Sequence[int]], encoding: ChunkKeyEncoding, prefix: str = ""
) -> list[str]:
    """The keys of all chunks with one of some positions along each axis; see `chunk_keys`.

    The last axis varies fastest.

    >>> from gpuzarr.metadata.model import ChunkKeyEncoding
    >>> product_keys([[1], [2, 3]], ChunkKeyEncoding("default", "/"), "a")
    ['a/c/1/2', 'a/c/1/3']
    """
    if not numbers:
        return [chunk_key((), encoding, prefix)]
    separator, end = encoding.separator, encoding.suffix
    start = prefix + "/" if prefix else ""
    if encoding.name == "default":
        start += "c" + separator
    texts = [list(map(str, some)) for some in numbers]
    texts[0] = [start + text for text in texts[0]]
    if end:
        texts[-1] = [text + end for text in texts[-1]]
    return list(map(separator.join, product(*texts)))


def chunk_key(coords: Sequence[int], encoding: ChunkKeyEncoding, prefix: str = "") -> str:
    """The key of one chunk, below a node's path; see `chunk_keys`.

    >>> from gpuzarr.metadata.model import ChunkKeyEncoding
    >>> chunk_key((1, 2), ChunkKeyEncoding("default", "/"), "a")
    'a/c/1/2'
    """
    separator = encoding.separator
    text = separator.join(map(str, coords))
    if encoding.name == "default":
        text = f"c{separator}{text}" if text else "c"
    return f"{prefix}/{text or 0}{encoding.suffix}" if prefix else f"{text or 0}{encoding.suffix}"


def _texts(column: NDArray[np.int64], before: str, after: str) -> list[str]:
    """Each number as text; one text per distinct number, which is most of the cost of a key."""
    low, high = int(column.min()), int(column.max())
    if high - low <= 2 * len(column):
        numbers, place = np.arange(low, high + 1), column - low
    else:
        numbers, place = np.unique(column, return_inverse=True)
    texts = np.array([f"{before}{number}{after}" for number in numbers.tolist()], object)
    found: list[str] = texts[place].tolist()
    return found
