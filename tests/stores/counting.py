"""A store that stands for one on the network: it counts requests, and the rounds they come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr.errors import StoreError
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.store import WHOLE, Blob, Pending, Store, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuzarr.stores.store import Buffer

    Request = tuple[str, int, int]
    Requests = list[Request]


class CountingStore(Store):
    """Objects in memory, read as if they were far away.

    One `read`, `size` or `list`, or all reads that were started together, are a round.
    """

    name = "far://away"

    def __init__(self, objects: dict[str, bytes], *, tells_sizes: bool = True) -> None:
        self.objects = objects
        self.tells_sizes = tells_sizes
        self.versions: dict[str, int] = {}
        self.requests: list[Request] = []
        self.others: list[tuple[str, str]] = []
        self.rounds = 0
        self.fail: BaseException | None = None
        self.gap_nbytes: int | None = None

    def __repr__(self) -> str:
        return "CountingStore()"

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        self.rounds += 1
        return self._answer(key, offset, nbytes, allocate)

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        self.rounds += bool(keys)
        return _InFlight(self, list(zip(keys, offsets, nbytes, strict=True)))

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        self.rounds += 1
        self.others.append(("list", prefix))
        return MappingStore(self.objects).list(prefix)

    def size(self, key: str) -> int | None:
        self.rounds += 1
        self.others.append(("size", key))
        return MappingStore(self.objects).size(key)

    def take(self) -> tuple[Requests, int]:
        """The requests for ranges since the last call, and the rounds of all requests."""
        taken = (self.requests, self.rounds)
        self.requests, self.rounds = [], 0
        self.others.clear()
        return taken

    def put(self, key: str, value: bytes) -> None:
        """Store another version of an object."""
        self.objects[key] = value
        self.versions[key] = self.versions.get(key, 0) + 1

    def _answer(
        self, key: str, offset: int, nbytes: int, allocate: Callable[[int], Buffer]
    ) -> Blob | None:
        self.requests.append((key, int(offset), int(nbytes)))
        if self.fail is not None:
            raise self.fail
        try:
            blob = MappingStore(self.objects).read(key, offset, nbytes)
        except StoreError as error:
            raise error.at(store=self.name) from None
        if blob is None:
            return None
        memory = place(allocate, len(blob.data), key)
        memory[:] = blob.data
        size = len(self.objects[key]) if self.tells_sizes else None
        return Blob(memory, f"v{self.versions.get(key, 0)}", size)


class _InFlight:
    """Requests that are on their way."""

    def __init__(self, store: CountingStore, wanted: list[Request]) -> None:
        self._store = store
        self._wanted = wanted
        self._counted = [False] * len(wanted)

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        assert not self._counted[row], "each row is asked for once"
        self._counted[row] = True
        key, offset, nbytes = self._wanted[row]
        return self._store._answer(key, offset, nbytes, allocate)  # noqa: SLF001
