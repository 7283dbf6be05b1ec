"""What stores of other packages share that give bytes and no more: no size, no validator.

They answer a range that is not inside the object with fewer bytes, or none. So what came is
counted, and the size asked for only where the count is wrong.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from gpuzarr.errors import GpuzarrError, StoreError, UnsupportedError
from gpuzarr.stores.remote.in_flight import GAP_NBYTES, InFlight
from gpuzarr.stores.store import WHOLE, Blob, Store, check_key, find_range

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator, Sequence

    from gpuzarr.stores.store import Buffer, Pending

MOST_OFFSET = 2**63 - 1

_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class Source(Protocol):
    """Another package's store, asked asynchronously; it raises FileNotFoundError, or its like."""

    name: str

    def loop(self) -> AbstractEventLoop:
        """The event loop that it is to be awaited in."""
        ...

    async def fetch(self, key: str, start: int | None, stop: int | None) -> Any:
        """Bytes `start` to `stop`, None being the ends; a negative start counts from the end.

        None where there is no such object.
        """
        ...

    async def size(self, key: str) -> int:
        """Bytes of an object."""
        ...

    async def children(self, prefix: str) -> list[tuple[str, bool]]:
        """As `Store.list`."""
        ...


class ForeignStore(Store):
    """Another package's store as one of ours."""

    gap_nbytes = GAP_NBYTES

    def __init__(self, source: Source, concurrency: int) -> None:
        """Read from it, with at most `concurrency` requests at a time."""
        self._source = source
        self._reads = InFlight(concurrency, source.loop)
        self.name = source.name

    def __repr__(self) -> str:
        return f"ForeignStore({self.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (ForeignStore, (self._source, self._reads.concurrency))

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Read one byte range of one object; see `Store.read`."""
        self._check(key)
        return self._reads.read(partial(self._get, key, offset, nbytes), allocate)

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        """Send all requests now."""
        for key in keys:
            self._check(key)
        return self._reads.start(
            [
                partial(self._get, key, offset, count)
                for key, offset, count in zip(keys, offsets, nbytes, strict=True)
            ],
            nbytes,
        )

    def size(self, key: str) -> int | None:
        """Bytes of an object, as the other store says."""
        self._check(key)
        return self._reads.run(partial(self._size, key))

    def _check(self, key: str) -> None:
        try:
            check_key(key)
        except StoreError as error:
            raise error.at(store=self.name) from None

    async def _get(self, key: str, offset: int, nbytes: int) -> Blob | None:
        start, stop = offset, None if nbytes == WHOLE else offset + nbytes
        if abs(offset) > MOST_OFFSET or (
            nbytes != WHOLE and (offset < 0 or nbytes <= 0 or offset + nbytes > MOST_OFFSET)
        ):
            size = await self._size(key)
            if size is None:
                return None
            start, stop = self._range(size, key, offset, nbytes)
            if start == stop:
                return Blob(memoryview(b""), None, size)
        try:
            data = await self._source.fetch(key, start or None, stop)
            if data is None:
                return None
            view = memoryview(data).cast("B").toreadonly()
        except _MISSING:
            return None
        except Exception as error:
            raise self._failed("read", error, key) from error
        if stop is not None:
            right = len(view) == stop - start
        else:
            right = len(view) == -start if start < 0 else start == 0 or len(view) > 0
        if not right:
            await self._explain(key, offset, nbytes, len(view))
        return Blob(view)

    async def _explain(self, key: str, offset: int, nbytes: int, came: int) -> None:
        """Say why so many bytes came and no others; return where an empty range is right."""
        size = await self._size(key)
        start, stop = self._range(size or 0, key, offset, nbytes)
        if stop - start != came:
            raise StoreError(
                f"{came} bytes came where {stop - start} were asked for: something is writing to "
                "this store, or it does not serve ranges",
                store=self.name,
                key=key,
            )

    def _range(self, size: int, key: str, offset: int, nbytes: int) -> tuple[int, int]:
        try:
            return find_range(size, key, offset, nbytes)
        except StoreError as error:
            raise error.at(store=self.name) from None

    async def _size(self, key: str) -> int | None:
        try:
            return await self._source.size(key)
        except _MISSING:
            return None
        except Exception as error:
            raise self._failed("read", error, key) from error

    async def _list(self, prefix: str) -> list[tuple[str, bool]]:
        try:
            return await self._source.children(prefix)
        except _MISSING:
            return []
        except NotImplementedError as error:
            raise UnsupportedError("this store cannot list its keys", store=self.name) from error
        except Exception as error:
            raise self._failed("list", error, prefix or None) from error

    def _failed(self, verb: str, error: Exception, key: str | None) -> GpuzarrError:
        if isinstance(error, GpuzarrError):
            return error
        advice = ""
        if isinstance(error, PermissionError):
            advice = "access was refused: check the credentials that it was made with; "
        elif isinstance(error, TimeoutError):
            advice = "it did not answer in time; "
        shown = None if key is None else key.encode("ascii", "backslashreplace").decode()
        return StoreError(
            f"cannot {verb} it: {advice}{type(error).__name__}: {error}",
            store=self.name,
            key=shown,
        )

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The direct children of a prefix."""
        if prefix:
            self._check(prefix)
        return iter(self._reads.run(partial(self._list, prefix)))
