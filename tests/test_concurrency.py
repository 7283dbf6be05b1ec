"""Many threads, forked and spawned processes, an interrupt, stores that read arrays themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.stores.store import WHOLE, Blob, Store
from tests.arrays import plain_store
from tests.pool_threads import in_pool
from tests.stored import RegularGrid, Sharding, assert_result, compress, store_v3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GZIP = {"name": "gzip", "configuration": {"level": 1}}
BIG = np.arange(600 * 600, dtype="i4").reshape(600, 600)
LIMIT_S = 100  # seconds after which a child process is taken for hung

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def big_store() -> dict[str, bytes]:
    """Chunks of which a whole read makes many batches."""
    return plain_store(BIG, (150, 150), encode=compress, codecs=("bytes", GZIP))


def write_files(root: Path, values: dict[str, bytes]) -> None:
    """A store in memory as a directory."""
    for key, value in values.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(value)


# Threads


@pytest.mark.parametrize("threads", [1, 4])
def test_many_threads_read_one_array(threads: int) -> None:
    array = gpuzarr.open_array(big_store(), threads=threads)
    keys: list[Any] = [..., (slice(100, 500), 7), ([599, 0, 300],), (slice(None, None, -9),)]
    expected = [np.ascontiguousarray(BIG[key]) for key in keys]
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(array.__getitem__, keys * 16)
        for result, right in zip(results, expected * 16, strict=True):
            assert_result(result, right)


def test_many_threads_open_and_read_shards() -> None:
    stored = store_v3(BIG, RegularGrid((300, 150)), sharding=[Sharding((50, 50))], gzip=True)
    barrier = threading.Barrier(8)
    array = gpuzarr.open_array(stored.values)

    def work(i: int) -> Any:
        barrier.wait(LIMIT_S)  # all of them make the array's plans at once
        return array[i * 70 : i * 70 + 90]

    with ThreadPoolExecutor(8) as pool:
        for i, result in enumerate(pool.map(work, range(8))):
            assert_result(result, BIG[i * 70 : i * 70 + 90].copy())


def test_a_failing_read_does_not_disturb_others() -> None:
    values = big_store()
    values["c/3/3"] = values["c/3/3"][:-20]
    array = gpuzarr.open_array(values, threads=4)

    def work(i: int) -> bool:
        if i % 2:
            assert_result(array[:450], BIG[:450])
            return True
        with pytest.raises(gpuzarr.DecodeError) as raised:
            array[...]
        assert len(raised.value.failures) == 1
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(30)))


def test_refreshing_while_others_read() -> None:
    """Every result is of one version: its shape and its values belong together."""
    values = plain_store(np.full((50, 4), 50, "i4"), (10, 4))
    array = gpuzarr.open_array(values)
    versions = [
        plain_store(np.full((n, 4), n, "i4"), (n, 4), fill_value=n)["zarr.json"] for n in (50, 30)
    ]
    for key in [key for key in values if key.startswith("c/")]:
        del values[key]  # all is fill value, which is the length
    stop = threading.Event()

    def refresh() -> None:
        while not stop.is_set():
            for document in versions:
                values["zarr.json"] = document
                array.refresh()

    values["zarr.json"] = versions[0]
    array.refresh()
    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        for _ in range(500):
            result = array[...]
            assert (result == len(result)).all()
    finally:
        stop.set()
        thread.join()


# Stores that read arrays


class ArrayStore(Store):
    """The bytes of another array as an object: a store that is a reader itself."""

    name = "array"

    def __init__(self, values: dict[str, bytes], array: gpuzarr.Array) -> None:
        self.values = values
        self.array = array

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        if not key.startswith("c/"):
            value = self.values.get(key)
            return None if value is None else Blob(memoryview(value))
        _, i, j = key.split("/")
        box = tuple(slice(int(n) * 100, int(n) * 100 + 100) for n in (i, j))
        assert (offset, nbytes) == (0, WHOLE)
        # The place comes first: the read below must not use the same memory for its own chunks.
        place = np.frombuffer(allocate(100 * 100 * 4), "<i4").reshape(100, 100)
        self.array.read(box, out=place)
        return Blob(place.data.cast("B"))

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        raise gpuzarr.UnsupportedError(f"nothing is listed: {prefix}")


@pytest.mark.parametrize("order", [[0, 1], [1, 0]], ids=["straight", "scattered"])
@pytest.mark.parametrize("outer", [1, None, 16])
def test_a_store_may_read_arrays_itself(
    tmp_path: Path, outer: int | None, order: list[int]
) -> None:
    """In the pool's threads a read inside a read must not wait for them, nor use their memory."""
    write_files(tmp_path, plain_store(BIG, (40, 40), encode=compress, codecs=("bytes", GZIP)))
    inner = gpuzarr.open_array(tmp_path, threads=16)
    turn = {"name": "transpose", "configuration": {"order": order}}
    document = plain_store(BIG, (100, 100), codecs=[turn, "bytes"])["zarr.json"]
    chunks = BIG.reshape(6, 100, 6, 100)
    turned = chunks if order == [0, 1] else chunks.transpose(0, 3, 2, 1)
    expected = turned.reshape(600, 600)
    array = gpuzarr.open_array(ArrayStore({"zarr.json": document}, inner), threads=outer)

    def read() -> None:
        for key in (..., (slice(10, 590), slice(None, None, 3))):
            assert_result(array[key], np.ascontiguousarray(expected[key]))

    with_limit(read)


def test_more_nested_readers_than_threads() -> None:
    inner = gpuzarr.open_array(big_store())
    document = plain_store(BIG, (100, 100))["zarr.json"]
    array = gpuzarr.open_array(ArrayStore({"zarr.json": document}, inner), threads=64)

    def read() -> None:
        futures = [in_pool(lambda: array[...]) for _ in range(12)]
        for future in futures:
            assert_result(future.result(LIMIT_S), BIG)

    with_limit(read)


def with_limit(work: Callable[[], None]) -> None:
    """Run `work` in a thread of its own, so that a hang fails the test and does not stop it."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  handed on
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "it hangs"
    if failed:
        raise failed[0]


# Processes

SETUP = """
import os, pickle, signal, sys, threading, time, zlib
import numpy as np
import gpuzarr
from tests.test_concurrency import BIG, big_store
from tests.stored import RegularGrid, Sharding, store_v3
"""


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that uses the tests' helpers; a hang is an error."""
    return subprocess.run(  # noqa: PLW1510  the callers look
        [sys.executable, "-c", SETUP + code, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


FORK = """
stored = store_v3(BIG, RegularGrid((300, 300)), sharding=[Sharding((50, 50))], gzip=True)
arrays = [
    gpuzarr.open_array(big_store(), threads=4),
    gpuzarr.open_array(stored.values, threads=4),
    gpuzarr.open_array(sys.argv[1], threads=4),
]
for array in arrays:
    assert (array[...] == BIG).all()
stop = threading.Event()
busy = [
    threading.Thread(target=lambda a=a: [a[...] for _ in iter(stop.is_set, True)])
    for a in arrays
]
if {busy}:
    for thread in busy:
        thread.start()
    time.sleep(0.05)
codes = []
for attempt in range({attempts}):
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        good = all((array[...] == BIG).all() for array in arrays)
        good = good and (pickle.loads(pickle.dumps(arrays[1]))[7] == BIG[7]).all()
        if {exits}:
            sys.exit(0 if good else 3)
        os._exit(0 if good else 3)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
assert (arrays[0][...] == BIG).all()
print(codes)
"""


@needs_fork
@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "busy"])
def test_arrays_work_in_a_forked_child(tmp_path: Path, busy: bool) -> None:  # noqa: FBT001
    """Also when it was forked in the middle of the reads of other threads."""
    write_files(tmp_path, big_store())
    attempts = 6 if busy else 2
    code = FORK.format(busy=busy, attempts=attempts, exits=not busy)
    done = run_python(code, str(tmp_path))
    assert done.stdout == f"{[0] * attempts}\n", done.stderr


FORK_WHILE_OPENING = """
class Slow(dict):
    entered, leave = threading.Event(), threading.Event()
    def get(self, key, default=None):
        return super().get(key, default)
    def __getitem__(self, key):
        if key == ".zattrs":
            Slow.entered.set()
            Slow.leave.wait(60)
        return super().__getitem__(key)

import json
from tests.stored import store_v2
values = store_v2(BIG, (150, 150)).values
slow = gpuzarr.open_array(Slow({{**values, ".zattrs": b"{{}}"}}))
quick = gpuzarr.open_array({{**values, ".zattrs": b'{{"a": 1}}'}})
thread = threading.Thread(target=lambda: slow.attrs)
thread.start()
Slow.entered.wait(60)
assert quick.attrs == {{"a": 1}}
other = gpuzarr.open_array({{**values, ".zattrs": b'{{"a": 2}}'}})
if {fork}:
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        os._exit(0 if other.attrs == {{"a": 2}} else 3)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
else:
    print(other.attrs["a"])
Slow.leave.set()
thread.join()
"""


def test_one_slow_store_holds_up_no_other_array() -> None:
    done = run_python(FORK_WHILE_OPENING.format(fork=False))
    assert done.stdout == "2\n", done.stderr


@needs_fork
def test_a_fork_while_another_thread_waits_for_its_store() -> None:
    done = run_python(FORK_WHILE_OPENING.format(fork=True))
    assert done.stdout == "0\n", done.stderr


SPAWN = """
import multiprocessing

def read(array, key):
    return array[key].sum()

def main():
    stored = store_v3(BIG, RegularGrid((300, 300)), sharding=[Sharding((50, 50))], gzip=True)
    array = gpuzarr.open_array(stored.values)
    array[0]
    group = gpuzarr.open_group({"zarr.json": b'{"zarr_format": 3, "node_type": "group"}'})
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        keys = [slice(i, i + 100) for i in range(0, 600, 100)]
        sums = pool.starmap(read, [(array, key) for key in keys])
        assert sums == [BIG[key].sum() for key in keys]
        assert pool.apply(len, (group,)) == 0
        try:
            pool.apply(read, (array, 9999))
        except gpuzarr.SelectionError as error:
            assert error.path == ""
            print("read")

if __name__ == "__main__":
    main()
"""


def test_arrays_are_handed_to_spawned_workers(tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(SETUP + SPAWN)
    done = subprocess.run(  # noqa: PLW1510
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.stdout == "read\n", done.stderr


INTERRUPT = """
from tests.arrays import CountingStore

class Endless(CountingStore):
    reading = 0
    def read(self, key, offset=0, nbytes=-1, allocate=bytearray):
        if "c/" in key:
            Endless.reading += 1
            if Endless.reading == 3:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return super().read(key, offset, nbytes, allocate)

store = Endless(big_store())
array = gpuzarr.open_array(store, threads={threads})
out = np.zeros((600, 600), "i4")
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
try:
    array.read(out=out)
    print("not interrupted")
except KeyboardInterrupt:
    stopped = len(store.taken())
    before = out.copy()
    time.sleep(0.3)
    # Nothing reads and nothing writes any more.
    assert not store.taken()
    assert (out == before).all()
    assert stopped < 16, stopped
assert (array[...] == BIG).all()
print("works on")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to oneself")
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_an_interrupt_ends_a_read_at_once(threads: int) -> None:
    done = run_python(INTERRUPT.format(threads=threads))
    assert done.stdout == "works on\n", done.stderr
