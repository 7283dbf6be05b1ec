"""What nvCOMP is given: a call for each format of streams, the largest streams first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numcodecs
import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cuda.frames.streams import ALIKE, StreamTable
from tests.arrays import plain_store
from tests.cuda_devices import assert_same, fake
from tests.engines.cuda.fake_nvcomp import FakeNvcomp, memory
from tests.engines.cuda.stores import BLOSC, ZSTD, opened, zstd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuzarr.engines.cuda.device import Streams
    from tests.engines.cuda.fake_device import FakeDevice

__all__ = ["fake"]  # a fixture

RNG = np.random.default_rng(0)
EVERY_SIZE = np.arange(64 * 1024, dtype=np.int32).reshape(64, 1024)
for _row in range(64):  # each row has more noise than the one before
    EVERY_SIZE[_row, : 16 * _row] = RNG.integers(-(1 << 31), 1 << 31, 16 * _row, np.int64)


def table(nbytes: Any, decoded: Any) -> StreamTable:
    n = len(nbytes)
    columns = [np.arange(n), np.arange(n), nbytes, np.zeros(n), decoded, np.ones(n), -np.ones(n)]
    return StreamTable(*(np.asarray(column, np.int64) for column in columns))


@pytest.mark.parametrize("most", [300, 70_000, 1 << 31, 1 << 40])
def test_largest_first(most: int) -> None:
    nbytes = RNG.integers(1, most, 5000)
    given = table(nbytes, RNG.integers(1, most, 5000))
    found = given.largest_first()
    size = found.nbytes + found.decoded
    assert (np.diff(size) <= max(0, 2 * most >> 15)).all(), "but for one part in 65,536"
    order = found.chunk
    assert sorted(order.tolist()) == list(range(5000))
    np.testing.assert_array_equal(found.nbytes, nbytes[order])
    np.testing.assert_array_equal(found.source, order)


def test_what_is_alike_stays() -> None:
    for sizes in ([], [5], [1000, 1200, 1001], [0, 0]):
        given = table(sizes, np.zeros(len(sizes)))
        assert given.largest_first() is given
    given = table([1000, int(1000 * ALIKE) + 1], [0, 0])
    assert given.largest_first().chunk.tolist() == [1, 0]
    equal = table([7, 90, 7, 90, 7], [0] * 5)
    assert equal.largest_first().chunk.tolist() == [1, 3, 0, 2, 4], "equal ones keep their order"


@pytest.fixture
def calls() -> Iterator[list[tuple[str, list[int]]]]:
    """The format, and the bytes of each stream, of every call of nvCOMP."""
    found: list[tuple[str, list[int]]] = []
    decompress = FakeNvcomp.decompress

    def note(self: FakeNvcomp, format: str, streams: Streams, **more: Any) -> None:  # noqa: A002
        column = memory(streams.nbytes, 8 * streams.count).view(np.int64)
        found.append((format, column.tolist()))
        decompress(self, format, streams, **more)

    with patch.object(FakeNvcomp, "decompress", note):
        yield found


def test_reads_give_the_largest_streams_first(
    fake: FakeDevice, calls: list[tuple[str, list[int]]]
) -> None:
    del fake
    store = plain_store(EVERY_SIZE, (1, 1024), encode=zstd, codecs=("bytes", ZSTD))
    assert_same(EVERY_SIZE, opened(store)[...])
    ((name, sizes),) = calls
    assert (name, len(sizes)) == ("zstd", 64)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[-1]


def test_statuses_find_their_chunks(fake: FakeDevice) -> None:
    """Streams are in another order than chunks, and what fails is told of the right ones."""
    del fake
    store = plain_store(EVERY_SIZE, (1, 1024), encode=zstd, codecs=("bytes", ZSTD))
    for row in (3, 40):
        chunk = bytearray(store[f"c/{row}/0"])
        chunk[len(chunk) // 2 :: 2] = bytes(len(chunk[len(chunk) // 2 :: 2]))
        store[f"c/{row}/0"] = bytes(chunk)
    for decode in ("auto", "device"):
        with pytest.raises(gpuzarr.ChunkError) as raised:
            opened(store, decode=decode)[...]
        assert {each.coords for each in raised.value.failures} == {(3, 0), (40, 0)}


def test_streams_of_blosc_share_calls_by_what_is_inside(
    fake: FakeDevice, calls: list[tuple[str, list[int]]]
) -> None:
    """Chunks of one array that were written with other options decode together."""
    kinds = [("lz4", 1), ("zstd", 1), ("zlib", 2), ("lz4", 2), ("zstd", 0), ("lz4hc", 0)]
    number = iter(range(64))

    def encode(data: bytes) -> bytes:
        cname, shuffle = kinds[next(number) % len(kinds)]
        return bytes(numcodecs.Blosc(cname, 5, shuffle).encode(np.frombuffer(data, "<i4")))

    store = plain_store(EVERY_SIZE, (1, 1024), encode=encode, codecs=("bytes", BLOSC))
    assert_same(EVERY_SIZE, opened(store)[...])
    assert sorted(name for name, _ in calls) == ["deflate", "lz4", "zstd"]
    assert fake.counts["decompress"] == 3
    for _, sizes in calls:
        assert len(sizes) >= 9
