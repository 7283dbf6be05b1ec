"""`gpuzarr verify`: what lies in a store and belongs to no array."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gpuzarr.cli.verify_found import First
from gpuzarr.cli.verify_keys import (
    BEYOND,
    NO_DOCUMENT,
    NO_NODE,
    NOT_LISTED,
    TEMPORARY,
    ChunkKeys,
    Stray,
    list_array,
)
from gpuzarr.metadata.model import ChunkKeyEncoding
from gpuzarr.plan.keys import chunk_key, chunk_keys
from gpuzarr.stores.memory import MappingStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr.cli.demo_data import DemoArray

    Run = Callable[..., tuple[int, str, str]]
    RunJson = Callable[..., tuple[int, Any]]

ENCODINGS = [
    ChunkKeyEncoding(name, separator, suffix)
    for name in ("default", "v2")
    for separator in ("/", ".")
    for suffix in ("", ".tiff")
]


def v3_document(shape: tuple[int, ...], chunks: tuple[int, ...]) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes"}],
        "fill_value": 0,
    }


def write_array(
    path: Path, shape: tuple[int, ...] = (4, 6), chunks: tuple[int, ...] = (2, 3), **changes: Any
) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "zarr.json").write_text(json.dumps(v3_document(shape, chunks) | changes))
    return path


def write(path: Path, data: bytes = b"\x01" * 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def notes(found: dict[str, Any]) -> dict[str, str]:
    return {note["key"]: note["reason"] for node in found["nodes"] for note in node["notes"]}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("counts", [(), (12,), (2, 11), (3, 1, 2)])
def test_keys_are_those_that_reads_use(encoding: ChunkKeyEncoding, counts: tuple[int, ...]) -> None:
    keys = ChunkKeys(encoding, counts)
    for coords in np.ndindex(*counts):
        key = chunk_key(coords, encoding)
        assert keys.find(key) == coords
        folder = key.rpartition("/")[0]
        while folder:
            assert keys.leads(folder)
            folder = folder.rpartition("/")[0]
    for bad in ["", "c", "0", "c/0.0", "c/-1", "c/01", "c/+1", "c/\u0661", "c//0", "x/0/0", "0 "]:
        found = keys.find(bad)
        assert found is None or chunk_key(found, encoding) == bad


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_listing_gives_all_chunks_and_nothing_else(encoding: ChunkKeyEncoding) -> None:
    counts = (3, 12)
    table = np.array(list(np.ndindex(*counts)))
    stored = dict.fromkeys(chunk_keys(table, encoding, "a"), b"") | {"a/zarr.json": b""}
    strays = {"a/x": b"", "a/c/9/0": b"", "a/9.9": b"", "a/notes/1": b"", "a/.zarray": b""}
    found: list[Stray] = []
    store = MappingStore(stored | strays)
    listed = list(list_array(store, "a", ChunkKeys(encoding, counts), 3, found.append))
    assert sorted(listed) == list(map(tuple, table.tolist()))
    assert {stray.key.rstrip("/") for stray in found} >= {"a/x", "a/9.9", "a/notes", "a/.zarray"}
    assert any(stray.key.startswith("a/c") for stray in found)
    assert len(found) == 5


def test_each_kind_is_named(tmp_path: Path, gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    array = write_array(tmp_path / "array")
    for key in ("c/0/0", "c/1/1"):
        write(array / key)
    strays = {
        "c/2/0": None,  # a folder beyond the grid is named as one
        "c/0/2": BEYOND,
        "c.0.1": 'a chunk under another key encoding: "default" with separator "."',
        "0/1": None,
        ".zarray": "metadata of Zarr v2, in a node of v3",
        "c/0/1.3f2a.partial": TEMPORARY,
        "c/0/0.__lock": TEMPORARY,
        "c/.~0": TEMPORARY,
        "README": "no key of this array",
        "c/1/1e3": "no key of this array",
        "more/and/more": None,
    }
    for key in strays:
        write(array / key)
    status, found = gpuzarr_json("verify", array)
    assert (status, found["ok"], found["stray_keys"]) == (0, True, len(strays))
    assert (found["stored"], found["missing"], found["bad_chunks"]) == (2, 2, 0)
    named = notes(found)
    assert len(named) == len(strays)
    for key, reason in strays.items():
        if reason is not None:
            assert named[key].startswith(reason)
    assert named["c/2/"] == BEYOND
    assert named["0/"].startswith('a chunk under another key encoding: "v2" with separator "/"')
    assert named["more/"] == "no key of this array"
    status, out, _ = gpuzarr("verify", array)
    assert status == 0
    assert "11 stray keys" in out
    assert "c/0/1.3f2a.partial" in out
    assert "2 not stored" in out
    assert gpuzarr("verify", array, "--strict")[0] == 1
    status, found = gpuzarr_json("verify", array, "--strict")
    assert (status, found["ok"], found["nodes"][0]["ok"]) == (1, False, True)


def test_strict_without_strays(arrays: dict[str, DemoArray], gpuzarr: Run) -> None:
    for array in arrays.values():
        assert gpuzarr("verify", array.path, "--strict")[0] == 0


def test_the_first_are_named_and_all_are_counted(tmp_path: Path, gpuzarr_json: RunJson) -> None:
    array = write_array(tmp_path / "array", (400,), (1,))
    for number in range(0, 400, 2):
        write(array / f"c/{number}", b"")  # too short
        write(array / f"x{number:04}", b"")
    status, found = gpuzarr_json("verify", array, "--most", "3")
    assert status == 1
    assert (found["bad_chunks"], found["stray_keys"], found["missing"]) == (200, 200, 200)
    node = found["nodes"][0]
    assert [failure["coords"] for failure in node["failures"]] == [[0], [2], [4]]
    assert [note["key"] for note in node["notes"]] == ["x0000", "x0002", "x0004"]


def test_things_that_are_kept_are_few() -> None:
    first: First[int] = First(5, lambda number: -number)
    for number in range(100_000):
        first.add(number)
        assert len(first._kept) <= 1010  # noqa: SLF001
    assert first.named == [99_999, 99_998, 99_997, 99_996, 99_995]
    assert first.count == 100_000


def test_groups(group: Path, gpuzarr_json: RunJson) -> None:
    write(group / "notes.txt")
    write(group / "empty" / "deep" / "file")
    write(group / ".zgroup", b'{"zarr_format": 2}')
    write(group / "inside" / ".nfs000001")
    status, found = gpuzarr_json("verify", group)
    assert status == 1  # for its damaged chunks
    assert notes(found) == {
        "notes.txt": "no key of this group",
        "empty/": NO_NODE,
        ".zgroup": "metadata of Zarr v2, in a node of v3",
        "inside/.nfs000001": TEMPORARY,
    }


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_and_what_is_there(
    zarr_format: int, tmp_path: Path, gpuzarr_json: RunJson
) -> None:
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "group.zarr"
    root = zarr.create_group(path, zarr_format=zarr_format)
    for name in ("a", "b", "c"):
        root.create_array(name, shape=(4,), chunks=(2,), dtype="u1")[:] = 1
    root.create_group("inner").create_array("d", shape=(4,), chunks=(2,), dtype="u1")[:] = 1
    import warnings  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python: consolidated metadata are no part of v3
        zarr.consolidate_metadata(path)
    status, found = gpuzarr_json("verify", path)
    assert (status, notes(found), found["missing"]) == (0, {}, 0)
    document = "zarr.json" if zarr_format == 3 else ".zarray"
    (path / "late").mkdir()
    (path / "a" / document).rename(path / "late" / document)  # moved, with no chunks
    status, found = gpuzarr_json("verify", path)
    assert status == 0
    assert notes(found) == {f"a/{document}": NO_DOCUMENT, "late/": NOT_LISTED}
    status, found = gpuzarr_json("verify", path, "--no-consolidated")
    assert {node["path"] for node in found["nodes"]} >= {"late", "b", "c", "inner/d"}
    assert notes(found) == {"a/": NO_NODE}


def test_strays_of_an_array_that_cannot_be_read(tmp_path: Path, gpuzarr_json: RunJson) -> None:
    array = write_array(tmp_path / "array", codecs=[{"name": "bytes"}, {"name": "unheard-of"}])
    write(array / "c" / "0" / "0")
    write(array / "left.tmp")
    status, found = gpuzarr_json("verify", array)
    assert status == 1
    assert found["nodes"][0]["errors"][0]["type"] == "UnsupportedError"
    assert notes(found) == {"left.tmp": TEMPORARY}
