"""The CUDA engine and the CPU engine give the same, for any array, selection and damage."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.engines.cuda import availability
from gpuzarr.metadata.model import RegularGrid
from gpuzarr.plan.selection import normalize_selection
from tests.cuda_devices import assert_engines_agree, installed
from tests.effort import examples
from tests.engines.cuda.fake_device import FakeDevice
from tests.stored import BytesCodec, Sharding, every, store_v3
from tests.strategies import any_keys, grids, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuzarr.engines.cuda.device import Device

DTYPES = (
    "|b1",
    "|i1",
    "<u2",
    ">i2",
    "<i4",
    ">u4",
    "<i8",
    "<f2",
    ">f4",
    "<f4",
    "<f8",
    ">c8",
    "<c16",
)
V3_DTYPES = ("i1", "u2", "i4", "u8", "f2", "f4", "f8")
BYTES_CODECS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"id": "zlib", "level": 1},
    {"id": "gzip", "level": 1},
    {"id": "zstd", "level": 1},
    {"id": "zstd", "level": 1, "checksum": True},
    {"id": "lz4", "acceleration": 1},
    {"id": "bz2", "level": 1},
    {"id": "lzma"},
    *(
        {"id": "blosc", "cname": cname, "clevel": clevel, "shuffle": shuffle, "blocksize": block}
        for cname in ("blosclz", "lz4", "zstd", "zlib")
        for clevel, shuffle, block in ((1, 1, 0), (5, 2, 256), (9, 0, 0), (0, 1, 0))
    ),
)


def filters_for(dtype: np.dtype[Any]) -> list[list[dict[str, Any]]]:
    """Chains of filters that the dtype can have."""
    shuffle = {"id": "shuffle", "elementsize": dtype.itemsize}
    chains: list[list[dict[str, Any]]] = [
        [],
        [shuffle],
        [{"id": "crc32c", "location": "end"}],
        [{"id": "adler32"}],
        [{"id": "fletcher32"}],
    ]
    if dtype.kind in "iuf":
        delta = {"id": "delta", "dtype": dtype.str, "astype": dtype.str}
        chains += [[delta], [delta, shuffle], [delta, {"id": "crc32"}]]
    if dtype.kind == "f":
        chains.append([{"id": "astype", "encode_dtype": "<f8", "decode_dtype": dtype.str}])
        scale = {"id": "fixedscaleoffset", "scale": 10, "offset": 2}
        scale |= {"dtype": dtype.str, "astype": "<i4"}
        delta = {"id": "delta", "dtype": "<i4", "astype": "<i4"}
        chains += [[scale], [scale, delta, {"id": "shuffle", "elementsize": 4}]]
    if dtype.kind == "b":
        chains.append([{"id": "packbits"}])
    return chains


def encoded(values: np.ndarray[Any, Any], codecs: list[dict[str, Any]]) -> bytes:
    """A chunk as it is stored."""
    data: Any = values
    for configuration in codecs:
        data = numcodecs.get_codec(dict(configuration)).encode(data)
    return data.tobytes() if isinstance(data, np.ndarray) else bytes(data)


def v3_codecs(itemsize: int) -> list[BytesCodec]:
    """Codecs that v3 arrays of elements of that size may have."""
    codecs: list[BytesCodec] = [
        ({"name": "crc32c"}, lambda data: data + google_crc32c.value(data).to_bytes(4, "little")),
        ({"name": "gzip", "configuration": {"level": 1}}, gzip.compress),
    ]
    for checksum in (False, True):
        zstd = zstandard.ZstdCompressor(level=1, write_checksum=checksum)
        options: dict[str, Any] = {"level": 1, "checksum": checksum}
        codecs.append(({"name": "zstd", "configuration": options}, zstd.compress))
    for cname in ("blosclz", "lz4", "zstd", "zlib"):
        for number, shuffle in enumerate(("noshuffle", "shuffle", "bitshuffle")):
            codec = numcodecs.Blosc(cname, 5, number, 256, itemsize)
            options = {"cname": cname, "clevel": 5, "shuffle": shuffle}
            options |= {"typesize": itemsize, "blocksize": 256}
            codecs.append(({"name": "blosc", "configuration": options}, codec.encode))
    return codecs


@st.composite
def stores_v3(draw: st.DrawFn) -> tuple[dict[str, bytes], tuple[int, ...]]:
    """A v3 array: any grid, axis order, byte order, shards and codecs."""
    dtype = np.dtype(draw(st.sampled_from(V3_DTYPES)))
    shape = draw(shapes(max_dims=3, max_side=9))
    numbers = np.random.default_rng(draw(st.integers(0, 9))).normal(size=shape) * 5
    array = np.asarray(np.abs(numbers) if dtype.kind == "u" else numbers).astype(dtype)
    sharding: list[Sharding] = []
    grid = draw(grids(shape))
    if draw(st.booleans()):
        inner = tuple(draw(st.integers(1, 4)) for _ in shape)
        grid = RegularGrid(tuple(side * draw(st.integers(1, 3)) for side in inner))
        end = draw(st.sampled_from(["start", "end"]))
        sharding = [Sharding(inner, end, draw(st.booleans()), every(draw(st.integers(0, 3))))]
    stored = store_v3(
        array,
        grid,
        endian=draw(st.sampled_from(["little", "big"])),
        order=draw(st.one_of(st.none(), st.permutations(range(len(shape))))),
        sharding=sharding,
        bytes_codecs=draw(st.lists(st.sampled_from(v3_codecs(dtype.itemsize)), max_size=3)),
        skip=every(draw(st.integers(0, 4))),
    )
    return stored.values, shape


@st.composite
def stores(draw: st.DrawFn) -> tuple[dict[str, bytes], tuple[int, ...], np.dtype[Any]]:
    """A v2 array written chunk by chunk with numcodecs."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(shapes(max_dims=3, max_side=9))
    chunks = tuple(draw(st.integers(1, 6)) for _ in shape)
    order = draw(st.sampled_from("CF"))
    compressor = draw(st.sampled_from(BYTES_CODECS))
    chain = draw(st.sampled_from(filters_for(dtype)))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    document = {
        "zarr_format": 2,
        "shape": shape,
        "chunks": chunks,
        "dtype": dtype.str,
        "compressor": compressor,
        "filters": chain or None,
        "fill_value": 0,
        "order": order,
    }
    store = {".zarray": json.dumps(document).encode()}
    for coords in np.ndindex(*(-(-n // c) for n, c in zip(shape, chunks, strict=True))):
        if rng.random() < 0.15:
            continue
        numbers = np.round(rng.normal(size=chunks) * 5)
        values = np.asarray(np.abs(numbers) if dtype.kind == "u" else numbers).astype(dtype)
        flat = np.ascontiguousarray(values.T if order == "F" else values).reshape(-1)
        key = ".".join(map(str, coords)) or "0"
        store[key] = encoded(flat, [*chain, *([compressor] if compressor else [])])
    return store, shape, dtype


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """As the fixture `cuda`, once for all examples."""
    if request.param == "real":
        yield availability.open_device(None)
        return
    fake = FakeDevice()
    with installed(fake):
        yield fake


def assert_given_back(device: Device) -> None:
    """The fake device counts the bytes in use."""
    if isinstance(device, FakeDevice):
        assert device.used == 0


def keys(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Keys that select something: the lists in them broadcast."""

    def valid(key: Any) -> bool:
        try:
            normalize_selection(key, shape)
        except gpuzarr.SelectionError:
            return False
        return True

    return any_keys(shape).filter(valid)


@examples(100)
@given(data=st.data())
def test_any_array_and_selection(device: Device, data: st.DataObject) -> None:
    store, shape, dtype = data.draw(stores())
    assert_engines_agree(store)
    assert_engines_agree(store, data.draw(keys(shape)))
    if dtype.kind in "iuf":
        scaled: dict[str, Any] = {"scale": 0.5, "offset": -1}
        ways: list[dict[str, Any]] = [{"dtype": "f4"}, scaled, {"dtype": "f8", "scale": 3}]
        choices = data.draw(st.sampled_from(ways))
        assert_engines_agree(store, data.draw(keys(shape)), **choices)
    assert_given_back(device)


@examples(60)
@given(data=st.data())
def test_any_v3_array(device: Device, data: st.DataObject) -> None:
    store, shape = data.draw(stores_v3())
    assert_engines_agree(store)
    assert_engines_agree(store, data.draw(keys(shape)))
    assert_given_back(device)


def test_chunks_that_not_all_take_the_same_passes(device: Device) -> None:
    """Blosc stores what it cannot make smaller as it is; other chunks are bit-shuffled."""
    rng = np.random.default_rng(3)
    array = np.zeros((64, 64), np.int32)
    array[::16] = rng.integers(-(1 << 31), 1 << 31, (4, 64), np.int64).astype(np.int32)
    blosc = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2, "blocksize": 0}
    filters: list[dict[str, Any]] = [
        {"id": "delta", "dtype": "<i4", "astype": "<i4"},
        {"id": "shuffle", "elementsize": 4},
    ]
    document = {
        "zarr_format": 2,
        "shape": array.shape,
        "chunks": (1, 64),
        "dtype": "<i4",
        "compressor": blosc,
        "filters": filters,
        "fill_value": 0,
        "order": "C",
    }
    store = {".zarray": json.dumps(document).encode()}
    for row in range(64):
        store[f"{row}.0"] = encoded(array[row], [*filters, blosc])
    stored_as_it_is = {key for key in store if key != ".zarray" and store[key][2] & 2}
    assert len(stored_as_it_is) == 4
    assert_engines_agree(store)
    assert_given_back(device)


def outcome(store: Any, **choices: Any) -> Any:
    """What a read gives, or the failures' coordinates."""
    try:
        return gpuzarr.open_array(store, **choices)[...]
    except gpuzarr.ChunkError as error:
        return {failure.coords for failure in error.failures}


@examples(100)
@given(data=st.data())
def test_any_damage(device: Device, data: st.DataObject) -> None:
    """Both find the same chunks damaged, or read the same."""
    store, _, _ = data.draw(stores())
    keys = sorted(key for key in store if key != ".zarray")
    if not keys:
        return
    for key in data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3)):
        chunk = bytearray(store[key])
        kind = data.draw(st.sampled_from(["flip", "cut", "grow", "swap"]))
        if kind == "flip" and chunk:
            chunk[data.draw(st.integers(0, len(chunk) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            chunk = chunk[: data.draw(st.integers(0, len(chunk)))]
        elif kind == "grow":
            chunk += data.draw(st.binary(min_size=1, max_size=9))
        else:
            chunk = bytearray(store[data.draw(st.sampled_from(keys))])
        store[key] = bytes(chunk)
    expected, actual = outcome(store, device="cpu"), outcome(store, device="cuda")
    assert_given_back(device)
    if isinstance(expected, set) or isinstance(actual, set):
        assert actual == expected
        return
    assert actual.tobytes() == expected.tobytes()
