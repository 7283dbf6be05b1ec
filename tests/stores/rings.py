"""Small files, and rings to read them with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.stores import uring
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.store import WHOLE
from gpuzarr.stores.uring import FILES, Ring, Rings
from tests.open_files import open_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HAS_RINGS = uring.rings.work()
needs_rings = pytest.mark.skipif(not HAS_RINGS, reason="no io_uring here")

COUNT = 3 * FILES + 5
USUAL = 400


def data_of(number: int) -> bytes:
    return bytes([number % 256]) * (1 + 37 * number % USUAL)


def whole(*numbers: int) -> list[Any]:
    return [(f"c/{number}", 0, WHOLE, None) for number in numbers]


@pytest.fixture(autouse=True)
def own_rings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has rings of its own, and nothing stays open or busy."""
    monkeypatch.setattr(uring, "rings", Rings())
    monkeypatch.setattr(uring, "LEAST_FILES", 4)
    before = open_files()
    yield
    assert open_files() == before


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store that knows its folder, and how large its files are."""
    (tmp_path / "c").mkdir()
    for number in range(COUNT):
        (tmp_path / "c" / f"{number}").write_bytes(data_of(number))
    return opened(tmp_path)


def opened(root: Path, usual: int = USUAL, **options: Any) -> LocalStore:
    store = LocalStore(root, **options)
    store.read("c/8")
    store._manner.nbytes = usual  # noqa: SLF001
    return store


def unused() -> list[Ring]:
    """Rings that wait for the next read."""
    return list(uring.rings._free)  # noqa: SLF001


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each call read."""
    assert uring.rings.work() == HAS_RINGS
    counts: list[int] = []
    real = Ring.read

    def counted(ring: Ring, *arguments: Any) -> Any:
        found = real(ring, *arguments)
        counts.append(len(found))
        return found

    monkeypatch.setattr(Ring, "read", counted)
    return counts
