"""The CUDA engine and the CPU engine give the same, for any array, selection and damage."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuzarr
from tests.cuda_devices import assert_engines_agree, installed
from tests.engines.cuda.fake_device import FakeDevice
from tests.strategies import any_keys, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.fixture(scope="module")
def device() -> Iterator[FakeDevice]:
    fake = FakeDevice()
    with installed(fake):
        yield fake


@settings(max_examples=300)
@given(data=st.data())
def test_any_array_and_selection(device: FakeDevice, data: st.DataObject) -> None:
    store, shape, dtype = data.draw(stores())
    assert_engines_agree(store)
    assert_engines_agree(store, data.draw(any_keys(shape)))
    if dtype.kind in "iuf":
        scaled: dict[str, Any] = {"scale": 0.5, "offset": -1}
        ways: list[dict[str, Any]] = [{"dtype": "f4"}, scaled, {"dtype": "f8", "scale": 3}]
        choices = data.draw(st.sampled_from(ways))
        assert_engines_agree(store, data.draw(any_keys(shape)), **choices)
    assert device.used == 0


def outcome(store: Any, **choices: Any) -> Any:
    """What a read gives, or the failures' coordinates."""
    try:
        return gpuzarr.open_array(store, **choices)[...]
    except gpuzarr.ChunkError as error:
        return {failure.coords for failure in error.failures}


@settings(max_examples=300)
@given(data=st.data())
def test_any_damage(device: FakeDevice, data: st.DataObject) -> None:
    """Both find the same chunks damaged, or read the same; bytes behind a zlib stream aside."""
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
    assert device.used == 0
    if isinstance(expected, set):
        assert isinstance(actual, set), (expected, actual)
        assert actual == expected
        return
    compressor = json.loads(store[".zarray"])["compressor"] or {}
    if isinstance(actual, set) and compressor.get("id") == "zlib":
        for coords in actual:
            stream = zlib.decompressobj()
            stream.decompress(store[".".join(map(str, coords)) or "0"])
            assert stream.unused_data, "only what follows a stream may be refused here"
        return
    assert not isinstance(actual, set), actual
    assert actual.tobytes() == expected.tobytes()
