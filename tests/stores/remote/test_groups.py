"""Groups without consolidated metadata: their members are asked for together."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

import gpuzarr
from gpuzarr import node
from gpuzarr.cli import main
from gpuzarr.errors import GpuzarrError, MetadataError, StoreError
from gpuzarr.stores.remote.objects import ObjectStore
from tests.arrays import CountingStore, encoded, v3_metadata

from .loopback import Fault
from .proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .s3 import S3Server

pytest.importorskip("obstore")

GROUP = encoded({"zarr_format": 3, "node_type": "group"})
ARRAY = encoded(v3_metadata((4,), (2,)))
COUNT = 40


@pytest.fixture
def served(s3: S3Server) -> Iterator[tuple[str, dict[str, Any], Proxy]]:
    """A group of arrays with a group below and a folder that is no node, behind a proxy."""
    objects = {"zarr.json": GROUP, "inner/zarr.json": GROUP, "inner/x/zarr.json": ARRAY}
    objects |= {f"a{number:02}/zarr.json": ARRAY for number in range(COUNT)}
    objects["folder/notes"] = b"no node"
    url = s3.put(objects)
    with Proxy(s3.port) as proxy:
        yield url, {**s3.options, "endpoint": proxy.url}, proxy


def test_members_are_asked_for_together(served: tuple[str, dict[str, Any], Proxy]) -> None:
    url, options, proxy = served
    group = gpuzarr.open_group(url, storage_options=options)
    names = [*(f"a{number:02}" for number in range(COUNT)), "inner"]
    looks: list[Callable[[], list[str]]] = [
        lambda: list(group),
        lambda: list(group.keys()),
        lambda: [name for name, _ in list(group.items())],
        lambda: [node.path for node in list(group.values())],
        lambda: [name for name, _ in group.items()],
        lambda: [name for name, _ in group.members()],
    ]
    for look in looks:
        proxy.forget()
        proxy.together = lambda seen: (COUNT + 2) * seen.key.endswith(".json")
        assert look() == names
        proxy.together = lambda _: 0
        assert len(proxy.seen) == 1 + COUNT + 2  # one is the listing
        assert proxy.most_at_once == COUNT + 2
        assert proxy.counts() == {"GET": len(proxy.seen)}
    proxy.forget()
    assert len(group.tree().members) == COUNT + 2
    assert len(proxy.seen) == 1 + COUNT + 2 + 1 + 1
    assert {type(member) for _, member in group.arrays()} == {gpuzarr.Array}
    assert group["inner/x"].zarr_format == 3


def test_the_command_line_asks_for_members_together(
    served: tuple[str, dict[str, Any], Proxy], capsys: pytest.CaptureFixture[str]
) -> None:
    url, options, proxy = served
    proxy.together = lambda seen: (COUNT + 2) * (seen.key.endswith(".json") and len(proxy.seen) > 2)
    assert main(["tree", url, "-s", json.dumps(options)]) == 0
    proxy.together = lambda _: 0
    assert "a07 (4,)" in capsys.readouterr().out
    # The root, what lies below, all that may be nodes, what lies below one of these, and that.
    assert len(proxy.seen) == 1 + 1 + (COUNT + 2) + 1 + 1
    assert proxy.most_at_once == COUNT + 2


def test_every_length_and_every_iterator_looks_anew() -> None:
    """But for the length that is asked for between making an iterator and taking from it."""
    store = CountingStore({"zarr.json": GROUP, "a/zarr.json": ARRAY})
    group = gpuzarr.open_group(store)
    store.taken()

    def looks() -> int:
        return sum(key == "a/zarr.json" for key, _, _ in store.taken())

    names = iter(group)
    assert len(group) == 1
    assert (list(names), looks()) == (["a"], 1)
    store.values["b/zarr.json"] = GROUP
    assert (len(group), looks()) == (2, 1)
    names, others = iter(group), iter(group.items())
    assert next(names) == "a"
    assert len(group) == 2
    assert [*names, *(name for name, _ in others)] == ["b", "a", "b"]
    assert looks() == 2
    names = iter(group)
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(len(group)))
    thread.start()
    thread.join()
    assert (counts, list(names), looks()) == ([2], ["a", "b"], 2)


def test_a_member_that_fails_is_an_error_and_the_others_are_there(
    served: tuple[str, dict[str, Any], Proxy],
) -> None:
    url, options, proxy = served
    group = gpuzarr.open_group(url, storage_options=options)
    proxy.fault = lambda seen: Fault(status=403) if "a07" in seen.key else None
    assert "a07" in list(group)
    assert len(list(group.keys())) == len(group) == COUNT + 1
    with pytest.raises(StoreError, match="403"):
        list(group.items())
    with pytest.raises(StoreError, match="403"):
        list(group.values())
    members = group.members()
    assert [next(members)[0] for _ in range(7)] == [f"a{number:02}" for number in range(7)]
    with pytest.raises(StoreError, match="403") as caught:
        next(members)
    assert (caught.value.store, caught.value.path) == (url, "a07")
    failed = [member for _, member in group.tree().members if isinstance(member, GpuzarrError)]
    assert [error.path for error in failed] == ["a07"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_members_of_both_formats(zarr_format: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document is read once, by any store, whole rounds of them."""
    monkeypatch.setattr(node, "TOGETHER", 3)
    array = {
        "zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "<i4", "compressor": None,
        "fill_value": 0, "order": "C", "filters": None,
    }  # fmt: skip
    name = "zarr.json" if zarr_format == 3 else ".zarray"
    group_name = "zarr.json" if zarr_format == 3 else ".zgroup"
    group = GROUP if zarr_format == 3 else encoded({"zarr_format": 2})
    document = ARRAY if zarr_format == 3 else encoded(array)
    values = {f"{number}/{name}": document for number in "123567"}
    values |= {group_name: group, f"4/{group_name}": group, "8/other": b"", f"9/{name}": b"{"}
    store = CountingStore(values)
    opened = gpuzarr.open_group(store)
    store.taken()
    assert list(iter(opened)) == list("12345679")
    reads = [key for key, _, _ in store.taken()]
    assert len(reads) == len(set(reads))
    tried = {key for key in reads if not key.endswith(".zgroup")}
    assert tried == {f"{number}/{name}" for number in range(1, 10)}
    if zarr_format == 2:  # `.zgroup` only where there is no `.zarray`
        assert {key for key in reads if key.endswith(".zgroup")} == {"4/.zgroup", "8/.zgroup"}
    kinds = [type(member).__name__ for _, member in opened.tree().members]
    assert kinds == ["Array"] * 3 + ["Group"] + ["Array"] * 3 + ["MetadataError"]
    with pytest.raises(MetadataError, match="9"):
        list(opened.members())
    assert "8" not in opened
    assert "9" in opened


def test_many_threads_open_one_store(served: tuple[str, dict[str, Any], Proxy]) -> None:
    url, options, _ = served
    store = ObjectStore.from_url(url, options)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(gpuzarr.open_group(store))))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [COUNT + 1] * 6
