"""What failed in object storage, in words that say what to do.

obstore tells refused and missing objects apart by the type of its errors; all else is one type,
whose text has the status of the answer, or what became of the connection. The text is kept, without
its debugging output and without what may be secret in it.
"""

from __future__ import annotations

import re

from gpuzarr.errors import StoreError, UnsupportedError

_REFUSED = (
    "access was refused (403): these credentials may not read it; or there is no such object, which"
    " S3 does not tell those who may not list the bucket. Give other credentials in"
    " storage_options, {'anonymous': True} for a public bucket, or the right to list it"
    " (s3:ListBucket); zarr_format= looks for the documents of one format only"
)
_UNKNOWN_USER = (
    "the server does not know these credentials (401): give others in storage_options, or"
    " {'anonymous': True} for a public bucket"
)
_BUSY = (
    "the server is overloaded or limits requests, also after several attempts: try later, or give"
    " storage_options={'concurrency': 8}"
)
_FAILING = "the server failed, also after several attempts: try later"
_BROKEN = "the connection broke before all was there, also after several attempts: try again"
_ELSEWHERE = "the bucket is in another region: give storage_options={'region': ...}"

_BY_TYPE = {"PermissionDeniedError": _REFUSED, "UnauthenticatedError": _UNKNOWN_USER}
_BY_STATUS = {401: _UNKNOWN_USER, 403: _REFUSED, 429: _BUSY, 503: _BUSY}
_NO_CREDENTIALS = (
    "no credentials were found: give them in storage_options, or {'anonymous': True} for a public"
    " bucket"
)
_NO_HOST = "the host's name is not known: check the URL, or the endpoint in storage_options"
_NO_SERVER = "no server answers there: check host and port, or the endpoint in storage_options"
_LATE = (
    "the server did not answer in time: check the network, or give more in"
    " storage_options={'timeout': 1200, 'read_timeout': 120}"
)
_UNTRUSTED = (
    "the server's certificate is not trusted: give client_options={'root_certificate': ...} in"
    " storage_options"
)
_WITHOUT_TLS = (
    "connections without TLS are not allowed: give client_options={'allow_http': True} in"
    " storage_options"
)
_BY_WORDS = (
    (r"169\.254\.169\.254|metadata\.google|Missing.*Credential", _NO_CREDENTIALS),
    (r"dns error", _NO_HOST),
    (r"ConnectionRefused", _NO_SERVER),
    (r"TimedOut|kind: Timeout", _LATE),
    (r"[Cc]ertificate", _UNTRUSTED),
    (r"BadScheme", _WITHOUT_TLS),
    (r"BareRedirect", _ELSEWHERE),
    (r"ConnectionReset|UnexpectedEof|Incomplete|BrokenPipe|Interrupted|Body", _BROKEN),
)
_LONGEST = 300


def is_range_error(error: Exception) -> bool:
    """Whether the range may be what was wrong with a request."""
    return re.search(r"status code: 416|[Rr]ange", str(error)) is not None


def is_missing(error: FileNotFoundError) -> bool:
    """Whether an object is not there; obstore says so too where a server refuses the method (405).

    What is not there reads as the fill value, so nothing else may be taken for it.
    """
    found = re.search(r"status code: (\d+)", str(error))
    return found is None or found[1] == "404"


def explain(
    error: Exception, store: str, key: str | None, *, verb: str = "read"
) -> StoreError | UnsupportedError:
    """The error of ours for one of obstore's.

    Args:
        error: what was raised.
        store: the store's name.
        key: the object's key.
        verb: what was tried.
    """
    if "Range request not supported" in str(error):
        return UnsupportedError(
            "this server ignores the Range header, so no parts of objects can be read, which shards"
            " need: use another server, or copy the store",
            store=store,
            key=key,
        )
    text, advice = shorten(str(error)), _advice(error)
    message = f"cannot {verb} it: {advice} [{text}]" if advice else f"cannot {verb} it: {text}"
    return StoreError(message, store=store, key=key)


def _advice(error: Exception) -> str | None:
    text = str(error)
    known = _BY_TYPE.get(type(error).__name__)
    if known is not None:
        return known
    found = re.search(r"status code: (\d+)", text)
    if found is not None:
        status = int(found[1])
        if status in _BY_STATUS:
            return _BY_STATUS[status]
        if 500 <= status < 600:  # noqa: PLR2004  HTTP's classes
            return _FAILING
        return _ELSEWHERE if 300 <= status < 400 else None  # noqa: PLR2004
    return next((advice for words, advice in _BY_WORDS if re.search(words, text)), None)


def shorten(text: str) -> str:
    """What an error says, in one line."""
    text = text.partition("Debug source:")[0]
    text = re.sub(r"\?[^\s\"')\]]*=[^\s\"')\]]*", "?...", text)
    text = re.sub(r"//[^/\s@]+@", "//", text)
    text = " ".join(text.split()).rstrip(": ")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
