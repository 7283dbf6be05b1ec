"""HTTP servers on loopback that remember every request and can be told to fail.

`LoopbackServer` speaks HTTP/1.1 with connections that are kept, in a thread of its own; what it
answers is up to those derived from it: `FileServer` here, `Proxy` in its own module. It waits,
limits its speed and fails as it is told.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

PIECE = 1 << 16

QUEUE_S = 0.02
"""A line sends what is queued before it also while its server is not awake: so much at most."""

PATIENCE_S = 20.0
"""How long requests wait for others that should come at the same time."""

REASONS = {200: "OK", 206: "Partial Content", 404: "Not Found", 416: "Range Not Satisfiable"}


@dataclass(frozen=True)
class Seen:
    """A request."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By names in lower case."""

    @property
    def key(self) -> str:
        """The path, as it is meant."""
        return unquote(self.target.split("?")[0]).lstrip("/")

    @property
    def range(self) -> str | None:
        """The bytes that are asked for, as in "0-9", "5-" or "-16"; None for all."""
        return self.headers.get("range", "").removeprefix("bytes=") or None


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request."""

    status: int | None = None
    """It is answered with this, without asking anybody."""
    body: bytes = b"<Error><Code>SlowDown</Code></Error>"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """So many bytes of the answer's body are sent, then the connection is closed."""
    reset: bool = False
    """The connection is reset, before an answer or where it is cut."""
    delay_s: float = 0.0
    """It is answered so much later."""


@dataclass
class Response:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]


async def in_pieces(data: bytes | memoryview = b"") -> AsyncIterator[bytes]:
    """A body, piece by piece."""
    for begin in range(0, len(data), PIECE):
        yield bytes(data[begin : begin + PIECE])


class LoopbackServer:
    """See the module's text."""

    def __init__(self, *, latency_s: float = 0.0, bandwidth: float | None = None) -> None:
        """Start it on a free port.

        Args:
            latency_s: how long each answer takes at least.
            bandwidth: bytes a second of all bodies together; None: no limit.
        """
        self.latency_s = latency_s
        self.bandwidth = bandwidth
        self.seen: list[Seen] = []
        self.fault: Callable[[Seen], Fault | None] = lambda _: None
        self.together: Callable[[Seen], int] = lambda _: 0
        """How many requests must have been here at once before this one is answered."""
        self.at_once = self.most_at_once = 0
        self.given_up = 0
        """Answers that nobody read to their end."""
        self._free_at = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        """Of all connections."""
        self._serving: set[asyncio.Task[None]] = set()
        """A task a connection."""
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and all connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def forget(self) -> None:
        """As if nothing had been asked."""
        self.seen.clear()
        self.most_at_once = 0

    def counts(self) -> Counter[str]:
        """How many requests there were, by method."""
        return Counter(seen.method for seen in self.seen)

    async def answer(self, seen: Seen) -> Response:
        """What a request gets."""
        raise NotImplementedError

    def _run(self) -> None:
        loop = self._loop
        server = loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        loop.run_forever()
        loop.run_until_complete(self._end(server))
        loop.close()

    async def _end(self, server: asyncio.Server) -> None:
        """End all connections, those as well that the loop has accepted and not yet made known."""
        for listening in server.sockets:
            self._loop.remove_reader(listening)
        this = asyncio.current_task()
        while asyncio.all_tasks() - self._serving - {this}:  # noqa: ASYNC110  the loop's own tasks
            await asyncio.sleep(0)
        server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # transports close a little later

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """At once as a connection stands: no task that never starts leaves it open."""
        self._writers.add(writer)
        self._serving.add(self._loop.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await read_head(reader)) is not None:
                first, headers = head
                method, target, _ = first.split(" ", 2)
                seen = Seen(method, target, headers)
                self.seen.append(seen)
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    if not await self._respond(seen, writer):
                        break
                finally:
                    self.at_once -= 1
        except (ConnectionError, asyncio.IncompleteReadError):
            self.given_up += 1
        except asyncio.CancelledError:  # the server is closed
            pass
        finally:
            writer.close()

    async def _respond(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        """Answer; says whether the connection may be used again."""
        end = time.monotonic() + PATIENCE_S
        least = self.together(seen)
        while self.most_at_once < least and time.monotonic() < end:  # noqa: ASYNC110  one line
            await asyncio.sleep(0.001)
        fault = self.fault(seen) or Fault()
        await asyncio.sleep(self.latency_s + fault.delay_s)
        if fault.reset and fault.cut_after is None:
            reset(writer)
            return False
        if fault.status is not None:
            headers = {"Content-Length": str(len(fault.body)), **fault.headers}
            writer.write(head_of(fault.status, headers))
            writer.write(b"" if seen.method == "HEAD" else fault.body)
            await writer.drain()
            return True
        response = await self.answer(seen)
        writer.write(head_of(response.status, response.headers))
        left = fault.cut_after
        async for piece in response.body:
            some = piece if left is None else piece[:left]
            await self._pace(len(some))
            writer.write(some)
            await writer.drain()
            if left is not None:
                left -= len(some)
                if left <= 0:
                    if fault.reset:
                        reset(writer)
                    return False
        await writer.drain()
        return True

    async def _pace(self, nbytes: int) -> None:
        """Wait for this many bytes' turn on the line."""
        if self.bandwidth is None:
            return
        now = time.monotonic()
        self._free_at = max(now - QUEUE_S, self._free_at) + nbytes / self.bandwidth
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class FileServer(LoopbackServer):
    """Serves a mapping of keys to bytes, with ranges and etags."""

    def __init__(
        self,
        objects: Mapping[str, bytes],
        *,
        ranges: bool = True,
        latency_s: float = 0.0,
        bandwidth: float | None = None,
    ) -> None:
        """Serve these objects; without `ranges`, always whole."""
        self.objects = objects
        self.ranges = ranges
        self._etags: dict[int, tuple[bytes, str]] = {}
        super().__init__(latency_s=latency_s, bandwidth=bandwidth)

    async def answer(self, seen: Seen) -> Response:
        """By the rules of RFC 9110."""
        value = self.objects.get(seen.key)
        if value is None:
            return Response(404, {"Content-Length": "0"}, in_pieces())
        start, stop, status = 0, len(value), 200
        headers = {"ETag": self._etag(value), "Accept-Ranges": "bytes"}
        if seen.range is not None and self.ranges:
            found = cut_range(seen.range, len(value))
            if found is None:
                headers |= {"Content-Range": f"bytes */{len(value)}", "Content-Length": "0"}
                return Response(416, headers, in_pieces())
            (start, stop), status = found, 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(value)}"
        headers["Content-Length"] = str(stop - start)
        body = in_pieces() if seen.method == "HEAD" else in_pieces(memoryview(value)[start:stop])
        return Response(status, headers, body)

    def _etag(self, value: bytes) -> str:
        """Of an object; large ones are looked at once."""
        known = self._etags.get(id(value))
        if known is None:
            known = (value, f'"{hashlib.sha256(value).hexdigest()[:16]}"')
            self._etags[id(value)] = known  # it keeps the value, so that its id stays
        return known[1]


def cut_range(text: str, size: int) -> tuple[int, int] | None:
    """First byte and end of a range; None where it cannot be satisfied.

    >>> cut_range("2-3", 10), cut_range("8-", 10), cut_range("-4", 10), cut_range("10-", 10)
    ((2, 4), (8, 10), (6, 10), None)
    """
    found = re.fullmatch(r"(\d*)-(\d*)", text)
    if found is None:
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    return (start, stop) if start < stop else None


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    """The first line and the headers of a message; None at the connection's end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    named = (line.split(":", 1) for line in lines)
    return first, {name.strip().lower(): value.strip() for name, value in named}


def head_of(status: int, headers: Mapping[str, str]) -> bytes:
    """The head of an answer."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that the other side sees an error."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
