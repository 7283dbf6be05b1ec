"""Arrays and groups of every store in forked and spawned processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.faults.programs import check_program, hierarchy, write_files, write_zip

if TYPE_CHECKING:
    from pathlib import Path

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

OPEN = """
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
use_many_threads()
stores = [hierarchy(), *sys.argv[1:3], WatchedStore(hierarchy())]
def groups():
    return [gpuzarr.open_group(store, threads=4) for store in stores]
def check(group):
    for name in NODES:
        array = group[name]
        assert (array[...] == NUMBERS).all()
        assert (array[7:99, ::3] == NUMBERS[7:99, ::3]).all()
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A directory and an archive."""
    root = tmp_path_factory.mktemp("stores")
    write_files(root / "files", hierarchy())
    write_zip(root / "archive.zip", hierarchy())
    return str(root / "files"), str(root / "archive.zip")


@needs_fork
def test_forks_before_after_and_during_reads(stores: tuple[str, str]) -> None:
    """Also of a child's child, and from a thread of our own pool."""
    code = """
fresh = groups()
in_child(lambda: [check(group) for group in fresh])
used = groups()
for group in used:
    check(group)
in_child(lambda: [check(group) for group in used])
in_child(lambda: in_child(lambda: [check(group) for group in used]))

stop = threading.Event()
def read_on():
    while not stop.is_set():
        for group in used:
            check(group)
busy = [threading.Thread(target=read_on) for _ in range(2)]
for thread in busy:
    thread.start()
for attempt in range(8):
    time.sleep(0.004 * attempt)
    in_child(lambda: [check(group) for group in used])
in_pool(lambda: in_child(lambda: [check(group) for group in used])).result()
stop.set()
for thread in busy:
    thread.join()
for group in used:
    check(group)
print("done")
"""
    check_program(OPEN + code, *stores)


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=needs_fork)])
def test_arrays_and_groups_of_every_store_go_to_workers(
    stores: tuple[str, str], method: str, tmp_path: Path
) -> None:
    code = """
import multiprocessing

def work(group, array, key):
    check(group)
    assert (array[key] == NUMBERS[key]).all()
    again = pickle.loads(pickle.dumps(array))
    assert (again[key] == NUMBERS[key]).all()
    return str(group.tree())

def main():
    made = groups()
    for group in made[1::2]:
        check(group)  # some of them were used, some not
    expected = [str(group.tree()) for group in made]
    with multiprocessing.get_context(sys.argv[3]).Pool(1) as pool:
        jobs = [
            (group, group[NODES[number % 3]], slice(number, 90))
            for number, group in enumerate(made)
        ]
        assert pool.starmap(work, jobs) == expected
        try:
            pool.apply(work, (made[0], made[0]["plain"], 999))
        except gpuzarr.SelectionError as error:
            assert error.path == "plain"
            print("done")

if __name__ == "__main__":
    main()
"""
    check_program(OPEN + code, *stores, method, script=tmp_path / "program.py")
