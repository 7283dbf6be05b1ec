"""dask: Zarr arrays as dask arrays, whose tasks read whole stored objects.

    stored objects    | 0 | 1 | 2 | 3 | 4 |       chunks, or shards where there are some
    chunks=None       | 0 | 1 | 2 | 3 | 4 |       a task for each
    chunks="auto"     |   0   |   1   | 2 |       as many a task as fit into `array.chunk-size`

The graph holds the array once, under a key of its own, and each task a box of it. So a worker opens
the array once, and a shard's index is read once by whoever reads the shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any, Unpack

import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks
from dask.base import tokenize

from gpuzarr.api import open_array
from gpuzarr.array import Array
from gpuzarr.errors import MemoryLimitError, UnsupportedError
from gpuzarr.plan.grid import MOST_SIZES, grid_axes

if TYPE_CHECKING:
    from gpuzarr.api import OpenArguments, StoreLike
    from gpuzarr.engines.engine import DeviceArray

    Sizes = tuple[tuple[int, ...], ...]
    """Sizes along each dimension, in elements."""


def from_gpuzarr(
    source: StoreLike | Array,
    *,
    chunks: Any = None,
    name: str | None = None,
    **arguments: Unpack[OpenArguments],
) -> da.Array:
    """A dask array that reads a Zarr array when it is computed.

    Tasks run beside each other, so on the CPU a task decodes in its own thread alone: a worker uses
    as many CPUs as it has threads. Where a worker has more CPUs than that, open with `threads=`:
    each read then also uses threads of the pool that all reads of a process share. On a GPU reads
    use what CPUs there are, since a worker for a GPU has usually one thread.

    Workers get the array by pickling: a directory or archive must be there for them under the same
    path, and a mapping is sent to each of them whole.

    Args:
        source: an array, or what `gpuzarr.open_array` opens.
        chunks: what a task reads. None: one stored object, which is a chunk, or a shard where there
            are shards. "auto", or a size such as "1 GiB": about as many whole ones as fit into
            dask's `array.chunk-size`, or into that; no less than one. Both may be given for some
            dimensions only. Numbers are used as they are: where they are no multiples of the stored
            sizes, the chunks at the edges are read and decoded by several tasks.
        name: the key of the array in graphs. By default a hash of the store, the path, the
            metadata, the device and `chunks`, so that equal arrays are computed once. It does not
            change with the stored chunks: where those were rewritten while results are kept, give
            another. For a mapping all its values are hashed.
        **arguments: as in `gpuzarr.open`; not with an array, which has its own.

    Returns:
        An array of the same shape and dtype. Its blocks and its `_meta` are NumPy's or CuPy's, by
        `Array.device`.

    Raises:
        UnsupportedError: codecs that are not available, or "auto" for elements of no fixed size.
        MemoryLimitError: more than 2**24 stored objects along one dimension, and no `chunks`.
        ValueError: `chunks` that do not fit the shape.
        TypeError: `arguments` with an array.
        GpuzarrError: as `gpuzarr.open_array`.

    >>> from gpuzarr.integrations.dask import from_gpuzarr
    >>> lazy = from_gpuzarr(store, path="temperature")
    >>> lazy.chunks
    ((2, 2), (3, 3))
    >>> lazy.max(axis=0).compute()
    array([18., 19., 20., 21., 22., 23.], dtype=float32)
    """
    if isinstance(source, Array) and arguments:
        raise TypeError(f"{next(iter(arguments))}= is for opening an array, and this is open")
    array = source if isinstance(source, Array) else open_array(source, **arguments)
    sizes = _task_sizes(array, chunks)
    if name is None:
        document = array.metadata.document
        name = f"gpuzarr-{tokenize(array.store, array.path, document, array.device, sizes)}"
    lazy: da.Array = da.from_array(  # type: ignore[no-untyped-call]
        _for_tasks(array), chunks=sizes, name=name, asarray=False, meta=_empty(array)
    )
    return lazy


def _task_sizes(array: Array, chunks: Any) -> Sizes:
    """What tasks read, from the argument `chunks`."""
    if chunks is None:
        return _stored_sizes(array)
    if isinstance(chunks, Mapping):
        chunks = [chunks.get(dimension) for dimension in range(array.ndim)]
    elif isinstance(chunks, str | Integral):
        chunks = [chunks] * array.ndim
    stored = _stored_sizes(array) if any(isinstance(size, str) for size in chunks) else None
    if stored is not None and array.metadata.data_type.variable:
        raise UnsupportedError(
            "elements of no fixed size have no size to choose chunks by; give chunks= as numbers",
            store=array.store.name,
            path=array.path,
        )
    sizes: Sizes = normalize_chunks(  # type: ignore[no-untyped-call]
        tuple(chunks), array.shape, dtype=array.dtype, previous_chunks=stored
    )
    if stored is None:
        return sizes
    return tuple(
        _whole_objects(found, kept) if isinstance(asked, str) else found
        for asked, found, kept in zip(chunks, sizes, stored, strict=True)
    )


def _stored_sizes(array: Array) -> Sizes:
    """Sizes of the stored objects, the last cut where the array ends."""
    sizes = []
    for axis in grid_axes(array.metadata.chunk_grid, array.shape):
        if axis.nchunks > MOST_SIZES:
            raise MemoryLimitError(
                f"{axis.nchunks:,} tasks along one dimension are too many to list; give chunks=",
                store=array.store.name,
                path=array.path,
            )
        starts = axis.start_of(np.arange(axis.nchunks))
        sizes.append(tuple(np.diff(starts, append=axis.length).tolist()) or (0,))
    return tuple(sizes)


def _whole_objects(sizes: tuple[int, ...], stored: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes along a dimension, each end moved to that of the stored object it lies in.

    >>> _whole_objects((5, 5, 5, 5), (2, 6, 6, 6))
    (8, 6, 6)
    """
    ends = np.cumsum(stored)
    kept = np.unique(ends[np.searchsorted(ends, np.cumsum(sizes))])
    return tuple(np.diff(kept, prepend=0).tolist())


def _for_tasks(array: Array) -> Array:
    """The array as tasks read it: by one thread each, unless it was opened otherwise."""
    if array.device == "cpu" and array._options.threads is None:  # noqa: SLF001  nobody else tells
        return array.with_options(threads=1)
    return array


def _empty(array: Array) -> DeviceArray:
    """An array of no elements (one for 0-d) as the results are."""
    engine = array._prepare(array._snapshot).engine  # noqa: SLF001  a read could cost a request
    return engine.empty((0,) * array.ndim, array.dtype)
