"""Programs in processes of their own, and what they share: a loader, a slow store, checks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import gpuzarr
from tests.arrays import CountingStore, plain_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from gpuzarr.stores.store import Blob

LIMIT_S = 60  # seconds after which a program is taken for hung

NUMBERS = np.arange(64 * 48, dtype="i4").reshape(64, 48)
CROP = (8, 12)
BATCHES = 8  # of an epoch: 32 windows, 4 in a batch

SETUP = """
import gc, os, pickle, signal, sys, threading, time
import numpy as np
import gpuzarr
from tests.loader.programs import *
prefetch = int(sys.argv[1])
"""


def numbers_store() -> dict[str, bytes]:
    """`NUMBERS` in chunks that windows do not share the edges of."""
    return plain_store(NUMBERS, (8, 8))


class SlowStore(CountingStore):
    """Takes its time for every chunk; tells when it is asked for one."""

    def __init__(self, seconds: float, values: dict[str, bytes] | None = None) -> None:
        """A store of `NUMBERS`."""
        super().__init__(numbers_store() if values is None else values)
        self.seconds = seconds
        self.asked = threading.Event()

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = -1,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        """Wait, and read."""
        if "c/" in key:
            self.asked.set()
            time.sleep(self.seconds)
        return super().read(key, offset, nbytes, allocate)


def make_loader(prefetch: int, store: Any = None, **options: Any) -> gpuzarr.Loader:
    """A loader of `NUMBERS`, with a cache: two reads at once would spoil it."""
    array = gpuzarr.open_array(numbers_store() if store is None else store)
    usual = {"crop": CROP, "batch_size": 4, "shuffle": True, "seed": 3, "cache_nbytes": 4000}
    return gpuzarr.Loader(array, prefetch=prefetch, **{**usual, **options})


def origins(batches: Iterable[Any]) -> list[int]:
    """The first number of each window, every number of which is checked."""
    found = []
    for batch in batches:
        for window in batch:
            y, x = divmod(int(window[0, 0]), 48)
            assert np.array_equal(window, NUMBERS[y : y + CROP[0], x : x + CROP[1]])
            found.append(int(window[0, 0]))
    return found


ALL = [48 * y + x for y in range(0, 64, 8) for x in range(0, 48, 12)]


def assert_quiet() -> None:
    """No loader reads any more."""
    names = [thread.name for thread in threading.enumerate()]
    assert "gpuzarr-loader" not in names, names


def assert_works(loader: gpuzarr.Loader) -> None:
    """Whatever happened before, an epoch is whole."""
    loader.set_epoch(0)
    assert sorted(origins(loader)) == ALL
    assert_quiet()


def run_program(
    code: str, prefetch: int = 2, *, script: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; one that hangs is an error.

    Args:
        code: what it does after `SETUP`, with `prefetch`.
        prefetch: of its loaders.
        script: where to write it, for programs that are imported by their children.
    """
    program = ["-c", SETUP + code]
    if script is not None:
        script.write_text(SETUP + code)
        program = [str(script)]
    return subprocess.run(  # noqa: PLW1510  the callers look
        [sys.executable, *program, str(prefetch)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def check_program(
    code: str, prefetch: int = 2, *, status: int = 0, script: Path | None = None
) -> None:
    """It says that it is done, has the exit status, and complains of nothing."""
    done = run_program(code, prefetch, script=script)
    assert (done.returncode, done.stdout, done.stderr) == (status, "done\n", ""), done.stderr
