"""Where references point to: paths, URLs, what is allowed, and what is wrong with the files."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest

from gpuzarr.errors import (
    GpuzarrError,
    MetadataError,
    NotFoundError,
    StoreError,
    UnsupportedError,
)
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.references import files as references_files
from gpuzarr.stores.references import store as references
from gpuzarr.stores.references.store import ReferenceStore
from gpuzarr.stores.store import WHOLE
from tests.open_files import open_files

from .values import DATA, value_of


def no_memory(nbytes: int) -> bytearray:
    raise AssertionError(f"{nbytes} bytes were allocated")


def document(url: str, *place: int) -> dict[str, Any]:
    return {"version": 1, "refs": {"k": [url, *place]}}


# Local files


def test_relative_paths_start_from_the_reference_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = folder / "in" / "refs.json"
    refs.write_text(json.dumps(document("../in/data.nc", 5, 5)))
    for path in (refs, str(refs), refs.as_uri()):
        assert value_of(ReferenceStore(path)) == DATA[5:10]
    monkeypatch.chdir(folder / "in")
    store = ReferenceStore("refs.json")
    from_now = ReferenceStore.from_document(document("data.nc", 1, 2))
    monkeypatch.chdir("/")
    assert value_of(store) == DATA[5:10]
    assert value_of(from_now) == DATA[1:3]
    assert store.name == str(refs)


def test_file_urls(folder: Path) -> None:
    odd = folder / "a name %20.nc"
    odd.write_bytes(DATA)
    for url in (odd.as_uri(), f"file://localhost{odd.as_uri()[7:]}", str(odd)):
        assert value_of(ReferenceStore.from_document(document(url))) == DATA
    with pytest.raises(StoreError, match="no file of this machine"):
        ReferenceStore.from_document(document("file://other/x.nc")).read("k")


def test_a_missing_target_is_damage_and_not_a_missing_chunk(folder: Path) -> None:
    for place in ((), (0, 5), (0, 0)):
        store = ReferenceStore.from_document(document("in/gone.nc", *place), base=folder)
        with pytest.raises(StoreError, match=r"there is no file .*gone\.nc") as caught:
            store.read("k")
        assert caught.value.key == "k"
        assert caught.value.store == store.name
        assert store.read("other") is None
        if not place:
            with pytest.raises(StoreError, match=r"gone\.nc"):
                store.size("k")


@pytest.mark.parametrize("place", [(190, 11), (201, 0), (2**62, 5), (2**63 - 1, 2**63 - 1)])
def test_ranges_beyond_the_file_are_errors(folder: Path, place: tuple[int, int]) -> None:
    store = ReferenceStore.from_document(document("in/data.nc", *place), base=folder)
    with pytest.raises(StoreError, match="the object has 200") as caught:
        store.read("k", allocate=no_memory)
    assert caught.value.key == "k"


def test_no_range_of_a_reference_reaches_out_of_it(folder: Path) -> None:
    store = ReferenceStore.from_document(document("in/data.nc", 50, 10), base=folder)
    for wanted in ((0, 11), (11, WHOLE), (10, 1), (-4, 5)):
        with pytest.raises(StoreError):
            store.read("k", *wanted)
    blob = store.read("k", -100, WHOLE)
    assert blob is not None
    assert (bytes(blob.data), blob.size) == (DATA[50:60], 10)
    assert store.size("k") == 10
    assert store.path_of("k") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files on this system")
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_only_regular_files_are_read(folder: Path, kind: str) -> None:
    path = {"folder": folder / "in", "pipe": folder / "pipe", "device": Path("/dev/zero")}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    store = ReferenceStore.from_document(document(str(path), 0, 5))
    with pytest.raises(StoreError, match="not a regular file"):
        store.read("k")


def test_a_file_that_is_not_ours_to_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", refuse)
    store = ReferenceStore.from_document(document("in/data.nc"), base=folder)
    with pytest.raises(StoreError, match="permission denied"):
        store.read("k")


def test_a_file_that_changes_has_another_validator(folder: Path) -> None:
    store = ReferenceStore.from_document(document("in/data.nc", 0, 100), base=folder)
    before = store.read("k")
    path = folder / "in" / "data.nc"
    os.utime(path, ns=(1, 1))
    after = store.read("k")
    assert before is not None
    assert after is not None
    assert before.validator != after.validator
    with path.open("r+b") as file:
        file.truncate(60)
    with pytest.raises(StoreError, match="the object has 60"):
        store.read("k")


def test_few_files_are_open_at_a_time(folder: Path) -> None:
    count = 3 * references_files.MOST_OPEN
    refs = {}
    for number in range(count):
        (folder / f"{number}.nc").write_bytes(DATA[number:])
        refs[f"k/{number}"] = [f"{number}.nc", 0, 10]
    before = open_files()
    store = ReferenceStore.from_document(refs, base=folder)
    for _ in range(2):
        for number in range(count):
            assert value_of(store, f"k/{number}") == DATA[number : number + 10]
    if before:
        assert before < open_files() <= before + references_files.MOST_OPEN
    del store
    assert open_files() == before


def test_descriptors_are_given_back_where_they_are_short(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "more.nc").write_bytes(DATA)
    refs = {"k": ["in/data.nc", 0, 1], "more": ["more.nc", 1, 1]}
    store = ReferenceStore.from_document(refs, base=folder)
    assert value_of(store) == DATA[:1]
    real, failures = os.open, [errno.EMFILE]

    def short(*arguments: Any) -> int:
        if failures:
            raise OSError(failures.pop(), "too many")
        return real(*arguments)

    monkeypatch.setattr(os, "open", short)
    assert value_of(store, "more") == DATA[1:2]
    failures += [errno.EMFILE] * 2
    with pytest.raises(StoreError, match="too many files are open"):
        value_of(store)


# Other stores


def test_a_store_a_bucket_is_opened_once_and_when_it_is_needed(opened: dict[str, Any]) -> None:
    opened["s3://bucket"] = MappingStore({"a b/%20.nc": DATA})
    opened["https://host:8080"] = MappingStore({"a b/c.nc": DATA[::-1]})
    refs = {
        "s": ["s3://bucket/a b/%20.nc", 1, 2],
        "t": ["S3://bucket/a b/%20.nc"],
        "h": ["https://HOST:8080/a%20b/c.nc", 0, 3],
    }
    options = {"target_options": {"s3": {"anon": True}, "https": {}}}
    store = ReferenceStore.from_document(refs, storage_options=options)
    assert "times" not in opened
    for _ in range(2):
        assert value_of(store, "s") == DATA[1:3]
        assert value_of(store, "t") == DATA
        assert value_of(store, "h") == DATA[:-4:-1]
    assert opened["times"] == 2
    assert opened["options of s3://bucket"] == {"anon": True}
    assert opened["options of https://host:8080"] == {}
    assert store.size("t") == len(DATA)


def test_fsspecs_names_for_options(opened: dict[str, Any]) -> None:
    opened["s3://bucket"] = MappingStore({"a.nc": DATA})
    options = {
        "remote_protocol": "s3",
        "remote_options": {"anon": True},
        "target_protocol": "file",
    }
    store = ReferenceStore.from_document(document("bucket/a.nc"), storage_options=options)
    assert value_of(store) == DATA
    assert opened["options of s3://bucket"] == {"anon": True}
    for wrong in (
        {"target_options": {"a": 1}, "remote_options": {"a": 2}},
        {"target_options": "anon"},
        {"region": "here"},
    ):
        with pytest.raises(UnsupportedError):
            ReferenceStore.from_document({}, storage_options=wrong)


def test_a_missing_object_is_damage(opened: dict[str, Any]) -> None:
    opened["s3://bucket"] = MappingStore({})
    store = ReferenceStore.from_document(document("s3://bucket/a.nc"))
    pending = store.start_reads(["k"], [0], [WHOLE])
    for read in (lambda: store.read("k"), lambda: pending.result(0), lambda: store.size("k")):
        with pytest.raises(StoreError, match=r"there is no 'a\.nc' in") as caught:
            read()
        assert caught.value.key == "k"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("", StoreError),
        ("a\0b", StoreError),
        ("half of a pair \ud800", StoreError),
        ("kept.bin/", StoreError),
        ("https://host/folder/", StoreError),
        ("a/" * 5000, StoreError),
        ("s3://bucket/../x", StoreError),
        ("s3://bucket/a//x", StoreError),
        ("s3://bucket", StoreError),
        ("https://host/a/%2e%2e/%2e%2e/x", StoreError),
        ("https://host/a?signature=1", UnsupportedError),
        ("simplecache::s3://bucket/x", UnsupportedError),
    ],
)
def test_urls_that_name_nothing(
    url: str,
    error: type[GpuzarrError],
    opened: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept.bin").write_bytes(b"what nobody asked for")
    opened |= {"s3://bucket": MappingStore({}), "https://host": MappingStore({})}
    with pytest.raises(error):
        ReferenceStore.from_document(document(url)).read("k")
    assert "times" not in opened  # decided before anything is asked


@pytest.mark.parametrize("url", ["x" * 5000, "a/" * 3000, "s3://bucket/" + "x" * (8 << 20)])
def test_urls_that_are_far_too_long(url: str) -> None:
    """They were named in full, and remembered."""
    store = ReferenceStore.from_document({"k": [url], "part": [url, 0, 4]})
    for key in ("k", "part"):
        with pytest.raises(StoreError, match="characters; at most 4096 are read") as caught:
            store.read(key)
        assert len(str(caught.value)) < 1000


def test_a_scheme_that_nobody_opens() -> None:
    with pytest.raises(UnsupportedError, match="nobody"):
        ReferenceStore.from_document(document("nobody://knows/this")).read("k")


# Reference files


def test_reference_files_that_are_none(folder: Path) -> None:
    with pytest.raises(NotFoundError):
        ReferenceStore(folder / "none.json")
    (folder / "bad.json").write_text("{")
    with pytest.raises(MetadataError) as caught:
        ReferenceStore(folder / "bad.json")
    assert caught.value.store == str(folder / "bad.json")
    with pytest.raises(UnsupportedError, match="no use for region"):
        ReferenceStore(folder / "bad.json", storage_options={"region": "x"})


def test_a_large_reference_file_is_refused_before_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "DOCUMENT_NBYTES", 10)
    (folder / "large.json").write_text(json.dumps(document("in/data.nc")))
    with pytest.raises(StoreError, match="no more than 10 are expected"):
        ReferenceStore(folder / "large.json")


def test_pickles_by_path_or_by_document(folder: Path) -> None:
    refs = folder / "refs.json"
    refs.write_text(json.dumps({f"key {i}": "x" * 100 for i in range(100)} | {"k": ["in/data.nc"]}))
    store = ReferenceStore(refs, allowed_targets=[folder])
    data = pickle.dumps(store)
    assert len(data) < 500
    again = pickle.loads(data)  # noqa: S301  our own
    assert value_of(again) == DATA
    assert repr(again) == repr(store) == f"ReferenceStore({str(refs)!r})"
    held = ReferenceStore.from_document(document("data.nc"), base=folder / "in", name="held")
    twin = pickle.loads(pickle.dumps(held))  # noqa: S301  our own
    assert value_of(twin) == DATA
    assert twin.name == "held"


def test_the_reference_file_may_be_a_pipe_or_worse(folder: Path) -> None:
    if not hasattr(os, "mkfifo"):
        return
    os.mkfifo(folder / "pipe.json")
    assert stat.S_ISFIFO((folder / "pipe.json").stat().st_mode)
    with pytest.raises(StoreError, match="not a regular file"):
        ReferenceStore(folder / "pipe.json")
