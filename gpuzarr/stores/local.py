"""A directory of files: the store that most arrays lie in.

A read is four system calls: open, fstat, preadv, close. Everything that could make it slow or
unsafe is decided once a folder and remembered: whether the key may name it, and whether a symbolic
link on the way leaves the root. The file itself is opened without following a link (O_NOFOLLOW)
and without waiting (O_NONBLOCK), so neither a link planted in an unpacked archive nor a pipe can do
harm.

A missing file is an answer, "no such object", and arrays read it as their fill value. So whatever
only looks missing is an error instead: a root that is gone, a link whose target was never fetched,
a name that this file system cannot hold.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from gpuzarr.errors import StoreError
from gpuzarr.stores.files import advise, read_at, real_folder
from gpuzarr.stores.local_ahead import CAN_ADVISE, Pace, ReadsAhead
from gpuzarr.stores.store import WHOLE, Blob, Store, check_key, find_range, place
from gpuzarr.stores.uring import Manner, read_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gpuzarr.stores.store import Buffer, Memory, Pending, Wanted

_OPEN = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_REFUSED_NAMES = frozenset({"", ".", ".."})
_MOST_FOLDERS = 1 << 16
"""Folders remembered at once; beyond that all are forgotten and looked at again."""
_SHARED_STREAMS = os.name == "nt"
"""On Windows a ":" in a name opens a drive or another stream of a file."""


class LocalStore(Store):
    """The files below a directory.

    The links in the root's own path are followed once, when the store is made: a root that is
    switched to another directory later is seen by opening the store again.
    """

    def __init__(self, root: str | os.PathLike[str], *, follow_symlinks: bool = False) -> None:
        """Name the directory; nothing is read yet.

        Args:
            root: the directory; relative ones are taken from the working directory of now.
            follow_symlinks: also read through symbolic links that leave the root.
        """
        self.name = os.path.abspath(root)  # noqa: PTH100 -- also tidies "a/../b"
        self.follow_symlinks = follow_symlinks
        self._top = os.path.join(real_folder(self.name), "")  # noqa: PTH118 -- ends in "/"
        # Folder key to "path/" of a folder that is known to be allowed. Single dict operations are
        # atomic, so there is no lock that a forked child could inherit held.
        self._folders = {"": self._top}
        self._flags = _OPEN if follow_symlinks else _OPEN | _NOFOLLOW
        self._look_first = not (follow_symlinks or _NOFOLLOW)
        self._pace = Pace()
        self._manner = Manner()

    @property
    def root(self) -> Path:
        """The directory."""
        return Path(self.name)

    def __repr__(self) -> str:
        more = ", follow_symlinks=True" if self.follow_symlinks else ""
        return f"LocalStore({self.name!r}{more})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_remake, (self.name, self.follow_symlinks))

    def read(  # noqa: C901  every call may fail in its own way
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Read one byte range of one file; see `Store.read`."""
        folder, _, name = key.rpartition("/")
        path = self._folders.get(folder)
        if path is None and (path := self._enter(folder, key)) is None:
            return None
        if (
            name in _REFUSED_NAMES
            or "\\" in name
            or "\0" in name
            or not (folder or len(name) == len(key))
            or _SHARED_STREAMS
        ):
            self._check(key)
        path += name
        try:
            if self._look_first and os.path.islink(path):  # noqa: PTH114 -- speed
                raise OSError(errno.ELOOP, "is a link")  # noqa: TRY301 -- as O_NOFOLLOW does
            descriptor = os.open(path, self._flags)
        except (OSError, ValueError) as error:
            found = self._open_otherwise(path, key, error)
            if found is None:
                return None
            descriptor = found
        try:
            try:
                status = os.fstat(descriptor)
            except OSError as error:
                raise self._failed("read", path, key, error) from error
            if not stat.S_ISREG(status.st_mode):
                if stat.S_ISDIR(status.st_mode):
                    return None
                raise self._special(path, key)
            size = status.st_size
            start, stop = (
                (0, size)
                if nbytes == WHOLE and offset == 0
                else find_range(size, key, offset, nbytes)
            )
            memory = place(allocate, stop - start, key)
            try:
                done = read_at(descriptor, memory, start, self._pace.waits)
            except OSError as error:
                raise self._failed("read", path, key, error) from error
        finally:
            os.close(descriptor)
        if done != stop - start:
            raise StoreError(
                f"{path} became shorter while it was read ({start + done} of {size} bytes):"
                " something is writing to this store",
                store=self.name,
                key=key,
            )
        return Blob(memory, (status.st_mtime_ns, size), size)

    def read_row(  # noqa: C901, PLR0912  every reason to leave it to `read`
        self, wanted: Iterable[Wanted], memory: Memory, stopped: Callable[[], bool]
    ) -> list[int]:
        """Read ranges of files in folders that are known; see `gpuzarr.stores.store.ReadRow`."""
        ends: list[int] = []
        opened, descriptor, size, validator = None, -1, 0, (0, 0)
        begin, seconds, before, largest = memory.used, 0.0, 0, 0
        ahead, waits, waited, used = None, self._pace.waits, self._pace.waits.count, begin
        try:
            if isinstance(wanted, list):
                manner = self._manner
                ends = read_whole(wanted, self._known_path, self._flags, manner, memory, stopped)
                if ends and (len(ends) == len(wanted) or stopped()):
                    return ends
                wanted = wanted[len(ends) :]
                used, before = memory.used, len(ends)
            ahead = self._pace.ahead(wanted, self._known_path, self._flags)
            for key, offset, nbytes, expected in wanted:
                begun = perf_counter()
                if key != opened:
                    if descriptor >= 0:
                        os.close(descriptor)
                        descriptor = -1
                    path = self._known_path(key)
                    if path is None:
                        break
                    opened = key
                    descriptor = os.open(path, self._flags) if ahead is None else ahead.take(path)
                    status = os.fstat(descriptor)
                    if not stat.S_ISREG(status.st_mode):
                        break
                    size = status.st_size
                    validator = (status.st_mtime_ns, size)
                count = size - offset if nbytes == WHOLE else nbytes
                largest = max(largest, count)
                if not 0 <= offset <= offset + count <= size or expected not in (None, validator):
                    break
                if read_at(descriptor, memory.allocate(count), offset, waits) != count:
                    break
                seconds += perf_counter() - begun
                ends.append(memory.used)
                if stopped():
                    break
        except (OSError, ValueError, MemoryError):  # `read` tells what it is
            pass
        finally:
            if descriptor >= 0:
                os.close(descriptor)
            if ahead is not None:
                ahead.close()
        memory.clear(ends[-1] if ends else begin)
        self._manner.nbytes = largest or self._manner.nbytes
        if ahead is None:
            self._pace.note(len(ends) - before, memory.used - used, seconds, waits.count - waited)
        return ends

    @property
    def reads_when_asked(self) -> bool:
        """Whether no class has made it start reads early."""
        return type(self).start_reads is LocalStore.start_reads

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        """Read when asked, as any store; see `gpuzarr.stores.local_ahead`."""
        if not CAN_ADVISE or len(keys) < 2:  # noqa: PLR2004
            return super().start_reads(keys, offsets, nbytes)
        return ReadsAhead(self, keys, offsets, nbytes, self._pace, self._known_path, self._flags)

    def _known_path(self, key: str) -> str | None:
        """The path of a key with nothing unusual about it, in a folder that was looked at."""
        folder, _, name = key.rpartition("/")
        path = self._folders.get(folder)
        if (
            path is None
            or not (folder or len(name) == len(key))
            or name in _REFUSED_NAMES
            or "\\" in name
            or _SHARED_STREAMS
            or self._look_first
        ):
            return None
        return path + name

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The entries of one directory; a prefix which is no directory has none."""
        path = self._enter(prefix, prefix) if prefix else self._top
        if path is None:
            return iter(())
        try:
            with os.scandir(path) as entries:
                found = [(e.name, e.is_dir()) for e in entries if "\\" not in e.name]
        except OSError as error:
            if error.errno not in _ABSENT:
                raise self._failed("list", path, prefix, error) from error
            self._confirm_absent(path, prefix)
            return iter(())
        return iter(found)

    def size(self, key: str) -> int | None:
        """Bytes of a file, from the file system."""
        path = self.path_of(key)
        try:
            return None if path is None else path.stat().st_size
        except OSError as error:
            raise self._failed("read", str(path), key, error) from error

    def path_of(self, key: str) -> Path | None:
        """The file itself, links resolved; None where there is no regular file."""
        folder, _, name = self._check(key).rpartition("/")
        path = self._enter(folder, key)
        if path is None:
            return None
        path += name
        if os.path.islink(path):  # noqa: PTH114 -- speed, and no exception for odd names
            path = self._resolve_link(path, key)
        return Path(path) if os.path.isfile(path) else None  # noqa: PTH113 -- the same

    def _check(self, key: str) -> str:
        try:
            check_key(key)
        except StoreError as error:
            raise error.at(store=self.name) from None
        if _SHARED_STREAMS and ":" in key:
            raise StoreError("a ':' is not allowed in keys on Windows", store=self.name, key=key)
        return key

    def _enter(self, folder: str, key: str) -> str | None:
        """The "path/" of a folder of this store, once it is allowed; None when there is none."""
        if key:
            self._check(key)
        if self.follow_symlinks:
            return self._remember(folder, f"{self._top}{folder}/" if folder else self._top)
        path: str | None = self._top
        done = ""
        for part in folder.split("/") if folder else ():
            parent, done = path, f"{done}/{part}" if done else part
            path = self._folders.get(done)
            if path is None:
                path = self._admit(f"{parent}{part}", key)
                if path is None:
                    return None
                self._remember(done, path)
        return path

    def _remember(self, folder: str, path: str) -> str:
        if len(self._folders) >= _MOST_FOLDERS:
            self._folders = {"": self._top}
        self._folders[folder] = path
        return path

    def _admit(self, path: str, key: str) -> str | None:
        """Look at one folder for the first time: "path/" of where it really is, or None."""
        try:
            status = os.lstat(path)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _ABSENT:
                self._confirm_absent(path, key)
                return None
            raise self._failed("read", path, key, error) from error
        # Windows has links of other kinds, junctions, which only their reparse tag tells.
        if stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", False):
            target = self._resolve_link(path, key)
            if f"{path}/".startswith(f"{target}/"):
                raise StoreError(
                    f"{path} is a link to {target}, which it lies in: it leads round for ever",
                    store=self.name,
                    key=key,
                )
            return target + "/" if os.path.isdir(target) else None  # noqa: PTH112 -- speed
        return path + "/" if stat.S_ISDIR(status.st_mode) else None

    def _resolve_link(self, path: str, key: str) -> str:
        """Where a symbolic link leads, when that exists and lies inside the root."""
        target = os.path.realpath(path)
        inside = os.path.normcase(target + "/").startswith(os.path.normcase(self._top))
        if not (inside or self.follow_symlinks):
            raise StoreError(
                f"{path} is a link to {target}, outside of the store; if you trust this store, "
                "open it with follow_symlinks=True",
                store=self.name,
                key=key,
            )
        try:
            os.stat(target)  # noqa: PTH116 -- speed, and it shares its error with the others
        except OSError as error:
            if error.errno not in _ABSENT:
                raise self._failed("read", path, key, error) from error
            raise self._dangling(path, target, key) from error
        return target

    def _open_otherwise(self, path: str, key: str, error: OSError | ValueError) -> int | None:
        """After a plain open failed: follow a link that stays inside, or say what is the matter."""
        code = error.errno if isinstance(error, OSError) else None
        if code in _ABSENT:
            self._confirm_absent(path, key)
            return None
        if os.path.islink(path) and not self.follow_symlinks:  # noqa: PTH114 -- no exceptions
            target = self._resolve_link(path, key)
            try:
                return os.open(target, self._flags)
            except OSError as second:
                raise self._failed("read", target, key, second) from second
        if code == errno.EISDIR or os.path.isdir(path):  # noqa: PTH112 -- no exceptions
            return None  # Windows opens no directory, others none that they may not list
        if code == errno.ENXIO:
            raise self._special(path, key) from error  # a socket
        raise self._failed("read", path, key, error) from error

    def _confirm_absent(self, path: str, key: str) -> None:
        """Return when an object is truly not there, not merely out of reach."""
        try:
            os.stat(self._top)  # noqa: PTH116 -- speed: every missing chunk comes here
        except OSError as error:
            raise StoreError(
                f"the store's directory cannot be reached ({advise(error)}); was it moved, or is "
                "a disk not mounted?",
                store=self.name,
                key=key,
            ) from error
        while self.follow_symlinks and len(path) > len(self._top):
            if os.path.lexists(path):
                if not os.path.exists(path):  # noqa: PTH110 -- speed
                    raise self._dangling(path, os.path.realpath(path), key)
                return
            path = os.path.dirname(path)  # noqa: PTH120 -- speed

    def _special(self, path: str, key: str) -> StoreError:
        return StoreError(
            f"{path} is not a regular file; pipes, sockets and devices are not read",
            store=self.name,
            key=key,
        )

    def _failed(self, verb: str, path: str, key: str, error: OSError | ValueError) -> StoreError:
        return StoreError(f"cannot {verb} {path}: {advise(error)}", store=self.name, key=key)

    def _dangling(self, path: str, target: str, key: str) -> StoreError:
        return StoreError(
            f"{path} is a link to {target}, which does not exist; was the file's content fetched "
            "(git-annex, DataLad)?",
            store=self.name,
            key=key,
        )


def _remake(root: str, follow_symlinks: bool) -> LocalStore:  # noqa: FBT001 -- only for pickle
    return LocalStore(root, follow_symlinks=follow_symlinks)
