"""Of large Blosc chunks in files, no more is read than the blocks that are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec

import gpuzarr
from gpuzarr import few
from gpuzarr.engines.cpu import few as cpu_few
from gpuzarr.engines.cpu.blosc_parts import HEAD_NBYTES
from gpuzarr.engines.cpu.engine import CpuEngine
from gpuzarr.program import DecodeProgram, Decompress, Layout
from gpuzarr.stores import files, local

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (96, 100, 60)
CHUNKS = (64, 64, 60)
NUMBERS = np.random.default_rng(6).integers(0, 1000, SHAPE, np.int32)
CHUNK_NBYTES = 4 * 64 * 64 * 60
BLOCK_NBYTES = 1 << 15
KEYS: list[Any] = [
    (3, slice(None), slice(None)),
    (slice(10, 14), slice(20, 40), slice(1, 30)),
    (slice(60, 70), slice(60, 70), 5),
    (95, 99, 59),
    (slice(0, 40), 0, slice(None)),
]


@pytest.fixture(autouse=True)
def _few_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few, "MOST_CHUNKS", 128)


def write(folder: Path, **options: Any) -> Path:
    codec = BloscCodec(
        cname="zstd", clevel=1, shuffle="shuffle", typesize=4, blocksize=BLOCK_NBYTES
    )
    arguments: dict[str, Any] = {"chunks": CHUNKS, "compressors": [codec], **options}
    array = zarr.create_array(folder / "array", shape=SHAPE, dtype="int32", **arguments)
    array[...] = NUMBERS
    return folder / "array"


@pytest.fixture
def nread(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each read of a file."""
    sizes: list[int] = []
    read_at = files.read_at

    def count(descriptor: int, memory: memoryview, offset: int, waits: files.Waits) -> int:
        sizes.append(len(memory))
        return read_at(descriptor, memory, offset, waits)

    monkeypatch.setattr(local, "read_at", count)
    return sizes


def opened(path: Path, **options: Any) -> gpuzarr.Array:
    array = gpuzarr.open_array(path, device="cpu", **options)
    array[0, 0, 0]  # folders are looked at, and indexes of shards read
    return array


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_that_are_needed(
    tmp_path: Path, nread: list[int], threads: int, *, sharded: bool
) -> None:
    path = write(tmp_path, shards=(128, 128, 60)) if sharded else write(tmp_path)
    array = opened(path, threads=threads)
    for key in KEYS:
        nread.clear()
        np.testing.assert_array_equal(array[key], NUMBERS[key])
        assert sum(nread) > 0
    nread.clear()
    np.testing.assert_array_equal(array[3, 0, :], NUMBERS[3, 0, :])
    assert len(nread) == 2
    assert sum(nread) < HEAD_NBYTES + BLOCK_NBYTES
    nread.clear()
    np.testing.assert_array_equal(array.read((3, 0), dtype="f8"), NUMBERS[3, 0])
    assert sum(nread) < HEAD_NBYTES + BLOCK_NBYTES


def test_most_of_a_chunk_is_read_at_once(tmp_path: Path, nread: list[int]) -> None:
    path = write(tmp_path)
    array = opened(path)
    nread.clear()
    np.testing.assert_array_equal(array[:60, :64], NUMBERS[:60, :64])
    assert nread == [(path / "c" / "0" / "0" / "0").stat().st_size]


def test_chunks_that_are_not_stored(tmp_path: Path) -> None:
    path = write(tmp_path)
    (path / "c" / "0" / "1" / "0").unlink()
    expected = NUMBERS.copy()
    expected[:64, 64:] = 0
    array = opened(path)
    for key in KEYS:
        np.testing.assert_array_equal(array[key], expected[key])


def test_chunks_of_one_value_are_shorter_than_a_head(tmp_path: Path) -> None:
    array = zarr.open_array(write(tmp_path), mode="r+")
    array[:64, :64] = 7
    expected = NUMBERS.copy()
    expected[:64, :64] = 7
    for key in KEYS:
        found = opened(tmp_path / "array")[key]
        np.testing.assert_array_equal(found, expected[key])


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 9), (4, 1), (12, 1), (16, 1), (20, 255), (24, 255), (-1, None)],
    ids=["version", "size", "stored", "first", "second", "third", "cut"],
)
def test_damage_is_told_as_ever(tmp_path: Path, at: int, value: int | None) -> None:
    path = write(tmp_path)
    chunk = path / "c" / "0" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    if value is None:
        del data[-1]
    else:
        data[at] = value
    chunk.write_bytes(data)
    array = gpuzarr.open_array(path, device="cpu")
    with pytest.raises(gpuzarr.ChunkError) as caught:
        array[...]
    assert [failure.key for failure in caught.value.failures] == ["c/0/0/0"]
    for key in KEYS:
        error = None
        try:
            found = array[key]
        except gpuzarr.ChunkError as raised:
            error = raised
        if error is None:
            np.testing.assert_array_equal(found, NUMBERS[key])
        else:
            assert [failure.key for failure in error.failures] == ["c/0/0/0"]


def test_a_chunk_that_shrinks(tmp_path: Path) -> None:
    path = write(tmp_path)
    array = opened(path)
    chunk = path / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:5000])
    with pytest.raises(gpuzarr.ChunkError):
        array[20, 0, 0]


def test_parts_of_huge_chunks_that_are_stored_as_they_are(
    tmp_path: Path, nread: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_few, "FEW_NBYTES", CHUNK_NBYTES // 4)
    array = opened(write(tmp_path, compressors=None))
    nread.clear()
    np.testing.assert_array_equal(array[3, 5:9], NUMBERS[3, 5:9])
    assert nread == [4 * 4 * 60]
    nread.clear()
    np.testing.assert_array_equal(array[:60, 3], NUMBERS[:60, 3])  # most of it: by a session
    assert max(nread) == CHUNK_NBYTES


def test_huge_chunks_that_are_compressed_are_read_by_a_session() -> None:
    shape = (1 << 10, 1 << 10, 1 << 5)
    engine = CpuEngine()
    blosc = DecodeProgram((Decompress("blosc"),), Layout(np.dtype("i4"), (0, 1, 2)))
    plain = DecodeProgram((), Layout(np.dtype("i4"), (0, 1, 2)))
    assert engine.few(blosc, shape) is None
    assert engine.few(plain, shape) is not None
