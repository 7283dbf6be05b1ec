"""Symbolic links in a directory: out of the root, inside of it, to nowhere, in a circle."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from gpuzarr.errors import StoreError
from gpuzarr.stores import local
from gpuzarr.stores.local import LocalStore

if TYPE_CHECKING:
    from pathlib import Path

    from gpuzarr.stores.store import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "array" / "c").mkdir(parents=True)
    (root / "array" / "c" / "0").write_bytes(b"inside")
    (root / "array" / "zarr.json").write_bytes(b"{}")
    (tmp_path / "outside" / "c").mkdir(parents=True)
    (tmp_path / "outside" / "c" / "0").write_bytes(b"secret")
    (tmp_path / "rootless").write_bytes(b"secret")
    return root


def read(store: Store, key: str) -> bytes | None:
    blob = store.read(key)
    return None if blob is None else bytes(blob.data)


@pytest.mark.parametrize("without_nofollow", [False, True])
class TestLinks:
    @pytest.fixture(autouse=True)
    def _system(self, monkeypatch: pytest.MonkeyPatch, *, without_nofollow: bool) -> None:
        if without_nofollow:
            monkeypatch.setattr(local, "_NOFOLLOW", 0)

    def test_files_and_folders_that_leave_the_root_are_refused(self, root: Path) -> None:
        (root / "file").symlink_to("../outside/c/0")
        (root / "absolute").symlink_to(root.parent / "outside" / "c" / "0")
        (root / "folder").symlink_to(root.parent / "outside")
        (root / "sibling").symlink_to("../rootless")  # begins with the root's name
        (root / "up").symlink_to("..")
        store = LocalStore(root)
        for key in ["file", "absolute", "folder/c/0", "folder/missing", "sibling", "up/rootless"]:
            for ask in (store.read, store.path_of, store.size):
                with pytest.raises(StoreError, match="follow_symlinks=True") as caught:
                    ask(key)
                assert str(root) in str(caught.value)
        with pytest.raises(StoreError, match="outside of the store"):
            list(store.list("folder/c"))

    def test_following_is_a_choice(self, root: Path) -> None:
        (root / "file").symlink_to("../outside/c/0")
        (root / "folder").symlink_to("../outside")
        store = LocalStore(root, follow_symlinks=True)
        assert read(store, "file") == b"secret"
        assert read(store, "folder/c/0") == b"secret"
        assert store.path_of("file") == root.parent / "outside" / "c" / "0"
        assert list(store.list("folder/c")) == [("0", False)]

    def test_links_that_stay_inside_are_followed(self, root: Path) -> None:
        (root / "file").symlink_to("array/c/0")
        (root / "folder").symlink_to(root / "array")
        (root / "chain").symlink_to("folder")
        store = LocalStore(root)
        for key in ["file", "folder/c/0", "chain/c/0"]:
            assert read(store, key) == b"inside"
            assert store.path_of(key) == root / "array" / "c" / "0"
            assert store.size(key) == 6
        assert set(store.list("folder")) == {("c", True), ("zarr.json", False)}
        assert read(store, "folder/c/1") is None

    def test_links_that_lead_round_are_refused(self, root: Path) -> None:
        (root / "array" / "self").symlink_to("..")
        store = LocalStore(root)
        for key in ["array/self/array/c/0", "array/self/array/self/array/c/0"]:
            with pytest.raises(StoreError, match="leads round"):
                store.read(key)

    def test_a_chain_that_leaves_the_root_is_refused(self, root: Path) -> None:
        (root / "second").symlink_to("../outside")
        (root / "first").symlink_to("second")
        (root / "through").symlink_to("first/c/0")
        store = LocalStore(root)
        for key in ["first/c/0", "through"]:
            with pytest.raises(StoreError, match="outside of the store"):
                store.read(key)

    @pytest.mark.parametrize("follow_symlinks", [False, True])
    def test_a_link_to_nowhere_is_no_missing_chunk(
        self, root: Path, *, follow_symlinks: bool
    ) -> None:
        (root / "file").symlink_to("array/gone")
        (root / "folder").symlink_to("gone")
        store = LocalStore(root, follow_symlinks=follow_symlinks)
        for key in ["file", "folder/c/0"]:
            with pytest.raises(StoreError, match="does not exist"):
                store.read(key)

    @pytest.mark.parametrize("follow_symlinks", [False, True])
    def test_links_in_a_circle(self, root: Path, *, follow_symlinks: bool) -> None:
        (root / "a").symlink_to("b")
        (root / "b").symlink_to("a")
        (root / "me").symlink_to("me/x")
        store = LocalStore(root, follow_symlinks=follow_symlinks)
        for key in ["a", "b/c/0", "me", "me/x"]:
            with pytest.raises(StoreError):
                store.read(key)

    def test_the_root_itself_may_be_a_link(self, root: Path) -> None:
        link = root.parent / "link"
        link.symlink_to(root)
        store = LocalStore(link)
        assert store.name == str(link)
        assert read(store, "array/c/0") == b"inside"
        assert read(pickle.loads(pickle.dumps(store)), "array/c/0") == b"inside"  # noqa: S301
