"""The requests that reads make of a store, remembered, and made once more without decoding."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from gpuzarr.stores.resolve import open_store
from gpuzarr.stores.store import WHOLE, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Self

    from gpuzarr.stores.store import Blob, Buffer


class RecordedStore(Store):
    """Another store, with a list of what was asked of it."""

    def __init__(self, store: Store) -> None:
        """Record what is asked of `store` from now on."""
        self.store = store
        self.name = store.name
        self.requests: list[tuple[str, int, int]] = []
        """Key, offset and number of bytes, in the order in which they were asked for."""

    @classmethod
    def of(cls, store: object, **options: Any) -> Self:
        """Open whatever a user calls a store, at its root; options as in `open_store`."""
        return cls(open_store(store, **options)[0])

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """As the store does."""
        self.requests.append((key, offset, nbytes))
        return self.store.read(key, offset, nbytes, allocate)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """As the store does."""
        return self.store.list(prefix)


def fetch_again(recorded: RecordedStore, threads: int) -> Callable[[], list[int]]:
    """A function that reads all that was recorded, and gives how many bytes each thread got."""
    store, requests = recorded.store, list(recorded.requests)

    def fetch(number: int) -> int:
        some = requests[number::threads]
        columns = list(zip(*some, strict=True)) if some else [(), (), ()]
        pending = store.start_reads(*columns)
        memory = bytearray()
        count = 0

        def allocate(nbytes: int) -> memoryview:
            nonlocal memory
            if len(memory) < nbytes:
                memory = bytearray(nbytes)
            return memoryview(memory)[:nbytes]

        for row in range(len(some)):
            blob = pending.result(row, allocate)
            count += 0 if blob is None else len(blob.data)
        return count

    def fetch_all() -> list[int]:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(fetch, range(threads)))

    return fetch_all
