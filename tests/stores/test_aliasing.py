"""Nothing is read to where the kernel's copies are slow, be it our memory or a caller's."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cpu.fetcher import EncodedMemory
from gpuzarr.engines.cpu.prepared import new_bytes
from gpuzarr.stores import aliasing, files
from gpuzarr.stores.aliasing import LEAST_NBYTES, LINE_NBYTES, PAGE_NBYTES, PIECE_NBYTES, SLOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(not hasattr(os, "preadv"), reason="this system has no preadv")

NBYTES = 3 * PIECE_NBYTES + 1234


def address(memory: Any) -> int:
    return int(np.frombuffer(memory, np.uint8).ctypes.data)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor of that kind."""
    monkeypatch.setattr(aliasing, "_may_be_slow", lambda: True)


@pytest.fixture
def data(tmp_path: Path) -> NDArray[np.uint8]:
    values = np.random.default_rng(0).integers(0, 256, NBYTES, np.uint8)
    (tmp_path / "file").write_bytes(values.tobytes())
    return values


@pytest.fixture
def descriptor(tmp_path: Path, data: NDArray[np.uint8]) -> Iterator[int]:
    del data
    number = os.open(tmp_path / "file", os.O_RDONLY | getattr(os, "O_BINARY", 0))
    yield number
    os.close(number)


@pytest.fixture
def place() -> memoryview:
    """It begins at a page."""
    return memoryview(mmap.mmap(-1, NBYTES + 2 * PAGE_NBYTES))


@pytest.fixture
def distances(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How far behind their sources, within a page, reads of files have put what they read."""
    found: list[int] = []
    once: Callable[[int, memoryview, int], int] = files.read_vectored

    def read_once(descriptor: int, memory: memoryview, offset: int) -> int:
        found.append((address(memory) - offset) % PAGE_NBYTES)
        return once(descriptor, memory, offset)

    monkeypatch.setattr(files, "_read_once", read_once)
    return found


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("offset", [0, 1, 16, 4095, 5000])
@pytest.mark.parametrize("distance", [-1, 0, 1, 16, 31, 32, 64])
def test_no_read_is_slow(
    descriptor: int,
    data: NDArray[np.uint8],
    place: memoryview,
    distances: list[int],
    offset: int,
    distance: int,
) -> None:
    begin = (offset + distance) % PAGE_NBYTES
    memory = place[begin : begin + NBYTES - offset]
    assert aliasing.is_slow(memory, offset) == (1 <= distance <= 31)
    assert files.read_at(descriptor, memory, offset) == NBYTES - offset
    assert bytes(memory) == data[offset:].tobytes()
    assert not any(place[:begin])
    assert not any(place[begin + len(memory) :])
    assert distances
    assert not set(distances) & set(SLOW)
    pieces = -(-len(memory) // PIECE_NBYTES)
    assert len(distances) == (pieces if 1 <= distance <= 31 else 1)


@pytest.mark.usefixtures("slow")
def test_files_that_end_early_are_read_to_their_end(
    descriptor: int, data: NDArray[np.uint8], place: memoryview
) -> None:
    begin = 16
    memory = place[begin : begin + NBYTES]
    assert files.read_at(descriptor, memory, PAGE_NBYTES) == NBYTES - PAGE_NBYTES
    assert bytes(memory[: NBYTES - PAGE_NBYTES]) == data[PAGE_NBYTES:].tobytes()
    assert files.read_at(descriptor, memory, NBYTES + begin) == 0


@pytest.mark.usefixtures("slow")
def test_reads_that_give_less_go_on(
    descriptor: int, data: NDArray[np.uint8], place: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = files.read_vectored
    sizes: list[int] = []

    def read_little(descriptor: int, memory: memoryview, offset: int) -> int:
        sizes.append(len(memory))
        return once(descriptor, memory[:50_001], offset)

    monkeypatch.setattr(files, "_read_once", read_little)
    assert files.read_at(descriptor, place[16 : 16 + NBYTES], 0) == NBYTES
    assert bytes(place[16 : 16 + NBYTES]) == data.tobytes()
    assert len(sizes) == -(-NBYTES // 50_001)
    assert max(sizes) == PIECE_NBYTES


@pytest.mark.usefixtures("slow")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_reads_through_memory_of_its_own(
    descriptor: int, data: NDArray[np.uint8], place: memoryview
) -> None:
    memory = place[16 : 16 + PIECE_NBYTES]
    files.read_at(descriptor, memory, 0)  # this thread has its piece
    once, children = files.read_vectored, list[int]()

    def read_and_fork(descriptor: int, piece: memoryview, offset: int) -> int:
        count = once(descriptor, piece, offset)
        child = os.fork()
        if child == 0:
            piece[:] = bytes(len(piece))
            os._exit(0)
        children.append(os.waitpid(child, 0)[1])
        return count

    assert aliasing.read_elsewhere(read_and_fork, descriptor, memory, 0) == PIECE_NBYTES
    assert bytes(memory) == data[:PIECE_NBYTES].tobytes()
    assert children == [0]


@pytest.mark.usefixtures("slow")
def test_errors_pass(place: memoryview) -> None:
    with pytest.raises(OSError, match="descriptor"):
        files.read_at(-1, place[16 : 16 + LEAST_NBYTES], 0)


@pytest.mark.usefixtures("slow")
def test_small_reads_are_not_looked_at(
    descriptor: int, place: memoryview, distances: list[int]
) -> None:
    files.read_at(descriptor, place[16 : 16 + LEAST_NBYTES - 1], 0)
    assert distances == [16]


def test_other_processors_read_straight(
    descriptor: int, place: memoryview, distances: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aliasing, "_may_be_slow", lambda: False)
    assert files.read_at(descriptor, place[16 : 16 + NBYTES], 0) == NBYTES
    assert distances == [16]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("nchunks", [1, 4])
def test_arrays_into_any_memory(tmp_path: Path, distances: list[int], nchunks: int) -> None:
    """Chunks that are stored as they are, read straight into NumPy's own memory."""
    zarr = pytest.importorskip("zarr")
    shape, chunks = (nchunks * 64, 1024), (64, 1024)
    values = np.random.default_rng(1).random(shape, np.float32)
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=shape, chunks=chunks, dtype="f4", compressors=None
    )
    array[...] = values
    opened = gpuzarr.open_array(tmp_path / "a.zarr", device="cpu")
    distances.clear()
    room = np.empty(values.nbytes + PAGE_NBYTES + 16, np.uint8)
    begin = -address(room) % PAGE_NBYTES + 16
    out = room[begin : begin + values.nbytes].view(np.float32).reshape(shape)
    opened.read(out=out)
    np.testing.assert_array_equal(out, values)
    np.testing.assert_array_equal(opened[...], values)
    assert distances
    assert not set(distances) & set(SLOW)


@pytest.mark.parametrize("nbytes", [0, 1, 1 << 16, 100_001, 1 << 20, (1 << 22) + 7])
def test_memory_of_our_own_begins_at_a_cache_line(nbytes: int) -> None:
    memory = EncodedMemory()
    for each in (memory.allocate(nbytes), new_bytes(nbytes)):
        assert len(each) == nbytes
        assert nbytes < aliasing.LEAST_NEW_NBYTES or address(each) % LINE_NBYTES == 0


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("has_ctypes", [True, False])
def test_addresses(*, has_ctypes: bool, place: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliasing, "HAS_CTYPES", has_ctypes)
    found = [aliasing.is_slow(place[begin : begin + 1], 100) for begin in range(200)]
    assert found == [1 <= begin - 100 <= 31 for begin in range(200)]
    assert address(aliasing.new_memory(100_000)) % LINE_NBYTES == 0


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        (b"AuthenticAMD", b"fpu fsrm erms", True),
        (b"AuthenticAMD", b"fpu erms", False),
        (b"AuthenticAMD", b"fpu nofsrm", False),
        (b"GenuineIntel", b"fpu fsrm erms", False),
    ],
)
def test_processors(vendor: bytes, flags: bytes, *, expected: bool) -> None:
    text = b"processor\t: 0\nvendor_id\t: %s\nflags\t\t: %s\n" % (vendor, flags)
    assert aliasing.is_slow_processor(text) is expected


def test_machines_that_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = aliasing.ask_processor
    monkeypatch.setattr(aliasing, "_CPU_INFO", tmp_path / "none")
    assert ask() is False
    (tmp_path / "info").write_bytes(b"vendor_id : AuthenticAMD\nflags : fsrm\n")
    monkeypatch.setattr(aliasing, "_CPU_INFO", tmp_path / "info")
    monkeypatch.setattr("sys.platform", "linux")
    assert ask() is True
    monkeypatch.setattr("sys.platform", "darwin")
    assert ask() is False
