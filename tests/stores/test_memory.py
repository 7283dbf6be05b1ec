"""Mappings: dicts without a copy, mappings that reach further, values that are no bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from gpuzarr.errors import StoreError, UnsupportedError
from gpuzarr.stores.memory import MappingStore


def test_values_are_not_copied() -> None:
    value = b"0123456789"
    blob = MappingStore({"key": value}).read("key", 2, 5)
    assert blob is not None
    assert blob.data.obj is value
    assert bytes(blob.data) == b"23456"
    assert blob.data.readonly


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"abcdefgh"),
        memoryview(b"abcdefgh"),
        memoryview(b"abcdefgh").cast("I"),
        np.frombuffer(b"abcdefgh", "u1"),
        np.frombuffer(b"abcdefgh", "<f4"),
        np.frombuffer(b"abcdefgh", "<i2").reshape(2, 2),
    ],
)
def test_everything_that_is_bytes(value: Any) -> None:
    store = MappingStore({"key": value})
    blob = store.read("key", 3, 2)
    assert blob is not None
    assert bytes(blob.data) == b"de"
    assert blob.data.readonly
    assert blob.validator is None
    assert store.size("key") == 8


@pytest.mark.parametrize("value", [bytearray(), np.zeros((0, 3)), np.zeros(0, "u1")])
def test_nothing_is_bytes_too(value: Any) -> None:
    blob = MappingStore({"key": value}).read("key")
    assert blob is not None
    assert bytes(blob.data) == b""


@pytest.mark.parametrize(
    "value",
    ["text", None, 7, ["a"], object(), np.arange(6).reshape(2, 3).T, np.zeros(3, "M8[s]"), {}],
)
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(StoreError, match=f"{type(value).__name__} where contiguous bytes") as e:
        MappingStore({"key": value}).read("key")
    assert e.value.key == "key"


def test_zarr_pythons_buffers_are_taken() -> None:
    zarr = pytest.importorskip("zarr")
    values: dict[str, Any] = {}
    array = zarr.create_array(zarr.storage.MemoryStore(values), shape=4, chunks=2, dtype="i4")
    array[:] = 5
    store = MappingStore(values)
    assert set(store.list()) == {("zarr.json", False), ("c", True)}
    blob = store.read("c/0")
    assert blob is not None
    assert bytes(blob.data) == values["c/0"].to_bytes()


def test_validators_tell_values_apart() -> None:
    values = {"key": b"a" * 100}
    store = MappingStore(values)
    before, again = store.read("key"), store.read("key", 3)
    values["key"] = b"b" * 100
    after = store.read("key")
    assert before is not None
    assert again is not None
    assert after is not None
    assert before.validator == again.validator != after.validator
    assert hash(before.validator) == hash(again.validator)


class Faulty(Mapping[str, bytes]):
    """A mapping that reaches further than memory, and fails there."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getitem__(self, key: str) -> bytes:
        raise self.error

    def __iter__(self) -> Iterator[str]:
        raise self.error

    def __len__(self) -> int:
        return 1


def test_what_a_mapping_raises_becomes_a_store_error() -> None:
    for error in (OSError("network"), RuntimeError("network"), ValueError("network")):
        store = MappingStore(Faulty(error), name="far away")
        with pytest.raises(StoreError, match=f"{type(error).__name__}: network") as caught:
            store.read("key")
        assert (caught.value.store, caught.value.key) == ("far away", "key")
        assert caught.value.__cause__ is error
        with pytest.raises(StoreError, match="cannot be listed"):
            store.list()
    assert MappingStore(Faulty(KeyError("key"))).read("key") is None
    for own in (UnsupportedError("no"), StoreError("no")):
        store = MappingStore(Faulty(own))
        with pytest.raises(type(own), match=r"^no$"):
            store.read("key")
        with pytest.raises(type(own), match=r"^no$"):
            store.list()


def test_keys_are_exactly_those_of_zarr() -> None:
    store = MappingStore({"/a": b"", "b": b"", 7: b"", "c/": b"", "d//e": b""})  # type: ignore[dict-item]
    assert store.read("a") is None
    assert set(store.list()) == {("b", False), ("c", True), ("d", True)}
    assert list(store.list("c")) == []


def test_the_mapping_may_grow_while_it_is_listed() -> None:
    values = {str(number): b"" for number in range(100)}
    listing = MappingStore(values).list()
    next(listing)
    values["more"] = b""
    assert len(list(listing)) == 99
