"""The interpreter ends while arrays are read, and reads begin while it ends."""

from __future__ import annotations

import pytest

from tests.faults.programs import check_program

HEAD = """
use_many_threads()
made = sharded() if sys.argv[1] == "shards" else hierarchy() if sys.argv[1] == "blosc" else plain()
path = "inside/blosc" if sys.argv[1] == "blosc" else ""
def opened(*arguments, **more):
    return gpuzarr.open_array(WatchedStore(made, *arguments, **more), path=path, threads=4)
def check(array):
    assert (array[...] == NUMBERS).all()
    assert (array[3:50] == NUMBERS[3:50]).all()
    found = gpuzarr.read_batch([(array, slice(i, i + 30)) for i in (0, 50)])
    assert (found[1] == NUMBERS[50:80]).all()
def say_done():
    check(opened())
    print("done", flush=True)
"""

layouts = pytest.mark.parametrize("layout", ["shards", "blosc"])


@layouts
def test_a_thread_goes_on_reading_when_the_main_thread_has_ended(layout: str) -> None:
    """The pool takes no more work then; what it had begun is finished."""
    code = """
array = opened(0.002)
def work():
    reads = [array.read_async() for _ in range(2)]
    threading.main_thread().join()
    for read in reads:
        assert (read.result() == NUMBERS).all()
    for batch in gpuzarr.Loader(opened(), crop=(20, 120), batch_size=2):
        assert batch.shape == (2, 20, 120)
    say_done()
if {used}:
    check(array)
threading.Thread(target=work).start()
"""
    for used in (True, False):
        check_program(HEAD + code.format(used=used), layout)


@layouts
def test_reads_at_exit(layout: str) -> None:
    """In `atexit`, and in a finalizer of what dies with the module."""
    code = """
class Last:
    def __del__(self, check=check, opened=opened):
        check(opened())
check(opened())
last = Last()
atexit.register(say_done)
"""
    check_program(HEAD + code, layout)


@layouts
def test_a_daemon_thread_that_reads_holds_up_no_end(layout: str) -> None:
    """It has hours of work left, of which helpers in the pool, which are waited for, do none."""
    code = """
store = WatchedStore(made, 0.01)
array = gpuzarr.open_array(store, path=path, threads=4)
def work():
    gpuzarr.read_batch([(array, ...)] * 2)
    while True:
        array[...]
thread = threading.Thread(target=work, daemon=True)
thread.start()
store.asked.wait()
long = gpuzarr.open_array(WatchedStore(made, 3600.0), path=path, threads=1)
threading.Thread(target=lambda: long[...], daemon=True).start()
print("done", flush=True)
"""
    check_program(HEAD + code, layout)


def test_a_helper_ends_with_the_interpreter() -> None:
    """It finishes the piece that it has, and leaves the others to the daemon that reads."""
    code = """
from gpuzarr.engines.cpu.crew import Crew
from gpuzarr.engines.pool import in_worker, is_ending
def report():
    assert pieces.count(True) == 1, pieces
    print("done", flush=True)
atexit.register(report)  # before the pool does, so that it is called behind its end
pieces, entered, leave = [], threading.Semaphore(0), threading.Event()
def piece():
    pieces.append(in_worker())
    entered.release()
    leave.wait(60)
def work():
    crew = Crew()
    crew.add([piece] * 50, 2)
    crew.finish()
def end():
    while not is_ending():
        time.sleep(0.001)
    leave.set()
for target in (work, end):
    threading.Thread(target=target, daemon=True).start()
for _ in range(2):
    entered.acquire()
"""
    check_program(HEAD + code, "plain")


def test_reads_that_nobody_waits_for_hold_up_no_end() -> None:
    code = """
kept = [opened(0.001).read_async() for _ in range(3)]
opened(0.001).read_async()
loader = iter(gpuzarr.Loader(opened(0.001), crop=(20, 120), batch_size=1))
next(loader)
print("done", flush=True)
if sys.argv[2] == "error":
    raise SystemExit(7)
"""
    check_program(HEAD + code, "plain", "return")
    check_program(HEAD + code, "plain", "error", status=7)
