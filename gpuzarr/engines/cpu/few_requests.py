"""Requests for few chunks: cut into parts for threads, and fetched one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr.engines.engine import FewRequest
from gpuzarr.engines.failures import note_key, shard_is_gone
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import ChunkError, GpuzarrError
from gpuzarr.plan.ranges import WHOLE

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from gpuzarr.engines.cpu.fetcher import EncodedMemory
    from gpuzarr.engines.engine import FewChunk
    from gpuzarr.stores.store import Store

PASSED_ON = (GpuzarrError, StepError, ValueError, MemoryError, OSError)
"""What is told by the read with columns."""


def split(requests: Sequence[FewRequest], count: int) -> list[list[FewRequest]]:
    """About `count` parts of nearly as many chunks each; requests are cut where they must be."""
    most = -(-sum(len(request.chunks) for request in requests) // count)
    parts: list[list[FewRequest]] = [[]]
    room = most
    for request in requests:
        key, offset, _, validator, chunks = request
        while len(chunks) > room:
            if room:
                parts[-1].append(_cut(key, offset, validator, chunks[:room]))
            chunks = chunks[room:]
            parts.append([])
            room = most
        whole = len(chunks) == len(request.chunks)
        parts[-1].append(request if whole else _cut(key, offset, validator, chunks))
        room -= len(chunks)
    return parts


def _cut(key: str, offset: int, validator: Hashable, chunks: Sequence[FewChunk]) -> FewRequest:
    """The request for some of the chunks of one that begins at `offset`."""
    begin = min(chunk.start for chunk in chunks)
    end = max(chunk.start + chunk.nbytes for chunk in chunks)
    moved = [chunk._replace(start=chunk.start - begin) for chunk in chunks]
    return FewRequest(key, offset + begin, end - begin, validator, moved)


def fetch(store: Store, request: FewRequest, memory: EncodedMemory) -> memoryview | None:
    """The bytes of a request; None: a whole object that is not stored.

    Raises:
        GpuzarrError: the storage failed, or a shard is another than its index was of, or gone.
    """
    key, offset, nbytes = request.key, request.offset, request.nbytes
    try:
        blob = store.read(key, offset, nbytes, memory.allocate)
    except PASSED_ON:
        raise
    except BaseException as error:
        note_key(error, key)
        raise
    if blob is None:
        if nbytes == WHOLE:
            return None
        raise shard_is_gone()
    if nbytes != WHOLE and len(blob.data) != nbytes:
        raise ChunkError("these are not as many bytes as were asked for")
    if request.validator is not None and blob.validator != request.validator:
        raise ChunkError("the shard was replaced")
    return blob.data


def part_of(data: memoryview, chunk: FewChunk) -> memoryview:
    """The bytes of a chunk among those of its request."""
    return data if chunk.nbytes == WHOLE else data[chunk.start : chunk.start + chunk.nbytes]
