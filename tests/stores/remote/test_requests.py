"""What is asked of a server, request by request: no more than is needed, and never twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.engines.cpu import engine
from gpuzarr.errors import MemoryLimitError, StoreError
from gpuzarr.many import start_batch
from gpuzarr.stores.remote import in_flight
from gpuzarr.stores.remote.objects import ObjectStore
from tests.arrays import encoded, plain_store, sharded_store, v3_metadata

from .loopback import Fault, FileServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuzarr.pending import PendingRead

    Serve = Callable[..., FileServer]

pytest.importorskip("obstore")

SHARDS, CHUNKS = (40, 40), (10, 10)
VALUES = np.arange(160 * 160, dtype="i4").reshape(160, 160)
INDEX_NBYTES = 16 * 16


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers = []

    def serve(objects: dict[str, bytes], **more: Any) -> FileServer:
        servers.append(FileServer(objects, **more))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def large_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are outside of the tests."""
    monkeypatch.setattr(engine, "BATCH_NBYTES", 32 << 20)


def asked(server: FileServer) -> list[tuple[str, str | None]]:
    """What was asked for, sorted, and only by GET; it is forgotten."""
    assert set(server.counts()) <= {"GET"}
    found = sorted((seen.key, seen.range) for seen in server.seen)
    server.forget()
    return found


def test_a_region_of_shards_is_an_index_each_and_a_run_each(serve: Serve) -> None:
    server = serve(sharded_store(VALUES, SHARDS, CHUNKS))
    array = gpuzarr.open_array(server.url)
    assert asked(server) == [("zarr.json", None)]
    np.testing.assert_array_equal(array[5:75, 20:35], VALUES[5:75, 20:35])
    # Chunk columns 2 and 3 of all rows of two shards; each shard has one run of them.
    run = (2 * 400, 16 * 400)
    index = f"-{INDEX_NBYTES}"
    expected = [
        (f"c/{row}/0", what) for row in (0, 1) for what in (index, f"{run[0]}-{run[1] - 1}")
    ]
    assert asked(server) == sorted(expected)
    np.testing.assert_array_equal(array[5:75, 20:35], VALUES[5:75, 20:35])
    assert asked(server) == [("c/0/0", "800-6399"), ("c/1/0", "800-6399")]


def test_distant_ranges_of_a_shard_are_requests_of_their_own(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(sharded_store(VALUES, SHARDS, CHUNKS))
    monkeypatch.setattr("gpuzarr.stores.remote.objects.ObjectStore.gap_nbytes", 3 * 400 - 1)
    array = gpuzarr.open_array(server.url)
    server.forget()
    np.testing.assert_array_equal(array[:40, :10], VALUES[:40, :10])
    ranges = [f"{begin}-{begin + 399}" for begin in range(0, 6400, 1600)]
    assert asked(server) == sorted([("c/0/0", f"-{INDEX_NBYTES}"), *(("c/0/0", r) for r in ranges)])
    monkeypatch.setattr("gpuzarr.stores.remote.objects.ObjectStore.gap_nbytes", 3 * 400)
    np.testing.assert_array_equal(array[:40, :10], VALUES[:40, :10])
    assert asked(server) == [("c/0/0", "0-5199")]


def test_whole_objects_are_one_request_each(serve: Serve) -> None:
    server = serve(plain_store(VALUES, (40, 40), skip=lambda coords: coords == (1, 1)))
    array = gpuzarr.open_array(server.url)
    server.forget()
    expected = VALUES.copy()
    expected[40:80, 40:80] = 0
    np.testing.assert_array_equal(array[...], expected)
    assert asked(server) == [(f"c/{i}/{j}", None) for i in range(4) for j in range(4)]


def test_indexes_are_asked_for_together(serve: Serve) -> None:
    server = serve(sharded_store(VALUES, SHARDS, CHUNKS))
    array = gpuzarr.open_array(server.url)
    server.forget()
    server.together = lambda _: 16
    np.testing.assert_array_equal(array[::40, ::40], VALUES[::40, ::40])
    assert len(server.seen) == 32
    assert server.most_at_once == 16
    assert [seen.range for seen in server.seen[:16]] == [f"-{INDEX_NBYTES}"] * 16


def test_the_next_batches_are_asked_for_while_one_is_decoded(serve: Serve) -> None:
    server = serve(plain_store(VALUES, (20, 20)))
    array = gpuzarr.open_array(server.url, memory_limit=8 * 1600, threads=1)
    server.forget()
    server.together = lambda _: 12
    np.testing.assert_array_equal(array[...], VALUES)
    # Batches of four chunks each; three are under way before the first is waited for.
    assert 12 <= server.most_at_once <= 20


def test_no_more_than_the_concurrency_at_once(serve: Serve) -> None:
    server = serve(plain_store(VALUES, (10, 10)))
    for concurrency in (1, 7):
        options = {"concurrency": concurrency}
        array = gpuzarr.open_array(server.url, storage_options=options)
        server.forget()
        server.together = lambda _, least=concurrency: least  # type: ignore[misc]
        np.testing.assert_array_equal(array[:80, :80], VALUES[:80, :80])
        server.together = lambda _: 0
        assert server.most_at_once == concurrency
    store = gpuzarr.open_array(server.url).store
    assert isinstance(store, ObjectStore)
    assert store.concurrency == in_flight.CONCURRENCY


def hierarchy(count: int, *, zarr_format: int, consolidated: bool) -> dict[str, bytes]:
    """A group of `count` arrays."""
    if zarr_format == 3:
        array = v3_metadata((4,), (2,))
        group: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        below = {f"a{number}": array for number in range(count)}
        if consolidated:
            group["consolidated_metadata"] = {
                "kind": "inline", "must_understand": False, "metadata": below,
            }  # fmt: skip
        objects = {f"{name}/zarr.json": encoded(document) for name, document in below.items()}
        return {"zarr.json": encoded(group), **objects}
    array = {
        "zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "<i4", "compressor": None,
        "fill_value": 0, "order": "C", "filters": None,
    }  # fmt: skip
    documents = {".zgroup": {"zarr_format": 2}}
    documents |= {f"a{number}/.zarray": array for number in range(count)}
    objects = {key: encoded(document) for key, document in documents.items()}
    if consolidated:
        objects[".zmetadata"] = encoded({"zarr_consolidated_format": 1, "metadata": documents})
    return objects


def test_a_consolidated_hierarchy_opens_in_one_request(serve: Serve) -> None:
    server = serve(hierarchy(1000, zarr_format=3, consolidated=True))
    group = gpuzarr.open_group(server.url)
    assert sum(array.shape == (4,) for _, array in group.arrays()) == 1000
    assert asked(server) == [("zarr.json", None)]


@pytest.mark.parametrize("end", ["", "/", "//"])
def test_slashes_at_the_end_of_a_url_are_no_part_of_keys(serve: Serve, end: str) -> None:
    server = serve({f"f/{key}": data for key, data in plain_store(VALUES, (80, 80)).items()})
    np.testing.assert_array_equal(gpuzarr.open_array(f"{server.url}/f{end}")[...], VALUES)
    assert {key for key, _ in asked(server)} == {
        "f/zarr.json",
        *(f"f/c/{i}/{j}" for i in (0, 1) for j in (0, 1)),
    }


def test_v2_opens_in_two_requests_where_it_is_consolidated(serve: Serve) -> None:
    server = serve(hierarchy(1000, zarr_format=2, consolidated=True))
    group = gpuzarr.open_group(server.url)
    assert sum(array.shape == (4,) for _, array in group.arrays()) == 1000
    assert asked(server) == [(".zmetadata", None), ("zarr.json", None)]
    group = gpuzarr.open_group(server.url, zarr_format=2)
    assert len(group) == 1000
    assert asked(server) == [(".zmetadata", None)]
    server.together = lambda seen: 2 * (seen.key != "zarr.json")
    assert len(gpuzarr.open(server.url)) == 1000
    assert server.most_at_once == 2
    assert asked(server) == [(".zarray", None), (".zmetadata", None), ("zarr.json", None)]


def test_v2_groups_that_are_not_take_one_more(serve: Serve) -> None:
    server = serve(hierarchy(0, zarr_format=2, consolidated=False))
    assert gpuzarr.open_group(server.url).zarr_format == 2
    assert asked(server) == [(".zgroup", None), (".zmetadata", None), ("zarr.json", None)]


def test_an_array_opens_in_one_request_or_two_rounds(serve: Serve) -> None:
    server = serve(hierarchy(1, zarr_format=3, consolidated=False))
    assert gpuzarr.open(f"{server.url}/a0").zarr_format == 3
    assert asked(server) == [("a0/zarr.json", None)]
    server = serve(hierarchy(1, zarr_format=2, consolidated=False))
    assert gpuzarr.open_array(f"{server.url}/a0").ndim == 1
    assert asked(server) == [("a0/.zarray", None), ("a0/zarr.json", None)]
    server.together = lambda seen: 2 * (seen.key != "a0/zarr.json")
    assert gpuzarr.open(f"{server.url}/a0").zarr_format == 2
    assert server.most_at_once == 2
    keys = [f"a0/{name}" for name in (".zarray", ".zmetadata", "zarr.json")]
    assert asked(server) == [(key, None) for key in keys]


def test_a_batch_of_crops_asks_once_for_what_they_share(serve: Serve) -> None:
    server = serve(sharded_store(VALUES, SHARDS, CHUNKS))
    array = gpuzarr.open_array(server.url)
    server.forget()
    keys = [(slice(i, i + 20), slice(0, 20)) for i in range(10)]
    crops = gpuzarr.read_batch([(array, key) for key in keys])
    np.testing.assert_array_equal(crops, [VALUES[key] for key in keys])
    assert [key for key, _ in asked(server)] == ["c/0/0"] * 2


def test_a_loader_asks_for_the_next_batch_while_it_waits_for_one(serve: Serve) -> None:
    server = serve(plain_store(VALUES, (40, 40)))
    array = gpuzarr.open_array(server.url)
    server.forget()
    server.together = lambda _: 8
    loader = gpuzarr.Loader(array, crop=(40, 40), batch_size=4, prefetch=1)
    batches = list(loader)
    server.together = lambda _: 4
    np.testing.assert_array_equal(np.concatenate(batches)[5], VALUES[40:80, 40:80])
    assert server.most_at_once == 8
    assert asked(server) == [(f"c/{i}/{j}", None) for i in range(4) for j in range(4)]
    for prefetch, cache_nbytes in ((0, 0), (2, 1 << 20)):
        loader = gpuzarr.Loader(
            array, crop=(40, 40), batch_size=4, prefetch=prefetch, cache_nbytes=cache_nbytes
        )
        assert len(list(loader)) == 4
        assert server.most_at_once == 4
        server.forget()


def test_a_batch_that_cannot_be_started_ahead_is_read_when_it_is_its_turn(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(plain_store(VALUES, (40, 40)))
    calls: list[int] = []

    def start(*arguments: Any, **more: Any) -> PendingRead:
        calls.append(len(calls))
        if len(calls) == 2:
            raise MemoryLimitError("not now")
        return start_batch(*arguments, **more)

    monkeypatch.setattr("gpuzarr.loader.reading.start_batch", start)
    loader = gpuzarr.Loader(gpuzarr.open_array(server.url), crop=(40, 40), batch_size=4)
    np.testing.assert_array_equal(np.concatenate(list(loader))[5], VALUES[40:80, 40:80])
    assert len(calls) == 4 + 1


def test_what_fails_in_the_next_batch_is_told_when_it_is_its_turn(serve: Serve) -> None:
    objects = sharded_store(VALUES, SHARDS, CHUNKS)
    server = serve(objects)
    array = gpuzarr.open_array(server.url)
    server.fault = lambda seen: Fault(status=403) if seen.key == "c/1/0" else None
    batches = iter(gpuzarr.Loader(array, crop=SHARDS, batch_size=4, prefetch=1))
    np.testing.assert_array_equal(next(batches)[0], VALUES[:40, :40])
    with pytest.raises(StoreError, match="in batch 1 of epoch 0") as caught:
        next(batches)
    assert caught.value.key == "c/1/0"
