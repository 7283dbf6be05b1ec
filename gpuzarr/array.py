"""`Array`: a handle on one Zarr array. It holds no logic of reading; `gpuzarr.read` does that."""

from __future__ import annotations

import asyncio
import threading
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.array_info import ArrayInfo
from gpuzarr.drawing import draw_chunk_grid
from gpuzarr.engines.conversion import check_out, make_conversion
from gpuzarr.errors import GpuzarrError
from gpuzarr.explain import Explanation, explain_selection
from gpuzarr.node import OpenOptions, changed_options, load_array, load_attributes
from gpuzarr.pending import NamedErrors, PendingRead, Request, read_selection
from gpuzarr.plan.grid import grid_axes, grid_shape, grid_sizes, grid_text
from gpuzarr.plan.selection import (
    normalize_blocks,
    normalize_orthogonal,
    normalize_selection,
    normalize_vectorized,
)
from gpuzarr.source import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gpuzarr.engines.engine import DeviceArray
    from gpuzarr.metadata.model import ArrayMetadata
    from gpuzarr.plan.grid import Chunks
    from gpuzarr.plan.selection import Selection
    from gpuzarr.source import ArraySource
    from gpuzarr.stores.store import Store

    Normalize = Callable[[Any, ArrayMetadata], Selection]


class Array:
    """A read-only Zarr array. `gpuzarr.open_array` makes one; indexing it reads.

    Indexing follows NumPy: integers, slices with any step, `...`, `None`, and lists or masks.
    Results are new C-contiguous arrays in native byte order, 0-d ones included; chunks that are
    not stored read as the fill value.

    >>> array = gpuzarr.open_array(store, path="temperature")
    >>> array.shape, array.chunks, array.dtype
    ((4, 6), (2, 3), dtype('float32'))
    >>> array[1, ::-2]
    array([11.,  9.,  7.], dtype=float32)

    Reads from many threads at once are safe. A handle pickles, and its store with it, for workers
    in other processes.
    """

    def __init__(
        self, store: Store, path: str, metadata: ArrayMetadata, options: OpenOptions
    ) -> None:
        self._store = store
        self._path = path
        self._options = options
        self._snapshot = Snapshot(metadata)

    # What the array is

    @property
    def metadata(self) -> ArrayMetadata:
        """The metadata document, in the words of Zarr v3."""
        return self._snapshot.metadata

    @property
    def store(self) -> Store:
        """Where the array lies."""
        return self._store

    @property
    def path(self) -> str:
        """Path of the array in its store; "" for the root."""
        return self._path

    @property
    def name(self) -> str:
        """The path with a leading slash, as in h5py."""
        return "/" + self._path

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each dimension."""
        return self.metadata.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of what is read: native byte order."""
        return self.metadata.data_type.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array once read; for variable-length types, of its references."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> Chunks:
        """Chunk shape, inside shards where there are any; each dimension's sizes if they differ."""
        if self._inner is not None:
            return self._inner
        return grid_shape(self.metadata.chunk_grid, self.shape)

    @property
    def shards(self) -> Chunks | None:
        """Shard shape; None when the array is not sharded."""
        return None if self._inner is None else grid_shape(self.metadata.chunk_grid, self.shape)

    @property
    def nchunks(self) -> int:
        """Number of chunks in the grid, stored or not; with shards, of the chunks inside them."""
        if self._inner is not None:
            return prod(-(-n // c) for n, c in zip(self.shape, self._inner, strict=True))
        return prod(axis.nchunks for axis in grid_axes(self.metadata.chunk_grid, self.shape))

    @property
    def fill_value(self) -> Any:
        """What chunks that are not stored hold; None for v2's null, which reads as zeros."""
        return self.metadata.fill_value

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions, where the metadata give them."""
        return self.metadata.dimension_names

    @property
    def zarr_format(self) -> int:
        """2 or 3."""
        return self.metadata.zarr_format

    @property
    def attrs(self) -> Mapping[str, Any]:
        """User attributes; v2's are read at first use."""
        snapshot = self._snapshot
        if snapshot.attributes is None:
            snapshot.attributes = load_attributes(self._store, self._path, snapshot.metadata)
        return snapshot.attributes

    @property
    def device(self) -> str:
        """Where results live: "cpu", "cuda:0", ..."""
        return self._prepare(self._snapshot).engine.device

    @property
    def engine(self) -> str:
        """Name of the engine that decodes."""
        return self._prepare(self._snapshot).engine.name

    @property
    def info(self) -> ArrayInfo:
        """All of this in a table that prints."""
        return ArrayInfo(self)

    # Reading

    def __getitem__(self, key: Any) -> DeviceArray:
        return self._read(normalize_key, key)

    @property
    def oindex(self) -> IndexingMethod:
        """Orthogonal indexing: each dimension by an integer, a slice, a list or a mask."""
        return IndexingMethod(self, lambda key, of: normalize_orthogonal(key, of.shape))

    @property
    def vindex(self) -> IndexingMethod:
        """Coordinate indexing: lists that are walked together, or a mask of the array's shape."""
        return IndexingMethod(self, lambda key, of: normalize_vectorized(key, of.shape))

    @property
    def blocks(self) -> IndexingMethod:
        """Whole stored objects (chunks, or shards) by their position in the grid."""
        return IndexingMethod(self, _normalize_blocks)

    def read(  # noqa: PLR0913  everything that one may wish
        self,
        key: Any = ...,
        *,
        out: DeviceArray | None = None,
        dtype: Any = None,
        scale: float | None = None,
        offset: float | None = None,
        stream: Any = None,
    ) -> DeviceArray:
        """Read a selection, with choices that `array[key]` has no room for.

        Args:
            key: as in `array[key]`.
            out: where to write: exactly the result's shape; strided is fine; not overlapping
                itself. Its contents are undefined after an error.
            dtype: dtype of the result; default that of `out`, else the array's own.
            scale: multiply every value by this; see `offset`.
            offset: add this to every scaled value. With one of the two and no `dtype`, results are
                float32 where that holds every stored value, else float64.
            stream: for results on a GPU, the stream that the work is ordered on: CuPy's, PyTorch's,
                or the address of one; None is CuPy's current stream. The read is done when this
                returns.

        Returns:
            `out`, or a new C-contiguous array.

        Raises:
            SelectionError: the key does not fit the array.
            ChunkError: chunks are damaged; `.failures` names each.
            StoreError: the storage failed.
            UnsupportedError: a codec or conversion that is not available.
            MemoryLimitError: the result does not fit into memory.
        """
        pending = self.read_async(
            key, out=out, dtype=dtype, scale=scale, offset=offset, stream=stream
        )
        return pending.result()

    def read_async(  # noqa: PLR0913  as `read`
        self,
        key: Any = ...,
        *,
        out: DeviceArray | None = None,
        dtype: Any = None,
        scale: float | None = None,
        offset: float | None = None,
        stream: Any = None,
    ) -> PendingRead:
        """Start a read, and wait for it later; the arguments are those of `read`.

        On a GPU all work is on the stream when this returns, so that what is put there behind it
        sees the data; whether they are good is known when `.result()` returns. Results on the CPU
        are there when `.result()` returns.

        >>> pending = gpuzarr.open_array(store, path="temperature").read_async((0, slice(2)))
        >>> pending.result()
        array([0., 1.], dtype=float32)
        """
        return self._start(
            normalize_key, key, out=out, dtype=dtype, scale=scale, offset=offset, stream=stream
        )

    async def getitem(self, key: Any = ...) -> DeviceArray:
        """`array[key]` for async callers: reads in a thread; cancelling gives the read up."""
        stopped = threading.Event()
        try:
            return await asyncio.to_thread(self._read, normalize_key, key, stopped=stopped.is_set)
        except asyncio.CancelledError:
            stopped.set()
            raise

    def explain(self, key: Any = ...) -> Explanation:
        """What reading `array[key]` would do, without decoding anything: a report that prints."""
        with NamedErrors(self._store.name, self._path):
            snapshot = self._snapshot
            selection = normalize_selection(key, snapshot.metadata.shape)
            return explain_selection(self._prepare(snapshot), selection)

    def refresh(self) -> Array:
        """Read the metadata again, after a writer changed them; returns the array itself."""
        metadata = load_array(self._store, self._path, self.metadata.zarr_format)
        self._snapshot = Snapshot(metadata)
        return self

    def with_options(self, **changes: Any) -> Array:
        """The same array with another `memory_limit`, `threads`, ...: see `gpuzarr.open`.

        Raises:
            TypeError: an argument that there is not, or of the wrong type.
            ValueError: a value that is not allowed.
        """
        options = changed_options(self._options, changes)
        return Array(self._store, self._path, self.metadata, options)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:  # noqa: FBT001
        """`numpy.asarray(array)`: reads everything."""
        if copy is False:
            raise ValueError("reading a Zarr array always makes a new array")
        values = self[...]
        return np.asarray(values if dtype is None else values.astype(dtype))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-dimensional array")
        return self.shape[0]

    def __iter__(self) -> Iterator[DeviceArray]:
        if not self.shape:
            raise TypeError("iteration over a 0-dimensional array")
        return (self[i] for i in range(self.shape[0]))

    def __repr__(self) -> str:
        outer = grid_text(self.metadata.chunk_grid)
        inner = self._inner
        chunks = outer if inner is None else f"{inner}, shards {outer}"
        return (
            f"<gpuzarr.Array {self.name} {self.shape} {self.dtype}, chunks {chunks},"
            f" zarr v{self.zarr_format}>"
        )

    def _repr_html_(self) -> str:
        outer, inner = grid_sizes(self.metadata.chunk_grid), self._inner
        chunks, shards = (outer, None) if inner is None else (inner, outer)
        return draw_chunk_grid(self.info.rows(), self.shape, chunks, shards)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Array, (self._store, self._path, self.metadata, self._options))

    def _prepare(self, snapshot: Snapshot) -> ArraySource:
        """Hops 2 and 3, once: the codecs lowered, the engine chosen."""
        return snapshot.prepare(self._store, self._path, self._options)

    @property
    def _inner(self) -> tuple[int, ...] | None:
        """Shape of the chunks inside shards; None without shards, or for unreadable codecs."""
        try:
            shard = self._snapshot.lowered().shard
        except GpuzarrError:
            return None
        return None if shard is None else shard.chunk_shape

    def _read(
        self, normalize: Normalize, key: Any, stopped: Callable[[], bool] | None = None
    ) -> DeviceArray:
        return self._start(normalize, key, stopped=stopped).result()

    def _start(  # noqa: PLR0913  the arguments of `read`, for every way to index
        self,
        normalize: Normalize,
        key: Any,
        *,
        out: DeviceArray | None = None,
        dtype: Any = None,
        scale: float | None = None,
        offset: float | None = None,
        stream: Any = None,
        stopped: Callable[[], bool] | None = None,
    ) -> PendingRead:
        if out is not None and dtype is None:
            dtype = getattr(out, "dtype", None)  # `check_out` says what it must be
        request = self._request(normalize, key, dtype=dtype, scale=scale, offset=offset)
        with NamedErrors(self._store.name, self._path):
            if out is not None:
                check_out(out, request.selection.shape, request.conversion, request.source.engine)
            return read_selection(request, out, stopped, stream)

    def _request(
        self,
        normalize: Normalize,
        key: Any,
        *,
        dtype: Any,
        scale: float | None,
        offset: float | None,
    ) -> Request:
        """Hop 4."""
        with NamedErrors(self._store.name, self._path):
            snapshot = self._snapshot
            source = self._prepare(snapshot)
            selection = normalize(key, snapshot.metadata)
            conversion = make_conversion(
                snapshot.metadata.data_type.dtype,
                dtype=dtype,
                scale=scale,
                offset=offset,
                field=selection.field,
            )
            return Request(source, selection, conversion)


class IndexingMethod:
    """`array.oindex`, `array.vindex` or `array.blocks`: a way to index."""

    def __init__(self, array: Array, normalize: Normalize) -> None:
        self._array = array
        self._normalize = normalize

    def __getitem__(self, key: Any) -> DeviceArray:
        return self._array._read(self._normalize, key)  # noqa: SLF001  part of Array


def normalize_key(key: Any, of: ArrayMetadata) -> Selection:
    """Hop 4 of `array[key]`."""
    return normalize_selection(key, of.shape)


def _normalize_blocks(key: Any, of: ArrayMetadata) -> Selection:
    return normalize_blocks(key, of.shape, grid_axes(of.chunk_grid, of.shape))
