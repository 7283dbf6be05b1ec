"""Shards that are references, and whether a store of references reads when it is asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores.references.store import ReferenceStore
from tests.arrays import sharded_store
from tests.cuda_devices import assert_engines_agree
from tests.cuda_devices import fake as fake  # noqa: PLC0414  a fixture

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.arange(1, 1537, dtype="i4").reshape(32, 48)


def pack(objects: dict[str, bytes], path: Path) -> dict[str, Any]:
    """Write objects into one file; gives the references to them, metadata inline."""
    refs: dict[str, Any] = {}
    with path.open("wb") as file:
        for key, value in objects.items():
            if key.endswith("zarr.json"):
                refs[key] = value.decode()
                continue
            file.write(b"between")
            refs[key] = [path.name, file.tell(), len(value)]
            file.write(value)
    return refs


@pytest.mark.usefixtures("fake")
def test_shards_inside_a_file(tmp_path: Path) -> None:
    refs = pack(sharded_store(VALUES, (16, 16), (4, 8)), tmp_path / "shards.bin")
    store = ReferenceStore.from_document(refs, base=tmp_path)
    array = gpuzarr.open_array(store, device="cpu")
    assert array.shards == (16, 16)
    np.testing.assert_array_equal(array[...], VALUES)
    np.testing.assert_array_equal(array[5:30:7, ::-3], VALUES[5:30:7, ::-3])
    assert_engines_agree(store)


def without(chunk: tuple[int, int]) -> tuple[dict[str, bytes], np.ndarray[Any, Any]]:
    """Shards that lack one chunk each, which their indexes say; and what they hold."""
    expected = VALUES.copy().reshape(2, 4, 4, 3, 2, 8)  # shards and chunks along y, then along x
    expected[:, chunk[0], :, :, chunk[1]] = 0
    objects = sharded_store(VALUES, (16, 16), (4, 8), skip=lambda coords: coords == chunk)
    return objects, expected.reshape(VALUES.shape)


def test_a_file_that_is_written_anew_has_its_indexes_read_again(tmp_path: Path) -> None:
    path = tmp_path / "shards.bin"
    objects, expected = without((0, 0))
    refs = pack(objects, path)
    array = gpuzarr.open_array(ReferenceStore.from_document(refs, base=tmp_path), device="cpu")
    np.testing.assert_array_equal(array[...], expected)
    objects, expected = without((3, 1))
    # At the same places, in the same open file, but with other indexes.
    assert list(pack(objects, tmp_path / "other.bin").values())[1:] == [
        ["other.bin", *place] for _, *place in list(refs.values())[1:]
    ]
    with path.open("r+b") as file:
        file.write((tmp_path / "other.bin").read_bytes())
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(array[...], expected)


@pytest.mark.parametrize(
    ("document", "choices", "local"),
    [
        ({}, {}, True),
        ({"k": "inline"}, {}, True),
        ({"k": ["a.nc"], "l": ["file:///b.nc", 0, 1]}, {}, True),
        ({"k": ["a.nc"], "l": ["s3://bucket/b.nc", 0, 1]}, {}, False),
        ({"k": ["a.nc"]}, {"base": "https://host/in"}, False),
        ({"k": ["bucket/a.nc"]}, {"storage_options": {"remote_protocol": "s3"}}, False),
        ({"k": ["a.nc"]}, {"storage_options": {"remote_protocol": "file"}}, True),
        ({"version": 1, "templates": {"u": "s3://b"}, "refs": {"k": ["{{u}}/x"]}}, {}, False),
        ({"version": 1, "templates": {"f": "s3://{{c}}"}, "refs": {}}, {}, False),
        ({"version": 1, "templates": {"u": "in"}, "refs": {"k": ["{{u}}/x"]}}, {}, True),
        (
            {
                "version": 1,
                "gen": [{"key": "{{i}}", "url": "s3://b/{{i}}", "dimensions": {"i": [1]}}],
            },
            {},
            False,
        ),
    ],
)
def test_local_targets_are_read_when_asked(
    document: dict[str, Any], choices: dict[str, Any], *, local: bool
) -> None:
    store = ReferenceStore.from_document(document, **choices)
    assert store.reads_when_asked is local
