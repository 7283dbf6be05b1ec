"""The system's libzstd: what it is taken for, and what it is not asked to decode."""

from __future__ import annotations

import ctypes
import gc
import threading
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import zstandard

from gpuzarr.engines.cpu import libzstd, zstd
from gpuzarr.engines.cpu.libzstd import LibZstd
from gpuzarr.engines.step_error import StepError
from gpuzarr.program import Decompress
from tests.engines.cpu.programs import decode

NBYTES = 1 << 16
DATA = np.random.default_rng(0).integers(0, 9, NBYTES, np.uint8).tobytes()
FRAME = zstandard.ZstdCompressor(write_checksum=True).compress(DATA)
LEGACY = (0xFD2FB527).to_bytes(4, "little") + FRAME[4:]
"""A frame of zstd 0.7, by its magic number."""


@pytest.fixture
def library() -> LibZstd:
    found = libzstd.load()
    if found is None:
        pytest.skip("this system has no libzstd")
    return found


def one(library: LibZstd, frame: bytes | bytearray, nbytes: int = NBYTES) -> bytes | None:
    """Decode what must be a frame."""
    place = memoryview(bytearray(nbytes))
    return bytes(place) if library.decompress_one(memoryview(frame), place) else None


def test_a_frame(library: LibZstd) -> None:
    assert one(library, FRAME) == DATA
    assert one(library, bytearray(FRAME)) == DATA
    assert library.version.count(".") == 2


def test_many_frames(library: LibZstd) -> None:
    place = memoryview(bytearray(3 * NBYTES))
    assert library.decompress(3 * FRAME, place)
    assert bytes(place) == 3 * DATA
    assert not library.decompress(2 * FRAME, place)
    assert not library.decompress(4 * FRAME, place)


@pytest.mark.parametrize(
    "damaged",
    [
        FRAME[:-1],
        FRAME[:-5] + b"\0" + FRAME[-4:],
        FRAME[:-1] + bytes([FRAME[-1] ^ 1]),  # the checksum
        FRAME + b"\0",
        FRAME + FRAME,
        FRAME[:4],
        zstandard.compress(DATA[:-1]),
        zstandard.compress(DATA + b"\0"),
    ],
)
def test_what_is_not_the_frame_that_it_should_be(library: LibZstd, damaged: bytes) -> None:
    assert one(library, damaged) is None


def test_frames_of_old_formats_are_not_shown_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some systems' libraries still decode them, with code that nobody looks after."""
    shown: list[bytes] = []

    class Watched:
        def decompress_one(self, encoded: memoryview, target: memoryview) -> bool:
            del target
            shown.append(bytes(encoded))
            return False

    monkeypatch.setattr(zstd, "library", Watched)
    with pytest.raises(StepError, match="magic number"):
        decode(LEGACY, "u1", (NBYTES,), Decompress("zstd"))
    assert not shown
    assert decode(FRAME, "u1", (NBYTES,), Decompress("zstd")).tobytes() == DATA
    assert set(shown) == {FRAME}


def test_a_frame_of_an_old_format_behind_another(library: LibZstd) -> None:
    half = zstandard.compress(DATA[: NBYTES // 2])
    assert one(library, half + LEGACY) is None


def test_each_thread_has_a_context_and_gives_it_back(
    library: LibZstd, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Mock(side_effect=library._create)  # noqa: SLF001
    free = Mock(side_effect=library._free)  # noqa: SLF001
    monkeypatch.setattr(library, "_create", create)
    monkeypatch.setattr(library, "_free", free)
    right: list[Any] = []

    def work() -> None:
        right.extend(one(library, FRAME) == DATA for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del thread, threads
    gc.collect()
    assert right == [True] * 80
    assert (create.call_count, free.call_count) == (4, 4)


@pytest.mark.parametrize("names", [(), ("libgpuzarr-there-is-none.so",), ("libc.so.6",)])
def test_without_it(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """No name, no such file, and a library that is another."""
    monkeypatch.setattr(libzstd, "NAMES", {})
    monkeypatch.setattr(libzstd, "OTHERS", names)
    assert libzstd.load() is None


def test_an_old_one_is_not_used() -> None:
    class Old:
        def __init__(self) -> None:
            self.ZSTD_versionNumber = ctypes.CFUNCTYPE(ctypes.c_uint)(lambda: 10405)

    with pytest.raises(OSError, match="too old"):
        LibZstd(Old())  # type: ignore[arg-type]
