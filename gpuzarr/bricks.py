"""Bricks: chunks that fill a box of the chunk grid, and what to read for them; see `gpuzarr.few`.

What chunks of a few kilobytes cost one by one, as objects and calls, is as much as decoding them.
What is taken of them, and where that goes, is therefore said along each axis, not of each.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from gpuzarr.engines.engine import Brick
from gpuzarr.errors import DecodeError
from gpuzarr.plan.keys import chunk_key, product_keys
from gpuzarr.plan.ranges import WHOLE
from gpuzarr.plan.shard_index import EMPTY
from gpuzarr.shard_indexes import Container, read_index

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from gpuzarr.engines.engine import BrickChunk, Pieces
    from gpuzarr.plan.batches import BatchLimits
    from gpuzarr.program import ShardLayout
    from gpuzarr.source import ArraySource
    from gpuzarr.stores.store import Wanted

MOST_NBYTES = 2**63 - 1
"""No offset and no size in a shard index can be larger."""

_EMPTY = int(EMPTY)

ShardPart = tuple[int, list[int], list[int]]
"""Along one axis: a shard, and what each of its chunks adds to the row of the index, and to the
number of the brick's chunk."""


class BrickPlanner:
    """Plans bricks of one array of regular chunks, in no shards or in one level of them."""

    def __init__(
        self, layout: ShardLayout | None, counts: Sequence[int], limits: BatchLimits
    ) -> None:
        """Prepare.

        Args:
            layout: of the shards; None: there are none.
            counts: chunks of a shard along each axis of the array.
            limits: what requests may hold.
        """
        self._layout = layout
        self._limits = limits
        if layout is not None:
            self._per_shard = tuple(counts)
            self._counts = tuple(counts[axis] for axis in layout.axes)
            self._weights = _weights(counts, layout.axes)

    def plan(self, source: ArraySource, axes: Sequence[Pieces]) -> Brick:
        """Plan a brick.

        Args:
            source: the array.
            axes: the chunks along each axis.

        Raises:
            GpuzarrError: a shard's index is damaged, or cannot be read.
        """
        encoding, path, layout = source.metadata.chunk_key_encoding, source.path, self._layout
        numbers = [chunks for chunks, _, _ in axes]
        if layout is None:
            keys = product_keys(numbers, encoding, path)
            return Brick([(key, 0, WHOLE, None) for key in keys], None, axes)
        requests: list[Wanted] = []
        chunks: list[BrickChunk] = []
        weights = _weights([len(some) for some in numbers], range(len(numbers)))
        for parts in product(*map(_by_shard, numbers, self._per_shard, self._weights, weights)):
            shard, rows, places = zip(*parts, strict=True) if parts else ((), (), ())
            key = chunk_key(shard, encoding, path)
            index = read_index(source, layout, Container(key, 0, WHOLE), self._counts)
            if index is None:
                continue
            offset, nbytes = index.entries[list(map(sum, product(*rows)))].T.tolist()
            found = sorted(zip(offset, nbytes, map(sum, product(*places)), strict=True))
            self._join(requests, chunks, (key, index.validator), found)
        return Brick(requests, chunks, axes)

    def _join(
        self,
        requests: list[Wanted],
        chunks: list[BrickChunk],
        shard: tuple[str, Hashable],
        found: list[tuple[int, int, int]],
    ) -> None:
        """Add requests for chunks of one shard, by the rules of `gpuzarr.plan.batches`.

        Args:
            requests: of shards before.
            chunks: that those bring.
            shard: its key and validator.
            found: offset, size and number of each chunk, ascending.

        Raises:
            DecodeError: an entry of the index cannot be true.
        """
        key, validator = shard
        gap, step = self._limits.gap_nbytes, self._limits.request_nbytes
        before = sum(request[2] for request in requests)
        first = reach = span_end = -1
        for offset, nbytes, number in found:
            end = offset + nbytes
            if end > MOST_NBYTES:
                if offset != _EMPTY or nbytes != _EMPTY:
                    raise DecodeError("the shard index says what cannot be")
                break  # none behind it is stored
            if offset > reach + gap or offset >= span_end:
                if first >= 0:
                    requests.append((key, first, reach - first, validator))
                    before += reach - first
                first = reach = offset
                span_end = (offset // step + 1) * step
            chunks.append((number, before + offset - first, nbytes, len(requests)))
            reach = max(reach, end)
        if first >= 0:
            requests.append((key, first, reach - first, validator))


def _weights(counts: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """What a chunk along each axis adds to the number of a chunk; of `axes` the last is fastest."""
    weights = [0] * len(counts)
    weight = 1
    for axis in reversed(axes):
        weights[axis] = weight
        weight *= counts[axis]
    return tuple(weights)


def _by_shard(chunks: range, per_shard: int, weight: int, place: int) -> list[ShardPart]:
    """The chunks along an axis, shard by shard."""
    begin, end = chunks.start, chunks.stop
    if end - begin == 1:
        shard, row = divmod(begin, per_shard)
        return [(shard, [row * weight], [0])]
    found: list[ShardPart] = []
    for shard in range(begin // per_shard, -(-end // per_shard)):
        first = shard * per_shard
        low, high = max(begin, first), min(end, first + per_shard)
        rows = list(range((low - first) * weight, (high - first) * weight, weight))
        found.append(
            (shard, rows, list(range((low - begin) * place, (high - begin) * place, place)))
        )
    return found
