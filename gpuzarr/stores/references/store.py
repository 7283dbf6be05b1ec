"""References: keys whose bytes are ranges of other files, HDF5, NetCDF, TIFF, GRIB among them.

kerchunk and VirtualiZarr scan such files once, and write down as Zarr what is where; arrays are
then read by gpuzarr without the libraries of those formats:

    from gpuzarr.stores.references.store import ReferenceStore

    group = gpuzarr.open_group(ReferenceStore("weather.json"))         # kerchunk's JSON
    group = gpuzarr.open_group(ReferenceStore("weather.parquet"))      # ... and its Parquet folders

    key -> bytes in the references themselves            references_document.py, .._parquet.py
        -> a range of a local file, which is kept open   references_files.py
        -> a range of an object in another store         references_targets.py

A reference that points to nothing is damage, and an error; a key without a reference is a chunk
that is not stored. What a file holds now cannot be compared with what it held when it was scanned:
files that are rewritten in place must be scanned again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gpuzarr.errors import GpuzarrError, NotFoundError, StoreError, UnsupportedError
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.references.document import DOCUMENT_NBYTES, Pointer, parse_document
from gpuzarr.stores.references.files import FileRow, OpenFiles
from gpuzarr.stores.references.parquet import ParquetReferences
from gpuzarr.stores.references.started import Place, StartedReads
from gpuzarr.stores.references.targets import (
    SCHEME,
    FileTarget,
    Targets,
    is_local_url,
    missing,
    open_url,
    path_of,
    pointed,
    read_options,
)
from gpuzarr.stores.store import WHOLE, Blob, Store, at_most, check_key, cut, find_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gpuzarr.stores.references.document import References
    from gpuzarr.stores.store import Buffer, Memory, Pending, Wanted

_INLINE = "inline"
"""The validator of bytes in the references, which never change."""


class ReferenceStore(Store):
    """The objects that a set of references describes, read-only."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        storage_options: Mapping[str, Any] | None = None,
        allowed_targets: Sequence[str | os.PathLike[str]] | None = None,
    ) -> None:
        """Read a JSON document, or the metadata of a Parquet folder; no target is opened yet.

        Args:
            path: a document, a folder, or the URL of one (a document's ends in ".json"). Relative
                paths in references start from the folder that it is in.
            storage_options: `target_options` (or fsspec's name for them, `remote_options`) are the
                `storage_options` of the targets, for all or by scheme, {"s3": {...}, ...};
                `remote_protocol` is the scheme of URLs without one; `target_protocol` is not
                needed; `allowed_targets` as below. All others open the reference file's own URL.
            allowed_targets: folders and URLs of folders; nothing outside of them is read. By
                default every target is, but for references from the network, which read no local
                files: give it for references that you do not trust.

        Raises:
            NotFoundError: there is no such file or folder.
            MetadataError: it holds no references, or breaks their specification.
            UnsupportedError: another version of the specification, options that contradict each
                other, Parquet without pyarrow.
            StoreError: it cannot be read.
        """
        options, own = read_options(storage_options, allowed_targets)
        url = os.fspath(path)
        if is_local_url(url):
            url = path_of(url)
        references, base = _open(url, own)
        arguments = (url, storage_options, options.allowed)
        self._set_up(references, Targets(base, options), url, arguments)

    @classmethod
    def from_document(
        cls,
        document: bytes | bytearray | memoryview | Mapping[str, Any],
        *,
        base: str | os.PathLike[str] = "",
        name: str = "<references in memory>",
        storage_options: Mapping[str, Any] | None = None,
        allowed_targets: Sequence[str | os.PathLike[str]] | None = None,
    ) -> Self:
        """References in memory.

        Args:
            document: JSON text, or the objects of it, such as kerchunk's `translate()` gives. It is
                used as it is, and must not change.
            base: the folder, or the URL of one, that relative paths start from; by default the
                working directory of now.
            name: what errors and reprs call the store.
            storage_options: as above.
            allowed_targets: as above.

        Raises:
            MetadataError: it breaks the specification.
            UnsupportedError: another version of it, or options that contradict each other.
        """
        options, own = read_options(storage_options, allowed_targets)
        if own:
            raise UnsupportedError(f"references in memory have no use for {', '.join(own)}")
        store = cls.__new__(cls)
        folder = os.fspath(base)
        if SCHEME.match(folder) is None:
            folder = os.path.abspath(folder)  # noqa: PTH100 -- also tidies "a/../b"
        arguments = (document, folder, name, storage_options, options.allowed)
        targets = Targets(folder.rstrip("/"), options)
        cls._set_up(store, parse_document(document), targets, name, arguments)
        return store

    def _set_up(
        self, references: References, targets: Targets, name: str, arguments: tuple[Any, ...]
    ) -> None:
        self.name = name
        self._references = references
        self._targets = targets
        self._arguments = arguments
        self._local: bool | None = None

    def __repr__(self) -> str:
        return f"ReferenceStore({self.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_remake, (type(self), self._arguments))

    @property
    def reads_when_asked(self) -> bool:
        """Whether all targets are local files, so far as that is seen without looking at each."""
        if self._local is None:
            self._local = all(map(self._targets.is_local, self._references.some_urls()))
        return self._local

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        """Read one byte range of what a reference points to; see `Store.read`.

        The validator is that of the target, the file or object that is pointed into.
        """
        check_key(key)
        try:
            found = self._references.find(key)
            if found is None:
                return None
            if isinstance(found, bytes):
                return Blob(cut(found, key, offset, nbytes), _INLINE, len(found))
            return self._read_target(found, key, offset, nbytes, allocate)
        except GpuzarrError as error:
            error.at(store=self.name, key=key)
            raise

    def read_row(
        self, wanted: Iterable[Wanted], memory: Memory, stopped: Callable[[], bool]
    ) -> list[int]:
        """Read ranges of local files; see `gpuzarr.stores.store.ReadRow`.

        What lies side by side in a file is read by one call.
        """
        begin, row = memory.used, FileRow(memory)
        # What fails is left to `read`, which tells what it is.
        with suppress(OSError, ValueError, MemoryError):
            for one in wanted:
                if not self._add(row, one) or stopped():
                    break
            row.flush()
        memory.clear(row.ends[-1] if row.ends else begin)
        return row.ends

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """The direct children of `prefix` among the keys that have references."""
        if prefix:
            check_key(prefix)
        return self._references.children(prefix)

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        """Start the reads of targets in other stores, neighbours in an object joined."""
        if self.reads_when_asked:
            return super().start_reads(keys, offsets, nbytes)
        return StartedReads(self, self._locate, keys, offsets, nbytes)

    def size(self, key: str) -> int | None:
        """Bytes of an object: what its reference says, or as many as its target has."""
        found = self._references.find(check_key(key))
        if found is None:
            return None
        if isinstance(found, bytes):
            return len(found)
        if found.nbytes != WHOLE:
            return found.nbytes
        target = self._targets.find(found.url)
        if isinstance(target, FileTarget):
            return self._targets.files.get(target.path).status()[1]
        size = target.store.size(target.key)
        if size is None:
            raise pointed(missing(target.key, target.store.name), key, self.name)
        return size

    def path_of(self, key: str) -> Path | None:
        """The local file that a reference names as a whole."""
        found = self._references.find(check_key(key))
        if not isinstance(found, Pointer) or found.nbytes != WHOLE:
            return None
        target = self._targets.find(found.url)
        return Path(target.path) if isinstance(target, FileTarget) else None

    def _add(self, row: FileRow, wanted: Wanted) -> bool:
        """Put one range into a row; says whether it is one of a local file, or inline."""
        key, offset, nbytes, expected = wanted
        try:
            found = self._references.find(check_key(key))
            if isinstance(found, bytes):
                row.add_bytes(cut(found, key, offset, nbytes))
                return True
            target = None if found is None else self._targets.find(found.url)
            if found is None or not isinstance(target, FileTarget):
                return False
            file = self._targets.files.get(target.path)
            size = file.status()[1] if found.nbytes == WHOLE else found.nbytes
            start, stop = find_range(size, key, offset, nbytes)
        except GpuzarrError:
            return False
        return row.add_range(file, found.offset + start, stop - start, expected)

    def _read_target(
        self,
        found: Pointer,
        key: str,
        offset: int,
        nbytes: int,
        allocate: Callable[[int], Buffer],
    ) -> Blob:
        if found.nbytes != WHOLE:
            start, stop = find_range(found.nbytes, key, offset, nbytes)
            offset, nbytes = found.offset + start, stop - start
        try:
            target = self._targets.find(found.url)
            if isinstance(target, FileTarget):
                blob = self._targets.files.get(target.path).read(offset, nbytes, allocate)
            else:
                there = target.store.read(target.key, offset, nbytes, allocate)
                if there is None:
                    raise missing(target.key, target.store.name)
                blob = there
        except StoreError as error:
            raise pointed(error, key, self.name) from error
        return blob if found.nbytes == WHOLE else blob._replace(size=found.nbytes)

    def _locate(self, key: str, offset: int, nbytes: int) -> Place | None:
        """The range of an object in another store; None: there is no such, or `read` tells why."""
        try:
            found = self._references.find(check_key(key))
            if not isinstance(found, Pointer):
                return None
            target = self._targets.find(found.url)
            if isinstance(target, FileTarget):
                return None
            if found.nbytes == WHOLE:
                return Place(target, offset, nbytes, None)
            start, stop = find_range(found.nbytes, key, offset, nbytes)
        except GpuzarrError:
            return None
        return Place(target, found.offset + start, stop - start, found.nbytes)


def is_reference_file(path: str) -> bool:
    """Whether a path or URL is that of references by its name, and not of a Zarr store.

    >>> is_reference_file("s3://bucket/weather.json"), is_reference_file("data/zarr.json")
    (True, False)
    """
    name = path.rstrip("/").rpartition("/")[2].lower()
    if name == "zarr.json" or not name.endswith((".json", ".parquet", ".parq")):
        return False
    is_folder = is_local_url(path) and os.path.isdir(path_of(path))  # noqa: PTH112 -- no exceptions
    return not is_local_url(path) or is_folder != name.endswith(".json")


def _open(url: str, options: Mapping[str, Any]) -> tuple[References, str]:
    """The references of a document or folder, and where their relative paths start from."""
    if SCHEME.match(url):
        folder, _, name = url.rstrip("/").rpartition("/")
        store = open_url(folder, options)
        if not name.lower().endswith(".json"):
            return ParquetReferences(store, name), folder
        blob = store.read(name, allocate=at_most(DOCUMENT_NBYTES, name))
        if blob is None:
            raise NotFoundError("there is no such reference file", store=url)
        return _parse(blob, url), folder
    if options:
        raise UnsupportedError(f"a local reference file has no use for {', '.join(options)}")
    if os.path.isdir(url):  # noqa: PTH112 -- no exceptions
        return ParquetReferences(LocalStore(url)), os.path.dirname(url)  # noqa: PTH120 -- a string
    if not os.path.lexists(url):
        raise NotFoundError("there is no such reference file", store=url)
    blob = OpenFiles().get(url).read(0, WHOLE, at_most(DOCUMENT_NBYTES))
    return _parse(blob, url), os.path.dirname(url)  # noqa: PTH120 -- a string


def _parse(blob: Blob, name: str) -> References:
    try:
        return parse_document(blob.data)
    except GpuzarrError as error:
        error.at(store=name)
        raise


def _remake(kind: type[ReferenceStore], arguments: tuple[Any, ...]) -> ReferenceStore:
    """Make a pickled store again."""
    if len(arguments) == 3:  # noqa: PLR2004  those of a path
        path, options, allowed = arguments
        return kind(path, storage_options=options, allowed_targets=allowed)
    document, base, name, options, allowed = arguments
    return kind.from_document(
        document, base=base, name=name, storage_options=options, allowed_targets=allowed
    )
