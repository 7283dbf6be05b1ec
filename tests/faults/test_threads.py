"""Many threads on one array and one group, and reads inside of reads, in every pool there is."""

from __future__ import annotations

import pytest

from tests.faults.programs import check_program

HURRY = "sys.setswitchinterval(1e-6)\nuse_many_threads()\n"


def test_threads_on_one_group_read_open_refresh_and_fail() -> None:
    """Each result is right, and each error is the one of that thread's own read."""
    code = """
values = hierarchy()
broken = dict(values)
broken["plain/c/3/2"] = broken["plain/c/3/2"][:-9]
group, bad = gpuzarr.open_group(values, threads=4), gpuzarr.open_group(broken, threads=3)
arrays = {name: group[name] for name in NODES}
keys = [..., (slice(10, 90), slice(None, None, 7)), ([119, 0, 60],), (slice(None, None, -9),)]

def work(number):
    name, key = NODES[number % 3], keys[number // 3 % 4]
    array = arrays[name] if number % 2 else group[name]
    assert (array[key] == NUMBERS[key]).all(), (name, key)
    if number % 5 == 0:
        arrays[name].refresh()
    if number % 4 == 0:
        boxes = (slice(5, 25), slice(3, 40)), (slice(90, 110), slice(7, 44))
        first, second = gpuzarr.read_batch(list(zip((arrays["plain"], arrays["shards"]), boxes)))
        assert (first == NUMBERS[boxes[0]]).all() and (second == NUMBERS[boxes[1]]).all()
    if number % 3 == 0:
        try:
            bad["plain"][60:100]
        except gpuzarr.DecodeError as error:
            assert [failure.coords for failure in error.failures] == [(3, 2)], error
        else:
            raise AssertionError("damage became data")
        assert (bad["plain"][:60] == NUMBERS[:60]).all()
    try:
        array[999]
    except gpuzarr.SelectionError as error:
        assert error.path == name
    return len(list(group)) + len(str(group.tree()))

with ThreadPoolExecutor(8) as threads:
    assert len(set(threads.map(work, range(72)))) == 1
print("done")
"""
    check_program(HURRY + code)


@pytest.mark.parametrize("outer", ["a pool of two threads", "our own pool"])
def test_more_reads_in_a_pool_than_it_has_threads(outer: str) -> None:
    """Of a kind that leaves all of the work to our pool's threads where it can, too."""
    code = """
group = gpuzarr.open_group(hierarchy(), threads=8)
arrays = [group[name] for name in NODES]
def read(number):
    array = arrays[number % 3]
    rows = slice(number % 50, number % 50 + 60)
    assert (array[rows] == NUMBERS[rows]).all()
    assert (gpuzarr.read_batch([(a, rows) for a in arrays]) == NUMBERS[rows]).all()
    return number
pool = ThreadPoolExecutor(2)
submit = pool.submit if sys.argv[1] != "our own pool" else lambda f, n: in_pool(lambda: f(n))
futures = [submit(read, number) for number in range(40)]
for _ in range(10):
    assert (arrays[2][...] == NUMBERS).all()  # in the main thread, beside them
assert [future.result() for future in futures] == list(range(40))
print("done")
"""
    check_program(HURRY + code, outer)


def test_helpers_that_come_late_do_no_harm() -> None:
    """Reads that are given up while their helpers stand in the pool's queue."""
    code = """
array = gpuzarr.open_array(plain(), threads=8)
bad = gpuzarr.open_array({**plain(), "c/0/0": b"x", "c/5/3": b"y"}, threads=8)
wait = threading.Event()
from gpuzarr.engines.pool import cpu_count
outs = []
for number in range(30):
    wait.clear()
    busy = [in_pool(lambda: wait.wait(60)) for _ in range(cpu_count())]
    out = np.zeros((120, 120), "i4")
    try:
        bad.read(out=out)
    except gpuzarr.DecodeError as error:
        assert len(error.failures) == 2
    outs.append((out, out.copy()))
    assert (array[...] == NUMBERS).all()
    wait.set()
drain()
assert all((out == before).all() for out, before in outs), "a helper wrote to what was given up"
print("done")
"""
    check_program(HURRY + code)


def test_an_index_that_many_want_at_once_is_right_for_all() -> None:
    """Shards that are replaced while threads read: each result is of one version or the other."""
    code = """
old, new = sharded(), {}
from tests.stored import RegularGrid, Sharding, store_v3
new = store_v3(NUMBERS * 3, RegularGrid((40, 60)), sharding=[Sharding((20, 30))], gzip=True).values
values = dict(old)
array = gpuzarr.open_array(values, threads=4)
stop = threading.Event()
def write():
    while not stop.wait(1e-4):
        for version in (new, old):
            values["c/1/1"] = version["c/1/1"]
writer = threading.Thread(target=write)
writer.start()
seen = set()
def read(number):
    try:
        part = array[45:75, 65:115]
    except gpuzarr.ChunkError as error:
        assert "replaced" in str(error), error  # twice within one read
        return
    pieces = [(slice(0, 15), slice(0, 25)), (slice(0, 15), slice(25, 50)),
              (slice(15, 30), slice(0, 25)), (slice(15, 30), slice(25, 50))]
    for piece in pieces:
        ratio = np.unique(part[piece] / NUMBERS[45:75, 65:115][piece])
        assert ratio.tolist() in ([1.0], [3.0]), ratio
        seen.add(ratio[0])
try:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(read, range(100)))
finally:
    stop.set()
    writer.join()
values.update(old)
assert (array[...] == NUMBERS).all()
print("done")
"""
    check_program(HURRY + code)
