"""Zip archives and reference files on servers, by their URL."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import plain_store

from .loopback import FileServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("obstore")

VALUES = np.arange(600, dtype="i4").reshape(20, 30)


def archive() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        for key, value in plain_store(VALUES, (5, 30)).items():
            file.writestr(f"array/{key}", bytes(value))
    return memory.getvalue()


@pytest.fixture
def server() -> Iterator[FileServer]:
    references: dict[str, Any] = {
        key: bytes(value).decode("latin1") if key == "zarr.json" else ["chunks.bin", at * 600, 600]
        for at, (key, value) in enumerate(
            sorted(plain_store(VALUES, (5, 30)).items(), key=lambda item: item[0] == "zarr.json")
        )
    }
    objects = {
        "data/weather.zip": archive(),
        "data/a b.ZIP": archive(),
        "data/refs.json": json.dumps({"version": 1, "refs": references}).encode(),
        "data/chunks.bin": VALUES.tobytes(),
    }
    server = FileServer(objects)
    yield server
    server.close()


@pytest.mark.parametrize("name", ["weather.zip", "a%20b.ZIP", "weather.zip/"])
def test_an_archive(server: FileServer, name: str) -> None:
    array = gpuzarr.open_array(f"{server.url}/data/{name}", path="array", device="cpu")
    np.testing.assert_array_equal(array[...], VALUES)
    np.testing.assert_array_equal(array[3:9, 2], VALUES[3:9, 2])
    assert len(server.seen) <= 6
    assert set(server.counts()) == {"GET"}


def test_an_archive_that_is_not_there(server: FileServer) -> None:
    with pytest.raises(gpuzarr.NotFoundError):
        gpuzarr.open(f"{server.url}/data/other.zip")


def test_references(server: FileServer) -> None:
    array = gpuzarr.open_array(f"{server.url}/data/refs.json", device="cpu")
    np.testing.assert_array_equal(array[...], VALUES)
