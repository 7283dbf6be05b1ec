"""A mapping from keys to bytes: a dict, or anything that behaves like one.

The keys are exactly those of Zarr ("group/array/c/0", no leading slash): a mapping that spells one
key in two ways could answer with either. Values of a dict are used where they lie, without a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuzarr.errors import GpuzarrError, StoreError
from gpuzarr.stores.store import WHOLE, Blob, Store, check_key, cut, iter_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gpuzarr.stores.store import Buffer


def is_memory(store: Store) -> bool:
    """Whether reading from a store waits for nothing: it is a dict."""
    return type(store) is MappingStore and type(store.mapping) is dict


class MappingStore(Store):
    """The values of a mapping, read-only.

    It may be a mapping that reaches further than memory (fsspec's, zarr-python 2's stores): a
    missing key raises KeyError there, and everything else that it raises becomes a StoreError.
    """

    def __init__(self, mapping: Mapping[str, Any], name: str | None = None) -> None:
        """Use a mapping as it is; what is put into it later is seen.

        Args:
            mapping: keys to bytes-like values; zarr-python's `Buffer` objects are taken too.
            name: what errors and reprs call it.
        """
        self.mapping = mapping
        self.name = name or f"<{type(mapping).__name__} in memory>"

    def __repr__(self) -> str:
        return f"MappingStore({self.name!r})"

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Give one byte range of one value, without a copy; see `Store.read`."""
        del allocate
        check_key(key)
        try:
            value = self.mapping[key]
        except KeyError:
            return None
        except GpuzarrError:
            raise
        except Exception as error:
            raise StoreError(
                f"the mapping failed: {type(error).__name__}: {error}", store=self.name, key=key
            ) from error
        # A dict's value stays the same object until it is replaced, and so do the buffers that
        # zarr-python keeps in one. Other mappings may make it anew for every call, and bytearrays
        # may change in place: nothing can be said about those.
        lasting = type(self.mapping) is dict and (
            type(value) is bytes or hasattr(value, "as_buffer_like")
        )
        view = cut(self._view(value, key), key, offset, nbytes)
        return Blob(view, _Identity(value) if lasting else None)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The direct children of `prefix` among the mapping's keys, all of which are looked at."""
        if prefix:
            check_key(prefix)
        try:
            keys: tuple[Any, ...] = tuple(self.mapping)
        except GpuzarrError:
            raise
        except Exception as error:
            raise StoreError(
                f"the mapping cannot be listed: {type(error).__name__}: {error}", store=self.name
            ) from error
        return iter_children((key for key in keys if isinstance(key, str)), prefix)

    def _view(self, value: Any, key: str) -> memoryview:
        """The value's bytes in storage order, not writable."""
        # zarr-python's Buffer, which its MemoryStore keeps, has no buffer protocol of its own.
        as_buffer_like = getattr(value, "as_buffer_like", None)
        try:
            view = memoryview(value if as_buffer_like is None else as_buffer_like())
            if not view.nbytes:
                return memoryview(b"")  # empty views of several dimensions cannot be cast
            return view.cast("B").toreadonly()
        except (TypeError, ValueError, BufferError) as error:
            raise StoreError(
                f"the mapping holds {_article(type(value).__name__)} where contiguous bytes are "
                f"expected ({error})",
                store=self.name,
                key=key,
            ) from error


class _Identity:
    """Equal only for the very same value, which it keeps alive so that no other takes its place."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
