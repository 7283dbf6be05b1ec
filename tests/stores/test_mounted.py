"""Several stores as one: each is what it is alone, and reads of all are started together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from gpuzarr.errors import StoreError
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.mounted import MountedStores, mounted_key, original_key
from gpuzarr.stores.store import WHOLE, Blob, Store
from tests.arrays import CountingStore

from .contract import StoreContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gpuzarr.stores.store import Buffer, Pending


class Below(Store):
    """What is mounted at number 1, asked for by the keys that it has itself."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        others = MappingStore({key: b"another's " + key.encode() for key in objects})
        self._mounted = MountedStores([others, MappingStore(dict(objects)), others])
        self.name = self._mounted.name

    def __repr__(self) -> str:
        return f"Below({self._mounted!r})"

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        return self._mounted.read(mounted_key(1, key), offset, nbytes, allocate)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        return self._mounted.list(mounted_key(1, prefix) if prefix else "1")

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        return self._mounted.start_reads([mounted_key(1, key) for key in keys], offsets, nbytes)

    def size(self, key: str) -> int | None:
        return self._mounted.size(mounted_key(1, key))

    def path_of(self, key: str) -> Path | None:
        return self._mounted.path_of(mounted_key(1, key))


class TestMountedStore(StoreContract):
    @pytest.fixture
    def make(self) -> Callable[[dict[str, bytes]], Store]:
        return Below


class Latent(CountingStore):
    """Remembers what was started together."""

    def __init__(self, values: dict[str, bytes]) -> None:
        super().__init__(values)
        self.started: list[list[tuple[str, int, int]]] = []

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        self.started.append(list(zip(keys, offsets, nbytes, strict=True)))
        return super().start_reads(keys, offsets, nbytes)


def test_reads_of_each_store_are_started_together() -> None:
    stores = [Latent({"a": b"%d-abc" % i, "b/c": b"%d-xyz" % i}) for i in range(3)]
    mounted = MountedStores(stores)
    asked = [
        (2, "a", 0, WHOLE),
        (0, "b/c", 2, 2),
        (2, "missing", 0, WHOLE),
        (0, "a", -2, WHOLE),
        (2, "b/c", 0, 1),
        (2, "a", 1, 3),
    ]
    numbers, keys, offsets, sizes = zip(*asked, strict=True)
    pending = mounted.start_reads(list(map(mounted_key, numbers, keys)), offsets, sizes)
    assert stores[0].started == [[("b/c", 2, 2), ("a", -2, WHOLE)]]
    assert stores[1].started == []
    assert [key for key, _, _ in stores[2].started[0]] == ["a", "missing", "b/c", "a"]
    assert not any(store.reads for store in stores), "these read when they are asked"
    found: dict[int, bytes | None] = {}
    for row in (5, 0, 3, 1, 2, 4):
        blob = pending.result(row)
        found[row] = None if blob is None else bytes(blob.data)
    assert [found[row] for row in range(6)] == [b"2-abc", b"xy", None, b"bc", b"2", b"-ab"]


def test_memory_of_the_caller_reaches_the_store() -> None:
    class Copies(MappingStore):
        def read(
            self,
            key: str,
            offset: int = 0,
            nbytes: int = WHOLE,
            allocate: Callable[[int], Buffer] = bytearray,
        ) -> Blob | None:
            blob = super().read(key, offset, nbytes)
            if blob is None:
                return None
            memory = memoryview(allocate(len(blob.data)))
            memory[:] = blob.data
            return Blob(memory, blob.validator)

    mounted = MountedStores([MappingStore({}), Copies({"a": b"abc"})])
    memory = bytearray(3)
    pending = mounted.start_reads(["1/a"], [0], [WHOLE])
    for read in (partial(mounted.read, "1/a", 0, WHOLE), partial(pending.result, 0)):
        blob = read(lambda _: memory)
        assert blob is not None
        assert blob.data.obj is memory
        assert memory == b"abc"
        memory[:] = b"..."


def test_errors_name_the_key_in_its_own_store() -> None:
    mounted = MountedStores([MappingStore({"a": b"abc"}), MappingStore({"a": b"abcdef"})])
    with pytest.raises(StoreError, match="the object has 6") as raised:
        mounted.read("1/a", 5, 5)
    assert raised.value.key == "a"
    with pytest.raises(StoreError, match="the object has 3") as raised:
        mounted.start_reads(["1/a", "0/a"], [0, 2], [WHOLE, 5]).result(1)
    assert raised.value.key == "a"


def test_the_stores_are_the_folders_of_the_root() -> None:
    mounted = MountedStores([MappingStore({"a/b": b""}), MappingStore({"c": b""})])
    assert list(mounted.list()) == [("0", True), ("1", True)]
    assert list(mounted.list("0")) == [("a", True)]
    assert list(mounted.list("0/a")) == [("b", False)]
    assert list(mounted.list("1")) == [("c", False)]


@pytest.mark.parametrize("key", ["a", "a/c/0.0", "12/3", "\u00e4 b/c"])
def test_mounted_keys_come_back(key: str) -> None:
    for number in (0, 7, 123):
        assert original_key(mounted_key(number, key)) == (number, key)
