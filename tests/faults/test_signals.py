"""Ctrl-C in the middle of anything, and readers of a pipe that go away."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.programs import LIMIT_S, check_program, hierarchy, write_files

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals to oneself")

INTERRUPT = """
use_many_threads()
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)  # a thread of the pool gives the main thread time to notice
"""


def test_an_interrupt_in_the_middle_of_any_way_to_read() -> None:
    """It arrives, nothing is read or written any more, and the array works on."""
    code = """
crops = {"crop": (20, 30), "batch_size": 3}
ways = {
    "[...]": lambda a, out: a.read(out=out),
    "steps": lambda a, out: a.read(slice(None, None, 2), out=out[::2]),
    "read_async": lambda a, out: a.read_async(out=out).result(),
    "read_batch": lambda a, out: gpuzarr.read_batch(
        [(a, slice(0, 60)), (a, slice(60, 120))], out=out.reshape(2, 60, 120)
    ),
    "oindex": lambda a, out: a.oindex[[5, 7, 100], :],
    "Loader": lambda a, out: list(gpuzarr.Loader(a, **crops)),
    "Loader, alone": lambda a, out: list(gpuzarr.Loader(a, prefetch=0, **crops)),
    "await": lambda a, out: asyncio.run(a.getitem(...)),
}
for threads in (1, 4):
    for values, path in ((plain(), ""), (sharded(), ""), (hierarchy(), "inside/blosc")):
        for name, way in ways.items():
            for after in (1, 3):
                store = WatchedStore(values, 0.0005, interrupt, after)
                array = gpuzarr.open_array(store, path=path, threads=threads)
                out = np.zeros((120, 120), "i4")
                try:
                    way(array, out)
                except KeyboardInterrupt:
                    interrupted = True  # whose traceback may hold what was going on
                else:
                    interrupted = False
                assert interrupted, name
                drain()
                store.taken()
                before = out.copy()
                time.sleep(0.003)
                drain()
                assert not store.taken(), name
                assert (out == before).all(), name
                assert (array[...] == NUMBERS).all(), name
                assert "gpuzarr-loader" not in [t.name for t in threading.enumerate()]
print("done")
"""
    check_program(INTERRUPT + code)


COMMANDS = """
from gpuzarr.cli import main
from gpuzarr.stores.local import LocalStore
signal.signal(signal.SIGINT, signal.default_int_handler)
read, count = LocalStore.read, 0
def interrupted(self, *arguments, **more):
    global count
    count += 1
    if count == after:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
    return read(self, *arguments, **more)
del LocalStore.read_row
LocalStore.read = interrupted
"""


def test_an_interrupt_in_the_middle_of_commands(tmp_path: Path) -> None:
    """Exit status 130, a word about it, and no file that looks whole."""
    write_files(tmp_path / "data", hierarchy())
    code = """
import contextlib, io
root, out = sys.argv[1], sys.argv[2]
commands = [
    ["info", root], ["tree", root], ["explain", f"{root}/plain"], ["verify", root],
    ["read", f"{root}/plain", "-o", f"{out}/result.npy"], ["read", f"{root}/shards"],
    ["info", root, "--json"], ["verify", f"{root}/plain", "--json"],
]
for command in commands:
    for after in (1, 2, 4, 20):
        said, count = io.StringIO(), 0
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = main(command)
        if count >= after:
            assert status == 130, (command, after, status, said.getvalue())
            assert "interrupted" in said.getvalue() and "Traceback" not in said.getvalue()
            assert os.listdir(out) == [], os.listdir(out)
        else:
            assert status == 0, (command, said.getvalue())
            for name in os.listdir(out):
                os.unlink(f"{out}/{name}")
print("done")
"""
    (tmp_path / "out").mkdir()
    check_program(COMMANDS + code, tmp_path / "data", tmp_path / "out")


CLI = "import sys; from gpuzarr.cli import main; sys.exit(main())"


def shell(line: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a line in which `gpuzarr` is the command, $1, $2, ... the arguments."""
    return subprocess.run(
        ["bash", "-c", f'gpuzarr() {{ "$PYTHON" -c "$CLI" "$@"; }}\n{line}', "bash"]
        + [str(argument) for argument in arguments],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CLI": CLI}
        | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('gpuzarr tree "$1" | head -n 1', 0),
        ('gpuzarr info --json "$1" | true', 0),
        ('gpuzarr verify "$2" 2>&1 | true', None),
        ("gpuzarr info nowhere 2>&1 >/dev/null | true", None),
        ('gpuzarr tree "$1" >&-', None),
        ('gpuzarr tree "$1" >/dev/full', 2),
        ('gpuzarr info --json "$1" >/dev/full', 2),
        ("gpuzarr info nowhere 2>/dev/full", 2),
        ("gpuzarr info nowhere 2>&-", 2),
    ],
)
def test_a_reader_that_goes_away(line: str, status: int | None, tmp_path: Path) -> None:
    """No traceback, whoever does not listen; a full disk is an error."""
    values = hierarchy()
    write_files(tmp_path / "good", values)
    values["plain/c/1/1"] = b"damaged"
    write_files(tmp_path / "bad", values)
    done = shell(f"{line}\nexit ${{PIPESTATUS[0]}}", tmp_path / "good", tmp_path / "bad")
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stdout + done.stderr
    if status is not None:
        assert done.returncode == status, done.stderr
