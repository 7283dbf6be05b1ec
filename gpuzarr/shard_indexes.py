"""The index of a shard: where it lies in its object, and reading it."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuzarr.engines.cpu.engine import decoder_for
from gpuzarr.engines.failures import note_key, storage_failed
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import (
    ChecksumError,
    DecodeError,
    GpuzarrError,
    MemoryLimitError,
    MetadataError,
    StoreError,
)
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.plan.shard_index import ShardIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.program import ShardLayout
    from gpuzarr.source import ArraySource
    from gpuzarr.stores.store import Blob, Pending, Store

MOST_ENTRIES = 1 << 28
"""Numbers in a shard index: 2 GiB of them; what says more is taken for damaged."""


class Container(NamedTuple):
    """A shard: a whole object, or a range of one."""

    key: str
    offset: int
    nbytes: int
    """Its size, or WHOLE."""


class IndexPlace(NamedTuple):
    """Where the index of a shard lies in its object."""

    shape: tuple[int, ...]
    """Of the index: chunks along each of its axes, and 2."""
    size: int
    """Its encoded bytes."""
    offset: int
    nbytes: int
    """What to ask for, as in `Store.read`."""


class StartedIndex(NamedTuple):
    """An index that is on its way."""

    place: IndexPlace
    pending: Pending
    row: int
    """Which of the pending reads brings it."""


def index_place(layout: ShardLayout, container: Container, counts: Sequence[int]) -> IndexPlace:
    """Where the index of a shard lies; the arguments are as in `read_index`.

    Raises:
        GpuzarrError: there can be none.
    """
    shape = (*counts, 2)
    size = layout.index_program.stored_nbytes(shape)
    if size is None:
        raise MetadataError("the shard index is compressed, so its size cannot be known")
    if prod(shape) > MOST_ENTRIES:
        raise MetadataError(f"a shard of {prod(shape) // 2} chunks has an index too large to read")
    if container.nbytes != WHOLE and container.nbytes < size:
        raise DecodeError(
            f"a nested shard has {container.nbytes} bytes, fewer than the {size} of its index"
        )
    if layout.index_at != "end":
        return IndexPlace(shape, size, container.offset, size)
    if container.nbytes == WHOLE:
        return IndexPlace(shape, size, -size, WHOLE)
    return IndexPlace(shape, size, container.offset + container.nbytes - size, size)


def read_index(
    source: ArraySource,
    layout: ShardLayout,
    container: Container,
    counts: Sequence[int],
    started: StartedIndex | None = None,
) -> ShardIndex | None:
    """A shard's index; None when the shard is not stored.

    Args:
        source: the array.
        layout: of this level of shards.
        container: the shard.
        counts: its chunks along each axis of the index.
        started: its read, where that was started; None: it is read now.

    Raises:
        GpuzarrError: the index is damaged, or cannot be read.
    """
    known = source.indexes.get(*container)
    if known is not None:
        return known
    place = index_place(layout, container, counts) if started is None else started.place
    blob = _fetch_index(source.store, container, place, started)
    if blob is None:
        return None
    encoded, size = blob.data, place.size
    if len(encoded) != size:
        raise DecodeError(f"the shard has {len(encoded)} bytes, fewer than the {size} of its index")
    try:
        table = decoder_for(layout.index_program, place.shape).decode(encoded)
    except StepError as error:
        kind = ChecksumError if error.checksum else DecodeError
        raise kind(str(error)) from error
    index = ShardIndex(np.array(table, np.uint64).reshape(-1, 2), blob.validator)
    source.indexes.put(*container, index)
    return index


def _fetch_index(
    store: Store, container: Container, place: IndexPlace, started: StartedIndex | None
) -> Blob | None:
    """The encoded index; shorter than it must be where the shard is."""
    offset, nbytes = place.offset, place.nbytes
    try:
        if started is not None:
            return started.pending.result(started.row)
        return store.read(container.key, offset, nbytes)
    except StoreError as error:
        if nbytes == WHOLE:
            raise
        there = store.size(container.key)
        if there is None or there >= offset + nbytes:
            raise
        raise DecodeError(
            f"the shard has {there} bytes, too few for an index of {place.size} at {offset}"
        ) from error
    except GpuzarrError:
        raise
    except MemoryError as error:
        raise MemoryLimitError(f"there is not enough memory: {error}") from error
    except OSError as error:
        raise storage_failed(error) from error
    except BaseException as error:
        note_key(error, container.key)
        raise
