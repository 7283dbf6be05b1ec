"""Traces: what is noted, by whom, and in which form it leaves."""

from __future__ import annotations

import json
import threading
from time import perf_counter, sleep
from typing import Any

import pytest

from gpuzarr.engines.trace import Trace, WatchedReads, chrome_events
from gpuzarr.stores.memory import MappingStore


def test_spans_know_their_thread_and_batch() -> None:
    trace = Trace()
    with trace.at(3):
        with trace.span("host", "outer"), trace.at(None), trace.span("decode", "inner"):
            pass
        with trace.span("read", "key", batch=5) as nbytes:
            nbytes += [7, 8]

    def elsewhere() -> None:
        with trace.span("read", "other"):
            pass

    for _ in range(2):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    found = [(span.name, span.batch, span.nbytes) for span in trace.spans()]
    assert found[:3] == [("inner", None, None), ("outer", 3, None), ("key", 5, 15)]
    assert [span.number for span in trace.spans()] == [0, 1, 2, 3, 4]
    lanes = [span.lane for span in trace.spans()]
    assert lanes[:4] == ["caller", "caller", "caller", "thread 1"]
    assert trace.batch is None


def test_times_are_from_the_beginning_on() -> None:
    began = perf_counter()
    trace = Trace()
    with trace.span("host", "first"):
        sleep(0.002)
    with pytest.raises(ZeroDivisionError), trace.span("host", "fails"):
        _ = 1 / 0
    first, second = trace.spans()
    assert 0 <= first.start <= first.stop - 0.002
    assert first.stop <= second.start <= second.stop <= perf_counter() - began


def test_times_of_a_device_are_asked_for_at_the_end() -> None:
    trace = Trace()
    asked: list[int] = []

    def times() -> tuple[float, float]:
        asked.append(1)
        return trace.zero + 1.0, trace.zero + 1.5

    number = trace.note("upload", "x", times, lane="copies", nbytes=9, after=(4,), batch=2)
    assert (number, asked) == (0, [])
    (span,) = trace.spans()
    assert asked == [1]
    assert (span.lane, span.batch, span.nbytes, span.after) == ("copies", 2, 9, (4,))
    assert (span.start, span.stop) == pytest.approx((1.0, 1.5))


def test_reads_are_noted_whole_and_in_rows() -> None:
    store = MappingStore({"a": b"12345", "b": b"678"})
    trace = Trace()
    keys, offsets, sizes = ["a", "none", "b"], [1, 0, 0], [2, -1, -1]
    reads = WatchedReads(store.start_reads(keys, offsets, sizes), keys, trace, 4)
    blobs = [reads.result(row) for row in range(3)]
    assert [None if blob is None else bytes(blob.data) for blob in blobs] == [b"23", None, b"678"]
    assert [(s.name, s.batch, s.nbytes) for s in trace.spans()] == [
        ("a", 4, 2),
        ("none", 4, None),
        ("b", 4, 3),
    ]

    class Rows:
        def read_row(self, wanted: Any, memory: Any, stopped: Any) -> list[int]:
            del stopped
            memory.used += len(list(wanted))
            return [1, 2]

    class Memory:
        used = 10

    rows: Any = Rows()
    watched = WatchedReads(rows, keys, trace, 5)
    wanted: Any = [("a", 0, 1, None), ("b", 0, 1, None)]
    memory: Any = Memory()
    assert watched.read_row is not None
    assert watched.read_row(wanted, memory, lambda: False) == [1, 2]
    assert [(s.batch, s.nbytes) for s in trace.spans()[3:]] == [(5, 2)]
    assert reads.read_row is None


def test_chromes_format() -> None:
    trace = Trace()
    trace.note("upload", "x", lambda: (trace.zero + 1e-3, trace.zero + 3e-3), lane="copies")
    with trace.span("host", "y", batch=1):
        pass
    document = json.loads(json.dumps(chrome_events(trace.spans())))
    names = [event for event in document["traceEvents"] if event["ph"] == "M"]
    assert [event["args"]["name"] for event in names] == ["copies", "caller"]
    upload, host = (event for event in document["traceEvents"] if event["ph"] == "X")
    assert (upload["cat"], upload["tid"]) == ("upload", 0)
    assert (upload["ts"], upload["dur"]) == pytest.approx((1000.0, 2000.0))
    assert host["args"] == {"number": 1, "batch": 1, "nbytes": None, "after": []}
