"""Ranges that are kept in the memory of this process, least recently used ones dropped first."""

from __future__ import annotations

import os
import threading
from bisect import insort
from collections import OrderedDict
from typing import TYPE_CHECKING

from gpuzarr.stores.cached.ranges import (
    KeptRanges,
    Span,
    cut_out,
    find_cover,
    find_inside,
    known_size,
    span_of,
)
from gpuzarr.stores.store import Blob

if TYPE_CHECKING:
    from collections.abc import Hashable

OVERHEAD_NBYTES = 256
"""What a range counts beyond its bytes, so that very many tiny ones are bounded, too."""


class MemoryRanges(KeptRanges):
    """See the module's text. A forked child starts with nothing, and counts for itself."""

    def __init__(self, limit_nbytes: int) -> None:
        """Start empty; a range larger than `limit_nbytes` is not kept."""
        self.limit_nbytes = limit_nbytes
        self._state = _State()

    def __reduce__(self) -> tuple[object, ...]:
        return (MemoryRanges, (self.limit_nbytes,))

    def find(self, key: str, offset: int, nbytes: int) -> Blob | None:
        """Give a range, without a copy where it lies in one; see `KeptRanges`."""
        state = self._current()
        with state.lock:
            kept = state.objects.get(key)
            if kept is None:
                return None
            spans, wanted = kept.find(offset, nbytes)
            if not spans or wanted is None:
                return None
            views = []
            for span, part in zip(spans, cut_out(spans, wanted), strict=True):
                state.ranges.move_to_end((key, span))
                data = memoryview(state.ranges[key, span])
                views.append(data[part.start - span.start : part.stop - span.start])
        view = views[0] if len(views) == 1 else memoryview(b"".join(views))
        return Blob(view, kept.validator, kept.size)

    def holds(self, key: str, offset: int, nbytes: int) -> bool:
        """Whether the range is there, which says nothing about a moment later."""
        state = self._current()
        with state.lock:
            kept = state.objects.get(key)
            return kept is not None and bool(kept.find(offset, nbytes)[0])

    def keep(self, key: str, offset: int, nbytes: int, blob: Blob) -> None:
        """Keep a copy; see `KeptRanges`."""
        size = known_size(offset, nbytes, blob)
        span = span_of(offset, nbytes, size)
        if span is None or not blob.data or len(blob.data) + OVERHEAD_NBYTES > self.limit_nbytes:
            return
        if len(blob.data) != span.stop - span.start:  # the reader says what is wrong with it
            return
        data = bytes(blob.data)  # the memory is the caller's, who may use it again
        state = self._current()
        with state.lock:
            kept = state.objects.get(key)
            if kept is not None and not kept.is_of(blob.validator, size):
                state.drop_object(key)
                kept = None
            if kept is None:
                kept = state.objects[key] = _Object(blob.validator)
            kept.size = size if kept.size is None else kept.size
            if find_cover(kept.spans, span):
                return
            for smaller in [kept.spans[place] for place in find_inside(kept.spans, span)]:
                state.drop(key, smaller)
            state.objects[key] = kept  # it may have lost its last range
            insort(kept.spans, span)
            state.ranges[key, span] = data
            state.nbytes += len(data) + OVERHEAD_NBYTES
            while state.nbytes > self.limit_nbytes:
                state.drop(*next(iter(state.ranges)))

    def forget(self, key: str) -> None:
        """Drop all ranges of an object."""
        state = self._current()
        with state.lock:
            state.drop_object(key)

    def size(self, key: str) -> int | None:
        """Bytes of an object of which ranges are kept."""
        kept = self._current().objects.get(key)
        return None if kept is None else kept.size

    @property
    def nbytes(self) -> int:
        """Bytes that are used now."""
        return self._current().nbytes

    def _current(self) -> _State:
        # A forked child inherits the lock as some thread of the parent held it.
        state = self._state
        if state.process != os.getpid():
            state = self._state = _State()
        return state


class _Object:
    """What is known of an object of which ranges are kept."""

    __slots__ = ("size", "spans", "validator")

    def __init__(self, validator: Hashable) -> None:
        self.validator = validator
        self.size: int | None = None
        self.spans: list[Span] = []

    def is_of(self, validator: Hashable, size: int | None) -> bool:
        """Whether a range of this version belongs to the same object."""
        return self.validator == validator and (None in {size, self.size} or size == self.size)

    def find(self, offset: int, nbytes: int) -> tuple[list[Span], Span | None]:
        """The kept ranges that hold one that is asked for, and its own place."""
        wanted = span_of(offset, nbytes, self.size)
        cover = [] if wanted is None else find_cover(self.spans, wanted)
        return [self.spans[place] for place in cover], wanted


class _State:
    """What belongs together in one process; replaced as a whole, so it needs no outer lock."""

    __slots__ = ("lock", "nbytes", "objects", "process", "ranges")

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.objects: dict[str, _Object] = {}
        self.ranges: OrderedDict[tuple[str, Span], bytes] = OrderedDict()
        """The bytes, least recently used ones first."""
        self.nbytes = 0

    def drop(self, key: str, span: Span) -> None:
        """Forget a range; the lock is held."""
        self.nbytes -= len(self.ranges.pop((key, span))) + OVERHEAD_NBYTES
        kept = self.objects[key]
        kept.spans.remove(span)
        if not kept.spans:
            del self.objects[key]

    def drop_object(self, key: str) -> None:
        """Forget all ranges of an object; the lock is held."""
        kept = self.objects.get(key)
        for span in list(kept.spans) if kept is not None else ():
            self.drop(key, span)
