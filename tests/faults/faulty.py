"""A store that goes wrong by plan: which object, which of its reads, and how.

    store = FaultyStore(values, Fault("short", "c/0/1"))
    store.faults = []                                     # well again

`EagerFaultyStore` starts its reads in threads of its own when it is told of them, as stores with
latency do, and gives bytes in memory of its own.
"""

from __future__ import annotations

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gpuzarr
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.store import WHOLE, Blob, Store, row_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from tests.arrays import Reads

    Read = Callable[[], Blob | None]

SLOW_S = 1e-3


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the reads of one object."""

    kind: str
    """A name in `KINDS`."""
    key: str
    times: int = 1 << 30
    """How many reads of the object go wrong..."""
    after: int = 0
    """...after so many that went well."""


def _short(read: Read) -> Blob | None:
    """Half of what was asked for."""
    blob = read()
    return blob and blob._replace(data=blob.data[: len(blob.data) // 2])


def _empty(read: Read) -> Blob | None:
    """Nothing of what was asked for."""
    blob = read()
    return blob and blob._replace(data=blob.data[:0])


def _long(read: Read) -> Blob | None:
    """More than was asked for."""
    blob = read()
    return blob and blob._replace(data=memoryview(bytes(blob.data) + b"\xee" * 7))


def _wrong(read: Read) -> Blob | None:
    """Every byte is another, in memory that is not the caller's."""
    blob = read()
    return blob and blob._replace(data=memoryview(bytes(byte ^ 0xA5 for byte in blob.data)))


def _elsewhere(read: Read) -> Blob | None:
    """The right bytes, in other memory than the caller gave."""
    blob = read()
    return blob and blob._replace(data=memoryview(bytes(blob.data)))


def _gone(read: Read) -> Blob | None:
    """The object is missing."""
    read()
    return None


def _slow(read: Read) -> Blob | None:
    time.sleep(SLOW_S)
    return read()


def _replaced(read: Read) -> Blob | None:
    """The object was replaced, by one of the same bytes, since it was last looked at."""
    blob = read()
    return blob and blob._replace(validator=object())


def _raises(error: Callable[[], BaseException], *, first_read: bool = False) -> Callable[..., Any]:
    def fail(read: Read) -> Blob | None:
        if first_read:
            read()
        raise error()

    return fail


class Surprise(Exception):  # noqa: N818  not an error of ours
    """What a store raises that nobody has thought of."""


KINDS: dict[str, Callable[[Read], Blob | None]] = {
    "short": _short,
    "empty": _empty,
    "long": _long,
    "wrong": _wrong,
    "elsewhere": _elsewhere,
    "missing": _gone,
    "slow": _slow,
    "replaced": _replaced,
    "StoreError": _raises(lambda: gpuzarr.StoreError("the disk is on fire")),
    "shrinks": _raises(lambda: gpuzarr.StoreError("it became shorter"), first_read=True),
    "EIO": _raises(lambda: OSError(errno.EIO, "the disk is broken")),
    "ETIMEDOUT": _raises(lambda: TimeoutError(errno.ETIMEDOUT, "nobody answers")),
    "MemoryError": _raises(MemoryError),
    "KeyError": _raises(lambda: KeyError("what")),
    "RuntimeError": _raises(lambda: RuntimeError("odd")),
    "ValueError": _raises(lambda: ValueError("odd")),
    "Surprise": _raises(lambda: Surprise("odd")),
    "KeyboardInterrupt": _raises(KeyboardInterrupt),
    "SystemExit": _raises(lambda: SystemExit(3)),
}

FOREIGN = ("KeyError", "RuntimeError", "ValueError", "Surprise", "KeyboardInterrupt", "SystemExit")
"""Kinds that are not errors of a storage: they arrive as they are."""
BROKEN_STORAGE = ("StoreError", "shrinks", "EIO", "ETIMEDOUT")
"""Kinds that are: they arrive as a StoreError that names the object."""
HARMLESS = ("elsewhere", "slow")
"""Kinds that a reader must not mind."""


class FaultyStore(Store):
    """Another store, or a mapping, whose reads go wrong by plan; counts the reads."""

    def __init__(self, inner: Store | dict[str, bytes], *faults: Fault) -> None:
        """Wrap a store; `faults` may be changed at any time."""
        self.inner = MappingStore(inner) if isinstance(inner, dict) else inner
        self.name = "faulty"
        self.faults: Sequence[Fault] = faults
        self.reads: Reads = []
        self.hits: dict[Fault, int] = {}
        """How many reads of its object each fault has seen."""
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.inner, *self.faults))

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        """Count, and read, or not."""

        def read() -> Blob | None:
            return self.inner.read(key, offset, nbytes, allocate)

        with self._lock:
            self.reads.append((key, offset, nbytes))
            fault = self._due(key)
        return read() if fault is None else KINDS[fault.kind](read)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Never wrong."""
        return self.inner.list(prefix)

    def size(self, key: str) -> int | None:
        """Never wrong, and not counted."""
        return self.inner.size(key)

    def path_of(self, key: str) -> Path | None:
        """No bytes are anywhere else."""

    def taken(self) -> Reads:
        """The reads so far, which are then forgotten."""
        with self._lock:
            reads, self.reads = self.reads, []
        return reads

    def _due(self, key: str) -> Fault | None:
        for fault in self.faults:
            if fault.key == key:
                seen = self.hits[fault] = self.hits.get(fault, 0) + 1
                if fault.after < seen <= fault.after + fault.times:
                    return fault
        return None


class EagerFaultyStore(FaultyStore):
    """The same with reads that begin when they are announced."""

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> _Started:
        """Start all of them."""
        pool = ThreadPoolExecutor(2, thread_name_prefix="eager")
        futures = [
            pool.submit(self.read, *request) for request in zip(keys, offsets, nbytes, strict=True)
        ]
        pool.shutdown(wait=False)
        return _Started(futures)


class _Started:
    """Reads that are under way."""

    def __init__(self, futures: Sequence[Future[Blob | None]]) -> None:
        self._futures = futures

    def result(self, row: int, allocate: Callable[[int], Any] = bytearray) -> Blob | None:
        """Wait for one."""
        del allocate
        return self._futures[row].result()


class RowFaultyStore(FaultyStore):
    """The same with `read_row`, of which the store in it must have one: files do."""

    def read_row(self, wanted: Any, memory: Any, stopped: Callable[[], bool]) -> list[int]:
        """Read ranges up to the first object that something is wrong with."""
        inner = row_reader(self.inner)
        assert inner is not None
        keys = {fault.key for fault in self.faults}

        def healthy() -> Iterator[Any]:
            for want in wanted:
                if want[0] in keys:
                    return
                yield want

        return inner(healthy(), memory, stopped)
