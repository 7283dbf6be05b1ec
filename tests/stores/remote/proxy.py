"""A proxy before a real server: it counts, waits, limits the speed and fails as it is told.

Requests are handed on as they are, so that signatures over them stay true; connections to the
server are kept. Only requests without a body pass.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .loopback import PIECE, LoopbackServer, Response, Seen, in_pieces, read_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy(LoopbackServer):
    """See the module's text."""

    def __init__(
        self, port: int, *, latency_s: float = 0.0, bandwidth: float | None = None
    ) -> None:
        """Stand before the server at this port of this machine."""
        self._server_port = port
        self._idle: list[Connection] = []
        super().__init__(latency_s=latency_s, bandwidth=bandwidth)

    async def answer(self, seen: Seen) -> Response:
        """What the server says."""
        while True:
            kept = bool(self._idle)
            reader, writer = self._idle.pop() if kept else await self._connect()
            lines = [f"{seen.method} {seen.target} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in seen.headers.items()]
            try:
                writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
                await writer.drain()
                head = await read_head(reader)
            except (ConnectionError, asyncio.IncompleteReadError):
                head = None
            if head is not None:
                break
            writer.close()
            if not kept:  # the server closes those that were idle for too long, but no new one
                raise ConnectionError("the server answered nothing")
        first, headers = head
        status = int(first.split(" ")[1])
        length = int(headers.get("content-length", "0"))
        bodiless = seen.method == "HEAD" or status in {204, 304}
        if "chunked" in headers.get("transfer-encoding", ""):
            body = b"" if bodiless else await read_chunks(reader)
            headers.pop("transfer-encoding")
            headers["content-length"] = str(len(body))
            self._idle.append((reader, writer))
            return Response(status, headers, in_pieces(body))
        if bodiless or not length:
            self._idle.append((reader, writer))
            return Response(status, headers, in_pieces())
        return Response(status, headers, self._relay((reader, writer), length))

    async def _connect(self) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers.add(writer)
        return reader, writer

    async def _relay(self, connection: Connection, length: int) -> AsyncIterator[bytes]:
        reader, writer = connection
        try:
            while length:
                piece = await reader.read(min(PIECE, length))
                if not piece:
                    return
                length -= len(piece)
                yield piece
        finally:
            if length:
                writer.close()
            else:
                self._idle.append(connection)


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """A body of unknown length, such as a listing."""
    pieces = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(pieces)
