"""References to files on an HTTP server: values, requests, and what is missing there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import StoreError
from gpuzarr.stores.references.store import ReferenceStore
from tests.stores.references.fixtures import values
from tests.stores.remote.loopback import FileServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("obstore")

HERE = Path(__file__).parent / "fixtures"
HTTP: dict[str, Any] = {"client_options": {"allow_http": True}}
OPTIONS: dict[str, Any] = {**HTTP, "target_options": HTTP}


@pytest.fixture
def server() -> Iterator[FileServer]:
    """The fixtures, below "in"."""
    files = {f"in/{path.name}": path.read_bytes() for path in HERE.iterdir() if path.is_file()}
    with FileServer(files) as server:
        yield server


def test_everything_on_the_server(server: FileServer) -> None:
    store = ReferenceStore(f"{server.url}/in/weather.json", storage_options=OPTIONS)
    assert [seen.key for seen in server.seen] == ["in/weather.json"]
    server.forget()
    array = gpuzarr.open_array(store, path="rain", device="cpu")
    assert not server.seen
    np.testing.assert_array_equal(array[...], values.rain())
    # 12 chunks that lie side by side, and nothing but them.
    (seen,) = server.seen
    assert seen.key == "in/weather.nc"
    first, last = map(int, (seen.range or "").split("-"))
    assert last - first < 2000


def test_a_document_here_for_a_file_there(server: FileServer) -> None:
    document = json.loads((HERE / "weather.json").read_text().replace("weather.nc", "{{u}}"))
    document["templates"] = {"u": f"{server.url}/in/weather.nc"}
    store = ReferenceStore.from_document(document, storage_options={"target_options": HTTP})
    group = gpuzarr.open_group(store, device="cpu")
    for name, expected in (("temperature", values.temperature()), ("height", values.height())):
        array = group[name]
        assert isinstance(array, gpuzarr.Array)
        np.testing.assert_array_equal(array[...], expected)
    gone = {"k": [f"{server.url}/in/gone.nc", 0, 5]}
    for options in ({"target_options": HTTP}, {"remote_options": HTTP}):
        with pytest.raises(StoreError, match=r"gone\.nc"):
            ReferenceStore.from_document(gone, storage_options=options).read("k")
