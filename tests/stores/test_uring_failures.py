"""Rings that fail, are interrupted, or are not to be had."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import gpuzarr
from gpuzarr.engines.cpu.fetcher import EncodedMemory
from gpuzarr.stores import uring
from gpuzarr.stores.libc import libc
from gpuzarr.stores.uring import FILES, SKIPPED_ROWS, Ring
from tests.stores.rings import (
    COUNT,
    HAS_RINGS,
    calls,
    data_of,
    needs_rings,
    own_rings,
    store,
    unused,
    whole,
)
from tests.stores.rows import never, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from gpuzarr.stores.local import LocalStore

__all__ = ["calls", "own_rings", "store"]


class Kernel:
    """The system calls, of which `enter` goes otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, enter: Callable[..., int]) -> None:
        self.real = libc().call
        self.enter = enter
        self.times = 0
        monkeypatch.setattr(libc(), "call", self)

    def __call__(self, number: int, *arguments: int) -> int:
        if number != 426:
            return self.real(number, *arguments)
        self.times += 1
        return self.enter(self, *arguments)


@needs_rings
@pytest.mark.parametrize("part", [10, 7])  # whole files, and where one is cut
def test_calls_that_are_interrupted_or_take_a_part_are_gone_on_with(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    def enter(kernel: Kernel, ring: int, count: int, least: int, *others: int) -> int:
        match kernel.times % 3:
            case 0:
                raise InterruptedError(errno.EINTR, "by a signal")
            case 1:
                return kernel.real(426, ring, min(count, part), 0, *others)
        return kernel.real(426, ring, count, least, *others)

    rows(store, whole(*range(8)))
    kernel = Kernel(monkeypatch, enter)
    for _ in range(5):
        assert rows(store, whole(*range(COUNT))) == [data_of(n) for n in range(COUNT)]
    assert kernel.times > (20 if part == 10 else 1)


@needs_rings
@pytest.mark.parametrize("when", ["before", "after", "between"])
def test_the_memory_of_an_interrupted_call_is_never_used_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The kernel may still write to it."""

    def enter(kernel: Kernel, ring: int, count: int, least: int, *others: int) -> int:
        if when == "after":
            kernel.real(426, ring, count, least, *others)
        elif when == "between":
            kernel.real(426, ring, 5, 0, *others)
        raise KeyboardInterrupt

    rows(store, whole(*range(8)))
    (ring,) = unused()
    with monkeypatch.context() as patch:
        Kernel(patch, enter)
        with pytest.raises(KeyboardInterrupt):
            rows(store, whole(*range(8)))
    assert not unused()
    assert rows(store, whole(*range(COUNT))) == [data_of(n) for n in range(COUNT)]
    assert ring not in unused()
    assert ring._is_busy  # noqa: SLF001


@needs_rings
def test_the_memory_of_a_busy_ring_stays() -> None:
    """Also when nobody knows it any more, and Python ends."""
    code = """if True:
        import weakref
        from gpuzarr.stores.uring import FILES, SKIPPED_ROWS, Ring
        ring = Ring()
        ring._is_busy = True
        places = weakref.ref(ring._places)
        del ring
        assert places() is not None
        other = Ring()
        places = weakref.ref(other._places)
        del other
        assert places() is None
        kept = Ring()
        print("done")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


@needs_rings
@pytest.mark.parametrize("data", [b"", b"from another process"])
def test_a_pipe_that_somebody_writes_to_is_not_read(
    store: LocalStore, tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "c" / "3"
    path.unlink()
    os.mkfifo(path)
    ends = [os.open(path, os.O_RDONLY | os.O_NONBLOCK), os.open(path, os.O_WRONLY)]
    try:
        os.write(ends[1], data)
        assert rows(store, whole(*range(8))) == [data_of(n) for n in range(3)]
        assert not unused(), "the pipe is still open in its table"
        with pytest.raises(gpuzarr.StoreError, match="not a regular file"):
            store.read("c/3")
        if data:
            assert os.read(ends[0], 100) == data
    finally:
        for end in ends:
            os.close(end)


@needs_rings
@pytest.mark.parametrize("step", range(5))
def test_whatever_is_not_as_usual_ends_a_row(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A read that gave less than there was, an open file that was not closed."""
    real = Ring._run  # noqa: SLF001

    def run(ring: Ring, count: int) -> np.ndarray:
        results = real(ring, count)
        results[5 * 5 + step] = -errno.EIO if step != 3 else 1
        return results

    assert uring.rings.work()
    monkeypatch.setattr(Ring, "_run", run)
    monkeypatch.setattr(uring, "SKIPPED_ROWS", 0)
    flags = store._flags  # noqa: SLF001
    paths = [os.fsencode(str(store.root / "c" / f"{n}")) for n in range(8)]
    ring = Ring()
    count = 5 if step < 4 else 8
    assert [*map(bytes, ring.read(paths, flags, 512))] == [data_of(n) for n in range(count)]
    assert ring.is_good == (step < 4)
    assert rows(store, whole(*range(8))) == [data_of(n) for n in range(8)]
    assert len(unused()) == (step < 4)


@needs_rings
def test_where_many_are_missing_little_is_read_for_nothing(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = Ring.read

    def noted(ring: Ring, paths: Sequence[bytes], *others: Any) -> Any:
        asked.append(len(paths))
        return real(ring, paths, *others)

    assert uring.rings.work()
    monkeypatch.setattr(Ring, "read", noted)
    for number in range(1, COUNT, 2):
        (tmp_path / "c" / f"{number}").unlink()
    for begin in range(COUNT):
        there = [] if begin % 2 else [data_of(begin)]
        assert rows(store, whole(*range(begin, COUNT))) == there
    assert 0 < sum(asked) < COUNT, asked
    asked.clear()
    for number in range(COUNT):
        (tmp_path / "c" / f"{number}").write_bytes(data_of(number))
    for _ in range(SKIPPED_ROWS + 3):
        assert rows(store, whole(*range(COUNT))) == [data_of(n) for n in range(COUNT)]
    assert asked[-4:] == [FILES, FILES, FILES, COUNT % FILES], "all at once again"


@needs_rings
def test_a_ring_that_fails_is_the_last(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    def enter(*_: object) -> int:
        raise OSError(errno.EBUSY, "no")

    Kernel(monkeypatch, enter)
    for _ in range(2):
        assert rows(store, whole(*range(8))) == [data_of(n) for n in range(8)]
    assert not calls
    assert not uring.rings.work()


@needs_rings
@pytest.mark.parametrize("number", [425, 427])
def test_a_system_without(store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """It is switched off, or too old."""
    real = libc().call

    def call(which: int, *arguments: int) -> int:
        if which == number:
            raise OSError(errno.EPERM, "no")
        return real(which, *arguments)

    monkeypatch.setattr(libc(), "call", call)
    assert rows(store, whole(*range(8))) == [data_of(n) for n in range(8)]
    assert not uring.rings.work()


@needs_rings
def test_where_no_more_files_may_be_open(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    def refuse(number: int, *_: int) -> int:
        raise OSError(errno.EMFILE, f"too many for call {number}")

    with monkeypatch.context() as patch:
        patch.setattr(libc(), "call", refuse)
        assert rows(store, whole(*range(8))) == [data_of(n) for n in range(8)]
    assert not calls
    assert rows(store, whole(*range(8))) == [data_of(n) for n in range(8)]
    assert calls == [8]


@needs_rings
def test_a_kernel_that_reads_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ring.read
    monkeypatch.setattr(Ring, "read", lambda *arguments: real(*arguments)[:1])
    assert not uring.rings.work()


@needs_rings
def test_memory_that_is_not_to_be_had(store: LocalStore) -> None:
    class Full(EncodedMemory):
        def allocate(self, nbytes: int) -> memoryview:
            raise MemoryError(nbytes)

    assert store.read_row(whole(*range(8)), Full(), never) == []
    assert rows(store, whole(*range(8))) == [data_of(n) for n in range(8)]


def test_it_can_be_left_out() -> None:
    code = "from gpuzarr.stores.uring import rings; print(rings.work())"
    for setting, expected in (("0", False), ("1", HAS_RINGS), ("", HAS_RINGS)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "GPUZARR_IO_URING": setting},
        )
        assert done.stdout == f"{expected}\n"


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not uring.rings.work()


@needs_rings
def test_a_forked_child_has_rings_of_its_own(store: LocalStore) -> None:
    rows(store, whole(*range(8)))
    (ring,) = unused()
    child = os.fork()
    if not child:
        good = False
        try:
            uring.rings.forget()  # as those of the module do at a fork
            good = rows(store, whole(*range(COUNT))) == [data_of(n) for n in range(COUNT)]
            good = good and ring not in unused()
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert rows(store, whole(*range(COUNT))) == [data_of(n) for n in range(COUNT)]
    assert unused() == [ring]


def test_entries_are_laid_out_as_the_kernels() -> None:
    """struct io_uring_sqe."""

    class Entry(ctypes.Structure):
        _fields_ = (
            ("op", ctypes.c_uint8),
            ("flags", ctypes.c_uint8),
            ("priority", ctypes.c_uint16),
            ("fd", ctypes.c_int32),
            ("offset", ctypes.c_uint64),
            ("address", ctypes.c_uint64),
            ("nbytes", ctypes.c_uint32),
            ("open_flags", ctypes.c_uint32),
            ("mark", ctypes.c_uint64),
            ("buffer", ctypes.c_uint16),
            ("personality", ctypes.c_uint16),
            ("file", ctypes.c_uint32),
            ("more", ctypes.c_uint64 * 2),
        )

    entry = uring._ENTRY  # noqa: SLF001
    assert ctypes.sizeof(Entry) == entry.itemsize
    assert entry.fields is not None
    for name, (dtype, offset, *_) in entry.fields.items():
        place = getattr(Entry, name)
        assert (place.offset, place.size) == (offset, dtype.itemsize)
