"""Several stores as one, each below a folder named by its number: for reads of many arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr.stores.store import (
    WHOLE,
    Blob,
    Pending,
    Store,
    give_up_when,
    start_looks,
    url_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gpuzarr.stores.store import Buffer


def mounted_key(number: int, key: str) -> str:
    """The key of an object of store `number`.

    >>> mounted_key(2, "a/c/0")
    '2/a/c/0'
    """
    return f"{number}/{key}"


def original_key(key: str) -> tuple[int, str]:
    """The store's number, and the object's key in it.

    >>> original_key("2/a/c/0")
    (2, 'a/c/0')
    """
    number, _, key = key.partition("/")
    return int(number), key


class MountedStores(Store):
    """See the module's text."""

    def __init__(self, stores: Sequence[Store]) -> None:
        """Join stores, in the order of their numbers."""
        self._stores = stores
        self.name = f"{len(stores)} stores"

    def __repr__(self) -> str:
        return f"MountedStores({list(self._stores)!r})"

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """As the store that has the key does."""
        number, key = original_key(key)
        return self._stores[number].read(key, offset, nbytes, allocate)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The stores themselves, or what is in one of them."""
        if not prefix:
            return ((str(number), True) for number in range(len(self._stores)))
        number, key = original_key(prefix)
        return self._stores[number].list(key)

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        """Start the reads of each store together."""
        originals, rows_of, places = _split(keys)
        started = {
            number: self._stores[number].start_reads(
                [originals[row] for row in rows],
                [offsets[row] for row in rows],
                [nbytes[row] for row in rows],
            )
            for number, rows in rows_of.items()
        }
        return _Started(started, places)

    def start_looks(self, keys: Sequence[str]) -> Pending:
        """Ask each store together; see `gpuzarr.stores.store.url_of`."""
        originals, rows_of, places = _split(keys)
        started = {
            number: start_looks(self._stores[number], [originals[row] for row in rows])
            for number, rows in rows_of.items()
        }
        return _Started(started, places)

    def size(self, key: str) -> int | None:
        """As the store that has the key says."""
        number, key = original_key(key)
        return self._stores[number].size(key)

    def path_of(self, key: str) -> Path | None:
        """As the store that has the key says."""
        number, key = original_key(key)
        return self._stores[number].path_of(key)

    def url_of(self, key: str) -> str | None:
        """As the store that has the key says."""
        number, key = original_key(key)
        return url_of(self._stores[number], key)


def _split(keys: Sequence[str]) -> tuple[list[str], dict[int, list[int]], list[tuple[int, int]]]:
    """Keys in their own stores, the rows of each store, and each row's place among those."""
    rows_of: dict[int, list[int]] = {}
    places: list[tuple[int, int]] = []
    originals: list[str] = []
    for row, key in enumerate(keys):
        number, original = original_key(key)
        rows = rows_of.setdefault(number, [])
        places.append((number, len(rows)))
        rows.append(row)
        originals.append(original)
    return originals, rows_of, places


class _Started:
    """Reads of several stores."""

    __slots__ = ("_places", "_started")

    def __init__(self, started: dict[int, Pending], places: Sequence[tuple[int, int]]) -> None:
        self._started = started
        self._places = places

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """Hand it on; see `gpuzarr.stores.store.give_up_when`."""
        for pending in self._started.values():
            give_up_when(pending, stopped)

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        number, row = self._places[row]
        return self._started[number].result(row, allocate)
