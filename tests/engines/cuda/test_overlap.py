"""Who waits for whom in a read: a trace on the fake device, which has no times but all waits."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gpuzarr.cli.traced import traced_read
from gpuzarr.engines.cuda.engine import CudaEngine
from gpuzarr.engines.cuda.session import CudaSession
from gpuzarr.plan.batches import BatchLimits
from tests.arrays import plain_store
from tests.cuda_devices import assert_same, fake
from tests.engines.cuda.stores import BLOSC, GZIP, ZSTD, blosc, opened, zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.engines.trace import Span
    from tests.engines.cuda.fake_device import FakeDevice

__all__ = ["fake"]  # a fixture

VALUES = np.random.default_rng(0).integers(-99, 99, (64, 96), np.int32)
BATCHES = 24
ON_STREAMS = {"upload", "decompress", "kernel", "download"}


@pytest.fixture(autouse=True)
def a_chunk_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever memory there is."""
    limits = BatchLimits(1, 1, 0, least_nbytes=1)
    monkeypatch.setattr(CudaEngine, "limits_for", lambda *_: limits)


def trace(encode: Callable[[bytes], bytes], *codecs: Any, **choices: Any) -> list[Span]:
    """What a read of all values did."""
    store = plain_store(VALUES, (16, 16), encode=encode, codecs=("bytes", *codecs))
    read = traced_read(opened(store, **choices))
    assert_same(VALUES, read.result)
    return read.spans


def all_before(spans: Sequence[Span]) -> list[set[int]]:
    """For each operation all that it waited for, and what those did."""
    found: list[set[int]] = []
    for span in spans:
        before = set(span.after)
        for number in span.after:
            assert number < span.number
            before |= found[number]
        found.append(before)
    return found


def by_batch(spans: Sequence[Span], kind: str) -> dict[int, list[Span]]:
    found = defaultdict(list)
    for span in spans:
        if span.kind == kind and span.batch is not None:
            found[span.batch].append(span)
    return found


CHAINS = pytest.mark.parametrize(
    ("encode", "codecs"),
    [(bytes, ()), (zstd, (ZSTD,)), (blosc("zstd", 2), (BLOSC,))],
    ids=["uncompressed", "zstd", "blosc"],
)


@CHAINS
@pytest.mark.usefixtures("fake")
def test_an_upload_waits_for_no_decoding(encode: Any, codecs: Any) -> None:
    spans = trace(encode, *codecs)
    before = all_before(spans)
    uploads = by_batch(spans, "upload")
    assert list(uploads) == list(range(BATCHES))
    for batch, own in uploads.items():
        for upload in own:
            waited = [spans[number] for number in before[upload.number]]
            assert {span.kind for span in waited} <= {"read", "upload"}
            assert max(span.batch for span in waited if span.batch is not None) <= batch
            reads = {span.number for span in by_batch(spans, "read")[batch]}
            assert reads <= before[upload.number], "it brings what they read"


@CHAINS
@pytest.mark.usefixtures("fake")
def test_every_wait_is_forced(encode: Any, codecs: Any) -> None:
    """Between lanes there are these: uploads wait for reads, work for its own uploads, the host at
    the end for the device. All else is the order of one stream, which is the consumer's.
    """
    spans = trace(encode, *codecs)
    between: Counter[tuple[str, str]] = Counter()
    for span in spans:
        for number in span.after:
            other = spans[number]
            if other.lane == span.lane:
                continue
            between[other.kind, span.kind if span.kind in {"upload", "wait"} else "work"] += 1
            if span.kind != "wait":
                assert other.batch == span.batch
    assert set(between) == {("read", "upload"), ("upload", "work"), ("download", "wait")}
    assert between["upload", "work"] == BATCHES, "the last upload of a batch stands for all"
    lanes = defaultdict(set)
    for span in spans:
        if span.kind in ON_STREAMS:
            lanes[span.lane].add(span.kind)
    assert lanes.pop("copies") == {"upload"}
    (work,) = lanes.values()
    assert work == {"kernel", "download"} | ({"decompress"} if codecs else set())


@CHAINS
@pytest.mark.usefixtures("fake")
def test_work_waits_for_the_whole_upload_of_its_batch(encode: Any, codecs: Any) -> None:
    spans = trace(encode, *codecs)
    before = all_before(spans)
    uploads = by_batch(spans, "upload")
    for kind in ("decompress", "kernel"):
        for batch, own in by_batch(spans, kind).items():
            for span in own:
                if span.name == "clear":
                    continue
                waited = {
                    number for number in before[span.number] if spans[number].kind == "upload"
                }
                due = {upload.number for n in range(batch + 1) for upload in uploads[n]}
                assert waited == due, "and for that of no later one"


@pytest.mark.usefixtures("fake")
def test_the_longest_way_has_one_upload() -> None:
    """With operations that take as long as their kind, batches hide in each other."""
    spans = trace(zstd, ZSTD)
    seconds = {"read": 1.0, "upload": 10.0, "decompress": 10.0}
    ends: list[float] = []
    for span in spans:
        begins = max((ends[number] for number in span.after), default=0.0)
        ends.append(begins + seconds.get(span.kind, 0.0))
    total = sum(seconds.get(span.kind, 0.0) for span in spans)
    uploads = sum(span.kind == "upload" for span in spans)
    chain = max(ends)
    assert uploads == 2 * BATCHES, "staging and table"
    assert chain == 1.0 + 10.0 * uploads + 10.0, "uploads one after the other, and the last decode"
    assert chain < total - 10.0 * (BATCHES - 1) + 1e-9


@CHAINS
@pytest.mark.usefixtures("fake")
def test_the_host_waits_at_the_end_only(encode: Any, codecs: Any) -> None:
    spans = trace(encode, *codecs)
    waits = [span.number for span in spans if span.kind == "wait"]
    work = [span.number for span in spans if span.kind in ON_STREAMS]
    assert len(waits) == BATCHES
    assert min(waits) > max(work)
    (finish,) = (span for span in spans if span.name == "finish")
    assert all(finish.start <= spans[n].start <= spans[n].stop <= finish.stop for n in waits)


@pytest.mark.usefixtures("fake")
def test_memory_alone_makes_the_host_wait_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does, most of what it may use is in use."""
    used: list[int] = []
    land = CudaSession._land  # noqa: SLF001

    def note(session: CudaSession, **choices: Any) -> None:
        used.append(max(session._flying_nbytes, session._host_nbytes))  # noqa: SLF001
        land(session, **choices)

    monkeypatch.setattr(CudaSession, "_land", note)
    early = []
    for limit in (100_000, 200_000, 1 << 20):
        used.clear()
        spans = trace(zstd, ZSTD, memory_limit=limit)
        work = max(span.number for span in spans if span.kind in ON_STREAMS)
        early.append(sum(span.kind == "wait" and span.number < work for span in spans))
        assert all(2 * nbytes > limit for nbytes in used[: early[-1]])
    assert early[0] > early[1] > early[2] == 0


def test_slabs_are_in_rotation(fake: FakeDevice) -> None:
    store = plain_store(VALUES, (16, 16), encode=zstd, codecs=("bytes", ZSTD))
    array = opened(store, memory_limit=100_000)
    array[...]
    slabs = 3 * BATCHES  # of staging, table and statuses
    assert 0 < fake.counts["pin"] < slabs // 2
    fake.counts.clear()
    array[...]
    assert not fake.counts["pin"]


@pytest.mark.usefixtures("fake")
def test_what_is_not_stored_is_filled_without_waits() -> None:
    store = plain_store(VALUES, (16, 16), encode=zstd, codecs=("bytes", ZSTD))
    for key in [key for key in store if key.startswith("c/1")]:
        del store[key]
    expected = VALUES.copy()
    expected[16:32] = 0
    read = traced_read(opened(store))
    assert_same(expected, read.result)
    fills = [span for span in read.spans if span.name == "fill" and span.kind == "kernel"]
    assert fills
    before = all_before(read.spans)
    for span in read.spans:
        if span.kind == "upload":
            assert {read.spans[n].kind for n in before[span.number]} <= {"read", "upload"}


def test_a_read_that_is_not_traced_is_the_same(fake: FakeDevice) -> None:
    """As many calls, and none that is timed."""
    import gzip  # noqa: PLC0415

    store = plain_store(VALUES, (16, 16), encode=gzip.compress, codecs=("bytes", GZIP))
    array = opened(store)
    fake.trace.clear()
    assert_same(VALUES, array[...])
    plain = list(fake.trace)
    put = fake.copy_stream.put
    fake.trace.clear()
    traced_read(array)
    assert fake.trace == plain
    assert fake.copy_stream.put > 2 * put, "times are taken on the stream"
    put = fake.copy_stream.put
    array[...]
    assert fake.copy_stream.put - put < put // 2
