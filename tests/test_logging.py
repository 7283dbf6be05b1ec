"""What a read says of itself: one line a hop at DEBUG, and nothing unless asked."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import gpuzarr
from tests.arrays import plain_store, sharded_store

if TYPE_CHECKING:
    from collections.abc import Callable

ARRAY = np.arange(40 * 30, dtype=np.int32).reshape(40, 30)

HOPS = [
    ("gpuzarr.group", "parse"),
    ("gpuzarr.codec", "lower"),
    ("gpuzarr.engine", "choose"),
    ("gpuzarr.array", "select"),
    ("gpuzarr.array", "plan"),
    ("gpuzarr.store", "locate"),
    ("gpuzarr.array", "batch"),
    ("gpuzarr.store", "fetch"),
    ("gpuzarr.engine", "decode"),
    ("gpuzarr.engine", "finish"),
]


def hops(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    records = [(r.name, r.getMessage().partition(":")[0]) for r in caplog.records]
    caplog.clear()
    return records


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "gpuzarr")
    return caplog


@pytest.mark.parametrize("threads", [1, 2])
def test_a_read_says_one_line_a_hop(log: pytest.LogCaptureFixture, threads: int) -> None:
    array = gpuzarr.open_array(plain_store(ARRAY, (4, 3)), threads=threads)
    array[...]
    assert hops(log) == HOPS
    array[3]
    assert hops(log) == HOPS[3:]


def test_the_lines_tell_numbers(log: pytest.LogCaptureFixture) -> None:
    values = sharded_store(ARRAY, (20, 30), (10, 10), skip=lambda coords: coords == (0, 0))
    gpuzarr.open_array(values, path="", threads=1)[:20]
    text = log.text
    assert "parse: /, a v3 array" in text
    assert "lower: / to elements of int32" in text
    assert "select: (20, 30) of /" in text
    assert "plan: 6 chunks" in text
    assert "locate: 6 chunks in 1 objects, 1 not in them" in text
    assert "fill: 1 chunks" in text
    assert "fetch: 1 requests, 2000 bytes and 0 whole objects" in text
    assert "decode: 5 chunks" in text
    assert "finish: 2400 bytes in " in text


def test_nothing_is_said_at_import() -> None:
    code = """
import logging
records = []
class Keep(logging.Handler):
    def emit(self, record): records.append(record)
logging.basicConfig(level=1, handlers=[Keep()], force=True)
import gpuzarr, gpuzarr.cli.command_line
assert not [record for record in records if record.name.startswith("gpuzarr")], records
for name in ("gpuzarr", "gpuzarr.array"):
    logger = logging.getLogger(name)
    assert logger.handlers == [] and logger.level == logging.NOTSET, logger
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_no_record_is_made_when_nobody_listens() -> None:
    made = []

    def make(*args: object, **_: object) -> logging.LogRecord:
        made.append(args)
        return logging.LogRecord("", 0, "", 0, "", None, None)

    factory = logging.getLogRecordFactory()
    try:
        logging.setLogRecordFactory(make)
        array = gpuzarr.open_array(plain_store(ARRAY, (10, 10), skip=lambda coords: coords[0] == 3))
        array[...]
        array[30:]  # all missing, which is said at INFO
    finally:
        logging.setLogRecordFactory(factory)
    assert made == []


def test_lines_do_not_grow_with_chunks(log: pytest.LogCaptureFixture) -> None:
    for side in (10, 1):
        gpuzarr.open_array(plain_store(ARRAY, (side, side)))[...]
        assert hops(log) == HOPS


# ------------------------------------------------------------------------- all values are fill


def told(log: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in log.records if record.levelno == logging.INFO]
    log.clear()
    return found


def unsharded() -> dict[str, bytes]:
    return plain_store(ARRAY, (10, 10), path="a/b", skip=lambda coords: coords[0] == 3)


def sharded() -> dict[str, bytes]:
    values = sharded_store(ARRAY, (20, 30), (10, 10), skip=lambda coords: coords[0] == 1)
    return {f"a/b/{key}": value for key, value in values.items()}


@pytest.mark.parametrize("make", [unsharded, sharded])
def test_a_read_that_finds_nothing_says_so_once(
    log: pytest.LogCaptureFixture, make: Callable[[], dict[str, bytes]]
) -> None:
    array = gpuzarr.open_array(make(), path="a/b")
    np.testing.assert_array_equal(array[30:, :25], 0)
    (line,) = told(log)
    assert "none of the 3 chunks of a/b" in line
    if make is unsharded:
        assert "looked for a/b/c/3/0, a/b/c/3/1, a/b/c/3/2" in line
        assert "explain()" in line
    else:
        assert "looked for a/b/c/1/0" in line
        assert "explain()" not in line
    array[30:]
    assert told(log) == []
    gpuzarr.open_array(make(), path="a/b")[30:]
    assert len(told(log)) == 1


@pytest.mark.parametrize("make", [unsharded, sharded])
@pytest.mark.parametrize("key", [slice(29, 31), slice(0, 0), slice(0, 10)], ids=str)
def test_other_reads_say_nothing(
    log: pytest.LogCaptureFixture, make: Callable[[], dict[str, bytes]], key: slice
) -> None:
    gpuzarr.open_array(make(), path="a/b")[key]
    assert told(log) == []


def test_a_slow_read_says_where_to_look(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    array = gpuzarr.open_array(plain_store(np.arange(4, dtype=np.int32), (2,)))
    with caplog.at_level(logging.INFO, "gpuzarr"):
        assert len(array[...]) == 4
        assert not caplog.records
        monkeypatch.setattr("gpuzarr.pending.SLOW_SECONDS", -1.0)
        assert len(array[...]) == 4
    assert "explain(key)" in caplog.text
