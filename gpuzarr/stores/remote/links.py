"""URLs that give objects to whoever asks, for readers that do not go through obstore.

HTTP servers have them where nothing else has to be said in a request. For S3 they are signed, with
keys that were given: a signature is valid for `VALID`, so such URLs are secrets and are made when
they are needed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable

VALID = timedelta(hours=1)

_HARMLESS = frozenset(
    {
        *("allow_http", "connect_timeout", "read_timeout", "timeout", "user_agent"),
        *("http1_only", "http2_only", "pool_idle_timeout", "pool_max_idle_per_host"),
        *("http2_keep_alive_interval", "http2_keep_alive_timeout", "http2_keep_alive_while_idle"),
    }
)
"""Options of obstore's HTTP client without which another client gets the same answers."""
_KEYS = frozenset({"access_key_id", "secret_access_key"})


def find_links(store: Any) -> Callable[[str], str] | None:
    """What gives the URL of a key of a store of obstore's; None where there are no such URLs."""
    kind = type(store).__name__
    if set(getattr(store, "client_options", None) or {}) - _HARMLESS:
        return None
    if kind == "HTTPStore":
        base = str(store.url).rstrip("/")
        return None if set("?#@") & set(base) else lambda key: f"{base}/{quote(key)}"
    if kind == "S3Store":
        config = store.config
        if not set(config) >= _KEYS or str(config.get("skip_signature", "")).lower() == "true":
            return None
        return lambda key: _sign(store, key)
    return None


def _sign(store: Any, key: str) -> str:
    import obstore  # noqa: PLC0415  only for object storage

    return str(obstore.sign(store, "GET", key, VALID))
