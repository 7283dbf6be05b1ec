"""Reads of a few chunks, planned with plain numbers, give what every read gives: against NumPy."""

from __future__ import annotations

import json
import struct
import tempfile
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr import few, pending
from gpuzarr.engines.cpu import few as cpu_few
from gpuzarr.engines.cpu.engine import CpuEngine
from tests.arrays import cut_chunks, encoded, shard_bytes, sharded_store, v3_metadata
from tests.effort import examples
from tests.few_ways import MEDIUM, WAYS, read_few
from tests.stored import (
    RegularGrid,
    Sharding,
    Stored,
    assert_result,
    assert_same,
    compress,
    index_of,
    store_v2,
    store_v3,
)
from tests.strategies import basic_keys
from tests.test_read import numbers, stored_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuzarr.engines.engine import Landing


LIMIT_S = 60.0
GZIP = {"name": "gzip", "configuration": {"level": 1}}


_empty = CpuEngine.empty


def dirty(engine: CpuEngine, *arguments: Any) -> np.ndarray[Any, Any]:
    """New memory may be an old result's, with all the right values: not here."""
    array = _empty(engine, *arguments)
    if array.nbytes and not array.dtype.hasobject:
        array.reshape(-1).view(np.uint8)[...] = 0xA5
    return array


@pytest.fixture(autouse=True, params=WAYS)
def way(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """How they are read."""
    found: str = request.param
    read_few(monkeypatch, found)
    monkeypatch.setattr(CpuEngine, "empty", dirty)
    return found


@contextmanager
def watched() -> Iterator[list[bool]]:
    """What `read_few` says, read after read."""
    said: list[bool] = []

    def read_few(*arguments: Any) -> Landing | None:
        landing = few.read_few(*arguments)
        said.append(landing is not None)
        return landing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pending, "read_few", read_few)
        yield said


def write_files(root: Path, values: dict[str, bytes]) -> None:
    for key, value in values.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(value)


# Values


@st.composite
def ways(draw: st.DrawFn) -> dict[str, int]:
    """Limits of the reader in the engine, that all its ways are gone."""
    return {
        "READ_NBYTES": draw(st.sampled_from([1 << 21, 0])),
        "BOX_NBYTES": draw(st.sampled_from([1 << 16, 0])),
    }


@given(stored_arrays(), st.data(), ways(), st.sampled_from([1, 3]))
def test_basic_selections_are_numpys(
    stored: Stored, data: st.DataObject, way: dict[str, int], threads: int
) -> None:
    array = gpuzarr.open_array(stored.values, threads=threads)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in way.items():
            patch.setattr(cpu_few, name, value)
        for _ in range(3):
            key = data.draw(basic_keys(stored.expected.shape))
            assert_result(array[key], index_of(stored.expected, key))


@examples(30)
@given(stored_arrays(), st.data(), ways(), st.sampled_from([1, 3]))
def test_files_give_the_same(
    stored: Stored, data: st.DataObject, way: dict[str, int], threads: int
) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        for name, value in way.items():
            patch.setattr(cpu_few, name, value)
        write_files(Path(root), stored.values)
        array = gpuzarr.open_array(root, threads=threads)
        for _ in range(3):
            key = data.draw(basic_keys(stored.expected.shape))
            assert_result(array[key], index_of(stored.expected, key))


@given(stored_arrays(), st.data(), st.sampled_from([1, 3]))
def test_any_memory_may_be_read_into(stored: Stored, data: st.DataObject, threads: int) -> None:
    array = gpuzarr.open_array(stored.values, threads=threads)
    key = data.draw(basic_keys(stored.expected.shape))
    expected = index_of(stored.expected, key)
    steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in expected.shape]
    order: Any = data.draw(st.sampled_from("CF"))
    memory = np.full(
        [n * abs(step) for n, step in zip(expected.shape, steps, strict=True)],
        1,
        expected.dtype,
        order=order,
    )
    around = memory.copy(order="K")
    place: tuple[Any, ...] = (*(slice(None, None, step) for step in steps), ...)
    out = memory[place]
    assert array.read(key, out=out) is out
    assert_same(out, expected)
    around[place] = expected
    assert_same(memory, around)  # nothing beside it


@given(stored_arrays(), st.data(), st.sampled_from([1, 3]))
def test_conversions_are_those_of_other_reads(
    stored: Stored, data: st.DataObject, threads: int
) -> None:
    array = gpuzarr.open_array(stored.values, threads=threads)
    key = data.draw(basic_keys(stored.expected.shape))
    options: dict[str, Any] = data.draw(
        st.sampled_from([{"dtype": "float32"}, {"dtype": "int8"}, {"scale": 0.5, "offset": 3.0}])
    )

    def read(most: int) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(few, "MOST_CHUNKS", most)
            try:
                return array.read(key, **options)
            except gpuzarr.GpuzarrError as error:
                return type(error), str(error)

    with_columns, with_numbers = read(0), read(128)
    if isinstance(with_columns, tuple):
        assert with_numbers == with_columns
    else:
        assert_result(with_numbers, with_columns)


def transposed_shards(
    array: np.ndarray[Any, Any], order: Sequence[int], shards: Sequence[int], chunks: Sequence[int]
) -> dict[str, bytes]:
    """Shards of a transposed array; `chunks` are in the order of the shards' own axes."""
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(chunks),
            "codecs": v3_metadata((), (), codecs=["bytes", GZIP])["codecs"],
            "index_codecs": v3_metadata((), ())["codecs"],
        },
    }
    transpose = {"name": "transpose", "configuration": {"order": list(order)}}
    document = v3_metadata(
        array.shape, shards, data_type=array.dtype.name, codecs=[transpose, sharding]
    )
    store = {"zarr.json": encoded(document)}
    for coords, shard in cut_chunks(array, shards):
        key = "/".join(["c", *map(str, coords)])
        store[key] = shard_bytes(
            np.ascontiguousarray(shard.transpose(order)), chunks, compress, lambda at: sum(at) == 3
        )
    return store


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_shards_behind_a_transpose(order: tuple[int, ...]) -> None:
    values = numbers((8, 9, 10), "i4")
    shards = (4, 6, 8)
    chunks = tuple((2, 3, 2)[axis] for axis in order)
    store = transposed_shards(values, order, shards, chunks)
    expected = values.copy()
    for at in product(*(range(0, n, c) for n, c in zip(values.shape, (2, 3, 2), strict=True))):
        inner = [i % s // c for i, s, c in zip(at, shards, (2, 3, 2), strict=True)]
        if sum(inner) == 3:  # not stored
            expected[tuple(slice(i, i + c) for i, c in zip(at, (2, 3, 2), strict=True))] = 0
    array = gpuzarr.open_array(store)
    rng = np.random.default_rng(0)
    with watched() as said:
        for _ in range(60):
            ends = [sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in values.shape]
            key = tuple(slice(*pair) for pair in ends)
            assert_result(array[key], np.ascontiguousarray(expected[key]))
    assert all(said)


CHAINS: dict[str, tuple[list[dict[str, Any]] | None, dict[str, Any] | None]] = {
    "plain": (None, None),
    "zstd": (None, {"id": "zstd", "level": 1}),
    "zstd checksum": (None, {"id": "zstd", "level": 1, "checksum": True}),
    "lz4": (None, {"id": "lz4"}),
    "bz2": (None, {"id": "bz2", "level": 1}),
    "blosc": (None, {"id": "blosc", "cname": "lz4", "shuffle": 1}),
    "delta": ([{"id": "delta", "dtype": "<i4"}], None),
    "delta zstd": ([{"id": "delta", "dtype": "<i4"}], {"id": "zstd", "level": 1}),
    "shuffle zlib": ([{"id": "shuffle", "elementsize": 4}], {"id": "zlib", "level": 1}),
    "offset": ([{"id": "fixedscaleoffset", "offset": 3, "scale": 1, "dtype": "<i4"}], None),
    "crc32": ([{"id": "crc32"}], None),
}


def v2_store(
    array: np.ndarray[Any, Any], chunks: Sequence[int], chain: str, order: Any
) -> dict[str, bytes]:
    filters, compressor = CHAINS[chain]
    document = {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(chunks),
        "dtype": array.dtype.str,
        "compressor": compressor,
        "fill_value": 0,
        "order": order,
        "filters": filters,
    }
    store = {".zarray": json.dumps(document).encode()}
    steps = [numcodecs.get_codec(dict(one)) for one in [*(filters or ()), compressor] if one]
    for coords, chunk in cut_chunks(array, chunks):
        data: Any = chunk.ravel(order=order)
        for step in steps:
            data = step.encode(data)
        store[".".join(map(str, coords))] = bytes(np.ascontiguousarray(data).data)
    return store


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chain", CHAINS)
def test_every_kind_of_step(chain: str, threads: int, order: str) -> None:
    values = numbers((30, 40), "<i4")
    array = gpuzarr.open_array(v2_store(values, (7, 8), chain, order), threads=threads)
    keys = [..., (3, 5), (slice(7, 14), slice(8, 16)), (slice(2, 29), slice(7, 9)), (29, ...)]
    with watched() as said:
        for key in keys:
            assert_result(array[key], index_of(values, key))
    assert all(said)


@pytest.mark.parametrize(
    "dtype", ["S3", "U2", "M8[s]", "c8", ">i4", "V5", [("a", "<i2"), ("b", "<f4", (2,))]]
)
def test_types_of_v2(dtype: Any) -> None:
    kind = np.dtype(dtype)
    values = np.frombuffer(bytes(i % 7 * (i % 4 == 0) for i in range(30 * kind.itemsize)), kind)
    stored = store_v2(values.reshape(5, 6), (2, 4), fill_json=None, fill=np.zeros((), kind))
    array = gpuzarr.open_array(stored.values)
    native = values.reshape(5, 6).astype(kind.newbyteorder("="))
    with watched() as said:
        for key in [..., (1, 2), (slice(1, 4), slice(3, 5)), (4, ...)]:
            assert_same(np.asarray(array[key]), index_of(native, key))
        if kind.names:
            assert_same(np.asarray(array["a"]), np.ascontiguousarray(native["a"]))
            assert said.pop() is False
    assert all(said)


def test_no_dimensions() -> None:
    for value in (np.array(7, "i4"), np.array(-1.5, ">f8")):
        array = gpuzarr.open_array(store_v2(value, (), gzip=True).values)
        with watched() as said:
            assert_same(np.asarray(array[()]), value.astype(value.dtype.newbyteorder("=")))
            assert np.asarray(array.read(..., dtype="float32", scale=2.0)) == 2 * value
        assert all(said)


def test_missing_chunks_and_shards_are_the_fill() -> None:
    values = numbers((12, 12), "i4")
    stored = store_v3(
        values,
        RegularGrid((6, 6)),
        fill=9,
        sharding=[Sharding((2, 3), skip=lambda at: at == (1, 0))],
        skip=lambda at: at == (1, 1),
    )
    plain = store_v3(values, RegularGrid((4, 4)), fill=9, skip=lambda at: at[0] == at[1])
    for one in (stored, plain):
        array = gpuzarr.open_array(one.values)
        with watched() as said:
            for key in [..., (slice(3, 9), slice(2, 10)), (0, 0), (8, 8), (11, 11)]:
                assert_result(array[key], index_of(one.expected, key))
        assert all(said)


@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_that_lie_inside_others(threads: int, way: str) -> None:
    values = numbers((4,), "i4")
    inner = zstandard.compress(values[2:].tobytes())
    outer = zstandard.compress(values[:2].tobytes()) + struct.pack(
        "<II", 0x184D2A50, len(inner) + 9
    )
    entries = [(0, len(outer) + len(inner) + 9), (len(outer), len(inner))]
    shard = outer + inner + bytes(9) + np.array(entries, "<u8").tobytes()
    zstd = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
    store = sharded_store(values, (4,), (2,), inner_codecs=("bytes", zstd))
    array = gpuzarr.open_array({**store, "c/0": shard}, threads=threads)
    with watched() as said:
        for key in [..., (slice(1, 4),), (0,), (3,)]:
            assert_result(array[key], index_of(values, key))
    # Such chunks are not decoded at once, so that these are left to other reads first.
    assert said == [not (way == MEDIUM and threads > 1), True, True, True]


@pytest.mark.parametrize("skip", [[], ["c/0"], ["c/0", "c/1"]])
def test_missing_shards_of_large_chunks(skip: list[str]) -> None:
    # Once `_read_some` looked at `requests[0]` where there was no request.
    values = numbers((1 << 16,), "i4")
    store = sharded_store(values, (1 << 15,), (1 << 14,))
    for key in skip:
        del store[key]
        values[(1 << 15) * int(key[2:]) :][: 1 << 15] = 0
    array = gpuzarr.open_array(store)
    with watched() as said:
        assert_result(array[9:99], values[9:99].copy())
        assert_result(array[...], values)
    assert all(said)
