"""Chains are lowered once for all arrays of one metadata document, unless packages may change."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.codecs import lower as lowering
from tests.arrays import v3_metadata

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES = np.arange(4, dtype="<i4")
FLIPPED = {"name": "example.flip", "configuration": {}}
INDEXED = {"name": "sharding_indexed"}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of chains that were lowered."""
    found: list[int] = []
    walk: Callable[..., None] = lowering.walk

    def noting(chain: Any, codecs: Any) -> None:
        found.append(len(codecs))
        walk(chain, codecs)

    monkeypatch.setattr(lowering, "walk", noting)
    monkeypatch.setattr(lowering, "_kept", {})
    return found


class Flip:
    """Flips bits."""

    def decode(self, encoded: memoryview, *_: Any) -> bytes:
        return (~np.frombuffer(encoded, np.uint8)).tobytes()


flip = Flip()


def install(monkeypatch: pytest.MonkeyPatch, *, here: bool) -> None:
    """Have a package provide the codec, or none."""
    point = EntryPoint("example.flip", f"{__name__}:flip", "gpuzarr.codecs")

    def entry_points(*, group: str, name: str) -> tuple[EntryPoint, ...]:
        return (point,) if here and (group, name) == (point.group, point.name) else ()

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)


def store(codecs: list[Any], chunk: bytes, **members: Any) -> dict[str, bytes]:
    document = v3_metadata((4,), (4,), codecs=codecs, **members)
    return {"zarr.json": json.dumps(document).encode(), "c/0": chunk}


def test_arrays_of_one_document_share_it(walked: list[int]) -> None:
    values = store([BYTES], VALUES.tobytes())
    other = store([BYTES], VALUES[::-1].tobytes(), attributes={"of": "another"})
    for _ in range(3):
        np.testing.assert_array_equal(gpuzarr.open_array(dict(values))[...], VALUES)
    assert walked == [1]
    np.testing.assert_array_equal(gpuzarr.open_array(other)[...], VALUES[::-1])
    assert walked == [1, 1]


def test_there_is_an_end_of_what_is_kept(walked: list[int]) -> None:
    stores = [
        store([BYTES], VALUES.tobytes(), attributes={"number": number})
        for number in range(lowering.MOST_KEPT + 1)
    ]
    for each in [*stores, stores[-1]]:
        np.testing.assert_array_equal(gpuzarr.open_array(each)[...], VALUES)
    assert len(walked) == len(stores)
    assert len(lowering._kept) == 1  # noqa: SLF001


@pytest.mark.parametrize("place", ["outside", "in a shard"])
def test_codecs_of_packages_are_looked_for_again(
    walked: list[int], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    chain, chunk = [BYTES, FLIPPED], (~VALUES).tobytes()
    if place == "in a shard":
        settings = {"chunk_shape": [4], "codecs": chain, "index_codecs": [BYTES]}
        chain = [{**INDEXED, "configuration": settings}]
        chunk += np.array([0, VALUES.nbytes], "<u8").tobytes()
    values = store(chain, chunk)
    for here in (True, False, True):
        install(monkeypatch, here=here)
        before = len(walked)
        array = gpuzarr.open_array(values)
        if here:
            np.testing.assert_array_equal(array[...], VALUES)
        else:
            with pytest.raises(gpuzarr.UnsupportedError, match=r"example\.flip"):
                array[...]
        assert len(walked) > before
