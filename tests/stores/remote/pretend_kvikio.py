"""kvikio's `RemoteFile` without kvikio: ranges of URLs, asked for in threads, put where they shall.

As kvikio it sends nothing beyond the range, looks at no etag, follows no redirection but takes what
that says for the answer, and raises RuntimeError on failure.
"""

from __future__ import annotations

import http.client
import threading
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
TASK_NBYTES = 1 << 22

_lock = threading.Lock()


class Unfollowed(urllib.request.HTTPRedirectHandler):
    """Redirections are answers."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        del req, code, msg, headers
        return fp

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class IOFuture:
    """A read that is under way."""

    def __init__(self, read: Future[int]) -> None:
        self._read = read

    def get(self) -> int:
        return self._read.result()


class RemoteFile:
    """A file at a URL."""

    threads: ThreadPoolExecutor
    most: int
    """Bytes of a task: what is longer is not known to be done when it has failed."""
    writing = 0
    """Reads that are under way."""

    def __init__(self, url: str, nbytes: int) -> None:
        self.url = url
        self.nbytes = nbytes

    def pread(self, buffer: Any, size: int, file_offset: int) -> IOFuture:
        if file_offset + size > self.nbytes:
            raise ValueError("beyond the end of the file")
        assert size <= self.most
        return IOFuture(self.threads.submit(self._read, buffer, size, file_offset))

    def _read(self, buffer: Any, size: int, offset: int) -> int:
        with _lock:
            RemoteFile.writing += 1
        try:
            return self._ask(buffer, size, offset)
        finally:
            with _lock:
                RemoteFile.writing -= 1

    def _ask(self, buffer: Any, size: int, offset: int) -> int:
        headers = {"Range": f"bytes={offset}-{offset + size - 1}", "User-Agent": AGENT}
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310  loopback
        try:
            with urllib.request.build_opener(Unfollowed).open(request, timeout=20) as answer:
                data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise RuntimeError("curl_easy_perform() failed") from error
        if len(data) > size:
            raise RuntimeError("more came than was asked for")
        buffer[: len(data)] = np.frombuffer(data, np.uint8)
        return size  # also where less came


@contextmanager
def pretend_kvikio(task_nbytes: int = TASK_NBYTES) -> Iterator[None]:
    """kvikio is there, for remote files."""
    with (
        ThreadPoolExecutor(4) as threads,
        patch.object(RemoteFile, "threads", threads, create=True),
        patch.object(RemoteFile, "most", task_nbytes, create=True),
        patch.object(kvikio_reader, "unavailable", lambda: None),
        patch.object(remote_reader, "task_nbytes", lambda: task_nbytes),
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
