"""Reads that nobody waits for any more, processes that end or fork, and stores that are pickled."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import StoreError
from gpuzarr.stores.remote.objects import ObjectStore
from gpuzarr.stores.resolve import open_store
from tests.arrays import plain_store

from .loopback import Fault, FileServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .s3 import S3Server

pytest.importorskip("obstore")

ROOT = Path(__file__).parents[3]
VALUES = np.arange(40 * 40, dtype="i4").reshape(40, 40)
NEVER = Fault(delay_s=300)
LIMIT_S = 60


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(plain_store(VALUES, (10, 10))) as server:
        yield server


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other threads do."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


def test_forgotten_reads_are_given_up(server: FileServer) -> None:
    store, _ = open_store(server.url, storage_options={"concurrency": 4})
    server.fault = lambda _: NEVER
    keys = [f"c/{i}/{j}" for i in range(4) for j in range(4)]
    pending = store.start_reads(keys, [0] * 16, [-1] * 16)
    until(lambda: len(server.seen) == 4)
    del pending
    gc.collect()
    server.fault = lambda _: None
    assert store.read("zarr.json") is not None
    again = store.start_reads(keys[:4], [0] * 4, [-1] * 4)
    assert all(again.result(row) is not None for row in range(4))  # their places are free
    assert len(server.seen) == 4 + 1 + 4


def test_rows_in_any_order_each_with_its_error(server: FileServer) -> None:
    store, _ = open_store(server.url)
    server.fault = lambda seen: Fault(status=403) if seen.key == "c/1/1" else None
    keys = ["c/0/0", "c/1/1", "missing", "c/3/3"]
    pending = store.start_reads(keys, [0] * 4, [-1] * 4)
    for row in (3, 0):
        blob = pending.result(row)
        assert blob is not None
        assert bytes(blob.data) == server.objects[keys[row]]
    assert pending.result(2) is None
    with pytest.raises(StoreError, match="403"):
        pending.result(1)
    with pytest.raises(RuntimeError, match="row 0 was asked for already"):
        pending.result(0)


def test_a_key_that_is_not_allowed_stops_the_others(server: FileServer) -> None:
    store, _ = open_store(server.url)
    with pytest.raises(StoreError, match="not allowed"):
        store.start_reads(["c/0/0", "../x"], [0, 0], [-1, -1])
    assert not server.seen


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_read_returns(server: FileServer) -> None:
    array = gpuzarr.open_array(server.url, threads=2)
    server.forget()
    server.fault = lambda _: NEVER

    def interrupt() -> None:
        until(lambda: len(server.seen) == 16)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        array[...]
    thread.join()
    server.fault = lambda _: None
    np.testing.assert_array_equal(array[...], VALUES)


def test_a_loader_that_is_closed_returns(server: FileServer) -> None:
    array = gpuzarr.open_array(server.url)
    server.forget()
    server.fault = lambda _: NEVER
    batches = iter(gpuzarr.Loader(array, crop=(10, 10), batch_size=4))
    until(lambda: len(server.seen) >= 4)
    batches.close()
    server.fault = lambda _: None
    loader = gpuzarr.Loader(array, crop=(10, 10), batch_size=16)
    for batch in loader:
        np.testing.assert_array_equal(np.sort(batch, axis=None), VALUES.reshape(-1))


EXIT = """
import sys, threading, gpuzarr
from gpuzarr.stores.resolve import open_store
array = gpuzarr.open_array(sys.argv[1], threads=4)
store, _ = open_store(sys.argv[1] + "/never")
how = sys.argv[2]
def read():
    try:
        store.read("a")
    except gpuzarr.StoreError as error:
        print(error.message, flush=True)
if how == "started":
    pending = store.start_reads(["a", "b"], [0, 0], [-1, -1])
elif how in ("daemon", "thread"):
    threading.Thread(target=read, daemon=how == "daemon").start()
elif how == "read":
    array[...]
print("end", flush=True)
"""


@pytest.mark.parametrize("how", ["read", "started", "daemon", "thread"])
def test_a_process_ends_while_reads_are_under_way(server: FileServer, how: str) -> None:
    server.fault = lambda seen: NEVER if seen.key.startswith("never") else None
    done = run(EXIT, server.url, how)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert said[0] == "end"
    if how == "thread":  # others are forgotten, or say it as well if they are in time
        assert said[1:] == ["this read was given up"]


CLOSED = """
import atexit, sys
atexit.register(lambda: print(loop.is_closed(), len(cancelled)))  # after what is registered later
import asyncio
from gpuzarr.stores.remote.event_loop import background_loop
from gpuzarr.stores.remote.in_flight import InFlight
cancelled = []
async def get():
    try:
        await asyncio.sleep(300)
    except asyncio.CancelledError:
        cancelled.append(1)
        raise
answers = [InFlight().submit(get) for _ in range(3)]
loop = background_loop()
InFlight().run(lambda: asyncio.sleep(0))  # they have begun
"""


def test_the_loop_is_closed_in_good_order_at_exit() -> None:
    done = run(CLOSED)
    assert (done.stdout, done.stderr, done.returncode) == ("True 3\n", "", 0)


FORK = """
import os, signal, sys, warnings, gpuzarr
warnings.simplefilter("ignore")  # newer Pythons advise against it, as we do
array = gpuzarr.open_array(sys.argv[1])
child = os.fork()
if child == 0:
    signal.alarm(30)
    try:
        array[...]
    except gpuzarr.StoreError as error:
        print(error.message, flush=True)
        os._exit(7)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), array[...].sum(), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_says_what_to_do(server: FileServer) -> None:
    done = run(FORK, server.url)
    assert done.stderr == ""
    said, parent = done.stdout.splitlines()
    assert "forked" in said
    assert "spawn or forkserver" in said
    assert parent == f"7 {VALUES.sum()}"


FORK_FIRST = """
import os, signal, sys, warnings, gpuzarr
warnings.simplefilter("ignore")
child = os.fork()
signal.alarm(30)
total = gpuzarr.open_array(sys.argv[1])[...].sum()
if child == 0:
    os._exit(0 if total else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), total, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_both_read_where_nothing_was_read_before_a_fork(server: FileServer) -> None:
    done = run(FORK_FIRST, server.url)
    assert (done.stdout, done.stderr) == (f"0 {VALUES.sum()}\n", "")


def total(array: gpuzarr.Array) -> int:
    return int(array[...].sum())


def test_spawned_workers_read(s3: S3Server) -> None:
    """Credentials go along as they were given."""
    url = s3.put(plain_store(VALUES, (10, 10)))
    array = gpuzarr.open_array(url, storage_options={**s3.options, "concurrency": 5})
    assert total(array) == VALUES.sum()
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(total, [array]).get(LIMIT_S) == VALUES.sum()
    again = pickle.loads(pickle.dumps(array.store))  # noqa: S301  our own
    assert isinstance(again, ObjectStore)
    assert (again.name, again.concurrency) == (url, 5)


def test_obstores_own_stores_pickle(s3: S3Server) -> None:
    url = s3.put({"d": b"data"})
    wrapped = ObjectStore(s3.obstore(url), name="mine", concurrency=3)
    again = pickle.loads(pickle.dumps(wrapped))  # noqa: S301  our own
    assert (again.name, again.concurrency) == ("mine", 3)
    assert bytes(again.read("d").data) == b"data"
