"""Zip archives that are objects of another store: damage, failures, threads, and arrays in them."""

from __future__ import annotations

import os
import pickle
import threading
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import MemoryLimitError, NotFoundError, StoreError
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.store import WHOLE, reads_when_asked
from gpuzarr.stores.zip.store import ZipStore
from tests.stores.counting import CountingStore

from .far import KEY, open_far, pack, read

if TYPE_CHECKING:
    from pathlib import Path


def test_who_starts_reads_early(tmp_path: Path) -> None:
    """A file does not, so that small reads of it need no columns; another store may."""
    packed = pack({"a": b"value"})
    path = tmp_path / "archive.zip"
    path.write_bytes(packed)
    assert reads_when_asked(ZipStore(path))
    assert not reads_when_asked(open_far(packed)[0])


def test_a_replaced_archive_is_refused() -> None:
    objects = {"key": b"value", "far": bytes(200_000)}
    store, far = open_far(pack(objects))
    assert read(store, "key") == b"value"
    far.put(KEY, pack(objects))
    for offset in (0, 100_000):
        with pytest.raises(StoreError, match="was replaced") as caught:
            store.read("far", offset, 10)
        assert (caught.value.key, caught.value.store) == ("far", store.name)
    del far.objects[KEY]
    with pytest.raises(StoreError, match="not there any more"):
        store.read("key")


def test_errors_of_the_other_store_name_the_entry() -> None:
    store, far = open_far(pack({"key": b"value"}))
    far.fail = StoreError("the network is down", key=KEY, store=far.name)
    with pytest.raises(StoreError, match="the network is down") as caught:
        store.read("key")
    assert (caught.value.key, caught.value.store) == ("key", f"far://away/{KEY}")
    with pytest.raises(StoreError, match="the network is down"):
        ZipStore.of_object(far, KEY)
    far.fail = MemoryLimitError("no memory")
    with pytest.raises(MemoryLimitError):
        store.read("key")


def test_a_directory_that_cannot_be_fetched_is_no_damage() -> None:
    packed = pack({f"c/{number}": b"" for number in range(3000)})

    class FailsLater(CountingStore):
        def read(self, key, offset=0, nbytes=WHOLE, allocate=bytearray):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            if offset >= 0:
                raise StoreError("the network is down", key=key)
            return super().read(key, offset, nbytes, allocate)

    with pytest.raises(StoreError, match="the network is down") as caught:
        ZipStore.of_object(FailsLater({KEY: packed}), KEY)
    assert "damaged" not in str(caught.value)


def test_missing_archives_and_bad_keys() -> None:
    far = CountingStore({})
    with pytest.raises(NotFoundError, match="no such archive") as caught:
        ZipStore.of_object(far, KEY)
    assert caught.value.key == KEY
    with pytest.raises(StoreError, match="not allowed"):
        ZipStore.of_object(far, "../x.zip")
    far.put(KEY, b"")
    with pytest.raises(StoreError, match="not a zip archive"):
        ZipStore.of_object(far, KEY)


def test_a_pickle_holds_the_other_store(tmp_path: Path) -> None:
    (tmp_path / "s.zip").write_bytes(pack({"key": b"value"}, zipfile.ZIP_DEFLATED))
    store = ZipStore.of_object(LocalStore(tmp_path), "s.zip", cache_nbytes=12)
    packed = pickle.dumps(store)
    again = pickle.loads(packed)  # noqa: S301
    assert read(again, "key", 1, 2) == b"al"
    assert again.__reduce__()[1][-1] == 12
    assert again.path is None
    assert again.name == str(tmp_path / "s.zip")


def test_what_is_wrong_with_one_read_is_told_of_that_one() -> None:
    packed = bytearray(pack({"good": b"value", "bad": b"value2"}))
    packed[packed.index(b"value2")] ^= 1
    store, _ = open_far(bytes(packed))
    pending = store.start_reads(
        ["good", "bad", "../up", "good", "missing"], [0, 0, 0, 9, 0], [WHOLE] * 5
    )
    blob = pending.result(0)
    assert blob is not None
    assert bytes(blob.data) == b"value"
    for row, text in [(1, "CRC-32"), (2, "not allowed"), (3, "were asked for")]:
        with pytest.raises(StoreError, match=text) as caught:
            pending.result(row)
        assert caught.value.store == store.name
    assert pending.result(4) is None


def test_a_sharded_array() -> None:
    """An index request a shard (with the header) and one for the coalesced chunks."""
    zarr = pytest.importorskip("zarr")
    objects: dict[str, bytes] = {}
    memory = zarr.storage.MemoryStore()
    values = np.arange(512 * 512, dtype="f8").reshape(512, 512)
    array = zarr.create_array(
        memory, shape=values.shape, shards=(256, 512), chunks=(32, 32), dtype="f8", compressors=None
    )
    array[:] = values
    objects = {key: buffer.to_bytes() for key, buffer in memory._store_dict.items()}  # noqa: SLF001
    store, far = open_far(pack(objects))
    opened = gpuzarr.open_array(store)
    far.take()
    assert np.array_equal(opened[300:310, 5:9], values[300:310, 5:9])
    requests, _ = far.take()
    assert len(requests) == 3  # header and index together, then a chunk
    assert np.array_equal(opened[400:410, 5:9], values[400:410, 5:9])
    assert len(far.take()[0]) == 1
    assert np.array_equal(opened[...], values)


def test_threads_take_a_compressed_entry_from_one_request() -> None:
    value = os.urandom(50_000)
    store, far = open_far(pack({"key": value}, zipfile.ZIP_DEFLATED))
    far.take()
    pending = store.start_reads(["key"] * 16, list(range(16)), [1000] * 16)
    found: list[bool] = []

    def take(row: int) -> None:
        blob = pending.result(row)
        found.append(blob is not None and bytes(blob.data) == value[row : row + 1000])

    threads = [threading.Thread(target=take, args=(row,)) for row in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 16
    assert len(far.take()[0]) == 1
