"""Objects decoded as a whole: once for all who ask, bounded, and after forks and failures too."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from gpuzarr.errors import DecodeError, StoreError
from gpuzarr.stores.decoded import DecodedObjects
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.object_cache import ObjectCache
from gpuzarr.stores.store import WHOLE, Blob, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.stores.store import Buffer, Pending


class Decoder:
    """Counts what it decodes."""

    def __init__(self, delay: float = 0) -> None:
        self.keys: list[str] = []
        self.delay = delay

    def __call__(self, data: memoryview, key: str) -> bytes:
        self.keys.append(key)
        time.sleep(self.delay)
        return zlib.decompress(data)


VALUES = {name: os.urandom(100) * 100 for name in "abcd"}
ENCODED = {name: zlib.compress(value) for name, value in VALUES.items()}


def test_each_object_is_decoded_once_however_many_ask() -> None:
    decoder = Decoder(delay=0.02)
    store = DecodedObjects(MappingStore(ENCODED), decoder, 1 << 20)

    def read(number: int) -> bool:
        key = "abcd"[number % 4]
        blob = store.read(key, number, 50)
        return blob is not None and bytes(blob.data) == VALUES[key][number : number + 50]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read, range(400)))
    assert sorted(decoder.keys) == list("abcd")


def test_the_cache_is_bounded_by_bytes_and_keeps_the_newest() -> None:
    decoder = Decoder()
    store = DecodedObjects(MappingStore(ENCODED), decoder, 25_000)  # two of the four
    for key in "abacaba":
        store.read(key, 1, 1)
    assert "".join(decoder.keys) == "abcb"
    tight = DecodedObjects(MappingStore(ENCODED), decoder, 9_999)  # not one
    decoder.keys.clear()
    for key in "aab":
        store_blob = tight.read(key)
        assert store_blob is not None
        assert bytes(store_blob.data) == VALUES[key]
    assert "".join(decoder.keys) == "aab"


def test_those_who_wait_share_an_object_that_is_too_large_to_keep() -> None:
    decoder, start = Decoder(delay=0.2), threading.Barrier(8)
    store = DecodedObjects(MappingStore(ENCODED), decoder, 0)

    def read(number: int) -> bytes:
        start.wait()
        blob = store.read("a", number, 1)
        assert blob is not None
        return bytes(blob.data)

    with ThreadPoolExecutor(8) as pool:
        assert b"".join(pool.map(read, range(8))) == VALUES["a"][:8]
    assert len(decoder.keys) == 1


def test_errors_reach_all_and_are_not_remembered() -> None:
    start, broken = threading.Barrier(4), [True]

    def decode(data: memoryview, key: str) -> bytes:
        time.sleep(0.05)
        if broken[0]:
            raise DecodeError("damaged", key=key)
        return zlib.decompress(data)

    store = DecodedObjects(MappingStore(ENCODED), decode, 1 << 20)

    def read(_: int) -> Exception | None:
        start.wait()
        try:
            store.read("a")
        except DecodeError as error:
            return error
        return None

    with ThreadPoolExecutor(4) as pool:
        assert all(isinstance(e, DecodeError) for e in pool.map(read, range(4)))
    broken[0] = False
    assert store.read("a") is not None


def test_an_interrupt_is_not_handed_on() -> None:
    """Ctrl-C in the thread that decodes must not stop another one, nor let it wait for ever."""
    cache, begun = ObjectCache(1000), threading.Event()
    blob = Blob(memoryview(b"value"))

    def interrupted() -> Blob:
        begun.set()
        time.sleep(0.1)
        raise KeyboardInterrupt

    def first() -> None:
        with pytest.raises(KeyboardInterrupt):
            cache.get("a", interrupted)

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait()
    assert cache.get("a", lambda: blob) is blob
    thread.join()


def test_missing_objects_are_not_remembered() -> None:
    values = dict(ENCODED)
    store = DecodedObjects(MappingStore(values), Decoder(), 1 << 20)
    assert store.read("late") is None
    values["late"] = zlib.compress(b"here")
    assert store.read("late") is not None


def test_an_object_that_was_replaced_is_decoded_again() -> None:
    values = {"a": zlib.compress(b"old")}
    decoder = Decoder()
    store = DecodedObjects(MappingStore(values), decoder, 1 << 20)
    before, again = store.read("a"), store.read("a")
    values["a"] = zlib.compress(b"new")
    after = store.read("a")
    started = store.start_reads(["a"], [1], [2]).result(0)
    assert before is not None
    assert again is not None
    assert after is not None
    assert started is not None
    assert (bytes(before.data), bytes(again.data), bytes(after.data)) == (b"old", b"old", b"new")
    assert bytes(started.data) == b"ew"
    assert before.validator == again.validator != after.validator
    assert decoder.keys == ["a", "a"]


def test_ranges_outside_the_decoded_object() -> None:
    store = DecodedObjects(MappingStore(ENCODED), Decoder(), 1 << 20)
    with pytest.raises(StoreError, match="the object has 10000"):
        store.read("a", 9_999, 2)


class Latent(MappingStore):
    """Remembers what was started and what was read directly."""

    def __init__(self, values: dict[str, bytes]) -> None:
        super().__init__(values)
        self.started: list[str] = []
        self.direct: list[str] = []

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        if nbytes:  # a read of nothing asks whether the object is still the same
            self.direct.append(key)
        return super().read(key, offset, nbytes, allocate)

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        assert all(size == WHOLE for size in nbytes)
        self.started.extend(keys)
        return MappingStore(self.mapping).start_reads(keys, offsets, nbytes)


@pytest.mark.parametrize("cache_nbytes", [1 << 20, 0])
def test_started_reads_start_each_object_once(cache_nbytes: int) -> None:
    latent = Latent(ENCODED)
    store = DecodedObjects(latent, Decoder(), cache_nbytes)
    pending = store.start_reads(["a", "b", "a", "b"], [0, 1, 2, 3], [1, 1, 1, 1])
    assert latent.started == ["a", "b"]
    for row, key in enumerate("abab"):
        blob = pending.result(row)
        assert blob is not None
        assert bytes(blob.data) == VALUES[key][row : row + 1]
    assert latent.direct == ([] if cache_nbytes else ["a", "b"])
    store.start_reads(["a"], [0], [1])
    assert latent.started == (["a", "b"] if cache_nbytes else ["a", "b", "a"])


def test_pickles_without_what_it_keeps() -> None:
    store = DecodedObjects(MappingStore(ENCODED), Decoder(), 1 << 20)
    store.read("a")
    packed = pickle.dumps(store)
    assert len(packed) < sum(map(len, ENCODED.values())) + 2000
    again = pickle.loads(packed)  # noqa: S301
    blob = again.read("a", 5, 5)
    assert bytes(blob.data) == VALUES["a"][5:10]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_an_object_is_made() -> None:
    """The child inherits a held lock and an object that nobody will finish; it must not wait."""
    release, begun = threading.Event(), threading.Event()

    def decode(data: memoryview, key: str) -> bytes:
        if threading.current_thread().name == "maker":
            begun.set()
            release.wait()
        del key
        return zlib.decompress(data)

    store = DecodedObjects(MappingStore(ENCODED), decode, 1 << 20)
    maker = threading.Thread(target=store.read, args=("a",), name="maker")
    maker.start()
    begun.wait()
    state = store._cache._state  # noqa: SLF001
    state.lock.acquire()
    try:
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            blob = store.read("a")
            os._exit(0 if blob is not None and bytes(blob.data) == VALUES["a"] else 1)
    finally:
        state.lock.release()
        release.set()
    maker.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def read_tail(store: Store) -> bytes:
    blob = store.read("a", -5)
    return b"" if blob is None else bytes(blob.data)


def test_spawned_workers() -> None:
    store = DecodedObjects(MappingStore(ENCODED), Decoder(), 1 << 20)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(read_tail, (store,)).get(60) == VALUES["a"][-5:]
