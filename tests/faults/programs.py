"""Programs in processes of their own, with a limit of time, and what they share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines import pool
from gpuzarr.engines.cpu import engine, session
from gpuzarr.stores.store import WHOLE
from tests.arrays import CountingStore
from tests.pool_threads import in_pool
from tests.stored import RegularGrid, Sharding, store_v3

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr import Blob

LIMIT_S = 60
"""Seconds after which a program is taken for hung."""

NUMBERS = np.arange(1, 120 * 120 + 1, dtype="i4").reshape(120, 120)
GROUP = b'{"zarr_format": 3, "node_type": "group"}'
NODES = ("plain", "shards", "inside/blosc")

SETUP = """
import asyncio, atexit, errno, gc, os, pickle, signal, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import gpuzarr
from tests.faults.programs import *
"""


def use_many_threads() -> None:
    """Read small arrays as large ones are read: in many batches, with helpers."""
    engine.BATCH_NBYTES = 1 << 15
    session.LEAST_NBYTES = 0


def hierarchy() -> dict[str, bytes]:
    """A group with three arrays of `NUMBERS`: plain, sharded, and one that Blosc compressed."""
    from tests.faults.cases import CODECS  # noqa: PLC0415  only some programs need what it imports

    grid = RegularGrid((20, 30))
    return {
        "zarr.json": GROUP,
        "inside/zarr.json": GROUP,
        **store_v3(NUMBERS, grid, gzip=True, path="plain").values,
        **store_v3(
            NUMBERS, RegularGrid((40, 60)), sharding=[Sharding((20, 20))], gzip=True, path="shards"
        ).values,
        **store_v3(NUMBERS, grid, bytes_codecs=[CODECS["blosc"]], path="inside/blosc").values,
    }


def plain() -> dict[str, bytes]:
    """`NUMBERS` alone, in 24 chunks."""
    return store_v3(NUMBERS, RegularGrid((20, 30)), gzip=True).values


def sharded() -> dict[str, bytes]:
    """`NUMBERS` alone, in 24 chunks of 6 shards."""
    return store_v3(NUMBERS, RegularGrid((40, 60)), sharding=[Sharding((20, 30))], gzip=True).values


def write_files(root: Path | str, values: dict[str, bytes]) -> None:
    """A store in memory as a directory."""
    for key, value in values.items():
        path = os.path.join(root, key)  # noqa: PTH118  programs pass text
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(value)


def write_zip(path: Path | str, values: dict[str, bytes]) -> None:
    """A store in memory as an archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in values.items():
            archive.writestr(key, value)


class WatchedStore(CountingStore):
    """Takes its time for every chunk, and tells when it has been asked for some."""

    def __init__(
        self,
        values: dict[str, bytes],
        seconds: float = 0.0,
        then: Callable[[], Any] | None = None,
        after: int = 1,
    ) -> None:
        """`then` is called once, at the read number `after` of a chunk."""
        super().__init__(values)
        self.seconds = seconds
        self.then = then
        self.after = after
        self.asked = threading.Event()
        self.count = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.values, self.seconds))

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        """Count, wait, and read."""
        if "/c/" in f"/{key}":
            self.count += 1
            if self.count == self.after:
                self.asked.set()
                if self.then is not None:
                    self.then()
            time.sleep(self.seconds)
        return super().read(key, offset, nbytes, allocate)


def drain() -> None:
    """Return when the pool has done all that it was given before."""
    count = pool.cpu_count()
    barrier = threading.Barrier(count + 1)
    for _ in range(count):
        in_pool(lambda: barrier.wait(LIMIT_S))
    barrier.wait(LIMIT_S)


def in_child(work: Callable[[], Any]) -> None:
    """Fork, work there, and see that it went well."""
    child = os.fork()
    if not child:
        status = 1
        try:
            import signal  # noqa: PLC0415

            signal.alarm(LIMIT_S - 10)
            work()
            status = 0
        except BaseException as error:  # noqa: BLE001  told by the status
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def run_program(
    code: str, *arguments: object, script: Path | None = None, flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; one that hangs is an error.

    Args:
        code: what it does after `SETUP`.
        arguments: behind its name.
        script: where to write it, for programs that are imported by their children.
        flags: of the interpreter.
    """
    program = ["-c", SETUP + code]
    if script is not None:
        script.write_text(SETUP + code)
        program = [str(script)]
    return subprocess.run(  # noqa: PLW1510  the callers look
        [sys.executable, *flags, *program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def check_program(
    code: str, *arguments: object, status: int = 0, script: Path | None = None
) -> None:
    """It says that it is done, has the exit status, and complains of nothing."""
    done = run_program(code, *arguments, script=script)
    found = done.returncode, done.stdout, done.stderr
    assert found == (status, "done\n", ""), f"status {found[0]}, said {found[1]!r}\n{found[2]}"
