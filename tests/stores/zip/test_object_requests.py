"""How many requests zip archives cost that are objects of another store."""

from __future__ import annotations

import io
import os
import struct
import zipfile

import pytest

from gpuzarr.errors import MemoryLimitError, StoreError
from gpuzarr.stores.store import WHOLE
from gpuzarr.stores.zip import ahead as zip_ahead
from gpuzarr.stores.zip import joined as zip_joined
from gpuzarr.stores.zip.store import ZipStore
from tests.stores.counting import CountingStore

from .far import KEY, METHODS, open_far, pack, read
from .test_zip import Unseekable


@pytest.mark.parametrize("tells_sizes", [True, False])
def test_a_small_directory_is_one_request(*, tells_sizes: bool) -> None:
    store, far = open_far(pack({"a": b"value", "b/c": b"other"}), tells_sizes=tells_sizes)
    requests, rounds = far.take()
    assert (len(requests), rounds) == (1, 1)
    assert requests[0][1] < 0
    assert set(store.list()) == {("a", False), ("b", True)}
    assert store.size("b/c") == 5
    assert far.take() == ([], 0)


@pytest.mark.parametrize("comment", [b"", b"c" * 65535])
def test_a_large_directory_is_one_more(comment: bytes) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(3000):
            archive.writestr(f"c/{number}", b"%d" % number)
        archive.comment = comment
    store, far = open_far(packed.getvalue())
    requests, rounds = far.take()
    assert (len(requests), rounds) == (2, 2)
    # What the first one brought is not asked for again.
    assert requests[1][1] + requests[1][2] == len(packed.getvalue()) + requests[0][1]
    assert read(store, "c/2999") == b"2999"


def test_an_archive_larger_than_its_end_tells_no_size() -> None:
    _, far = open_far(pack({"a": bytes(100_000)}), tells_sizes=False)
    assert far.others == [("size", KEY)]


def test_whole_entries_are_one_request_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_joined, "MOST_NBYTES", 0)
    objects = {f"c/{number}": os.urandom(5000) for number in range(20)}
    for method in METHODS:
        store, far = open_far(pack(objects, method))
        far.take()
        pending = store.start_reads(list(objects), [0] * 20, [WHOLE] * 20)
        for row, value in enumerate(objects.values()):
            blob = pending.result(row)
            assert blob is not None
            assert bytes(blob.data) == value
            assert blob.size == 5000
        requests, rounds = far.take()
        assert (len(requests), rounds) == (20, 1)
        assert read(store, "c/3") == objects["c/3"]
        assert len(far.take()[0]) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("in_order", [True, False])
def test_neighbours_are_one_request(
    method: int, monkeypatch: pytest.MonkeyPatch, *, in_order: bool
) -> None:
    objects = {f"c/{number}": os.urandom(5000) for number in range(20)}
    for most, least_requests in [(1 << 22, 1), (12_000, 10)]:
        monkeypatch.setattr(zip_joined, "MOST_NBYTES", most)
        store, far = open_far(pack(objects, method))
        for known in (False, True):  # where the data are
            far.take()
            far.gap_nbytes = 200 * known  # the headers, which are not read again
            keys = list(objects) if in_order else sorted(objects, key=objects.__getitem__)
            pending = store.start_reads(keys, [0] * 20, [WHOLE] * 20)
            for row in reversed(range(20)):
                blob = pending.result(row)
                assert blob is not None
                assert bytes(blob.data) == objects[keys[row]]
            requests, rounds = far.take()
            assert rounds == 1
            assert least_requests <= len(requests) <= 2 * least_requests
    keys = ["c/0", "c/10", "c/11", "c/19"]
    pending = store.start_reads(keys, [0] * 4, [WHOLE] * 4)
    assert [pending.result(row) is not None for row in range(4)] == [True] * 4
    assert len(far.take()[0]) == 3


def test_an_error_of_a_request_is_told_of_each_entry_in_it() -> None:
    objects = {f"c/{number}": b"value" for number in range(5)}
    for error in (StoreError("the network is down"), MemoryLimitError("no memory")):
        store, far = open_far(pack(objects))
        far.take()
        pending = store.start_reads(list(objects), [0] * 5, [WHOLE] * 5)
        far.fail = error
        for row, key in enumerate(objects):
            with pytest.raises(type(error), match=r"is down|no memory") as caught:
                pending.result(row)
            assert (caught.value.key, caught.value.store) == (key, store.name)
        assert len(far.take()[0]) == 1
        far.fail = None
        assert read(store, "c/3") == b"value"


def test_a_request_that_was_interrupted_is_not_waited_for_again() -> None:
    objects = {f"c/{number}": b"value" for number in range(3)}
    store, far = open_far(pack(objects))
    pending = store.start_reads(list(objects), [0] * 3, [WHOLE] * 3)
    far.fail = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        pending.result(0)
    far.fail = None
    with pytest.raises(StoreError, match="interrupted"):
        pending.result(1)


def test_a_part_far_behind_is_two_requests_together_and_then_one() -> None:
    value = os.urandom(300_000)
    store, far = open_far(pack({"before": b"x" * 77, "key": value, "after": b"y"}))
    far.take()
    assert read(store, "key", -50) == value[-50:]
    requests, rounds = far.take()
    assert (len(requests), rounds) == (2, 1)
    assert sum(nbytes for _, _, nbytes in requests) < 200
    assert read(store, "key", 1000, 10) == value[1000:1010]
    requests, rounds = far.take()
    assert (len(requests), rounds) == (1, 1)
    assert requests[0][2] == 10


def test_a_part_near_the_beginning_is_one_request() -> None:
    value = os.urandom(300_000)
    store, far = open_far(pack({"key": value}))
    far.take()
    assert read(store, "key", 1000, 10) == value[1000:1010]
    requests, rounds = far.take()
    assert (len(requests), rounds) == (1, 1)
    assert requests[0][2] < 1100


def test_nothing_is_asked_for_what_is_empty_or_missing() -> None:
    store, far = open_far(pack({"key": b"value", "empty": b""}))
    assert read(store, "key") == b"value"
    far.take()
    assert read(store, "key", 2, 0) == b""
    assert read(store, "missing") is None
    assert far.take()[0] == []
    assert read(store, "empty") == b""  # its header is checked
    assert len(far.take()[0]) == 1


def test_parts_of_compressed_entries_are_fetched_once() -> None:
    value = bytes(range(256)) * 1000
    store, far = open_far(pack({"key": value, "other": value}, zipfile.ZIP_DEFLATED))
    far.take()
    keys = ["key"] * 5 + ["other"] * 5
    offsets = list(range(0, 1000, 100))
    pending = store.start_reads(keys, offsets, [100] * 10)
    for row, offset in enumerate(offsets):
        blob = pending.result(row)
        assert blob is not None
        assert bytes(blob.data) == value[offset : offset + 100]
    requests, rounds = far.take()
    assert (len(requests), rounds) == (1, 1)  # they are neighbours
    assert read(store, "other", 70, 7) == value[70:77]
    assert far.take()[0] == []


def test_large_compressed_entries_are_fetched_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_ahead, "AHEAD_NBYTES", 300_000)
    value = os.urandom(1_000_000)
    packed = pack({"key": value}, zipfile.ZIP_DEFLATED)
    far = CountingStore({KEY: packed})
    store = ZipStore.of_object(far, KEY, cache_nbytes=0)
    far.take()
    assert read(store, "key") == value
    requests, _ = far.take()
    assert 4 <= len(requests) <= 6  # the header, and pieces
    assert max(nbytes for _, _, nbytes in requests) <= 300_000
    assert read(store, "key", 10, 10) == value[10:20]
    assert len(far.take()[0]) == 1  # no more than is needed


def write_gap(packed: bytes, gap: int) -> bytes:
    """The same archive with a hole between the first entry and what follows."""
    end = packed.index(b"PK\3\4", 4)
    moved = bytearray(packed[:end] + bytes(gap) + packed[end:])
    place = moved.index(b"PK\1\2")
    record = moved.rindex(b"PK\5\6")
    while True:
        (offset,) = struct.unpack_from("<L", moved, place + 42)
        struct.pack_into("<L", moved, place + 42, offset + gap if offset else 0)
        following = moved.find(b"PK\1\2", place + 4)
        if following < 0:
            break
        place = following
    struct.pack_into("<L", moved, record + 16, moved.index(b"PK\1\2"))
    return bytes(moved)


@pytest.mark.parametrize("gap", [1, 5000, 70_000])
def test_space_behind_an_entry_is_one_request_more(gap: int) -> None:
    value = os.urandom(200_000)
    store, far = open_far(write_gap(pack({"key": value, "other": b"value"}), gap))
    assert read(store, "other") == b"value"
    far.take()
    assert read(store, "key", 150_000, 100) == value[150_000:150_100]
    requests, rounds = far.take()
    assert (len(requests), rounds) in {(3, 2), (2, 2)}
    assert read(store, "key") == value
    assert len(far.take()[0]) == 1


def test_sizes_behind_the_data_are_one_request() -> None:
    sink = Unseekable()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("key", b"value" * 100)
        archive.writestr("other", b"value")
    store, far = open_far(bytes(sink.data))
    far.take()
    assert read(store, "key") == b"value" * 100
    assert len(far.take()[0]) == 1


def test_extra_fields_that_only_the_entry_has() -> None:
    packed = bytearray(pack({"key": b"value", "second": b"more"}))
    extra = struct.pack("<HH8s", 0xCAFE, 8, b"whatever")
    struct.pack_into("<H", packed, 28, len(extra))
    at = 30 + len("key")
    moved = packed[:at] + extra + packed[at:]
    for place in (moved.index(b"PK\1\2", moved.index(b"PK\1\2") + 4) + 42,):
        struct.pack_into("<L", moved, place, packed.index(b"PK\3\4", 4) + len(extra))
    struct.pack_into("<L", moved, moved.rindex(b"PK\5\6") + 16, moved.index(b"PK\1\2"))
    store, far = open_far(bytes(moved))
    far.take()
    assert read(store, "key") == b"value"
    assert read(store, "second") == b"more"
    assert len(far.take()[0]) == 2
