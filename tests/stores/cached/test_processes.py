"""A cache in a folder that several processes share, and that some of them leave in the middle."""

from __future__ import annotations

import os
import pathlib
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

from gpuzarr.stores.cached import lock as cached_lock
from gpuzarr.stores.cached.store import CachedStore
from tests.stores.counting import CountingStore

from .test_folder import KEY, VALUE, read, used

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

PROGRAM = """
import os, random, sys
from gpuzarr.stores.cached.store import CachedStore
from tests.stores.counting import CountingStore

folder, seed, count, limit = sys.argv[1], *map(int, sys.argv[2:5])
value = random.Random(0).randbytes(300_000)
store = CachedStore(CountingStore({"a/c/0": value}), limit, folder)
draw = random.Random(seed)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(count):
    offset = draw.randrange(250) * 1000
    nbytes = draw.randrange(1, 8) * 1000
    blob = store.read("a/c/0", offset, nbytes)
    assert bytes(blob.data) == value[offset : offset + nbytes], (offset, nbytes)
print("done", flush=True)
"""


class Programs:
    """Processes that read through one folder; they wait until all are there."""

    def __init__(self, folder: Path, number: int, count: int, limit: int) -> None:
        root = pathlib.Path(__file__).parents[3]
        self.all = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(folder), str(seed), str(count), str(limit)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=root,
                env=os.environ | {"PYTHONPATH": str(root)},
            )
            for seed in range(number)
        ]

    def __enter__(self) -> Self:
        for program in self.all:
            assert program.stdout is not None
            assert program.stdout.readline() == b"ready\n"
        for program in self.all:
            assert program.stdin is not None
            program.stdin.write(b"\n")
            program.stdin.flush()
        return self

    def run(self) -> Iterator[None]:
        """Goes on until all have ended."""
        give_up = time.monotonic() + 120
        while any(program.poll() is None for program in self.all):
            assert time.monotonic() < give_up
            yield

    def __exit__(self, *_: object) -> None:
        for program in self.all:
            program.kill()
            program.communicate(timeout=60)


def test_processes_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 60_000
    looks = 0
    monkeypatch.setattr(cached_lock, "LOCK_SECONDS", 60)
    lock = tmp_path / "gpuzarr-cache" / "lock"
    with Programs(tmp_path, 3, 300, limit) as programs:
        for _ in programs.run():
            with cached_lock.locked(str(lock)):  # so that nothing changes while it is counted
                assert used(tmp_path) <= limit
            looks += 1
            time.sleep(0.002)
        for program in programs.all:
            assert program.stdout is not None
            assert program.stdout.read() == b"done\n"
            assert program.returncode == 0
    assert looks > 2
    assert used(tmp_path) <= limit
    store = CachedStore(CountingStore({KEY: VALUE}), limit, tmp_path)
    count = int.from_bytes(lock.read_bytes()[:8], "little")
    assert count >= store._kept.nbytes > 0  # type: ignore[attr-defined]  # noqa: SLF001


def test_processes_that_are_killed_leave_nothing_that_is_believed(tmp_path: Path) -> None:
    limit = 60_000
    draw = random.Random(1)  # noqa: S311
    with Programs(tmp_path, 2, 10**9, limit) as programs:
        for program in programs.all:
            time.sleep(0.001 * draw.randrange(300))
            program.kill()
    assert used(tmp_path) <= limit + 8000
    store = CachedStore(CountingStore({KEY: VALUE}), limit, tmp_path)
    for offset in range(0, 250_000, 1000):
        assert read(store, offset, 1000) == VALUE[offset : offset + 1000]
    assert used(tmp_path) <= limit
