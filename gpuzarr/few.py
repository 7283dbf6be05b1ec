"""Reads of a few chunks, hops 5 to 9 with plain numbers.

Columns are made for many chunks; for a few, making them takes longer than reading. So what most
small reads are, slices and integers of a regular chunk grid, is planned here chunk by chunk, for
engines that decode chunks in the caller's thread. There are no failures here: where anything is
not as it should be, `read_few` says no, and the read with columns does all of it again, and tells
what is wrong.
"""

from __future__ import annotations

import logging
from itertools import product
from operator import floordiv
from typing import TYPE_CHECKING

from gpuzarr.engines.engine import DecodesFew, FewChunk, FewRequest
from gpuzarr.errors import DecodeError, GpuzarrError
from gpuzarr.locate import Container, read_index
from gpuzarr.plan.grid import RegularAxis
from gpuzarr.plan.keys import chunk_key
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.plan.selection import Span
from gpuzarr.plan.shard_index import EMPTY
from gpuzarr.stores.store import Store

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from gpuzarr.engines.engine import FewReader, Output
    from gpuzarr.plan.selection import Selection
    from gpuzarr.source import ArraySource

logs = tuple(logging.getLogger(f"gpuzarr.{name}") for name in ("array", "store", "engine"))

MOST_CHUNKS = 128
"""Chunks from which on columns are faster."""

MOST_NBYTES = 2**63 - 1
"""No offset and no size in a shard index can be larger."""

_EMPTY = int(EMPTY)

Piece = tuple[int, slice, slice]
"""Along one axis: a chunk, what is taken of it, and where that goes."""
Place = tuple[slice, ...]
Places = tuple[Place, Place]
"""What is taken of a chunk, and where it goes."""


def read_few(source: ArraySource, selection: Selection, output: Output) -> bool:
    """Read a selection of few chunks; says whether it did, else nothing of it counts.

    Args:
        source: the array.
        selection: what to read.
        output: where to write.
    """
    derived = source.derived
    if "few" not in derived:
        derived["few"] = FewChunks.of(source)
    few: FewChunks | None = derived["few"]
    if few is None or selection.field is not None:
        return False
    axes = few.cut(selection)
    if axes is None or any(log.isEnabledFor(logging.INFO) for log in logs):
        return False
    try:
        requests, missing = few.plan(source, axes)
    except GpuzarrError:
        return False
    return few.reader.read(source.store, requests, missing, output)


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
        if self._layout is not None:
            shard = [axis.size for axis in source.objects if isinstance(axis, RegularAxis)]
            self._per_shard = tuple(
                outer // inner for outer, inner in zip(shard, sizes, strict=True)
            )
            self._counts = tuple(self._per_shard[axis] for axis in self._layout.axes)

    @classmethod
    def of(cls, source: ArraySource) -> FewChunks | None:
        """For an array and an engine that this is made for; else None."""
        engine, codecs = source.engine, source.codecs
        nested = codecs.shard is not None and codecs.shard.inner is not None
        if not isinstance(engine, DecodesFew) or nested or codecs.object_steps:
            return None
        if getattr(type(source.store), "start_reads", None) is not Store.start_reads:
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

    def cut(self, selection: Selection) -> list[list[Piece]] | None:
        """The pieces along each axis; None for what is not made for this."""
        axes: list[list[Piece]] = []
        count = 1
        for axis, size in zip(selection.axes, self._sizes, strict=False):
            if not isinstance(axis, Span) or axis.step != 1 or not axis.count:
                return None
            start, stop = axis.start, axis.start + axis.count
            first, last = start // size, -(-stop // size)
            count *= last - first
            if count > MOST_CHUNKS:
                break
            pieces: list[Piece] = []
            for chunk in range(first, last):
                begin = chunk * size
                low, high = max(start, begin), min(stop, begin + size)
                pieces.append(
                    (chunk, slice(low - begin, high - begin), slice(low - start, high - start))
                )
            axes.append(pieces)
        return axes if count <= MOST_CHUNKS else None

    def plan(
        self, source: ArraySource, axes: Sequence[Sequence[Piece]]
    ) -> tuple[list[FewRequest], list[Place]]:
        """Requests, and where the places of chunks are that are known not to be stored.

        Raises:
            GpuzarrError: a shard's index is damaged, or cannot be read.
        """
        encoding, path = source.metadata.chunk_key_encoding, source.path
        requests: list[FewRequest] = []
        missing: list[Place] = []
        if self._layout is None:
            for pieces in product(*axes):
                coords, take, put = zip(*pieces, strict=True) if pieces else ((), (), ())
                key = chunk_key(coords, encoding, path)
                chunk = FewChunk(0, WHOLE, take, put)
                requests.append(FewRequest(key, 0, WHOLE, None, [chunk]))
            return requests, missing
        shards: dict[tuple[int, ...], tuple[list[int], list[Places]]] = {}
        for pieces in product(*axes):
            coords, take, put = zip(*pieces, strict=True) if pieces else ((), (), ())
            shard = tuple(map(floordiv, coords, self._per_shard))
            row = 0
            for axis, count in zip(self._layout.axes, self._counts, strict=True):
                row = row * count + coords[axis] % count
            rows, places = shards.setdefault(shard, ([], []))
            rows.append(row)
            places.append((take, put))
        for shard, (rows, places) in shards.items():
            key = chunk_key(shard, encoding, path)
            index = read_index(source, self._layout, Container(key, 0, WHOLE), self._counts)
            if index is None:
                missing += [put for _, put in places]
                continue
            entries = index.entries[rows].tolist()
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
        begin = reach = span = 0

        def close() -> None:
            if chunks:
                requests.append(FewRequest(key, begin, reach - begin, validator, chunks))

        for number in sorted(range(len(entries)), key=entries.__getitem__):
            offset, nbytes = entries[number]
            take, put = places[number]
            if offset > MOST_NBYTES or nbytes > MOST_NBYTES - offset:
                if offset != _EMPTY or nbytes != _EMPTY:
                    raise DecodeError("the shard index says what cannot be")
                missing.append(put)
                continue
            if not chunks or offset > reach + self._gap or offset // self._request_nbytes != span:
                close()
                chunks, begin, reach = [], offset, offset
            span = offset // self._request_nbytes
            chunks.append(FewChunk(offset - begin, nbytes, take, put))
            reach = max(reach, offset + nbytes)
        close()
        return missing
