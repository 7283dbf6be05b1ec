"""What a server does wrong, or the way to it: retried where it may pass, and said where not."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import ChunkError, NotFoundError, StoreError, UnsupportedError
from gpuzarr.stores.remote.objects import ObjectStore
from gpuzarr.stores.resolve import open_store
from tests.arrays import plain_store, sharded_store

from .loopback import Fault, FileServer, Response, in_pieces
from .proxy import Proxy
from .s3 import KEYS, NO_LISTING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .loopback import Seen
    from .s3 import S3Server

stores: Any = pytest.importorskip("obstore.store")

VALUES = np.arange(40 * 40, dtype="i4").reshape(40, 40)
DATA = bytes(range(256)) * 1000


def quick(**more: Any) -> dict[str, Any]:
    """Options with which it is tried again as by default, but after short waits."""
    waits = {"init_backoff": timedelta(seconds=0.005), "max_backoff": timedelta(seconds=0.02)}
    retries = {
        "max_retries": 3,
        "retry_timeout": timedelta(seconds=20),
        "backoff": {**waits, "base": 2},
    }
    return {"retry_config": retries, **more}


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"d": DATA, "s/zarr.json": b"{}"}) as server:
        yield server


def first(count: int, fault: Fault) -> Callable[[Seen], Fault | None]:
    """The first requests fail."""
    left = [fault] * count
    return lambda _: left.pop() if left else None


PASSING = {
    "overloaded": Fault(status=503),
    "too many": Fault(status=429),
    "failing": Fault(status=500, body=b"out of order"),
    "reset": Fault(reset=True),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_tried_again(server: FileServer, fault: Fault) -> None:
    store, _ = open_store(server.url, storage_options=quick())
    server.fault = first(2, fault)
    blob = store.read("d", 10, 100)
    assert blob is not None
    assert bytes(blob.data) == DATA[10:110]
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (Fault(status=503), r"overloaded or limits requests.*concurrency"),
        (Fault(status=429), r"overloaded or limits requests.*concurrency"),
        (Fault(status=500, body=b"?"), r"the server failed, also after several attempts"),
        (Fault(reset=True), r"the connection broke"),
    ],
    ids=PASSING.keys(),
)
def test_what_does_not_pass_is_given_up(server: FileServer, fault: Fault, advice: str) -> None:
    store, _ = open_store(server.url, storage_options=quick())
    server.fault = lambda _: fault
    with pytest.raises(StoreError, match=advice) as caught:
        store.read("d")
    assert (caught.value.store, caught.value.key) == (server.url, "d")
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "does not know these credentials"),
        (403, r"access was refused.*who may not list the bucket"),
        (400, "cannot read it"),
        (405, "cannot read it"),  # obstore says of it that there is no such object
        (410, "cannot read it"),
    ],
)
def test_what_cannot_pass_is_not_tried_again(server: FileServer, status: int, advice: str) -> None:
    store, _ = open_store(server.url, storage_options=quick())
    server.fault = lambda _: Fault(status=status)
    with pytest.raises(StoreError, match=advice):
        store.read("d")
    assert len(server.seen) == 1


def test_bodies_that_end_early_are_completed_or_said(server: FileServer) -> None:
    store, _ = open_store(server.url, storage_options=quick())
    for reset in (False, True):
        server.fault = first(2, Fault(cut_after=1000, reset=reset))
        blob = store.read("d")
        assert blob is not None
        assert bytes(blob.data) == DATA
        server.fault = lambda _, reset=reset: Fault(cut_after=0, reset=reset)  # type: ignore[misc]
        server.forget()
        with pytest.raises(StoreError, match=r"the connection broke before all was there"):
            store.read("d", 5, 50_000)
        pending = store.start_reads(["d", "s/zarr.json"], [0, 0], [-1, -1])
        with pytest.raises(StoreError, match=r"the connection broke before all was there"):
            pending.result(0)


def test_slow_answers_end(server: FileServer) -> None:
    options = quick(timeout=0.3)
    options["retry_config"]["max_retries"] = 1
    store, _ = open_store(server.url, storage_options=options)
    server.fault = lambda _: Fault(delay_s=5)
    with pytest.raises(StoreError, match=r"did not answer in time.*'timeout': 1200"):
        store.read("d")
    assert len(server.seen) == 2


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        store, _ = open_store(f"http://127.0.0.1:{port}/x", storage_options=quick())
        with pytest.raises(StoreError, match="no server answers there: check host and port"):
            store.read("d")
    store, _ = open_store("http://no-such-host.invalid/x", storage_options=quick())
    with pytest.raises(StoreError, match="the host's name is not known: check the URL"):
        store.read("d")


def test_a_server_without_ranges() -> None:
    shards = sharded_store(VALUES, (20, 20), (10, 10))
    with FileServer(shards, ranges=False) as server:
        array = gpuzarr.open_array(server.url, storage_options=quick())
        with pytest.raises(ChunkError, match="ignores the Range header") as caught:
            array[...]
        assert all(isinstance(one.cause, UnsupportedError) for one in caught.value.failures)
    with FileServer(plain_store(VALUES, (10, 10)), ranges=False) as server:
        np.testing.assert_array_equal(gpuzarr.open_array(server.url)[...], VALUES)


def test_one_failed_chunk_is_named_and_the_others_are_read(server: FileServer) -> None:
    server.objects = plain_store(VALUES, (10, 10))
    array = gpuzarr.open_array(server.url, storage_options=quick())
    server.fault = lambda seen: Fault(status=403) if seen.key == "c/1/2" else None
    with pytest.raises(StoreError) as caught:
        array[...]
    assert caught.value.key == "c/1/2"
    keys = {seen.key for seen in server.seen}
    assert keys == {"zarr.json", *(f"c/{i}/{j}" for i in range(4) for j in range(4))}
    np.testing.assert_array_equal(array[:10], VALUES[:10])


def test_an_object_that_is_replaced_while_it_is_read(server: FileServer) -> None:
    """Its etag says so: the index is read again, and all is as it is now."""
    server.objects = sharded_store(VALUES, (20, 20), (10, 10))
    array = gpuzarr.open_array(server.url)
    np.testing.assert_array_equal(array[...], VALUES)
    server.objects = sharded_store(VALUES + 7, (20, 20), (10, 10), skip=lambda c: c == (0, 1))
    expected = VALUES + 7
    for i in (0, 20):
        for j in (10, 30):
            expected[i : i + 10, j : j + 10] = 0
    np.testing.assert_array_equal(array[...], expected)


class Wrong(FileServer):
    """Sends other bytes than were asked for."""

    async def answer(self, seen: Seen) -> Response:
        if seen.range is None:
            return await super().answer(seen)
        headers = {"Content-Range": self.says, "Content-Length": "4"}
        return Response(206, headers, in_pieces(DATA[:4]))

    says = ""


@pytest.mark.parametrize(
    "says", ["bytes 0-3/256000", "bytes 12-15/256000", "bytes 10-13/12", "bytes 10-13/*", "", "x"]
)
def test_other_bytes_than_were_asked_for_are_no_data(says: str) -> None:
    with Wrong({"d": DATA}) as server:
        server.says = says
        store, _ = open_store(server.url, storage_options=quick())
        with pytest.raises(StoreError):
            store.read("d", 10, 4)
        server.says = "bytes 10-13/256000"
        blob = store.read("d", 10, 4)
        assert blob is not None
        assert blob.size == 256_000


def test_no_listing_by_http(server: FileServer) -> None:
    store, _ = open_store(server.url)
    with pytest.raises(UnsupportedError, match=r"consolidated metadata, or name the node"):
        store.list("s")
    with pytest.raises(NotFoundError, match=r"no zarr\.json"):
        gpuzarr.open(f"{server.url}/nothing")
    assert set(server.counts()) == {"GET"}


class AzureStore:
    """As obstore's, which refuses to ask for the last bytes of an object."""

    def __init__(self, data: bytes) -> None:
        self.asked: list[Any] = []
        self._store = stores.MemoryStore()
        self._store.put("d", data)

    async def get_async(self, key: str, *, options: Any = None) -> Any:
        self.asked.append((options or {}).get("range"))
        assert "suffix" not in (self.asked[-1] or {})
        return await self._store.get_async(key, options=options)

    async def head_async(self, key: str) -> Any:
        self.asked.append("head")
        return await self._store.head_async(key)


def test_storage_without_suffix_ranges() -> None:
    theirs = AzureStore(DATA)
    store = ObjectStore(theirs, name="azure")
    blob = store.read("d", -16)
    assert blob is not None
    assert bytes(blob.data) == DATA[-16:]
    assert theirs.asked == ["head", (len(DATA) - 16, len(DATA))]
    assert store.read("missing", -16) is None


class TestS3:
    def test_wrong_credentials(self, s3: S3Server) -> None:
        url = s3.put({"d": DATA})
        for wrong in ({"secret_access_key": "no"}, {"access_key_id": "nobody"}):
            store = ObjectStore.from_url(url, {**s3.options, **wrong})
            with pytest.raises(StoreError, match=r"refused \(403\)"):
                store.read("d")
            with pytest.raises(StoreError, match=r"refused \(403\)"):
                store.list()

    def test_without_credentials(self, s3: S3Server) -> None:
        endpoint = {"endpoint": s3.url, "region": "us-east-1"}
        public, private = s3.put({"d": DATA}, "public"), s3.put({"d": DATA})
        for anonymous in ({"anonymous": True}, {"anon": True}, {"skip_signature": True}):
            store = ObjectStore.from_url(public, {**endpoint, **anonymous})
            blob = store.read("d", -5)
            assert blob is not None
            assert bytes(blob.data) == DATA[-5:]
            assert store.read("missing") is None
            assert list(store.list()) == [("d", False)]
            with pytest.raises(StoreError, match=r"refused \(403\)"):
                ObjectStore.from_url(private, {**endpoint, **anonymous}).read("d")

    def test_a_bucket_that_is_not_there(self, s3: S3Server) -> None:
        with pytest.raises(NotFoundError):
            gpuzarr.open("s3://no-such-bucket/x", storage_options=s3.options)

    def test_throttled(self, s3: S3Server) -> None:
        url = s3.put(sharded_store(VALUES, (20, 20), (10, 10)))
        with Proxy(s3.port) as proxy:
            options = {**s3.options, **quick(), "endpoint": proxy.url}
            array = gpuzarr.open_array(url, storage_options=options)
            proxy.fault = first(3, Fault(status=503))
            np.testing.assert_array_equal(array[...], VALUES)
            assert proxy.counts() == {"GET": 1 + 4 + 4 + 3}
            proxy.fault = lambda _: Fault(status=503)
            with pytest.raises(StoreError, match=r"limits requests.*SlowDown"):
                array[...]
        assert KEYS["secret_access_key"] not in repr(array.store)

    def test_large_objects(self, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond what is fetched ahead; put in parts, as writers do."""
        monkeypatch.setattr("gpuzarr.stores.remote.objects.MOST_AHEAD_NBYTES", 1 << 20)
        data = np.random.default_rng(0).bytes(20 << 20)
        store = s3.store({"d": data})
        pending = store.start_reads(["d", "d", "missing"], [0, 5 << 20, 0], [-1, 9 << 20, -1])
        assert pending.result(2) is None
        asked: list[int] = []

        def allocate(nbytes: int) -> bytearray:
            asked.append(nbytes)
            return bytearray(nbytes)

        whole, part = pending.result(0, allocate), pending.result(1)
        assert whole is not None
        assert part is not None
        assert (bytes(whole.data) == data, asked) == (True, [20 << 20])
        assert bytes(part.data) == data[5 << 20 : 14 << 20]
        assert whole.validator == part.validator != None  # noqa: E711
        assert (whole.size, part.size) == (len(data), len(data))

    def test_those_who_may_not_list(self, s3: S3Server) -> None:
        url = s3.put({"d": DATA})
        store = ObjectStore.from_url(url, {**s3.options, **NO_LISTING})
        assert store.read("d") is not None
        with pytest.raises(StoreError, match=r"cannot list it: access was refused \(403\)"):
            store.list()
