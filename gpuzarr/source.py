"""What reads of one array share: hops 1 to 3, done once."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gpuzarr.codecs.lower import chunk_sizes, lower
from gpuzarr.engines.choose import Wishes, choose_engine
from gpuzarr.engines.cpu.decoder import decode_object
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import ChecksumError, DecodeError, GpuzarrError
from gpuzarr.plan.grid import grid_axes
from gpuzarr.plan.shard_index import ShardIndexCache, leaf_grid
from gpuzarr.program import describe_program
from gpuzarr.stores.decoded import DecodedObjects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuzarr.engines.engine import Engine
    from gpuzarr.metadata.model import ArrayMetadata, ChunkGrid
    from gpuzarr.node import OpenOptions
    from gpuzarr.plan.grid import GridAxis
    from gpuzarr.program import LoweredCodecs
    from gpuzarr.stores.store import Store

codec_log = logging.getLogger("gpuzarr.codec")
engine_log = logging.getLogger("gpuzarr.engine")

OBJECT_CACHE_NBYTES = 1 << 26
"""Decoded whole objects kept for arrays with codecs after the sharding codec, by default."""

VARIABLE_OBJECT_NBYTES = 1 << 30
"""The most that such an object may decode to, where its chunks hold elements of no fixed size."""


@dataclass(frozen=True, slots=True, eq=False)
class ArraySource:
    """An array, ready to be read."""

    metadata: ArrayMetadata
    codecs: LoweredCodecs
    store: Store
    path: str
    """The array's path in the store, "" for the root."""
    engine: Engine
    objects: tuple[GridAxis, ...]
    """The grid of stored objects: chunks, or shards."""
    chunks: tuple[GridAxis, ...]
    """The grid of decodable chunks over the whole array."""
    indexes: ShardIndexCache
    fill: np.ndarray[Any, Any]
    """() the fill value."""
    told: set[str] = field(default_factory=set)
    """What was logged already and is worth saying once."""
    derived: dict[str, Any] = field(default_factory=dict)
    """What layers above derive once from it, each under a name of its own."""

    @classmethod
    def prepare(  # noqa: PLR0913, PLR0917  what an array is made of
        cls,
        metadata: ArrayMetadata,
        codecs: LoweredCodecs,
        store: Store,
        path: str,
        engine: Engine,
        cache_nbytes: int | None = None,
    ) -> ArraySource:
        """Derive what reads need from an array's metadata; `cache_nbytes` as in `gpuzarr.open`."""
        if codec_log.isEnabledFor(logging.DEBUG):
            codec_log.debug("lower: %s to %s", path or "/", describe_program(codecs.program))
        engine_log.debug("choose: the %s engine for %s", engine.name, path or "/")
        objects = grid_axes(metadata.chunk_grid, metadata.shape)
        chunks = objects if codecs.shard is None else leaf_grid(codecs.shard, metadata.shape)
        if codecs.object_steps:
            kept = OBJECT_CACHE_NBYTES if cache_nbytes is None else cache_nbytes
            store = decoded_objects(store, codecs, metadata.chunk_grid, kept)
        indexes, fill = ShardIndexCache(), fill_array(metadata)
        return cls(metadata, codecs, store, path, engine, objects, chunks, indexes, fill)


class Snapshot:
    """What is derived from one reading of an array's metadata, when it is first asked for.

    `Array.refresh` makes a new one, so that no read in another thread mixes two. Two threads may
    derive the same at once, to no harm; a lock could be held by another thread at a fork.
    """

    __slots__ = ("attributes", "codecs", "metadata", "source")

    def __init__(self, metadata: ArrayMetadata) -> None:
        """Nothing is derived yet."""
        self.metadata = metadata
        self.attributes: Mapping[str, Any] | None = None
        self.codecs: LoweredCodecs | GpuzarrError | None = None
        self.source: ArraySource | None = None

    def lowered(self) -> LoweredCodecs:
        """Hop 2, once.

        Raises:
            UnsupportedError: codecs that are not available.
        """
        if self.codecs is None:
            try:
                self.codecs = lower(self.metadata)
            except GpuzarrError as error:
                self.codecs = error
                raise
        if isinstance(self.codecs, GpuzarrError):
            # What is raised again would hold on to all frames that it went through before.
            raise self.codecs.with_traceback(None)
        return self.codecs

    def prepare(self, store: Store, path: str, options: OpenOptions) -> ArraySource:
        """Hops 2 and 3, once: the codecs lowered, the engine chosen.

        Raises:
            UnsupportedError: codecs or an engine that are not available, or do not fit.
        """
        if self.source is not None:
            return self.source
        try:
            codecs = self.lowered()
            wishes = Wishes(
                options.device,
                options.decode,
                options.io,
                options.threads,
                options.memory_limit,
            )
            dtype = self.metadata.data_type.dtype
            engine = choose_engine(wishes, codecs.program, dtype)
            self.source = ArraySource.prepare(
                self.metadata, codecs, store, path, engine, options.cache_nbytes
            )
        except GpuzarrError as error:
            error.at(store=store.name, path=path)
            raise
        return self.source


def fill_array(metadata: ArrayMetadata) -> np.ndarray[Any, Any]:
    """The fill value as a 0-d array of the result's dtype.

    Where v2 says null: zeros, empty text or bytes, not-a-time, None for other objects, as
    zarr-python 3 reads them.
    """
    dtype = metadata.data_type.dtype
    cell = np.zeros(1, dtype)
    value = metadata.fill_value
    if value is None:
        value = _EMPTY.get(metadata.data_type.name, "NaT" if dtype.kind in "mM" else None)
    if value is not None or dtype.kind == "O":
        cell[0] = value
    return cell.reshape(())


_EMPTY: Final = {"string": "", "bytes": b"", "variable_length_bytes": b""}
"""What null means for variable-length types."""


def decoded_objects(
    store: Store, codecs: LoweredCodecs, grid: ChunkGrid, cache_nbytes: int
) -> DecodedObjects:
    """The store as it looks once the codecs behind the sharding codec are undone."""
    layout = codecs.program.layout
    largest = prod(max(sizes) for sizes in chunk_sizes(grid))
    # Chunks that do not shrink are stored with some overhead each, and the index takes 16 bytes
    # for each.
    limit = VARIABLE_OBJECT_NBYTES
    if not layout.dtype.hasobject:
        limit = 2 * largest * (layout.dtype.itemsize + 16) + (1 << 20)

    def decode(encoded: memoryview, key: str) -> memoryview:
        try:
            return decode_object(codecs.object_steps, encoded, limit)
        except StepError as error:
            kind = ChecksumError if error.checksum else DecodeError
            raise kind(f"the whole shard, {error}", key=key) from error

    return DecodedObjects(store, decode, cache_nbytes)
