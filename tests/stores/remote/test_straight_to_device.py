"""`io="kvikio"` on object storage: ranges go straight to the device, and answers are the same."""

from __future__ import annotations

import gc
import re
import urllib.request
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cuda import remote_reader
from gpuzarr.engines.cuda.remote_reader import find_urls
from gpuzarr.errors import GpuzarrError, StoreError
from gpuzarr.plan.ranges import WHOLE, Requests
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.remote.objects import ObjectStore
from gpuzarr.stores.store import url_of
from tests.arrays import plain_store, sharded_store
from tests.cuda_devices import assert_same, installed
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.stores import BLOSC, blosc

from .loopback import Fault, FileServer
from .pretend_kvikio import RemoteFile, by_kvikio, pretend_kvikio, requests_of
from .test_failures import quick

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .loopback import Seen
    from .s3 import S3Server

pytest.importorskip("obstore")

VALUES = np.arange(80 * 60, dtype="<i4").reshape(80, 60)
PLAIN = ("bytes",)


def shards(values: np.ndarray[Any, Any] = VALUES, *, packed: bool = False) -> dict[str, bytes]:
    """Four shards of 16 chunks."""
    encode, codecs = (blosc("zstd"), ("bytes", BLOSC)) if packed else (bytes, PLAIN)
    return sharded_store(values, (40, 30), (10, 10), encode=encode, inner_codecs=codecs)


@pytest.fixture
def device() -> Iterator[FakeDevice]:
    device = FakeDevice()
    with pretend_kvikio(), installed(device):
        yield device
    assert device.used == 0


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(shards()) as server:
        yield server


def opened(server: FileServer, **choices: Any) -> gpuzarr.Array:
    return gpuzarr.open_array(
        server.url, device="cuda", io="kvikio", storage_options=quick(), **choices
    )


@pytest.mark.parametrize("packed", [False, True])
def test_each_object_is_looked_at_once(device: FakeDevice, packed: bool) -> None:  # noqa: FBT001
    with FileServer(shards(packed=packed)) as server:
        array = opened(server)
        server.forget()
        assert_same(VALUES, array[...])
        assert requests_of(server) == {"kvikio": 4, "GET": 4, "HEAD": 4}, "indexes, ranges, looks"
        server.forget()
        assert_same(VALUES[5:77:3, ::-1], array[5:77:3, ::-1])
        assert requests_of(server)["kvikio"]
        assert "by kvikio" in " ".join(array.explain().notes)
    assert device.counts["launch"]


def test_only_what_is_needed_is_asked_for(device: FakeDevice, server: FileServer) -> None:
    array = opened(server)
    server.forget()
    assert_same(VALUES[12:15, 35:38], array[12:15, 35:38])
    (seen,) = filter(by_kvikio, server.seen)
    first, last = map(int, str(seen.range).split("-"))
    assert last - first + 1 == 10 * 10 * 4
    del device


def test_other_ways_of_reading_ask_nobody_else(device: FakeDevice, server: FileServer) -> None:
    for io in ("auto", "pinned"):
        array = gpuzarr.open_array(server.url, device="cuda", io=io, storage_options=quick())
        assert_same(VALUES, array[...])
    assert not any(map(by_kvikio, server.seen))
    del device


def test_objects_of_unknown_size_are_not_looked_at(device: FakeDevice) -> None:
    with FileServer(plain_store(VALUES, (10, 10))) as server:
        array = opened(server)
        server.forget()
        assert_same(VALUES, array[...])
        assert requests_of(server) == {"kvikio": 0, "GET": 48, "HEAD": 0}
    del device


def test_many_arrays_in_one_call(device: FakeDevice) -> None:
    with FileServer(shards()) as one, FileServer(shards(VALUES + 1, packed=True)) as two:
        arrays = [opened(one), opened(two)]
        wanted = [(arrays[i % 2], (slice(i, i + 9), slice(2 * i, 2 * i + 7))) for i in range(6)]
        expected = [VALUES[key] + i % 2 for i, (_, key) in enumerate(wanted)]
        assert_same(np.stack(expected), gpuzarr.read_batch(wanted))
        assert any(map(by_kvikio, one.seen))
        assert any(map(by_kvikio, two.seen))
    del device


FAULTS = {
    "refused": Fault(status=403),
    "missing for others": Fault(status=404),
    "overloaded": Fault(status=503),
    "cut": Fault(cut_after=100),
    "reset": Fault(reset=True),
    "more than was asked for": Fault(status=200, body=b"x" * 100_000),
    "less than was asked for": Fault(status=206, body=b"\x02\x01"),
    "nothing": Fault(status=206, body=b""),
    "sent elsewhere": Fault(status=302, body=b"moved", headers={"Location": "/elsewhere"}),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_kvikio_does_not_get_is_read_again(
    device: FakeDevice, server: FileServer, fault: Fault
) -> None:
    array = opened(server)
    server.fault = lambda seen: fault if by_kvikio(seen) else None
    server.forget()
    assert_same(VALUES, array[...])
    assert requests_of(server)["GET"] == 8, "four indexes, four ranges once more"
    del device


def test_zeros_are_not_taken_for_what_did_not_come(device: FakeDevice) -> None:
    nothing = np.zeros_like(VALUES)
    with FileServer(shards(nothing)) as server:
        array = opened(server)
        server.forget()
        assert_same(nothing, array[...])
        assert requests_of(server) == {"kvikio": 4, "GET": 4, "HEAD": 4}
    del device


def test_objects_that_lie_elsewhere(device: FakeDevice, server: FileServer) -> None:
    """obstore follows redirections, kvikio does not."""
    with FileServer({}) as front:
        front.fault = lambda seen: Fault(
            status=302, body=b"moved", headers={"Location": server.url + seen.target}
        )
        assert_same(VALUES, opened(front)[...])
        assert requests_of(front)["kvikio"] == 4
    del device


def test_long_ranges_are_tasks_of_their_own() -> None:
    """So a failure is known when nothing is written any more."""
    device = FakeDevice()
    with pretend_kvikio(1000), installed(device), FileServer(shards()) as server:
        array = opened(server)
        server.forget()
        assert_same(VALUES, array[...])
        assert requests_of(server) == {"kvikio": 4 * 5, "GET": 4, "HEAD": 4}, "of 4,800 bytes"
        for failing in range(3):
            server.forget()

            def fault(seen: Seen, failing: int = failing) -> Fault | None:
                if not by_kvikio(seen):
                    assert seen.method == "HEAD" or not RemoteFile.writing
                    return None
                first = int(str(seen.range).split("-")[0])
                return Fault(status=403) if first == 2000 * failing else Fault(delay_s=0.1)

            server.fault = fault
            assert_same(VALUES, array[...])
            assert requests_of(server)["GET"] == 4, "of the ranges that failed"
    assert device.used == 0


def test_stores_without_urls_are_not_asked_for_sizes(device: FakeDevice) -> None:
    """Nor for those of chunks that are not there."""
    headers = {"client_options": {"default_headers": {"x-token": "y"}}}
    few = {key: value for key, value in plain_store(VALUES, (10, 10)).items() if "c/7" not in key}
    for stored, count in ((few, 48), (shards(), 8)):
        with FileServer(stored) as server:
            array = gpuzarr.open_array(
                server.url, device="cuda", io="kvikio", storage_options=quick(**headers)
            )
            server.forget()
            array[...]
            assert requests_of(server) == {"kvikio": 0, "GET": count, "HEAD": 0}
    del device


def outcome(store: dict[str, bytes], io: Any, fault: Any) -> bytes | str:
    """The data or the error of a read; what is stored changes after the indexes were read."""
    with FileServer(shards()) as server:
        array = gpuzarr.open_array(server.url, device="cuda", io=io, storage_options=quick())
        asked = 0

        def change(seen: Seen) -> Fault | None:
            nonlocal asked
            asked += seen.key.startswith("c/")
            if asked <= 4:
                return None
            server.objects = store
            found: Fault | None = fault(seen)
            return found

        server.fault = change
        try:
            return np.asarray(array[...]).tobytes()
        except GpuzarrError as error:
            return re.sub(r":\d+| in [\d.]+\S?s", "", f"{type(error).__name__}: {error}")


CHANGES = {
    "gone": ({k: v for k, v in shards().items() if k != "c/0/1"}, lambda _: None),
    "replaced": (shards(VALUES + 1), lambda _: None),
    "shorter": ({k: v[: len(v) // 2] for k, v in shards().items()}, lambda _: None),
    "refused": (
        shards(),
        lambda seen: Fault(status=403) if seen.key == "c/1/0" else None,
    ),
    "cut": (
        shards(),
        lambda seen: Fault(cut_after=10) if seen.key == "c/1/0" else None,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_is_seen_as_by_other_ways(device: FakeDevice, name: str) -> None:
    expected = outcome(CHANGES[name][0], "pinned", CHANGES[name][1])
    if name == "replaced":
        assert expected == (VALUES + 1).tobytes()
    assert isinstance(expected, bytes) == (name in {"gone", "replaced"})
    assert outcome(CHANGES[name][0], "kvikio", CHANGES[name][1]) == expected
    del device


def test_what_nobody_can_look_at_is_read_again(device: FakeDevice, server: FileServer) -> None:
    array = opened(server)
    server.fault = lambda seen: Fault(status=403) if seen.method == "HEAD" else None
    assert_same(VALUES, array[...])
    assert requests_of(server)["GET"] >= 8
    del device


def test_servers_that_know_no_validators(device: FakeDevice) -> None:
    """What an object was before cannot be compared: so all is read again through the store."""

    class Nameless(FileServer):
        async def answer(self, seen: Seen) -> Any:
            found = await super().answer(seen)
            found.headers.pop("ETag", None)
            return found

    with Nameless(shards()) as server:
        assert_same(VALUES, opened(server)[...])
        assert requests_of(server)["GET"] >= 8
    del device


def test_reads_that_are_dropped_wait_for_what_is_being_written(
    device: FakeDevice, server: FileServer
) -> None:
    array = opened(server)
    server.fault = lambda seen: Fault(delay_s=0.2) if by_kvikio(seen) else None
    pending = array.read_async(...)
    del pending
    gc.collect()
    assert device.used == 0
    assert requests_of(server)["kvikio"]
    assert_same(VALUES, array[...])


def test_an_interrupt_waits_for_what_is_being_written(
    device: FakeDevice, server: FileServer
) -> None:
    array = opened(server)
    server.fault = lambda seen: Fault(delay_s=0.2) if by_kvikio(seen) else None

    def interrupt(*_: object) -> None:
        assert device.used, "while it is read to"
        raise KeyboardInterrupt

    with patch.object(remote_reader, "start_looks", interrupt), pytest.raises(KeyboardInterrupt):
        array[...]
    assert device.used == 0


def test_an_interrupt_at_the_start_waits_as_well(device: FakeDevice, server: FileServer) -> None:
    array = opened(server)
    server.fault = lambda seen: Fault(delay_s=0.2) if by_kvikio(seen) else None
    opened_files = 0

    def interrupt(url: str, nbytes: int) -> RemoteFile:
        nonlocal opened_files
        opened_files += 1
        if opened_files == 3:
            raise KeyboardInterrupt
        return RemoteFile(url, nbytes)

    with patch.object(remote_reader, "open_remote", interrupt), pytest.raises(KeyboardInterrupt):
        array[...]
    assert requests_of(server)["kvikio"] == 2
    assert not RemoteFile.writing
    assert device.used == 0


def test_memory_stays_in_the_limit(device: FakeDevice) -> None:
    big = np.random.default_rng(0).integers(0, 9, (512, 512), np.int32)
    store = sharded_store(big, (256, 256), (32, 32), encode=bytes, inner_codecs=PLAIN)
    with FileServer(store) as server:
        array = opened(server, memory_limit=200_000)
        assert_same(big, array[...])
        assert any(map(by_kvikio, server.seen))
    assert device.peak <= 200_000


def test_s3_by_signed_urls(device: FakeDevice, s3: S3Server) -> None:
    url = s3.put(shards())
    array = gpuzarr.open_array(url, device="cuda", io="kvikio", storage_options=s3.options)
    assert_same(VALUES, array[...])
    assert device.counts["launch"]
    store = ObjectStore.from_url(url, s3.options)
    link = url_of(store, "c/0/0")
    assert link is not None
    with urllib.request.urlopen(link, timeout=20) as answer:  # noqa: S310  loopback
        assert answer.read() == shards()["c/0/0"]
    assert "X-Amz-Signature" in link
    assert "X-Amz" not in repr(store)


def test_which_stores_have_urls() -> None:
    secret = {"access_key_id": "a", "secret_access_key": "b", "region": "us-east-1"}
    for url, options, expected in (
        ("http://h/a b", {}, "http://h/a%20b/x%20y/z%25%2B"),
        ("http://h/a/", {"timeout": 5}, "http://h/a/x%20y/z%25%2B"),
        ("http://u:p@h/a", {}, None),
        ("http://h/a?sig=1", {}, None),
        ("http://h/a", {"client_options": {"default_headers": {"x": "y"}}}, None),
        ("http://h/a", {"client_options": {"proxy_url": "http://h/"}}, None),
        ("s3://b/p", {"anon": True, "region": "us-east-1"}, None),
        ("s3://b/p", {"region": "us-east-1"}, None),
        ("s3://b/p", {**secret, "anon": True}, None),
        ("s3://b/p", secret, "https://s3.us-east-1.amazonaws.com/b/p/x%20y/z%25%2B?"),
        ("memory://", {}, None),
    ):
        found = url_of(ObjectStore.from_url(url, options), "x y/z%+")
        if expected is None or found is None:
            assert found is expected
        else:
            assert found == expected or (expected[-1] == "?" and found.startswith(expected))
    assert url_of(MappingStore({}), "x") is None
    with pytest.raises(StoreError, match="not allowed"):
        url_of(ObjectStore.from_url("http://h/a"), "../x")


def test_which_requests_go_by_urls() -> None:
    store = ObjectStore.from_url("http://h/a")
    for offset, nbytes, there in ((0, 5, True), (0, WHOLE, False), (-5, 5, False), (0, 0, False)):
        requests = Requests(["k", "k"], [3, offset], [4, nbytes], {})
        found = find_urls(store, requests)
        assert found == ({"k": "http://h/a/k"} if there else None)
    assert find_urls(MappingStore({}), Requests(["k"], [0], [4], {})) is None
