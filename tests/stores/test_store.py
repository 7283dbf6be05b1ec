"""The helpers that stores are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuzarr.errors import MemoryLimitError, StoreError
from gpuzarr.stores.store import (
    WHOLE,
    at_most,
    check_key,
    cut,
    find_range,
    iter_children,
    place,
)


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(-60, 60), st.integers(-1, 60))
def test_ranges_are_those_of_slices(value: bytes, offset: int, nbytes: int) -> None:
    expected = value[offset:] if nbytes == WHOLE else value[offset:][:nbytes]
    start = max(0, len(value) + offset) if offset < 0 else offset
    if start > len(value) or (nbytes != WHOLE and start + nbytes > len(value)):
        with pytest.raises(StoreError, match="were asked for"):
            cut(value, "k", offset, nbytes)
    else:
        assert bytes(cut(value, "k", offset, nbytes)) == expected


def test_ranges_take_numpys_integers() -> None:
    start, stop = find_range(10, "k", np.int64(2), np.uint64(3))  # type: ignore[arg-type]
    assert (start, stop) == (2, 5)
    assert type(start) is type(stop) is int


@settings(deadline=None)
@given(st.text(st.sampled_from("ab./\\\0 "), max_size=8))
def test_keys_are_allowed_or_not_part_by_part(key: str) -> None:
    bad = "\\" in key or "\0" in key or any(part in {"", ".", ".."} for part in key.split("/"))
    if bad:
        with pytest.raises(StoreError, match="not allowed"):
            check_key(key)
    else:
        assert check_key(key) == key


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab/"), min_size=1, max_size=6)))
def test_children_come_once(keys: list[str]) -> None:
    for prefix in ["", "a", "a/b"]:
        found = list(iter_children(keys, prefix))
        assert len(found) == len(set(found))
        for name, is_folder in found:
            full = f"{prefix}/{name}" if prefix else name
            assert any(k.startswith(full + "/") if is_folder else k == full for k in keys)


class TestPlace:
    def test_takes_any_writable_memory(self) -> None:
        grid = np.zeros((4, 4), np.int32)
        view = place(lambda _: grid, 64, "k")  # type: ignore[arg-type, return-value]
        view[:4] = (7).to_bytes(4, "little")
        assert grid[0, 0] == int.from_bytes((7).to_bytes(4, "little"), "little")
        assert len(place(lambda _: bytearray(10), 4, "k")) == 4
        empty: Any = np.zeros((0, 3))
        assert len(place(lambda _: empty, 0, "k")) == 0

    @pytest.mark.parametrize("memory", [b"1234", bytearray(3)])
    def test_refuses_what_cannot_hold_the_bytes(self, memory: bytes) -> None:
        with pytest.raises(ValueError, match="4 writable bytes"):
            place(lambda _: memory, 4, "k")

    def test_memory_that_is_not_there(self) -> None:
        with pytest.raises(MemoryLimitError, match="no memory for"):
            place(bytearray, 1 << 80, "k")

    def test_what_the_caller_raises_passes(self) -> None:
        def refuse(nbytes: int) -> bytearray:
            raise MemoryLimitError(f"{nbytes} is too much for me")

        with pytest.raises(MemoryLimitError, match="too much for me"):
            place(refuse, 4, "k")


def test_documents_are_bounded() -> None:
    assert at_most(4)(4) == bytearray(4)
    with pytest.raises(StoreError, match="5 bytes are stored where no more than 4") as caught:
        at_most(4, "zarr.json")(5)
    assert caught.value.key == "zarr.json"
