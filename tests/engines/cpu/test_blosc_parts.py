"""Parts of Blosc chunks: what is needed is as it is in all of it, and no more is decoded."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numcodecs
import numcodecs.blosc
import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cpu import blosc, blosc_parts
from gpuzarr.engines.cpu.blosc_parts import decode_spans
from tests.arrays import plain_store

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 4096
NBYTES = 9 * BLOCK + 100
HEADER = struct.Struct("<BBBBiii")


def numbers(nbytes: int, *, noise: bool = False) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(3)
    if noise:
        return rng.integers(0, 256, nbytes, np.uint8)
    return (np.arange(nbytes) // 7 + rng.integers(0, 3, nbytes)).astype(np.uint8)


def frame(
    data: np.ndarray[Any, Any],
    cname: str = "zstd",
    shuffle: int = 1,
    typesize: int = 4,
    block: int = BLOCK,
) -> bytes:
    codec = numcodecs.Blosc(cname, 1, shuffle, block, typesize)
    return bytes(codec.encode(data))


def blocks_of(encoded: bytes) -> list[tuple[int, int]]:
    _, _, _, _, nbytes, block, stored = HEADER.unpack_from(encoded)
    count = -(-nbytes // block)
    starts = list(struct.unpack_from(f"<{count}i", encoded, 16))
    return list(pairwise([*starts, stored]))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each call of the library gave."""
    sizes: list[int] = []
    decompress = blosc.decompress

    def count(encoded: memoryview, place: memoryview, blocks: int) -> None:
        sizes.append(len(place))
        decompress(encoded, place, blocks)

    monkeypatch.setattr(blosc, "decompress", count)
    monkeypatch.setattr(blosc_parts, "decompress", count)
    return sizes


@pytest.mark.parametrize("cname", numcodecs.blosc.list_compressors())
@pytest.mark.parametrize("typesize", [1, 4, 24])
@pytest.mark.parametrize("shuffle", [0, 1, 2])
def test_any_part_of_any_frame(cname: str, typesize: int, shuffle: int) -> None:
    # Some compressors have blocks of 32 KiB times the element at least.
    data = numbers(7 * (1 << 15) * max(typesize, 2) + 1000)
    encoded = memoryview(frame(data, cname, shuffle, typesize, 1 << 14))
    block, nbytes = HEADER.unpack_from(encoded)[5], len(data)
    count = -(-nbytes // block)
    assert count > 5
    rng = np.random.default_rng(8)
    done = 0
    for _ in range(20):
        wanted: list[tuple[int, int]] = []
        for _ in range(int(rng.integers(1, 4))):
            begin = int(rng.integers(nbytes))
            wanted.append((begin, min(nbytes, begin + int(rng.integers(1, 2 * block)))))
        place = bytearray(b"\xa5" * nbytes)
        touched = {one for a, b in wanted for one in range(a // block, -(-b // block))}
        answer = decode_spans(encoded, memoryview(place), wanted)
        plain = bool(encoded[2] & blosc.MEMCPYED)
        assert answer == (plain or len(touched) <= count - count // 4)
        done += answer
        for begin, end in wanted if answer else ():
            assert bytes(place[begin:end]) == data[begin:end].tobytes()
    assert done > 5


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0, 1), BLOCK),
        ((BLOCK - 1, BLOCK + 1), 2 * BLOCK),
        ((3 * BLOCK, 4 * BLOCK), BLOCK),
        ((NBYTES - 1, NBYTES), BLOCK + 100),  # the last one is short, and comes with another
        ((8 * BLOCK, NBYTES), BLOCK + 100),
    ],
)
def test_no_more_blocks_than_needed(
    span: tuple[int, int], expected: int, decoded: list[int]
) -> None:
    data = numbers(NBYTES)
    place = bytearray(NBYTES)
    assert decode_spans(memoryview(frame(data)), memoryview(place), [span])
    assert decoded == [expected]
    assert bytes(place[slice(*span)]) == data[slice(*span)].tobytes()


def test_runs_are_decoded_each_by_itself(decoded: list[int]) -> None:
    data = numbers(NBYTES)
    place = bytearray(NBYTES)
    wanted = [(0, 10), (BLOCK, BLOCK + 1), (5 * BLOCK, 5 * BLOCK + 9)]
    assert decode_spans(memoryview(frame(data)), memoryview(place), wanted)
    assert sorted(decoded) == [BLOCK, 2 * BLOCK]


def test_most_of_a_frame_is_all_of_it(decoded: list[int]) -> None:
    encoded = memoryview(frame(numbers(NBYTES)))
    assert not decode_spans(encoded, memoryview(bytearray(NBYTES)), [(0, NBYTES - BLOCK)])
    one_block = frame(numbers(BLOCK))
    assert not decode_spans(memoryview(one_block), memoryview(bytearray(BLOCK)), [(0, 1)])
    assert not decoded


def test_frames_that_are_stored_plainly() -> None:
    data = numbers(NBYTES, noise=True)
    encoded = frame(data, shuffle=0)
    assert encoded[2] & blosc.MEMCPYED
    place = bytearray(b"\xa5" * NBYTES)
    assert decode_spans(memoryview(encoded), memoryview(place), [(7, 5000), (9000, 9001)])
    assert bytes(place[7:5000]) == data[7:5000].tobytes()
    assert bytes(place[:7]) == b"\xa5" * 7
    assert place[9000] == data[9000]


def reordered(encoded: bytes, order: list[int], gap: bytes = b"") -> bytes:
    """The same frame with its blocks in another order, as several threads write it."""
    parts = blocks_of(encoded)
    base = 16 + 4 * len(parts)
    starts = [0] * len(parts)
    body = b""
    for one in order:
        starts[one] = base + len(body)
        body += encoded[slice(*parts[one])] + gap
    head = bytearray(encoded[:16])
    head[12:16] = struct.pack("<i", base + len(body))
    return bytes(head) + struct.pack(f"<{len(starts)}i", *starts) + body


@pytest.mark.parametrize("gap", [b"", b"garbage"])
def test_blocks_in_any_order(gap: bytes) -> None:
    data = numbers(NBYTES)
    encoded = reordered(frame(data), [3, 9, 0, 7, 1, 2, 8, 4, 6, 5], gap)
    assert numcodecs.blosc.decompress(encoded) == data.tobytes()
    for begin in range(0, NBYTES, 1000):
        place = bytearray(NBYTES)
        span = (begin, min(NBYTES, begin + 5000))
        assert decode_spans(memoryview(encoded), memoryview(place), [span])
        assert bytes(place[slice(*span)]) == data[slice(*span)].tobytes()


def damaged(encoded: bytes) -> Iterator[bytes]:
    count = len(blocks_of(encoded))
    yield encoded[:-1]
    yield encoded[:20]
    yield b""
    for at, value in [(4, NBYTES + 1), (4, -1), (8, 0), (8, 2**31 - 1), (12, 2**31 - 1), (12, 3)]:
        changed = bytearray(encoded)
        changed[at : at + 4] = struct.pack("<i", value)
        yield bytes(changed)
    for value in (-1, 0, 15, 16 + 4 * count - 1, len(encoded), len(encoded) + 5, 2**31 - 1):
        changed = bytearray(encoded)
        changed[16 + 4 * 2 : 16 + 4 * 3] = struct.pack("<i", value)
        yield bytes(changed)
    changed = bytearray(encoded)
    start, end = blocks_of(encoded)[2]
    changed[start:end] = b"\xff" * (end - start)
    yield bytes(changed)


def test_damage_is_left_to_the_whole() -> None:
    encoded = frame(numbers(NBYTES))
    cases = list(damaged(encoded))
    assert len(cases) == 17
    for case in cases:
        place = memoryview(bytearray(NBYTES))
        assert not decode_spans(memoryview(case), place, [(2 * BLOCK, 3 * BLOCK)])


def test_two_blocks_in_one_place() -> None:
    data = np.tile(numbers(BLOCK), 10)
    encoded = frame(data)
    parts = blocks_of(encoded)
    shared = bytearray(encoded)
    shared[16:56] = struct.pack("<10i", *[parts[0][0]] * 10)
    assert numcodecs.blosc.decompress(bytes(shared)) == data.tobytes()
    place = bytearray(len(data))
    assert decode_spans(memoryview(bytes(shared)), memoryview(place), [(5 * BLOCK, 6 * BLOCK)])
    assert bytes(place[5 * BLOCK : 6 * BLOCK]) == data[:BLOCK].tobytes()


def stored(shape: tuple[int, ...], chunks: tuple[int, ...], order: str) -> Any:
    array = numbers(4 * int(np.prod(shape))).view("<i4").reshape(shape)
    codec = numcodecs.Blosc("zstd", 1, 1, 1 << 14)
    store: dict[str, bytes] = {}
    import zarr  # noqa: PLC0415

    written = zarr.create_array(
        store=zarr.storage.MemoryStore(store),  # type: ignore[arg-type]
        shape=shape,
        chunks=chunks,
        dtype="<i4",
        zarr_format=2,
        compressors=codec,
        order=order,  # type: ignore[arg-type]
    )
    written[...] = array
    objects = {key: value.to_bytes() for key, value in store.items()}  # type: ignore[attr-defined]
    return array, objects


@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_decode_what_they_need(order: str, decoded: list[int]) -> None:
    array, objects = stored((80, 90, 70), (64, 64, 64), order)
    opened = gpuzarr.open_array(objects, device="cpu", threads=1)
    chunk = 4 * 64**3
    keys: list[Any] = [
        (3, slice(None), slice(None)),
        (slice(None), slice(None), 5),
        (slice(5, 9), slice(20, 40), slice(1, 60)),
        (slice(70, 60, -1), slice(0, 90, 7), slice(69, 3, -5)),
        (10, 20, 30),
        (slice(2, 3), slice(None), slice(None, None, 3)),
    ]
    for key in keys:
        np.testing.assert_array_equal(opened[key], array[key])
    for key, found in zip(keys, gpuzarr.read_batch([(opened, key) for key in keys]), strict=True):
        np.testing.assert_array_equal(found, array[key])
    decoded.clear()
    key = (3, slice(None), slice(None)) if order == "C" else (slice(None), slice(None), 3)
    np.testing.assert_array_equal(opened[key], array[key])
    assert sum(decoded) <= 4 * chunk // 8
    decoded.clear()
    found = gpuzarr.read_batch([(opened, key), (opened, key)])
    np.testing.assert_array_equal(found[1], array[key])
    assert sum(decoded) <= 4 * chunk // 8
    decoded.clear()
    casted = opened.read(key, dtype="f8")
    np.testing.assert_array_equal(casted, array[key])
    assert sum(decoded) <= 4 * chunk // 8
    decoded.clear()
    np.testing.assert_array_equal(opened[:64, :64, :64], array[:64, :64, :64])
    assert sum(decoded) == chunk


def test_checksums_are_still_compared() -> None:
    array = numbers(1 << 20).view("<u4").reshape(512, 512)
    codecs = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {
            "name": "blosc",
            "configuration": {
                "cname": "lz4",
                "clevel": 5,
                "shuffle": "shuffle",
                "typesize": 4,
                "blocksize": 1 << 14,
            },
        },
        {"name": "crc32c"},
    ]
    import zarr  # noqa: PLC0415

    store: dict[str, Any] = {}
    written = zarr.create_array(
        store=zarr.storage.MemoryStore(store),
        shape=array.shape,
        chunks=array.shape,
        dtype="uint32",
        compressors=[codecs[1], codecs[2]],  # type: ignore[list-item]
    )
    written[...] = array
    objects = {key: value.to_bytes() for key, value in store.items()}
    opened = gpuzarr.open_array(objects, device="cpu")
    np.testing.assert_array_equal(opened[3:5], array[3:5])
    chunk = bytearray(objects["c/0/0"])
    chunk[-100] ^= 1  # in a block that is not needed
    objects["c/0/0"] = bytes(chunk)
    with pytest.raises(gpuzarr.ChecksumError):
        gpuzarr.open_array(objects, device="cpu")[3:5]


def test_plain_arrays_are_not_concerned() -> None:
    array = numbers(1 << 20).reshape(1024, 1024)
    opened = gpuzarr.open_array(plain_store(array, (1024, 1024)), device="cpu")
    np.testing.assert_array_equal(opened[5:7, 3:9], array[5:7, 3:9])
