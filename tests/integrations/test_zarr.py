"""zarr-python's arrays, read by gpuzarr: the same as zarr-python reads."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.buffer import cpu
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.storage import LocalStore, MemoryStore, ZipStore

import gpuzarr
from gpuzarr import few
from gpuzarr.integrations import zarr as door
from gpuzarr.integrations.zarr import GpuzarrCodecPipeline
from gpuzarr.stores.memory import MappingStore
from tests.effort import examples
from tests.integrations.zarr_arrays import (
    KINDS,
    PIPELINES,
    assert_same,
    create,
    filled,
    read_by,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

opened = cache(filled)
"""Arrays that nobody writes to."""

IS_34 = tuple(map(int, zarr.__version__.split(".")[:2])) >= (3, 4)


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with read_by(GpuzarrCodecPipeline):
        yield


def parts(length: int) -> st.SearchStrategy[Any]:
    """What zarr-python takes along one dimension: integers, and slices of positive steps."""
    places = st.none() | st.integers(-length - 1, length + 1)
    slices = st.builds(slice, places, places, st.none() | st.integers(1, length))
    return st.integers(-length, length - 1) | slices


def lists(length: int) -> st.SearchStrategy[Any]:
    indices = st.lists(st.integers(-length, length - 1), min_size=1, max_size=8)
    masks = st.lists(st.booleans(), min_size=length, max_size=length)
    return indices | masks.map(lambda mask: np.array(mask, bool))


def keys(shape: tuple[int, ...], of: str) -> st.SearchStrategy[Any]:
    if of == "oindex":
        return st.tuples(*(parts(length) | lists(length) for length in shape))
    if of == "vindex":
        points = st.lists(st.tuples(*(st.integers(-n, n - 1) for n in shape)), min_size=1)
        return points.map(lambda some: tuple(map(list, zip(*some, strict=True))))
    if of == "mask":
        seeds = st.integers(0, 2**32 - 1)
        return seeds.map(lambda seed: np.random.default_rng(seed).random(shape) > 0.9)
    return st.tuples(*map(parts, shape))


def select(array: Any, of: str, key: Any) -> Any:
    if of == "mask":
        return array.get_mask_selection(key)
    return array[key] if of == "basic" else getattr(array, of)[key]


@pytest.mark.parametrize("of", ["basic", "oindex", "vindex", "mask"])
@pytest.mark.parametrize("kind", KINDS)
@examples(8)
@given(st.data())
def test_every_selection_is_as_zarr_reads_it(kind: str, of: str, data: Any) -> None:
    array, own = opened(kind)
    key = data.draw(keys(array.shape, of))
    assert_same(select(array, of, key), select(own, of, key))


@pytest.mark.parametrize("kind", KINDS)
def test_whole_arrays_and_blocks_are_as_zarr_reads_them(kind: str) -> None:
    array, own = opened(kind)
    assert isinstance(array.async_array.codec_pipeline, GpuzarrCodecPipeline)
    assert_same(array[...], own[...])
    assert_same(array.blocks[-1], own.blocks[-1])
    assert_same(array[::3], own[::3])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_of_no_dimensions(zarr_format: Any) -> None:
    array, own = create("plain", shape=(), chunks=(), zarr_format=zarr_format)
    assert_same(array[()], own[()])
    own[()] = 5
    assert_same(array[()], own[()])
    assert array[...] == 5


def test_a_selection_of_many_chunks_is_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    array, _ = opened("tiny chunks")
    asked: list[Any] = []
    read = gpuzarr.Array.read

    def remember(self: Any, key: Any, **more: Any) -> Any:
        asked.append(key)
        return read(self, key, **more)

    monkeypatch.setattr(gpuzarr.Array, "read", remember)
    array[2:15:2, 3]
    assert asked == [(slice(2, 15, 2), 3)]


@pytest.mark.parametrize("of", ["basic", "oindex", "vindex"])
def test_every_chunk_is_fetched_once(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array, _ = opened("edges")
    fetched: list[str] = []
    read = MappingStore.read

    def counting(self: Any, key: str, *rest: Any) -> Any:
        fetched.append(key)
        return read(self, key, *rest)

    monkeypatch.setattr(MappingStore, "read", counting)
    select(array, of, ([1, 2, 7, 8], [9, 9, 1, 22]) if of != "basic" else slice(6, 11))
    assert len(fetched) == len(set(fetched)) == {"basic": 12, "oindex": 6, "vindex": 3}[of]


@pytest.mark.parametrize("path", ["", "a", "c/0", "c/0/1", "1/2", "a.b/3"])
@pytest.mark.parametrize("kind", ["plain", "sharded", "v2", "v2 in folders"])
def test_paths_that_look_like_keys(kind: str, path: str) -> None:
    array, own = filled(kind, name=path or None)
    assert_same(array[3:9, 2:], own[3:9, 2:])


@pytest.mark.parametrize("chunks", [0, 128])
@pytest.mark.parametrize("kind", ["edges", "sharded"])
def test_files_and_archives(
    kind: str, chunks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few, "MOST_CHUNKS", chunks)
    array, own = filled(kind, LocalStore(tmp_path / "folder"))
    assert_same(array[4:16, 1:9], own[4:16, 1:9])
    with ZipStore(tmp_path / "array.zip", mode="w") as store:
        zarr.create_array(store, data=own[...], chunks=own.chunks, shards=own.shards)
    with ZipStore(tmp_path / "array.zip", mode="r") as store:
        assert_same(zarr.open_array(store, mode="r")[4:16, 1:9], own[4:16, 1:9])


# Writing


@pytest.mark.sampled(one_in=2)
@pytest.mark.parametrize("store", ["memory", "files"])
@pytest.mark.parametrize("empty", [False, True], ids=["without empty chunks", "with them"])
@pytest.mark.parametrize("kind", ["edges", "sharded", "cube", "v2 order F"])
def test_writes_in_parts_are_seen_by_every_handle(
    kind: str, store: str, *, empty: bool, tmp_path: Path
) -> None:
    place_of = LocalStore(tmp_path) if store == "files" else MemoryStore()
    array, own = create(kind, place_of, config={"write_empty_chunks": empty}, fill_value=7)
    other = zarr.open_array(place_of)
    expected = np.full(array.shape, 7, array.dtype)
    rng = np.random.default_rng(5)
    for _ in range(20):
        ends = np.sort(rng.integers(0, np.add(array.shape, 1), (2, array.ndim)), axis=0)
        place = tuple(slice(*pair) for pair in ends.T.tolist())
        array[place] = expected[place] = rng.integers(5, 9)
        for handle in (array, other, own):
            np.testing.assert_array_equal(handle[...], expected)


SHARD: Any = {"shape": (8,), "chunks": (4,), "shards": (8,), "compressors": None, "fill_value": 0}
"""An array of one shard of two chunks; with one of them stored, it is as long as with the other."""
FIRST, SECOND = [1, 2, 3, 4, 0, 0, 0, 0], [0, 0, 0, 0, 5, 6, 7, 8]


def test_a_shard_that_looks_as_before_is_read_again_after_a_write(tmp_path: Path) -> None:
    array, _ = create("plain", LocalStore(tmp_path), **SHARD)
    for values in (FIRST, SECOND, FIRST):
        array[...] = values
        os.utime(tmp_path / "c/0", ns=(0, 0))  # within one tick of the clock
        assert array[...].tolist() == values


def test_what_others_write_to_memory_is_seen() -> None:
    array, own = create("plain", **SHARD)
    for values in (FIRST, SECOND, FIRST):
        with read_by(BatchedCodecPipeline):
            own[...] = values
        assert array[...].tolist() == values


@pytest.mark.parametrize("kind", ["edges", "sharded", "v2"])
def test_a_handle_that_was_resized_reads_what_there_is_now(kind: str) -> None:
    array, own = create(kind, shape=(10, 9), fill_value=1)
    array[...] = 5
    assert array[9, 8] == 5
    array.resize((40, 30))
    array[20:, 20:] = 6
    array.append(np.full((3, 30), 8, array.dtype))
    own = zarr.open_array(own.store)
    assert array.shape == own.shape == (43, 30)
    np.testing.assert_array_equal(array[...], own[...])
    array.resize((8, 30))
    assert_same(array[...], zarr.open_array(own.store)[...])


# Ways to call it


def test_reads_go_to_another_thread_unless_they_are_small_and_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    array, own = filled("edges")
    threads: list[str] = []
    run = door.Plan.run

    def remember(plan: Any) -> None:
        threads.append(threading.current_thread().name)
        run(plan)

    monkeypatch.setattr(door.Plan, "run", remember)
    chunk = 5 * 4 * 8
    assert array[7, 3] == own[7, 3]
    monkeypatch.setattr(door, "AT_ONCE_NBYTES", chunk - 1)
    assert array[7, 3] == own[7, 3]  # alone
    monkeypatch.setattr(door, "ALONE_NBYTES", chunk - 1)
    assert array[7, 3] == own[7, 3]
    monkeypatch.setattr(door, "ALONE_NBYTES", chunk)
    monkeypatch.setattr(door, "AT_ONCE_SECONDS", 0)
    assert array[7, 3] == own[7, 3]  # slow, which is known from now on
    monkeypatch.setattr(door, "AT_ONCE_SECONDS", 1e9)
    assert array[7, 3] == own[7, 3]  # quick, as well
    assert array[7, 3] == own[7, 3]
    loop, *others = threads
    assert [name == loop for name in others] == [True, False, True, False, True]


def test_reads_that_are_not_alone_go_to_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    array, own = filled("edges")
    monkeypatch.setattr(door, "AT_ONCE_NBYTES", 0)
    threads: list[threading.Thread] = []
    run = door.Plan.run

    def remember(plan: Any) -> None:
        threads.append(threading.current_thread())
        run(plan)

    monkeypatch.setattr(door.Plan, "run", remember)

    async def read() -> list[Any]:
        return await asyncio.gather(*(array.async_array.getitem((row, 3)) for row in range(4)))

    np.testing.assert_array_equal(asyncio.run(read()), own[:4, 3])
    assert len(threads) == 4
    assert threading.main_thread() not in threads


def test_many_threads_read_one_array() -> None:
    array, own = filled("sharded")
    whole = own[...]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: array[i % 17, : 1 + i % 12], range(200)))
    for i, row in enumerate(found):
        np.testing.assert_array_equal(row, whole[i % 17, : 1 + i % 12])


def test_an_event_loop_of_the_callers() -> None:
    array, own = opened("edges")

    async def read() -> list[Any]:
        rows = [array.async_array.getitem((row, slice(None))) for row in range(17)]
        return await asyncio.gather(*rows)

    np.testing.assert_array_equal(asyncio.run(read()), own[...])


def test_arrays_pickle(tmp_path: Path) -> None:
    array, own = filled("sharded", LocalStore(tmp_path))
    again = pickle.loads(pickle.dumps(array))  # noqa: S301
    assert_same(again[3:9], own[3:9])
    assert again == array
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)[3:9].sum())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=pickle.dumps(array), capture_output=True, check=True)
    assert float(done.stdout) == own[3:9].sum()


def test_a_buffer_of_the_callers_is_written_to() -> None:
    array, own = opened("v2")
    bases: list[Any] = [np.full((20, 12), -1, ">i4"), np.full((12, 20), -1, ">i4").T]
    for out in map(cpu.NDBuffer, bases):
        array.get_basic_selection(slice(3, 9), out=out[2:8])
        np.testing.assert_array_equal(out.as_numpy_array()[2:8], own[3:9])
        assert (out.as_numpy_array()[8:] == -1).all()


def test_damage_is_told_with_the_chunk_that_has_it() -> None:
    store = MemoryStore()
    array, _ = filled("edges", store)
    whole = store._store_dict["c/1/2"]  # noqa: SLF001
    store._store_dict["c/1/2"] = whole[: len(whole) // 2]  # noqa: SLF001
    assert array[10:, 12:].shape == (7, 11)
    with pytest.raises(gpuzarr.ChunkError, match="c/1/2") as caught:
        array[...]
    assert [failure.coords for failure in caught.value.failures] == [(1, 2)]


def test_the_pipeline_is_found_by_the_name_in_the_documentation() -> None:
    assert PIPELINES[GpuzarrCodecPipeline] == "gpuzarr.integrations.zarr.GpuzarrCodecPipeline"


if IS_34:

    def test_chunks_of_different_sizes() -> None:
        grid = [[3, 5, 9], [4, 4, 1, 3]]
        with zarr.config.set({"array.rectilinear_chunks": True}):
            array, own = filled("plain", chunks=grid)
            assert_same(array[2:16:3, 1:11], own[2:16:3, 1:11])
            assert_same(array.oindex[[9, 1], 2:], own.oindex[[9, 1], 2:])
            assert_same(array.vindex[[9, 1], [11, 0]], own.vindex[[9, 1], [11, 0]])
