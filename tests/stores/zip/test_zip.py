"""Zip archives as writers make them, and what may be strange about them without being damage."""

from __future__ import annotations

import gc
import io
import os
import pickle
import stat
import struct
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from gpuzarr.errors import NotFoundError, StoreError, UnsupportedError
from gpuzarr.stores.store import WHOLE, Store
from gpuzarr.stores.zip import entries as zip_entries
from gpuzarr.stores.zip import inflate as zip_inflate
from gpuzarr.stores.zip.store import ZipStore

if TYPE_CHECKING:
    from collections.abc import Callable

DEFLATED = zipfile.ZIP_DEFLATED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.zip"


def read(store: Store, key: str, offset: int = 0, nbytes: int = WHOLE) -> bytes | None:
    blob = store.read(key, offset, nbytes)
    return None if blob is None else bytes(blob.data)


def test_what_zarr_python_writes(path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    for zarr_format in (2, 3):
        path.unlink(missing_ok=True)
        writer = zarr.storage.ZipStore(path, mode="w")
        array = zarr.create_array(
            writer, name="a/b", shape=(6, 4), chunks=(3, 2), dtype="i4", zarr_format=zarr_format
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names written twice
            array[:] = 7
            array.attrs["late"] = True  # writes the metadata a second time: the last one counts
        writer.close()
        store = ZipStore(path)
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            assert len(names) < len(archive.namelist())
            for name in names:
                assert read(store, name) == archive.read(name)
        document = "a/b/zarr.json" if zarr_format == 3 else "a/b/.zattrs"
        assert b"late" in (read(store, document) or b"")
        assert ("b", True) in store.list("a")


def test_the_last_of_several_entries_counts(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in (b"first", b"second one", b"last"):
            archive.writestr("key", value)
    store = ZipStore(path)
    assert read(store, "key") == b"last"
    assert list(store.list()) == [("key", False)]


def test_names_that_are_no_keys_are_left_out(path: Path) -> None:
    names = ["/etc/passwd", "../up", "a/../../b", "a//b", "./c", "back\\slash", "C:\\x", "", "."]
    with zipfile.ZipFile(path, "w") as archive:
        for name in [*names, "folder/", "folder/key"]:
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"" if name.endswith("/") else b"value")
    store = ZipStore(path)
    assert list(store.list()) == [("folder", True)]
    assert list(store.list("folder")) == [("key", False)]
    assert read(store, "folder/key") == b"value"
    assert read(store, "folder") is None
    for name in names:
        with pytest.raises(StoreError, match="not allowed"):
            store.read(name)


def test_a_nul_in_a_name_hides_nothing(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zarr.jsonX.txt", b"value")
    path.write_bytes(path.read_bytes().replace(b"zarr.jsonX.txt", b"zarr.json\0.txt"))
    assert list(ZipStore(path).list()) == []


def test_the_top_folder_is_not_guessed(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.zarr/zarr.json", b"{}")
    store = ZipStore(path)
    assert read(store, "zarr.json") is None
    assert list(store.list()) == [("data.zarr", True)]


def test_an_empty_archive(path: Path) -> None:
    zipfile.ZipFile(path, "w").close()
    store = ZipStore(path)
    assert list(store.list()) == []
    assert read(store, "zarr.json") is None


def test_names_in_the_old_encoding(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kaeyX", b"value")
    path.write_bytes(path.read_bytes().replace(b"kaeyX", "k\u00e4\u00f6y".encode("cp437") + b"X"))
    assert read(ZipStore(path), "k\u00e4\u00f6yX") == b"value"


def test_an_archive_behind_other_bytes(path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("key", b"value")
    path.write_bytes(b"#!/bin/sh\n" * 50 + packed.getvalue())
    assert read(ZipStore(path), "key") == b"value"


def test_a_comment_and_extra_fields(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("key")
        info.extra = struct.pack("<HH8s", 0xCAFE, 8, b"whatever")
        archive.writestr(info, b"value")
        archive.comment = b"PK" * 1000
    assert read(ZipStore(path), "key") == b"value"


class Unseekable(io.RawIOBase):
    """Makes zipfile write the sizes behind the data."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.data += piece
        return len(piece)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, DEFLATED])
def test_sizes_behind_the_data(path: Path, method: int) -> None:
    sink = Unseekable()
    with zipfile.ZipFile(sink, "w", method) as archive:
        archive.writestr("key", b"value" * 100)
        archive.writestr("other", b"value")
    path.write_bytes(bytes(sink.data))
    assert read(ZipStore(path), "key") == b"value" * 100


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, DEFLATED])
def test_zip64(path: Path, method: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # every record in its wide form
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    with zipfile.ZipFile(path, "w", method) as archive:
        with archive.open("forced", "w", force_zip64=True) as entry:
            entry.write(b"wide" * 1000)
        archive.writestr("second", b"value" * 200)
    assert b"PK\x06\x06" in path.read_bytes()
    store = ZipStore(path)
    assert read(store, "forced", 3998) == b"de"
    assert read(store, "second") == b"value" * 200


def test_offsets_beyond_four_gigabytes(path: Path) -> None:
    """Most of the file is a hole, and takes no place on the disk."""
    gap = 5 << 30
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("key", b"value")
        directory = archive.start_dir
    head, tail = packed.getvalue()[:directory], packed.getvalue()[directory:]
    entry = bytearray(tail[:-22])
    entry[42:46] = b"\xff" * 4  # the offset of the local header stands in the extra field
    entry[30:32] = struct.pack("<H", 12)
    entry += struct.pack("<HHQ", 1, 8, gap)
    start = gap + len(head)
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + len(entry), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), 0xFFFFFFFF, 0)
    with path.open("wb") as file:
        file.seek(gap)
        file.write(head + entry + wide + locator + end)
    assert read(ZipStore(path), "key") == b"value"


def test_encrypted_entries_say_so(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("key", b"value")
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\1\2")
    data[6] |= 1
    data[directory + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsupportedError, match="encrypted") as caught:
        ZipStore(path).read("key")
    assert (caught.value.store, caught.value.key) == (str(path), "key")


@pytest.mark.parametrize("method", [1, 9, 93, 98, 0xFFFF])
def test_other_methods_say_so(path: Path, method: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("key", b"value")
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\1\2")
    data[8:10] = data[directory + 10 : directory + 12] = struct.pack("<H", method)
    path.write_bytes(data)
    with pytest.raises(UnsupportedError, match=f"method {method}"):
        ZipStore(path).read("key")


def test_links_in_archives_are_not_data(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("key")
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, b"../../etc/passwd")
    with pytest.raises(StoreError, match="symbolic link"):
        ZipStore(path).read("key")


def test_a_python_without_some_methods(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for method, module in [(zipfile.ZIP_BZIP2, "bz2"), (zipfile.ZIP_LZMA, "lzma")]:
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("key", b"value")
        store = ZipStore(path)
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, module, None)
            with pytest.raises(UnsupportedError, match="built without"):
                store.read("key")
        assert read(store, "key") == b"value"


def test_a_missing_file_and_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        ZipStore(tmp_path / "no.zip")
    with pytest.raises(StoreError, match="regular file"):
        ZipStore(tmp_path)
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(StoreError, match="regular file"):
        ZipStore(tmp_path / "pipe.zip")
    with pytest.raises(StoreError, match="too long"):
        ZipStore("x" * 300)
    with pytest.raises(StoreError, match="cannot be a file's name"):
        ZipStore("nul\0.zip")


def test_pieces_of_large_entries(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides of the decompressor in small pieces, ranges across their borders."""
    monkeypatch.setattr(zip_inflate, "_PIECE_IN", 7)
    monkeypatch.setattr(zip_inflate, "_PIECE_OUT", 10)
    value = bytes(range(100)) * 3 + bytes(700)
    for method in (DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("key", value)
        store = ZipStore(path, cache_nbytes=0)
        assert read(store, "key") == value
        for offset, nbytes in [(0, 1), (9, 2), (10, 10), (295, 10), (998, 2), (1000, 0), (0, 0)]:
            assert read(store, "key", offset, nbytes) == value[offset : offset + nbytes]


def test_no_more_is_decompressed_than_needed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_inflate, "_PIECE_IN", 64)
    monkeypatch.setattr(zip_inflate, "_PIECE_OUT", 1 << 10)
    with zipfile.ZipFile(path, "w", DEFLATED) as archive:
        archive.writestr("key", os.urandom(100_000))
    data = bytearray(path.read_bytes())
    data[60_000:61_000] = bytes(1000)  # damage that a part before it does not meet
    path.write_bytes(data)
    store = ZipStore(path, cache_nbytes=0)
    assert len(read(store, "key", 1000, 1000) or b"") == 1000
    with pytest.raises(StoreError, match="damaged"):
        store.read("key")


def test_parts_of_compressed_entries_are_inflated_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    plain = zip_inflate._inflate_pieces  # noqa: SLF001

    def count(*args: object) -> object:
        calls.append(str(args[2]))
        return cast("Callable[..., object]", plain)(*args)

    monkeypatch.setattr(zip_inflate, "_inflate_pieces", count)
    value = os.urandom(1000) * 100
    with zipfile.ZipFile(path, "w", DEFLATED) as archive:
        archive.writestr("key", value)
        archive.writestr("other", value)
    store = ZipStore(path, cache_nbytes=150_000)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda n: read(store, "key", n * 1000, 1000), range(100)))
    assert b"".join(part or b"" for part in parts) == value
    assert calls == ["key"]
    read(store, "other", 5, 5)
    read(store, "key", 5, 5)
    assert calls == ["key", "other", "key"]  # there was room for one of them


def test_the_file_is_held_and_let_go(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("key", b"value")
    gc.collect()
    before = len(list(Path("/dev/fd").iterdir()))
    store = ZipStore(path)
    path.unlink()
    assert read(store, "key") == b"value"
    del store
    gc.collect()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_pickle_opens_the_file_again(path: Path) -> None:
    with zipfile.ZipFile(path, "w", DEFLATED) as archive:
        archive.writestr("key", b"value")
    store = ZipStore(path, cache_nbytes=12)
    packed = pickle.dumps(store)
    again = pickle.loads(packed)  # noqa: S301
    assert read(again, "key", 1, 2) == b"al"
    assert again._archive.inflated.limit_nbytes == 12  # noqa: SLF001
    path.unlink()
    with pytest.raises(NotFoundError):
        pickle.loads(packed)  # noqa: S301


def test_validators_differ_between_versions(path: Path) -> None:
    validators = set()
    for value in (b"one", b"three"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("key", value)
        blob = ZipStore(path).read("key")
        assert blob is not None
        validators.add(blob.validator)
    assert len(validators) == 2


def test_directories_beyond_reason_are_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100):
            archive.writestr(str(number), b"")
    monkeypatch.setattr(zip_entries, "LARGEST_DIRECTORY", 1000)
    with pytest.raises(StoreError, match="too large"):
        ZipStore(path)
