"""kvikio's `RemoteFile` without kvikio: ranges of URLs, asked for in threads, put where they shall.

As kvikio it sends nothing beyond the range, looks at no etag, and raises RuntimeError on failure.
"""

from __future__ import annotations

import http.client
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from gpuzarr.engines.cuda import kvikio_reader, remote_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .loopback import FileServer, Seen

AGENT = "pretend-kvikio"


class IOFuture:
    """A read that is under way."""

    def __init__(self, read: Future[int]) -> None:
        self._read = read

    def get(self) -> int:
        return self._read.result()


class RemoteFile:
    """A file at a URL."""

    threads: ThreadPoolExecutor

    def __init__(self, url: str, nbytes: int) -> None:
        self.url = url
        self.nbytes = nbytes

    def pread(self, buffer: Any, size: int, file_offset: int) -> IOFuture:
        if file_offset + size > self.nbytes:
            raise ValueError("beyond the end of the file")
        return IOFuture(self.threads.submit(self._read, buffer, size, file_offset))

    def _read(self, buffer: Any, size: int, offset: int) -> int:
        headers = {"Range": f"bytes={offset}-{offset + size - 1}", "User-Agent": AGENT}
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310  loopback
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise RuntimeError("curl_easy_perform() failed") from error
        if len(data) > size:
            raise RuntimeError("more came than was asked for")
        buffer[: len(data)] = np.frombuffer(data, np.uint8)
        return size  # also where less came


@contextmanager
def pretend_kvikio() -> Iterator[None]:
    """kvikio is there, for remote files."""
    with (
        ThreadPoolExecutor(4) as threads,
        patch.object(RemoteFile, "threads", threads, create=True),
        patch.object(kvikio_reader, "unavailable", lambda: None),
        patch.object(remote_reader, "open_remote", RemoteFile),
    ):
        yield


def by_kvikio(seen: Seen) -> bool:
    """Whether this request was none of obstore's."""
    return seen.headers.get("user-agent") == AGENT


def requests_of(server: FileServer) -> dict[str, int]:
    """How many there were: ranges by kvikio, and what obstore asked."""
    found = {"kvikio": 0, "GET": 0, "HEAD": 0}
    for seen in server.seen:
        found["kvikio" if by_kvikio(seen) else seen.method] += 1
    return found
