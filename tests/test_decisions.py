"""Decisions of the design that no other test holds to: codecs around shards, results, writers
beside the reader, devices, portability.

The others: damage in tests/engines/cpu/test_damage.py, conversions in tests/test_conversion.py,
`out=` in tests/test_out.py, requests in tests/test_counters.py, symbolic links in
tests/stores/test_local_links.py, forks in tests/test_concurrency.py.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from tests.arrays import CountingStore, encoded, plain_store, v3_metadata
from tests.stored import (
    RegularGrid,
    Sharding,
    assert_result,
    compress,
    every,
    store_v2,
    store_v3,
    with_crc32c,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INT = (np.arange(96) % 113 + 1).astype("i4").reshape(8, 12)


# 1. Codecs around shards


def with_codecs(values: dict[str, bytes], before: list[Any], behind: list[Any]) -> dict[str, bytes]:
    """The same objects, with more codecs around the sharding codec in the metadata."""
    document = json.loads(values["zarr.json"])
    document["codecs"] = [*before, *document["codecs"], *behind]
    return {**values, "zarr.json": encoded(document)}


GZIP = {"name": "gzip", "configuration": {"level": 1}}


def test_codecs_behind_the_shard_are_undone_once_for_all_its_chunks() -> None:
    stored = store_v3(INT, RegularGrid((8, 6)), sharding=[Sharding((2, 3), skip=every(3))])
    values = with_codecs(stored.values, [], [GZIP])
    values |= {key: compress(values[key]) for key in stored.shards}
    store = CountingStore(values)
    array = gpuzarr.open_array(store)
    assert array.chunks == (2, 3)
    store.taken()
    assert_result(array[...], stored.expected)
    # Reads of no bytes ask whether an object that is kept decoded is still the same.
    assert sorted(key for key, _, nbytes in store.taken() if nbytes) == sorted(stored.shards)
    assert_result(array[3:, 1], stored.expected[3:, 1])
    assert {nbytes for _, _, nbytes in store.taken()} == {0}
    for key, value in values.items():
        if key in stored.shards:
            values[key] = bytes(bytearray(value))  # replaced by its equal
    assert_result(array[3:, 1], stored.expected[3:, 1])
    assert any(nbytes for _, _, nbytes in store.taken())
    small = gpuzarr.open_array(store, cache_nbytes=0)
    assert_result(small[3:, 1], stored.expected[3:, 1])
    assert_result(small[0, 0], stored.expected[0, 0:1].reshape(()))


def test_a_damaged_object_behind_the_shard_names_itself() -> None:
    stored = store_v3(INT, RegularGrid((8, 6)), sharding=[Sharding((2, 3))])
    values = with_codecs(stored.values, [], [GZIP])
    values |= {key: compress(values[key]) for key in stored.shards}
    values["c/0/1"] = values["c/0/1"][:-9]
    array = gpuzarr.open_array(values)
    with pytest.raises(gpuzarr.DecodeError, match="whole shard") as raised:
        array[...]
    assert {failure.key for failure in raised.value.failures} == {"c/0/1"}
    assert len(raised.value.failures) == 8
    assert_result(array[:, :6], stored.expected[:, :6])


def test_a_transpose_before_the_shard_permutes_coordinates() -> None:
    stored = store_v3(INT.T, RegularGrid((6, 8)), sharding=[Sharding((3, 2), skip=every(3))])
    turn = {"name": "transpose", "configuration": {"order": [1, 0]}}
    document = json.loads(with_codecs(stored.values, [turn], [])["zarr.json"])
    document["shape"] = [8, 12]
    document["chunk_grid"]["configuration"]["chunk_shape"] = [8, 6]
    values: dict[str, bytes] = {"zarr.json": encoded(document)}
    for i in range(2):
        values[f"c/0/{i}"] = stored.values[f"c/{i}/0"]
    array = gpuzarr.open_array(values)
    assert (array.chunks, array.shards, array.nchunks) == ((2, 3), (8, 6), 16)
    assert_result(array[...], np.ascontiguousarray(stored.expected.T))
    assert_result(array[::-3, 2:7], np.ascontiguousarray(stored.expected.T[::-3, 2:7]))
    store = CountingStore(values)
    one = gpuzarr.open_array(store)
    store.taken()
    assert one[3, 4] == stored.expected[4, 3]
    assert len(store.taken()) == 2


def test_element_wise_codecs_before_the_shard_are_steps_of_its_chunks() -> None:
    stored = store_v3(INT, RegularGrid((8, 6)), sharding=[Sharding((2, 3))])
    scale = {"name": "scale_offset", "configuration": {"scale": 1, "offset": 100}}
    store = CountingStore(with_codecs(stored.values, [scale], []))
    array = gpuzarr.open_array(store)
    assert_result(array[1:, ::2], np.ascontiguousarray(INT[1:, ::2] + 100))
    store.taken()
    assert array[0, 0] == INT[0, 0] + 100
    assert [nbytes for _, _, nbytes in store.taken()] == [24]


def test_codecs_that_see_the_order_of_elements_make_a_shard_one_chunk() -> None:
    stored = store_v3(INT, RegularGrid((8, 6)), sharding=[Sharding((2, 3))])
    delta = {"name": "numcodecs.delta", "configuration": {"dtype": "<i4"}}
    array = gpuzarr.open_array(with_codecs(stored.values, [delta], []))
    expected = np.empty_like(INT)
    for half in (slice(0, 6), slice(6, 12)):
        expected[:, half] = np.cumsum(INT[:, half], dtype="i4").reshape(8, 6)
    assert_result(array[...], expected)
    assert_result(array[5, 2:9], expected[5, 2:9])


# 3. Corruption


def test_a_checksum_over_encoded_bytes_is_verified_before_they_are_decoded() -> None:
    chunk = compress(INT[:4, :6].tobytes())
    document = v3_metadata((4, 6), (4, 6), codecs=("bytes", GZIP, {"name": "crc32c"}))
    good = with_crc32c(chunk)
    assert_result(
        gpuzarr.open_array({"zarr.json": encoded(document), "c/0/0": good})[...],
        np.ascontiguousarray(INT[:4, :6]),
    )
    # No gzip stream at all: decoding it would say so first.
    bad = b"not gzip" + good[-4:]
    with pytest.raises(gpuzarr.ChecksumError):
        gpuzarr.open_array({"zarr.json": encoded(document), "c/0/0": bad})[...]


def test_the_checksum_inside_gzip_is_verified() -> None:
    values = plain_store(INT, (8, 12), encode=compress, codecs=("bytes", GZIP))
    crc = struct.pack("<I", zlib.crc32(INT.tobytes()))
    assert values["c/0/0"][-8:-4] == crc
    values["c/0/0"] = values["c/0/0"][:-8] + struct.pack("<I", 1) + values["c/0/0"][-4:]
    with pytest.raises(gpuzarr.ChunkError):
        gpuzarr.open_array(values)[...]


# 4. and 12. Devices


@pytest.mark.parametrize("dtype", ["<U4", "<M8[s]", "|S3", "|V5"])
def test_types_that_only_the_host_has_are_numpys(dtype: str) -> None:
    values = np.zeros((3,), dtype)
    array = gpuzarr.open_array(store_v2(values, (2,), fill_json=None, fill=values[0]).values)
    assert (array.device, array.engine) == ("cpu", "cpu")
    assert type(array[...]) is np.ndarray


def test_a_device_is_looked_for_when_it_is_needed() -> None:
    values = plain_store(INT, (4, 4))
    for device in ("cuda:7", "nonsense", "cpu:0", ""):
        array = gpuzarr.open_array(values, device=device)
        assert array.shape == (8, 12)
        uses: list[Callable[[gpuzarr.Array], Any]] = [
            lambda a: a[0],
            lambda a: a.device,
            lambda a: a.engine,
            lambda a: a.explain(),
        ]
        for use in uses:
            with pytest.raises(gpuzarr.UnsupportedError) as raised:
                use(array)
            assert raised.value.reasons
            assert repr(device) in str(raised.value)
            assert raised.value.path == ""
    for device in ("auto", "cpu"):
        assert gpuzarr.open_array(values, device=device).device == "cpu"


# 8. Results


def test_chunks_are_the_outermost_ones_inside_shards() -> None:
    nested = store_v3(INT, RegularGrid((8, 12)), sharding=[Sharding((4, 6)), Sharding((2, 3))])
    array = gpuzarr.open_array(nested.values)
    assert (array.shards, array.chunks, array.nchunks) == ((8, 12), (4, 6), 4)
    plain = gpuzarr.open_array(plain_store(INT, (3, 5)))
    assert (plain.shards, plain.chunks, plain.nchunks) == (None, (3, 5), 9)
    grid = {"kind": "inline", "chunk_shapes": [[3, 4, 5], 5]}
    document = v3_metadata((8, 12), ())
    document["chunk_grid"] = {"name": "rectilinear", "configuration": grid}
    rectilinear = gpuzarr.open_array({"zarr.json": encoded(document)})
    assert rectilinear.chunks == ((3, 4, 5), (5, 5, 5))
    assert rectilinear.nchunks == 9


def test_strings_are_string_dtype_and_other_lengths_objects() -> None:
    text = v3_metadata(
        (2,), (2,), data_type="string", codecs=({"name": "vlen-utf8"},), fill_value="x"
    )
    array = gpuzarr.open_array({"zarr.json": encoded(text)})
    assert array.dtype.kind == ("T" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "O")
    assert array[...].tolist() == ["x", "x"]
    blob = v3_metadata((2,), (2,), data_type="bytes", codecs=({"name": "vlen-bytes"},))
    blob["fill_value"] = [1, 2]
    array = gpuzarr.open_array({"zarr.json": encoded(blob)})
    assert array.dtype == object
    assert array[...].tolist() == [b"\1\2", b"\1\2"]
    assert type(array[0]) is np.ndarray
    assert array[0].shape == ()


# 10. Writers beside us


def test_metadata_are_a_snapshot_until_refreshed() -> None:
    values = plain_store(INT, (4, 4), attributes={"a": 1})
    array = gpuzarr.open_array(values)
    assert_result(array[...], INT)
    assert array.attrs["a"] == 1
    longer = np.concatenate([INT, INT + 200]).astype("f8")
    values.clear()
    values.update(plain_store(longer, (4, 4), attributes={"a": 2}, fill_value=1.5))
    assert (array.shape, array.dtype, array.attrs["a"]) == ((8, 12), np.dtype("i4"), 1)
    assert array.refresh() is array
    assert (array.shape, array.dtype, array.attrs["a"]) == ((16, 12), np.dtype("f8"), 2)
    assert_result(array[...], longer)
    del values["c/0/0"]
    assert array[0, 0] == 1.5
    array.refresh()
    assert array[0, 0] == 1.5


def test_refreshing_what_is_gone_keeps_the_handle() -> None:
    values = plain_store(INT, (4, 4))
    array = gpuzarr.open_array(values)
    document = values.pop("zarr.json")
    with pytest.raises(gpuzarr.NotFoundError):
        array.refresh()
    values["zarr.json"] = b"{"
    with pytest.raises(gpuzarr.MetadataError):
        array.refresh()
    values["zarr.json"] = encoded({"zarr_format": 3, "node_type": "group"})
    with pytest.raises(gpuzarr.NotFoundError, match="there is a group here"):
        array.refresh()
    assert_result(array[...], INT)
    values["zarr.json"] = document
    assert_result(array.refresh()[...], INT)


def test_a_shard_that_keeps_changing_is_an_error_and_never_data() -> None:
    """Each read of the index is followed by a new shard: the second look fails as well."""
    versions = [
        store_v3(INT * factor, RegularGrid((8, 12)), sharding=[Sharding((4, 6))], gzip=True).values
        for factor in (1, 77777)
    ]

    class Restless(CountingStore):
        def read(self, key: str, offset: int = 0, *rest: Any, **names: Any) -> Any:
            blob = super().read(key, offset, *rest, **names)
            if key == "c/0/0" and offset < 0:
                versions.reverse()
                self.values["c/0/0"] = versions[0]["c/0/0"] + b""
            return blob

    array = gpuzarr.open_array(Restless(dict(versions[0])))
    with pytest.raises(gpuzarr.ChunkError):
        array[...]


# 15. Portability


def run(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(  # noqa: PLW1510  the assertion shows what it wrote
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PORTABLE = """
import os
del os.preadv
import numpy as np
import gpuzarr
array = gpuzarr.open_array({path!r})
assert (array[...] == np.arange(96).reshape(8, 12)).all()
assert (array[3, ::-1] == np.arange(36, 48)[::-1]).all()
print("read")
"""


@pytest.mark.parametrize("kind", ["directory", "zip"])
def test_reading_without_preadv(tmp_path: Path, kind: str) -> None:
    array = np.arange(96, dtype="i4").reshape(8, 12)
    values = store_v3(array, RegularGrid((8, 6)), sharding=[Sharding((2, 3))], gzip=True).values
    if kind == "zip":
        path = tmp_path / "store.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for key, value in values.items():
                archive.writestr(key, value)
    else:
        path = tmp_path / "store.zarr"
        for key, value in values.items():
            (path / key).parent.mkdir(parents=True, exist_ok=True)
            (path / key).write_bytes(value)
    assert run(PORTABLE.format(path=str(path))) == "read\n"
