"""However a loader's consumer ends, its process goes on or ends in time, and nothing reads on."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.loader.programs import check_program, run_program

either = pytest.mark.parametrize("prefetch", [0, 2])
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no signals to oneself")


# ---------------------------------------------------------------------------- the consumer goes on

LEAVE = {
    "break": """
for batch in loader:
    break
""",
    "del": """
batches = iter(loader)
next(batches)
del batches
""",
    "close": """
batches = iter(loader)
next(batches)
batches.close()
assert list(batches) == []
""",
    "with": """
with iter(loader) as batches:
    next(batches)
""",
    "exception": """
def train():
    for batch in loader:
        raise ZeroDivisionError
try:
    train()
except ZeroDivisionError:
    pass
""",
    "generator": """
def generate():
    for batch in loader:
        yield batch
generator = generate()
next(generator)
generator.close()
""",
    "cycle": """
class Trainer: pass
trainer = Trainer()
trainer.me, trainer.batches = trainer, iter(loader)
next(trainer.batches)
del trainer, Trainer
gc.collect()
""",
    "never begun": """
iter(loader)
""",
}


@either
def test_a_consumer_that_leaves_an_epoch(prefetch: int) -> None:
    """In each way nothing is read any more, at once and without a garbage collection."""
    code = """
store = SlowStore(0.002)
gc.disable()
for name, leave in LEAVE.items():
    loader = make_loader(prefetch, store)
    exec(leave, {"loader": loader, "gc": gc})
    assert_quiet()
    store.taken()
    time.sleep(0.05)
    assert not store.taken(), name
    assert_works(loader)
print("done")
"""
    check_program(code.replace("LEAVE", repr(LEAVE)), prefetch)


@either
def test_an_iterator_ends_when_a_newer_one_begins(prefetch: int) -> None:
    code = """
loader = make_loader(prefetch)
old = iter(loader)
seen = origins([next(old)])
new = iter(loader)
assert sum(thread.name == "gpuzarr-loader" for thread in threading.enumerate()) == (prefetch > 0)
assert list(old) == []
old.close()
del old
assert sorted(seen + origins(new)) == ALL
assert_quiet()
assert_works(loader)
print("done")
"""
    check_program(code, prefetch)


@either
def test_a_damaged_chunk_is_named_and_the_loader_works_again(prefetch: int) -> None:
    code = """
values = numbers_store()
good, values["c/5/5"] = values["c/5/5"], b"too short"
loader = make_loader(prefetch, values)
for attempt in range(3):
    loader.set_epoch(0)
    seen = []
    batches = iter(loader)
    try:
        for batch in batches:
            seen.append(batch)
        raise AssertionError("no error")
    except gpuzarr.ChunkError as error:
        text = str(error)
        assert f"in batch {len(seen)} of epoch 0, at the windows [40:48, 36:48]" in text, text
        assert "chunk (5, 5) in 'c/5/5'" in text, text
        assert [failure.coords for failure in error.failures] == [(5, 5)]
    assert_quiet()
    assert list(batches) == []
    origins(seen)
values["c/5/5"] = good
assert_works(loader)
print("done")
"""
    check_program(code, prefetch)


def test_memory_holds_no_more_batches_than_were_asked_for() -> None:
    code = """
import weakref
from gpuzarr.loader import loader as module
made = []
class Reader(module.BatchReader):
    def __call__(self, *arguments):
        made.append(None)
        results = super().__call__(*arguments)
        made[-1] = weakref.ref(results[0])
        return results
module.BatchReader = Reader
gc.disable()
for prefetch in (0, 1, 3):
    loader = make_loader(prefetch, batch_size=1)
    made.clear()
    for number, batch in enumerate(loader):
        for _ in range(3):
            time.sleep(0.003)
            living = sum(reference is None or reference() is not None for reference in list(made))
            assert living <= 1 + prefetch, living
        assert len(made) <= number + 1 + prefetch
    assert len(made) == len(loader)
    del batch
    assert all(reference() is None for reference in made)
print("done")
"""
    check_program(code)


# -------------------------------------------------------------------------------- the process ends

SIGTERM = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
HANDLED = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
END = {
    "sys.exit": ("sys.exit(7)", 7),
    "os._exit": ("sys.stdout.flush(); os._exit(7)", 7),
    "the last line": ("break", 0),
    "SIGTERM": ("sys.stdout.flush(); " + SIGTERM, -signal.SIGTERM),
    "SIGTERM, handled": (HANDLED + SIGTERM, 7),
}


@needs_signals
@pytest.mark.parametrize(("end", "status"), END.values(), ids=END)
def test_a_process_ends_in_the_middle_of_an_epoch(end: str, status: int) -> None:
    """While batches are read from a slow store, for an iterator that nobody forgets."""
    code = """
loader = make_loader(prefetch, SlowStore(0.02))
batches = iter(loader)
for batch in batches:
    print("done")
    END
"""
    check_program(code.replace("END", end), status=status)


@either
@pytest.mark.parametrize("end", ["sys.exit()", "return"])
def test_a_process_ends_inside_of_a_loop(end: str, prefetch: int) -> None:
    code = """
def train():
    for batch in make_loader(prefetch, SlowStore(0.02)):
        print("done")
        END
train()
"""
    check_program(code.replace("END", end), prefetch)


def test_an_error_that_nobody_catches_ends_the_process() -> None:
    code = """
batches = iter(make_loader(prefetch, SlowStore(0.02)))
for batch in batches:
    print("done")
    raise ZeroDivisionError("mine")
"""
    done = run_program(code)
    assert (done.returncode, done.stdout) == (1, "done\n")
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ZeroDivisionError: mine\n")
    assert done.stderr.count("Traceback") == 1


# ------------------------------------------------------------------------------------------- Ctrl-C


@either
@needs_signals
def test_an_interrupt_while_the_consumer_waits_for_a_slow_store(prefetch: int) -> None:
    code = """
store = SlowStore(0.05)
loader = make_loader(prefetch, store)
signal.signal(signal.SIGINT, signal.default_int_handler)  # the background ignores it
def interrupt():
    store.asked.wait()
    time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    origins(loader)
    print("not interrupted")
except KeyboardInterrupt:
    assert_quiet()
    store.taken()
    time.sleep(0.2)
    assert not store.taken()
store.seconds = 0
assert_works(loader)
print("done")
"""
    check_program(code, prefetch)


@either
@needs_signals
def test_an_interrupt_while_the_consumer_works(prefetch: int) -> None:
    code = """
store = SlowStore(0.002)
loader = make_loader(prefetch, store)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    for batch in loader:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    print("not interrupted")
except KeyboardInterrupt:
    assert_quiet()
    assert loader.state_dict()["batch"] == 1
rest = origins(loader)  # it goes on behind the batch that was delivered
assert sorted(origins([batch]) + rest) == ALL
assert_works(loader)
print("done")
"""
    check_program(code, prefetch)


@needs_signals
def test_an_interrupt_that_nobody_catches_ends_the_process() -> None:
    code = """
signal.signal(signal.SIGINT, signal.default_int_handler)
batches = iter(make_loader(prefetch, SlowStore(0.02)))
for batch in batches:
    print("done", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    done = run_program(code)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "done\n")
    assert done.stderr.endswith("KeyboardInterrupt\n")


# ----------------------------------------------------------------------------- loaders side by side


@either
def test_two_loaders_taken_in_turn(prefetch: int) -> None:
    """Over two arrays, and over one."""
    code = """
options = {"crop": CROP, "batch_size": 4, "cache_nbytes": 4000, "prefetch": prefetch}
array = gpuzarr.open_array(numbers_store())
for other in (gpuzarr.open_array(numbers_store()), array):
    first = gpuzarr.Loader(array, shuffle=True, **options)
    second = gpuzarr.Loader(other, **options)
    for epoch in range(3):
        pairs = list(zip(first, second, strict=True))
        assert sorted(origins(one for one, _ in pairs)) == ALL
        assert origins(two for _, two in pairs) == ALL
assert_quiet()
print("done")
"""
    check_program(code, prefetch)


@either
def test_loaders_in_threads(prefetch: int) -> None:
    """Two threads over one array, and loaders made and used inside a pool's threads."""
    code = """
from concurrent.futures import ThreadPoolExecutor
array = gpuzarr.open_array(numbers_store())
def epochs(seed):
    loader = gpuzarr.Loader(
        array, crop=CROP, batch_size=4, shuffle=True, seed=seed, cache_nbytes=4000,
        prefetch=prefetch,
    )
    return [sorted(origins(loader)) for _ in range(3)]
with ThreadPoolExecutor(2) as pool:
    for found in pool.map(epochs, range(8)):
        assert found == [ALL] * 3
assert_quiet()
print("done")
"""
    check_program(code, prefetch)


@either
def test_a_thread_that_begins_an_epoch_ends_that_of_another_thread(prefetch: int) -> None:
    """Whose consumer waits just then; nothing incomplete is delivered."""
    code = """
def consume():
    batches = iter(loader)
    begun.set()
    seen.extend(origins(batches))

for attempt in range(3):
    store, seen, begun = SlowStore(0.01), [], threading.Event()
    loader = make_loader(prefetch, store)
    thread = threading.Thread(target=consume)
    thread.start()
    begun.wait()
    store.asked.wait()
    batches = iter(loader)
    thread.join()
    assert sorted({*seen, *origins(batches)}) == ALL
    assert_quiet()
print("done")
"""
    check_program(code, prefetch)
