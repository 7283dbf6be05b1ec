"""What a loader does in an epoch, found from the plans of its first batches: nothing is read."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gpuzarr.plan.chunk_table import plan_chunks
from gpuzarr.plan.joint import JointPlan, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.loader.epoch import Epoch
    from gpuzarr.pending import Request

NOTED_WASTE = 2.0
"""Bytes decoded for each that is needed from which on a reason is given."""


@dataclass(frozen=True, slots=True)
class LoaderExplanation:
    """What a loader does; it prints."""

    windows: int
    """Windows of the epoch, on this rank."""
    batches: int
    """Batches of the epoch, on this rank."""
    batch_nbytes: int
    """Bytes of a full batch."""
    planned: int
    """Batches that the following numbers are of."""
    needed_nbytes: int
    """Bytes of stored elements that their windows need."""
    chunks: int
    """Chunks that they decode, where every batch decodes each of its chunks once and finds in the
    cache what is there."""
    decoded_nbytes: int
    """Bytes of these chunks."""
    cached_chunks: int
    """Chunks that they find in the cache."""
    separate_nbytes: int
    """Bytes that would be decoded if every window were read alone."""
    held_nbytes: int
    """Memory beyond the consumer's batch: batches that are read ahead, and the cache."""
    notes: tuple[str, ...]

    @property
    def decode_waste(self) -> float:
        """Bytes decoded for each that the windows need; below 1.0 where windows overlap."""
        return self.decoded_nbytes / self.needed_nbytes if self.needed_nbytes else 1.0

    def to_dict(self) -> dict[str, Any]:
        """The same, for machines."""
        return {**asdict(self), "decode_waste": self.decode_waste}

    def __str__(self) -> str:
        alone = self.separate_nbytes / self.needed_nbytes if self.needed_nbytes else 1.0
        size = f"{self.batches:,} batches of {self.batch_nbytes:,} bytes"
        lines = [
            f"windows   {self.windows:,} in {size}",
            f"planned   {self.planned:,} batches",
            f"chunks    {self.chunks:,} decoded, {self.cached_chunks:,} from the cache",
            f"decode    {self.decoded_nbytes:,} bytes, {self.decode_waste:.2f} for each needed",
            f"          {alone:.2f} for each needed if windows were read one by one",
            f"memory    {self.held_nbytes:,} bytes beyond the consumer's batch",
        ]
        return "\n".join([*lines, *(f"note      {note}" for note in self.notes)])

    __repr__ = __str__


def explain_loader(  # noqa: PLR0913  what a loader is made of
    epoch: Epoch,
    requests_of: Callable[[Sequence[Any]], list[Request]],
    *,
    batches: int,
    cache_nbytes: int,
    prefetch: int,
    batch_nbytes: int,
) -> LoaderExplanation:
    """Plan some batches.

    Args:
        epoch: whose.
        requests_of: the requests of windows.
        batches: how many, at most.
        cache_nbytes: of the decoded chunks that are kept.
        prefetch: batches that are read ahead.
        batch_nbytes: bytes of a full batch.
    """
    rules = epoch.rules
    planned = min(batches, rules.nbatches)
    cache = _Cache(cache_nbytes)
    needed = nchunks = decoded = hits = separate = 0
    for number in range(planned):
        requests = requests_of(epoch.windows(*epoch.batch(number)))
        for request in requests:
            item = request.source.codecs.program.layout.dtype.itemsize
            needed += request.selection.size * item
            plan = plan_chunks(request.selection, request.source.chunks, item)
            separate += sum(int(chunks.decoded_nbytes.sum()) for chunks, _ in plan.blocks())
        for chunk, nbytes in _chunk_sizes(requests).items():
            if cache.has(chunk, nbytes):
                hits += 1
            else:
                nchunks += 1
                decoded += nbytes
    report = LoaderExplanation(
        windows=rules.length,
        batches=rules.nbatches,
        batch_nbytes=batch_nbytes,
        planned=planned,
        needed_nbytes=needed,
        chunks=nchunks,
        decoded_nbytes=decoded,
        cached_chunks=hits,
        separate_nbytes=separate,
        held_nbytes=prefetch * batch_nbytes + cache_nbytes,
        notes=(),
    )
    if report.decode_waste < NOTED_WASTE:
        return report
    advice = []
    if rules.shuffle and rules.locality is None:
        advice.append("locality= keeps windows together that share chunks")
    if not cache_nbytes:
        advice.append("cache_nbytes= keeps decoded chunks between batches")
    elif rules.locality is not None and rules.locality > 1:
        advice.append("a larger cache_nbytes=, or a smaller locality=, keeps all mixed groups")
    advice.append("chunks nearer to the windows' size waste less")
    waste = f"{report.decode_waste:.1f} bytes are decoded for each that is needed: "
    return replace(report, notes=(waste + "; ".join(advice),))


class _Cache:
    """Chunks of so many bytes at most; what was used longest ago goes first."""

    def __init__(self, limit_nbytes: int) -> None:
        self._limit = limit_nbytes
        self._nbytes = 0
        self._chunks: OrderedDict[object, int] = OrderedDict()

    def has(self, chunk: object, nbytes: int) -> bool:
        """Whether a chunk is there already; it is afterwards, where it fits."""
        if chunk in self._chunks:
            self._chunks.move_to_end(chunk)
            return True
        if nbytes <= self._limit:
            self._chunks[chunk] = nbytes
            self._nbytes += nbytes
        while self._nbytes > self._limit:
            self._nbytes -= self._chunks.popitem(last=False)[1]
        return False


def _chunk_sizes(requests: Sequence[Request]) -> dict[object, int]:
    """Decoded bytes of the chunks that requests need, each once."""
    by_source: dict[int, list[Request]] = {}
    for request in requests:
        by_source.setdefault(id(request.source), []).append(request)
    sizes: dict[object, int] = {}
    for key, some in by_source.items():
        source = some[0].source
        wanted = [Wanted(0, request.selection, 0, place) for place, request in enumerate(some)]
        item = source.codecs.program.layout.dtype.itemsize
        for chunks, _ in JointPlan(wanted, [source.chunks], 1, item).blocks():
            for coords, nbytes in zip(
                map(tuple, chunks.coords.tolist()), chunks.decoded_nbytes.tolist(), strict=True
            ):
                sizes[key, coords] = nbytes
    return sizes
