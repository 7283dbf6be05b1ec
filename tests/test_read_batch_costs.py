"""What `read_batch` asks of the store, of decoders, of Python, of a GPU and of memory, counted."""

from __future__ import annotations

import threading
import tracemalloc
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cpu.decoder import ChunkDecoder
from gpuzarr.plan.grid import RegularAxis
from gpuzarr.plan.joint import JointPlan, Wanted
from gpuzarr.plan.selection import normalize_selection
from tests.arrays import CountingStore, plain_store, sharded_store
from tests.batches import check_batch, numpy_device
from tests.cuda_devices import assert_same, fake, installed
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.fake_nvcomp import FakeNvcomp
from tests.engines.cuda.stores import ZSTD, opened, zstd
from tests.test_counters import calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["fake", "numpy_device"]  # fixtures

Values = np.ndarray[Any, Any]

SIDE, CROP = 96, 16
CUBE = np.random.default_rng(1).integers(0, 99, (SIDE,) * 3, np.int32)


def cube(*, sharded: bool) -> CountingStore:
    if sharded:
        codecs = ("bytes", ZSTD)
        return CountingStore(
            sharded_store(CUBE, (48,) * 3, (12,) * 3, encode=zstd, inner_codecs=codecs)
        )
    return CountingStore(plain_store(CUBE, (24,) * 3, encode=zstd, codecs=("bytes", ZSTD)))


def boxes(count: int, side: int = CROP, within: int = SIDE, seed: int = 0) -> list[Any]:
    corners = np.random.default_rng(seed).integers(0, within - side + 1, (count, 3)).tolist()
    return [tuple(slice(low, low + side) for low in corner) for corner in corners]


def touched(keys: Sequence[Any], chunk: int) -> set[tuple[int, ...]]:
    """The chunks that boxes touch, one by one."""
    return {
        (i, j, k)
        for a, b, c in keys
        for i in range(a.start // chunk, (a.stop - 1) // chunk + 1)
        for j in range(b.start // chunk, (b.stop - 1) // chunk + 1)
        for k in range(c.start // chunk, (c.stop - 1) // chunk + 1)
    }


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """An entry for every zstd frame that is decompressed, on whichever device."""
    times: list[None] = []
    lock = threading.Lock()
    decode, decode_many = ChunkDecoder.decode, ChunkDecoder.decode_many
    decompress = FakeNvcomp.decompress

    def counted(self: Any, encoded: Any, out: Any = None) -> Any:
        if len(encoded) and bytes(encoded[:4]) == b"\x28\xb5\x2f\xfd":  # shard indexes are none
            with lock:
                times.append(None)
        return decode(self, encoded, out)

    def counted_many(self: Any, encoded: Any, *others: Any) -> Any:
        with lock:
            times.extend([None] * len(encoded))
        return decode_many(self, encoded, *others)

    def counted_together(self: Any, format: str, streams: Any, **others: Any) -> None:  # noqa: A002
        with lock:
            times.extend([None] * streams.count)
        decompress(self, format, streams, **others)

    monkeypatch.setattr(ChunkDecoder, "decode", counted)
    monkeypatch.setattr(ChunkDecoder, "decode_many", counted_many)
    monkeypatch.setattr(FakeNvcomp, "decompress", counted_together)
    return times


@pytest.mark.parametrize("sharded", [False, True])
def test_many_crops_fetch_and_decode_each_chunk_once(
    numpy_device: str, decoded: list[None], *, sharded: bool
) -> None:
    store = cube(sharded=sharded)
    array = gpuzarr.open_array(store, device=numpy_device)
    store.taken()
    keys = boxes(256)
    found = gpuzarr.read_batch([(array, key) for key in keys])
    np.testing.assert_array_equal(found, np.stack([CUBE[key] for key in keys]))
    reads = store.taken()
    chunk = 12 if sharded else 24
    assert len(decoded) == len(touched(keys, chunk))
    if not sharded:
        assert sorted(key for key, _, _ in reads) == sorted(
            "c/" + "/".join(map(str, coords)) for coords in touched(keys, chunk)
        )
        return
    shards = {"c/" + "/".join(map(str, coords)) for coords in touched(keys, 48)}
    assert sorted(key for key, offset, _ in reads if offset < 0) == sorted(shards)
    covered: dict[str, int] = {}
    for key, offset, nbytes in sorted(reads, key=lambda read: read[:2]):
        if offset >= 0:
            assert offset >= covered.get(key, 0), "no byte is read twice"
            covered[key] = offset + nbytes
    gpuzarr.read_batch([(array, key) for key in keys])
    assert all(offset >= 0 for _, offset, _ in store.taken()), "indexes are known"


def test_lists_and_other_ways_share_chunks_too(numpy_device: str, decoded: list[None]) -> None:
    store = cube(sharded=False)
    array = gpuzarr.open_array(store, device=numpy_device)
    store.taken()
    pairs: list[Any] = [
        (array, (3, 5, slice(None))),
        (array, (slice(0, 20), slice(20, 30), 1)),
        (array, ([1, 2, 1], [3, 3, 23], [0, 0, 95])),
        (array.blocks, (0, 0, 0)),
        (array.oindex, ([5, 6], [23, 0], slice(None, None, -8))),
    ]
    gpuzarr.read_batch(pairs)
    expected = {(0, 0, k) for k in range(4)} | {(0, 1, 0)}
    assert len(decoded) == len(expected)
    assert sorted(key for key, _, _ in store.taken()) == sorted(
        "c/" + "/".join(map(str, coords)) for coords in expected
    )


def test_several_arrays_read_no_chunk_twice(numpy_device: str, decoded: list[None]) -> None:
    stores = [cube(sharded=False) for _ in range(3)]
    arrays = [gpuzarr.open_array(store, device=numpy_device) for store in stores]
    for store in stores:
        store.taken()
    pairs = [(arrays[i % 3], key) for i, key in enumerate(boxes(60))]
    gpuzarr.read_batch(pairs)
    due = [touched([key for array, key in pairs if array is one], 24) for one in arrays]
    assert [len(store.taken()) for store in stores] == list(map(len, due))
    assert len(decoded) == sum(map(len, due))


# --------------------------------------------------------------------------------- on the device

LIKE: dict[str, Any] = {
    "crops": lambda i: (slice(i % 80, i % 80 + 9), slice(3, 70), slice(i % 7, i % 7 + 11)),
    "steps": lambda i: (i % SIDE, slice(None, None, 2 + i % 2), slice(None, None, -3)),
    "lists": lambda i: ([i % SIDE, 5, 95], slice(i % 9, 90), [3, i % 50, 77]),
    "of different shapes": lambda i: (slice(0, 1 + i % 40), i % SIDE, slice(None)),
    "mixed": lambda i: (i % SIDE, 0) if i % 2 else ([i % SIDE] * 40, 3, slice(i % 9)),
}


@pytest.mark.parametrize("how", LIKE)
@pytest.mark.parametrize("sharded", [False, True])
def test_calls_of_the_device_do_not_grow_with_selections(
    fake: FakeDevice, how: str, *, sharded: bool
) -> None:
    array = opened(cube(sharded=sharded), memory_limit=1 << 28)
    pairs = [(array, LIKE[how](i)) for i in range(200)]
    found = []
    for count in (40, 200):
        gpuzarr.read_batch(pairs[:count])  # all indexes are known
        fake.counts.clear()
        gpuzarr.read_batch(pairs[:count])
        del fake.counts["pin"]  # that is pooled
        found.append(Counter(fake.counts))
    few, many = found
    assert few == many
    assert many["decompress"] == 1
    assert many["launch"] <= 6
    assert many["allocate"] == 3, "what is uploaded, the memory to decode in, and the table"


def test_arrays_of_one_program_share_the_calls(fake: FakeDevice) -> None:
    arrays = [opened(cube(sharded=False), memory_limit=1 << 28) for _ in range(5)]
    found = []
    for count in (1, 5):
        fake.counts.clear()
        pairs = [(arrays[i % count], key) for i, key in enumerate(boxes(50))]
        check = gpuzarr.read_batch(pairs)
        assert_same(np.stack([CUBE[key] for _, key in pairs]), check)
        found.append(Counter(fake.counts))
    assert found[0]["launch"] == found[1]["launch"]
    assert found[0]["decompress"] == found[1]["decompress"] == 1


def test_planning_crops_makes_as_many_calls_for_many_pieces_as_for_few() -> None:
    selections = [normalize_selection(key, CUBE.shape) for key in boxes(200)]
    wanted = [Wanted(0, selection, 0, place) for place, selection in enumerate(selections)]
    found = []
    for chunk in (48, 4):
        plan = JointPlan(wanted, [[RegularAxis(SIDE, chunk)] * 3], 1, 4)
        ((_, pieces),) = plan.blocks()
        found.append((len(pieces), calls(partial(list, plan.blocks()))))
    (few, few_calls), (many, many_calls) = found
    assert many > 20 * few
    assert many_calls == few_calls


# ---------------------------------------------------------------------------------------- memory


@pytest.mark.sampled(one_in=2)
@pytest.mark.parametrize("limit", [150_000, 400_000])
@pytest.mark.parametrize("how", ["crops", "of different shapes", "lists"])
@pytest.mark.parametrize("sharded", [False, True])
def test_memory_on_the_device_stays_in_the_limit(limit: int, how: str, *, sharded: bool) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 999, (64, 64, 16), np.int32)
    codecs = ("bytes", ZSTD)
    if sharded:
        store = sharded_store(values, (32, 32, 16), (8, 8, 8), encode=zstd, inner_codecs=codecs)
    else:
        store = plain_store(values, (8, 8, 16), encode=zstd, codecs=codecs)
    keys: dict[str, list[Any]] = {
        "crops": [
            tuple(slice(i % 9 + k, i % 9 + k + 7) for k in (i, i // 2, 0)) for i in range(48)
        ],
        "of different shapes": [(slice(i % 40, None, 3), slice(i % 9)) for i in range(40)],
        "lists": [([i % 64, 5, 63], slice(0, 60), [3, i % 16, 7]) for i in range(40)],
    }
    fake = FakeDevice()
    with installed(fake):
        array = opened(store, memory_limit=limit)
        check_batch([(array, key) for key in keys[how]])
        assert 0 < fake.peak <= limit
        assert fake.used == 0
        engine: Any = array._prepare(array._snapshot).engine  # noqa: SLF001
        assert 0 < engine.pool.peak_nbytes <= limit
        assert engine.pool.lent_nbytes == 0


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_memory_on_the_host_is_that_of_a_chunk_or_two() -> None:
    """Chunks of 4 MiB, of which 16 are read for results of some KiB."""
    values = np.zeros((16, 1 << 20), np.int32)
    store = plain_store(values, (1, 1 << 20), encode=zstd, codecs=("bytes", ZSTD))
    array = gpuzarr.open_array(store, device="cpu", threads=2, memory_limit=10 << 20)
    pairs = [(array, (i % 16, slice(9 * i, 9 * i + 64))) for i in range(200)]
    gpuzarr.read_batch(pairs)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    gpuzarr.read_batch(pairs)
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before <= 10 << 20
    small = gpuzarr.open_array(store, device="cpu", memory_limit=1 << 20)
    with pytest.raises(gpuzarr.MemoryLimitError, match=r"memory_limit is 1,048,576"):
        gpuzarr.read_batch([(small, key) for _, key in pairs])


def test_a_chunk_above_the_limit_says_what_it_needs(fake: FakeDevice) -> None:
    array = opened(cube(sharded=False), memory_limit=20_000)
    with pytest.raises(gpuzarr.MemoryLimitError, match=r"needs [\d,]+ bytes.*20,000"):
        gpuzarr.read_batch([(array, key) for key in boxes(20)])
    assert fake.used == 0


def test_results_that_do_not_fit_are_refused(fake: FakeDevice) -> None:
    array = opened(cube(sharded=False))
    fake.free = 100 * CROP**3
    with pytest.raises(gpuzarr.MemoryLimitError, match="bytes of device memory"):
        gpuzarr.read_batch([(array, key) for key in boxes(100)])
