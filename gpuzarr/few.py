"""Reads of a few chunks, hops 5 to 9 with plain numbers.

Columns are made for many chunks; for a few, making them takes longer than reading. So what most
small reads are, slices and integers of a regular chunk grid, is planned here chunk by chunk, for
engines that can decode chunks in the caller's thread. There are no failures here: where anything is
not as it should be, `read_few` gives nothing, and the read with columns does all of it again, and
tells what is wrong.
"""

from __future__ import annotations

import logging
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from gpuzarr.engines.engine import DecodesFew, FewChunk, FewRequest
from gpuzarr.errors import DecodeError, GpuzarrError
from gpuzarr.plan.grid import RegularAxis
from gpuzarr.plan.keys import chunk_key, product_keys
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.plan.selection import Span
from gpuzarr.plan.shard_index import EMPTY
from gpuzarr.shard_indexes import Container, read_index
from gpuzarr.stores.store import reads_when_asked

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from gpuzarr.engines.engine import FewReader, Landing, Output, PlacesReport
    from gpuzarr.plan.selection import Selection
    from gpuzarr.program import ShardLayout
    from gpuzarr.source import ArraySource

logs = tuple(logging.getLogger(f"gpuzarr.{name}") for name in ("array", "store", "engine"))

MOST_CHUNKS = 128
"""Chunks from which on columns are faster."""

LONG_COUNT = 8
"""Chunks along an axis from which on its pieces are remembered: the next line takes the same."""
MOST_REMEMBERED = 64

MOST_NBYTES = 2**63 - 1
"""No offset and no size in a shard index can be larger."""

_EMPTY = int(EMPTY)

_new = tuple.__new__
"""Makes a named tuple in half of the time of its own constructor, which is Python code."""

Pieces = tuple[range, list[slice], list[slice]]
"""Along one axis: chunks, what is taken of each, and where that goes."""
ShardPieces = tuple[int, list[int], list[slice], list[slice]]
"""The same of one shard: its number, and for each chunk what it adds to the row of the index."""
Place = tuple[slice, ...]
Places = tuple[Place, Place]
"""What is taken of a chunk, and where it goes."""


def read_few(
    source: ArraySource, selection: Selection, output: Output, stream: Any = None
) -> Landing | None:
    """Read a selection of few chunks.

    Args:
        source: the array.
        selection: what to read.
        output: where to write.
        stream: what the work is ordered on, on a device that has streams.

    Returns:
        What is to be waited for; None if it was not read, then nothing that was written counts.
    """
    few = _few_chunks(source, selection)
    axes = None if few is None else few.cut(selection)
    if few is None or axes is None or any(log.isEnabledFor(logging.INFO) for log in logs):
        return None
    if not few.reader.takes(_count(axes), output.array.nbytes):
        return None
    try:
        requests, missing = few.plan(source, axes)
    except GpuzarrError:
        return None
    return few.reader.read(source.store, requests, missing, output, stream)


def places_of_few(source: ArraySource, selection: Selection) -> PlacesReport | None:
    """Where an engine would decode a selection that is read in this way; None: there is no choice.

    Args:
        source: the array.
        selection: what would be read, as it is stored.
    """
    few = _few_chunks(source, selection)
    axes = None if few is None else few.cut(selection)
    if few is None or axes is None:
        return None
    nbytes = selection.size * source.metadata.data_type.dtype.itemsize
    return few.reader.places(_count(axes), nbytes)


def _few_chunks(source: ArraySource, selection: Selection) -> FewChunks | None:
    """What the array's reads of this kind need; None: this is not the way to read it."""
    derived = source.derived
    if "few" not in derived:
        derived["few"] = FewChunks.of(source)
    few: FewChunks | None = derived["few"]
    return None if selection.field is not None else few


def _count(axes: Sequence[Pieces]) -> int:
    """Chunks of a selection that was cut."""
    return prod(len(chunks) for chunks, _, _ in axes)


class FewChunks:
    """What such reads of one array need, derived once."""

    def __init__(self, source: ArraySource, reader: FewReader, sizes: tuple[int, ...]) -> None:
        """Prepare.

        Args:
            source: an array that `of` found to be fit.
            reader: the engine's.
            sizes: the shape of its chunks.
        """
        self.reader = reader  # and not the source, which holds this
        self._sizes = sizes
        limits = source.engine.limits_for(source.codecs.program)
        self._gap = limits.gap_nbytes
        self._request_nbytes = limits.request_nbytes
        self._layout = source.codecs.shard
        # What was cut of long axes; single dict operations are atomic.
        self._cuts: dict[tuple[int, int, int], Pieces] = {}
        if self._layout is not None:
            shard = [axis.size for axis in source.objects if isinstance(axis, RegularAxis)]
            self._per_shard = tuple(
                outer // inner for outer, inner in zip(shard, sizes, strict=True)
            )
            self._counts = tuple(self._per_shard[axis] for axis in self._layout.axes)
            weights = [0] * len(sizes)
            weight = 1
            for axis in reversed(self._layout.axes):
                weights[axis] = weight
                weight *= self._per_shard[axis]
            self._weights = tuple(weights)

    @classmethod
    def of(cls, source: ArraySource) -> FewChunks | None:
        """For an array and an engine that this is made for; else None."""
        engine, codecs = source.engine, source.codecs
        nested = codecs.shard is not None and codecs.shard.inner is not None
        if not isinstance(engine, DecodesFew) or nested or codecs.object_steps:
            return None
        if not reads_when_asked(source.store):
            return None  # a store with latency wants all its reads at once
        sizes = tuple(axis.size for axis in source.chunks if isinstance(axis, RegularAxis))
        regular = all(isinstance(axis, RegularAxis) for axis in source.objects)
        if not regular or len(sizes) != len(source.chunks):
            return None
        try:
            reader = engine.few(codecs.program, sizes)
        except GpuzarrError:
            return None
        return None if reader is None else cls(source, reader, sizes)

    def cut(self, selection: Selection) -> list[Pieces] | None:
        """The pieces along each axis; None for what is not made for this."""
        axes: list[Pieces] = []
        count = 1
        for axis, size in zip(selection.axes, self._sizes, strict=False):
            if not isinstance(axis, Span) or axis.step != 1 or not axis.count:
                return None
            start, stop = axis.start, axis.start + axis.count
            long = -(-stop // size) - start // size
            count *= long
            if count > MOST_CHUNKS:
                return None
            if long < LONG_COUNT:
                axes.append(_cut(start, stop, size))
                continue
            pieces = self._cuts.get((start, stop, size))
            if pieces is None:
                if len(self._cuts) >= MOST_REMEMBERED:
                    self._cuts = {}
                pieces = self._cuts[start, stop, size] = _cut(start, stop, size)
            axes.append(pieces)
        return axes

    def plan(
        self, source: ArraySource, axes: Sequence[Pieces]
    ) -> tuple[list[FewRequest], list[Place]]:
        """Requests, and where the places of chunks are that are known not to be stored.

        Raises:
            GpuzarrError: a shard's index is damaged, or cannot be read.
        """
        if self._layout is not None:
            return self._plan_shards(source, self._layout, axes)
        chunks, take, put = zip(*axes, strict=True) if axes else ((), (), ())
        keys = product_keys(chunks, source.metadata.chunk_key_encoding, source.path)
        requests = [
            _new(FewRequest, (key, 0, WHOLE, None, [_new(FewChunk, (0, WHOLE, taken, at))]))
            for key, taken, at in zip(keys, product(*take), product(*put), strict=True)
        ]
        return requests, []

    def _plan_shards(
        self, source: ArraySource, layout: ShardLayout, axes: Sequence[Pieces]
    ) -> tuple[list[FewRequest], list[Place]]:
        """As `plan`, for an array of shards."""
        encoding, path = source.metadata.chunk_key_encoding, source.path
        requests: list[FewRequest] = []
        missing: list[Place] = []
        shards = map(_by_shard, axes, self._per_shard, self._weights)
        for parts in product(*shards):
            shard, rows, take, put = zip(*parts, strict=True) if parts else ((), (), (), ())
            key = chunk_key(shard, encoding, path)
            index = read_index(source, layout, Container(key, 0, WHOLE), self._counts)
            if index is None:
                missing += product(*put)
                continue
            entries = index.entries[list(map(sum, product(*rows)))].tolist()
            places = list(zip(product(*take), product(*put), strict=True))
            missing += self._join(requests, key, index.validator, entries, places)
        return requests, missing

    def _join(
        self,
        requests: list[FewRequest],
        key: str,
        validator: Hashable,
        entries: list[list[int]],
        places: list[Places],
    ) -> list[Place]:
        """Add requests for chunks of one shard; gives the places of those that are not stored."""
        missing: list[Place] = []
        chunks: list[FewChunk] = []
        begin = reach = span_end = 0

        def close() -> None:
            if chunks:
                requests.append(FewRequest(key, begin, reach - begin, validator, chunks))

        ordered = sorted((*entry, number) for number, entry in enumerate(entries))
        for offset, nbytes, number in ordered:
            take, put = places[number]
            end = offset + nbytes
            if end > MOST_NBYTES:
                if offset != _EMPTY or nbytes != _EMPTY:
                    raise DecodeError("the shard index says what cannot be")
                missing.append(put)
                continue
            if not chunks or offset > reach + self._gap or offset >= span_end:
                close()
                chunks, begin, reach = [], offset, offset
                span_end = (offset // self._request_nbytes + 1) * self._request_nbytes
            chunks.append(_new(FewChunk, (offset - begin, nbytes, take, put)))
            reach = max(reach, end)
        close()
        return missing


def _cut(start: int, stop: int, size: int) -> Pieces:
    """The pieces along an axis of chunks of `size` elements."""
    first, last = start // size, -(-stop // size)
    take: list[slice] = []
    put: list[slice] = []
    for begin in range(first * size, last * size, size):
        low, high = max(start, begin), min(stop, begin + size)
        take.append(slice(low - begin, high - begin))
        put.append(slice(low - start, high - start))
    return range(first, last), take, put


def _by_shard(pieces: Pieces, per_shard: int, weight: int) -> list[ShardPieces]:
    """The pieces along an axis, shard by shard.

    Args:
        pieces: all.
        per_shard: chunks of a shard along the axis.
        weight: rows of a shard's index from one of them to the next.
    """
    chunks, take, put = pieces
    begin, end = chunks.start, chunks.stop
    if end - begin == 1:
        shard, row = divmod(begin, per_shard)
        return [(shard, [row * weight], take, put)]
    found: list[ShardPieces] = []
    for shard in range(begin // per_shard, -(-end // per_shard)):
        first = shard * per_shard
        low, high = max(begin, first), min(end, first + per_shard)
        rows = [(chunk - first) * weight for chunk in range(low, high)]
        part = slice(low - begin, high - begin)
        found.append((shard, rows, take[part], put[part]))
    return found
