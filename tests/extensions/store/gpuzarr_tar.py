"""tar:// URLs: a hierarchy in an uncompressed tar archive, read in place."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuzarr import Blob, NotFoundError, Store
from gpuzarr.stores.store import WHOLE, check_key, find_range, iter_children, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Buffer = bytes | bytearray | memoryview


class TarStore(Store):
    """The files of an archive, by where they lie in it. It pickles, for workers."""

    def __init__(self, path: str) -> None:
        """Read the archive's table of contents."""
        self.name = f"tar://{path}"
        self.path = path
        with tarfile.open(path, "r:") as archive:
            self.files = {
                member.name.removeprefix("./"): (member.offset_data, member.size)
                for member in archive
                if member.isfile()
            }

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Read a range of one file."""
        found = self.files.get(check_key(key))
        if found is None:
            return None
        first, size = found
        start, stop = find_range(size, key, offset, nbytes)
        memory = place(allocate, stop - start, key)
        with Path(self.path).open("rb", buffering=0) as archive:
            archive.seek(first + start)
            archive.readinto(memory)
        return Blob(memory)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The direct children of a key."""
        return iter_children(self.files, prefix)


def open_tar(url: str, storage_options: Mapping[str, Any] | None) -> TarStore:
    """Open tar:///path/to/archive.tar."""
    del storage_options
    path = url.partition("://")[2]
    if not Path(path).is_file():
        raise NotFoundError(f"there is no archive {path}", store=url)
    return TarStore(path)
