"""A cache's folder that is not as it was left: other documents, names, links, and no files."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import google_crc32c
import pytest

from gpuzarr.stores.cached.store import CachedStore
from gpuzarr.stores.store import WHOLE, Blob
from tests.stores.counting import CountingStore

from .test_folder import KEY, VALUE, far, files, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr.stores.store import Buffer

__all__ = ["far"]  # a fixture


@pytest.fixture
def kept(far: CountingStore, tmp_path: Path) -> Path:
    """The only file of a cache in `tmp_path`, of which `far` is asked for nothing."""
    read(CachedStore(far, 10**6, tmp_path), 0, 1000)
    far.take()
    (path,) = files(tmp_path)
    return path


def rewrite(path: Path, **members: object) -> None:
    """Other members in the document of a file of one block, and its checksum right."""
    data = path.read_bytes()
    nbytes = int.from_bytes(data[12:16], "little")
    document = {**json.loads(data[16 : 16 + nbytes]), **members}
    text = json.dumps(document).encode()
    head = len(text).to_bytes(4, "little") + text + data[16 + nbytes : 20 + nbytes]
    checksum = google_crc32c.value(head).to_bytes(4, "little")
    path.write_bytes(data[:8] + checksum + head + data[20 + nbytes :])


@pytest.mark.parametrize(
    "members",
    [
        {"start": 0.0},
        {"stop": 1000.0},
        {"start": False},
        {"size": 300_000.0},
        {"size": None},
        {"validator": [1]},
        {"validator": {"tuple": [[1]]}},
        {"validator": {"bytes": 5}},
        {"validator": {"x": 1}},
    ],
    ids=str,
)
def test_documents_of_other_types(
    members: dict[str, object], far: CountingStore, kept: Path, tmp_path: Path
) -> None:
    """Some were equal to what was expected, and then could not be counted with."""
    rewrite(kept, **members)
    store = CachedStore(far, 10**6, tmp_path)
    assert read(store, 10, 20) == VALUE[10:30]
    assert len(far.take()[0]) == 1
    assert read(store, 10, 20) == VALUE[10:30]
    assert far.take()[0] == []


@pytest.mark.parametrize(
    "name",
    [
        *("x", "a_b", "0_1_2_3_4", "0_1000_a_{v}", "0_1000_-5_{v}", "0_1000_500_{v}", "0_1000_x_v"),
        *("1_0_x_{v}", "0_" + "9" * 100 + "_x_{v}", "0_2000_300000_{v}", "-9_0_x_{v}"),
        "0_1000_x_{v}",
    ],
)
@pytest.mark.parametrize("remains", [False, True])
def test_other_names(
    name: str, far: CountingStore, kept: Path, tmp_path: Path, *, remains: bool
) -> None:
    """Some ended a read with a ValueError; a wrong size cut the object."""
    other = kept.with_name(name.format(v=kept.name.rpartition("_")[2]))
    other.write_bytes(kept.read_bytes())
    if not remains:
        kept.unlink()
    for offset, nbytes in [(0, WHOLE), (0, 1000), (-9, WHOLE), (500, 1000)]:
        expected = VALUE[offset:] if nbytes == WHOLE else VALUE[offset : offset + nbytes]
        assert read(CachedStore(far, 10**6, tmp_path), offset, nbytes) == expected


def test_ranges_of_two_versions_are_not_joined(far: CountingStore, tmp_path: Path) -> None:
    """Where the second has the name that belongs to the first one's version."""
    store = CachedStore(far, 10**6, tmp_path)
    read(store, 0, 1000)
    (first,) = files(tmp_path)
    old, version = first.read_bytes(), first.name.rpartition("_")[2]
    far.put(KEY, bytes(len(VALUE)))
    read(store, 1000, 1000)
    (second,) = files(tmp_path)
    second.rename(second.with_name(f"1000_2000_300000_{version}"))
    first.write_bytes(old)
    blob = CachedStore(far, 10**6, tmp_path).read(KEY, 500, 1000)
    assert blob is not None
    assert (bytes(blob.data), blob.validator) == (bytes(1000), "v1")


def test_folders_that_are_links_are_left_alone(
    far: CountingStore, kept: Path, tmp_path: Path
) -> None:
    """What they lead to was read, and removed where room was needed."""
    for folder in (kept.parent, kept.parent.parent):
        outside = tmp_path / f"outside-{folder.name}"
        folder.rename(outside)
        folder.symlink_to(outside)
        before = sorted(outside.rglob("*"))
        store = CachedStore(far, 2000, tmp_path)
        assert read(store, 0, 1000) == VALUE[:1000]
        assert len(far.take()[0]) == 1
        store.clear(KEY)
        for start in range(0, 5000, 1000):
            read(store, start, 1000, "a/c/1")
        far.take()
        assert sorted(outside.rglob("*")) == before
        folder.unlink()
        outside.rename(folder)
    assert read(CachedStore(far, 10**6, tmp_path), 0, 1000) == VALUE[:1000]
    assert far.take()[0] == []


@pytest.mark.parametrize("what", ["pipe", "folder", "link", "other name"])
@pytest.mark.parametrize("place", ["range", "partial", "lock"])
def test_what_is_no_file_of_ours_is_not_waited_for_nor_written_to(
    what: str, place: str, far: CountingStore, kept: Path, tmp_path: Path
) -> None:
    path = kept if place == "range" else tmp_path / "gpuzarr-cache" / place
    path.unlink(missing_ok=True)
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    match what:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(precious)
        case _:
            path.hardlink_to(precious)
    for start, nbytes in ((0, 1000), (0, 100_000), (50_000, 100_000)):
        store = CachedStore(far, 10**6, tmp_path)
        assert read(store, start, nbytes) == VALUE[start : start + nbytes]
    assert precious.read_bytes() == b"mine"


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("change", [-1, 1])
def test_answers_of_another_length_are_not_kept(
    change: int, tmp_path: Path, *, in_memory: bool
) -> None:
    """One that was cut in passing was served from memory for ever."""

    class Once(CountingStore):
        """Whose first answer is too short or too long."""

        def _answer(
            self, key: str, offset: int, nbytes: int, allocate: Callable[[int], Buffer]
        ) -> Blob | None:
            blob = super()._answer(key, offset, nbytes, allocate)
            if blob is None or len(self.requests) > 1:
                return blob
            data = bytes(blob.data) + b"x"
            return blob._replace(data=memoryview(data[: len(blob.data) + change]))

    far = Once({KEY: VALUE})
    store = CachedStore(far, 10**6, None if in_memory else tmp_path)
    wrong = read(store)
    assert wrong is not None
    assert len(wrong) == len(VALUE) + change
    assert read(store) == VALUE
    assert read(store) == VALUE
    assert len(far.take()[0]) == 2
