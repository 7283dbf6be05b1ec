"""Small batches of different programs that are decoded together."""

from __future__ import annotations

import gzip
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import google_crc32c
import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.engines.cuda import session as cuda_session
from gpuzarr.engines.cuda.engine import CudaEngine
from gpuzarr.engines.cuda.flight import Flight
from gpuzarr.engines.cuda.staging import PinnedReading
from gpuzarr.plan.batches import BatchLimits
from tests.arrays import plain_store
from tests.cuda_devices import assert_same, cuda, fake, installed, to_numpy
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.interrupts import assert_nothing_is_under_way, interrupted
from tests.engines.cuda.stores import BLOSC, CRC32C, GZIP, ZSTD, blosc, lent_nbytes, opened, zstd

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cuda", "fake"]  # fixtures

SHAPE, CHUNK = (40, 30), (16, 8)
COUNT = 12
"""Chunks of an array."""


class Kind(NamedTuple):
    """How chunks are encoded, and the formats that nvCOMP decodes for it."""

    encode: Callable[[bytes], bytes]
    codecs: tuple[Any, ...]
    formats: tuple[str, ...]
    dtype: str = "<i4"


def lz4(data: bytes) -> bytes:
    return bytes(numcodecs.LZ4().encode(data))


def checked(data: bytes) -> bytes:
    frame = zstd(data)
    checksum: int = google_crc32c.value(frame)
    return frame + checksum.to_bytes(4, "little")


KINDS = {
    "plain": Kind(bytes, (), ()),
    "zstd": Kind(zstd, (ZSTD,), ("zstd",)),
    "zstd of another type": Kind(zstd, (ZSTD,), ("zstd",), "<u2"),
    "zstd, checksum": Kind(checked, (ZSTD, CRC32C), ("zstd",)),
    "blosc of zstd": Kind(blosc("zstd", 1), (BLOSC,), ("zstd",)),
    "blosc of zstd, bits": Kind(blosc("zstd", 2), (BLOSC,), ("zstd",)),
    "blosc of lz4": Kind(blosc("lz4", 1), (BLOSC,), ("lz4",)),
    "blosc of blosclz": Kind(blosc("blosclz", 1), (BLOSC,), ()),
    "lz4": Kind(lz4, ({"name": "numcodecs.lz4", "configuration": {}},), ("lz4",)),
    "gzip": Kind(gzip.compress, (GZIP,), ("gzip",)),
    "gzip of two members": Kind(
        lambda data: gzip.compress(data[:70]) + gzip.compress(data[70:]), (GZIP,), ()
    ),
}


def values_of(name: str, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 99, SHAPE).cumsum(axis=1)
    return values.astype(KINDS[name].dtype)


def store_of(name: str, seed: int = 0) -> dict[str, bytes]:
    kind = KINDS[name]
    codecs = ("bytes", *kind.codecs)
    return plain_store(values_of(name, seed), CHUNK, encode=kind.encode, codecs=codecs)


def read_all(names: list[str], key: Any = ..., **choices: Any) -> list[Any]:
    arrays = [opened(store_of(name, seed), **choices) for seed, name in enumerate(names)]
    return list(gpuzarr.read_batch([(array, key) for array in arrays]))


def calls_of(device: FakeDevice, kind: str) -> list[str]:
    return [each.split()[1] for each in device.trace if each.split()[0] == kind]


ALL = list(KINDS)


@pytest.mark.parametrize(
    "names",
    [
        ["zstd", "blosc of zstd"],
        ["zstd", "blosc of zstd, bits", "zstd of another type", "zstd, checksum"],
        ["lz4", "blosc of lz4"],
        ["plain", "zstd", "gzip", "lz4", "blosc of blosclz"],
        ALL,
        ALL[::-1],
    ],
    ids=lambda names: f"{len(names)} from {names[0]}",
)
def test_one_call_for_all_streams_of_a_format(fake: FakeDevice, names: list[str]) -> None:
    """Also for plain chunks and what is inside Blosc."""
    read_all(names)
    fake.counts.clear()
    fake.trace.clear()
    found = read_all(names)
    for seed, name in enumerate(names):
        assert_same(values_of(name, seed), found[seed])
    formats = Counter(calls_of(fake, "decompress"))
    assert formats == Counter({each for name in names for each in KINDS[name].formats})


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("decode", ["auto", "device"])
def test_mixtures(decode: str) -> None:
    some = [name for name in ALL if decode == "auto" or name != "gzip of two members"]
    for names in (some, some[::-1], ["blosc of zstd, bits", "zstd"] * 3):
        found = read_all(names, (slice(3, 37), slice(5, 29, 2)), decode=decode)
        for number, name in enumerate(names):
            assert_same(values_of(name, number)[3:37, 5:29:2], found[number])


def test_they_share_all_that_a_flight_has(fake: FakeDevice) -> None:
    names = ["zstd", "blosc of zstd", "zstd of another type", "zstd, checksum"]
    counts = []
    for some in ([names[0]], names):
        arrays = [opened(store_of(name), decode="device") for name in some]
        for _ in range(2):
            fake.counts.clear()
            gpuzarr.read_batch([(array, ...) for array in arrays])
        counts.append(Counter(fake.counts))
    one, four = counts
    assert four["download"] == one["download"] == 1
    assert four["decompress"] == one["decompress"] == 1
    assert four["upload"] == one["upload"] + 3, "the bytes of each, one table for all"
    assert four["allocate"] == one["allocate"] + 3, "for these"


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_joint_flights_are_right_in_every_order(seed: int | None) -> None:
    with installed(FakeDevice(seed=seed)):
        test_mixtures("auto")


@given(
    st.lists(st.sampled_from(ALL), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 29)), min_size=1, max_size=4),
    st.sampled_from([None, 1 << 15, 1 << 17, 1 << 20]),
    st.sampled_from([1, 4_000, 1 << 25]),
    st.integers(0, 1),
)
def test_any_mixture(
    names: list[str],
    begins: list[tuple[int, int]],
    memory_limit: int | None,
    joined: int,
    seed: int,
) -> None:
    device = FakeDevice(seed=seed)
    with installed(device), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_session, "JOINED_NBYTES", joined)
        arrays = [
            opened(store_of(name, number), memory_limit=memory_limit)
            for number, name in enumerate(names)
        ]
        keys = [(slice(row, row + 20), slice(column, column + 9)) for row, column in begins]
        pairs = [(number, key) for key in keys for number in range(len(names))]
        found = gpuzarr.read_batch([(arrays[number], key) for number, key in pairs])
        for (number, key), result in zip(pairs, found, strict=True):
            assert_same(values_of(names[number], number)[key], result)
        assert memory_limit is None or device.peak <= memory_limit
        del found, result, arrays
        assert device.used == 0


@pytest.mark.usefixtures("fake")
def test_no_upload_waits_for_the_other_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding alone does: what was read goes to the device while the next batch is read."""
    order: list[str] = []

    def note(kind: Any, name: str) -> None:
        real = getattr(kind, name)

        def noted(self: Any, *arguments: Any) -> Any:
            try:
                return real(self, *arguments)
            finally:
                order.append(name)

        monkeypatch.setattr(kind, name, noted)

    note(PinnedReading, "wait")
    note(Flight, "board")
    note(Flight, "depart")
    read_all(["zstd", "blosc of zstd", "zstd of another type"])
    assert order == ["wait", "board"] * 3 + ["depart"]


# What is not joined


def test_large_batches_fly_alone(fake: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["zstd", "blosc of zstd", "zstd of another type"]
    monkeypatch.setattr(cuda_session, "JOINED_NBYTES", 1)
    read_all(names)
    assert calls_of(fake, "decompress") == ["zstd"] * 3


def test_batches_of_one_program_fly_as_they_are_read(
    fake: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the last of a program waits for the next program's first."""
    limits = BatchLimits(1, 1, 0, least_nbytes=1)
    monkeypatch.setattr(CudaEngine, "limits_for", lambda *_: limits)
    flown: list[int] = []
    start = Flight.depart

    def count(flight: Flight, targets: Any) -> None:
        flown.append(len(flight.batches))
        start(flight, targets)

    monkeypatch.setattr(Flight, "depart", count)
    found = read_all(["zstd", "blosc of zstd"])
    assert_same(values_of("zstd"), found[0])
    assert flown == [1] * (COUNT - 1) + [2] + [1] * (COUNT - 1)
    assert len(calls_of(fake, "decompress")) == 2 * COUNT - 1


def test_fill_values_and_missing_chunks_between_programs(fake: FakeDevice) -> None:
    names = ["zstd", "blosc of zstd", "zstd of another type"]
    stores = [store_of(name) for name in names]
    for store in stores[:2]:
        del store["c/0/0"], store["c/2/3"]
    stores[1] = {key: data for key, data in stores[1].items() if not key.startswith("c/")}
    arrays = [opened(store) for store in stores]
    found = gpuzarr.read_batch([(array, ...) for array in arrays])
    for store, result in zip(stores, found, strict=True):
        assert_same(gpuzarr.open_array(store, device="cpu")[...], result)
    assert fake.counts["decompress"] == 2, "what is not stored is written in its turn"


# What goes wrong


def damaged(name: str, seed: int, bad: str) -> dict[str, bytes]:
    store = store_of(name, seed)
    data = bytearray(store[bad])
    if name.startswith("blosc"):  # it has no checksum, so the size of a stream
        data[20:24] = b"\xff\xff\x00\x00"
    else:
        data[len(data) * 2 // 3] ^= 0xFF
    store[bad] = bytes(data)
    return store


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("decode", ["auto", "device"])
@pytest.mark.parametrize("which", [[0], [1], [2], [0, 1, 2], [0, 2]])
def test_damage_is_told_of_the_chunk_that_has_it(which: list[int], decode: str) -> None:
    names = ["zstd, checksum", "blosc of zstd", "gzip"]
    stores = [
        damaged(name, seed, f"c/1/{seed}") if seed in which else store_of(name, seed)
        for seed, name in enumerate(names)
    ]
    outs: dict[str, list[np.ndarray]] = {}
    told = {}
    each_device: dict[str, dict[str, Any]] = {"cpu": {}, "cuda": {"decode": decode}}
    for device, choices in each_device.items():
        arrays = [gpuzarr.open_array(store, device=device, **choices) for store in stores]
        empty = [array.read((slice(0), ...)) for array in arrays]
        out = [type(none)(SHAPE, none.dtype) for none in empty]
        with pytest.raises(gpuzarr.ChunkError) as raised:
            gpuzarr.read_batch([(array, ...) for array in arrays], out=out)
        told[device] = sorted(
            (each.key, each.coords, each.requests) for each in raised.value.failures
        )
        outs[device] = [to_numpy(one) for one in out]
    assert told["cpu"] == told["cuda"]
    assert [requests for _, _, requests in told["cuda"]] == [(number,) for number in which]
    for seed, name in enumerate(names):
        good = np.ones(SHAPE, np.bool_)
        if seed in which:
            good[16:32, 8 * seed : 8 * seed + 8] = False
        np.testing.assert_array_equal(outs["cuda"][seed][good], values_of(name, seed)[good])


def outcome(stores: list[dict[str, bytes]], device: str) -> tuple[Any, list[np.ndarray]]:
    """The failures of a read of all, and what was read."""
    arrays = [gpuzarr.open_array(store, device=device) for store in stores]
    out = [np.zeros(array.shape, array.dtype) for array in arrays]
    try:
        gpuzarr.read_batch([(array, ...) for array in arrays], out=out)
    except gpuzarr.ChunkError as error:
        failures = error.failures
        return sorted((each.coords, each.requests, each.key) for each in failures), out
    return [], out


@given(
    st.lists(st.sampled_from(ALL), min_size=2, max_size=4),
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, COUNT - 1), st.floats(0, 1), st.binary()),
        min_size=1,
        max_size=4,
    ),
)
def test_any_damage_in_any_mixture(
    names: list[str], damages: list[tuple[int, int, float, bytes]]
) -> None:
    """What is wrong with one array's chunks is wrong with these alone, as on the host."""
    stores = [store_of(name, seed) for seed, name in enumerate(names)]
    for member, chunk, where, what in damages:
        store = stores[member % len(stores)]
        key = f"c/{chunk // 4}/{chunk % 4}"
        place = int(where * len(store[key]))
        store[key] = store[key][:place] + what + store[key][place + max(1, len(what)) :]
    expected, values = outcome(stores, "cpu")
    with installed(FakeDevice()):
        told, found = outcome(stores, "cuda")
    assert told == expected
    bad = {(requests, coords) for coords, requests, _ in expected}
    for number, (right, result) in enumerate(zip(values, found, strict=True)):
        good = np.ones(SHAPE, np.bool_)
        for requests, (row, column) in bad:
            if number in requests:
                good[16 * row : 16 * row + 16, 8 * column : 8 * column + 8] = False
        np.testing.assert_array_equal(result[good], right[good])


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("call", ["allocate", "upload", "wait_for", "launch", "download", "record"])
@pytest.mark.parametrize("number", range(8))
def test_a_joint_flight_that_fails_anywhere_leaves_nothing_under_way(
    call: str, number: int
) -> None:
    device = FakeDevice()
    with installed(device):
        arrays = [opened(store_of(name)) for name in ALL]
        pairs = [(array, ...) for array in arrays]
        gpuzarr.read_batch(pairs)
        with interrupted(device, call, number) as calls:
            try:
                gpuzarr.read_batch(pairs)
            except KeyboardInterrupt:
                pass
            else:
                assert next(calls) <= number, "as many calls there are not"
        assert_nothing_is_under_way(device)
        assert lent_nbytes(arrays[0]) == 0


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_a_read_that_is_given_up_between_programs(fake: FakeDevice, after: int) -> None:
    """What waits for another program is written, or not, but nothing is left."""
    arrays = [opened(store_of(name, seed)) for seed, name in enumerate(ALL)]
    pairs = [(array, ...) for array in arrays]
    made = gpuzarr.many.make_requests(pairs)
    asked = iter(range(1000))
    pending = gpuzarr.many.start_batch(made, stopped=lambda: next(asked) >= after)
    pending.result()
    del pending
    assert fake.used == 0
    assert lent_nbytes(arrays[0]) == 0
