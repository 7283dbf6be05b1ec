"""What `gpuzarr verify` found about a node: the first few of everything, and how many there are."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gpuzarr.cli.screen import error_document
from gpuzarr.errors import ChunkError, ChunkFailure, GpuzarrError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.cli.verify_keys import Stray

T = TypeVar("T")


class First(Generic[T]):
    """The first few of very many things, in an order of their own, and how many there are."""

    def __init__(self, most: int, order: Callable[[T], Any]) -> None:
        """Keep at most `most`, the least by `order`."""
        self._most = most
        self._order = order
        self._kept: list[T] = []
        self.count = 0

    def add(self, thing: T) -> None:
        """One more."""
        self.count += 1
        self._kept.append(thing)
        if len(self._kept) > 2 * self._most + 1000:
            self._kept = self.named

    @property
    def named(self) -> list[T]:
        """The first ones, in order."""
        return heapq.nsmallest(self._most, self._kept, key=self._order)


@dataclass(slots=True)
class Verdict:
    """What was found about one node."""

    path: str
    kind: str
    """"array" or "group", or "node" where that could not be told."""
    failures: First[ChunkFailure]
    """Chunks that did not become data."""
    notes: First[Stray]
    """Keys that belong to nothing, and such that should be there."""
    nchunks: int = 0
    nbytes: int = 0
    """Bytes of the decoded array."""
    stored: int = 0
    """Chunks that are stored; with `missing`, as far as the array was looked at."""
    missing: int = 0
    """Chunks that are not stored, which is no problem."""
    shared: int = 0
    """Chunks whose bytes are another's, too, by the indexes of their shards."""
    unused_nbytes: int = 0
    """Bytes in shards that belong to no chunk."""
    listed: bool = True
    """Whether the store could list what is there."""
    complete: bool = False
    """Whether all of the node was looked at."""
    errors: list[GpuzarrError] = field(default_factory=list)
    """What kept the node, or a part of it, from being read at all."""

    @classmethod
    def of(cls, path: str, kind: str, most: int) -> Verdict:
        """Nothing found yet; at most so many things will be named."""
        failures: First[ChunkFailure] = First(most, lambda failure: (failure.coords, failure.step))
        return cls(path, kind, failures, First(most, lambda stray: stray))

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.failures.count and not self.errors

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        failures = tuple(self.failures.named)
        return {
            "path": self.path,
            "kind": self.kind,
            "ok": self.ok,
            "complete": self.complete,
            "listed": self.listed,
            "nchunks": self.nchunks,
            "nbytes": self.nbytes,
            "stored": self.stored,
            "missing": self.missing,
            "bad_chunks": self.failures.count,
            "failures": error_document(ChunkError("", failures=failures))["failures"],
            "stray_keys": self.notes.count,
            "notes": [stray._asdict() for stray in self.notes.named],
            "shared_chunks": self.shared,
            "unused_nbytes": self.unused_nbytes,
            "errors": [error_document(error) for error in self.errors],
        }
