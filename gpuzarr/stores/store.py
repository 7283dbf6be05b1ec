"""What gpuzarr asks of storage: one way to read bytes by key, and one way to list.

A store is any object with the members of `Store`. Subclass it and write `read` (and `list` where
groups are to be browsed without consolidated metadata); everything else has a default made of them:

    class DictStore(Store):
        name = "dict"

        def __init__(self, values):
            self.values = values

        def read(self, key, offset=0, nbytes=WHOLE, allocate=bytearray):
            value = self.values.get(check_key(key))
            return None if value is None else Blob(cut(value, key, offset, nbytes))

        def list(self, prefix=""):
            return iter_children(self.values, prefix)

Keys are "/"-separated, relative, without empty, "." or ".." parts. Stores are called from many
threads at once. They pickle if arrays in spawned workers are to use them. The checkout's
`tests/stores/contract.py` tests a store against all of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from gpuzarr.errors import MemoryLimitError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from pathlib import Path

    Buffer = bytes | bytearray | memoryview

WHOLE = -1
"""As `nbytes`: everything from `offset` to the end of the object."""


class Blob(NamedTuple):
    """Bytes that a store gave."""

    data: memoryview
    """The bytes asked for, exactly; one-dimensional, format "B"."""
    validator: Hashable = None
    """Changes whenever the object changes (an etag; modification time and size); None: unknown."""
    size: int | None = None
    """Bytes of the whole object, where the store knows it without asking."""


class Memory(Protocol):
    """Memory in which ranges are put one behind another."""

    used: int
    """Bytes that hold something."""

    def allocate(self, nbytes: int) -> memoryview:
        """Memory behind what is used, which is used from then on."""
        ...

    def clear(self, used: int = 0) -> None:
        """Forget what is behind the first `used` bytes."""
        ...


Wanted: TypeAlias = "tuple[str, int, int, Hashable]"
"""Key, offset and number of bytes of a range, and the validator that its object must have, or
None."""


class ReadRow(Protocol):
    """Reads ranges, one behind another: a faster way where nothing is unusual about them.

    A store may have it as its method `read_row`.
    """

    def __call__(
        self, wanted: Iterable[Wanted], memory: Memory, stopped: Callable[[], bool]
    ) -> list[int]:
        """Read ranges.

        Args:
            wanted: what to read.
            memory: where to put it, behind what is used of it already.
            stopped: whether to give up; asked after each range.

        Returns:
            For each range what is used of the memory once it is read. Fewer than there are where
            one is missing, or anything about it is unusual: `Store.read` says what it is.
        """
        ...


def row_reader(store: Store) -> ReadRow | None:
    """A store's `read_row`, unless a class or object derived from its own has another `read`."""
    if "read" in getattr(store, "__dict__", ()):
        return None
    for kind in type(store).__mro__:
        if "read_row" in vars(kind):
            found: ReadRow = getattr(store, "read_row")  # noqa: B009  not every store has it
            return found
        if "read" in vars(kind):
            return None
    return None


def reads_when_asked(store: Store) -> bool:
    """Whether a store starts no reads early, but reads in the thread that asks for them.

    So do stores that leave `start_reads` as it is. One that does not may have a member of this
    name, which says whether it starts none after all.
    """
    said: bool | None = getattr(store, "reads_when_asked", None)
    if said is not None:
        return said
    return getattr(type(store), "start_reads", None) is Store.start_reads


def gap_of(store: Store) -> int | None:
    """Bytes between two ranges of an object that are rather read than left out, to save a request.

    A store names them as its `gap_nbytes` where a request costs more than one to a local file does.
    None: as for local files.
    """
    gap: int | None = getattr(store, "gap_nbytes", None)
    return gap


def url_of(store: Store, key: str) -> str | None:
    """The URL whose plain GET gives this object to anybody; None: there is none.

    A store that has such URLs has a method of this name, and another, `start_looks(keys)`, which
    asks for sizes and validators alone: the `Pending` gives blobs without bytes. A URL may be
    signed, so that it is a secret, and valid for an hour.
    """
    ask: Callable[[str], str | None] | None = getattr(store, "url_of", None)
    return None if ask is None else ask(key)


def start_looks(store: Store, keys: Sequence[str]) -> Pending:
    """Ask a store that has URLs for sizes and validators; see `url_of`."""
    started: Pending = getattr(store, "start_looks")(keys)  # noqa: B009  few stores have it
    return started


def give_up_when(pending: Pending, stopped: Callable[[], bool]) -> None:
    """Reads that take long ask `stopped` while somebody waits for them, and end when it says so.

    Such a `Pending` has a method `stop_when`.
    """
    stop_when = getattr(pending, "stop_when", None)
    if stop_when is not None:
        stop_when(stopped)


class Pending(Protocol):
    """Reads that were started; each is waited for on its own."""

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        """Wait for request `row`; None when its key does not exist.

        `allocate` is as in `Store.read`, used when the store has not put the bytes anywhere yet.
        Each row is asked for once.
        """
        ...


class Store(Protocol):
    """Keys to bytes. See the module's text for how to write one."""

    name: str
    """What errors and reprs call it: a path or URL."""

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Read one byte range of one object.

        Args:
            key: the object.
            offset: first byte; a negative offset counts from the end of the object (and is cut at
                its start).
            nbytes: how many bytes, or `WHOLE` for all to the end.
            allocate: called at most once, with the number of bytes about to be read, by stores that
                copy; gives the writable memory to read into. Stores that hold the bytes in memory
                already return their own instead.

        Returns:
            The bytes, or None when there is no such object.

        Raises:
            StoreError: the storage failed, the range is not inside the object, or the key is not
                allowed.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The direct children of `prefix`, each once, as (name, is_folder).

        A prefix is "" or a key without a trailing slash; one that nothing lies below has none.

        Raises:
            UnsupportedError: a store that cannot list.
        """
        ...

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        """Start many reads; a store with latency starts them now, this default when asked."""
        return ReadWhenAsked(self, keys, offsets, nbytes)

    def size(self, key: str) -> int | None:
        """Bytes of an object, None when there is none; found by reading it, by default."""
        blob = self.read(key)
        return None if blob is None else len(blob.data)

    def path_of(self, key: str) -> Path | None:
        """The local file that holds exactly this object's bytes, where there is one."""
        del key
        return None


class ReadWhenAsked:
    """The default `Pending`: reads each request in the thread that asks for it."""

    __slots__ = ("_keys", "_nbytes", "_offsets", "_store", "read_row")

    def __init__(
        self, store: Store, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> None:
        self._store = store
        self._keys = keys
        self._offsets = offsets
        self._nbytes = nbytes
        self.read_row = row_reader(store)

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        """Read one."""
        return self._store.read(self._keys[row], self._offsets[row], self._nbytes[row], allocate)


def find_range(size: int, key: str, offset: int, nbytes: int) -> tuple[int, int]:
    """The first byte and the end of a range in an object of `size` bytes, by `Store.read`'s rules.

    >>> find_range(6, "k", -2, WHOLE)
    (4, 6)
    """
    start = int(offset) if offset >= 0 else max(0, size + int(offset))
    stop = size if nbytes == WHOLE else start + int(nbytes)
    if not start <= stop <= size:
        raise StoreError(
            f"bytes {start} to {stop} were asked for, but the object has {size}", key=key
        )
    return start, stop


def cut(value: Buffer, key: str, offset: int, nbytes: int) -> memoryview:
    """The range of an object that is in memory already, by the rules of `Store.read`.

    >>> bytes(cut(b"abcdef", "k", -2, WHOLE))
    b'ef'
    """
    view = memoryview(value).cast("B")
    start, stop = find_range(len(view), key, offset, nbytes)
    return view[start:stop]


def place(allocate: Callable[[int], Buffer], nbytes: int, key: str) -> memoryview:
    """Memory for `nbytes` bytes of an object, from a caller's `allocate`, checked.

    Raises:
        MemoryLimitError: there is not so much memory. What `allocate` raises itself passes through.
    """
    try:
        memory = memoryview(allocate(nbytes))
    except MemoryLimitError:
        raise
    except (MemoryError, OverflowError) as error:
        raise MemoryLimitError(
            f"there is no memory for the {nbytes} bytes of this object", key=key
        ) from error
    if memory.readonly or memory.nbytes < nbytes:
        raise ValueError(
            f"`allocate` must give {nbytes} writable bytes, not {memory.nbytes}"
            f"{' read-only ones' if memory.readonly else ''}"
        )
    if nbytes == 0:
        return memoryview(bytearray())  # empty views of other shapes cannot be cast
    if memory.format != "B" or memory.ndim != 1:
        memory = memory.cast("B")
    return memory if len(memory) == nbytes else memory[:nbytes]


def at_most(limit: int, key: str = "") -> Callable[[int], bytearray]:
    """An `allocate` for small documents: refuses, before a byte is read, an object above `limit`.

    A store decides an object's size; without a bound a hostile one decides our use of memory too.
    Stores that hold the bytes in memory do not ask: what they give takes no more of it.
    """

    def allocate(nbytes: int) -> bytearray:
        if nbytes > limit:
            raise StoreError(
                f"{nbytes} bytes are stored where no more than {limit} are expected",
                key=key or None,
            )
        return bytearray(nbytes)

    return allocate


def check_key(key: str) -> str:
    """The key itself, when it cannot leave the store's root.

    Raises:
        StoreError: empty, absolute, or with empty, ".", ".." parts, backslashes or NULs.
    """
    framed = f"/{key}/"
    if (
        "//" in framed
        or "\\" in framed
        or "\0" in framed
        or ("/." in framed and ("/./" in framed or "/../" in framed))
    ):
        raise StoreError("this key is not allowed: it could leave the store's root", key=key)
    return key


def iter_children(keys: Iterable[str], prefix: str) -> Iterator[tuple[str, bool]]:
    """The direct children of `prefix` among full keys, each once, as (name, is_folder).

    >>> sorted(iter_children(["a/b/c", "a/d"], "a"))
    [('b', True), ('d', False)]
    """
    start = prefix + "/" if prefix else ""
    seen: set[tuple[str, bool]] = set()
    for key in keys:
        if key.startswith(start):
            name, slash, _ = key[len(start) :].partition("/")
            if name and (name, bool(slash)) not in seen:
                seen.add((name, bool(slash)))
                yield name, bool(slash)
