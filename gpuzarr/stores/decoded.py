"""Ranges out of objects that are stored encoded as a whole.

Codecs after the sharding codec encode the whole shard, so neither its index nor a chunk has a place
in the stored bytes. Seen through this store they have: it decodes an object when first asked, keeps
it for a while, and serves every range from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr.stores.object_cache import ObjectCache
from gpuzarr.stores.store import WHOLE, Blob, Store, cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuzarr.stores.store import Buffer, Pending


class DecodedObjects(Store):
    """Another store's objects, each decoded as a whole."""

    def __init__(
        self, store: Store, decode: Callable[[memoryview, str], Buffer], cache_nbytes: int
    ) -> None:
        """Wrap a store.

        Args:
            store: where the encoded objects lie.
            decode: called with an object's bytes and its key, by one thread for each object; gives
                the decoded bytes, which must not change afterwards. What it raises is passed on.
            cache_nbytes: decoded bytes to keep. An object above it is decoded at every read.
        """
        self.name = store.name
        self._store = store
        self._decode = decode
        self._cache = ObjectCache(cache_nbytes)

    def __repr__(self) -> str:
        return f"DecodedObjects({self._store!r})"

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Give one range of one decoded object, without a copy; see `Store.read`."""
        del allocate
        return self._range(key, offset, nbytes, lambda: self._store.read(key))

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The same children as in the store of the encoded objects."""
        return self._store.list(prefix)

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        """Start reading each object that is asked for and not at hand, once and as a whole."""
        wanted = tuple(dict.fromkeys(key for key in keys if not self._cache.holds(key)))
        pending = self._store.start_reads(wanted, (0,) * len(wanted), (WHOLE,) * len(wanted))
        started = {key: row for row, key in enumerate(wanted)}

        def read_range(row: int) -> Blob | None:
            def fetch() -> Blob | None:
                # A started read gives its bytes once. They are wanted again only when the cache
                # was too small to keep the object in between.
                at = started.pop(keys[row], None)
                return self._store.read(keys[row]) if at is None else pending.result(at)

            return self._range(keys[row], offsets[row], nbytes[row], fetch)

        return _PendingRanges(read_range)

    def _range(
        self, key: str, offset: int, nbytes: int, fetch: Callable[[], Blob | None]
    ) -> Blob | None:
        def make() -> Blob | None:
            encoded = fetch()
            if encoded is None:
                return None
            decoded = memoryview(self._decode(encoded.data, key))
            view = decoded.cast("B") if decoded.nbytes else memoryview(b"")
            return Blob(view.toreadonly(), encoded.validator)

        def is_current(blob: Blob) -> bool:
            if blob.validator is None:
                return True
            now = self._store.read(key, 0, 0)
            return now is not None and now.validator == blob.validator

        blob = self._cache.get(key, make, is_current)
        if blob is None:
            return None
        return Blob(cut(blob.data, key, offset, nbytes), blob.validator)


class _PendingRanges:
    """Ranges of objects that are on their way."""

    __slots__ = ("_read_range",)

    def __init__(self, read_range: Callable[[int], Blob | None]) -> None:
        self._read_range = read_range

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        del allocate
        return self._read_range(row)
