"""From whatever a user calls a store to a `Store`.

Paths and URLs of files and object storage are opened here; mappings, and stores of obstore, fsspec
and zarr-python are wrapped. Other URLs go to the packages that announce themselves for their
scheme, as entry points of the group "gpuzarr.stores":

    [project.entry-points."gpuzarr.stores"]
    ftp = "my_package:open_ftp"     # open_ftp(url, storage_options) -> Store
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from gpuzarr.errors import GpuzarrError, NotFoundError, StoreError, UnsupportedError
from gpuzarr.plugins import find_plugin
from gpuzarr.stores.files import advise
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.store import WHOLE, Store, check_key
from gpuzarr.stores.zip.store import ZipStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuzarr.stores.store import Blob, Buffer

ENTRY_POINTS = "gpuzarr.stores"
"""The group of entry points; a name in it is a URL scheme."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # two letters at least: "C:" is a drive
_REMOTE = frozenset({"http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "memory"})
_MAY_BE_REFERENCES = re.compile(r"(?i)\.(json|parquet|parq)/*\Z").search
_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
_METADATA_NAMES = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"})
_MOST_NEIGHBOURS = 10_000


def open_store(
    store: object,
    *,
    follow_symlinks: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[Store, str]:
    """The store that a user means, and the node's path inside it ("" is the root).

    Args:
        store: the path of a directory, a zip file or a reference file (kerchunk), a URL, a mapping
            of keys to bytes, a store of obstore's, a file system or mapper of fsspec's, a store,
            array or group of zarr-python, or any object with a method `read` as in `Store`.
        follow_symlinks: for directories, see `LocalStore`.
        storage_options: for URLs, passed to what opens them; see `gpuzarr.stores.remote.options`.

    Raises:
        NotFoundError: there is no such file or directory.
        UnsupportedError: a store of a kind that cannot be opened, here or without another package.
        StoreError: it is there but cannot be read.
    """
    if isinstance(store, bytes):
        store = os.fsdecode(store)
    if (references := _open_references(store, storage_options)) is not None:
        return references, ""
    if isinstance(store, str) and (scheme := _SCHEME.match(store)):
        if scheme[1].lower() != "file":
            return _open_url(store, scheme[1].lower(), storage_options), ""
        store = _path_of_url(store)
    if storage_options:
        raise UnsupportedError(
            "storage_options are for stores that are given by a URL; this one is not, so give them"
            " to what makes it"
        )
    if isinstance(store, (str, os.PathLike)):
        return _open_path(os.fsdecode(store), follow_symlinks=follow_symlinks), ""
    foreign = _open_foreign(store, follow_symlinks=follow_symlinks)
    if foreign is not None:
        return foreign
    if isinstance(store, Mapping):
        return MappingStore(store), ""
    if callable(getattr(store, "read", None)) and not hasattr(store, "seek"):
        return _complete(store), ""
    raise UnsupportedError(
        f"an object of type {type(store).__name__} is not a store: give a path, a URL, a mapping "
        "of keys to bytes, or an object with a method `read` as in gpuzarr.stores.store.Store"
    )


def _open_references(store: object, storage_options: Mapping[str, Any] | None) -> Store | None:
    """References to other files; None for what is not the name of any."""
    if not isinstance(store, (str, os.PathLike)) or not _MAY_BE_REFERENCES(os.fsdecode(store)):
        return None
    from gpuzarr.stores.references.store import (  # noqa: PLC0415  seldom needed
        ReferenceStore,
        is_reference_file,
    )

    path = os.fsdecode(store)
    if not is_reference_file(path):
        return None
    return ReferenceStore(path, storage_options=storage_options)


def _open_path(path: str, *, follow_symlinks: bool) -> Store:
    if not path:
        raise NotFoundError('the store\'s path is empty; "." is the working directory')
    place = os.path.abspath(path)  # noqa: PTH100 -- also tidies "a/../b"
    try:
        mode = os.stat(place).st_mode  # noqa: PTH116 -- Path.stat is the same, slower
        is_zip = stat.S_ISREG(mode) and (place.lower().endswith(".zip") or _begins_as_zip(place))
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.islink(place):  # noqa: PTH114 -- no exceptions
            target = os.path.realpath(place)
            raise NotFoundError(f"{place} is a link to {target}, which does not exist") from error
        home = '; "~" is not expanded' if path.startswith("~") else ""
        raise NotFoundError(f"there is no {place}{_suggest(place)}{home}") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot open {place}: {advise(error)}") from error
    if stat.S_ISDIR(mode):
        return LocalStore(place, follow_symlinks=follow_symlinks)
    if is_zip:
        return ZipStore(place)
    if not stat.S_ISREG(mode):
        raise StoreError(f"{place} is neither a directory nor a regular file")
    raise UnsupportedError(f"{place} is a file, and not a zip archive{_hint(place)}")


def _begins_as_zip(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(4) in _ZIP_SIGNATURES


def _hint(path: str) -> str:
    """What to do with a file that is not a store."""
    folder, name = os.path.split(path)
    if name in _METADATA_NAMES:
        return f": open the directory that it is in, {folder}"
    if name.lower().endswith((".parquet", ".parq")):
        return ": references in Parquet (kerchunk) are folders"
    return ": a store is a directory or a .zip file"


def _suggest(path: str) -> str:
    """The names beside a missing path that look like it."""
    import difflib  # noqa: PLC0415 -- only on the way to an error

    folder, name = os.path.split(path)
    while not os.path.lexists(folder) and folder != os.path.dirname(folder):  # noqa: PTH120
        folder, name = os.path.split(folder)
    missing = os.path.join(folder, name)  # noqa: PTH118
    text = "" if missing == path else f": {missing} is missing already"
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_MOST_NEIGHBOURS), strict=False)]
    except OSError:
        return text
    close = difflib.get_close_matches(name, names, n=3)
    return f"{text}; did you mean {' or '.join(map(repr, close))}?" if close else text


def _path_of_url(url: str) -> str:
    """The path in a `file://` URL, on this machine."""
    host, slash, path = url[len("file://") :].partition("/")
    if not slash or host not in {"", "localhost"}:
        raise UnsupportedError(
            "a file URL must name a path on this machine, such as file:///data/array.zarr",
            store=url,
        )
    path = unquote("/" + path, errors="surrogateescape")
    return path[1:] if re.match(r"/[A-Za-z]:/", path) and os.name == "nt" else path


def _open_url(url: str, scheme: str, storage_options: Mapping[str, Any] | None) -> Store:
    plugin = find_plugin(ENTRY_POINTS, scheme)
    if plugin is not None:
        if not callable(plugin.value):
            raise UnsupportedError(f"{plugin.origin} is not callable", store=url)
        try:
            store = plugin.value(url, storage_options)
        except GpuzarrError:
            raise
        except Exception as error:
            raise StoreError(
                f"{plugin.origin} failed to open this URL: {type(error).__name__}: {error}",
                store=url,
            ) from error
        if not callable(getattr(store, "read", None)):
            raise UnsupportedError(
                f"{plugin.origin} gave an object of type {type(store).__name__}, which is no store:"
                " it has no method `read`",
                store=url,
            )
        return _complete(store)
    if scheme in _REMOTE:
        from gpuzarr.stores.remote.objects import ObjectStore  # noqa: PLC0415  as asyncio, only for URLs

        folder, _, name = url.rstrip("/").rpartition("/")
        if name.lower().endswith(".zip") and "://" in folder and "?" not in url:
            name = unquote(name) if scheme in {"http", "https"} else name
            return ZipStore.of_object(ObjectStore.from_url(folder, storage_options), name)
        return ObjectStore.from_url(url, storage_options)
    raise UnsupportedError(
        f"no installed package opens {scheme}:// URLs (entry points {ENTRY_POINTS!r}); known"
        f" without one: file, {', '.join(sorted(_REMOTE))}. A file system of fsspec's opens others:"
        " fsspec.filesystem(...).get_mapper(path)",
        store=url,
    )


def _open_foreign(store: object, *, follow_symlinks: bool) -> tuple[Store, str] | None:
    """A store of another package, which is imported already where there is one; None: it is not."""
    attributes = cast("Any", store)
    package = type(store).__module__.partition(".")[0]
    if package == "obstore":
        from gpuzarr.stores.remote.objects import ObjectStore  # noqa: PLC0415

        return ObjectStore(store), ""
    if package == "zarr" or _is_a(store, "zarr.abc.store", "Store"):
        return _open_zarr_store(store, follow_symlinks=follow_symlinks)
    if _is_a(store, "fsspec", "AbstractFileSystem") or _is_a(store, "fsspec", "FSMap"):
        from gpuzarr.stores.remote.filesystems import open_filesystem  # noqa: PLC0415

        if _is_a(store, "fsspec", "FSMap"):
            return open_filesystem(attributes.fs, attributes.root), ""
        return open_filesystem(store), ""
    return None


def _is_a(store: object, module: str, name: str) -> bool:
    """Whether it is of a class of a module, which is not imported to find out."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(store, kind)


def _open_zarr_store(store: object, *, follow_symlinks: bool) -> tuple[Store, str]:
    """What lies behind one of zarr-python 3's stores, by its public attributes."""
    kind, attributes = type(store).__name__, cast("Any", store)
    if type(store).__module__.partition(".")[0] != "zarr":
        kind = ""  # of another package, such as icechunk's
    if kind in {"Array", "Group"}:
        return open_store(attributes.store_path, follow_symlinks=follow_symlinks)
    if kind == "StorePath":
        opened, inside = open_store(attributes.store, follow_symlinks=follow_symlinks)
        path = "/".join(filter(None, (inside, str(attributes.path).strip("/"))))
        return opened, check_key(path) if path else ""
    if kind == "LocalStore":
        return _open_path(os.fspath(attributes.root), follow_symlinks=follow_symlinks), ""
    if kind == "ZipStore":
        return _open_path(os.fspath(attributes.path), follow_symlinks=follow_symlinks), ""
    if kind == "ObjectStore":
        return open_store(attributes.store)
    if kind == "FsspecStore":
        from gpuzarr.stores.remote.filesystems import open_filesystem  # noqa: PLC0415

        return open_filesystem(attributes.fs, attributes.path), ""
    if not _is_a(store, "zarr.abc.store", "Store"):
        raise UnsupportedError(f"zarr-python's {kind} is not a store: give a store, array or group")
    from gpuzarr.stores.remote.zarr_stores import open_zarr_store  # noqa: PLC0415

    return open_zarr_store(store), ""


def _complete(store: object) -> Store:
    """An object that can read as a full `Store`: itself, where nothing is missing."""
    members = ("list", "start_reads", "size", "path_of")
    if isinstance(getattr(store, "name", None), str) and all(
        callable(getattr(store, member, None)) for member in members
    ):
        return cast("Store", store)
    return _Completed(cast("Store", store))


class _Completed(Store):
    """An object with `read` but not all of `Store`: the defaults stand in for the rest."""

    def __init__(self, store: Store) -> None:
        self._store = store
        name = getattr(store, "name", None)
        self.name = name if isinstance(name, str) else repr(store)

    def __repr__(self) -> str:
        return repr(self._store)

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        return self._store.read(key, offset, nbytes, allocate)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        if not callable(getattr(self._store, "list", None)):
            raise UnsupportedError("this store cannot list its keys", store=self.name)
        return self._store.list(prefix)
