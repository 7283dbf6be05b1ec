"""URLs and `storage_options`: what is understood, what is passed on, what is said of the rest."""

from __future__ import annotations

import base64
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import gpuzarr
from gpuzarr.errors import NotFoundError, StoreError, UnsupportedError
from gpuzarr.stores.remote.objects import ObjectStore
from gpuzarr.stores.remote.options import RETRIES, TIMEOUTS, public_name
from gpuzarr.stores.resolve import open_store

from .loopback import FileServer

if TYPE_CHECKING:
    from .s3 import S3Server

stores: Any = pytest.importorskip("obstore.store")


@pytest.mark.parametrize(
    ("url", "options", "kind", "config"),
    [
        ("s3://b/a/x.zarr", {"region": "r"}, "S3Store", {"region": "r"}),
        ("S3://b", {"aws_region": "r"}, "S3Store", {"region": "r"}),
        ("s3://b", {"anon": True}, "S3Store", {"skip_signature": "true"}),
        ("s3://b", {"anonymous": True}, "S3Store", {"skip_signature": "true"}),
        ("gs://b/x", {"anonymous": True}, "GCSStore", {"skip_signature": "true"}),
        ("gcs://b/x", {"skip_signature": True}, "GCSStore", {"skip_signature": "true"}),
        ("az://c/x", {"account_name": "n", "anon": True}, "AzureStore", {"account_name": "n"}),
        ("abfss://c@n.dfs.core.windows.net/x", {"anon": True}, "AzureStore", {"account_name": "n"}),
        ("http://h:1/x", {}, "HTTPStore", None),
        ("https://b.s3.amazonaws.com/x", {"anonymous": True}, "HTTPStore", None),
        ("memory://", {}, "MemoryStore", None),
    ],
)
def test_urls(url: str, options: dict[str, Any], kind: str, config: dict[str, str] | None) -> None:
    store, inside = open_store(url, storage_options=options)
    assert isinstance(store, ObjectStore)
    assert inside == ""
    theirs: Any = store._store  # noqa: SLF001  what it was opened with
    assert type(theirs).__name__ == kind
    if config is not None:
        assert config.items() <= theirs.config.items()
    assert store.name == url
    assert repr(store) == f"ObjectStore({url!r})"


def test_what_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: dict[str, Any] = {}

    def from_url(url: str, **more: Any) -> Any:
        passed.update(more, url=url)
        return stores.MemoryStore()

    monkeypatch.setattr(stores, "from_url", from_url)
    open_store("gcs://b/x")
    assert passed == {
        "url": "gs://b/x",
        "config": {},
        "client_options": TIMEOUTS,
        "retry_config": RETRIES,
    }
    provider = object()
    options = {
        "timeout": 7,
        "connect_timeout": "3s",
        "client_options": {"user_agent": "me", "read_timeout": "1s"},
        "retry_config": {"max_retries": 1},
        "credential_provider": provider,
        "endpoint": "http://127.0.0.1:9000",
        "concurrency": 3,
    }
    store, _ = open_store("s3://b/x", storage_options=options)
    assert passed == {
        "url": "s3://b/x",
        "config": {"endpoint": "http://127.0.0.1:9000"},
        "client_options": {
            "timeout": timedelta(seconds=7),
            "connect_timeout": "3s",
            "read_timeout": "1s",
            "user_agent": "me",
            "allow_http": True,
        },
        "retry_config": {"max_retries": 1},
        "credential_provider": provider,
    }
    assert isinstance(store, ObjectStore)
    assert store.concurrency == 3
    assert len(options) == 7  # it is the caller's


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("s3://b", {"regoin": "x"}, r"'regoin'.*did you mean 'region'\?"),
        ("s3://b", {"key": "x"}, r"'key'.*it is called access_key_id here"),
        ("s3://b", {"secret": "x"}, r"'secret'.*it is called secret_access_key here"),
        ("s3://b", {"account_name": "x"}, r"'account_name'.*not know for s3://"),
        ("http://h", {"region": "x"}, r"'region'.*not know for http://"),
        ("s3://b", {"concurrency": 0}, r"concurrency=0: give a number of requests"),
        ("s3://b", {"concurrency": True}, r"concurrency=True"),
        ("s3://b", {"timeout": -1}, r"timeout=-1: give seconds"),
        ("s3://b", {"timeout": object()}, r"give seconds, or a text"),
    ],
)
def test_options_that_are_not_known(url: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message) as caught:
        open_store(url, storage_options=options)
    assert caught.value.store == url


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://b", {"timeout": "soon"}),
        ("s3://b", {"client_options": {"no_such_option": 1}}),
        ("az://container/x", {}),
        ("http://[::1", {}),
    ],
)
def test_what_cannot_be_used(url: str, options: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StoreError, match="cannot be used: ") as caught:
        open_store(url, storage_options=options)
    assert caught.value.store == url


def test_secrets_are_not_shown() -> None:
    assert public_name("https://h/x.zarr?sig=secret#f") == "https://h/x.zarr"
    assert public_name("http://user:secret@h:1/x") == "http://h:1/x"
    assert public_name("abfss://c@n.dfs.core.windows.net/x") == "abfss://c@n.dfs.core.windows.net/x"
    theirs = stores.HTTPStore.from_url("https://h/x.zarr?sig=secret")
    assert ObjectStore(theirs).name == 'HTTPStore("https://h/x.zarr")'
    options = {"secret_access_key": "secret", "access_key_id": "i", "region": "r"}
    store = ObjectStore.from_url("s3://b/x", options)
    assert "secret" not in repr(store) + store.name


def test_queries_and_passwords_are_sent_and_not_told() -> None:
    with FileServer({"x.zarr/zarr.json": b"{}"}) as server:
        url = f"http://user:secret@127.0.0.1:{server.port}/x.zarr?sig=s%2Bcret"
        store, _ = open_store(url)
        assert store.read("zarr.json") is not None
        seen = server.seen[0]
        assert seen.target == "/x.zarr/zarr.json?sig=s%2Bcret"
        basic = base64.b64decode(seen.headers["authorization"].removeprefix("Basic "))
        assert basic == b"user:secret"
        with pytest.raises(NotFoundError) as caught:
            gpuzarr.open(url, path="missing")
        assert "secret" not in str(caught.value)
        assert "s%2Bcret" not in str(caught.value)
    with pytest.raises(StoreError) as failed:
        open_store(url, storage_options={"retry_config": {"max_retries": 0}})[0].read("zarr.json")
    assert "cret" not in str(failed.value)


def test_keys_are_quoted(s3: S3Server) -> None:
    """The same keys, by a real server's own rules."""
    keys = ["a b/c+d", "50%25/%41", "q?x=1", "#1", "ä/汉", "a=b&c;d", "~(*)!'", "c/0.0", "[0]"]
    objects = {key: key.encode() for key in keys}
    with FileServer({f"s/{key}": value for key, value in objects.items()}) as server:
        for store in (open_store(f"{server.url}/s")[0], s3.store(objects)):
            for key in keys:
                blob = store.read(key)
                assert blob is not None, key
                assert bytes(blob.data) == key.encode()
                assert store.size(key) == len(key.encode())
    listed = {name for name, _ in store.list()}
    assert listed == {key.partition("/")[0] for key in keys}


def test_nothing_is_imported_before_it_is_needed(tmp_path: Any) -> None:
    """Neither what URLs need, for a path, nor more than that, for a URL."""
    (tmp_path / "zarr.json").write_bytes(b'{"zarr_format": 3, "node_type": "group"}')
    program = """
import sys, gpuzarr
from gpuzarr.stores.resolve import open_store
gpuzarr.open(sys.argv[1])
there = [name for name in ("obstore", "fsspec", "zarr", "aiohttp") if name in sys.modules]
open_store("https://host/x")
print(there, [name for name in ("fsspec", "zarr", "aiohttp") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("[] []\n", "")
