"""Few file handles, little memory, no threads: a clear error or the data, and then all is well."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.programs import check_program, hierarchy, write_files, write_zip

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no resource module")


def test_forty_file_handles(tmp_path: Path) -> None:
    """Reading needs one a thread; where there is not even that, the error says what to do."""
    write_files(tmp_path / "files", hierarchy())
    write_zip(tmp_path / "archive.zip", hierarchy())
    code = """
import resource
use_many_threads()
group = gpuzarr.open_group(sys.argv[1], threads=32)
warm = [list(gpuzarr.Loader(group[name], crop=(20, 120), batch_size=2)) for name in NODES]
pickled = {name: pickle.dumps(group[name]) for name in NODES}
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
def check():
    for name in NODES:
        assert (group[name][...] == NUMBERS).all()
with ThreadPoolExecutor(12) as pool:
    list(pool.map(lambda _: check(), range(24)))
archives = []
try:
    while True:
        archives.append(gpuzarr.open_group(sys.argv[2]))
except gpuzarr.StoreError as error:
    assert "ulimit -n" in str(error) and "archive.zip" in str(error), error
for name in NODES:
    assert (archives[3][name][...] == NUMBERS).all()  # needs no handle of its own
    try:
        group[name]
    except gpuzarr.StoreError as error:
        assert "ulimit -n" in str(error) and "zarr.json" in str(error), error
    else:
        raise AssertionError("it needs a handle that is not there")
    for read in (
        lambda: arrays[name][...],
        lambda: arrays[name].oindex[[1, 50]],
        lambda: gpuzarr.read_batch([(arrays[name], slice(0, 9)), (arrays[name], slice(80, 89))]),
        lambda: list(gpuzarr.Loader(arrays[name], crop=(20, 120), batch_size=2)),
    ):
        arrays = {name: pickle.loads(pickled[name])}  # of which nothing is known yet
        try:
            read()
        except gpuzarr.StoreError as error:
            assert "ulimit -n" in str(error) and f"{name}/c/" in str(error), error
        else:
            raise AssertionError("it needs a handle that is not there")
del archives
gc.collect()
check()
print("done")
"""
    check_program(code, tmp_path / "files", tmp_path / "archive.zip")


def test_little_memory() -> None:
    """What does not fit is refused by an error of ours, and what fits is read."""
    code = """
import resource
from tests.arrays import encoded, v3_metadata
use_many_threads()
group = gpuzarr.open_group(hierarchy(), threads=4)
def check():
    for name in NODES:
        assert (group[name][...] == NUMBERS).all()
        assert (gpuzarr.read_batch([(group[name], slice(0, 40))] * 2)[1] == NUMBERS[:40]).all()
check()
list(gpuzarr.Loader(group["plain"], crop=(20, 120), batch_size=2))
from gpuzarr.engines import memory
def opened(length, chunk):
    document = v3_metadata((length,), (chunk,), data_type="uint8")
    return gpuzarr.open_array({"zarr.json": encoded(document)})
big, fine = opened(1 << 30, 1 << 16), opened(1 << 22, 1)
with open("/proc/self/status") as file:
    used = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20), used + (96 << 20)))
places = np.zeros(1 << 22, np.int64)
ways = {
    "[...]": lambda: big[...],
    "part": lambda: big[: 200 << 20],
    "read": lambda: big.read(slice(0, 100 << 20), dtype="f8"),
    "read_async": lambda: big.read_async().result(),
    "await": lambda: asyncio.run(big.getitem(...)),
    "oindex": lambda: big.oindex[np.broadcast_to(np.int64(0), (1 << 27,))],
    "vindex": lambda: big.vindex[np.broadcast_to(places[:1, None], (1 << 14, 1 << 13))],
    "blocks": lambda: big.blocks[0:4096],
    "list": lambda: big[np.broadcast_to(places[:1], (1 << 27,))],
    "read_batch": lambda: gpuzarr.read_batch([(big, slice(i, i + (60 << 20))) for i in range(4)]),
    "many lists": lambda: gpuzarr.read_batch([(big, places)] * 9),
    "planning": lambda: fine[...],
    "planning, batch": lambda: gpuzarr.read_batch([(fine, ...), (fine, slice(None, None, -1))]),
    "explain": lambda: fine.explain(),
    "Loader": lambda: next(iter(gpuzarr.Loader(big, crop=(120 << 20,), batch_size=1))),
}
for name, way in ways.items():
    try:
        way()
    except gpuzarr.MemoryLimitError as error:
        assert str(error), name
        assert error.store is not None, (name, error)
    else:
        raise AssertionError(f"{name}: {96 << 20} bytes were enough")
    gc.collect()
    check()
print("done")
"""
    check_program(code)


NO_THREADS = """
use_many_threads()
def refuse(*_):
    raise RuntimeError("can't start new thread")
"""


@pytest.mark.parametrize(
    "when", ["from the beginning", "after the first", "after the pool is full"]
)
def test_a_system_that_starts_no_threads(when: str) -> None:
    """The caller does all of the work; a loader reads when it is asked."""
    code = """
from gpuzarr.engines import pool
group = gpuzarr.open_group(hierarchy(), threads=4)
arrays = [group[name] for name in NODES]
pool.cpu_count = lambda: 3
start = threading.Thread.start, pool.start_new_thread
if sys.argv[1] == "after the first":
    in_pool(int).result()
if sys.argv[1] == "after the pool is full":
    drain()
threading.Thread.start = pool.start_new_thread = refuse
for attempt in range(5):
    for array in arrays:
        assert (array[...] == NUMBERS).all()
        assert (array[::-1, 5:50] == NUMBERS[::-1, 5:50]).all()
        found = gpuzarr.read_batch([(array, slice(i, i + 50)) for i in (0, 60)])
        assert (found[1] == NUMBERS[60:110]).all()
    for array in arrays:
        loader = gpuzarr.Loader(array, crop=(40, 120), batch_size=1)
        assert (np.concatenate([batch[0] for batch in loader]) == NUMBERS).all()
bad = gpuzarr.open_array({**plain(), "c/0/0": b"x", "c/5/3": b"y"}, threads=4)
try:
    bad[...]
except gpuzarr.DecodeError as error:
    assert len(error.failures) == 2
else:
    raise AssertionError("damage became data")
threading.Thread.start, pool.start_new_thread = start
fresh = gpuzarr.open_group(hierarchy(), threads=4)
drain()  # what stood in the queue of the pool is harmless
for name in NODES:
    assert (fresh[name][...] == NUMBERS).all()
print("done")
"""
    check_program(NO_THREADS + code, when)
