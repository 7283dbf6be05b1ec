"""Loaders in forked and spawned processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.loader.programs import check_program

if TYPE_CHECKING:
    from pathlib import Path

either = pytest.mark.parametrize("prefetch", [0, 2])
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

FORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

def in_child(work):
    pid = os.fork()
    if not pid:
        signal.alarm(50)
        try:
            work()
        except SystemExit:
            raise
        except BaseException as error:
            sys.exit(f"in the child: {error!r}")
        sys.exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status
"""


@needs_fork
@either
def test_a_loader_made_before_a_fork_is_iterated_in_the_child(prefetch: int) -> None:
    """Used before or not, and while it is read in the parent, which goes on."""
    code = """
fresh, used = make_loader(prefetch), make_loader(prefetch)
list(used)
active = make_loader(prefetch)
batches = iter(active)
seen = origins([next(batches)])
def work():
    for loader in (fresh, used, active):
        assert_works(loader)
    active.set_epoch(0)
    assert origins([next(iter(active))]) == seen
in_child(work)
assert sorted(seen + origins(batches)) == ALL
for loader in (fresh, used, active):
    assert_works(loader)
print("done")
"""
    check_program(FORK + code, prefetch)


@needs_fork
@either
def test_an_iterator_does_not_come_along_through_a_fork(prefetch: int) -> None:
    code = """
loader = make_loader(prefetch, SlowStore(0.002))
batches = iter(loader)
seen = origins([next(batches)])
def work():
    for _ in range(2):
        try:
            next(batches)
        except RuntimeError as error:
            assert str(os.getppid()) in str(error) and "iter(loader)" in str(error), error
        else:
            raise AssertionError("no error")
    batches.close()
    assert_works(loader)
def leave():
    global batches
    del batches
    assert_works(loader)
for child in (work, leave, lambda: sys.exit(0), lambda: list(iter(loader))):
    in_child(child)
done = make_loader(prefetch)
ended = iter(done)
list(ended)
in_child(lambda: next(ended, None))
assert sorted(seen + origins(batches)) == ALL
print("done")
"""
    check_program(FORK + code, prefetch)


@needs_fork
def test_forks_in_the_middle_of_reading_ahead() -> None:
    code = """
loader = make_loader(prefetch, batch_size=2)
assert_works(loader)  # modules are imported: no fork comes through the middle of that
def train():
    while not stop.is_set():
        origins(loader)
stop = threading.Event()
thread = threading.Thread(target=train)
thread.start()
other = make_loader(prefetch)
for attempt in range(12):
    time.sleep(0.003 * attempt)
    in_child(lambda: (assert_works(loader), assert_works(other)))
stop.set()
thread.join()
assert_works(loader)
print("done")
"""
    check_program(FORK + code)


@either
def test_loaders_in_spawned_workers_read_the_shares_of_the_ranks(
    prefetch: int, tmp_path: Path
) -> None:
    """A loader in the middle of an epoch goes on there as well."""
    code = """
import multiprocessing

def read(loader):
    found = origins(loader)
    assert_quiet()
    return found

def main():
    loaders = [make_loader(prefetch, rank=rank, world_size=3) for rank in range(3)]
    begun = make_loader(prefetch)
    batches = iter(begun)
    first = origins([next(batches)])
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        shares = pool.map(read, [*loaders, begun], chunksize=1)
    rest = shares.pop()
    assert shares == [origins(loader) for loader in loaders]
    assert sorted(sum(shares, [])) == ALL
    assert rest == origins(batches)
    assert sorted(first + rest) == ALL
    assert_quiet()
    print("done")

if __name__ == "__main__":
    main()
"""
    check_program(code, prefetch, script=tmp_path / "program.py")
