"""What a store's `read_row` brings."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from gpuzarr.engines.cpu.fetcher import EncodedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gpuzarr.stores.store import ReadRow, Wanted


def never() -> bool:
    return False


class ReadsRows(Protocol):
    """A store with that method."""

    @property
    def read_row(self) -> ReadRow: ...


def rows(
    store: ReadsRows, wanted: Iterable[Wanted], stopped: Callable[[], bool] = never
) -> list[bytes]:
    """Each range that was read, in memory that held something else before."""
    memory = EncodedMemory()
    memory.allocate(3)[:] = b"old"
    memory.clear()
    ends = store.read_row(wanted, memory, stopped)
    assert memory.used == (ends[-1] if ends else 0)
    data = bytes(memory.all())
    return [data[begin:end] for begin, end in pairwise([0, *ends])]
