"""Ranges that are read one behind another: what `read` gives, or left to `read`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cpu.fetcher import EncodedMemory
from gpuzarr.errors import StoreError
from gpuzarr.stores import files, local, uring
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.store import WHOLE, Blob, Store, row_reader
from tests.open_files import open_files
from tests.stores.rows import never, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuzarr.stores.store import Wanted

OBJECTS = {"a/c/0": b"first", "a/c/1": b"", "a/c/2": bytes(range(200)), "a/c/3": b"third" * 1000}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for key, data in OBJECTS.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)
    return root


@pytest.fixture(autouse=True)
def _descriptors_are_closed() -> Iterator[None]:
    before = open_files()
    yield
    assert open_files() <= before


def opened(root: Path, **options: Any) -> LocalStore:
    """A store that knows the folder."""
    store = LocalStore(root, **options)
    assert store.read("a/c/0") is not None
    return store


def whole(*keys: str) -> list[Wanted]:
    return [(key, 0, WHOLE, None) for key in keys]


def validator_of(store: Store, key: str) -> Any:
    blob = store.read(key)
    assert blob is not None
    return blob.validator


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*OBJECTS, "a/c/9", "a/c", "b/0"]),
            st.integers(-3, 250),
            st.integers(-1, 250),
            st.sampled_from(["unknown", "right", "wrong"]),
        ),
        max_size=6,
    )
)
def test_it_gives_what_read_gives(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[str, int, int, str]]
) -> None:
    root = tmp_path_factory.getbasetemp() / "read-row"
    for key, data in OBJECTS.items():
        if not (root / key).exists():
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(data)
    store = opened(root)
    wanted: list[Wanted] = []
    expected: list[bytes | None] = []
    for key, offset, nbytes, validator in asked:
        right = store.read(key) if key in OBJECTS else None
        expects = {"unknown": None, "wrong": (1, 2)}.get(validator, right and right.validator)
        wanted.append((key, offset, nbytes, expects))
        try:
            blob = store.read(key, offset, nbytes)
        except StoreError:
            blob = None
        usual = blob is not None and offset >= 0 and expects in {None, blob.validator}
        expected.append(bytes(blob.data) if blob is not None and usual else None)
    found = rows(store, wanted)
    assert found == expected[: len(found)]
    # It ends at the first that is unusual, and not before.
    assert len(found) == len(expected) or expected[len(found)] is None


def test_many_ranges_of_one_file_open_it_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(root)
    names: list[str] = []
    real = os.open

    def count(path: str, *others: Any) -> int:
        names.append(Path(path).name)
        return real(path, *others)

    monkeypatch.setattr(os, "open", count)
    wanted: list[Wanted] = [("a/c/2", 5 * i, 3, None) for i in range(20)]
    data = OBJECTS["a/c/2"]
    assert rows(store, wanted) == [data[5 * i : 5 * i + 3] for i in range(20)]
    assert names == ["2"]
    monkeypatch.setattr(uring, "LEAST_FILES", 1 << 30)
    rows(store, whole("a/c/0", "a/c/0", "a/c/1", "a/c/0"))
    assert names == ["2", "0", "1", "0"]


@pytest.mark.parametrize("what", ["missing", "folder", "pipe", "link", "link away", "dangling"])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_it_ends_where_read_has_to_look(root: Path, what: str, place: int) -> None:
    odd = root / "a" / "c" / "odd"
    (root.parent / "outside").write_bytes(b"outside")
    match what:
        case "folder":
            odd.mkdir()
        case "pipe":
            os.mkfifo(odd)
        case "link":
            odd.symlink_to("0")
        case "link away":
            odd.symlink_to(root.parent / "outside")
        case "dangling":
            odd.symlink_to("nowhere")
    good = list(OBJECTS)
    keys = [*good[:place], "a/c/odd", *good[place:]]
    assert rows(opened(root), whole(*keys)) == [OBJECTS[key] for key in good[:place]]


def test_links_are_followed_where_read_follows_them(root: Path) -> None:
    (root.parent / "outside").write_bytes(b"outside")
    (root / "a" / "c" / "away").symlink_to(root.parent / "outside")
    store = opened(root, follow_symlinks=True)
    assert rows(store, whole("a/c/away", "a/c/0")) == [b"outside", b"first"]


def test_a_folder_that_was_not_looked_at_is_left_to_read(root: Path) -> None:
    (root / "b").symlink_to(root / "a")
    (root.parent / "z" / "c").mkdir(parents=True)
    (root.parent / "z" / "c" / "0").write_bytes(b"outside")
    (root / "z").symlink_to(root.parent / "z")
    store = LocalStore(root)
    for key in ["a/c/0", "b/c/0", "z/c/0"]:
        assert rows(store, whole(key)) == []
    with pytest.raises(StoreError, match="outside of the store"):
        store.read("z/c/0")
    assert rows(store, whole("z/c/0")) == []
    store.read("b/c/0")
    assert rows(store, whole("b/c/0")) == [b"first"]


@pytest.mark.parametrize(
    "key", ["..", ".", "a/c/..", "a/c/.", "a/c/", "", "/", "a//c/0", "../outside", "a/c/x\\y",
            "a/c/0\0", "a/c/../../../outside", "/etc/passwd"],
)  # fmt: skip
def test_odd_keys_are_left_to_read(root: Path, key: str) -> None:
    (root.parent / "outside").write_bytes(b"outside")
    assert rows(opened(root), whole(key, "a/c/0")) == []


def test_files_of_the_root_are_in_a_known_folder(root: Path) -> None:
    (root / "0.0").write_bytes(b"flat")
    assert rows(opened(root), whole("0.0", "a/c/0")) == [b"flat", b"first"]
    (root / "0.1").symlink_to(root.parent / "outside")
    (root.parent / "outside").write_bytes(b"outside")
    assert rows(opened(root), whole("0.1")) == []


def test_a_file_that_is_another_now(root: Path) -> None:
    store = opened(root)
    old = validator_of(store, "a/c/0")
    assert rows(store, [("a/c/0", 0, 5, old), ("a/c/0", 1, 2, old)]) == [b"first", b"ir"]
    (root / "a/c/0").write_bytes(b"FIRST and more")
    assert rows(store, [("a/c/2", 0, 1, None), ("a/c/0", 0, 5, old)]) == [b"\0"]
    new = validator_of(store, "a/c/0")
    assert rows(store, [("a/c/0", 0, 5, new)]) == [b"FIRST"]
    os.utime(root / "a/c/0", ns=(7, 7))
    assert rows(store, [("a/c/0", 0, 5, new)]) == []


def test_a_file_that_becomes_shorter_meanwhile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(root)
    real = files.read_at

    def short(descriptor: int, memory: memoryview, offset: int, waits: files.Waits) -> int:
        return real(descriptor, memory[: min(len(memory), 7)], offset, waits)

    monkeypatch.setattr(local, "read_at", short)
    assert rows(store, whole("a/c/0", "a/c/2", "a/c/0")) == [b"first"]


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("what", ["open", "fstat", "read_at"])
def test_failures_are_left_to_read(
    root: Path, monkeypatch: pytest.MonkeyPatch, what: str, place: int
) -> None:
    store = opened(root)
    calls: list[None] = []
    where: Any = local if what == "read_at" else os
    real = getattr(where, what)

    def fail(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) > place:
            raise OSError(5, "broken")
        return real(*arguments)

    monkeypatch.setattr(where, what, fail)
    found = rows(store, whole(*OBJECTS))
    monkeypatch.undo()
    assert found == list(OBJECTS.values())[:place]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_descriptors_are_closed_whatever_happens(root: Path, error: type[BaseException]) -> None:
    store = opened(root)

    class Failing(EncodedMemory):
        def allocate(self, nbytes: int) -> memoryview:
            if nbytes == 200:
                raise error
            return super().allocate(nbytes)

    before = open_files()
    # Whether it ends there or passes the error on, for `read` to tell.
    try:
        ends = store.read_row(whole(*OBJECTS), Failing(), never)
    except error:
        ends = [5, 5]
    assert ends == [5, 5]
    assert open_files() == before

    def stop() -> bool:
        raise error

    with suppress(error):
        store.read_row(whole(*OBJECTS), EncodedMemory(), stop)
    assert open_files() == before


def test_it_stops_when_told(root: Path) -> None:
    asked: list[None] = []

    def stopped() -> bool:
        asked.append(None)
        return len(asked) == 2

    assert rows(opened(root), whole(*OBJECTS), stopped) == [b"first", b""]
    assert len(asked) == 2


def test_only_what_is_wanted_is_taken_from_the_iterator(root: Path) -> None:
    taken: list[str] = []

    def wanted() -> Iterator[Wanted]:
        for key in ["a/c/0", "a/c/odd", "a/c/2"]:
            taken.append(key)
            yield key, 0, WHOLE, None

    assert rows(opened(root), wanted()) == [b"first"]
    assert taken == ["a/c/0", "a/c/odd"]


# Which stores have it


class Logged(LocalStore):
    def read(self, *arguments: Any, **more: Any) -> Blob | None:
        return super().read(*arguments, **more)


class Named(LocalStore):
    """Nothing about reading is its own."""


class Mixin:
    def read(self, *_: Any, **__: Any) -> Blob | None:
        return None


class Mixed(Mixin, Named):
    """Reads as `Mixin` does."""


class Again(Logged):
    def read_row(self, *_: Any) -> list[int]:
        return []


class Wrapper(Store):
    """Hands on what it does not have itself."""

    name = "wrapper"

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, *_: Any, **__: Any) -> Blob | None:
        return None

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        return self._store.list(prefix)


def test_a_store_with_another_read_is_not_bypassed(root: Path) -> None:
    store = LocalStore(root)
    assert row_reader(store) == store.read_row
    assert row_reader(Named(root)) is not None
    assert row_reader(Again(root)) is not None
    for other in (Logged(root), Mixed(root), Wrapper(store), MappingStore({})):
        assert row_reader(other) is None
    vars(store)["read"] = Logged(root).read
    assert row_reader(store) is None


def test_reads_that_are_started_have_it_too(root: Path) -> None:
    for kind, has in ((LocalStore, True), (Logged, False)):
        reads = kind(root).start_reads(["a/c/0"], [0], [WHOLE])
        assert (getattr(reads, "read_row", None) is not None) is has
