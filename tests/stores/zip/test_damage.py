"""Archives that lie: whatever is changed in one, nothing but an error or the truth comes out."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuzarr.errors import GpuzarrError, StoreError, UnsupportedError
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.store import WHOLE
from gpuzarr.stores.zip.store import ZipStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Open = Callable[..., ZipStore]

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
OBJECTS = {
    "zarr.json": b'{"zarr_format": 3}',
    "c/0": bytes(range(256)),
    "c/1": b"",
    "c/2": b"abc" * 50,
}


@pytest.fixture(scope="module", params=METHODS)
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("zip") / "whole.zip"
    with zipfile.ZipFile(path, "w", request.param) as archive:
        for key, value in OBJECTS.items():
            archive.writestr(key, value)
    return path.read_bytes()


def open_as_object(path: Path, **options: int) -> ZipStore:
    return ZipStore.of_object(LocalStore(path.parent), path.name, **options)


def open_file(path: Path, **options: int) -> ZipStore:
    return ZipStore(path, **options)


@pytest.fixture(params=[open_file, open_as_object])
def open_zip(request: pytest.FixtureRequest) -> Open:
    opened: Open = request.param
    return opened


def assert_true_or_refused(open_zip: Open, path: Path) -> None:
    """Each object is as it was, missing because its name is damaged, or refused."""
    try:
        store = open_zip(path)
        list(store.list())
    except (StoreError, UnsupportedError):
        return
    for key, value in OBJECTS.items():
        try:
            blob = store.read(key)
        except (StoreError, UnsupportedError) as error:
            assert error.key == key  # noqa: PT017
        else:
            assert blob is None or bytes(blob.data) == value
        for offset, nbytes in [(0, 3), (-2, 2)]:
            try:
                store.read(key, offset, nbytes)
            except GpuzarrError as error:
                assert isinstance(error, (StoreError, UnsupportedError))  # noqa: PT017


def test_cut_off_anywhere(open_zip: Open, packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.zip"
    for length in range(0, len(packed), 1 if open_zip is open_file else 3):
        path.write_bytes(packed[:length])
        with pytest.raises(StoreError, match="damaged"):
            open_zip(path)


def test_the_beginning_is_missing(open_zip: Open, packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tail.zip"
    for length in range(1, len(packed), 7):
        path.write_bytes(packed[length:])
        assert_true_or_refused(open_zip, path)


def test_each_byte_changed(open_zip: Open, packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "flipped.zip"
    quick = packed[8] in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    for position in range(0, len(packed), 1 if quick else 5):
        for change in (0x01, 0x80) if quick and open_zip is open_file else (0x41,):
            data = bytearray(packed)
            data[position] ^= change
            path.write_bytes(data)
            assert_true_or_refused(open_zip, path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    fields=st.lists(
        st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]),
        min_size=4,
        max_size=4,
    ),
)
def test_fields_replaced_by_extremes(
    open_zip: Open, packed: bytes, tmp_path: Path, places: list[float], fields: list[int]
) -> None:
    data = bytearray(packed)
    for place, field in zip(places, fields, strict=False):
        start = int(place * (len(data) - 4))
        data[start : start + 4] = struct.pack("<L", field)
    path = tmp_path / "extreme.zip"
    path.write_bytes(data)
    assert_true_or_refused(open_zip, path)


def write_claims(
    path: Path, stored: bytes, *, method: int, size: int, crc: int, stored_nbytes: int | None = None
) -> None:
    """An archive of one entry "key", whose claims are as given."""
    nbytes = len(stored) if stored_nbytes is None else stored_nbytes
    claims = struct.pack("<5H3L2H", 20, 0, method, 0, 0, crc, nbytes, size, 3, 0)
    local = b"PK\3\4" + claims + b"key" + stored
    central = b"PK\1\2" + struct.pack("<H", 20) + claims + struct.pack("<3H2L", 0, 0, 0, 0, 0)
    directory = central + b"key"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(local), 0)
    path.write_bytes(local + directory + end)


def deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize("claimed", [1, 999, 1001, 5000, 900_000])
@pytest.mark.parametrize("whole", [True, False])
def test_a_size_that_is_not_so(
    open_zip: Open, tmp_path: Path, claimed: int, *, whole: bool
) -> None:
    path, data = tmp_path / "lie.zip", bytes(1000)
    write_claims(path, deflate(data), method=8, size=claimed, crc=zlib.crc32(data))
    store = open_zip(path)
    with pytest.raises(StoreError, match="damaged") as caught:
        store.read("key", 0, -1 if whole else claimed // 3)
    assert (caught.value.key, caught.value.store) == ("key", str(path))


def test_stored_sizes_that_disagree(open_zip: Open, tmp_path: Path) -> None:
    path = tmp_path / "lie.zip"
    write_claims(path, b"value", method=0, size=4, crc=zlib.crc32(b"valu"))
    with pytest.raises(StoreError, match="cannot hold"):
        open_zip(path).read("key")


@pytest.mark.parametrize("method", [0, 8])
def test_a_checksum_that_does_not_match(open_zip: Open, tmp_path: Path, method: int) -> None:
    path, data = tmp_path / "lie.zip", b"value" * 10
    stored = deflate(data) if method else data
    write_claims(path, stored, method=method, size=len(data), crc=zlib.crc32(data) ^ 1)
    with pytest.raises(StoreError, match="CRC-32"):
        open_zip(path).read("key")


def test_data_that_run_into_the_directory(open_zip: Open, tmp_path: Path) -> None:
    path = tmp_path / "long.zip"
    write_claims(path, b"value", method=0, size=50, stored_nbytes=50, crc=0)
    with pytest.raises(StoreError, match="runs into"):
        open_zip(path).read("key")


def test_entries_that_share_their_data(open_zip: Open, tmp_path: Path) -> None:
    """The quoted-overlap bomb: each entry holds the next one's header and data too."""
    path = tmp_path / "overlap.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x" * 10)
        archive.writestr("b", b"y" * 10)
    data = bytearray(path.read_bytes())
    both = bytes(data[31 : data.index(b"PK\1\2")])
    directory = data.index(b"PK\1\2")
    for start in (14, directory + 16):
        data[start : start + 12] = struct.pack("<3L", zlib.crc32(both), len(both), len(both))
    path.write_bytes(data)
    store = open_zip(path)
    with pytest.raises(StoreError, match="zip bomb"):
        store.read("a")
    blob = store.read("b")
    assert blob is not None
    assert bytes(blob.data) == b"y" * 10


def test_many_names_for_one_bomb(open_zip: Open, tmp_path: Path) -> None:
    """Entries with one header: only those whose name stands there can be read."""
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x" * 10)
        archive.writestr("b", b"y" * 10)
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    data[second + 42 : second + 46] = bytes(4)
    path.write_bytes(data)
    store = open_zip(path)
    assert store.read("a") is not None
    with pytest.raises(StoreError, match="disagree"):
        store.read("b")


@pytest.mark.parametrize("method", [8, 12, 14])
def test_a_bomb_costs_neither_time_nor_memory(open_zip: Open, tmp_path: Path, method: int) -> None:
    """24 MiB of zeros behind a promise of 1000 bytes, or of almost 4 GiB."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("key", bytes(24 << 20))
    data = bytearray(path.read_bytes())
    for promise in (1000, 0xFFFFFF00):
        for start in (22, data.index(b"PK\1\2") + 24):
            data[start : start + 4] = struct.pack("<L", promise)
        path.write_bytes(data)
        for cache_nbytes in (0, 1 << 20):
            began = time.perf_counter()
            tracemalloc.start()
            try:
                store = open_zip(path, cache_nbytes=cache_nbytes)
                for offset, nbytes in [(0, WHOLE), (-900, 900)]:
                    with pytest.raises(StoreError, match="damaged"):
                        store.read("key", offset, nbytes)
                assert tracemalloc.get_traced_memory()[1] < 12 << 20
            finally:
                tracemalloc.stop()
            assert time.perf_counter() - began < 10


def test_what_compresses_very_well_is_read_nevertheless(open_zip: Open, tmp_path: Path) -> None:
    path = tmp_path / "zeros.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("key", bytes(32 << 20))
    blob = open_zip(path).read("key")
    assert blob is not None
    assert blob.data.nbytes == 32 << 20
    assert not any(blob.data[:: 1 << 12])


def test_a_deflated_entry_cannot_promise_more_than_deflate_can(
    open_zip: Open, tmp_path: Path
) -> None:
    path = tmp_path / "promise.zip"
    write_claims(path, deflate(bytes(1000)), method=8, size=1 << 31, crc=0)

    def allocate(nbytes: int) -> bytearray:
        raise AssertionError(nbytes)

    with pytest.raises(StoreError, match="cannot hold"):
        open_zip(path).read("key", allocate=allocate)


def test_a_directory_that_lost_its_entries(open_zip: Open, tmp_path: Path) -> None:
    """Else its chunks would only be missing, which is read as the fill value."""
    path = tmp_path / "lost.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("key", b"value")
        archive.comment = b"a comment"
    data = bytearray(path.read_bytes())
    end = data.index(b"PK\5\6")
    data[end + 12 : end + 16] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(StoreError, match="1 entries are promised, 0 are there"):
        open_zip(path)


def test_more_entries_than_the_record_can_count(open_zip: Open, tmp_path: Path) -> None:
    """Old writers wrote the count modulo 2^16."""
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            archive.writestr(str(number), b"")
    data = bytearray(path.read_bytes())
    first, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    record = data[first : data.index(b"PK\1\2", first + 1)]
    count = 65536 + 2
    many = record * (count - 3) + data[first:end]
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(many), first, 0)
    path.write_bytes(data[:first] + many + tail)
    assert open_zip(path).read("2") is not None


def test_lzma_properties_that_make_no_sense(open_zip: Open, tmp_path: Path) -> None:
    path = tmp_path / "lzma.zip"
    for properties in [b"", b"\x09\x04", b"\x09\x04\x05\x00\xff\xff\xff\xff\xff" + bytes(20)]:
        write_claims(path, properties, method=14, size=100, crc=0)
        with pytest.raises(StoreError, match="damaged"):
            open_zip(path).read("key")


def test_a_file_that_shrinks_after_it_was_opened(
    open_zip: Open, packed: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "shrinks.zip"
    path.write_bytes(packed)
    store = open_zip(path)
    with path.open("r+b") as file:
        file.truncate(60)
    with pytest.raises(
        StoreError, match=r"became shorter|damaged|was replaced|were asked for"
    ) as caught:
        store.read("c/2")
    assert caught.value.store == str(path)
