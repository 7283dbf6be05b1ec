"""fsspec's file systems as stores.

fsspec's calls are synchronous, those of its asynchronous file systems too: they wait in threads of
ours, each with one request. The sizes of objects are not known before their bytes are there.
"""

from __future__ import annotations

import asyncio
import os
import pickle
from typing import TYPE_CHECKING, Any

from gpuzarr.stores.remote.daemon_threads import DaemonThreads
from gpuzarr.stores.remote.event_loop import background_loop
from gpuzarr.stores.remote.foreign import ForeignStore

if TYPE_CHECKING:
    from collections.abc import Callable

CONCURRENCY = 32
"""Requests at a time, and threads that wait for them."""


def open_filesystem(fs: Any, root: str | None = None) -> ForeignStore:
    """A store of the files below a path.

    Args:
        fs: any `fsspec.AbstractFileSystem`.
        root: the path; None for the file system's own root.
    """
    return ForeignStore(Filesystem(fs, fs.root_marker if root is None else root), CONCURRENCY)


class Filesystem:
    """See `gpuzarr.stores.remote.foreign.Source`."""

    def __init__(self, fs: Any, root: str) -> None:
        """Take the files below `root`."""
        self._fs = _synchronous(fs)
        base = root.rstrip("/")
        self._root = f"{base}/" if root else ""
        self._process = os.getpid()
        self._threads = DaemonThreads(CONCURRENCY)
        self.name = str(fs.unstrip_protocol(base)) if base else f"{_protocol(fs)}://{root}"

    def __reduce__(self) -> tuple[object, ...]:
        return (Filesystem, (self._fs, self._root))

    def loop(self) -> asyncio.AbstractEventLoop:
        """Ours: other threads wait for the file system."""
        return background_loop()

    async def fetch(self, key: str, start: int | None, stop: int | None) -> Any:
        """Some bytes of a file."""
        path = self._root + key
        return await self._call(lambda fs: fs.cat_file(path, start=start, end=stop))

    async def size(self, key: str) -> int:
        """Bytes of a file."""
        path = self._root + key
        info = await self._call(lambda fs: fs.info(path))
        if info["type"] == "directory":
            raise IsADirectoryError
        return int(info["size"])

    async def children(self, prefix: str) -> list[tuple[str, bool]]:
        """What is in a folder."""
        path = self._root + prefix
        entries = await self._call(lambda fs: fs.ls(path, detail=True))
        # The entry of a file is the file itself.
        names = [
            (entry["name"].rstrip("/").rpartition("/")[2], entry["type"] == "directory")
            for entry in entries
            if len(entry["name"].rstrip("/")) > len(path.rstrip("/")) or not prefix
        ]
        return [entry for entry in names if entry[0]]

    async def _call(self, call: Callable[[Any], Any]) -> Any:
        if self._process != os.getpid():  # its threads are in the parent
            self._fs = pickle.loads(pickle.dumps(self._fs))  # noqa: S301  our own
            self._process = os.getpid()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, call, self._fs)


def _synchronous(fs: Any) -> Any:
    """The file system for calls from any thread, where this one is for those of one event loop."""
    if getattr(fs, "sync_fs", None) is not None:  # fsspec's wrapper around a synchronous one
        return fs.sync_fs
    if getattr(fs, "asynchronous", False):
        return type(fs)(*fs.storage_args, **{**fs.storage_options, "asynchronous": False})
    return fs


def _protocol(fs: Any) -> str:
    protocol = fs.protocol
    return protocol if isinstance(protocol, str) else str(protocol[0])
