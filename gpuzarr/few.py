"""Reads of a few chunks, hops 5 to 9 with plain numbers.

Columns are made for many chunks; for a few, making them takes longer than reading. So what most
small reads are, slices and integers of a regular chunk grid, is planned here chunk by chunk, for
engines that can decode chunks in the caller's thread. There are no failures here: where anything is
not as it should be, `read_few` gives nothing, and the read with columns does all of it again, and
tells what is wrong.
"""

from __future__ import annotations

import logging
from itertools import accumulate, product
from math import prod
from typing import TYPE_CHECKING, Any, cast

from gpuzarr.bricks import BrickPlanner
from gpuzarr.engines.engine import FewChunk, FewRequest
from gpuzarr.errors import GpuzarrError
from gpuzarr.plan.grid import RegularAxis
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.plan.selection import Span
from gpuzarr.stores.store import reads_when_asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.engines.engine import (
        DecodesFew,
        FewReader,
        Landing,
        Output,
        Pieces,
        PlacesReport,
    )
    from gpuzarr.plan.selection import Selection
    from gpuzarr.source import ArraySource

array_log, store_log, engine_log = (
    logging.getLogger(f"gpuzarr.{name}") for name in ("array", "store", "engine")
)

MOST_CHUNKS = 128
"""Chunks from which on columns are faster."""

LONG_COUNT = 8
"""Chunks along an axis from which on its pieces are remembered: the next line takes the same."""
MOST_REMEMBERED = 64

_new = tuple.__new__
"""Makes a named tuple in half of the time of its own constructor, which is Python code."""

Place = tuple[slice, ...]
"""Where what is taken of a chunk goes."""


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
    if few is None or axes is None or _is_told():
        return None
    count = _count(axes)
    if not few.reader.takes(count, output.array.nbytes):
        return None
    try:
        if few.reader.takes_brick(source.store, count, output.array):
            brick = few.planner.plan(source, axes)
            return few.reader.read_brick(source.store, brick, output, stream)
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


def _is_told() -> bool:
    """Whether a log wants to know of reads, of which these say nothing."""
    info = logging.INFO
    return (
        array_log.isEnabledFor(info)
        or store_log.isEnabledFor(info)
        or engine_log.isEnabledFor(info)
    )


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
        # What was cut of long axes; single dict operations are atomic.
        self._cuts: dict[tuple[int, int, int], Pieces] = {}
        shards = [axis.size for axis in source.objects if isinstance(axis, RegularAxis)]
        per_shard = [outer // inner for outer, inner in zip(shards, sizes, strict=True)]
        limits = source.engine.limits_for(source.codecs.program)
        self.planner = BrickPlanner(source.codecs.shard, per_shard, limits)

    @classmethod
    def of(cls, source: ArraySource) -> FewChunks | None:
        """For an array and an engine that this is made for; else None."""
        engine, codecs = source.engine, source.codecs
        nested = codecs.shard is not None and codecs.shard.inner is not None
        decodes_few = hasattr(engine, "few")  # to ask for the protocol is slow
        if not decodes_few or nested or codecs.object_steps:
            return None
        if not reads_when_asked(source.store):
            return None  # a store with latency wants all its reads at once
        sizes = tuple(axis.size for axis in source.chunks if isinstance(axis, RegularAxis))
        regular = all(isinstance(axis, RegularAxis) for axis in source.objects)
        if not regular or len(sizes) != len(source.chunks):
            return None
        try:
            reader = cast("DecodesFew", engine).few(codecs.program, sizes)
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
        requests, chunks, _ = self.planner.plan(source, axes)
        _, take, put = zip(*axes, strict=True) if axes else ((), (), ())
        takes, puts = list(product(*take)), list(product(*put))
        if chunks is None:
            return [
                _new(FewRequest, (*wanted, [_new(FewChunk, (0, WHOLE, taken, at))]))
                for wanted, taken, at in zip(requests, takes, puts, strict=True)
            ], []
        begins = list(accumulate((nbytes for _, _, nbytes, _ in requests), initial=0))
        held: list[list[FewChunk]] = [[] for _ in requests]
        for number, start, nbytes, which in chunks:
            at = start - begins[which]
            held[which].append(_new(FewChunk, (at, nbytes, takes[number], puts[number])))
        missing: list[Place] = []
        if len(chunks) < len(puts):
            stored = {chunk[0] for chunk in chunks}
            missing = [at for number, at in enumerate(puts) if number not in stored]
        return [
            _new(FewRequest, (*wanted, some)) for wanted, some in zip(requests, held, strict=True)
        ], missing


def _cut(start: int, stop: int, size: int) -> Pieces:
    """The pieces along an axis of chunks of `size` elements."""
    first, last = start // size, -(-stop // size)
    if last - first == 1:
        begin = first * size
        return range(first, last), [slice(start - begin, stop - begin)], [slice(0, stop - start)]
    take: list[slice] = []
    put: list[slice] = []
    for begin in range(first * size, last * size, size):
        low, high = max(start, begin), min(stop, begin + size)
        take.append(slice(low - begin, high - begin))
        put.append(slice(low - start, high - start))
    return range(first, last), take, put
