"""`storage_options`: how object storage is reached.

They are obstore's own configuration keys for the kind of storage (`region`, `endpoint`,
`access_key_id`, `secret_access_key`, `session_token`, `skip_signature`, `account_name`,
`service_account`, ..., and `credential_provider`), with these besides:

    anon, anonymous                     True: without credentials, as `skip_signature`
    timeout, read_timeout,              of one request, of a silent server, of making a
      connect_timeout                   connection: seconds (120 or "120"), or "2min"
    client_options                      of the HTTP client: headers, proxies, certificates
    retry_config                        how often a request is repeated that failed in passing
    concurrency                         requests that are with the server at a time

What is not given is taken from where obstore looks for it: the environment, the machine's role.
"""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from gpuzarr.errors import StoreError, UnsupportedError
from gpuzarr.stores.remote.errors import shorten

RETRIES = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}
"""What is repeated is what may pass: answers 5xx and 429, connections that break or time out. 6
times in about 6 s."""

TIMEOUTS = {
    "connect_timeout": timedelta(seconds=10),
    "read_timeout": timedelta(seconds=30),
    "timeout": timedelta(minutes=10),
}
"""Of making a connection; of a server that says nothing; and of one request with all its bytes,
which shares the line with many others."""

_ANONYMOUS = ("anon", "anonymous")
_ELSEWHERE = {
    "key": "access_key_id",
    "secret": "secret_access_key",
    "client_kwargs": "endpoint, region",
    "requester_pays": "request_payer",
    "project": "nothing: a bucket belongs to one",
    "default_fill_cache": "nothing",
    "use_ssl": "an endpoint with http:// or https://",
}
"""Options of fsspec's packages, and what they are called here."""


_SLASHES = re.compile(r"^([^?#]*[^?#/])/+(?=$|[?#])")
"""At the end of a URL's path."""


def open_url(url: str, options: Mapping[str, Any]) -> Any:
    """A store of obstore's for a URL.

    Raises:
        UnsupportedError: obstore is not installed, or an option is not known.
        StoreError: the URL or an option cannot be used.
    """
    try:
        import obstore.store as obstore_stores  # noqa: PLC0415  only for URLs
        from obstore.exceptions import (  # noqa: PLC0415
            UnknownConfigurationKeyError as UnknownKeyError,
        )
    except ImportError as error:
        raise UnsupportedError(
            "URLs are opened by obstore, which is not installed: pip install gpuzarr[remote]",
            store=public_name(url),
        ) from error
    stores: Any = obstore_stores  # its overloads are for those who know what they open
    scheme, rest = url.split("://", 1)
    scheme = {"gcs": "gs"}.get(scheme.lower(), scheme.lower())
    url = f"{scheme}://{rest}"
    config, settings = _sort(options, scheme, url)
    if scheme in {"http", "https", "memory"} and config:
        raise _unknown(next(iter(config)), f"{scheme}:// URLs", url)
    try:
        if scheme in {"http", "https"}:
            # Not by its host's name, as `from_url` would: no credentials, whatever server it is.
            settings.pop("credential_provider", None)
            url, header = _take_password(url)
            url = _SLASHES.sub(r"\1", url)  # keys are put behind one
            if header:
                client = settings["client_options"]
                client["default_headers"] = {**client.get("default_headers", {}), **header}
            return stores.HTTPStore.from_url(url, **settings)
        if scheme == "memory":
            return stores.MemoryStore()
        return stores.from_url(url, config=config, **settings)
    except UnknownKeyError as error:
        name = next((name for name in config if name in str(error)), str(error))
        raise _unknown(name, f"{scheme}:// URLs", url) from error
    except Exception as error:
        raise StoreError(
            f"this URL and its storage_options cannot be used: {shorten(str(error))}",
            store=public_name(url),
        ) from error


def public_name(url: str) -> str:
    """A URL without what may be secret in it: a password, a query with a signature."""
    url = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"//[^/@]*:[^/@]*@", "//", url)


def _take_password(url: str) -> tuple[str, dict[str, str]]:
    """A URL without the user and the password in it, and the header that says them."""
    found = re.match(r"(https?://)([^/?#]*)@(.*)", url, re.DOTALL)
    if found is None:
        return url, {}
    user = base64.b64encode(unquote(found[2]).encode()).decode()
    return found[1] + found[3], {"Authorization": f"Basic {user}"}


def _sort(
    options: Mapping[str, Any], scheme: str, url: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of the storage, and what else is passed to what makes a store."""
    config = dict(options)
    for name in ("client_options", "retry_config"):
        if not isinstance(config.get(name) or {}, Mapping):
            raise UnsupportedError(
                f"{name} is a mapping of options, not a {type(config[name]).__name__}",
                store=public_name(url),
            )
    client = {**TIMEOUTS, **(config.pop("client_options", None) or {})}
    for name in TIMEOUTS:
        if name in config:
            client[name] = _duration(name, config.pop(name), url)
    settings: dict[str, Any] = {
        "client_options": client,
        "retry_config": config.pop("retry_config", None) or RETRIES,
    }
    if (provider := config.pop("credential_provider", None)) is not None:
        settings["credential_provider"] = provider
    for name in _ANONYMOUS:
        if name in config and config.pop(name) and scheme not in {"http", "https"}:
            config["skip_signature"] = True
    endpoint = str(config.get("endpoint") or config.get("endpoint_url") or url)
    if endpoint.startswith("http://"):
        client.setdefault("allow_http", True)
    return config, settings


def _duration(name: str, value: Any, url: str) -> Any:
    """Seconds, as text too, or what obstore takes itself."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
        value = float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return timedelta(seconds=value)
    if isinstance(value, (str, timedelta)):
        return value
    raise UnsupportedError(
        f'{name}={value!r}: give seconds, or a text such as "2min"', store=public_name(url)
    )


def _unknown(name: str, where: str, url: str) -> UnsupportedError:
    elsewhere = _ELSEWHERE.get(name)
    close = difflib.get_close_matches(name, _SOME, n=1)
    hint = f"; it is called {elsewhere} here" if elsewhere else ""
    if close and not hint:
        hint = f"; did you mean {close[0]!r}?"
    return UnsupportedError(
        f"storage_options has {name!r}, which obstore does not know for {where}{hint}",
        store=public_name(url),
    )


_SOME = (
    "access_key_id",
    "account_key",
    "account_name",
    "anon",
    "anonymous",
    "application_credentials",
    "bucket",
    "client_options",
    "concurrency",
    "connect_timeout",
    "credential_provider",
    "endpoint",
    "imdsv1_fallback",
    "read_timeout",
    "region",
    "request_payer",
    "retry_config",
    "sas_token",
    "secret_access_key",
    "service_account",
    "session_token",
    "skip_signature",
    "timeout",
    "virtual_hosted_style_request",
)
"""Options that are often meant."""
