"""zarr-python's arrays, read by gpuzarr.

    zarr.config.set({"codec_pipeline.path": "gpuzarr.integrations.zarr.GpuzarrCodecPipeline"})

Arrays that are opened from then on are read here, each selection as one read. zarr-python still
writes, and reads what gpuzarr does not: why, is logged on "gpuzarr.zarr" once for each array. With
`"codec_pipeline.strict": True` it is an `UnsupportedError` instead.

Arrays are read from any store of zarr-python's; see `zarr_storage`.

A codec pipeline is asked chunk by chunk, and told no more of the array than its metadata when it
was opened. `zarr_selections` joins the chunks to the selection again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from zarr.core.array import create_codec_pipeline
from zarr.core.buffer import gpu
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.core.config import config
from zarr.registry import register_pipeline
from zarr.storage import StorePath

from gpuzarr.array import Array
from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.integrations.zarr_selections import ChunkKeys, Cuts, join_cuts
from gpuzarr.integrations.zarr_storage import open_awaited, open_directly, wait_apart
from gpuzarr.many import read_batch
from gpuzarr.metadata import v2, v3
from gpuzarr.metadata.document import parse_json
from gpuzarr.metadata.model import RegularGrid
from gpuzarr.node import OpenOptions
from gpuzarr.plan.grid import grid_axes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zarr.abc.store import ByteGetter, ByteSetter
    from zarr.abc.store import Store as ZarrStore
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import NDBuffer
    from zarr.core.indexing import SelectorTuple
    from zarr.core.metadata import ArrayMetadata as ZarrMetadata

    from gpuzarr.errors import GpuzarrError
    from gpuzarr.integrations.zarr_selections import Joined
    from gpuzarr.integrations.zarr_storage import Storage
    from gpuzarr.metadata.model import ArrayMetadata
    from gpuzarr.plan.grid import GridAxis

    ChunkInfo = tuple[ByteGetter, ArraySpec, SelectorTuple, SelectorTuple, bool]

log = logging.getLogger("gpuzarr.zarr")

LONGEST = 1 << 62
"""Elements along a dimension of an array whose end is not known."""

AT_ONCE_NBYTES = 1 << 18
"""Chunks up to this size are read in the thread of the event loop, as another costs more..."""
ALONE_NBYTES = 1 << 23
"""... and up to this size where nothing else waits there..."""
AT_ONCE_SECONDS = 10e-3
"""... unless the last such read took longer than this, which may hold up others."""


@dataclass(frozen=True)
class GpuzarrCodecPipeline(BatchedCodecPipeline):
    """zarr-python's own codec pipeline, but for reading.

    >>> import zarr
    >>> path = "gpuzarr.integrations.zarr.GpuzarrCodecPipeline"
    >>> with zarr.config.set({"codec_pipeline.path": path}):
    ...     array = zarr.create_array({}, data=np.arange(6), chunks=(2,))
    >>> array[1:4]
    array([1, 2, 3])
    """

    reader: ArrayReader | None = field(default=None, repr=False, compare=False)
    """None inside shards, which are written, and read for that, by zarr-python."""

    @classmethod
    def from_array_metadata_and_store(cls, array_metadata: ZarrMetadata, store: ZarrStore) -> Self:
        """The pipeline of an array, as zarr-python makes it."""
        own = cast("Self", create_codec_pipeline(array_metadata))
        return replace(own, reader=ArrayReader(array_metadata, store))

    async def read(
        self, batch_info: Iterable[ChunkInfo], out: NDBuffer, drop_axes: tuple[int, ...] = ()
    ) -> Any:
        """Read what is selected of some chunks; the arguments are zarr-python's.

        Raises:
            ChunkError: chunks are damaged; `.failures` names each.
            StoreError: the storage failed.
            UnsupportedError: with "codec_pipeline.strict", where gpuzarr cannot read this.
        """
        chunks = list(batch_info)
        if self.reader is None or not chunks:
            return await super().read(chunks, out, drop_axes)
        try:
            await self.reader.read(chunks, out, drop_axes)
        except (MetadataError, UnsupportedError) as error:
            self.reader.refuse(error)
            return await super().read(chunks, out, drop_axes)
        return ({"status": "present"},) * len(chunks)  # those that are missing are filled

    async def write(
        self,
        batch_info: Iterable[tuple[ByteSetter, ArraySpec, SelectorTuple, SelectorTuple, bool]],
        value: NDBuffer,
        drop_axes: tuple[int, ...] = (),
    ) -> None:
        """Write as zarr-python does."""
        try:
            await super().write(batch_info, value, drop_axes)
        finally:
            _Written.last = object()


class _Written:
    """Whether anything was written, so that what was remembered of a store is forgotten.

    Two shards that are written within a tick of the file system's clock may look alike.
    """

    last = object()
    """Another object after each write of this process."""


class ArrayReader:
    """Reads one array of zarr-python's with gpuzarr."""

    def __init__(self, metadata: ZarrMetadata, store: ZarrStore) -> None:
        """Name an array; whether it can be read is found when it is."""
        self._zarr_metadata = metadata
        self._zarr_store = store
        self._told: set[str] = set()
        self._is_slow = False
        self._arrays: tuple[object, dict[tuple[str, str], Array]] = (None, {})
        self._awaited: tuple[object, Storage | None] = (None, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return (ArrayReader, (self._zarr_metadata, self._zarr_store))

    async def read(
        self, chunks: Sequence[ChunkInfo], out: NDBuffer, drop_axes: tuple[int, ...]
    ) -> None:
        """Read a selection into `out`; the arguments are the pipeline's.

        Raises:
            MetadataError: gpuzarr refuses the array's metadata.
            UnsupportedError: there is something that gpuzarr does not read.
        """
        plan = self._plan(chunks, out, drop_axes)
        nbytes = plan.decoded_nbytes
        at_once = nbytes <= AT_ONCE_NBYTES or (
            nbytes <= ALONE_NBYTES and len(asyncio.all_tasks()) == 1
        )
        began = time.perf_counter()
        if plan.waits:
            await wait_apart(plan.run)
        elif self._is_slow or not at_once:
            await asyncio.to_thread(plan.run)
        else:
            plan.run()
        if nbytes <= ALONE_NBYTES:
            self._is_slow = time.perf_counter() - began > AT_ONCE_SECONDS

    def refuse(self, error: GpuzarrError) -> None:
        """Log, once, why zarr-python is to read the array, or raise it where that is wanted."""
        if config.get("codec_pipeline.strict", False):
            if isinstance(error, UnsupportedError):
                raise error
            raise UnsupportedError("gpuzarr refuses the metadata", reasons=(str(error),)) from error
        if error.message not in self._told:
            self._told.add(error.message)
            log.info("zarr-python reads %s: %s", self._zarr_store, error)

    def _plan(self, chunks: Sequence[ChunkInfo], out: NDBuffer, drop_axes: tuple[int, ...]) -> Plan:
        storage = self._storage()
        if not getattr(chunks[0][1].config, "read_missing_chunks", True):
            raise UnsupportedError("chunks that are not stored are to be an error")
        keys = [
            getter.path
            for getter, *_ in chunks
            if isinstance(getter, StorePath) and getter.store is self._zarr_store
        ]
        path = self._keys.path_in(keys[0]) if len(keys) == len(chunks) else None
        if path is None:
            raise UnsupportedError("the chunks do not lie in the array's own store")
        coords = self._keys.coords(keys, path)
        self._check_shapes(coords, [spec.shape for _, spec, *_ in chunks])
        cuts = Cuts(coords, [info[2] for info in chunks], [info[3] for info in chunks], drop_axes)
        array = self._array(storage, path, _device_of(out))
        log.debug("read: %s, by the %s engine", path or "/", array.engine)
        joined = join_cuts(cuts, self._grid, out.shape)
        shape: Any = chunks[0][1].shape if array.shards is None else array.chunks
        nbytes = len(chunks) * prod(shape) * array.dtype.itemsize
        return Plan(array, joined, out.as_ndarray_like(), nbytes, storage.waits)

    @cached_property
    def _metadata(self) -> ArrayMetadata:
        """What gpuzarr makes of the metadata, without an end where the grid has none.

        `resize` gives an array another shape and keeps the pipeline.
        """
        document: dict[str, Any] = {**self._zarr_metadata.to_dict(), "attributes": {}}
        parse = v2.parse_array if document["zarr_format"] == 2 else v3.parse_array  # noqa: PLR2004
        found = parse(parse_json(json.dumps(document).encode(), "the metadata"))
        if isinstance(found.chunk_grid, RegularGrid):
            sizes = found.chunk_grid.chunk_shape
            return replace(found, shape=tuple(LONGEST // size * size for size in sizes))
        return found

    @cached_property
    def _grid(self) -> tuple[GridAxis, ...]:
        return grid_axes(self._metadata.chunk_grid, self._metadata.shape)

    @cached_property
    def _keys(self) -> ChunkKeys:
        return ChunkKeys(self._metadata.chunk_key_encoding, self._metadata.ndim)

    @cached_property
    def _direct(self) -> Storage | None:
        return open_directly(self._zarr_store)

    def _storage(self) -> Storage:
        """Where to read from, for a read that comes from the running event loop.

        Raises:
            UnsupportedError: there is no good way to the bytes.
        """
        if self._direct is not None:
            return self._direct
        loop = asyncio.get_running_loop()
        last, storage = self._awaited
        if storage is None or last is not loop:
            storage = open_awaited(self._zarr_store, loop)
            self._awaited = (loop, storage)
        return storage

    def _array(self, storage: Storage, path: str, device: str) -> Array:
        """The array for results on a device; another one after anything was written."""
        last, arrays = self._arrays
        if last is not _Written.last:
            last, arrays = self._arrays = (_Written.last, {})
        found = arrays.get((path, device))
        if found is None:
            options = OpenOptions(device=device, threads=config.get("threading.max_workers"))
            found = Array(storage.store, path, self._metadata, options)
            if storage.has_validators:  # else every read looks into shards anew
                arrays[path, device] = found
        return found

    def _check_shapes(
        self, coords: Sequence[tuple[int, ...]], shapes: Sequence[tuple[int, ...]]
    ) -> None:
        """Refuse chunks that the metadata do not have: `resize` made them.

        Raises:
            UnsupportedError: there are such chunks.
        """
        if isinstance(self._metadata.chunk_grid, RegularGrid):
            return
        for axis, column, sizes in zip(
            self._grid, zip(*coords, strict=True), zip(*shapes, strict=True), strict=True
        ):
            numbers = np.array(column)
            if numbers.max() >= axis.nchunks or not np.array_equal(axis.size_of(numbers), sizes):
                raise UnsupportedError("the array was resized: open it again")


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A read that can be done at any time, in any thread."""

    array: Array
    joined: Joined
    out: Any
    """Where to write: NumPy's or CuPy's, strided, in any byte order."""
    decoded_nbytes: int
    """Bytes of the chunks that it decodes at least."""
    waits: bool
    """Whether it waits for storage, so that it needs a thread."""

    def run(self) -> None:
        """Read.

        Raises:
            UnsupportedError: gpuzarr does not give values of the dtype that is wanted.
        """
        out, dtype = self.out, self.array.dtype
        if out.dtype == dtype:
            self._read(out)
        elif out.dtype == dtype.newbyteorder() and dtype.names is None:
            self._read(out.view(dtype))
            out.byteswap(inplace=True)
        elif out.dtype.newbyteorder("=") == dtype or {out.dtype.kind, dtype.kind} == {"O", "T"}:
            out[...] = self._read(None)
        else:
            raise UnsupportedError(f"gpuzarr reads {dtype} where {out.dtype} is wanted")

    def _read(self, out: Any) -> Any:
        form, key = self.joined.form, self.joined.key
        if form == "basic":
            return self.array.read(key, out=out)
        place = self.array.oindex if form == "oindex" else self.array.vindex
        return read_batch([(place, key)], out=None if out is None else [out])


def _device_of(out: NDBuffer) -> str:
    """The device that a buffer is on, as gpuzarr names it."""
    array: Any = out.as_ndarray_like()
    if isinstance(out, gpu.NDBuffer):
        return f"cuda:{array.device.id}"
    if isinstance(array, np.ndarray):
        return "cpu"
    raise UnsupportedError(f"results are wanted as {type(array).__name__}")


register_pipeline(GpuzarrCodecPipeline)
